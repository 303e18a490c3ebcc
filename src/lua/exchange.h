/*
 * What binds a request to an upstream: the head that goes out, the body on its
 * way up, the response on its way down. At most one is in flight for a request; it
 * lies in the request's arena and ends with it.
 */
#ifndef WEIR_LUA_EXCHANGE_H
#define WEIR_LUA_EXCHANGE_H

#include "base/str.h"
#include "base/weir.h"

struct conf;
struct forwarded;
struct headers;

/* Once per worker: the client with its pool of connections. */
void exchange_init(struct loop *loop, const struct conf *conf);

/* Closes the idle connections. No request may be left. */
void exchange_fini(void);

/*
 * Before exchange_start, with no wait between: what the upstream is told of the client, and the
 * Host field (empty: the upstream's own name). Without it the request's headers go out as they are.
 */
void exchange_describe(struct req *req, struct str host_field, const struct forwarded *f);

struct exchange_params {
    struct str host, target; /* copied */
    unsigned port, retries;
    int connect_ms, write_ms, read_ms;
    bool whole_body; /* nothing leaves before the request's body is here, if it can be held */
};

enum exchange_step {
    EXCHANGE_WAITS = 0, /* *op is pending: ask again when it is done */
    EXCHANGE_PIECE = 1,
    EXCHANGE_END = 2,
    /* below 0: an err_code; exchange_reason says why */
};

/*
 * Begins with the request's method, headers and body as they are now; bytes leave at the
 * end of the turn, or when the whole body is here. The pending op that is returned is done when the
 * response's head is there.
 */
struct op *exchange_start(struct req *req, const struct exchange_params *p)
    __attribute__((returns_nonnull));

/*
 * After that: 0, or ERR_TIMEOUT, ERR_CLOSED, ERR_SYNTAX or ERR_BOUND (no valid response),
 * ERR_SYSTEM (the host's name has no address), ERR_CANCELLED.
 */
int exchange_result(const struct req *req);

/* The last failure in words, with host and port; "" if there is none. Lives as long as the request.
 */
const char *exchange_reason(const struct req *req);

/* The upstream's headers; NULL if no upstream has answered. */
const struct headers *exchange_headers(const struct req *req);

/*
 * Makes the upstream's status, length and headers the response's. Headers that
 * concern the connection stay behind, and those whose name the response has already.
 */
void exchange_accept(struct req *req);

/*
 * Sends the response's head, with a length only if the body will have it: it is the upstream's,
 * and nobody filters what follows.
 */
void exchange_send_head(struct req *req, bool filtered);

/* Moves the body to the client as it comes; waits for both sides. Never EXCHANGE_PIECE. */
int exchange_forward(struct req *req, struct op **op);

/* The body's next piece, valid until the next call. */
int exchange_read(struct req *req, struct str *piece, struct op **op);

/* For the transport: bytes were appended to the request's body, or it is complete. */
void exchange_on_request_body(struct req *req);

/* For the transport: the queue towards the client fell below REQ_QUEUE_LOW_BYTES. */
void exchange_on_drained(struct req *req);

#endif
