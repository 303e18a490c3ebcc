/*
 * See http.h: from a host's name to a connection, and from one that failed to
 * the next. Connections that could not be made are tried again whatever the request is.
 */
#include "peer/http_conn.h"
#include "peer/http_internal.h"
#include "peer/http_upload.h"
#include "peer/timeouts.h"
#include <errno.h>

#define MAX_TRIES 32 /* whatever retries says: they follow each other at once */

static void try_next_or_fail(struct http_exchange *x, int code, const char *what)
{
    if (x->turn.nth >= x->max_tries) {
        http_fail(x, code, what);
        return;
    }
    http_drop_connection(x);
    http_connect(x);
}

void http_on_connected(struct http_conn *c, int error)
{
    struct http_exchange *x = c->owner;
    struct err e;

    if (error == 0) {
        http_send_request(x);
        return;
    }
    errno = error;
    err_set_errno(&e, "cannot connect");
    try_next_or_fail(x, ERR_CLOSED, e.text);
}

void http_on_expired(struct http_conn *c)
{
    struct http_exchange *x = c->owner;

    if (x->phase == HTTP_CONNECTING)
        try_next_or_fail(x, ERR_TIMEOUT, "it does not take the connection in time");
    else if (upload_is_blocked(x))
        http_fail(x, ERR_TIMEOUT, "it does not read the request in time");
    else
        http_fail(x, ERR_TIMEOUT, "it does not answer in time");
}

static void on_resolved(struct resolve_wait *w)
{
    struct http_exchange *x = CONTAINER_OF(w, struct http_exchange, resolving);

    if (x->deadline.queued)
        deadline_clear(x->deadline.queued, &x->deadline);
    http_connect(x);
}

void http_resolve_expired(struct deadline *d)
{
    struct http_exchange *x = CONTAINER_OF(d, struct http_exchange, deadline);

    resolver_forget(&x->resolving);
    http_fail(x, ERR_TIMEOUT, "its name is not resolved in time");
}

static enum resolve_result find_address(struct http_exchange *x, struct peer_addr *addr,
                                        const char **reason)
{
    const struct http_request *r = &x->request;
    struct deadline_queue *queue;
    unsigned count;
    enum resolve_result result = resolver_find(x->client->resolver, r->host, r->port, x->turn, addr,
                                               &count, reason, &x->resolving);

    if (result == RESOLVE_WAITS) {
        x->resolving.done = on_resolved;
        x->phase = HTTP_RESOLVING;
        queue = timeouts_queue(x->client->resolve_timeouts, r->connect_ms);
        deadline_set(queue, &x->deadline);
    } else if (x->turn.nth == 0) {
        x->max_tries = r->retries < MAX_TRIES ? r->retries + 1 : MAX_TRIES;
        if (x->max_tries < count) /* another address is no retry */
            x->max_tries = count;
    }
    return result;
}

void http_connect(struct http_exchange *x)
{
    struct timeouts *timeouts = x->client->timeouts;
    struct peer_addr addr;
    const char *reason;
    struct err e;
    enum resolve_result result;

    x->pooled = false;
    do {
        result = find_address(x, &addr, &reason);
        if (result == RESOLVE_FAILED)
            http_fail(x, ERR_SYSTEM, reason);
        if (result != RESOLVE_FOUND)
            return;
        x->turn.nth++;
        x->phase = HTTP_CONNECTING;
        x->conn = http_conn_open(x->client->loop, &addr, x->client->events, x);
        if (!x->conn)
            err_set_errno(&e, "cannot connect");
    } while (!x->conn && x->turn.nth < x->max_tries);
    if (!x->conn)
        http_fail(x, ERR_CLOSED, e.text);
    else if (x->conn->connecting)
        http_conn_set_deadline(x->conn, timeouts_queue(timeouts, x->request.connect_ms));
    else
        http_send_request(x);
}
