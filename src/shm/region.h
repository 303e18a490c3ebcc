/*
 * A named mapping that all processes of an instance share: POSIX shared memory
 * /weir-<name>, or a file when it shall outlive a reboot. It holds a header,
 * the workers' figures (stats.h) and the counters (counter.h). It outlives
 * every process; what another version or size made is replaced, and those who
 * still use the old one keep it.
 */
#ifndef WEIR_SHM_REGION_H
#define WEIR_SHM_REGION_H

#include "base/err.h"
#include "base/weir.h"
#include "shm/siphash.h"
#include <sys/types.h>

enum {
    REGION_HEADER_BYTES = 4096,
    REGION_STATS_BYTES = 64 << 10,
    REGION_MIN_BYTES = 256 << 10,
    REGION_NAME_MAX = 200,
};

struct region_options {
    const char *name; /* letters, digits, '.', '_', '-' */
    const char *file; /* NULL: POSIX shared memory */
    size_t bytes;     /* all of it; rounded up to whole pages */
    mode_t mode;      /* of a new one, e.g. 0600 */
    uid_t uid;        /* its owner, (uid_t)-1: whoever makes it */
    gid_t gid;
};

enum region_how {
    REGION_FOUND,
    REGION_CREATED,
    REGION_REPLACED, /* another version or size was there: its counts are gone; worth a log line */
};

struct region {
    char *base; /* NULL: closed */
    size_t bytes;
    struct siphash_key key; /* the same for all who share it, random */
    int64_t created_ms;
    enum region_how how;
};

/*
 * Maps the region, making it when there is none. Any number of processes may
 * call it at once. Waits for a process that is making it just now. Pages are
 * taken from the system when they are first used.
 */
int region_open(struct region *r, const struct region_options *o, struct err *e) MUST_CHECK;

/* Unmaps it here. */
void region_close(struct region *r);

/* Takes the name away; 0 also when there is none. Holders keep theirs. */
int region_unlink(const char *name, const char *file, struct err *e) MUST_CHECK;

/* Where the parts lie. */
static inline void *region_stats(const struct region *r)
{
    return r->base + REGION_HEADER_BYTES;
}

static inline void *region_counters(const struct region *r, size_t *bytes)
{
    *bytes = r->bytes - REGION_HEADER_BYTES - REGION_STATS_BYTES;
    return r->base + REGION_HEADER_BYTES + REGION_STATS_BYTES;
}

#endif
