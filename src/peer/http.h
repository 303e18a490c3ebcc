/*
 * Exchanges with HTTP/1.1 upstreams over pooled connections: streaming both
 * ways, retried where that is safe, bounded in time and memory. Owns the
 * sockets; the exchange itself belongs to whoever embeds it.
 *
 * Reading order: http_exchange_init, http_start, http_upload, http_body_next, http_close.
 */
#ifndef WEIR_PEER_HTTP_H
#define WEIR_PEER_HTTP_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"
#include "ev/loop.h"
#include "ev/op.h"
#include "peer/rbuf.h"
#include "peer/resolve.h"
#include "wire/http1.h"

struct http_client;
struct http_conn;
struct http_exchange;
struct http_target;

struct http_config {
    unsigned max_idle;       /* connections kept for each host and port */
    unsigned max_requests;   /* that one connection carries; 0: no bound */
    int64_t idle_timeout_ms; /* 0: no bound */
    size_t max_head_bytes;   /* of a response, interim ones included */
};

struct http_client *http_client_new(struct loop *loop, const struct http_config *config)
    __attribute__((returns_nonnull));

/* Closes the idle connections. Every exchange must be closed. */
void http_client_free(struct http_client *client);

/* What comes up. */
struct http_handlers {
    /* Appends the request's head. Called for each time that it is sent. */
    int (*put_head)(struct http_exchange *x, struct buf *out, struct err *e);
    /* http_body_next would say something else than HTTP1_MORE now. Not called before op is done. */
    void (*on_data)(struct http_exchange *x);
    /* Body bytes were sent: http_upload_drop may return some. */
    void (*on_sent)(struct http_exchange *x);
};

struct http_request {
    struct str host; /* a name, a numeric address, or "unix:/path" */
    unsigned port;
    bool to_head;               /* the method is HEAD */
    bool idempotent;            /* sending it twice does no harm */
    enum http1_framing framing; /* of the body; as put_head writes it */
    uint64_t content_length;
    unsigned retries;                  /* how often another connection is tried */
    int connect_ms, write_ms, read_ms; /* 0: no bound; the last two between two operations */
};

enum http_phase {
    HTTP_IDLE,
    HTTP_RESOLVING,
    HTTP_CONNECTING,
    HTTP_HEAD, /* sending, or waiting for the response's head */
    HTTP_BODY,
    HTTP_COMPLETE,
    HTTP_FAILED,
};

struct http_upload {
    struct str bytes;   /* of the caller; arrived and not dropped yet */
    size_t used;        /* of them: sent, or put into chunks */
    uint64_t announced; /* of a body with a length: what bytes[used] on may still hold */
    struct buf chunks;  /* of a body without one: encoded */
    size_t chunks_sent;
    struct str head_rest; /* of the head: what did not fit into the socket */
    bool complete;        /* nothing is behind bytes */
    bool last_chunk;      /* the end is in chunks */
    bool dropped;         /* the beginning is gone: it cannot be sent again */
    bool began;           /* something has been sent on this connection */
    bool abandoned;       /* the socket takes no more */
};

/* All but op, response, arg, code and reason is private to peer/http*.c. */
struct http_exchange {
    /* Done when the head is in response; or failed: code and reason say how. */
    struct op op;
    struct http1_head response; /* its texts are in the arena */
    void *arg;
    int code; /* of a failure: ERR_TIMEOUT, ERR_CLOSED, ERR_SYNTAX, ERR_BOUND, ERR_SYSTEM (name) */
    struct str reason; /* in words, in the arena */

    struct http_client *client;
    struct arena *arena;
    const struct http_handlers *handlers;
    struct http_request request;
    struct http_target *target;
    struct http_conn *conn;
    struct resolve_wait resolving;
    struct deadline deadline; /* of resolving: there is no connection yet */
    struct http_upload up;
    struct rbuf in;
    struct http1_body decoder;
    struct str piece;         /* decoded, not consumed */
    struct resolve_turn turn; /* nth: the connections tried so far */
    unsigned max_tries;
    enum http_phase phase;
    bool pooled; /* the connection had been used before */
    bool bulk;   /* the last read filled its buffer */
    bool hungry; /* http_body_next has said HTTP1_MORE */
    bool eof;    /* the other side has closed */
    bool broken; /* ... and not in order */
};

/* The arena must outlive the exchange. To use it again: http_close, then this. */
void http_exchange_init(struct http_exchange *x, struct http_client *client, struct arena *arena,
                        const struct http_handlers *handlers, void *arg);

/*
 * Starts op, with the body's first bytes (see http_upload). op may be done
 * before this returns. r->host must live as long as the exchange.
 */
void http_start(struct http_exchange *x, const struct http_request *r, struct str body,
                bool complete);

/*
 * bytes: those that arrived and were not dropped, from the first one; borrowed
 * until the next call. complete: nothing follows. Sends what can be sent.
 */
void http_upload(struct http_exchange *x, struct str bytes, bool complete);

/*
 * How many of the first bytes are not needed any more: the caller drops them and calls
 * http_upload. hard: those that are only held for a second try go as well.
 */
size_t http_upload_drop(struct http_exchange *x, bool hard);

/* Body bytes that were handed over and are not sent yet. */
size_t http_upload_unsent(const struct http_exchange *x);

/*
 * The body's next piece, which stays the next one until it is consumed.
 * HTTP1_MORE: on_data will be called. HTTP1_END: complete. HTTP1_ERROR: see
 * code and reason. Nothing is read from the upstream while a piece is there.
 */
enum http1_event http_body_next(struct http_exchange *x, struct str *piece);
void http_body_consume(struct http_exchange *x, size_t n);

/* Gives back everything; breaks off what is in flight, without a call. Harmless at any time. */
void http_close(struct http_exchange *x);

#endif
