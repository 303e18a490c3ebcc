/*
 * What the specs of src/shm share: a region of the spec's own that leaves
 * nothing behind, and children that are waited for.
 */
#ifndef WEIR_SPEC_SHM_SPEC_H
#define WEIR_SPEC_SHM_SPEC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shm/region.h"

/* Opened under a name that only this process uses, and unlinked at once. */
static inline void spec_region_open(struct region *r, size_t bytes)
{
    static unsigned number;
    char name[64];
    struct region_options o = { .name = name, .bytes = bytes, .mode = 0600 };
    struct err e;

    o.uid = (uid_t)-1;
    o.gid = (gid_t)-1;
    snprintf(name, sizeof name, "spec-%d-%u", (int)getpid(), number++);
    if (region_open(r, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(region_unlink(name, NULL, &e), 0);
}

/* Zeroed memory that children share. */
static inline void *spec_share(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

/* A child that runs fn(arg) and exits with its result. A spec that dies takes it along. */
static inline pid_t spec_fork(int (*fn)(void *arg), void *arg)
{
    pid_t pid = fork();

    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(fn(arg));
    }
    return pid;
}

/* The exit status; 128 + the signal's number when one killed it. */
static inline int spec_wait(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void spec_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(spec_wait(pid), 128 + SIGKILL);
}

#endif
