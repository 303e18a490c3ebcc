/*
 * Idle connections, kept per upstream (host and port as configured, not as
 * resolved). One that becomes readable, is closed by the other side or idles
 * too long is dropped.
 */
#ifndef WEIR_PEER_HTTP_POOL_H
#define WEIR_PEER_HTTP_POOL_H

#include "base/str.h"
#include "base/weir.h"
#include "peer/http_conn.h"

struct http_pool;

/* What has a place in the pool. Lives while it has idle connections or references. */
struct http_target {
    struct http_target *next; /* in the bucket */
    struct http_pool *pool;
    TAILQ_HEAD(http_conns, http_conn) idle; /* the last given first */
    unsigned idle_count, refs, bucket, port;
    struct str host;
};

/* idle: the queue of the idle timeout; max_idle: connections of one target. */
struct http_pool *http_pool_new(unsigned max_idle, unsigned max_requests,
                                struct deadline_queue *idle) __attribute__((returns_nonnull));

/* Closes what is idle. No reference to a target may be left. */
void http_pool_free(struct http_pool *pool);

/* A reference; to be given back by http_target_unref. */
struct http_target *http_target_ref(struct http_pool *pool, struct str host, unsigned port)
    __attribute__((returns_nonnull));
void http_target_unref(struct http_target *t);

/*
 * The connection that was given last, or NULL. The caller sets its owner and events. Those on
 * which something came that nobody asked for are closed: it must not be taken for an answer.
 */
struct http_conn *http_target_take(struct http_target *t);

/* Keeps the connection for the next exchange, or closes it. */
void http_target_give(struct http_target *t, struct http_conn *c);

#endif
