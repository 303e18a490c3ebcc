/*
 * From settings to a connection that libpq has made, without waiting: the
 * name's addresses are tried one after the other.
 */
#ifndef WEIR_PEER_PG_DIAL_H
#define WEIR_PEER_PG_DIAL_H

#include "peer/pg.h"
#include "peer/resolve.h"

struct event;

struct pg_dial {
    struct loop *loop;
    struct resolver *resolver;
    const struct pg_settings *settings;
    /* Called once for a start, maybe from within; conn is the callee's. NULL: reason says why. */
    void (*done)(struct pg_dial *d, PGconn *conn, const char *reason);

    /* its own */
    PGconn *conn;
    struct event *ready; /* for PQconnectPoll */
    struct resolve_wait resolving;
    struct resolve_turn turn;
    unsigned address_count;
    bool refused;     /* a server does not know the user, or another password of that */
    unsigned version; /* of the password that was used */
};

void pg_dial_start(struct pg_dial *d);

/* done is not called any more. Harmless when nothing was started. */
void pg_dial_stop(struct pg_dial *d);

#endif
