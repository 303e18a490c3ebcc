/*
 * The files that a generation is made of, in memory as they were when it was
 * checked, so that a worker that comes back loads what the others have loaded
 * whatever has become of the files. Filled by the trial process, then sealed
 * by the master, and inherited by the workers.
 */
#ifndef WEIR_CONF_SNAPSHOT_H
#define WEIR_CONF_SNAPSHOT_H

#include "base/err.h"
#include "base/str.h"

struct snapshot;

int snapshot_new(struct snapshot **out, struct err *e) MUST_CHECK;
void snapshot_free(struct snapshot *s); /* NULL is fine */

/*
 * Adds the *.lua files in and below dir; from then on the snapshot answers for all that is below
 * it, also for what does not exist. What does not exist or cannot be read is left out. Links are
 * followed.
 */
int snapshot_add_tree(struct snapshot *s, const char *dir, struct err *e) MUST_CHECK;

/* Adds one file that lies elsewhere; nothing happens when the snapshot is sealed. */
int snapshot_add(struct snapshot *s, struct str path, struct str text, struct err *e) MUST_CHECK;

/* What is in it by now stays, in this process and those that it forks. Refuses an empty one. */
int snapshot_seal(struct snapshot *s, struct err *e) MUST_CHECK;
bool snapshot_is_sealed(const struct snapshot *s);

/* 1 and the text, good until the next snapshot_add or snapshot_free; 0 when there is no such file.
 */
int snapshot_get(struct snapshot *s, struct str path, struct str *text) MUST_CHECK;

/* Whether a path lies below a tree that was added. */
bool snapshot_covers(struct snapshot *s, struct str path) MUST_CHECK;

/*
 * Appends the names directly below dir that lead to files, each with a NUL behind it and none
 * twice. 0, or ERR_BOUND of out.
 */
int snapshot_names(struct snapshot *s, struct str dir, struct buf *out) MUST_CHECK;

#endif
