/*
 * THE table: how often each identity was seen in each window, shared by all
 * processes. admit, charge and peek look at all windows of one identity under
 * one lock, so that a request is counted in all of them or in none. A process
 * may die at any instruction: what it held is taken over, what it half wrote is
 * undone. The memory is bounded; when a set of 16 slots is full, the slot whose
 * worth ends first makes room, and a gauge says so.
 */
#ifndef WEIR_SHM_COUNTER_H
#define WEIR_SHM_COUNTER_H

#include "base/calendar.h"
#include "base/err.h"
#include "base/str.h"
#include "base/weir.h"
#include "shm/region.h"

#define COUNTER_WINDOWS_MAX 8
#define COUNTER_COUNT_MAX ((INT64_C(1) << 42) - 1)              /* counts stop here */
#define COUNTER_SIZE_MAX_MS (INT64_C(100) * 366 * 86400 * 1000) /* a hundred years */

struct counter_window {
    int64_t what; /* PERIOD_SECOND to PERIOD_YEAR, or minus the size in milliseconds */
    double limit; /* only admit looks at it */
};

struct counter_use {
    double used;      /* before this call; sliding: with what still weighs of the previous window */
    double previous;  /* sliding: the count of the previous window, all of it; else 0 */
    int64_t reset_ms; /* to the end of the window */
};

/* Of the whole table, all processes together, since it was made. */
struct counter_gauges {
    uint64_t slots;      /* there are */
    uint64_t slots_used; /* were ever taken; the memory in use is about 36 bytes for each */
    uint64_t evicted;    /* lost their count while it still mattered: counter_memory is too small */
    uint64_t lock_steals; /* holders that died in the middle */
};

struct counter_table; /* this process's view of the table */

/* The region's table. The region must stay open as long. */
struct counter_table *counter_open(const struct region *r) __attribute__((returns_nonnull));
void counter_close(struct counter_table *t);

/* Whether a window's `what` can be counted; the calls below die on one that cannot. */
bool counter_what_is_good(int64_t what);

/*
 * Admits and charges in all n windows, or in none: 1 if in each of them
 * used + cost <= limit, else 0 with nothing changed. use (n of them) is filled
 * in both cases. n is at most COUNTER_WINDOWS_MAX; a window that is given twice is
 * charged once. fixed and sliding counts of one identity are apart.
 *
 * A caller whose clock is behind a slot's, by less than a window or ten seconds,
 * is counted in the slot's window; a slot that lies further ahead was made by
 * a wrong clock and begins anew.
 */
int counter_admit(struct counter_table *t, struct str identity, const struct counter_window *w,
                  unsigned n, bool sliding, int64_t cost, int64_t now_ms,
                  struct counter_use *use) MUST_CHECK;

/* Adds amount, whatever the limits; it may be negative, a count never falls below 0. */
void counter_charge(struct counter_table *t, struct str identity, const struct counter_window *w,
                    unsigned n, bool sliding, int64_t amount, int64_t now_ms);

void counter_peek(struct counter_table *t, struct str identity, const struct counter_window *w,
                  unsigned n, bool sliding, int64_t now_ms, struct counter_use *use);

struct counter_gauges counter_get_gauges(const struct counter_table *t);

#endif
