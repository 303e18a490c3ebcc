/*
 * Response heads: the same verdict and fields whether they come whole or in pieces, nothing that
 * could not be sent on, framing without ambiguity; and what their Connection fields name. The
 * first byte: how they are cut, HEAD or not.
 */
#include "wire/hop.h"
#include "wire/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int parse(const char *p, size_t n, size_t step, struct http1_head *h, struct arena *a)
{
    size_t have = 0;
    struct err e = { 0 };
    int rc;

    do {
        char *copy;

        have = n - have < step ? n : have + step;
        copy = memcpy(xmalloc(have), p, have);
        rc = http1_head_parse((struct str){ copy, have }, h, a, &e);
        free(copy);
        must(rc <= (int)have);
        must(rc >= 0 || (e.code == rc && e.text[0]));
    } while (rc == 0 && have < n);
    return rc;
}

static void check_same(const struct http1_head *a, const struct http1_head *b)
{
    must(a->status == b->status && a->minor_version == b->minor_version);
    must(a->framing == b->framing && a->keep_alive == b->keep_alive);
    must(a->content_length == b->content_length && a->has_length == b->has_length);
    must(a->headers.n == b->headers.n);
    for (unsigned i = 0; i < a->headers.n; i++) {
        must(str_eq(a->headers.v[i].name, b->headers.v[i].name));
        must(str_eq(a->headers.v[i].value, b->headers.v[i].value));
    }
}

static void check_good(const struct http1_head *h)
{
    struct str length = STR("Content-Length"), coding = STR("Transfer-Encoding");
    int i = headers_find(&h->headers, length, 0);

    must(h->status >= 200 && h->status <= 999);
    must(h->headers.n <= HTTP1_MAX_HEADER_COUNT);
    must(h->has_length == (i >= 0));
    must(i < 0 || headers_find(&h->headers, length, (unsigned)i + 1) < 0);
    must(!h->has_length || headers_find(&h->headers, coding, 0) < 0);
    must(!h->to_head || h->framing == HTTP1_BODY_NONE);
    must(h->framing != HTTP1_BODY_UNTIL_CLOSE || !h->keep_alive);
    must(h->framing != HTTP1_BODY_LENGTH || h->content_length > 0);
    for (unsigned k = 0; k < h->headers.n; k++) {
        must(header_name_valid(h->headers.v[k].name));
        must(header_value_valid(h->headers.v[k].value));
    }
}

/* Whoever goes through the lists learns what hop_is_named and the others say. */
static void check_hops(const struct headers *h)
{
    unsigned named = 0;
    bool others = false;

    for (unsigned i = 0; i < h->n; i++) {
        struct str list = h->v[i].value, element;

        if (!str_eq_nocase(h->v[i].name, STR("Connection")))
            continue;
        while (hop_list_next(&list, &element)) {
            must(element.n > 0 && !memchr(element.p, ',', element.n));
            must(named >= HOP_MAX_NAMED || hop_is_named(h, element));
            others |=
                !str_eq_nocase(element, STR("close")) && !str_eq_nocase(element, STR("Keep-Alive"));
            named++;
        }
        must(list.n == 0 && hop_is_fixed(h->v[i].name));
    }
    must(hop_is_bounded(h) == (named <= HOP_MAX_NAMED));
    must(hop_names_fields(h) == others);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct http1_head whole = { 0 }, cut = { 0 };
    struct arena arena;
    const char *p = (const char *)data + 1;
    int rc, cut_rc;

    if (n < 2)
        return 0;
    n--;
    whole.to_head = cut.to_head = data[0] & 1;
    arena_init(&arena, 256);
    rc = parse(p, n, SIZE_MAX, &whole, &arena);
    cut_rc = parse(p, n, (data[0] >> 1) + 1u, &cut, &arena);
    must((rc < 0) == (cut_rc < 0));
    if (rc >= 0)
        must(rc == cut_rc);
    if (rc > 0) {
        check_same(&whole, &cut);
        check_good(&whole);
        check_hops(&whole.headers);
    }
    arena_fini(&arena);
    return 0;
}
