/*
 * The way to one store: what is asked in a turn of the loop is merged by
 * identity and sent as one batch. Keeps the store's clock, what it refused,
 * and a breaker: a store that fails is not asked again until a probe is
 * answered.
 */
#ifndef WEIR_STORE_CHANNEL_H
#define WEIR_STORE_CHANNEL_H

#include "shm/siphash.h"
#include "store/backend.h"
#include "store/store.h"

struct channel;
struct stats_instance;
struct stats_store;

struct channel_args {
    struct loop *loop;
    struct store_backend *backend;      /* the channel frees it */
    const char *name;                   /* for the log; copied */
    struct siphash_key key;             /* of the tables that strangers fill */
    struct stats_store *figures;        /* NULL: none are kept */
    const struct stats_instance *whole; /* NULL: nobody forgets from outside */
};

struct channel *channel_new(const struct channel_args *args) __attribute__((returns_nonnull));

/* This process has been told to end (breaker.h). */
void channel_leave(struct channel *c);

/* Nobody may wait any more. */
void channel_free(struct channel *c);

const char *channel_name(const struct channel *c);

/* Milliseconds since the epoch by the store's clock, as far as it is known; whoever sets this
 * machine's clock does not change it. */
int64_t channel_now_ms(const struct channel *c);

/* False while the store is known not to answer. */
bool channel_is_answering(const struct channel *c);

/* Why it does not; NULL when it does. */
const char *channel_failure(const struct channel *c);

/* See store.h. */
int channel_admit(struct channel *c, struct store_waiter *w, const struct store_question *q,
                  int64_t cost) MUST_CHECK;
int channel_peek(struct channel *c, struct store_waiter *w,
                 const struct store_question *q) MUST_CHECK;
void channel_charge(struct channel *c, const struct store_question *q, int64_t amount);

/* What is shared, and how that was answered; see share.h. */
struct channel_share {
    const struct store_question *question; /* as it is asked */
    const char *node;
    /* Fills in this node's counts in the windows of that time: once more when the store finds that
     * these are over. */
    void (*own)(void *arg, int64_t now_ms, int64_t *own);
    void (*done)(void *arg, int code, const struct store_ask *ask); /* ask: valid if code is 0 */
    void *arg;
};

/* While it answers: tells the store this node's counts and learns those of the others. done is
 * called later, once. */
void channel_share(struct channel *c, const struct channel_share *share);

#endif
