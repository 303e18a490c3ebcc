/*
 * Counters in PostgreSQL: a row for each identity holds all of its windows, a
 * batch of questions is one statement, the server's clock decides.
 */
#ifndef WEIR_STORE_PG_H
#define WEIR_STORE_PG_H

#include "peer/pg.h"
#include "store/backend.h"

struct resolver;

/* The number of the last migration, by which a connection is judged. */
#define STORE_PG_VERSION_SQL "SELECT coalesce(max(version), 0) FROM weir_migrations"

/* settings must outlive it. Connects when something is asked. */
struct store_backend *store_pg_new(struct loop *loop, struct resolver *resolver,
                                   const struct pg_settings *settings)
    __attribute__((returns_nonnull));

#endif
