/*
 * See pg_dial.h. libpq closes and opens sockets as it likes while it connects,
 * so each step gets an event of its own, gone before libpq goes on.
 */
#include "peer/pg_dial.h"
#include "base/log.h"
#include "base/secret.h"
#include "peer/pg_params.h"
#include <arpa/inet.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#define REASON_BYTES 300

static void drop_event(struct pg_dial *d)
{
    if (d->ready)
        event_free(d->ready);
    d->ready = NULL;
}

void pg_dial_stop(struct pg_dial *d)
{
    resolver_forget(&d->resolving);
    drop_event(d);
    if (d->conn)
        PQfinish(d->conn);
    d->conn = NULL;
}

static void connect_next(struct pg_dial *d);

static void end(struct pg_dial *d, const char *reason)
{
    PGconn *conn = d->conn;

    d->conn = NULL;
    d->done(d, conn, reason);
}

/*
 * Where the server's SQLSTATE stands in "... failed: FATAL:  28P01: password authentication ...";
 * NULL: it is not the server who speaks. libpq tells of it in no other way while it connects.
 */
static char *find_state(char *text)
{
    static const char FIGURES[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (char *at = text; (at = strstr(at, ":  ")); at++)
        if (strspn(at + 3, FIGURES) == 5 && strncmp(at + 8, ": ", 2) == 0)
            return at + 3;
    return NULL;
}

/* libpq's words, which name the state and places in its source, as they are without. */
static void take_words(struct pg_dial *d, char *to, size_t n)
{
    char text[REASON_BYTES], *state;

    snprintf(text, sizeof text, "%s", d->conn ? PQerrorMessage(d->conn) : "out of memory");
    state = find_state(text);
    if (state) {
        d->refused |= strncmp(state, "28P01", 5) == 0 || strncmp(state, "28000", 5) == 0;
        state[strcspn(state, "\n")] = '\0';
        memmove(state, state + 7, strlen(state + 7) + 1);
    }
    pg_one_line(text, to, n);
}

/* Another address may do better. */
static void fail(struct pg_dial *d)
{
    char reason[REASON_BYTES];

    take_words(d, reason, sizeof reason);
    pg_dial_stop(d);
    if (d->turn.nth < d->address_count)
        connect_next(d);
    else
        end(d, reason);
}

static void on_ready(evutil_socket_t fd, short what, void *arg);

static void wait_for(struct pg_dial *d, short what)
{
    d->ready = event_new(loop_base(d->loop), PQsocket(d->conn), what, on_ready, d);
    must(d->ready);
    event_add(d->ready, NULL);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct pg_dial *d = arg;

    (void)fd;
    (void)what;
    drop_event(d);
    switch (PQconnectPoll(d->conn)) {
    case PGRES_POLLING_READING:
        wait_for(d, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        wait_for(d, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        PQsetErrorVerbosity(d->conn, PQERRORS_TERSE);
        end(d, NULL);
        break;
    default:
        fail(d);
    }
}

static void on_notice(void *arg, const char *text)
{
    char line[REASON_BYTES];

    (void)arg;
    log_info("postgres: %s", pg_one_line(text, line, sizeof line));
}

static void connect_to(struct pg_dial *d, const char *hostaddr)
{
    struct pg_params params;
    struct err e;

    if (pg_params_fill(&params, d->settings, hostaddr, &e) != 0) {
        end(d, e.text);
        return;
    }
    d->conn = PQconnectStartParams(params.keywords, params.values, 0);
    if (!d->conn || PQstatus(d->conn) == CONNECTION_BAD) {
        fail(d);
        return;
    }
    PQsetNoticeProcessor(d->conn, on_notice, NULL);
    PQsetErrorVerbosity(d->conn, PQERRORS_VERBOSE);
    wait_for(d, EV_WRITE);
}

static void on_resolved(struct resolve_wait *w)
{
    connect_next(CONTAINER_OF(w, struct pg_dial, resolving));
}

static const char *address_text(const struct peer_addr *a, char to[INET6_ADDRSTRLEN])
{
    const void *bytes = a->u.any.sa_family == AF_INET6 ? (const void *)&a->u.in6.sin6_addr
                                                       : (const void *)&a->u.in.sin_addr;

    return inet_ntop(a->u.any.sa_family, bytes, to, INET6_ADDRSTRLEN);
}

/* Calls itself by way of fail as often as the name has addresses, eight times at most. */
static void connect_next(struct pg_dial *d)
{
    const struct pg_settings *s = d->settings;
    char text[INET6_ADDRSTRLEN];
    struct peer_addr addr;
    const char *reason;

    if (s->host[0] == '/') {
        connect_to(d, NULL);
        return;
    }
    switch (resolver_find(d->resolver, str_from(s->host), s->port, d->turn, &addr,
                          &d->address_count, &reason, &d->resolving)) {
    case RESOLVE_FOUND:
        d->turn.nth++;
        connect_to(d, address_text(&addr, text));
        break;
    case RESOLVE_WAITS:
        d->resolving.done = on_resolved;
        break;
    default:
        end(d, reason);
    }
}

void pg_dial_start(struct pg_dial *d)
{
    d->turn = (struct resolve_turn){ 0 };
    d->address_count = 0;
    d->refused = false;
    d->version = d->settings->password ? secret_version(d->settings->password) : 0;
    connect_next(d);
}
