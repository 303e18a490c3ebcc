/*
 * See clock.h.
 */
#include "base/clock.h"
#include <time.h>

/* Each thread has turns of its own. */
static _Thread_local struct {
    bool fresh;
    int64_t now_us, mono_us;
} the_clock;

static int64_t read_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void refresh(void)
{
    if (LIKELY(the_clock.fresh))
        return;
    the_clock.now_us = read_us(CLOCK_REALTIME);
    the_clock.mono_us = read_us(CLOCK_MONOTONIC);
    the_clock.fresh = true;
}

int64_t clock_now_ms(void)
{
    refresh();
    return the_clock.now_us / 1000;
}

int64_t clock_now_us(void)
{
    refresh();
    return the_clock.now_us;
}

int64_t clock_mono_ms(void)
{
    refresh();
    return the_clock.mono_us / 1000;
}

int64_t clock_mono_us_exact(void)
{
    return read_us(CLOCK_MONOTONIC);
}

void clock_stale(void)
{
    the_clock.fresh = false;
}
