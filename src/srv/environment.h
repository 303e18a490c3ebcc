/*
 * The environment of another process, to run a new binary in: how the secrets
 * and the settings that come by the environment change without an outage.
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

/*
 * Takes over what the process pid of the user uid was started with, but for the variables that
 * belong to this process: those of the service manager, and those that an upgrade hands over.
 */
int environment_take(struct environment *out, pid_t pid, uid_t uid, struct err *e) MUST_CHECK;

void environment_free(struct environment *env);

#endif
