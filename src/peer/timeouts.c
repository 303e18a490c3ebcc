/*
 * See timeouts.h. A length is written as a six-bit number times a power of
 * two; that pair is its place in a fixed table. Queues are made when first asked for and
 * stay: there cannot be more than a few hundred, and in practice there are four.
 */
#include "peer/timeouts.h"
#include "base/mem.h"
#include <stdlib.h>

#define STEPS 32 /* lengths between one power of two and the next */
#define MAX_SPAN_MS INT32_MAX
#define SLOTS (28 * STEPS)

struct timeouts {
    struct loop *loop;
    void (*on_expired)(struct deadline *d);
    struct deadline_queue *slots[SLOTS];
};

struct timeouts *timeouts_new(struct loop *loop, void (*on_expired)(struct deadline *d))
{
    struct timeouts *t = xcalloc(1, sizeof *t);

    t->loop = loop;
    t->on_expired = on_expired;
    return t;
}

void timeouts_free(struct timeouts *t)
{
    for (size_t i = 0; i < SLOTS; i++) {
        if (!t->slots[i])
            continue;
        deadline_queue_fini(t->slots[i]);
        free(t->slots[i]);
    }
    free(t);
}

/* Rounds the span up to one that has a slot, and says which. */
static size_t slot_of(int64_t *span_ms)
{
    uint32_t span = (uint32_t)*span_ms, steps;
    unsigned shift;

    if (span < STEPS)
        return span;
    shift = 26 - (unsigned)__builtin_clz(span); /* the top six bits remain */
    steps = (span >> shift) + ((span & ((1u << shift) - 1)) != 0);
    if (steps == 2 * STEPS) {
        steps = STEPS;
        shift++;
    }
    *span_ms = (int64_t)steps << shift;
    return (shift + 1) * STEPS + (steps - STEPS);
}

struct deadline_queue *timeouts_queue(struct timeouts *t, int64_t span_ms)
{
    struct deadline_queue **slot;

    if (span_ms < 0)
        span_ms = 0;
    if (span_ms > MAX_SPAN_MS)
        span_ms = MAX_SPAN_MS;
    slot = &t->slots[slot_of(&span_ms)];
    if (!*slot) {
        *slot = xcalloc(1, sizeof **slot);
        deadline_queue_init(*slot, t->loop, span_ms, t->on_expired);
    }
    return *slot;
}
