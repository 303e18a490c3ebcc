/*
 * A thread for calls that block: the loop hands it errands, it runs them one
 * after the other, and the loop hears of each when it is done, or late. An
 * errand is touched by one side at a time.
 */
#ifndef WEIR_PEER_ERRANDS_H
#define WEIR_PEER_ERRANDS_H

#include "base/weir.h"
#include "ev/loop.h"
#include <sys/queue.h>

struct errands;

enum errand_state { ERRAND_WAITS, ERRAND_RUNS, ERRAND_RAN };

/* Embedded in what is to be done; set the three functions. */
struct errand {
    void (*run)(struct errand *e); /* in the thread; it may block */
    /* In the loop, once at most: its time is over, and the thread may be at it still. */
    void (*late)(struct errand *e);
    /* In the loop, once, the last that is heard of it: run has returned, or will not be called. */
    void (*done)(struct errand *e);

    TAILQ_ENTRY(errand) link;
    struct deadline deadline;
    struct errands *home;
    enum errand_state state;
};

struct errands_args {
    struct loop *loop;
    int64_t late_ms;         /* this long after errands_add an errand is late */
    void (*rest)(void *arg); /* in the thread, when an errand was handed back: what can wait */
    void (*end)(void *arg);  /* the thread's last call; frees what belongs to it */
    void *arg;
};

/* The thread begins with the first errand, so that a fork before that is safe. */
struct errands *errands_new(const struct errands_args *args) __attribute__((returns_nonnull));

/*
 * Ends the thread after the errand that it runs, calls done for all, and frees. A thread that does
 * not come back within two seconds is left to itself, with its errand: end is called when it does.
 */
void errands_free(struct errands *es);

/* Runs e after those before it. When no thread can be made, e waits until it is late. */
void errands_add(struct errands *es, struct errand *e);

/* For run, which should return soon when it is set. Read it atomically. */
const bool *errands_stop(const struct errands *es);

#endif
