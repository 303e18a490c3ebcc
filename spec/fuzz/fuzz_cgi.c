/*
 * Variables to a request, and its headers back out as every kind of head and as a request to an
 * upstream: no line appears that was not meant, Status stands first, bounds hold.
 */
#include "wire/cgi.h"
#include "wire/fcgi.h"
#include "wire/http1.h"
#include "wire/uri.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct cgi_bounds bounds = { 40, 4096 };

static void check_request(const struct cgi_request *r, struct arena *a)
{
    struct str path, query;

    must(header_name_valid(r->method));
    must(r->headers.n <= bounds.max_header_count + 3); /* Host, Content-Type, Content-Length */
    must(r->uri.n > 0 && (r->uri.p[0] == '/' || str_eq(r->uri, STR("*"))));
    must(str_eq(r->scheme, STR("http")) || str_eq(r->scheme, STR("https")));
    must(r->content_length >= -1);
    must(r->remote_port <= 65535 && r->server_port <= 65535);
    for (unsigned i = 0; i < r->headers.n; i++) {
        struct str name = r->headers.v[i].name;

        must(header_name_valid(name) && header_value_valid(r->headers.v[i].value));
        must(!str_eq_nocase(name, STR("Proxy")));
        must(headers_find(&r->headers, name, i + 1) < 0);
    }
    uri_split(r->uri, &path, &query);
    path = uri_normalise(a, path);
    must(path.n > 0);
}

/* A head is lines with a colon, each ended by CR LF, and one empty line at its end. */
static void check_head(struct buf *out, const char *first)
{
    size_t at = 0, lines = 0;

    must(out->n > strlen(first) && memcmp(out->p, first, strlen(first)) == 0);
    for (;;) {
        const char *lf = memchr(out->p + at, '\n', out->n - at);
        size_t n;

        must(lf);
        n = (size_t)(lf - out->p) - at;
        must(n >= 1 && lf[-1] == '\r' && !memchr(out->p + at, '\r', n - 1));
        must(!memchr(out->p + at, '\0', n));
        if (n == 1)
            break;
        must(lines == 0 || memchr(out->p + at, ':', n));
        at += n + 1;
        lines++;
    }
    must((size_t)(out->p + out->n - (out->p + at)) == 2);
    out->n = 0;
}

static void check_heads(const struct cgi_request *r, unsigned status)
{
    struct buf out = { 0 };
    struct http1_request to = { r->method, r->uri, r->host, &r->headers, HTTP1_BODY_CHUNKED, 0 };

    must(cgi_put_head(&out, status, &r->headers, r->content_length) == 0);
    check_head(&out, "Status: ");
    must(cgi_put_allow(&out, &r->headers, &r->headers, r->request_id) == 0);
    check_head(&out, "Status: 200 OK\r\n");
    must(cgi_put_deny(&out, CGI_DENY_STATUS, status, &r->headers, -1) == 0);
    must(memcmp(out.p, "Status: 200", 11) != 0);
    check_head(&out, "Status: ");
    must(cgi_put_deny(&out, CGI_DENY_NGINX, status, &r->headers, 0) == 0);
    check_head(&out, "Status: 40");
    must(cgi_put_deny(&out, CGI_DENY_VARIABLE, status, &r->headers, 0) == 0);
    /* a failure stays one, and what is no status goes out as a failure */
    must((memcmp(out.p, "Status: 200", 11) == 0) == (status >= 200 && status < 500));
    check_head(&out, "Status: ");
    if (r->host.n) {
        must(http1_put_request(&out, &to, NULL) == 0);
        check_head(&out, "");
    }
    buf_free(&out);
}

static void check(struct str in, unsigned status, struct arena *a)
{
    struct cgi_request r = { 0 };
    struct str name, value;
    struct err e = { 0 };
    int rc = 0;

    while (rc == 0 && fcgi_pair_next(&in, &name, &value) > 0)
        rc = cgi_request_add(&r, a, &bounds, name, value, &e);
    if (rc == 0)
        rc = cgi_request_finish(&r, a, &e);
    if (rc) {
        must(e.code == rc && e.text[0]);
        must(cgi_error_status(rc) == (rc == ERR_BOUND ? 431 : 400));
        return;
    }
    check_request(&r, a);
    check_heads(&r, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    char *copy;

    if (n < 3)
        return 0;
    copy = memcpy(xmalloc(n - 2), data + 2, n - 2);
    arena_init(&arena, 64);
    check((struct str){ copy, n - 2 }, (unsigned)(data[0] << 8 | data[1]) % 1024, &arena);
    arena_fini(&arena);
    free(copy);
    return 0;
}
