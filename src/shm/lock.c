/*
 * See lock.h. The waiting has three stages, for a holder that runs (spin), that
 * waits for a processor (yield), and that is stopped or dead (sleep, and look).
 */
#include "shm/lock.h"
#include "base/clock.h"
#include <sched.h>
#include <unistd.h>

#define SPINS 200
#define YIELD_US 1000 /* then the holder's life is checked, each time */
#define SLEEP_US 200

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t holder_of(const uint64_t *lock)
{
    return __atomic_load_n(lock, __ATOMIC_RELAXED);
}

/* From the dead holder to us; fails when another waiter was faster. */
static bool steal(uint64_t *lock, uint64_t dead, uint64_t self)
{
    return __atomic_compare_exchange_n(lock, &dead, self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

bool lock_wait(uint64_t *lock, uint64_t self)
{
    int64_t check_us;

    for (int i = 0; i < SPINS; i++) {
        if (holder_of(lock) == 0 && lock_try(lock, self))
            return false;
        pause_briefly();
    }
    check_us = clock_mono_us_exact() + YIELD_US;
    for (;;) {
        uint64_t holder = holder_of(lock);

        must(holder != self);
        if (holder == 0) {
            if (lock_try(lock, self))
                return false;
        } else if (clock_mono_us_exact() < check_us) {
            sched_yield();
        } else if (owner_is_dead(holder)) {
            if (steal(lock, holder, self))
                return true;
        } else {
            usleep(SLEEP_US);
        }
    }
}
