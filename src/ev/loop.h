/*
 * The event loop of a process: libevent's base, plus what happens at the end
 * of each turn: deferred calls run, the dying are freed, the clock goes stale.
 * Owns the base and everything queued on it.
 */
#ifndef WEIR_EV_LOOP_H
#define WEIR_EV_LOOP_H

#include "base/weir.h"
#include <sys/queue.h>

struct event_base;
struct evdns_base;

/* Embedded in whatever wants a call at the end of the turn. Zero it first. */
struct deferred {
    TAILQ_ENTRY(deferred) link;
    void (*fn)(struct deferred *d);
    bool queued;
};

/* Embedded in whatever is freed at the end of the turn, never before. Zero it first. */
struct dying {
    TAILQ_ENTRY(dying) link;
    void (*reap)(struct dying *d);
};

/*
 * Deadlines that all lie the same span ahead, so that adding one costs O(1)
 * and the loop needs one timer for all of them. Fires at most 1/16 of the span late.
 */
struct deadline {
    TAILQ_ENTRY(deadline) link;
    int64_t at_mono_ms;
    struct deadline_queue *queued; /* where it waits; NULL: nowhere */
};

struct deadline_queue {
    TAILQ_HEAD(deadline_list, deadline) list;
    int64_t span_ms;
    void (*on_expired)(struct deadline *d); /* d has left the queue */
    struct loop *loop;
    struct event *timer;
};

struct loop *loop_new(void) __attribute__((returns_nonnull));
void loop_free(struct loop *loop);

/* libevent's base, for those who need its own calls (evdns, bufferevents). */
struct event_base *loop_base(struct loop *loop);

/* The resolver, made at the first call. NULL when /etc/resolv.conf cannot be used. */
struct evdns_base *loop_dns(struct loop *loop);

/* Runs turns until loop_stop. */
void loop_run(struct loop *loop);

/* One turn; waits for events only if wait. For tests and for the end of a drain. */
void loop_turn(struct loop *loop, bool wait);

/* What a turn ends with: deferred calls, then what is buried goes. No events. */
void loop_end_turn(struct loop *loop);

void loop_stop(struct loop *loop);

/*
 * Runs d->fn once, at the end of this turn. A second call before that does nothing. A call that
 * defers itself again and again does so in later turns.
 */
void loop_defer(struct loop *loop, struct deferred *d, void (*fn)(struct deferred *d));

/* Forgets a deferred call. */
void loop_undefer(struct loop *loop, struct deferred *d);

/* Frees d by its reap at the end of this turn, after the deferred calls. */
void loop_bury(struct loop *loop, struct dying *d, void (*reap)(struct dying *d));

/* span_ms 0: the queue never fires and adding is free. */
void deadline_queue_init(struct deadline_queue *q, struct loop *loop, int64_t span_ms,
                         void (*on_expired)(struct deadline *d));
void deadline_queue_fini(struct deadline_queue *q);

/* Sets the deadline span_ms from now; moves it when it is queued already, there or elsewhere. */
void deadline_set(struct deadline_queue *q, struct deadline *d);

/* Takes it out of q; nothing happens when it is not in there. */
void deadline_clear(struct deadline_queue *q, struct deadline *d);

#endif
