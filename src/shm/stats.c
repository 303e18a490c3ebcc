/*
 * See stats.h. A line belongs to whoever swings its owner word from 0, or from
 * a dead process, to itself. A store's line is nobody's: it is found by name
 * under a lock, and added to without one. Refuses nothing: figures are never in
 * the way.
 */
#include "shm/stats.h"
#include "base/clock.h"
#include "shm/lock.h"
#include "shm/owner.h"
#include <stdio.h>
#include <string.h>

struct stats {
    struct stats_instance instance;
    struct stats_worker workers[STATS_WORKERS_MAX];
    struct stats_store stores[STATS_STORES_MAX]; /* zeros in a region that an older weir made */
};

_Static_assert(sizeof(struct stats_worker) == 64, "a worker's line is a cache line");
_Static_assert(sizeof(struct stats_instance) == 64, "the instance's line is a cache line");
_Static_assert(sizeof(struct stats_store) == 128, "a store's line is two cache lines");
_Static_assert(sizeof(struct stats) <= REGION_STATS_BYTES, "the figures fit into their part");

struct stats *stats_attach(const struct region *r)
{
    return region_stats(r);
}

static uint64_t owner_of(const struct stats_worker *w)
{
    return __atomic_load_n(&w->owner, __ATOMIC_ACQUIRE);
}

/* What a worker answered counts on when it is gone. */
static void settle(struct stats *s, struct stats_worker *w)
{
    uint64_t requests = __atomic_exchange_n(&w->requests, 0, __ATOMIC_RELAXED);

    __atomic_fetch_add(&s->instance.requests_past, requests, __ATOMIC_RELAXED);
}

/* Takes a line that is free, or whose owner is dead. */
static bool take_line(struct stats *s, struct stats_worker *w)
{
    uint64_t owner = owner_of(w);

    if (owner && !owner_is_dead(owner))
        return false;
    if (!__atomic_compare_exchange_n(&w->owner, &owner, owner_self(), false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return false;
    settle(s, w);
    return true;
}

struct stats_worker *stats_claim(struct stats *s, uint32_t number, uint32_t generation)
{
    for (unsigned i = 0; i < STATS_WORKERS_MAX; i++) {
        struct stats_worker *w = &s->workers[i];

        if (!take_line(s, w))
            continue;
        w->number = number;
        w->generation = generation;
        w->in_flight = w->connections = w->draining = 0;
        w->started_ms = clock_now_ms();
        stats_beat(w, clock_mono_ms());
        return w;
    }
    return NULL;
}

void stats_release(struct stats *s, struct stats_worker *w)
{
    must(owner_of(w) == owner_self());
    settle(s, w);
    __atomic_store_n(&w->owner, 0, __ATOMIC_RELEASE);
}

void stats_sweep(struct stats *s)
{
    for (unsigned i = 0; i < STATS_WORKERS_MAX; i++) {
        struct stats_worker *w = &s->workers[i];

        if (owner_of(w) && take_line(s, w))
            stats_release(s, w);
    }
}

const struct stats_worker *stats_next(const struct stats *s, unsigned *at)
{
    while (*at < STATS_WORKERS_MAX) {
        const struct stats_worker *w = &s->workers[(*at)++];
        uint64_t owner = owner_of(w);

        if (owner && !owner_is_dead(owner))
            return w;
    }
    return NULL;
}

struct stats_instance *stats_instance(struct stats *s)
{
    return &s->instance;
}

static bool is_used(const struct stats_store *row)
{
    return __atomic_load_n(&row->used, __ATOMIC_ACQUIRE);
}

/* used is written last: a claimant that died before left a line that is free. */
static void make_row(struct stats_store *row, const char *name)
{
    *row = (struct stats_store){ 0 };
    snprintf(row->name, sizeof row->name, "%s", name);
    __atomic_store_n(&row->used, 1, __ATOMIC_RELEASE);
}

struct stats_store *stats_store_claim(struct stats *s, const char *name)
{
    struct stats_store *found = NULL;

    lock_take(&s->instance.stores_lock);
    for (unsigned i = 0; i < STATS_STORES_MAX && !found; i++) {
        struct stats_store *row = &s->stores[i];

        if (!is_used(row))
            make_row(found = row, name);
        else if (strncmp(row->name, name, sizeof row->name - 1) == 0)
            found = row;
    }
    lock_give(&s->instance.stores_lock);
    return found;
}

const struct stats_store *stats_store_next(const struct stats *s, unsigned *at)
{
    while (*at < STATS_STORES_MAX) {
        const struct stats_store *row = &s->stores[(*at)++];

        if (is_used(row))
            return row;
    }
    return NULL;
}

void stats_forget(struct stats *s)
{
    __atomic_fetch_add(&s->instance.forget, 1, __ATOMIC_RELEASE);
}

uint64_t stats_requests(const struct stats *s)
{
    uint64_t sum = __atomic_load_n(&s->instance.requests_past, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < STATS_WORKERS_MAX; i++)
        sum += __atomic_load_n(&s->workers[i].requests, __ATOMIC_RELAXED);
    return sum;
}
