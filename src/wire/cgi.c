/*
 * See cgi.h; this half turns variables into a request, cgi_head.c writes heads. Nothing
 * is copied but what has to be written anew: header names, joined values, a target
 * out of its parts. Refuses what could not be sent on in a request of ours.
 */
#include "wire/cgi.h"
#include "wire/hop.h"
#include "wire/uri.h"
#include "wire/word.h"

/* Length and then bytes of a variable's name; the length is known where it is used. */
#define IS(literal) (memcmp(name.p, (literal), sizeof(literal) - 1) == 0)

/* A header's name out of a variable's: the first letter of a word, and the others. 0: no token. */
static const char word_start[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '-', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'A', ['B'] = 'B',   ['C'] = 'C',
    ['D'] = 'D', ['E'] = 'E', ['F'] = 'F', ['G'] = 'G', ['H'] = 'H', ['I'] = 'I',   ['J'] = 'J',
    ['K'] = 'K', ['L'] = 'L', ['M'] = 'M', ['N'] = 'N', ['O'] = 'O', ['P'] = 'P',   ['Q'] = 'Q',
    ['R'] = 'R', ['S'] = 'S', ['T'] = 'T', ['U'] = 'U', ['V'] = 'V', ['W'] = 'W',   ['X'] = 'X',
    ['Y'] = 'Y', ['Z'] = 'Z', ['a'] = 'A', ['b'] = 'B', ['c'] = 'C', ['d'] = 'D',   ['e'] = 'E',
    ['f'] = 'F', ['g'] = 'G', ['h'] = 'H', ['i'] = 'I', ['j'] = 'J', ['k'] = 'K',   ['l'] = 'L',
    ['m'] = 'M', ['n'] = 'N', ['o'] = 'O', ['p'] = 'P', ['q'] = 'Q', ['r'] = 'R',   ['s'] = 'S',
    ['t'] = 'T', ['u'] = 'U', ['v'] = 'V', ['w'] = 'W', ['x'] = 'X', ['y'] = 'Y',   ['z'] = 'Z',
};

/* What a Host may consist of: RFC 3986's reg-name, an address in brackets, a port. */
static const bool host_char[256] = {
    ['!'] = 1, ['$'] = 1,         ['%'] = 1,         ['&'] = 1,         ['\''] = 1, ['('] = 1,
    [')'] = 1, ['*'] = 1,         ['+'] = 1,         [','] = 1,         ['-'] = 1,  ['.'] = 1,
    [':'] = 1, [';'] = 1,         ['='] = 1,         ['['] = 1,         [']'] = 1,  ['_'] = 1,
    ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

unsigned cgi_error_status(int code)
{
    return code == ERR_BOUND ? 431 : 400;
}

int cgi_deny_style_from(struct str name, enum cgi_deny_style *style)
{
    if (str_eq(name, STR("status")))
        *style = CGI_DENY_STATUS;
    else if (str_eq(name, STR("nginx")))
        *style = CGI_DENY_NGINX;
    else if (str_eq(name, STR("variable")))
        *style = CGI_DENY_VARIABLE;
    else
        return -1;
    return 0;
}

/* A variable's name in a message: it may be long and hold anything. */
static struct str shown(struct str name)
{
    return (struct str){ name.p, name.n < 64 ? name.n : 64 };
}

COLD static int refuse_value(struct str name, struct err *e)
{
    return err_set(e, ERR_SYNTAX, "the value of %.*s holds a line break or NUL",
                   STR_ARG(shown(name)));
}

/* True if a word begins behind c. */
static bool is_separator(char c)
{
    return c == '_' || c == '-';
}

/* n characters of a name from byte i on; false if they are no token. */
static bool copy_name(const char *from, char *to, size_t i, size_t n)
{
    bool valid = true;

    for (; i < n; i++) {
        char c = word_start[(unsigned char)from[i]];
        bool inside = i > 0 && !is_separator(from[i - 1]) && c >= 'A' && c <= 'Z';

        valid &= c != 0;
        to[i] = inside ? (char)(c + 32) : c;
    }
    return valid;
}

/* The same for the word at i of capital letters, digits and '_'; false if it holds anything else.
 */
static bool copy_word(const char *from, char *to, size_t i)
{
    uint64_t w = word_load(from + i);
    uint64_t letters, separators, starts;

    if (!word_is_ascii(w))
        return false;
    letters = word_in_range(w, 'A', 'Z');
    separators = word_equals(w, '_');
    if ((letters | separators | word_in_range(w, '0', '9')) != WORD_HIGH)
        return false;
    starts = separators << 8 | (i == 0 || from[i - 1] == '_' ? 0x80u : 0);
    w |= (letters & ~starts) >> 2; /* 0x80 >> 2 is what a small letter has more */
    w ^= (separators >> 7) * (unsigned)('_' ^ '-');
    word_store(to + i, w);
    return true;
}

/* The field's name; false if the rest of the variable's name is no token. */
static bool make_header_name(struct arena *a, struct str rest, struct str *out)
{
    char *to = arena_alloc(a, rest.n + 1);
    size_t n = rest.n, i = 0;

    *out = (struct str){ to, n };
    to[n] = '\0';
    if (n < WORD_BYTES)
        return n > 0 && copy_name(rest.p, to, 0, n);
    for (; n - i > WORD_BYTES; i += WORD_BYTES)
        if (!copy_word(rest.p, to, i))
            return copy_name(rest.p, to, i, n);
    /* the last word may overlap the one before: both come from the same bytes */
    return copy_word(rest.p, to, n - WORD_BYTES) || copy_name(rest.p, to, i, n);
}

/* True if a field of that name (in the spelling of make_header_name) is there already. */
static bool name_is_known(struct cgi_request *r, struct str name)
{
    unsigned first = (unsigned char)name.p[0], last = (unsigned char)name.p[name.n - 1];
    uint64_t bit = 1ull << ((name.n * 7 + first * 3 + last) & 63);

    if (!(r->names_seen & bit)) {
        r->names_seen |= bit;
        return false;
    }
    for (unsigned i = 0; i < r->headers.n; i++)
        if (str_eq(r->headers.v[i].name, name))
            return true;
    return false;
}

/* Fields that have a variable of their own, or none that we may trust. True: dealt with. */
static bool is_special(struct cgi_request *r, struct str name, struct str value)
{
    switch (name.n) {
    case 5:
        return IS("Proxy"); /* "httpoxy": it would look like the variable http_proxy */
    case 10:
        if (IS("Connection") && !str_eq_nocase(value, STR("keep-alive")) &&
            !str_eq_nocase(value, STR("close")))
            r->connection_names = true;
        return false;
    case 12:
        if (!IS("Content-Type"))
            return false;
        r->header_type = value;
        return true;
    case 14:
        if (!IS("Content-Length"))
            return false;
        r->header_length = value;
        return true;
    default:
        return false;
    }
}

static int add_header(struct cgi_request *r, struct arena *a, const struct cgi_bounds *bounds,
                      struct str variable, struct str value, struct err *e)
{
    struct str rest = { variable.p + 5, variable.n - 5 }, name;

    if (value.n == 0) /* nginx removes a header by an empty parameter */
        return 0;
    r->header_bytes += rest.n + value.n;
    if (bounds->max_header_bytes && r->header_bytes > bounds->max_header_bytes)
        return err_set(e, ERR_BOUND, "the headers are longer than %zu bytes",
                       bounds->max_header_bytes);
    if (UNLIKELY(!header_value_valid(value)))
        return refuse_value(variable, e);
    if (UNLIKELY(!make_header_name(a, rest, &name)))
        return err_set(e, ERR_SYNTAX, "%.*s is not the name of a header", STR_ARG(shown(variable)));
    if (is_special(r, name, value))
        return 0;
    if (bounds->max_header_count && r->headers.n >= bounds->max_header_count)
        return err_set(e, ERR_BOUND, "there are more than %u headers", bounds->max_header_count);
    if (name_is_known(r, name))
        r->names_repeat = true;
    headers_add(&r->headers, a, name, value);
    return 0;
}

/* Where the value of a variable that is kept as it is belongs, or NULL. */
static struct str *place_of(struct cgi_request *r, struct str name)
{
    switch (name.n) {
    case 9:
        return IS("PATH_INFO") ? &r->path_info : NULL;
    case 11:
        if (name.p[0] == 'R')
            return IS("REMOTE_ADDR") ? &r->remote_addr : IS("REQUEST_URI") ? &r->uri : NULL;
        if (IS("SERVER_NAME"))
            return &r->server_name;
        if (IS("SERVER_ADDR"))
            return &r->server_addr;
        return IS("SCRIPT_NAME") ? &r->script_name : NULL;
    case 12:
        return IS("QUERY_STRING") ? &r->query_string : IS("CONTENT_TYPE") ? &r->content_type : NULL;
    case 14:
        if (IS("REQUEST_METHOD"))
            return &r->method;
        if (IS("REQUEST_SCHEME"))
            return &r->scheme;
        return IS("CONTENT_LENGTH") ? &r->length_text : NULL;
    case 15:
        if (IS("SERVER_PROTOCOL"))
            return &r->protocol;
        if (IS("WEIR_REQUEST_ID"))
            return &r->request_id;
        return IS("WEIR_AUTHORIZED") ? &r->authorized : NULL;
    default:
        return NULL;
    }
}

/* 0 for what is no port: nginx sends none behind realip, lighttpd 0 behind extforward. */
static unsigned port_from(struct str value)
{
    uint64_t port;

    return str_to_u64(value, 65535, &port) ? 0 : (unsigned)port;
}

/* A misspelt role must not turn a check into something else. */
static int set_role(struct cgi_request *r, struct str value, struct err *e)
{
    r->authorizer = str_eq(value, STR("authorizer"));
    if (r->authorizer || value.n == 0 || str_eq(value, STR("responder")))
        return 0;
    return err_set(e, ERR_SYNTAX, "WEIR_ROLE is neither authorizer nor responder");
}

static int set_deny_style(struct cgi_request *r, struct str value, struct err *e)
{
    r->has_deny_style = value.n > 0;
    if (value.n == 0 || cgi_deny_style_from(value, &r->deny_style) == 0)
        return 0;
    return err_set(e, ERR_SYNTAX, "WEIR_DENY_STYLE is none of status, nginx, variable");
}

/* The variables whose meaning is not their text. */
static int set_meaning(struct cgi_request *r, struct str name, struct str value, struct err *e)
{
    switch (name.n) {
    case 5:
        if (IS("HTTPS"))
            r->https = value.n > 0 && !str_eq_nocase(value, STR("off"));
        return 0;
    case 9:
        return IS("WEIR_ROLE") ? set_role(r, value, e) : 0;
    case 11:
        if (IS("REMOTE_PORT"))
            r->remote_port = port_from(value);
        else if (IS("SERVER_PORT"))
            r->server_port = port_from(value);
        return 0;
    case 15:
        return IS("WEIR_DENY_STYLE") ? set_deny_style(r, value, e) : 0;
    default:
        return 0;
    }
}

int cgi_request_add(struct cgi_request *r, struct arena *a, const struct cgi_bounds *bounds,
                    struct str name, struct str value, struct err *e)
{
    struct str *place;

    if (name.n > 5 && IS("HTTP_"))
        return add_header(r, a, bounds, name, value, e);
    place = place_of(r, name);
    if (!place)
        return set_meaning(r, name, value, e);
    if (UNLIKELY(!header_value_valid(value)))
        return refuse_value(name, e);
    *place = value; /* the last one wins: nginx sends an overridden parameter first */
    return 0;
}

/* The values of all fields of the name of field i, in one. */
static struct str join_values(const struct headers *h, struct arena *a, unsigned i)
{
    struct str name = h->v[i].name;
    struct str glue = str_eq(name, STR("Cookie")) ? STR("; ") : STR(", ");
    size_t n = 0;
    char *p, *to;

    for (int j = (int)i; j >= 0; j = headers_find(h, name, (unsigned)j + 1))
        n += h->v[j].value.n + glue.n;
    p = to = arena_alloc(a, n);
    for (int j = (int)i; j >= 0; j = headers_find(h, name, (unsigned)j + 1)) {
        struct str value = h->v[j].value;

        if (to > p)
            to = (char *)memcpy(to, glue.p, glue.n) + glue.n;
        to = (char *)memcpy(to, value.p, value.n) + value.n;
    }
    return (struct str){ p, (size_t)(to - p) };
}

static void join_repeated(struct headers *h, struct arena *a)
{
    for (unsigned i = 0; i < h->n; i++)
        if (headers_find(h, h->v[i].name, i + 1) >= 0)
            headers_set(h, a, h->v[i].name, join_values(h, a, i));
}

/*
 * Takes away what the client's Connection names, and Connection with it: the names must
 * not take away fields that plugins and weir add later (X-Forwarded-For, X-Consumer-Id).
 */
static void drop_connection_fields(struct headers *h)
{
    const struct str *value = headers_get(h, STR("Connection"));
    struct str list, element;
    bool names_fields = false;

    if (!value)
        return;
    list = *value;
    while (hop_list_next(&list, &element)) {
        if (str_eq_nocase(element, STR("close")) || hop_is_fixed(element))
            continue;
        names_fields = true;
        headers_remove(h, element);
    }
    if (names_fields)
        headers_remove(h, STR("Connection"));
}

/* CONTENT_TYPE and CONTENT_LENGTH become fields again; lighttpd and nginx send them as both. */
static int finish_content(struct cgi_request *r, struct arena *a, struct err *e)
{
    struct str length = r->length_text.n ? r->length_text : r->header_length;
    struct str type = r->content_type.n ? r->content_type : r->header_type;
    uint64_t value;
    bool made_up;

    if (type.n)
        headers_add(&r->headers, a, STR("Content-Type"), type);
    r->content_length = -1;
    if (length.n == 0)
        return 0;
    if (str_to_u64(length, INT64_MAX, &value))
        return err_set(e, ERR_SYNTAX, "CONTENT_LENGTH is not a number of bytes");
    r->content_length = (int64_t)value;
    /* lighttpd and mod_fcgid say 0 where the client said nothing */
    made_up = value == 0 && r->header_length.n == 0 &&
              (str_eq(r->method, STR("GET")) || str_eq(r->method, STR("HEAD")));
    if (!made_up)
        headers_add(&r->headers, a, STR("Content-Length"), length);
    return 0;
}

static bool host_is_valid(struct str host)
{
    bool valid = true;

    for (size_t i = 0; i < host.n; i++)
        valid &= host_char[(unsigned char)host.p[i]];
    return valid;
}

static int finish_host(struct cgi_request *r, struct err *e)
{
    const struct str *host = headers_get(&r->headers, STR("Host"));

    if (!host) {
        /* of nginx it may be a regular expression */
        r->host = host_is_valid(r->server_name) ? r->server_name : STR_NULL;
        return 0;
    }
    if (!host_is_valid(*host))
        return err_set(e, ERR_SYNTAX, "Host is not the name of a host");
    r->host = *host;
    return 0;
}

/* No variable with the target: "fastcgi_pass" of nginx with parameters of old CGI. */
static int build_uri(struct cgi_request *r, struct arena *a, struct err *e)
{
    struct str keep = STR("/:@!$&'()*+,;=");
    struct str script, info;

    if (r->script_name.n == 0 && r->path_info.n == 0)
        return err_set(e, ERR_SYNTAX, "neither REQUEST_URI nor SCRIPT_NAME nor PATH_INFO is given");
    script = uri_encode(a, r->script_name, keep);
    info = uri_encode(a, r->path_info, keep);
    r->uri = arena_printf(a, "%.*s%.*s%s%.*s", STR_ARG(script), STR_ARG(info),
                          r->query_string.n ? "?" : "", STR_ARG(r->query_string));
    return 0;
}

/* "http://host/path", as to a proxy: RFC 9112, 3.2.2 sets its host above the field Host. */
static int reduce_absolute(struct cgi_request *r, struct arena *a, struct err *e)
{
    struct str rest = r->uri, path;
    size_t scheme_n = 7, n = 0;

    if (rest.n >= 8 && str_eq_nocase((struct str){ rest.p, 8 }, STR("https://")))
        scheme_n = 8;
    else if (rest.n < 7 || !str_eq_nocase((struct str){ rest.p, 7 }, STR("http://")))
        return err_set(e, ERR_SYNTAX, "REQUEST_URI does not begin with a slash");
    rest.p += scheme_n;
    rest.n -= scheme_n;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    r->host = (struct str){ rest.p, n };
    if (n == 0 || !host_is_valid(r->host))
        return err_set(e, ERR_SYNTAX, "the host in REQUEST_URI is not the name of a host");
    headers_set(&r->headers, a, STR("Host"), r->host);
    path = (struct str){ rest.p + n, rest.n - n };
    r->uri = path.n && path.p[0] == '/' ? path : arena_printf(a, "/%.*s", STR_ARG(path));
    return 0;
}

static int finish_uri(struct cgi_request *r, struct arena *a, struct err *e)
{
    const char *hash;
    bool valid = true;
    int rc = 0;

    if (r->uri.n == 0)
        rc = build_uri(r, a, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < r->uri.n; i++)
        valid &= (unsigned char)r->uri.p[i] > ' ' && r->uri.p[i] != 0x7f;
    if (!valid)
        return err_set(e, ERR_SYNTAX, "the request target holds blanks or control characters");
    hash = memchr(r->uri.p, '#', r->uri.n);
    if (hash) /* what web servers serve ends here, so must what rules see and upstreams get */
        r->uri.n = (size_t)(hash - r->uri.p);
    if (r->uri.n > 0 && r->uri.p[0] == '/')
        return 0;
    if (str_eq(r->uri, STR("*")) && str_eq(r->method, STR("OPTIONS")))
        return 0;
    return reduce_absolute(r, a, e);
}

static void finish_protocol(struct cgi_request *r)
{
    r->included = str_eq(r->protocol, STR("INCLUDED"));
    if (r->included || r->protocol.n == 0)
        r->protocol = STR("HTTP/1.1");
    if (r->https || str_eq_nocase(r->scheme, STR("https")))
        r->scheme = STR("https");
    else
        r->scheme = STR("http");
}

int cgi_request_finish(struct cgi_request *r, struct arena *a, struct err *e)
{
    int rc;

    if (!header_name_valid(r->method))
        return err_set(e, ERR_SYNTAX, "REQUEST_METHOD is not the name of a method");
    finish_protocol(r);
    if (r->names_repeat)
        join_repeated(&r->headers, a);
    rc = finish_host(r, e);
    if (rc)
        return rc;
    rc = finish_uri(r, a, e);
    if (rc)
        return rc;
    if (r->connection_names) {
        if (!hop_is_bounded(&r->headers))
            return err_set(e, ERR_SYNTAX, "Connection names too many fields");
        drop_connection_fields(&r->headers);
    }
    return finish_content(r, a, e);
}
