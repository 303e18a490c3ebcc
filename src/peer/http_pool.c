/*
 * See http_pool.h. While a connection idles its owner is its target, and any
 * event means its end: nobody has asked it anything.
 */
#include "peer/http_pool.h"
#include "base/mem.h"
#include <stdlib.h>

#define BUCKETS 1024

struct http_pool {
    struct http_target *buckets[BUCKETS];
    struct deadline_queue *idle;
    unsigned max_idle, max_requests;
};

struct http_pool *http_pool_new(unsigned max_idle, unsigned max_requests,
                                struct deadline_queue *idle)
{
    struct http_pool *pool = xcalloc(1, sizeof *pool);

    pool->max_idle = max_idle;
    pool->max_requests = max_requests;
    pool->idle = idle;
    return pool;
}

static unsigned bucket_of(struct str host, unsigned port)
{
    unsigned hash = 2166136261u ^ port;

    for (size_t i = 0; i < host.n; i++)
        hash = (hash ^ (unsigned char)host.p[i]) * 16777619u;
    return hash % BUCKETS;
}

struct http_target *http_target_ref(struct http_pool *pool, struct str host, unsigned port)
{
    unsigned bucket = bucket_of(host, port);
    struct http_target *t = pool->buckets[bucket];

    while (t && (t->port != port || !str_eq(t->host, host)))
        t = t->next;
    if (!t) {
        t = xcalloc(1, sizeof *t + host.n);
        memcpy(t + 1, host.p, host.n);
        t->host = (struct str){ (char *)(t + 1), host.n };
        t->port = port;
        t->pool = pool;
        TAILQ_INIT(&t->idle);
        t->bucket = bucket;
        t->next = pool->buckets[bucket];
        pool->buckets[bucket] = t;
    }
    t->refs++;
    return t;
}

static void free_if_unused(struct http_target *t)
{
    struct http_target **at = &t->pool->buckets[t->bucket];

    if (t->refs || t->idle_count)
        return;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    free(t);
}

void http_target_unref(struct http_target *t)
{
    must(t->refs > 0);
    t->refs--;
    free_if_unused(t);
}

static void unlink_idle(struct http_target *t, struct http_conn *c)
{
    TAILQ_REMOVE(&t->idle, c, link);
    t->idle_count--;
    http_conn_set_deadline(c, NULL);
}

static void drop(struct http_conn *c)
{
    struct http_target *t = c->owner;

    unlink_idle(t, c);
    http_conn_close(c);
    free_if_unused(t);
}

static const struct http_conn_events IDLE_EVENTS = {
    .on_readable = drop,
    .on_expired = drop,
};

struct http_conn *http_target_take(struct http_target *t)
{
    struct http_conn *c;

    while ((c = TAILQ_FIRST(&t->idle))) {
        unlink_idle(t, c);
        if (http_conn_is_quiet(c))
            return c;
        http_conn_close(c);
    }
    return NULL;
}

void http_target_give(struct http_target *t, struct http_conn *c)
{
    struct http_pool *pool = t->pool;

    if (t->idle_count >= pool->max_idle ||
        (pool->max_requests && c->requests >= pool->max_requests)) {
        http_conn_close(c);
        return;
    }
    c->on = &IDLE_EVENTS;
    c->owner = t;
    http_conn_want_write(c, false);
    http_conn_want_read(c, true);
    TAILQ_INSERT_HEAD(&t->idle, c, link);
    t->idle_count++;
    http_conn_set_deadline(c, pool->idle);
}

void http_pool_free(struct http_pool *pool)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        while (pool->buckets[i]) {
            must(pool->buckets[i]->refs == 0);
            drop(TAILQ_FIRST(&pool->buckets[i]->idle));
        }
    free(pool);
}
