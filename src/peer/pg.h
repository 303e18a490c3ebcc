/*
 * A connection to one PostgreSQL server, by libpq in pipeline mode: what is
 * asked in one turn of the loop leaves in one write, each query a transaction
 * of its own. Connects when something is asked; after a failure everything in
 * flight fails, and the next query connects anew. Where the server refuses the
 * password, asks once for another one before what waits fails.
 */
#ifndef WEIR_PEER_PG_H
#define WEIR_PEER_PG_H

#include "base/err.h"
#include "base/weir.h"
#include "ev/loop.h"
#include <libpq-fe.h>
#include <sys/queue.h>

struct resolver;
struct secret;
struct pg;

struct pg_settings {
    const char *host; /* a name, an address, or the directory of a unix socket */
    unsigned port;
    const char *user, *database;
    struct secret *password; /* NULL: none is sent */
    const char *schema;      /* NULL or empty: the user's search path */
    bool ssl, ssl_verify;
    const char *ca_file;     /* PEM; NULL or "system": the system's */
    int64_t timeout_ms;      /* of each query, connecting included */
    bool synchronous_commit; /* false: a crash of the server may lose its last moments */
};

#define PG_PARAMS_MAX 8

/* A prepared statement: its address is its identity, and it must outlive the connection. */
struct pg_statement {
    const char *name, *sql;
    int param_count; /* at most PG_PARAMS_MAX, none is NULL */
};

/*
 * Embedded in whoever asks; stays where it is, with its parameters, until done was called. Zero it
 * first.
 */
struct pg_query {
    const struct pg_statement *statement;
    const char *const *params; /* as text, with a NUL at the end; see lengths */
    const int *lengths;        /* not NULL: parameters and rows are in binary form */
    /*
     * Called once, never from within pg_send. code 0: result holds the rows, and is valid during
     * the call. ERR_SYSTEM with a result: the server refused the statement, and result tells the
     * SQLSTATE; nothing was done. Otherwise the connection is lost and result NULL: the statement
     * may have been carried out or not. reason: in words, without secrets.
     */
    void (*done)(struct pg_query *q, int code, const PGresult *result, const char *reason);

    /* pg's own */
    TAILQ_ENTRY(pg_query) link;
    struct pg *pg;
    struct deadline deadline; /* from pg_send on: connecting counts too */
    PGresult *result;         /* what has come of it */
    bool preparing;           /* the next result is that of the preparation */
};

/* Looked at on each new connection, before anything is asked on it. */
struct pg_check {
    const char *sql;
    /* Whether to use the connection; writes why not. result may be an error. */
    bool (*judge)(const PGresult *result, char *why, size_t n);
};

/* settings and resolver must outlive it, check too (NULL: none). Does not connect yet. */
struct pg *pg_new(struct loop *loop, struct resolver *resolver, const struct pg_settings *settings,
                  const struct pg_check *check) __attribute__((returns_nonnull));

/* What is in flight is answered ERR_CANCELLED. May be called from within done. */
void pg_free(struct pg *pg);

void pg_send(struct pg *pg, struct pg_query *q);

/* Closes the connection: what is in flight fails with this reason. Not from within done. */
void pg_reset(struct pg *pg, int code, const char *reason);

/*
 * Listens for good: connects, and connects again by itself. on_notify gets the payload of each
 * notification, and NULL whenever listening has begun: what was sent before that is missed.
 * channel holds no quotes and less than 64 bytes, and must outlive pg. Call it before pg_send.
 */
void pg_listen(struct pg *pg, const char *channel,
               void (*on_notify)(void *arg, const char *payload), void *arg);

/* Writes so far that held queries: round trips. */
uint64_t pg_write_count(const struct pg *pg);

#define PG_NAME_BYTES 256

/* "postgres 127.0.0.1:5432/weir", for the log; returns to. */
const char *pg_name(const struct pg_settings *settings, char to[PG_NAME_BYTES]);

#endif
