/*
 * Whether a store is asked at all. Open after a failure; then a probe goes
 * out now and then, and the first good answer closes it. One line in the log
 * for each change, whichever of the instance's workers sees it first; what
 * workers that are gone have left open, those that live close.
 */
#ifndef WEIR_STORE_BREAKER_H
#define WEIR_STORE_BREAKER_H

#include "base/weir.h"

struct event;
struct stats_store;

struct breaker {
    bool open, leaving;
    unsigned pause_ms; /* until the next probe; 0: there was none yet */
    int64_t closed_mono_ms;
    int64_t bad_ms; /* as it was told to figures */
    const char *name;
    struct stats_store *figures; /* NULL: none */
    struct event *timer;
    char reason[300]; /* of the last failure, cut at its end */
};

/* probe(arg) is called while the breaker is open: ask the store, and tell the outcome. */
void breaker_init(struct breaker *b, struct loop *loop, const char *name,
                  struct stats_store *figures, void (*probe)(void *arg), void *arg);
void breaker_fini(struct breaker *b);

/*
 * This worker has been told to end: what it finds from here on is not what others are told. Those
 * after it may have another password.
 */
void breaker_leave(struct breaker *b);

/* The store has answered. */
void breaker_good(struct breaker *b);

/* The store has failed; reason in words. Sets the time of the next probe. */
void breaker_bad(struct breaker *b, const char *reason);

#endif
