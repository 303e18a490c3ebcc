/*
 * What outlives a worker without being kept anywhere: the last good values of
 * secrets, for workers that start while a vault is away. Memory of the master's
 * that has no name and is shared by fork, and by descriptor over an upgrade.
 */
#ifndef WEIR_SHM_KEEPSAKE_H
#define WEIR_SHM_KEEPSAKE_H

#include "base/err.h"
#include "base/str.h"

#define KEEPSAKE_KEY_BYTES 32 /* a digest of all that a value depends on */
#define KEEPSAKE_VALUE_MAX (1 << 20)

struct keepsake;

/* fd: that of an older master, which this takes over; -1: there is none. NULL, and e says why. */
struct keepsake *keepsake_open(int fd, struct err *e);

/* What children have inherited stays theirs. k may be NULL. */
void keepsake_close(struct keepsake *k);

/* For whoever takes over; closed at an exec otherwise. */
int keepsake_fd(const struct keepsake *k);

/* A value that is too long is not kept; where there is no room the oldest go. Waits for others. */
void keepsake_put(struct keepsake *k, const unsigned char *key, struct str value, int64_t now_ms);

void keepsake_forget(struct keepsake *k, const unsigned char *key);

/* Appends the value to out, whose owner wipes it; when it was put, or 0: there is none. */
int64_t keepsake_get(struct keepsake *k, const unsigned char *key, struct buf *out);

#endif
