/*
 * The counting in SQLite: what a batch of questions comes to, in one
 * transaction. For one thread that may block.
 */
#ifndef WEIR_STORE_SQLITE_TALLY_H
#define WEIR_STORE_SQLITE_TALLY_H

#include "base/err.h"
#include "store/backend.h"

struct tally;

struct tally_item {
    struct store_ask ask; /* a copy: the thread's */
    int code;             /* 0 or STORE_STALE, if the batch went well */
    char identity[STORE_IDENTITY_MAX];
};

/* The file is opened with the first batch. */
struct tally *tally_new(const char *path) __attribute__((returns_nonnull));
void tally_free(struct tally *t);

/* How long locks are waited for; see peer/sqlite.h. */
struct tally_patience {
    int64_t until_us;
    const bool *stop;
};

/* Answers all items, or none: then e says why. */
int tally_run(struct tally *t, struct tally_item *items, size_t n,
              const struct tally_patience *patience, struct err *e) MUST_CHECK;

/* What can wait until the answers are out. */
void tally_rest(struct tally *t);

#endif
