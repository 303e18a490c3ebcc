/*
 * What the files http*.c share among themselves, from the top down: http, http_receive,
 * http_connect, http_send, http_end. Each calls only those behind it.
 */
#ifndef WEIR_PEER_HTTP_INTERNAL_H
#define WEIR_PEER_HTTP_INTERNAL_H

#include "peer/http.h"
#include "peer/http_conn.h"

struct http_client {
    struct loop *loop;
    struct http_config config;
    const struct http_conn_events *events; /* of a connection that an exchange has */
    struct resolver *resolver;
    struct timeouts *timeouts, *resolve_timeouts;
    struct http_pool *pool;
    struct rbuf_pool *buffers;
    struct buf scratch; /* of heads that go out */
    unsigned turn;
};

/* Tries addresses until one is connected, connects or waits; or fails. */
void http_connect(struct http_exchange *x);

/* The connection is made, or was there: sends the request from its beginning. */
void http_send_request(struct http_exchange *x);

/* Closes the connection, gives the receive buffer back. */
void http_drop_connection(struct http_exchange *x);

/* The exchange has failed; what is the text behind "host:port: ". Tells nobody; HTTP1_ERROR. */
enum http1_event http_break_off(struct http_exchange *x, int code, const char *what);

/* The same, and tells whoever waits. */
void http_fail(struct http_exchange *x, int code, const char *what);

/* The response is read to its end: the connection may serve the next one. */
void http_complete(struct http_exchange *x);

/* The deadline is the upstream's: while the client or the reader is waited for there is none. */
void http_arm_deadline(struct http_exchange *x);

/* Events of the connection, and of a name that is waited for. */
void http_on_connected(struct http_conn *c, int error);
void http_on_expired(struct http_conn *c);
void http_on_readable(struct http_conn *c);
void http_on_writable(struct http_conn *c);
void http_resolve_expired(struct deadline *d);

#endif
