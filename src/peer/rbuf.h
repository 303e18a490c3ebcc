/*
 * Receive buffers: borrowed from a small pool when bytes arrive and given back
 * when all are consumed, so that whoever waits or idles holds none.
 */
#ifndef WEIR_PEER_RBUF_H
#define WEIR_PEER_RBUF_H

#include "base/str.h"
#include "base/weir.h"

#define RBUF_SMALL_BYTES (16 * 1024)
#define RBUF_LARGE_BYTES (64 * 1024)

/* A buffer on loan; all zero: none. The bytes that are there are [start, end). */
struct rbuf {
    char *p;
    size_t start, end, cap_bytes;
};

struct rbuf_pool;

struct rbuf_pool *rbuf_pool_new(void) __attribute__((returns_nonnull));
void rbuf_pool_free(struct rbuf_pool *pool);

/*
 * Makes room behind the bytes, without moving any unless there is none: the
 * room is returned (0 when cap_max_bytes is reached). A buffer that is full
 * grows; want_large takes a large one when none is held.
 */
size_t rbuf_room(struct rbuf_pool *pool, struct rbuf *b, size_t cap_max_bytes, bool want_large);

/* Gives the memory back if no byte is left. */
void rbuf_settle(struct rbuf_pool *pool, struct rbuf *b);

/* Gives it back with whatever it holds. */
void rbuf_drop(struct rbuf_pool *pool, struct rbuf *b);

static inline struct str rbuf_bytes(const struct rbuf *b)
{
    return (struct str){ b->p ? b->p + b->start : NULL, b->end - b->start };
}

#endif
