/*
 * What the master says about itself to `weir status` and `weir reload`: a
 * small file beside the pid file, replaced in one step at each change.
 */
#ifndef WEIR_SRV_STATE_H
#define WEIR_SRV_STATE_H

#include "base/err.h"
#include "base/str.h"
#include "base/weir.h"
#include <sys/types.h>

struct state {
    pid_t pid;
    uint32_t generation;
    int64_t started_ms; /* since the epoch */
    /* A reload that begins counts begun up; done becomes its number when it ends. */
    uint64_t reloads_begun, reloads_done;
    bool reload_good;
    char reload_text[sizeof((struct err *)0)->text]; /* of the last one that is done */
    /* The same of upgrades; one that is good has another master write this. */
    uint64_t upgrades_begun, upgrades_done;
    char upgrade_text[sizeof((struct err *)0)->text]; /* why the last one failed */
    char listeners[2048];                             /* separated by commas */
    char conf_path[1024];
    /* As of the start, for those who look at the counters. */
    char prefix[1024], counter_file[1024];
    int64_t counter_memory;
    long long workers_uid; /* -1: the master's own */
};

/* Beside pid_file. Failure is an error of the disk; it is logged. */
void state_write(const struct state *s, const char *pid_file);

int state_read(struct state *out, const char *pid_file, struct err *e) MUST_CHECK;

void state_remove(const char *pid_file);

#endif
