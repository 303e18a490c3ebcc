/*
 * See redis_conn.h. Knows names, sockets, TLS and time, nothing of Redis.
 */
#include "peer/redis_conn.h"
#include "peer/http_conn.h"
#include "peer/tls.h"
#include <errno.h>
#include <event2/event.h>

static void connect_next(struct redis_conn *c, struct err *e);

static void give_up(struct redis_conn *c, const struct err *e)
{
    redis_conn_close(c);
    c->on->on_failed(c, e);
}

static void opened(struct redis_conn *c)
{
    c->open = true;
    deadline_clear(&c->deadlines, &c->deadline);
    c->on->on_open(c);
}

static void shake_hands(struct redis_conn *c)
{
    struct err e;

    switch (tls_handshake(c->tls, &e)) {
    case TLS_DONE:
        http_conn_want_write(c->socket, false);
        opened(c);
        if (c->open)
            redis_conn_read_later(c); /* what came with the handshake */
        break;
    case TLS_WANTS_READ:
        http_conn_want_write(c->socket, false);
        break;
    case TLS_WANTS_WRITE:
        http_conn_want_write(c->socket, true);
        break;
    case TLS_FAILED:
        give_up(c, &e);
        break;
    }
}

/* The socket is connected. */
static void begin(struct redis_conn *c)
{
    const struct redis_settings *s = c->settings;
    struct err e;

    if (!s->ssl) {
        opened(c);
        return;
    }
    if (!c->trust)
        c->trust = tls_trust_get(s->ca_file, s->ssl_verify, &e);
    if (!c->trust) {
        give_up(c, &e);
        return;
    }
    c->tls = tls_new(c->trust, c->socket->fd, s->server_name ? s->server_name : c->node->host);
    shake_hands(c);
}

static void on_connected(struct http_conn *socket, int error)
{
    struct redis_conn *c = socket->owner;
    struct err e;

    if (error == 0) {
        begin(c);
        return;
    }
    err_set(&e, ERR_CLOSED, "%s", strerror(error));
    http_conn_close(socket);
    c->socket = NULL;
    connect_next(c, &e);
}

static void on_readable(struct http_conn *socket)
{
    struct redis_conn *c = socket->owner;

    if (c->open)
        c->on->on_readable(c);
    else
        shake_hands(c);
}

static void on_writable(struct http_conn *socket)
{
    struct redis_conn *c = socket->owner;

    if (c->open)
        c->on->on_writable(c);
    else
        shake_hands(c);
}

static const struct http_conn_events SOCKET_EVENTS = {
    .on_connected = on_connected,
    .on_readable = on_readable,
    .on_writable = on_writable,
};

static void on_resolved(struct resolve_wait *w)
{
    struct redis_conn *c = CONTAINER_OF(w, struct redis_conn, resolving);
    struct err e;

    err_set(&e, ERR_SYSTEM, "its name has no address");
    connect_next(c, &e);
}

/* Goes on with the next address; e says why the one before it failed. */
static void connect_next(struct redis_conn *c, struct err *e)
{
    struct str host = str_from(c->node->host);
    struct peer_addr addr;
    const char *reason;

    while (c->turn.nth < c->address_count) {
        switch (resolver_find(c->resolver, host, c->node->port, c->turn, &addr, &c->address_count,
                              &reason, &c->resolving)) {
        case RESOLVE_WAITS:
            c->resolving.done = on_resolved;
            return;
        case RESOLVE_FAILED:
            err_set(e, ERR_SYSTEM, "%s", reason);
            give_up(c, e);
            return;
        case RESOLVE_FOUND:
            break;
        }
        c->turn.nth++;
        c->socket = http_conn_open(c->loop, &addr, &SOCKET_EVENTS, c);
        if (!c->socket) {
            err_set(e, ERR_CLOSED, "%s", strerror(errno));
        } else {
            if (!c->socket->connecting)
                begin(c);
            return;
        }
    }
    give_up(c, e);
}

static void on_expired(struct deadline *d)
{
    struct redis_conn *c = CONTAINER_OF(d, struct redis_conn, deadline);
    struct err e;

    err_set(&e, ERR_TIMEOUT, "%s in time",
            c->tls      ? "TLS: it does not agree"
            : c->socket ? "it does not take the connection"
                        : "its name is not resolved");
    give_up(c, &e);
}

void redis_conn_init(struct redis_conn *c, struct loop *loop)
{
    c->loop = loop;
    deadline_queue_init(&c->deadlines, loop, c->settings->connect_ms, on_expired);
}

void redis_conn_fini(struct redis_conn *c)
{
    deadline_queue_fini(&c->deadlines);
    tls_trust_put(c->trust);
}

void redis_conn_open(struct redis_conn *c)
{
    struct err e = { 0 };

    must(!c->socket && !c->resolving.name);
    c->turn = (struct resolve_turn){ 0 }; /* every worker counts on the same server */
    c->address_count = 1;
    deadline_set(&c->deadlines, &c->deadline);
    connect_next(c, &e);
}

void redis_conn_close(struct redis_conn *c)
{
    deadline_clear(&c->deadlines, &c->deadline);
    resolver_forget(&c->resolving);
    tls_free(c->tls);
    c->tls = NULL;
    if (c->socket)
        http_conn_close(c->socket);
    c->socket = NULL;
    c->open = false;
}

ssize_t redis_conn_read(struct redis_conn *c, char *p, size_t n)
{
    return c->tls ? tls_read(c->tls, p, n) : http_conn_read(c->socket, p, n);
}

ssize_t redis_conn_write(struct redis_conn *c, const char *p, size_t n)
{
    struct iovec iov = { .iov_base = (char *)(uintptr_t)p, .iov_len = n };

    return c->tls ? tls_write(c->tls, p, n) : http_conn_write(c->socket, &iov, 1);
}

const char *redis_conn_words(const struct redis_conn *c, int error)
{
    return c->tls ? tls_error(c->tls) : strerror(error);
}

bool redis_conn_has_more(const struct redis_conn *c)
{
    return c->tls && tls_has_more(c->tls);
}

void redis_conn_read_later(struct redis_conn *c)
{
    if (redis_conn_has_more(c))
        event_active(&c->socket->read_event, EV_READ, 0);
}

void redis_conn_want_write(struct redis_conn *c, bool wanted)
{
    http_conn_want_write(c->socket, wanted);
}
