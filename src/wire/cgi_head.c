/*
 * The heads of cgi.h: "Status:" first, then what may be passed on. The room for
 * a head is reserved once, so that nothing is checked while it is written.
 */
#include "base/err.h"
#include "wire/cgi.h"
#include "wire/hop.h"

#define STATUS_LINE_MAX 80
#define LENGTH_LINE_MAX 48

static const char *const reasons[600] = {
    [100] = "Continue",
    [101] = "Switching Protocols",
    [102] = "Processing",
    [103] = "Early Hints",
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [203] = "Non-Authoritative Information",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [207] = "Multi-Status",
    [208] = "Already Reported",
    [226] = "IM Used",
    [300] = "Multiple Choices",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [305] = "Use Proxy",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [407] = "Proxy Authentication Required",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [411] = "Length Required",
    [412] = "Precondition Failed",
    [413] = "Content Too Large",
    [414] = "URI Too Long",
    [415] = "Unsupported Media Type",
    [416] = "Range Not Satisfiable",
    [417] = "Expectation Failed",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Content",
    [423] = "Locked",
    [424] = "Failed Dependency",
    [425] = "Too Early",
    [426] = "Upgrade Required",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [451] = "Unavailable For Legal Reasons",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
    [506] = "Variant Also Negotiates",
    [507] = "Insufficient Storage",
    [508] = "Loop Detected",
    [510] = "Not Extended",
    [511] = "Network Authentication Required",
};

const char *http_reason(unsigned status)
{
    const char *reason = status < ARRAY_LEN(reasons) ? reasons[status] : NULL;

    return reason ? reason : "Unknown";
}

/* A head being written: room for all of it is reserved. */
struct head {
    char *to;
    const struct headers *fields;
    bool has_connection; /* fields holds one, which may name others */
    bool no_variables;
};

static void put(struct head *w, const char *p, size_t n)
{
    memcpy(w->to, p, n);
    w->to += n;
}

#define PUT(w, literal) put(w, literal, sizeof(literal) - 1)

static void put_number(struct head *w, uint64_t value)
{
    char room[U64_DIGITS];
    struct str digits = str_from_u64(value, room);

    put(w, digits.p, digits.n);
}

static bool begins(struct str name, struct str prefix)
{
    return name.n >= prefix.n && str_eq_nocase((struct str){ name.p, prefix.n }, prefix);
}

/* X-... that a web server obeys. */
static bool is_order(struct str name)
{
    switch (name.p[2] | 0x20) {
    case 'a':
        return begins(name, STR("X-Accel-"));
    case 'l':
        return begins(name, STR("X-LIGHTTPD-"));
    case 's':
        return begins(name, STR("X-Sendfile"));
    default:
        return false;
    }
}

/* What a web server would take for an order, or says itself. By the first letter, in lower case. */
static bool is_withheld(const struct head *w, struct str name)
{
    switch (name.p[0] | 0x20) {
    case 'c':
        return str_eq_nocase(name, STR("Content-Length")) || hop_is_fixed(name);
    case 'k':
    case 'p':
    case 't':
    case 'u':
        return hop_is_fixed(name);
    case 's':
        return str_eq_nocase(name, STR("Status"));
    case 'v':
        return w->no_variables && begins(name, STR("Variable-"));
    case 'x':
        return name.n > 8 && is_order(name);
    default:
        return false;
    }
}

static bool may_pass(const struct head *w, const struct header *field)
{
    return !is_withheld(w, field->name) &&
           (!w->has_connection || !hop_is_named(w->fields, field->name));
}

static void put_fields(struct head *w)
{
    const struct headers *h = w->fields;

    for (unsigned i = 0; i < h->n; i++) {
        const struct header *field = &h->v[i];

        if (!may_pass(w, field))
            continue;
        put(w, field->name.p, field->name.n);
        PUT(w, ": ");
        put(w, field->value.p, field->value.n);
        PUT(w, "\r\n");
    }
}

static void put_status(struct head *w, unsigned status)
{
    const char *reason = http_reason(status);

    PUT(w, "Status: ");
    put_number(w, status);
    PUT(w, " ");
    put(w, reason, strlen(reason));
    PUT(w, "\r\n");
}

static void put_length(struct head *w, unsigned status, int64_t content_length)
{
    if (content_length < 0 || status == 204)
        return;
    PUT(w, "Content-Length: ");
    put_number(w, (uint64_t)content_length);
    PUT(w, "\r\n");
}

/* A status that ends a request: never 1xx. */
static unsigned final_status(unsigned status)
{
    return status >= 200 && status <= 999 ? status : 500;
}

static size_t fields_bytes(const struct headers *h)
{
    size_t n = 0;

    for (unsigned i = 0; i < h->n; i++)
        n += h->v[i].name.n + h->v[i].value.n + 4;
    return n;
}

/* Room for status, length, fields, the empty line and more bytes. */
static int begin_head(struct head *w, struct buf *out, const struct headers *h, size_t more)
{
    size_t n = STATUS_LINE_MAX + LENGTH_LINE_MAX + fields_bytes(h) + 2 + more;

    w->to = buf_reserve(out, n);
    w->fields = h;
    w->has_connection = headers_find(h, STR("Connection"), 0) >= 0;
    w->no_variables = false;
    return w->to ? 0 : ERR_BOUND;
}

static int end_head(struct head *w, struct buf *out)
{
    PUT(w, "\r\n");
    out->n = (size_t)(w->to - out->p);
    return 0;
}

int cgi_put_head(struct buf *out, unsigned status, const struct headers *h, int64_t content_length)
{
    struct head w;

    if (begin_head(&w, out, h, 0))
        return ERR_BOUND;
    status = final_status(status);
    put_status(&w, status);
    put_fields(&w);
    put_length(&w, status, content_length);
    return end_head(&w, out);
}

/* lighttpd drops the plain fields and keeps Variable-*: the names can be read back from these. */
#define TWIN "Variable-WEIR_HEADER_"
#define MARKER "Variable-WEIR_AUTHORIZED: "

static void put_twin(struct head *w, const struct header *field)
{
    PUT(w, TWIN);
    for (size_t i = 0; i < field->name.n; i++) {
        char c = field->name.p[i];

        if (c >= 'a' && c <= 'z')
            c = (char)(c - 32);
        *w->to++ = c == '-' ? '_' : c;
    }
    PUT(w, ": ");
    put(w, field->value.p, field->value.n);
    PUT(w, "\r\n");
}

static void put_twins(struct head *w, const struct headers *twins)
{
    bool has_connection = w->has_connection;

    w->has_connection = false; /* it speaks of the plain fields */
    w->no_variables = true;
    for (unsigned i = 0; i < twins->n; i++)
        if (may_pass(w, &twins->v[i]))
            put_twin(w, &twins->v[i]);
    w->no_variables = false;
    w->has_connection = has_connection;
}

int cgi_put_allow(struct buf *out, const struct headers *h, const struct headers *twins,
                  struct str marker)
{
    struct head w;
    size_t more = sizeof MARKER + marker.n + 2;

    if (twins)
        more += fields_bytes(twins) + twins->n * sizeof TWIN;
    if (begin_head(&w, out, h, more))
        return ERR_BOUND;
    put_status(&w, 200);
    put_fields(&w);
    if (twins)
        put_twins(&w, twins);
    if (marker.n && header_value_valid(marker)) {
        PUT(&w, MARKER);
        put(&w, marker.p, marker.n);
        PUT(&w, "\r\n");
    }
    return end_head(&w, out);
}

/* What the web server is told where it would not understand status. */
static unsigned told_status(enum cgi_deny_style style, unsigned status)
{
    switch (style) {
    case CGI_DENY_NGINX:
        return status == 401 ? 401 : 403; /* both stay as they are; 401 keeps WWW-Authenticate */
    case CGI_DENY_VARIABLE:
        /* a failure must not be let through by rules that know refusals only */
        return status < 500 ? 200 : status;
    case CGI_DENY_STATUS:
        break;
    }
    return status;
}

int cgi_put_deny(struct buf *out, enum cgi_deny_style style, unsigned status,
                 const struct headers *h, int64_t content_length)
{
    struct head w;

    if (begin_head(&w, out, h, 2 * STATUS_LINE_MAX))
        return ERR_BOUND;
    status = final_status(status);
    if (status == 200) /* every web server would take it for a yes */
        status = 403;
    put_status(&w, told_status(style, status));
    if (style == CGI_DENY_NGINX)
        PUT(&w, "X-Weir-Status: ");
    else if (style == CGI_DENY_VARIABLE)
        PUT(&w, "Variable-WEIR_STATUS: ");
    if (style != CGI_DENY_STATUS) {
        put_number(&w, status);
        PUT(&w, "\r\n");
    }
    w.no_variables = true;
    put_fields(&w);
    put_length(&w, status, content_length);
    return end_head(&w, out);
}
