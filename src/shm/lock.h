/*
 * A lock in shared memory that survives the death of its holder: one word, 0
 * or the holder's owner word. A waiter takes it from the dead, and only from
 * the dead; a holder that is stopped is waited for. Not recursive.
 */
#ifndef WEIR_SHM_LOCK_H
#define WEIR_SHM_LOCK_H

#include "base/weir.h"
#include "shm/owner.h"

/* Waits; true when it was taken from a dead holder: what it guards may be half written. */
bool lock_wait(uint64_t *lock, uint64_t self);

/* Takes a lock that is free. */
static inline bool lock_try(uint64_t *lock, uint64_t self)
{
    uint64_t nobody = 0;

    return __atomic_compare_exchange_n(lock, &nobody, self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Takes the lock, waiting for it; true when it was taken from a dead holder. */
static inline bool lock_take(uint64_t *lock)
{
    uint64_t self = owner_self();

    if (LIKELY(lock_try(lock, self)))
        return false;
    return lock_wait(lock, self);
}

static inline void lock_give(uint64_t *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif
