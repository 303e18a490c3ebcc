/*
 * Counting with a sync_rate: requests are decided here, in the memory that all
 * workers of this machine share, and what the nodes have counted is exchanged
 * every so often. Each node tells the store its own total, and learns that of
 * the others: a message that is lost or comes twice does no harm, nothing is
 * lost while the store is away, and a store that comes back empty is filled
 * again.
 */
#ifndef WEIR_STORE_SHARE_H
#define WEIR_STORE_SHARE_H

#include "store/channel.h"

struct share;

struct share_args {
    struct loop *loop;
    struct channel *channel;
    struct counter_table *counters;
    struct siphash_key key;
    const char *node; /* STORE_NODE_BYTES digits */
    int64_t sync_ms;
};

struct share *share_new(const struct share_args *args) __attribute__((returns_nonnull));

/* Tells the store what it does not know yet; false when nothing is on its way (any more). */
bool share_exchange(struct share *s);

/* After its channel, whose end answers what is in flight. */
void share_free(struct share *s);

/*
 * As store_admit and store_peek: at once by what is known of the other nodes, unless that was
 * learnt longer ago than two exchanges take and the store answers.
 */
int share_admit(struct share *s, struct store_waiter *w, const struct store_question *q,
                int64_t cost) MUST_CHECK;
int share_peek(struct share *s, struct store_waiter *w, const struct store_question *q) MUST_CHECK;

/* amount may be negative. */
void share_charge(struct share *s, const struct store_question *q, int64_t amount);

#endif
