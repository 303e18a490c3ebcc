/*
 * Timeouts in milliseconds of any length, at the price of a list operation
 * each: one deadline queue per length, lengths rounded up by at most 1/32 so
 * that there are few.
 */
#ifndef WEIR_PEER_TIMEOUTS_H
#define WEIR_PEER_TIMEOUTS_H

#include "base/weir.h"
#include "ev/loop.h"

struct timeouts;

/* on_expired is called for every deadline, whichever its queue. */
struct timeouts *timeouts_new(struct loop *loop, void (*on_expired)(struct deadline *d))
    __attribute__((returns_nonnull));

/* Nothing may be queued any more. */
void timeouts_free(struct timeouts *t);

/* The queue of that length; span_ms 0 or less: one that never fires. It lives as long as t. */
struct deadline_queue *timeouts_queue(struct timeouts *t, int64_t span_ms)
    __attribute__((returns_nonnull));

#endif
