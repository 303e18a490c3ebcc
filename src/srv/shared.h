/*
 * What all processes of an instance share: the region with its counters and
 * figures, one per prefix on a machine, unless counter_file names a file; and what
 * one master's workers leave to each other.
 */
#ifndef WEIR_SRV_SHARED_H
#define WEIR_SRV_SHARED_H

#include "base/err.h"
#include "base/weir.h"
#include "shm/counter.h"
#include "shm/region.h"
#include "shm/stats.h"
#include "srv/identity.h"

struct shared {
    char name[REGION_NAME_MAX];
    bool is_file; /* counter_file: kept at a stop */
    struct region region;
    struct stats *stats;
    struct counter_table *counters;
    struct keepsake *keepsake; /* the master's; NULL: nothing outlives a worker */
};

/* What the region is made from. */
struct shared_options {
    const char *prefix, *counter_file;
    int64_t counter_memory;
};

/* Maps the region, making it for the workers' user if there is none. */
int shared_open(struct shared *s, const struct shared_options *o, const struct identity *workers,
                struct err *e) MUST_CHECK;
void shared_close(struct shared *s);

/* Forgets the counters at a clean stop; keeps a counter_file. Failure is logged. */
void shared_unlink(const struct shared *s);

#endif
