/*
 * What outlives a worker without being kept anywhere: the last good values of
 * secrets, for workers that start while a vault is away, and for those beside it,
 * which need not ask it then. Memory of the master's that has no name and is
 * shared by fork, and by descriptor over an upgrade.
 */
#ifndef WEIR_SHM_KEEPSAKE_H
#define WEIR_SHM_KEEPSAKE_H

#include "base/err.h"
#include "base/str.h"

#define KEEPSAKE_KEY_BYTES 32 /* a digest of all that a value depends on */
#define KEEPSAKE_VALUE_MAX (1 << 20)

struct keepsake;

/* What is known of a value. */
struct keepsake_mark {
    double found_s;      /* by the clock that never steps */
    double ttl_s;        /* 0: none */
    uint64_t generation; /* of the worker that has found it */
};

/*
 * fd: that of an older master, which this takes over; what has another layout is left to those who
 * still use it. -1: there is none. NULL, and e says why.
 */
struct keepsake *keepsake_open(int fd, struct err *e);

/* What children have inherited stays theirs. k may be NULL. */
void keepsake_close(struct keepsake *k);

/* For whoever takes over; closed at an exec otherwise. */
int keepsake_fd(const struct keepsake *k);

/* A value that is too long is not kept; where there is no room the oldest go. Waits for others. */
void keepsake_put(struct keepsake *k, const unsigned char *key, struct str value,
                  const struct keepsake_mark *mark);

void keepsake_forget(struct keepsake *k, const unsigned char *key);

/* Appends the value to out, which is empty and whose owner wipes it; false: there is none. */
bool keepsake_get(struct keepsake *k, const unsigned char *key, struct buf *out,
                  struct keepsake_mark *mark);

#endif
