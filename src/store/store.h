/*
 * The counters that requests are limited by: admit, charge and peek over
 * windows, in this machine's shared memory, in Redis, PostgreSQL or SQLite.
 * The core merges what is asked in one turn, remembers refusals, exchanges
 * differences every sync_rate seconds, and stops asking a store that fails.
 */
#ifndef WEIR_STORE_STORE_H
#define WEIR_STORE_STORE_H

#include "base/err.h"
#include "base/str.h"
#include "ev/op.h"
#include "shm/counter.h"
#include "shm/siphash.h"
#include <sys/queue.h>

struct conf;
struct counter_table;
struct loop;
struct stats;
struct store;  /* a connection's worth of settings with a sync_rate */
struct stores; /* all of this process */

struct stores_args {
    struct loop *loop;
    const struct conf *conf;
    struct counter_table *counters; /* of sync_rate > 0 */
    struct stats *stats;            /* NULL: no figures are kept */
    struct siphash_key key; /* the region's; names this machine's counts among the others' */
};

struct stores *stores_new(const struct stores_args *args) __attribute__((returns_nonnull));

/* This process has been told to end: whether stores answer is what those after it find. */
void stores_leave(struct stores *s);

/* Nobody may wait any more. With counts to exchange it runs the loop, half a second at most. */
void stores_free(struct stores *s);

/*
 * The store that these settings name; the same settings give the same one. kind: "redis", or
 * "cluster" (PostgreSQL or SQLite as weir.conf says). settings: "name=value" texts, each with a
 * NUL behind it, in the names of a plugin's config.redis, lists separated by commas; what is
 * missing comes from weir.conf. sync_ms 0: each question goes to the store. Valid as long as s.
 * Negative, and e says why, when the settings name no store.
 */
int stores_open(struct stores *s, struct str kind, struct str settings, int64_t sync_ms,
                struct store **out, struct err *e) MUST_CHECK;

/* "redis 127.0.0.1:6379": no secret in it. */
const char *store_name(const struct store *s);

/* Why it does not answer, until its next failure; NULL when it does. */
const char *store_failure(const struct store *s);

/* What is counted: all n windows of one identity. */
struct store_question {
    struct str identity;
    const struct counter_window *windows;
    unsigned n; /* 1 to COUNTER_WINDOWS_MAX */
    bool sliding;
};

struct store_group; /* questions that travel as one */
struct share_wait;  /* one that waits for an exchange */

/* Embedded in whoever waits for an answer. Zero it first; it may be used again. */
struct store_waiter {
    struct op op; /* done when the answer is there; may be cancelled */
    TAILQ_ENTRY(store_waiter) link;
    struct store_group *group;
    struct share_wait *share;
    int code; /* 1 admitted or 0 refused (peek: 0); negative: an err_code, the store does not answer
               */
    struct counter_use use[COUNTER_WINDOWS_MAX]; /* before this question */
    int64_t counted_before; /* the asker's own: what an earlier call for the same has counted */
};

/* What admit and peek return when the answer comes later: w->op is pending. */
enum { STORE_WAIT = -101 };

/*
 * admit as counter_admit, by the store's clock: 1 or 0 with w->use filled in, an err_code (the
 * store is known not to answer), or STORE_WAIT. cost is at least 1. What q holds is copied.
 */
int store_admit(struct store *s, struct store_waiter *w, const struct store_question *q,
                int64_t cost) MUST_CHECK;

/* 0 with w->use filled in, an err_code or STORE_WAIT. */
int store_peek(struct store *s, struct store_waiter *w, const struct store_question *q) MUST_CHECK;

/*
 * Counts without waiting for it. What a store that does not answer misses is lost, but for
 * sync_ms > 0. A negative amount forgets the refusals that are remembered of the identity.
 */
void store_charge(struct store *s, const struct store_question *q, int64_t amount);

#endif
