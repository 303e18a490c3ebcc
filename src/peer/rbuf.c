/*
 * See rbuf.h. Two sizes are kept, a few of each; a head larger than the large
 * size gets memory of its own, which is not kept.
 */
#include "peer/rbuf.h"
#include "base/mem.h"
#include <stdlib.h>

#define KEEP_SMALL 64
#define KEEP_LARGE 16

struct rbuf_pool {
    char *small[KEEP_SMALL], *large[KEEP_LARGE];
    unsigned small_n, large_n;
};

struct rbuf_pool *rbuf_pool_new(void)
{
    return xcalloc(1, sizeof(struct rbuf_pool));
}

void rbuf_pool_free(struct rbuf_pool *pool)
{
    while (pool->small_n)
        free(pool->small[--pool->small_n]);
    while (pool->large_n)
        free(pool->large[--pool->large_n]);
    free(pool);
}

static char *take(struct rbuf_pool *pool, size_t cap_bytes)
{
    if (cap_bytes == RBUF_SMALL_BYTES && pool->small_n)
        return pool->small[--pool->small_n];
    if (cap_bytes == RBUF_LARGE_BYTES && pool->large_n)
        return pool->large[--pool->large_n];
    return xmalloc(cap_bytes);
}

static void give(struct rbuf_pool *pool, char *p, size_t cap_bytes)
{
    if (cap_bytes == RBUF_SMALL_BYTES && pool->small_n < KEEP_SMALL)
        pool->small[pool->small_n++] = p;
    else if (cap_bytes == RBUF_LARGE_BYTES && pool->large_n < KEEP_LARGE)
        pool->large[pool->large_n++] = p;
    else
        free(p);
}

static void grow(struct rbuf_pool *pool, struct rbuf *b, size_t cap_max_bytes)
{
    size_t cap = b->cap_bytes < RBUF_LARGE_BYTES ? RBUF_LARGE_BYTES : 2 * b->cap_bytes;
    char *p;

    if (cap > cap_max_bytes)
        cap = cap_max_bytes;
    if (cap <= b->cap_bytes)
        return;
    p = take(pool, cap);
    memcpy(p, b->p, b->end);
    give(pool, b->p, b->cap_bytes);
    b->p = p;
    b->cap_bytes = cap;
}

size_t rbuf_room(struct rbuf_pool *pool, struct rbuf *b, size_t cap_max_bytes, bool want_large)
{
    if (!b->p) {
        *b = (struct rbuf){ .cap_bytes = want_large ? RBUF_LARGE_BYTES : RBUF_SMALL_BYTES };
        b->p = take(pool, b->cap_bytes);
    }
    if (b->end == b->cap_bytes && b->start > 0) {
        memmove(b->p, b->p + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (b->end == b->cap_bytes)
        grow(pool, b, cap_max_bytes);
    return b->cap_bytes - b->end;
}

void rbuf_drop(struct rbuf_pool *pool, struct rbuf *b)
{
    if (b->p)
        give(pool, b->p, b->cap_bytes);
    *b = (struct rbuf){ 0 };
}

void rbuf_settle(struct rbuf_pool *pool, struct rbuf *b)
{
    if (b->start == b->end)
        rbuf_drop(pool, b);
}
