/*
 * What a call-out asks, and how libcurl is told of it. All that comes from
 * outside is bounded and looked at here, before it is copied.
 */
#include "base/mem.h"
#include "peer/callout_internal.h"
#include "wire/headers.h"
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/un.h>

#define METHOD_MAX 32
#define CA_KEPT_S 300L /* authorities are read this often, not for each connection */

static bool is_printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

int callout_set_text(struct callout *c, enum callout_text what, struct str text)
{
    size_t max = what == CALLOUT_URL           ? CALLOUT_URL_MAX
                 : what == CALLOUT_METHOD      ? METHOD_MAX
                 : what == CALLOUT_UNIX_SOCKET ? sizeof((struct sockaddr_un *)0)->sun_path - 1
                                               : CALLOUT_TEXT_MAX;

    if (text.n > max)
        return ERR_BOUND;
    if (!is_printable(text) || (text.n == 0 && what != CALLOUT_PROXY))
        return ERR_SYNTAX;
    if (what == CALLOUT_METHOD && (!header_name_valid(text) || str_eq(text, STR("CONNECT"))))
        return ERR_SYNTAX;
    wiped_free(c->texts[what]);
    c->texts[what] = wiped_copy(text);
    return 0;
}

int callout_set_number(struct callout *c, enum callout_number what, int64_t value)
{
    static const struct {
        int64_t min, max;
    } ranges[CALLOUT_NUMBERS] = { [CALLOUT_TIMEOUT_MS] = { 1, CALLOUT_TIMEOUT_MAX_MS },
                                  [CALLOUT_CONNECT_TIMEOUT_MS] = { 1, CALLOUT_TIMEOUT_MAX_MS },
                                  [CALLOUT_MAX_BYTES] = { 0, CALLOUT_BODY_BYTES_MAX },
                                  [CALLOUT_SSL_VERIFY] = { 0, 1 } };

    if (value < ranges[what].min || value > ranges[what].max)
        return ERR_BOUND;
    c->numbers[what] = value;
    return 0;
}

static void append(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    must(longer);
    *list = longer;
}

/* A field without value is "Name;" in libcurl's lists: "Name:" would take one away. */
static void append_field(struct callout *c, struct str name, struct str value)
{
    size_t n = name.n + 2 + value.n;
    char *line = wiped_malloc(n + 1);

    if (value.n)
        snprintf(line, n + 1, "%.*s: %.*s", STR_ARG(name), STR_ARG(value));
    else
        snprintf(line, n + 1, "%.*s;", STR_ARG(name));
    append(&c->headers, line);
    wiped_free(line);
}

int callout_add_header(struct callout *c, struct str name, struct str value)
{
    value = str_trim(value);
    if (!header_name_valid(name) || !is_printable(value))
        return ERR_SYNTAX;
    if (str_eq_nocase(name, STR("Content-Length")) || str_eq_nocase(name, STR("Transfer-Encoding")))
        return ERR_SYNTAX;
    if (c->header_count == CALLOUT_HEADERS_MAX ||
        c->header_bytes + name.n + value.n + 4 > CALLOUT_HEAD_BYTES_MAX)
        return ERR_BOUND;
    c->header_count++;
    c->header_bytes += name.n + value.n + 4;
    c->has_host |= str_eq_nocase(name, STR("Host"));
    c->has_type |= str_eq_nocase(name, STR("Content-Type"));
    c->has_expect |= str_eq_nocase(name, STR("Expect"));
    append_field(c, name, value);
    return 0;
}

int callout_set_body(struct callout *c, struct str body)
{
    if (body.n > CALLOUT_BODY_BYTES_MAX)
        return ERR_BOUND;
    wiped_buf_free(&c->request_body);
    wiped_buf_add(&c->request_body, body.p, body.n);
    c->has_body = true;
    return 0;
}

/* ---- what libcurl is told */

/* OpenSSL wipes what it has decrypted, too. */
static CURLcode on_ssl_ctx(CURL *easy, void *ctx, void *arg)
{
    (void)easy;
    (void)arg;
#ifdef SSL_OP_CLEANSE_PLAINTEXT
    SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
#else
    (void)ctx;
#endif
    return CURLE_OK;
}

static void set_manners(struct callout *c)
{
    CURL *easy = c->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, c);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->detail);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "weir/" PACKAGE_VERSION);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->numbers[CALLOUT_CONNECT_TIMEOUT_MS]);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)c->numbers[CALLOUT_MAX_BYTES]);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, callout_take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, callout_take_line);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700 /* else what is cancelled waits for a name's thread */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
}

static const char *method_of(const struct callout *c)
{
    return c->texts[CALLOUT_METHOD] ? c->texts[CALLOUT_METHOD] : "GET";
}

/* The method as it is named; a body, be it empty, where one is given or expected. */
static void set_method(struct callout *c)
{
    const char *method = method_of(c);
    bool expects_body =
        strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;

    if (c->has_body || expects_body) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->request_body.n);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, c->request_body.n ? c->request_body.p : "");
        if (!c->has_type)
            append(&c->headers, "Content-Type:"); /* else libcurl says that it is a form */
        if (!c->has_expect)
            append(&c->headers, "Expect:");
    } else if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(c->easy, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
}

/* A file of authorities stands in the place of the system's, never beside them. */
static void set_tls(struct callout *c)
{
    bool verify = c->numbers[CALLOUT_SSL_VERIFY];
    char *ca_file = c->texts[CALLOUT_CA_FILE];

#if LIBCURL_VERSION_NUM >= 0x075400
    if (!ca_file)
        curl_easy_getinfo(c->easy, CURLINFO_CAINFO, &ca_file);
#endif
    if (ca_file) {
        curl_easy_setopt(c->easy, CURLOPT_CAINFO, ca_file);
        curl_easy_setopt(c->easy, CURLOPT_CAPATH, NULL);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(c->easy, CURLOPT_CA_CACHE_TIMEOUT, CA_KEPT_S);
#endif
    curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
    curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
    curl_easy_setopt(c->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c->easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
    if (!c->texts[CALLOUT_CERT_FILE])
        return;
    curl_easy_setopt(c->easy, CURLOPT_SSLCERT, c->texts[CALLOUT_CERT_FILE]);
    curl_easy_setopt(c->easy, CURLOPT_SSLKEY, c->texts[CALLOUT_KEY_FILE]);
    curl_easy_setopt(c->easy, CURLOPT_KEYPASSWD, ""); /* else OpenSSL asks on the terminal */
    /* a session that is taken up again is the old certificate's */
    curl_easy_setopt(c->easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
}

static void set_way(struct callout *c)
{
    const char *proxy = c->texts[CALLOUT_PROXY];

    if (c->texts[CALLOUT_UNIX_SOCKET])
        curl_easy_setopt(c->easy, CURLOPT_UNIX_SOCKET_PATH, c->texts[CALLOUT_UNIX_SOCKET]);
    if (!proxy || *proxy) {
        curl_easy_setopt(c->easy, CURLOPT_PROXY, proxy ? proxy : "");
        curl_easy_setopt(c->easy, CURLOPT_NOPROXY, "");
    }
    curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, c->connect_to);
    curl_easy_setopt(c->easy, CURLOPT_CURLU, c->url);
}

/*
 * With a server name the URL has that host, which TLS then asks for and verifies; where the
 * connection leads and what Host says stays.
 */
static int rename_server(struct callout *c, const char *host, const char *port, bool is_usual_port)
{
    char line[sizeof c->where + 16];

    if (curl_url_set(c->url, CURLUPART_HOST, c->texts[CALLOUT_SERVER_NAME], 0) != CURLUE_OK)
        return err_set(&c->e, ERR_SYNTAX, "invalid server name");
    snprintf(line, sizeof line, "::%s:%s", host, port);
    append(&c->connect_to, line);
    snprintf(line, sizeof line, "Host: %s%s%s", host, is_usual_port ? "" : ":",
             is_usual_port ? "" : port);
    if (!c->has_host)
        append(&c->headers, line);
    return 0;
}

static int check_place(struct callout *c, bool is_https, const char *host, const char *port)
{
    int n;

    if (c->texts[CALLOUT_UNIX_SOCKET])
        n = snprintf(c->where, sizeof c->where, "unix:%s", c->texts[CALLOUT_UNIX_SOCKET]);
    else
        n = snprintf(c->where, sizeof c->where, "%s:%s", host, port);
    if (n >= (int)sizeof c->where)
        return err_set(&c->e, ERR_BOUND, "the URL's host is too long");
    if (is_https && c->texts[CALLOUT_SERVER_NAME])
        return rename_server(c, host, port, strcmp(port, "443") == 0);
    return 0;
}

static bool url_has(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK && *text;

    curl_free(text);
    return has;
}

/* 1: https; 0: http; below: something else. */
static int scheme_of(CURLU *url)
{
    char *scheme = NULL;
    int rc = -1;

    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK)
        rc = strcmp(scheme, "https") == 0 ? 1 : strcmp(scheme, "http") == 0 ? 0 : -1;
    curl_free(scheme);
    return rc;
}

static int parse_url(struct callout *c)
{
    const char *text = c->texts[CALLOUT_URL] ? c->texts[CALLOUT_URL] : "";
    char *host = NULL, *port = NULL;
    CURLUcode code;
    int rc, https;

    c->url = curl_url();
    must(c->url);
    code = curl_url_set(c->url, CURLUPART_URL, text, CURLU_PATH_AS_IS);
    https = scheme_of(c->url);
    if (code == CURLUE_UNSUPPORTED_SCHEME || (code == CURLUE_OK && https < 0))
        rc = err_set(&c->e, ERR_SYNTAX, "the URL is neither http nor https");
    else if (code == CURLUE_OK &&
             (url_has(c->url, CURLUPART_USER) || url_has(c->url, CURLUPART_PASSWORD)))
        rc = err_set(&c->e, ERR_SYNTAX, "the URL has a user in it");
    else if (code != CURLUE_OK || !url_has(c->url, CURLUPART_HOST) ||
             curl_url_get(c->url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
             curl_url_get(c->url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
        rc = err_set(&c->e, ERR_SYNTAX, "the URL is invalid");
    else
        rc = check_place(c, https == 1, host, port);
    curl_free(host);
    curl_free(port);
    return rc;
}

int callout_prepare(struct callout *c)
{
    if (c->has_body && strcmp(method_of(c), "HEAD") == 0)
        return err_set(&c->e, ERR_SYNTAX, "a HEAD request has no body");
    if (parse_url(c) < 0)
        return c->e.code;
    c->easy = curl_easy_init();
    must(c->easy);
    set_manners(c);
    set_method(c);
    set_tls(c);
    set_way(c);
    return 0;
}
