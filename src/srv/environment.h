/*
 * The environment of a command, handed to a master that runs a new binary in it:
 * how the secrets and the settings that come by the environment change without
 * an outage. It goes through a FIFO beside the pid file, so that it is written
 * nowhere, and needs no right to look into other processes.
 */
#ifndef WEIR_SRV_ENVIRONMENT_H
#define WEIR_SRV_ENVIRONMENT_H

#include "base/err.h"
#include "base/str.h"
#include <sys/types.h>

struct environment {
    struct buf text; /* wiped at the end */
    char **vars;     /* for execve; ends with NULL */
};

/* ---- the command */

/* Makes the FIFO, for a master of the user uid. */
int environment_offer(const char *pid_file, uid_t uid, struct err *e) MUST_CHECK;

/* This process's environment, once the master reads: it is waited for. Removes the FIFO. */
int environment_send(const char *pid_file, struct err *e) MUST_CHECK;

/* ---- the master */

/*
 * Takes over what a command offers, but for the variables that belong to this process: those of
 * the service manager, and those that an upgrade hands over. Waits for it.
 */
int environment_take(struct environment *out, const char *pid_file, struct err *e) MUST_CHECK;

void environment_free(struct environment *env);

#endif
