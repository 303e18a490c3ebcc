/*
 * The bytes to and from one Redis server: the name resolved, its addresses
 * tried one after the other, TLS agreed, all within connect_ms. Embedded in its owner, who gets
 * its events; used again after each close.
 */
#ifndef WEIR_PEER_REDIS_CONN_H
#define WEIR_PEER_REDIS_CONN_H

#include "base/err.h"
#include "base/weir.h"
#include "ev/loop.h"
#include "peer/redis_settings.h"
#include "peer/resolve.h"
#include <sys/types.h>

struct redis_conn;
struct http_conn;
struct tls;
struct tls_trust;

struct redis_conn_events {
    void (*on_open)(struct redis_conn *c);
    /* It could not be opened, and is closed again. May come from within redis_conn_open. */
    void (*on_failed)(struct redis_conn *c, const struct err *e);
    void (*on_readable)(struct redis_conn *c);
    void (*on_writable)(struct redis_conn *c); /* after redis_conn_want_write */
};

struct redis_conn {
    const struct redis_conn_events *on;
    struct loop *loop;
    struct resolver *resolver;
    const struct redis_settings *settings;
    const struct redis_node *node;
    struct http_conn *socket; /* NULL: closed, or the name is not resolved yet */
    struct tls *tls;          /* NULL: none, or not begun yet */
    struct tls_trust *trust;  /* kept from the first connection with TLS on */
    bool open;
    struct resolve_wait resolving;
    struct resolve_turn turn;
    unsigned address_count;
    struct deadline deadline; /* while it opens */
    struct deadline_queue deadlines;
};

/* All but the four fields that the caller sets before: on, resolver, settings, node. */
void redis_conn_init(struct redis_conn *c, struct loop *loop);

/* It is closed already, and no callback of it is running. */
void redis_conn_fini(struct redis_conn *c);

/* It must be closed. */
void redis_conn_open(struct redis_conn *c);

/* Harmless where it is closed. */
void redis_conn_close(struct redis_conn *c);

/* As recv and send: bytes, or -1 and errno; EAGAIN when nothing can be done now. */
ssize_t redis_conn_read(struct redis_conn *c, char *p, size_t n) MUST_CHECK;
ssize_t redis_conn_write(struct redis_conn *c, const char *p, size_t n) MUST_CHECK;

/* Why reading or writing failed; error is errno. */
const char *redis_conn_words(const struct redis_conn *c, int error);

/* Bytes have come that no event will tell of. */
bool redis_conn_has_more(const struct redis_conn *c);

/* Tells of them in the next turn. */
void redis_conn_read_later(struct redis_conn *c);

void redis_conn_want_write(struct redis_conn *c, bool want);

#endif
