/*
 * Who holds something in shared memory: a word of 64 bits that names one
 * process for ever, its pid and its birth, so that a pid used again, or a file
 * kept over a reboot, is not taken for the holder. The processes that share a
 * region must see each other's pids (one pid namespace).
 */
#ifndef WEIR_SHM_OWNER_H
#define WEIR_SHM_OWNER_H

#include "base/weir.h"
#include <sys/types.h>

/* This process. Never 0. Costs a look into /proc at the first call and after each fork(). */
uint64_t owner_self(void);

pid_t owner_pid(uint64_t owner);

/* True only when it is certain. One that is stopped, or cannot be seen, is alive. */
bool owner_is_dead(uint64_t owner);

#endif
