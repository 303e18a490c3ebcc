/*
 * The figures of the running instance, for `weir status` and the master's
 * heartbeat check: a line of 64 bytes for each worker, written by that worker
 * alone, one for the whole, and one for each store of counters, which all
 * workers add to. They live in the shared region.
 */
#ifndef WEIR_SHM_STATS_H
#define WEIR_SHM_STATS_H

#include "base/weir.h"
#include "shm/region.h"

enum {
    STATS_WORKERS_MAX = 512, /* two generations of 256 stand side by side while one drains */
    STATS_STORES_MAX = 64,
    STATS_STORE_NAME_BYTES = 64, /* with the NUL */
};

struct stats_worker {
    uint64_t owner; /* owner.h; 0: free */
    uint32_t generation;
    uint32_t number;      /* the worker's, from 1 */
    int64_t started_ms;   /* since the epoch */
    int64_t beat_mono_ms; /* base/clock's clock that never steps */
    uint64_t requests;    /* answered since its start */
    uint32_t in_flight;
    uint32_t connections;
    uint32_t draining; /* 1: it takes no new connections any more */
    uint32_t spare[3];
};

struct stats_instance {
    uint64_t master; /* its owner word; 0: there was never one */
    int64_t started_ms;
    uint32_t generation;
    uint32_t reloads;
    uint64_t requests_past; /* of workers that are gone */
    uint64_t forget;        /* raised by stats_forget: refusals remembered before are void */
    uint64_t stores_lock;   /* lock.h: held while a store's line is claimed */
    uint64_t spare[2];
};

/* Of one store of counters, all workers together; they add atomically. */
struct stats_store {
    char name[STATS_STORE_NAME_BYTES]; /* "redis 127.0.0.1:6379", no secret in it */
    uint64_t asked;                    /* questions of plugins */
    uint64_t merged;                   /* of them those that travelled within another one's */
    uint64_t round_trips;
    uint64_t remembered; /* refused without asking the store */
    uint64_t failed;     /* not answered by the store */
    int64_t since_ms;    /* since the epoch: the present state of the breaker; 0: from the start */
    uint32_t open;       /* 1: the store does not answer, and is not asked */
    uint32_t used;       /* 1: the line is some store's */
    int64_t bad_ms;      /* since the epoch: when a worker last found so; 0: that one has ended */
};

struct stats; /* all of it, in the region */

/* The region's figures; valid until region_close. */
struct stats *stats_attach(const struct region *r);

/*
 * A line for this process, which must be the worker itself (after fork); a line
 * of a dead one is taken over, its requests are kept. NULL when all are taken by the living.
 */
struct stats_worker *stats_claim(struct stats *s, uint32_t number, uint32_t generation) MUST_CHECK;

/* Gives the line back at a worker's orderly end. */
void stats_release(struct stats *s, struct stats_worker *w);

/* Gives back the lines of dead processes: the master's, after waitpid. */
void stats_sweep(struct stats *s);

/* Once in a turn of the loop: "I am alive". Costs a store. */
static inline void stats_beat(struct stats_worker *w, int64_t mono_ms)
{
    __atomic_store_n(&w->beat_mono_ms, mono_ms, __ATOMIC_RELAXED);
}

/*
 * The next line of a living process, from *at on (begin with 0); NULL behind
 * the last. The figures may change while they are read: read each once.
 */
const struct stats_worker *stats_next(const struct stats *s, unsigned *at) MUST_CHECK;

/* The line of the whole; written by the master. */
struct stats_instance *stats_instance(struct stats *s);

/*
 * The line of the store of this name (cut at its size), made if there is none; lines are kept as
 * long as the region. NULL when other stores have taken all.
 */
struct stats_store *stats_store_claim(struct stats *s, const char *name) MUST_CHECK;

/* The next store's line, as stats_next. */
const struct stats_store *stats_store_next(const struct stats *s, unsigned *at) MUST_CHECK;

/* Makes all workers forget the refusals that they remember; they look at stats_forgotten. */
void stats_forget(struct stats *s);

/* How often they were made to. */
static inline uint64_t stats_forgotten(const struct stats_instance *i)
{
    return __atomic_load_n(&i->forget, __ATOMIC_ACQUIRE);
}

static inline void stats_add(uint64_t *figure, uint64_t n)
{
    __atomic_fetch_add(figure, n, __ATOMIC_RELAXED);
}

/* Requests answered by all, those of workers that are gone too. */
uint64_t stats_requests(const struct stats *s);

#endif
