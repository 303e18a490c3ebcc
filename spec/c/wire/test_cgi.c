/*
 * Variables as lighttpd, Apache and nginx send them become a request; what
 * could be smuggled is refused; heads say to each web server what it understands.
 */
#include "wire/cgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;
static struct cgi_request request;
static struct err error;
static const struct cgi_bounds wide = { 1000, 1 << 20 };

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 4096);
    request = (struct cgi_request){ 0 };
    error = (struct err){ 0 };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static int add_n(const char *name, struct str value)
{
    return cgi_request_add(&request, &arena, &wide, str_from(name), value, &error);
}

static void add(const char *name, const char *value)
{
    if (add_n(name, str_from(value)) != 0)
        fail_msg("%s: %s", name, error.text);
}

static void finish(void)
{
    if (cgi_request_finish(&request, &arena, &error) != 0)
        fail_msg("%s", error.text);
}

/* A second request in the same example. */
static void again(void)
{
    arena_reset(&arena);
    request = (struct cgi_request){ 0 };
    add("REQUEST_METHOD", "GET");
    add("REQUEST_URI", "/");
}

static void assert_refused(const char *text)
{
    assert_int_equal(cgi_request_finish(&request, &arena, &error), ERR_SYNTAX);
    assert_int_equal(cgi_error_status(error.code), 400);
    assert_string_equal(error.text, text);
}

static void assert_str(struct str have, const char *want)
{
    if (!str_eq(have, str_from(want)))
        fail_msg("have \"%.*s\", want \"%s\"", STR_ARG(have), want);
}

static void assert_header(const char *name, const char *want)
{
    const struct str *value = headers_get(&request.headers, str_from(name));

    if (!want) {
        assert_null(value);
        return;
    }
    if (!value)
        fail_msg("there is no %s", name);
    assert_str(*value, want);
    assert_int_equal(headers_find(&request.headers, str_from(name),
                                  (unsigned)headers_find(&request.headers, str_from(name), 0) + 1),
                     -1);
}

static void a_get_of_lighttpd(void **state)
{
    (void)state;
    add("CONTENT_LENGTH", "0");
    add("QUERY_STRING", "x=1");
    add("REQUEST_URI", "/r/a%20b?x=1");
    add("REDIRECT_STATUS", "200");
    add("SCRIPT_NAME", "/r/a b");
    add("SCRIPT_FILENAME", "/srv/r/a b");
    add("DOCUMENT_ROOT", "/srv");
    add("REQUEST_METHOD", "GET");
    add("SERVER_PROTOCOL", "HTTP/2.0");
    add("SERVER_SOFTWARE", "lighttpd/1.4.69");
    add("GATEWAY_INTERFACE", "CGI/1.1");
    add("REQUEST_SCHEME", "http");
    add("SERVER_PORT", "8080");
    add("SERVER_ADDR", "127.0.0.1");
    add("SERVER_NAME", "localhost");
    add("REMOTE_ADDR", "10.1.2.3");
    add("REMOTE_PORT", "50000");
    add("HTTP_HOST", "example.com:8080");
    add("HTTP_USER_AGENT", "curl/7.88");
    add("HTTP_X_FORWARDED_FOR", "1.2.3.4");
    finish();
    assert_str(request.method, "GET");
    assert_str(request.uri, "/r/a%20b?x=1");
    assert_str(request.protocol, "HTTP/2.0");
    assert_str(request.scheme, "http");
    assert_str(request.host, "example.com:8080");
    assert_str(request.remote_addr, "10.1.2.3");
    assert_str(request.server_addr, "127.0.0.1");
    assert_str(request.server_name, "localhost");
    assert_int_equal(request.remote_port, 50000);
    assert_int_equal(request.server_port, 8080);
    assert_int_equal(request.content_length, 0);
    assert_int_equal(request.headers.n, 3);
    assert_str(request.headers.v[0].name, "Host");
    assert_str(request.headers.v[1].name, "User-Agent");
    assert_str(request.headers.v[2].name, "X-Forwarded-For");
    assert_false(request.authorizer || request.has_deny_style || cgi_request_repeated(&request));
}

static void content_headers_come_once(void **state)
{
    (void)state;
    again();
    add("REQUEST_METHOD", "POST");
    add("CONTENT_LENGTH", "12");
    add("HTTP_CONTENT_LENGTH", "12");
    add("CONTENT_TYPE", "text/plain");
    add("HTTP_CONTENT_TYPE", "text/plain");
    finish();
    assert_int_equal(request.content_length, 12);
    assert_int_equal(request.headers.n, 2);
    assert_header("Content-Length", "12");
    assert_header("Content-Type", "text/plain");

    again(); /* lighttpd's authorizer has only the HTTP_ ones */
    add("HTTP_CONTENT_LENGTH", "7");
    add("HTTP_CONTENT_TYPE", "a/b");
    finish();
    assert_int_equal(request.content_length, 7);
    assert_header("Content-Length", "7");
    assert_header("Content-Type", "a/b");

    again(); /* nginx: empty on GET, and on a chunked upload */
    add("CONTENT_LENGTH", "");
    add("CONTENT_TYPE", "");
    finish();
    assert_int_equal(request.content_length, -1);
    assert_int_equal(request.headers.n, 0);

    again();
    finish();
    assert_int_equal(request.content_length, -1);

    again(); /* a client's own 0 is kept, a web server's is not */
    add("CONTENT_LENGTH", "0");
    add("HTTP_CONTENT_LENGTH", "0");
    finish();
    assert_header("Content-Length", "0");
    again();
    add("REQUEST_METHOD", "POST");
    add("CONTENT_LENGTH", "0");
    finish();
    assert_header("Content-Length", "0");
}

static void content_length_is_digits(void **state)
{
    static const char *const bad[] = { "-1",
                                       "+1",
                                       "1 ",
                                       " 1",
                                       "0x10",
                                       "1,1",
                                       "1.0",
                                       "9223372036854775808",
                                       "99999999999999999999999" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        again();
        add("CONTENT_LENGTH", bad[i]);
        assert_refused("CONTENT_LENGTH is not a number of bytes");
    }
    again();
    add("CONTENT_LENGTH", "9223372036854775807");
    finish();
    assert_true(request.content_length == INT64_MAX);
}

static void repeated_headers_are_joined(void **state)
{
    (void)state;
    again();
    add("HTTP_ACCEPT", "a");
    add("HTTP_COOKIE", "c1=1");
    add("HTTP_X_B", "x");
    add("HTTP_ACCEPT", "b");
    add("HTTP_COOKIE", "c2=2");
    add("HTTP_ACCEPT", "c");
    finish();
    assert_int_equal(request.headers.n, 3);
    assert_header("Accept", "a, b, c");
    assert_header("Cookie", "c1=1; c2=2");
    assert_str(request.headers.v[0].name, "Accept");
}

static void of_other_variables_the_last_counts(void **state)
{
    (void)state;
    again();
    add("REMOTE_ADDR", "1.1.1.1");
    add("REMOTE_ADDR", "2.2.2.2");
    add("CONTENT_LENGTH", "5");
    add("CONTENT_LENGTH", "6");
    finish();
    assert_str(request.remote_addr, "2.2.2.2");
    assert_int_equal(request.content_length, 6);
}

static void some_headers_are_dropped(void **state)
{
    (void)state;
    again();
    add("HTTP_PROXY", "evil:1");
    add("HTTP_proxy", "evil:1");
    add("HTTP_X_EMPTY", "");
    add("HTTP_X_", "kept");
    finish();
    assert_int_equal(request.headers.n, 1);
    assert_str(request.headers.v[0].name, "X-");
}

static void connection_takes_away_what_it_names(void **state)
{
    (void)state;
    again();
    add("HTTP_CONNECTION", "close, X-Api-Key, content-type");
    add("HTTP_X_API_KEY", "secret");
    add("HTTP_X_OTHER", "o");
    add("CONTENT_TYPE", "a/b");
    finish();
    assert_header("X-Api-Key", NULL);
    assert_header("Connection", NULL);
    assert_header("X-Other", "o");
    assert_header("Content-Type", "a/b");

    again();
    add("HTTP_CONNECTION", "keep-alive, TE");
    finish();
    assert_header("Connection", "keep-alive, TE");

    again();
    for (int i = 0; i < 40; i++)
        add("HTTP_CONNECTION", "a, b");
    assert_refused("Connection names too many fields");
}

static void values_with_line_breaks_are_refused(void **state)
{
    static const char *const names[] = { "HTTP_X",         "REQUEST_URI", "REMOTE_ADDR",
                                         "CONTENT_TYPE",   "SERVER_NAME", "SERVER_PROTOCOL",
                                         "WEIR_REQUEST_ID" };
    const struct str bad[] = { STR("a\rb"), STR("a\nb"), STR("a\0b"), STR("\n") };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = 0; k < ARRAY_LEN(bad); k++)
            assert_int_equal(add_n(names[i], bad[k]), ERR_SYNTAX);
    /* Apache's signature is nobody's business */
    add("SERVER_SIGNATURE", "<address>\n</address>\n");
}

static void names_of_headers_are_tokens(void **state)
{
    (void)state;
    assert_int_equal(add_n("HTTP_X Y", STR("v")), ERR_SYNTAX);
    assert_int_equal(add_n("HTTP_X:", STR("v")), ERR_SYNTAX);
    assert_int_equal(add_n("HTTP_X\r\nA", STR("v")), ERR_SYNTAX);
    assert_int_equal(add_n("HTTP_\xc3\xa9", STR("v")), ERR_SYNTAX);
    assert_int_equal(add_n("HTTP_", STR("v")), 0);
    assert_int_equal(add_n("", STR("v")), 0);
    assert_int_equal(request.headers.n, 0);
    add("HTTP_x_fOO_1B", "v");
    assert_str(request.headers.v[0].name, "X-Foo-1b");
}

/* What one character at a time makes of it. */
static void slow_name(const char *from, char *to)
{
    bool start = true;

    for (; *from; from++, to++) {
        *to = *from == '_' ? '-' : *from;
        if (!start && *to >= 'A' && *to <= 'Z')
            *to = (char)(*to + 32);
        start = *to == '-';
    }
    *to = '\0';
}

/* Separators and digits at all places, around the width of a word. */
static void names_of_any_length(void **state)
{
    static const char odd[] = "_09AZ-.";
    char name[48] = "HTTP_", want[48];

    (void)state;
    for (size_t n = 1; n < 30; n++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; odd[k]; k++) {
                memset(name + 5, 'M', n);
                name[5 + n] = '\0';
                name[5 + i] = odd[k];
                name[5 + n / 2] = odd[(k + i) % 5];
                slow_name(name + 5, want);
                arena_reset(&arena);
                request = (struct cgi_request){ 0 };
                add(name, "v");
                assert_str(request.headers.v[0].name, want);
            }
        }
    }
}

static void bounds_hold(void **state)
{
    const struct cgi_bounds count = { 2, 0 }, bytes = { 0, 10 };

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(cgi_request_add(&request, &arena, &count, STR("HTTP_A"), STR("v"), &error),
                         0);
    assert_int_equal(cgi_request_add(&request, &arena, &count, STR("HTTP_B"), STR("v"), &error),
                     ERR_BOUND);
    assert_int_equal(cgi_error_status(ERR_BOUND), 431);
    assert_string_equal(error.text, "there are more than 2 headers");
    assert_int_equal(cgi_request_add(&request, &arena, &count, STR("REMOTE_ADDR"), STR("v"), NULL),
                     0);

    request = (struct cgi_request){ 0 };
    assert_int_equal(cgi_request_add(&request, &arena, &bytes, STR("HTTP_AB"), STR("123"), NULL),
                     0);
    assert_int_equal(cgi_request_add(&request, &arena, &bytes, STR("HTTP_CD"), STR("123"), NULL),
                     0);
    assert_int_equal(cgi_request_add(&request, &arena, &bytes, STR("HTTP_E"), STR("1"), &error),
                     ERR_BOUND);
    assert_string_equal(error.text, "the headers are longer than 10 bytes");
}

static void the_method_is_a_token(void **state)
{
    static const char *const bad[] = { "", "GE T", "GET\t", "G(" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        again();
        add("REQUEST_METHOD", bad[i]);
        assert_refused("REQUEST_METHOD is not the name of a method");
    }
    again();
    add("REQUEST_METHOD", "M-SEARCH");
    finish();
}

static void targets(void **state)
{
    static const char *const good[][3] = {
        { "/a/../b?c", "/a/../b?c", "h" },  { "//x/y", "//x/y", "h" },
        { "/a#frag", "/a", "h" },           { "http://other:81/p?q", "/p?q", "other:81" },
        { "HTTPS://other", "/", "other" },  { "http://other?q", "/?q", "other" },
        { "http://other#f", "/", "other" },
    };
    static const char *const bad[] = { "a",         "*",           "ftp://x/", "http://",
                                       "http:///a", "http://u@h/", "host:443", "#" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        again();
        add("HTTP_HOST", "h");
        add("REQUEST_URI", good[i][0]);
        finish();
        assert_str(request.uri, good[i][1]);
        assert_str(request.host, good[i][2]);
        assert_header("Host", good[i][2]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        again();
        add("REQUEST_URI", bad[i]);
        assert_int_equal(cgi_request_finish(&request, &arena, &error), ERR_SYNTAX);
    }
    again();
    add("REQUEST_METHOD", "OPTIONS");
    add("REQUEST_URI", "*");
    finish();
    assert_str(request.uri, "*");
    again();
    add("REQUEST_URI", "/a b");
    assert_refused("the request target holds blanks or control characters");
    again();
    add("REQUEST_URI", "/a\x7f");
    assert_refused("the request target holds blanks or control characters");
}

static void a_target_of_parts(void **state)
{
    (void)state;
    again();
    add("REQUEST_URI", "");
    add("SCRIPT_NAME", "/app");
    add("PATH_INFO", "/a b?\xc3\xa9%");
    add("QUERY_STRING", "x=%20");
    finish();
    assert_str(request.uri, "/app/a%20b%3F%C3%A9%25?x=%20");
    again();
    add("REQUEST_URI", "");
    add("PATH_INFO", "/only");
    finish();
    assert_str(request.uri, "/only");
    again();
    add("REQUEST_URI", "");
    add("QUERY_STRING", "x");
    assert_refused("neither REQUEST_URI nor SCRIPT_NAME nor PATH_INFO is given");
}

static void hosts(void **state)
{
    static const char *const bad[] = { "a b", "a/b", "a@b", "a?b", "a#b", "h\xc3\xa9", "a\\b" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        again();
        add("HTTP_HOST", bad[i]);
        assert_refused("Host is not the name of a host");
    }
    again(); /* two of them are not one */
    add("HTTP_HOST", "a");
    add("HTTP_HOST", "b");
    assert_refused("Host is not the name of a host");
    again();
    add("SERVER_NAME", "fallback");
    finish();
    assert_str(request.host, "fallback");
    again();
    add("SERVER_NAME", "~^(?<x>.+)\\.example$");
    finish();
    assert_str(request.host, "");
    again();
    add("HTTP_HOST", "[::1]:8080");
    finish();
    assert_str(request.host, "[::1]:8080");
}

static void schemes_and_protocols(void **state)
{
    (void)state;
    again();
    finish();
    assert_str(request.scheme, "http");
    assert_str(request.protocol, "HTTP/1.1");
    again();
    add("HTTPS", "on");
    finish();
    assert_str(request.scheme, "https");
    again();
    add("HTTPS", "off");
    finish();
    assert_str(request.scheme, "http");
    again();
    add("HTTPS", "");
    add("REQUEST_SCHEME", "https");
    finish();
    assert_str(request.scheme, "https");
    again();
    add("REQUEST_SCHEME", "gopher");
    finish();
    assert_str(request.scheme, "http");
}

static void ports_may_be_unknown(void **state)
{
    static const char *const unknown[] = { "", "0", "x", "65536", "-1" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        again();
        add("REMOTE_PORT", unknown[i]);
        finish();
        assert_int_equal(request.remote_port, 0);
    }
}

static void nginx_marks_its_authorizer_calls(void **state)
{
    (void)state;
    again();
    add("WEIR_ROLE", "authorizer");
    add("WEIR_REQUEST_ID", "0123456789abcdef");
    add("WEIR_DENY_STYLE", "nginx");
    add("CONTENT_LENGTH", "10");
    finish();
    assert_true(request.authorizer && request.has_deny_style);
    assert_int_equal(request.deny_style, CGI_DENY_NGINX);
    assert_str(request.request_id, "0123456789abcdef");

    again();
    add("WEIR_ROLE", "responder");
    add("WEIR_ROLE", "");
    add("WEIR_DENY_STYLE", "");
    finish();
    assert_false(request.authorizer || request.has_deny_style);
    assert_int_equal(add_n("WEIR_ROLE", STR("Authoriser")), ERR_SYNTAX);
    assert_int_equal(add_n("WEIR_DENY_STYLE", STR("ngin")), ERR_SYNTAX);
    /* a client can only send HTTP_* */
    again();
    add("HTTP_WEIR_ROLE", "authorizer");
    add("HTTP_WEIR_AUTHORIZED", "1");
    add("SERVER_PROTOCOL", "INCLUDED");
    finish();
    assert_false(request.authorizer || cgi_request_repeated(&request));
}

static void apache_calls_twice(void **state)
{
    (void)state;
    again();
    add("SERVER_PROTOCOL", "INCLUDED");
    finish();
    assert_true(request.included);
    assert_false(cgi_request_repeated(&request));
    assert_str(request.protocol, "HTTP/1.1");
    again();
    add("SERVER_PROTOCOL", "INCLUDED");
    add("WEIR_AUTHORIZED", "id");
    finish();
    assert_true(cgi_request_repeated(&request));
    assert_str(request.authorized, "id");
}

/* ---- heads ---- */

static struct headers list_of(const char *const *pairs)
{
    struct headers h = { 0 };

    for (; *pairs; pairs += 2)
        headers_add(&h, &arena, str_from(pairs[0]), str_from(pairs[1]));
    return h;
}

#define LIST(...) list_of((const char *const[]){ __VA_ARGS__, NULL })

static void assert_head(struct buf *out, const char *want)
{
    assert_int_equal(buf_add(out, "", 1), 0);
    assert_string_equal(out->p, want);
    buf_free(out);
}

static void status_comes_first(void **state)
{
    struct headers h = LIST("Content-Type", "text/plain", "X-A", "", "Set-Cookie", "a",
                            "Set-Cookie", "b", "Content-Length", "99", "Status", "200 OK");
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_head(&out, 429, &h, 5), 0);
    assert_head(&out, "Status: 429 Too Many Requests\r\nContent-Type: text/plain\r\nX-A: \r\n"
                      "Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(cgi_put_head(&out, 204, &(struct headers){ 0 }, 0), 0);
    assert_head(&out, "Status: 204 No Content\r\n\r\n");
    assert_int_equal(cgi_put_head(&out, 200, &(struct headers){ 0 }, INT64_MAX), 0);
    assert_head(&out, "Status: 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n");
}

static void a_status_is_final(void **state)
{
    const struct headers none = { 0 };
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_head(&out, 100, &none, -1), 0);
    assert_head(&out, "Status: 500 Internal Server Error\r\n\r\n");
    assert_int_equal(cgi_put_head(&out, 1000, &none, -1), 0);
    assert_head(&out, "Status: 500 Internal Server Error\r\n\r\n");
    assert_int_equal(cgi_put_head(&out, 999, &none, -1), 0);
    assert_head(&out, "Status: 999 Unknown\r\n\r\n");
    assert_string_equal(http_reason(503), "Service Unavailable");
    assert_string_equal(http_reason(0), "Unknown");
}

static void orders_to_the_web_server_stay_behind(void **state)
{
    struct headers h =
        LIST("Connection", "close, X-Named", "x-named", "1", "Keep-Alive", "1", "Transfer-Encoding",
             "chunked", "Upgrade", "h2c", "TE", "trailers", "Trailer", "X", "Proxy-Connection", "x",
             "X-Accel-Redirect", "/secret", "x-accel-buffering", "no", "X-Sendfile", "/etc/passwd",
             "X-Sendfile2", "/etc/passwd 0-", "X-LIGHTTPD-send-file", "/etc/passwd", "STATUS",
             "200", "X-Acce", "kept");
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_head(&out, 200, &h, -1), 0);
    assert_head(&out, "Status: 200 OK\r\nX-Acce: kept\r\n\r\n");
}

static void a_yes_speaks_all_dialects(void **state)
{
    struct headers h = LIST("X-RateLimit-Limit", "5", "Connection", "X-Hop", "X-Hop", "1");
    struct headers bad = LIST("Variable-X", "1", "X-Accel-Redirect", "/");
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_allow(&out, &h, NULL, STR_NULL), 0);
    assert_head(&out, "Status: 200 OK\r\nX-RateLimit-Limit: 5\r\n\r\n");
    assert_int_equal(cgi_put_allow(&out, &(struct headers){ 0 }, &h, STR("id-1")), 0);
    assert_head(&out, "Status: 200 OK\r\nVariable-WEIR_HEADER_X_RATELIMIT_LIMIT: 5\r\n"
                      "Variable-WEIR_HEADER_X_HOP: 1\r\nVariable-WEIR_AUTHORIZED: id-1\r\n\r\n");
    assert_int_equal(cgi_put_allow(&out, &(struct headers){ 0 }, &bad, STR("a\nb")), 0);
    assert_head(&out, "Status: 200 OK\r\n\r\n");
}

static void a_no_has_three_styles(void **state)
{
    struct headers h = LIST("Retry-After", "7", "Variable-WEIR_STATUS", "200");
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_STATUS, 429, &h, 2), 0);
    assert_head(&out,
                "Status: 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_NGINX, 429, &h, -1), 0);
    assert_head(&out, "Status: 403 Forbidden\r\nX-Weir-Status: 429\r\nRetry-After: 7\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_NGINX, 401, &h, -1), 0);
    assert_head(&out, "Status: 401 Unauthorized\r\nX-Weir-Status: 401\r\nRetry-After: 7\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_VARIABLE, 429, &h, -1), 0);
    assert_head(&out, "Status: 200 OK\r\nVariable-WEIR_STATUS: 429\r\nRetry-After: 7\r\n\r\n");
}

static void a_no_is_never_a_yes(void **state)
{
    const struct headers none = { 0 };
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_STATUS, 200, &none, -1), 0);
    assert_head(&out, "Status: 403 Forbidden\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_VARIABLE, 200, &none, -1), 0);
    assert_head(&out, "Status: 200 OK\r\nVariable-WEIR_STATUS: 403\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_STATUS, 0, &none, -1), 0);
    assert_head(&out, "Status: 500 Internal Server Error\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_VARIABLE, 500, &none, -1), 0);
    assert_head(&out, "Status: 500 Internal Server Error\r\nVariable-WEIR_STATUS: 500\r\n\r\n");
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_NGINX, 500, &none, -1), 0);
    assert_head(&out, "Status: 403 Forbidden\r\nX-Weir-Status: 500\r\n\r\n");
}

static void a_full_buffer_is_said(void **state)
{
    struct headers h = LIST("X-RateLimit-Limit", "5");
    struct buf out = { .max_bytes = 40 };

    (void)state;
    assert_int_equal(cgi_put_head(&out, 200, &h, -1), ERR_BOUND);
    assert_int_equal(cgi_put_allow(&out, &h, &h, STR("x")), ERR_BOUND);
    assert_int_equal(cgi_put_deny(&out, CGI_DENY_NGINX, 429, &h, -1), ERR_BOUND);
    assert_int_equal(out.n, 0);
}

#define EXAMPLE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXAMPLE(a_get_of_lighttpd),
        EXAMPLE(content_headers_come_once),
        EXAMPLE(content_length_is_digits),
        EXAMPLE(repeated_headers_are_joined),
        EXAMPLE(of_other_variables_the_last_counts),
        EXAMPLE(some_headers_are_dropped),
        EXAMPLE(connection_takes_away_what_it_names),
        EXAMPLE(values_with_line_breaks_are_refused),
        EXAMPLE(names_of_headers_are_tokens),
        EXAMPLE(names_of_any_length),
        EXAMPLE(bounds_hold),
        EXAMPLE(the_method_is_a_token),
        EXAMPLE(targets),
        EXAMPLE(a_target_of_parts),
        EXAMPLE(hosts),
        EXAMPLE(schemes_and_protocols),
        EXAMPLE(ports_may_be_unknown),
        EXAMPLE(nginx_marks_its_authorizer_calls),
        EXAMPLE(apache_calls_twice),
        EXAMPLE(status_comes_first),
        EXAMPLE(a_status_is_final),
        EXAMPLE(orders_to_the_web_server_stay_behind),
        EXAMPLE(a_yes_speaks_all_dialects),
        EXAMPLE(a_no_has_three_styles),
        EXAMPLE(a_no_is_never_a_yes),
        EXAMPLE(a_full_buffer_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
