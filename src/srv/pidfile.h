/*
 * The master's pid file. Its lock, not its content, says whether weir runs, so
 * that what a killed master leaves behind is never in the way. The lock belongs
 * to the open file: a new binary takes it over with the descriptor.
 */
#ifndef WEIR_SRV_PIDFILE_H
#define WEIR_SRV_PIDFILE_H

#include "base/err.h"
#include "base/weir.h"
#include <sys/types.h>

struct pidfile {
    char path[4096];
    int fd; /* -1: closed */
};

/*
 * Opens and locks path; its directory is made if only that is missing. inherited is a locked
 * descriptor from this binary's former version, or -1; it is closed if path is another file.
 */
int pidfile_open(struct pidfile *p, const char *path, int inherited, struct err *e) MUST_CHECK;

/* Writes this process's pid. */
int pidfile_write(const struct pidfile *p, struct err *e) MUST_CHECK;

/* Removes the file, if it holds this process's pid, and gives the lock back. */
void pidfile_remove(struct pidfile *p);

/* In a child: a worker must not hold the lock when its master dies. */
void pidfile_forget(struct pidfile *p);

/* Whether a master holds path; *pid is 0 while it has not yet written it. */
bool pidfile_is_held(const char *path, pid_t *pid) MUST_CHECK;

#endif
