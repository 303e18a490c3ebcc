/*
 * Counters in a SQLite database: a store for the processes of one machine.
 */
#ifndef WEIR_STORE_SQLITE_H
#define WEIR_STORE_SQLITE_H

#include "store/backend.h"

struct loop;

/*
 * A backend (backend.h) of the database at path, which `weir migrations up` has made. Its thread
 * and the file begin with the first question. A question fails after timeout_ms.
 * Reasons do not name the file: the store's name does.
 */
struct store_backend *store_sqlite_new(struct loop *loop, const char *path, int64_t timeout_ms)
    __attribute__((returns_nonnull));

#endif
