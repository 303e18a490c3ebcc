/*
 * Requests out, responses in: heads cut at every byte, framing that two readers
 * could understand differently, bodies in every framing cut at every byte.
 */
#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;
static struct err error;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 4096);
    error = (struct err){ 0 };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static struct headers list_of(const char *const *pairs)
{
    struct headers h = { 0 };

    for (; *pairs; pairs += 2)
        headers_add(&h, &arena, str_from(pairs[0]), str_from(pairs[1]));
    return h;
}

#define LIST(...) list_of((const char *const[]){ __VA_ARGS__, NULL })

static void assert_text(struct buf *out, const char *want)
{
    assert_int_equal(buf_add(out, "", 1), 0);
    assert_string_equal(out->p, want);
    buf_free(out);
}

/* ---- requests ---- */

static void writes_a_request(void **state)
{
    struct headers h = LIST("Accept", "*/*", "X-Empty", "");
    struct http1_request r = { STR("GET"), STR("/a?b"), STR("h:81"), &h, HTTP1_BODY_NONE, 0 };
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(http1_put_request(&out, &r, &error), 0);
    assert_text(&out, "GET /a?b HTTP/1.1\r\nHost: h:81\r\nAccept: */*\r\nX-Empty: \r\n\r\n");
    r.framing = HTTP1_BODY_LENGTH;
    assert_int_equal(http1_put_request(&out, &r, &error), 0);
    assert_text(&out, "GET /a?b HTTP/1.1\r\nHost: h:81\r\nAccept: */*\r\nX-Empty: \r\n"
                      "Content-Length: 0\r\n\r\n");
    r.content_length = UINT64_MAX;
    r.headers = &(struct headers){ 0 };
    assert_int_equal(http1_put_request(&out, &r, &error), 0);
    assert_text(&out, "GET /a?b HTTP/1.1\r\nHost: h:81\r\nContent-Length: 18446744073709551615"
                      "\r\n\r\n");
    r.framing = HTTP1_BODY_CHUNKED;
    assert_int_equal(http1_put_request(&out, &r, &error), 0);
    assert_text(&out, "GET /a?b HTTP/1.1\r\nHost: h:81\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void hop_by_hop_fields_stay_here(void **state)
{
    struct headers h =
        LIST("Host", "evil", "host", "evil", "Content-Length", "7", "Transfer-Encoding", "gzip",
             "Connection", "close, X-Named", "Connection", "x-also", "X-Named", "1", "X-ALSO", "1",
             "Keep-Alive", "1", "Proxy-Connection", "x", "Proxy", "evil", "TE", "trailers",
             "Trailer", "X", "Upgrade", "h2c", "Expect", "100-continue", "X-Kept", "1");
    struct http1_request r = { STR("GET"), STR("/"), STR("h"), &h, HTTP1_BODY_NONE, 0 };
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(http1_put_request(&out, &r, &error), 0);
    assert_text(&out, "GET / HTTP/1.1\r\nHost: h\r\nX-Kept: 1\r\n\r\n");
}

static void refuses_to_write(struct http1_request r)
{
    struct buf out = { 0 };

    assert_int_equal(http1_put_request(&out, &r, &error), ERR_SYNTAX);
    assert_int_equal(out.n, 0);
    buf_free(&out);
}

static void nothing_is_smuggled_out(void **state)
{
    const struct headers none = { 0 };
    const struct http1_request good = { STR("GET"), STR("/"), STR("h"), &none, HTTP1_BODY_NONE, 0 };
    const struct str bad[] = { STR(""), STR("a b"), STR("a\r\nb"), STR("a\tb"), STR("a\0b") };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http1_request r = good;

        r.method = bad[i];
        refuses_to_write(r);
        r = good;
        r.target = bad[i];
        refuses_to_write(r);
        r = good;
        r.host = bad[i];
        refuses_to_write(r);
    }
}

static void a_head_too_long_is_said(void **state)
{
    const struct headers none = { 0 };
    struct http1_request r = { STR("GET"), STR("/"), STR("h"), &none, HTTP1_BODY_NONE, 0 };
    struct buf out = { .max_bytes = 20 };

    (void)state;
    assert_int_equal(http1_put_request(&out, &r, &error), ERR_BOUND);
    assert_int_equal(out.n, 0);
}

static void writes_chunks(void **state)
{
    char big[0x1234];
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(http1_put_chunk(&out, "hello", 5), 0);
    assert_int_equal(http1_put_chunk(&out, NULL, 0), 0);
    assert_int_equal(http1_put_chunk(&out, "0123456789abcdef", 16), 0);
    assert_int_equal(http1_put_last_chunk(&out), 0);
    assert_text(&out, "5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    memset(big, 'x', sizeof big);
    assert_int_equal(http1_put_chunk(&out, big, sizeof big), 0);
    assert_memory_equal(out.p, "1234\r\nxxx", 9);
    assert_int_equal(out.n, 6 + sizeof big + 2);
    buf_free(&out);
    out.max_bytes = 5;
    assert_int_equal(http1_put_chunk(&out, "hello", 5), ERR_BOUND);
    buf_free(&out);
}

/* ---- heads of responses ---- */

/* Parses text as it arrives, step bytes more each time, copied to memory of just that size. */
static int parse_by(const char *text, size_t n, size_t step, bool to_head, struct http1_head *h)
{
    size_t have = 0;
    int rc;

    *h = (struct http1_head){ .to_head = to_head };
    do {
        char *copy;

        have = n - have < step ? n : have + step;
        copy = memcpy(xmalloc(have), text, have);
        rc = http1_head_parse((struct str){ copy, have }, h, &arena, &error);
        free(copy);
    } while (rc == 0 && have < n);
    return rc;
}

/* As it is whole, and as it comes byte by byte: the same. */
static int parse_as(const char *text, bool to_head, struct http1_head *h)
{
    struct http1_head slow;
    int rc = parse_by(text, strlen(text), SIZE_MAX, to_head, h);
    int slow_rc = parse_by(text, strlen(text), 1, to_head, &slow);

    assert_int_equal(rc < 0, slow_rc < 0);
    if (rc <= 0)
        return rc;
    assert_int_equal(rc, slow_rc);
    assert_int_equal(h->status, slow.status);
    assert_int_equal(h->framing, slow.framing);
    assert_int_equal(h->content_length, slow.content_length);
    assert_int_equal(h->keep_alive, slow.keep_alive);
    assert_int_equal(h->headers.n, slow.headers.n);
    for (unsigned i = 0; i < h->headers.n; i++) {
        assert_true(str_eq(h->headers.v[i].name, slow.headers.v[i].name));
        assert_true(str_eq(h->headers.v[i].value, slow.headers.v[i].value));
    }
    return rc;
}

static struct http1_head parse(const char *text)
{
    struct http1_head h;

    if (parse_as(text, false, &h) != (int)strlen(text))
        fail_msg("%s: %s", text, error.text);
    return h;
}

static void reads_a_head(void **state)
{
    struct http1_head h = parse("HTTP/1.1 200 OK\r\nContent-Type:text/plain\r\nX-A: \t a b \t\r\n"
                                "X-Empty:\r\nContent-Length: 12\r\n\r\n");

    (void)state;
    assert_int_equal(h.status, 200);
    assert_int_equal(h.minor_version, 1);
    assert_int_equal(h.headers.n, 4);
    assert_true(str_eq(h.headers.v[0].name, STR("Content-Type")));
    assert_true(str_eq(h.headers.v[0].value, STR("text/plain")));
    assert_true(str_eq(h.headers.v[1].value, STR("a b")));
    assert_int_equal(h.headers.v[2].value.n, 0);
    assert_int_equal(h.framing, HTTP1_BODY_LENGTH);
    assert_int_equal(h.content_length, 12);
    assert_true(h.keep_alive);
}

static void the_body_is_not_of_the_head(void **state)
{
    const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n";
    struct http1_head h;

    (void)state;
    assert_int_equal(parse_as(text, false, &h), (int)strlen(text) - 6);
}

static void lines_may_end_with_lf(void **state)
{
    struct http1_head h = parse("HTTP/1.1 200\nA: b\r\nC: d\n\n");

    (void)state;
    assert_int_equal(h.headers.n, 2);
    assert_true(str_eq(h.headers.v[1].value, STR("d")));
    parse("HTTP/1.1 200 OK\n\r\n");
    parse("HTTP/1.1 204 \xc3\xa9\r\n\n");
}

static void interim_responses_are_skipped(void **state)
{
    struct http1_head h = parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                                "Link: </a>\r\nnonsense\r\n\r\nHTTP/1.1 201 C\r\nA: b\r\n\r\n");
    const char *only = "HTTP/1.1 100 Continue\r\n\r\nHTTP/";

    (void)state;
    assert_int_equal(h.status, 201);
    assert_int_equal(h.headers.n, 1);
    assert_int_equal(parse_as(only, false, &h), 0);
    assert_int_equal(parse_as("HTTP/1.1 101 Switching Protocols\r\n\r\n", false, &h), ERR_SYNTAX);
}

static void framing(void **state)
{
    struct http1_head h;

    (void)state;
    h = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_CHUNKED);
    assert_true(h.keep_alive);
    h = parse("HTTP/1.1 200 OK\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_UNTIL_CLOSE);
    assert_false(h.keep_alive);
    h = parse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_NONE);
    assert_true(h.has_length && h.keep_alive);
    h = parse("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_NONE);
    assert_true(h.keep_alive);
    h = parse("HTTP/1.1 204 No Content\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_NONE);
    assert_true(h.keep_alive);
    h = parse("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(h.framing, HTTP1_BODY_NONE);
    assert_false(h.keep_alive);
    assert_true(parse_as("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, &h) > 0);
    assert_int_equal(h.framing, HTTP1_BODY_NONE);
    assert_int_equal(h.content_length, 5);
    assert_true(h.keep_alive);
    assert_true(parse_as("HTTP/1.1 200 OK\r\n\r\n", true, &h) > 0);
    assert_true(h.keep_alive && !h.has_length);
    h = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n");
    assert_int_equal(h.headers.n, 1);
    h = parse("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n");
    assert_true(h.content_length == INT64_MAX);
}

static void keep_alive(void **state)
{
    (void)state;
    assert_false(parse("HTTP/1.1 204 N\r\nConnection: close\r\n\r\n").keep_alive);
    assert_false(parse("HTTP/1.1 204 N\r\nConnection: x, CLOSE\r\n\r\n").keep_alive);
    assert_false(parse("HTTP/1.1 204 N\r\nConnection: x\r\nConnection: close\r\n\r\n").keep_alive);
    assert_true(parse("HTTP/1.1 204 N\r\nConnection: closed\r\n\r\n").keep_alive);
    assert_false(parse("HTTP/1.0 204 N\r\n\r\n").keep_alive);
    assert_true(parse("HTTP/1.0 204 N\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    assert_false(parse("HTTP/1.0 204 N\r\nConnection: keep-alive, close\r\n\r\n").keep_alive);
}

static void refuses_malformed_heads(void **state)
{
    static const char *const bad[] = {
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.x 200 OK\r\n\r\n",
        "HTTP/1.11 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: c\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: c\r\n\tfolded: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \x02\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "SSH-2.0-OpenSSH",
        "HTTX",
    };
    struct http1_head h;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        error.text[0] = '\0';
        if (parse_as(bad[i], false, &h) != ERR_SYNTAX)
            fail_msg("accepted: %s", bad[i]);
        assert_true(error.text[0] != '\0');
    }
    /* NUL cannot stand in the list above */
    const char nul[] = "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n";

    assert_int_equal(parse_by(nul, sizeof nul - 1, SIZE_MAX, false, &h), ERR_SYNTAX);
}

static void heads_are_bounded(void **state)
{
    struct buf b = { 0 };
    struct http1_head h = { 0 };

    (void)state;
    assert_int_equal(buf_add(&b, "HTTP/1.1 200 OK\r\nA: ", 20), 0);
    while (b.n < HTTP1_MAX_HEAD_BYTES - 1)
        assert_int_equal(buf_add(&b, "x", 1), 0);
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), 0);
    assert_int_equal(buf_add(&b, "xxx\r\n\r\n", 7), 0);
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), ERR_BOUND);

    h = (struct http1_head){ .max_bytes = b.n };
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), b.n);
    h = (struct http1_head){ .max_bytes = b.n - 1 };
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), ERR_BOUND);

    b.n = 0;
    assert_int_equal(buf_add(&b, "HTTP/1.1 200 OK\r\n", 17), 0);
    for (int i = 0; i <= HTTP1_MAX_HEADER_COUNT; i++)
        assert_int_equal(buf_add(&b, "A: b\r\n", 6), 0);
    assert_int_equal(buf_add(&b, "\r\n", 2), 0);
    h = (struct http1_head){ 0 };
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), ERR_BOUND);

    b.n = 0; /* a server that never comes to the point */
    while (b.n < HTTP1_MAX_HEAD_BYTES)
        assert_int_equal(buf_add(&b, "HTTP/1.1 100 C\r\n\r\n", 18), 0);
    h = (struct http1_head){ 0 };
    assert_int_equal(http1_head_parse((struct str){ b.p, b.n }, &h, &arena, &error), ERR_BOUND);
    buf_free(&b);
}

/* ---- bodies ---- */

static enum http1_event decode_by(struct http1_body *b, const char *text, size_t n, size_t step,
                                  struct buf *body, size_t *used)
{
    enum http1_event event = HTTP1_MORE;

    for (*used = 0; event == HTTP1_MORE && *used < n;) {
        size_t part = n - *used < step ? n - *used : step;
        char *copy = memcpy(xmalloc(part), text + *used, part);
        struct str in = { copy, part }, piece;

        while ((event = http1_body_decode(b, &in, &piece)) == HTTP1_PIECE) {
            assert_true(piece.n > 0 && piece.p >= copy && piece.p + piece.n <= copy + part);
            assert_int_equal(buf_add(body, piece.p, piece.n), 0);
        }
        *used += part - in.n;
        free(copy);
    }
    return event;
}

static void assert_body(enum http1_framing how, uint64_t length, const char *text,
                        enum http1_event want, const char *body, size_t left)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        struct http1_body b;
        struct buf got = { 0 };
        size_t used;
        enum http1_event event;

        http1_body_init(&b, how, length);
        event = decode_by(&b, text, strlen(text), step, &got, &used);
        if (event != want)
            fail_msg("%s: event %d, step %zu", text, (int)event, step);
        if (want != HTTP1_ERROR)
            assert_int_equal(strlen(text) - used, left);
        assert_int_equal(http1_body_ends_here(&b),
                         want == HTTP1_END || how == HTTP1_BODY_UNTIL_CLOSE);
        assert_int_equal(got.n, strlen(body));
        if (got.n)
            assert_memory_equal(got.p, body, got.n);
        buf_free(&got);
    }
}

static void bodies_of_known_length(void **state)
{
    (void)state;
    assert_body(HTTP1_BODY_LENGTH, 5, "helloHTTP/1.1", HTTP1_END, "hello", 8);
    assert_body(HTTP1_BODY_LENGTH, 5, "hell", HTTP1_MORE, "hell", 0);
    assert_body(HTTP1_BODY_UNTIL_CLOSE, 0, "hello", HTTP1_MORE, "hello", 0);

    struct http1_body b;
    struct str in = STR("x"), piece;

    http1_body_init(&b, HTTP1_BODY_NONE, 0);
    assert_int_equal(http1_body_decode(&b, &in, &piece), HTTP1_END);
    http1_body_init(&b, HTTP1_BODY_LENGTH, 0);
    assert_int_equal(http1_body_decode(&b, &in, &piece), HTTP1_END);
    assert_int_equal(in.n, 1);
}

static void the_end_is_known_with_the_last_byte(void **state)
{
    struct http1_body b;
    struct str in = STR("5\r\nhello\r\n0\r\n\r\n"), piece;

    (void)state;
    http1_body_init(&b, HTTP1_BODY_CHUNKED, 0);
    assert_int_equal(http1_body_decode(&b, &in, &piece), HTTP1_PIECE);
    assert_false(http1_body_ends_here(&b));
    assert_int_equal(http1_body_decode(&b, &in, &piece), HTTP1_END);
    assert_int_equal(in.n, 0);
    in = STR_NULL;
    assert_int_equal(http1_body_decode(&b, &in, &piece), HTTP1_END);
}

static void chunked_bodies(void **state)
{
    static const char *const good[][2] = {
        { "0\r\n\r\n", "" },
        { "000\r\n\r\n", "" },
        { "5\r\nhello\r\n0\r\n\r\n", "hello" },
        { "1\r\na\r\n00000000000000A\r\n0123456789\r\n0\r\n\r\n", "a0123456789" },
        { "5;ext=\"v\";x\r\nhello\r\n0;last\r\n\r\n", "hello" },
        { "5 \t\r\nhello\r\n0\r\n\r\n", "hello" },
        { "1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n" },
        { "0\r\nTrailer: x\r\nB: y\r\n\r\n", "" },
    };
    static const char *const bad[][2] = {
        { "\r\n", "" },
        { "g\r\n", "" },
        { "-1\r\n", "" },
        { "0x5\r\nhello", "" },
        { " 5\r\nhello", "" },
        { ";x\r\n", "" },
        { "5\nhello\r\n0\r\n\r\n", "" },
        { "5\rhello\r\n0\r\n\r\n", "" },
        { "5;a\nb\r\nhello", "" },
        { "5;a\x01\r\nhello", "" },
        { "5\r\nhello\n0\r\n\r\n", "hello" },
        { "5\r\nhellohello", "hello" },
        { "5\r\nhello\r\r\n", "hello" },
        { "5\r\nhello\r\n\r\n", "hello" },
        { "0\r\nA: b\nC: d\r\n\r\n", "" },
        { "0\r\n\rX", "" },
        { "0\r\nA\rX", "" },
        { "00000000000000005\r\nhello", "" },
        { "fffffffffffffffff\r\n", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_body(HTTP1_BODY_CHUNKED, 0, good[i][0], HTTP1_END, good[i][1], 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_body(HTTP1_BODY_CHUNKED, 0, bad[i][0], HTTP1_ERROR, bad[i][1], 0);
    assert_body(HTTP1_BODY_CHUNKED, 0, "0\r\n\r\nHTTP/1.1", HTTP1_END, "", 8);
    assert_body(HTTP1_BODY_CHUNKED, 0, "ffffffffffffffff\r\nabc", HTTP1_MORE, "abc", 0);
    assert_body(HTTP1_BODY_CHUNKED, 0, "5\r\nhel", HTTP1_MORE, "hel", 0);
    assert_body(HTTP1_BODY_CHUNKED, 0, "0\r\n\r", HTTP1_MORE, "", 0);
}

/* filler bytes between a beginning and an end: accepted or not */
static enum http1_event filled(const char *begin, size_t filler, const char *end)
{
    struct buf b = { 0 }, body = { 0 };
    struct http1_body decoder;
    enum http1_event event;
    size_t used;

    assert_int_equal(buf_add(&b, begin, strlen(begin)), 0);
    while (filler--)
        assert_int_equal(buf_add(&b, "x", 1), 0);
    assert_int_equal(buf_add(&b, end, strlen(end)), 0);
    http1_body_init(&decoder, HTTP1_BODY_CHUNKED, 0);
    event = decode_by(&decoder, b.p, b.n, SIZE_MAX, &body, &used);
    buf_free(&b);
    buf_free(&body);
    return event;
}

static void what_is_skipped_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(filled("0;", 4095, "\r\n\r\n"), HTTP1_END);
    assert_int_equal(filled("0;", 5000, "\r\n\r\n"), HTTP1_ERROR);
    assert_int_equal(filled("0\r\nA: ", 8000, "\r\n\r\n"), HTTP1_END);
    assert_int_equal(filled("0\r\nA: ", 9000, "\r\n\r\n"), HTTP1_ERROR);
}

static void what_we_write_is_what_we_read(void **state)
{
    struct buf out = { 0 }, body = { 0 };
    struct http1_body b;
    char data[1000];
    size_t used;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7);
    for (size_t at = 0, n = 1; at < sizeof data; at += n, n = n * 2 < sizeof data - at ? n * 2 : 1)
        assert_int_equal(http1_put_chunk(&out, data + at, n < sizeof data - at ? n : 1), 0);
    assert_int_equal(http1_put_last_chunk(&out), 0);
    http1_body_init(&b, HTTP1_BODY_CHUNKED, 0);
    assert_int_equal(decode_by(&b, out.p, out.n, 13, &body, &used), HTTP1_END);
    assert_int_equal(body.n, sizeof data);
    assert_memory_equal(body.p, data, sizeof data);
    buf_free(&out);
    buf_free(&body);
}

#define EXAMPLE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXAMPLE(writes_a_request),
        EXAMPLE(hop_by_hop_fields_stay_here),
        EXAMPLE(nothing_is_smuggled_out),
        EXAMPLE(a_head_too_long_is_said),
        EXAMPLE(writes_chunks),
        EXAMPLE(reads_a_head),
        EXAMPLE(the_body_is_not_of_the_head),
        EXAMPLE(lines_may_end_with_lf),
        EXAMPLE(interim_responses_are_skipped),
        EXAMPLE(framing),
        EXAMPLE(keep_alive),
        EXAMPLE(refuses_malformed_heads),
        EXAMPLE(heads_are_bounded),
        EXAMPLE(bodies_of_known_length),
        EXAMPLE(the_end_is_known_with_the_last_byte),
        EXAMPLE(chunked_bodies),
        EXAMPLE(what_is_skipped_is_bounded),
        EXAMPLE(what_we_write_is_what_we_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
