/*
 * See loop.h. The order at the end of a turn matters: deferred calls may bury
 * things, and what is buried must outlive every callback of the turn.
 */
#include "ev/loop.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include <event2/dns.h>
#include <event2/event.h>
#include <stdlib.h>

TAILQ_HEAD(deferred_list, deferred);
TAILQ_HEAD(dying_list, dying);

#define MAX_ROUNDS 8 /* of deferred calls in a turn; what is left then runs in the next turn */

struct loop {
    struct event_base *base;
    struct evdns_base *dns;
    struct deferred_list deferred;
    struct deferred round_end; /* behind it is what was deferred during the round */
    struct dying_list dying;
    bool stopped;
};

/* libevent would print it to standard error: what it says of nameservers, for instance. */
static void on_message(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        log_warn("libevent: %s", text);
    else if (severity == EVENT_LOG_MSG)
        log_info("libevent: %s", text);
}

struct loop *loop_new(void)
{
    struct loop *loop = xcalloc(1, sizeof *loop);
    struct event_config *config = event_config_new();

    must(config);
    event_set_log_callback(on_message);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    must(loop->base);
    TAILQ_INIT(&loop->deferred);
    TAILQ_INIT(&loop->dying);
    return loop;
}

static void run_deferred(struct loop *loop)
{
    struct deferred *d;

    TAILQ_INSERT_TAIL(&loop->deferred, &loop->round_end, link);
    while ((d = TAILQ_FIRST(&loop->deferred)) != &loop->round_end) {
        TAILQ_REMOVE(&loop->deferred, d, link);
        d->queued = false;
        d->fn(d);
    }
    TAILQ_REMOVE(&loop->deferred, &loop->round_end, link);
}

void loop_end_turn(struct loop *loop)
{
    struct dying *x;

    /* one call leads to the next, but none keeps the loop from its events */
    for (int i = 0; i < MAX_ROUNDS && !TAILQ_EMPTY(&loop->deferred); i++)
        run_deferred(loop);
    /* a call that is left may be of one of them */
    while (TAILQ_EMPTY(&loop->deferred) && (x = TAILQ_FIRST(&loop->dying))) {
        TAILQ_REMOVE(&loop->dying, x, link);
        x->reap(x);
    }
    clock_stale();
}

void loop_free(struct loop *loop)
{
    loop_end_turn(loop);
    if (loop->dns)
        evdns_base_free(loop->dns, 0);
    event_base_free(loop->base);
    free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

struct evdns_base *loop_dns(struct loop *loop)
{
    if (!loop->dns)
        loop->dns = evdns_base_new(loop->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                                   EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    return loop->dns;
}

void loop_turn(struct loop *loop, bool wait)
{
    int flags = EVLOOP_ONCE;

    if (!wait || !TAILQ_EMPTY(&loop->deferred))
        flags |= EVLOOP_NONBLOCK;
    clock_stale(); /* what was read since the last turn is old when the wait ends */
    event_base_loop(loop->base, flags);
    loop_end_turn(loop);
}

void loop_run(struct loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped)
        loop_turn(loop, true);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
    event_base_loopbreak(loop->base);
}

void loop_defer(struct loop *loop, struct deferred *d, void (*fn)(struct deferred *d))
{
    if (d->queued)
        return;
    d->fn = fn;
    d->queued = true;
    TAILQ_INSERT_TAIL(&loop->deferred, d, link);
}

void loop_undefer(struct loop *loop, struct deferred *d)
{
    if (!d->queued)
        return;
    d->queued = false;
    TAILQ_REMOVE(&loop->deferred, d, link);
}

void loop_bury(struct loop *loop, struct dying *d, void (*reap)(struct dying *d))
{
    d->reap = reap;
    TAILQ_INSERT_TAIL(&loop->dying, d, link);
}

static void arm(struct deadline_queue *q)
{
    struct deadline *first = TAILQ_FIRST(&q->list);
    int64_t wait_ms;
    struct timeval tv;

    if (!first || event_pending(q->timer, EV_TIMEOUT, NULL))
        return;
    wait_ms = first->at_mono_ms - clock_mono_ms();
    /* coarse, so that one firing serves many */
    if (wait_ms < q->span_ms / 16)
        wait_ms = q->span_ms / 16;
    if (wait_ms < 1)
        wait_ms = 1;
    tv.tv_sec = wait_ms / 1000;
    tv.tv_usec = (wait_ms % 1000) * 1000;
    event_add(q->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct deadline_queue *q = arg;
    struct deadline *d;

    (void)fd;
    (void)what;
    while ((d = TAILQ_FIRST(&q->list)) && d->at_mono_ms <= clock_mono_ms()) {
        deadline_clear(q, d);
        q->on_expired(d);
    }
    arm(q);
}

void deadline_queue_init(struct deadline_queue *q, struct loop *loop, int64_t span_ms,
                         void (*on_expired)(struct deadline *d))
{
    *q = (struct deadline_queue){ .span_ms = span_ms, .on_expired = on_expired, .loop = loop };
    TAILQ_INIT(&q->list);
    q->timer = event_new(loop->base, -1, 0, on_timer, q);
    must(q->timer);
}

void deadline_queue_fini(struct deadline_queue *q)
{
    event_free(q->timer);
    q->timer = NULL;
}

void deadline_set(struct deadline_queue *q, struct deadline *d)
{
    if (d->queued)
        deadline_clear(d->queued, d);
    if (q->span_ms == 0)
        return;
    d->at_mono_ms = clock_mono_ms() + q->span_ms;
    d->queued = q;
    TAILQ_INSERT_TAIL(&q->list, d, link);
    arm(q);
}

void deadline_clear(struct deadline_queue *q, struct deadline *d)
{
    if (d->queued != q)
        return;
    d->queued = NULL;
    TAILQ_REMOVE(&q->list, d, link);
}
