/*
 * See breaker.h.
 */
#include "store/breaker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "shm/stats.h"
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

/* A store that is back is known to be so within a second. */
#define FIRST_PAUSE_MS 100
#define LAST_PAUSE_MS 1000
/* One that fails again so soon after a good answer is probed no more often than before. */
#define RELAPSE_MS 10000
/* Who found that the store does not answer is dead, with its breaker open, if this long silent. */
#define SILENCE_MS 10000

struct probe {
    void (*fn)(void *arg);
    void *arg;
};

static void on_timer(int fd, short what, void *arg)
{
    struct probe *p = arg;

    (void)fd;
    (void)what;
    p->fn(p->arg);
}

void breaker_init(struct breaker *b, struct loop *loop, const char *name,
                  struct stats_store *figures, void (*probe)(void *arg), void *arg)
{
    struct probe *p = xcalloc(1, sizeof *p);

    *p = (struct probe){ probe, arg };
    *b = (struct breaker){ .name = name, .figures = figures };
    b->timer = event_new(loop_base(loop), -1, 0, on_timer, p);
    must(b->timer);
}

void breaker_leave(struct breaker *b)
{
    int64_t mine = b->bad_ms;

    /* see is_left_open; what another one has found since stays */
    if (b->open && b->figures)
        __atomic_compare_exchange_n(&b->figures->bad_ms, &mine, 0, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    b->leaving = true;
}

void breaker_fini(struct breaker *b)
{
    breaker_leave(b);
    free(event_get_callback_arg(b->timer));
    event_free(b->timer);
}

/* Whether this process is the first of the instance to see the change. */
static bool is_news(struct breaker *b, uint32_t open)
{
    uint32_t was = !open;

    if (b->leaving)
        return false;
    if (!b->figures)
        return true;
    if (!__atomic_compare_exchange_n(&b->figures->open, &was, open, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&b->figures->since_ms, clock_now_ms(), __ATOMIC_RELAXED);
    return true;
}

/* A reload with another password ends the workers that failed; those after them never do. */
static bool is_left_open(const struct breaker *b)
{
    const struct stats_store *f = b->figures;

    return f && __atomic_load_n(&f->open, __ATOMIC_RELAXED) &&
           clock_now_ms() - __atomic_load_n(&f->bad_ms, __ATOMIC_RELAXED) > SILENCE_MS;
}

void breaker_good(struct breaker *b)
{
    if (b->open) {
        b->open = false;
        b->closed_mono_ms = clock_mono_ms();
        event_del(b->timer);
    } else if (LIKELY(!is_left_open(b))) {
        return;
    }
    if (is_news(b, 0))
        log_notice("%s answers again: limits hold", b->name);
}

static unsigned next_pause(const struct breaker *b)
{
    bool relapse = clock_mono_ms() - b->closed_mono_ms < RELAPSE_MS;

    if (b->pause_ms == 0 || (!b->open && !relapse))
        return FIRST_PAUSE_MS;
    return b->pause_ms * 2 < LAST_PAUSE_MS ? b->pause_ms * 2 : LAST_PAUSE_MS;
}

void breaker_bad(struct breaker *b, const char *reason)
{
    struct timeval tv;

    b->pause_ms = next_pause(b);
    snprintf(b->reason, sizeof b->reason, "%s", reason);
    if (b->figures && !b->leaving) {
        b->bad_ms = clock_now_ms();
        __atomic_store_n(&b->figures->bad_ms, b->bad_ms, __ATOMIC_RELAXED);
    }
    if (!b->open) {
        b->open = true;
        if (is_news(b, 1))
            log_warn("%s does not answer: %s; until it does, requests pass or fail as "
                     "fault_tolerant of their plugins says",
                     b->name, reason);
        else
            log_info("%s does not answer: %s", b->name, reason);
    }
    tv = (struct timeval){ b->pause_ms / 1000, (b->pause_ms % 1000) * 1000 };
    event_add(b->timer, &tv);
}
