/*
 * Bodies: the same bytes and the same end however they are cut; pieces lie in the input; what is
 * decoded, chunked again by us, decodes to itself. The first byte: framing and cut.
 */
#include "base/mem.h"
#include "wire/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct outcome {
    enum http1_event event;
    size_t used;
    struct buf body;
    bool ends;
};

static struct outcome decode(enum http1_framing framing, uint64_t length, const char *p, size_t n,
                             size_t step)
{
    struct outcome o = { .event = HTTP1_MORE };
    struct http1_body b;

    http1_body_init(&b, framing, length);
    while (o.event == HTTP1_MORE && o.used < n) {
        size_t part = n - o.used < step ? n - o.used : step;
        char *copy = memcpy(xmalloc(part), p + o.used, part);
        struct str in = { copy, part }, piece;

        while ((o.event = http1_body_decode(&b, &in, &piece)) == HTTP1_PIECE) {
            must(piece.n > 0 && piece.p >= copy && piece.p + piece.n <= in.p);
            must(buf_add(&o.body, piece.p, piece.n) == 0);
        }
        must(o.event != HTTP1_MORE || in.n == 0);
        o.used += part - in.n;
        free(copy);
    }
    o.ends = http1_body_ends_here(&b);
    return o;
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
    must(a->event == b->event && a->ends == b->ends && a->body.n == b->body.n);
    must(a->event != HTTP1_END || a->used == b->used);
    must(a->body.n == 0 || memcmp(a->body.p, b->body.p, a->body.n) == 0);
}

static void check_again(const struct buf *body)
{
    struct buf out = { 0 };
    struct outcome o;

    must(http1_put_chunk(&out, body->p, body->n) == 0);
    must(http1_put_last_chunk(&out) == 0);
    o = decode(HTTP1_BODY_CHUNKED, 0, out.p, out.n, 11);
    must(o.event == HTTP1_END && o.used == out.n && o.body.n == body->n);
    must(body->n == 0 || memcmp(o.body.p, body->p, body->n) == 0);
    buf_free(&out);
    buf_free(&o.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct outcome whole, cut, bytes;
    enum http1_framing framing;
    const char *p = (const char *)data + 1;

    if (n < 2)
        return 0;
    n--;
    framing = data[0] & 8 ? (enum http1_framing)(data[0] & 3) : HTTP1_BODY_CHUNKED;
    whole = decode(framing, data[0], p, n, SIZE_MAX);
    cut = decode(framing, data[0], p, n, (data[0] >> 4) + 2u);
    bytes = decode(framing, data[0], p, n, 1);
    check_same(&whole, &cut);
    check_same(&whole, &bytes);
    check_again(&whole.body);
    buf_free(&whole.body);
    buf_free(&cut.body);
    buf_free(&bytes.body);
    return 0;
}
