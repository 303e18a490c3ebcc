/*
 * Who weir runs as: the names of user and group made numbers, privileges
 * dropped in a worker, log files given to the worker's user.
 */
#ifndef WEIR_SRV_IDENTITY_H
#define WEIR_SRV_IDENTITY_H

#include "base/err.h"
#include "base/weir.h"
#include "conf/parse.h"
#include <sys/types.h>

struct identity {
    bool set; /* false: keep what the process has */
    uid_t uid;
    gid_t gid;
    char name[64];
};

/* "user", "user group" or "user:group"; the group is the user's own if it is not named. Empty: not
 * set. */
int identity_from(const char *text, struct identity *out, struct err *e) MUST_CHECK;

/* The workers' identity: that of the key user when this process is root, else none. */
int identity_of_workers(const struct conf *conf, struct identity *out, struct err *e) MUST_CHECK;

/*
 * Becomes id for good (groups, gid, uid) and forbids new privileges. Unless parent is 0: asks for
 * SIGQUIT when the parent, which has this pid, dies, and ends the process if it is dead already.
 */
int identity_assume(const struct identity *id, pid_t parent, struct err *e) MUST_CHECK;

/* Makes sure that the log files exist and that id can open them again. */
int identity_own_logs(const struct identity *id, const struct conf *conf, struct err *e) MUST_CHECK;

#endif
