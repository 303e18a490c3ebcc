/*
 * See http1.h: the heads. http1_body.c has the bodies. Response heads are strict where two readers
 * could differ (RFC 9112, 6.3 and 11.2): whitespace before a colon, folded lines, lone CR,
 * Content-Length twice or beside Transfer-Encoding, codings other than chunked.
 */
#include "wire/http1.h"
#include "wire/hop.h"
#include "wire/word.h"

/* ---- requests ---- */

/* No blanks, no control characters: it stands between blanks. */
static bool is_visible(struct str s)
{
    bool valid = s.n > 0;

    for (size_t i = 0; i < s.n; i++)
        valid &= (unsigned char)s.p[i] > ' ' && s.p[i] != 0x7f;
    return valid;
}

/* Fields that the encoder writes itself, or that may not leave this host. */
static bool is_own(const struct headers *h, bool names_fields, struct str name)
{
    switch (name.n) {
    case 4:
        if (str_eq_nocase(name, STR("Host")))
            return true;
        break;
    case 5:
        if (str_eq_nocase(name, STR("Proxy")))
            return true;
        break;
    case 6:
        if (str_eq_nocase(name, STR("Expect"))) /* the web server has answered it */
            return true;
        break;
    case 14:
        if (str_eq_nocase(name, STR("Content-Length")))
            return true;
        break;
    default:
        break;
    }
    return hop_is_fixed(name) || (names_fields && hop_is_named(h, name));
}

static int check_request(const struct http1_request *r, struct err *e)
{
    if (!header_name_valid(r->method))
        return err_set(e, ERR_SYNTAX, "the method is not a token");
    if (!is_visible(r->target))
        return err_set(e, ERR_SYNTAX, "the request target holds blanks or control characters");
    if (!is_visible(r->host))
        return err_set(e, ERR_SYNTAX, "the host is empty or holds blanks or control characters");
    return 0;
}

static char *append(char *to, struct str s)
{
    return s.n ? (char *)memcpy(to, s.p, s.n) + s.n : to;
}

static char *append_field(char *to, struct str name, struct str value)
{
    to = append(to, name);
    to = append(to, STR(": "));
    to = append(to, value);
    return append(to, STR("\r\n"));
}

static char *append_framing(char *to, const struct http1_request *r)
{
    char room[U64_DIGITS];

    if (r->framing == HTTP1_BODY_CHUNKED)
        return append_field(to, STR("Transfer-Encoding"), STR("chunked"));
    if (r->framing != HTTP1_BODY_LENGTH)
        return to;
    return append_field(to, STR("Content-Length"), str_from_u64(r->content_length, room));
}

int http1_put_request(struct buf *out, const struct http1_request *r, struct err *e)
{
    const struct headers *h = r->headers;
    size_t n = r->method.n + r->target.n + r->host.n + 96;
    bool names_fields = hop_names_fields(h);
    int rc = check_request(r, e);
    char *to;

    if (rc)
        return rc;
    for (unsigned i = 0; i < h->n; i++)
        n += h->v[i].name.n + h->v[i].value.n + 4;
    to = buf_reserve(out, n);
    if (!to)
        return err_set(e, ERR_BOUND, "the request's head is longer than %zu bytes", out->max_bytes);
    to = append(to, r->method);
    to = append(to, STR(" "));
    to = append(to, r->target);
    to = append(to, STR(" HTTP/1.1\r\n"));
    to = append_field(to, STR("Host"), r->host);
    for (unsigned i = 0; i < h->n; i++)
        if (!is_own(h, names_fields, h->v[i].name))
            to = append_field(to, h->v[i].name, h->v[i].value);
    to = append_framing(to, r);
    to = append(to, STR("\r\n"));
    out->n = (size_t)(to - out->p);
    return 0;
}

/* ---- responses ---- */

/* Offset behind the empty line that ends the head at h->start, or 0. Resumes where it stopped. */
static size_t find_end(struct str in, struct http1_head *h)
{
    size_t at = h->scanned > h->start ? h->scanned : h->start;

    while (at < in.n) {
        const char *lf = memchr(in.p + at, '\n', in.n - at);
        size_t next;

        if (!lf)
            break;
        next = (size_t)(lf - in.p) + 1;
        /* The line behind this one: empty, not here yet, or another field. */
        if (next < in.n && in.p[next] == '\n')
            return next + 1;
        if (next + 1 < in.n && in.p[next] == '\r' && in.p[next + 1] == '\n')
            return next + 2;
        if (next == in.n || (next + 1 == in.n && in.p[next] == '\r')) {
            h->scanned = next - 1; /* at this line's end again */
            return 0;
        }
        at = next;
    }
    h->scanned = in.n;
    return 0;
}

/* Takes one line off *in, without its end. */
static bool next_line(struct str *in, struct str *line)
{
    const char *lf = in->n ? memchr(in->p, '\n', in->n) : NULL;
    size_t n;

    if (!lf)
        return false;
    n = (size_t)(lf - in->p);
    *line = (struct str){ in->p, n && in->p[n - 1] == '\r' ? n - 1 : n };
    in->p += n + 1;
    in->n -= n + 1;
    return true;
}

static bool bytes_are_text(const char *p, size_t n)
{
    bool valid = true;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        valid &= (c >= ' ' && c != 0x7f) || c == '\t';
    }
    return valid;
}

/* Only words with control characters are looked at byte by byte. */
static bool word_is_text(const char *p)
{
    uint64_t w = word_load(p), without_del = w ^ WORD_ALL(0x7fu);
    bool has_del = ((without_del - WORD_ALL(1u)) & ~without_del & WORD_HIGH) != 0;

    return LIKELY(!word_has_control(w) && !has_del) || bytes_are_text(p, WORD_BYTES);
}

/* No control characters but the tab; those include a CR that ends no line. */
static bool is_text(struct str s)
{
    const char *p = s.p;
    size_t n = s.n;

    if (n < WORD_BYTES)
        return bytes_are_text(p, n);
    for (; n > WORD_BYTES; p += WORD_BYTES, n -= WORD_BYTES)
        if (!word_is_text(p))
            return false;
    return word_is_text(p - (WORD_BYTES - n)); /* may overlap the one before */
}

static int parse_status_line(struct str line, struct http1_head *h, struct err *e)
{
    const char *p = line.p;
    uint64_t status;

    if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9' || p[8] != ' ')
        return err_set(e, ERR_SYNTAX, "the response does not begin with an HTTP/1 status line");
    if (str_to_u64((struct str){ p + 9, 3 }, 999, &status) || status < 100 ||
        (line.n > 12 && p[12] != ' ') || !is_text(line))
        return err_set(e, ERR_SYNTAX, "the response's status line is malformed");
    h->minor_version = (unsigned)(p[7] - '0');
    h->status = (unsigned)status;
    return 0;
}

/* The fields that decide where the response ends: nearly all others are not looked for again. */
enum {
    SEEN_LENGTH = 1,
    SEEN_CODING = 2,
    SEEN_CONNECTION = 4,
};

static unsigned what_is_seen(struct str name)
{
    switch (name.n) {
    case 10:
        return str_eq_nocase(name, STR("Connection")) ? SEEN_CONNECTION : 0;
    case 14:
        return str_eq_nocase(name, STR("Content-Length")) ? SEEN_LENGTH : 0;
    case 17:
        return str_eq_nocase(name, STR("Transfer-Encoding")) ? SEEN_CODING : 0;
    default:
        return 0;
    }
}

static int parse_field(struct str line, struct headers *h, unsigned *seen, struct arena *a,
                       struct err *e)
{
    const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
    struct str name, value;

    if (!colon)
        return err_set(e, ERR_SYNTAX, "a header line of the response has no colon");
    name = (struct str){ line.p, (size_t)(colon - line.p) };
    value = (struct str){ colon + 1, line.n - name.n - 1 };
    if (!header_name_valid(name)) /* also: folded lines, blanks before the colon */
        return err_set(e, ERR_SYNTAX, "the name of a header of the response is not a token");
    if (!is_text(value))
        return err_set(e, ERR_SYNTAX, "the response's %.*s holds control characters",
                       (int)(name.n < 64 ? name.n : 64), name.p);
    if (h->n >= HTTP1_MAX_HEADER_COUNT)
        return err_set(e, ERR_BOUND, "the response has more than %d headers",
                       HTTP1_MAX_HEADER_COUNT);
    headers_add(h, a, name, str_trim(value));
    *seen |= what_is_seen(name);
    return 0;
}

/* One Content-Length, or the same several times; it is kept once. */
static int parse_length(struct http1_head *h, struct arena *a, struct err *e)
{
    struct str name = STR("Content-Length");
    int i = headers_find(&h->headers, name, 0);
    struct str first;

    first = h->headers.v[i].value;
    if (str_to_u64(first, INT64_MAX, &h->content_length))
        return err_set(e, ERR_SYNTAX, "the response's Content-Length is not a number");
    h->has_length = true;
    for (int j = i; j >= 0; j = headers_find(&h->headers, name, (unsigned)j + 1))
        if (!str_eq(h->headers.v[j].value, first))
            return err_set(e, ERR_SYNTAX, "the response has several Content-Length");
    headers_set(&h->headers, a, name, first);
    return 0;
}

static int parse_coding(struct http1_head *h, bool *chunked, struct err *e)
{
    struct str name = STR("Transfer-Encoding");
    int i = headers_find(&h->headers, name, 0);

    *chunked = true;
    if (headers_find(&h->headers, name, (unsigned)i + 1) >= 0 ||
        !str_eq_nocase(h->headers.v[i].value, STR("chunked")))
        return err_set(e, ERR_SYNTAX, "the response's Transfer-Encoding is not chunked");
    if (h->has_length)
        return err_set(e, ERR_SYNTAX, "the response has Content-Length and Transfer-Encoding");
    if (h->minor_version == 0)
        return err_set(e, ERR_SYNTAX, "the response has Transfer-Encoding in HTTP/1.0");
    return 0;
}

/* What the server's Connection says; without it, the version. */
static bool wants_keep_alive(const struct http1_head *h)
{
    if (hop_is_named(&h->headers, STR("close")))
        return false;
    return h->minor_version > 0 || hop_is_named(&h->headers, STR("keep-alive"));
}

static int set_framing(struct http1_head *h, unsigned seen, struct arena *a, struct err *e)
{
    bool chunked = false;
    int rc = seen & SEEN_LENGTH ? parse_length(h, a, e) : 0;

    if (rc)
        return rc;
    rc = seen & SEEN_CODING ? parse_coding(h, &chunked, e) : 0;
    if (rc)
        return rc;
    if (seen & SEEN_CONNECTION && !hop_is_bounded(&h->headers))
        return err_set(e, ERR_SYNTAX, "the response's Connection names too many fields");
    h->keep_alive = seen & SEEN_CONNECTION ? wants_keep_alive(h) : h->minor_version > 0;
    if (h->to_head || h->status == 204 || h->status == 304) {
        h->framing = HTTP1_BODY_NONE;
        /* A server that announces a body with 204 may well send one. */
        if (h->status == 204 && (chunked || h->content_length > 0))
            h->keep_alive = false;
    } else if (chunked) {
        h->framing = HTTP1_BODY_CHUNKED;
    } else if (h->has_length) {
        h->framing = h->content_length ? HTTP1_BODY_LENGTH : HTTP1_BODY_NONE;
    } else {
        h->framing = HTTP1_BODY_UNTIL_CLOSE;
        h->keep_alive = false;
    }
    return 0;
}

/* One head, from h->start up to end. */
static int parse_head(struct str in, size_t end, struct http1_head *h, struct arena *a,
                      struct err *e)
{
    struct str rest = { in.p + h->start, end - h->start }, line;
    unsigned seen = 0;
    int rc;

    if (!next_line(&rest, &line))
        return err_set(e, ERR_SYNTAX, "the response is empty");
    rc = parse_status_line(line, h, e);
    if (rc || h->status < 200) /* the fields of an interim response are of no use to us */
        return rc;
    rest = arena_str(a, rest);
    while (next_line(&rest, &line) && line.n > 0) {
        rc = parse_field(line, &h->headers, &seen, a, e);
        if (rc)
            return rc;
    }
    return set_framing(h, seen, a, e);
}

/* Says early that nothing good will come, whatever follows. */
static bool may_be_http1(struct str in, const struct http1_head *h)
{
    struct str want = STR("HTTP/1.");
    size_t n = in.n - h->start;

    return n == 0 || memcmp(in.p + h->start, want.p, n < want.n ? n : want.n) == 0;
}

int http1_head_parse(struct str in, struct http1_head *h, struct arena *a, struct err *e)
{
    size_t max_bytes = h->max_bytes ? h->max_bytes : HTTP1_MAX_HEAD_BYTES, end;
    int rc;

    if (in.n > max_bytes)
        in.n = max_bytes;
    while ((end = find_end(in, h)) > 0) {
        rc = parse_head(in, end, h, a, e);
        if (rc)
            return rc;
        if (h->status >= 200)
            return (int)end;
        if (h->status == 101)
            return err_set(e, ERR_SYNTAX, "the response switches to another protocol");
        h->start = end;
    }
    if (!may_be_http1(in, h))
        return err_set(e, ERR_SYNTAX, "the response does not begin with an HTTP/1 status line");
    if (in.n == max_bytes)
        return err_set(e, ERR_BOUND, "the response's head is longer than %zu bytes", max_bytes);
    return 0;
}
