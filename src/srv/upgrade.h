/*
 * SIGUSR2: a new binary takes over sockets, pid file and counters from the
 * running one. Whichever fails, the other goes on.
 */
#ifndef WEIR_SRV_UPGRADE_H
#define WEIR_SRV_UPGRADE_H

#include "srv/master.h"

/* What an older master has left in the environment and in open descriptors. */
struct inherited {
    pid_t old_master; /* 0: nothing is inherited */
    int pid_fd;       /* locked; -1: none */
    int report_fd;    /* for notify_*: the old master hears how the start goes; -1: none */
    int keepsake_fd;  /* of shm/keepsake.h; -1: none */
    uint32_t generation;
    struct listeners listeners;
};

/* sigqueue sends this with SIGUSR2 when the new binary is to run in the sender's environment. */
#define UPGRADE_WITH_ENVIRONMENT 0x77656972 /* "weir" */

/* Whether an older master has started this process. */
bool upgrade_is_inherited(void);

/* Reads what is inherited and takes it out of the environment. */
int upgrade_inherit(struct inherited *out, struct err *e) MUST_CHECK;

/* Starts the new binary: in this process's environment, or in the one that a command offers. */
void upgrade_begin(struct master *m, bool with_environment);

/* In the new master, when its workers are ready: the old one may go. */
void upgrade_finish(struct master *m);

/* SIGQUIT came from the new master: it has taken over, and the caller stops this one. */
void upgrade_hand_over(struct master *m);

/* Ends a new binary that has not taken over, because this master stops; SIGKILL after grace_ms. */
void upgrade_stop(struct master *m, int sig, int64_t grace_ms);

/* The new binary has ended before it took over. */
void upgrade_on_exit(struct master *m, int status);

/* Ends a new binary that does not get ready. */
void upgrade_tick(struct master *m, int64_t now_ms);

#endif
