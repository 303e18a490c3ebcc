/*
 * The worker processes, as the master sees them: started, watched, stopped,
 * started again.
 */
#ifndef WEIR_SRV_CHILDREN_H
#define WEIR_SRV_CHILDREN_H

#include "srv/master.h"

/* Starts worker number of g. */
int child_spawn(struct master *m, const struct generation *g, unsigned number,
                struct err *e) MUST_CHECK;

/* The worker with this pid; NULL when it is none. */
struct child *child_find(struct master *m, pid_t pid);

/* Its notify_fd is readable. */
void child_on_notify(struct master *m, struct child *c);

/* It has ended, with a status of waitpid; frees c. */
void child_on_exit(struct master *m, struct child *c, int status);

/* Sends sig to the workers of a generation (0: of all); SIGKILL follows after grace_ms. */
void children_stop(struct master *m, uint32_t generation, int sig, int64_t grace_ms);

/* Whether one of a generation still takes new connections. */
bool children_accept(const struct master *m, uint32_t generation) MUST_CHECK;

/* How many of a generation are ready. */
unsigned children_ready(const struct master *m, uint32_t generation) MUST_CHECK;

/* Lets all workers open their logs again. */
void children_reopen_logs(struct master *m);

/* What time brings: SIGKILL, the heartbeat check, workers that come back. */
void children_tick(struct master *m, int64_t now_ms);

/* A generation begins with a clean slate. */
void children_forget_deaths(struct master *m);

#endif
