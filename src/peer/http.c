/*
 * See http.h. The states go resolving, connecting, head, body, complete; a
 * failure before the first byte of the response may begin again at a new
 * connection. Every handler's last act is its call upward, because the
 * exchange may be closed in it.
 */
#include "peer/http.h"
#include "peer/http_conn.h"
#include "peer/http_pool.h"
#include "peer/http_upload.h"
#include "peer/timeouts.h"
#include <errno.h>
#include <stdlib.h>

#define MAX_TRIES 32 /* whatever retries says: they follow each other at once */

struct http_client {
    struct loop *loop;
    struct http_config config;
    struct resolver *resolver;
    struct timeouts *timeouts, *resolve_timeouts;
    struct http_pool *pool;
    struct rbuf_pool *buffers;
    struct buf scratch; /* of heads that go out */
    unsigned turn;
};

static void connect_anew(struct http_exchange *x);
static void on_resolve_expired(struct deadline *d);

struct http_client *http_client_new(struct loop *loop, const struct http_config *config)
{
    struct http_client *client = xcalloc(1, sizeof *client);

    client->loop = loop;
    client->config = *config;
    client->resolver = resolver_new(loop);
    client->timeouts = timeouts_new(loop, http_conn_expired);
    client->resolve_timeouts = timeouts_new(loop, on_resolve_expired);
    client->pool = http_pool_new(config->max_idle, config->max_requests,
                                 timeouts_queue(client->timeouts, config->idle_timeout_ms));
    client->buffers = rbuf_pool_new();
    return client;
}

void http_client_free(struct http_client *client)
{
    http_pool_free(client->pool);
    resolver_free(client->resolver);
    timeouts_free(client->timeouts);
    timeouts_free(client->resolve_timeouts);
    rbuf_pool_free(client->buffers);
    buf_free(&client->scratch);
    free(client);
}

/* ---- the end of an exchange, in its three forms ---- */

static void drop_connection(struct http_exchange *x)
{
    if (x->conn)
        http_conn_close(x->conn);
    x->conn = NULL;
    x->piece = STR_NULL;
    rbuf_drop(x->client->buffers, &x->in);
}

/* Breaks off without telling; what is the text behind "host:port: ". */
static enum http1_event break_off(struct http_exchange *x, int code, const char *what)
{
    const struct http_request *r = &x->request;

    drop_connection(x);
    x->phase = HTTP_FAILED;
    x->code = code;
    if (str_starts(r->host, STR("unix:")))
        x->reason = arena_printf(x->arena, "%.*s: %s", STR_ARG(r->host), what);
    else
        x->reason = arena_printf(x->arena, "%.*s:%u: %s", STR_ARG(r->host), r->port, what);
    return HTTP1_ERROR;
}

static void tell(struct http_exchange *x)
{
    if (!x->hungry)
        return;
    x->hungry = false;
    x->handlers->on_data(x);
}

static void fail(struct http_exchange *x, int code, const char *what)
{
    break_off(x, code, what);
    if (x->op.state == OP_PENDING)
        op_finish(&x->op, code);
    else
        tell(x);
}

/* The response is read to its end: the connection may serve the next one. */
static void complete(struct http_exchange *x)
{
    bool reusable = x->response.keep_alive && !x->eof && x->in.start == x->in.end &&
                    upload_is_over(x) && !x->up.abandoned;

    x->phase = HTTP_COMPLETE;
    if (reusable) {
        http_target_give(x->target, x->conn);
        x->conn = NULL;
    }
    drop_connection(x);
}

void http_close(struct http_exchange *x)
{
    if (x->op.state == OP_PENDING) {
        op_cancel(&x->op); /* comes back here */
        return;
    }
    resolver_forget(&x->resolving);
    if (x->deadline.queued)
        deadline_clear(timeouts_queue(x->client->resolve_timeouts, x->request.connect_ms),
                       &x->deadline);
    if (x->client)
        drop_connection(x);
    if (x->target)
        http_target_unref(x->target);
    x->target = NULL;
    buf_free(&x->up.chunks);
    x->phase = HTTP_FAILED;
}

static void on_cancel(struct op *op)
{
    http_close(CONTAINER_OF(op, struct http_exchange, op));
}

/* ---- time ---- */

/* The deadline is the upstream's: while the client or the reader is waited for there is none. */
static void arm_deadline(struct http_exchange *x)
{
    const struct http_request *r = &x->request;
    int ms;

    if (upload_is_blocked(x))
        ms = r->write_ms;
    else if (x->phase == HTTP_BODY && !x->hungry)
        ms = 0;
    else if (x->phase == HTTP_HEAD && !upload_is_over(x) && !x->up.abandoned)
        ms = 0;
    else
        ms = r->read_ms;
    http_conn_set_deadline(x->conn, ms > 0 ? timeouts_queue(x->client->timeouts, ms) : NULL);
}

/* ---- sending ---- */

static void flush(struct http_exchange *x)
{
    struct err e;
    int rc = upload_flush(x, &x->client->scratch, &e);

    if (rc != 0)
        fail(x, rc, e.text);
    else
        arm_deadline(x);
}

static void send_request(struct http_exchange *x)
{
    x->phase = HTTP_HEAD;
    x->eof = x->broken = x->bulk = false;
    x->response = (struct http1_head){ .to_head = x->request.to_head };
    x->conn->requests++;
    upload_rewind(x);
    flush(x);
    if (x->phase == HTTP_HEAD && x->up.used)
        x->handlers->on_sent(x);
}

static void on_writable(struct http_conn *c)
{
    struct http_exchange *x = c->owner;

    flush(x);
    if (x->phase == HTTP_HEAD || x->phase == HTTP_BODY)
        x->handlers->on_sent(x);
}

void http_upload(struct http_exchange *x, struct str bytes, bool complete_now)
{
    x->up.bytes = bytes;
    x->up.complete = complete_now;
    if ((x->phase == HTTP_HEAD || x->phase == HTTP_BODY) && !x->conn->writing)
        flush(x);
}

/* ---- receiving ---- */

/*
 * A connection that had idled may have been closed by the other side just
 * before it was used: that is nobody's fault and does not count as a try. A
 * request that must not be made twice is sent again only if its bytes were
 * surely thrown away.
 */
static bool may_send_again(struct http_exchange *x)
{
    bool harmless = x->request.idempotent || !x->up.began;

    if (!upload_can_rewind(x) || x->in.end > 0)
        return false;
    if (!x->pooled)
        return harmless && x->turn.nth < x->max_tries;
    return harmless || x->broken || x->up.abandoned || http_conn_was_reset(x->conn);
}

static void closed_before_head(struct http_exchange *x)
{
    if (!may_send_again(x)) {
        fail(x, ERR_CLOSED,
             x->in.end > 0 ? "it closed the connection in the midst of the response's head"
                           : "it closed the connection without an answer");
        return;
    }
    drop_connection(x);
    connect_anew(x);
}

static void on_head(struct http_exchange *x, size_t head_bytes)
{
    const struct http1_head *head = &x->response;

    x->in.start += head_bytes;
    x->phase = HTTP_BODY;
    http1_body_init(&x->decoder, head->framing, head->content_length);
    if (head->framing == HTTP1_BODY_NONE ||
        (head->framing == HTTP1_BODY_LENGTH && head->content_length == 0))
        complete(x);
    else
        arm_deadline(x);
    op_finish(&x->op, 0);
}

static void read_head(struct http_exchange *x)
{
    struct str in = rbuf_bytes(&x->in);
    size_t max_bytes = x->client->config.max_head_bytes;
    struct err e;
    int n = http1_head_parse(in, &x->response, x->arena, &e);

    if (n < 0)
        fail(x, n, e.text);
    else if ((n == 0 && in.n >= max_bytes) || (size_t)n > max_bytes)
        fail(x, ERR_BOUND, "the response's head is larger than upstream_max_head_bytes");
    else if (n > 0)
        on_head(x, (size_t)n);
    else if (x->eof)
        closed_before_head(x);
}

/* One read. False if there was nothing. */
static bool receive(struct http_exchange *x)
{
    size_t cap_bytes =
        x->phase == HTTP_HEAD ? x->client->config.max_head_bytes : (size_t)RBUF_LARGE_BYTES;
    size_t room = rbuf_room(x->client->buffers, &x->in, cap_bytes, x->bulk);
    ssize_t n = http_conn_read(x->conn, x->in.p + x->in.end, room);

    if (n < 0 && errno == EAGAIN) {
        rbuf_settle(x->client->buffers, &x->in);
        return false;
    }
    if (n <= 0) {
        x->eof = true;
        x->broken = n < 0;
        http_conn_want_read(x->conn, false);
    } else {
        x->in.end += (size_t)n;
        x->bulk = (size_t)n == room;
    }
    return true;
}

static void on_readable(struct http_conn *c)
{
    struct http_exchange *x = c->owner;

    if (x->phase == HTTP_BODY && !x->hungry) {
        http_conn_want_read(c, false); /* the reader has not yet taken what is there */
        return;
    }
    if (!receive(x))
        return;
    if (x->phase == HTTP_HEAD) {
        if (!x->eof)
            arm_deadline(x);
        read_head(x);
    } else {
        arm_deadline(x);
        tell(x);
    }
}

static enum http1_event out_of_bytes(struct http_exchange *x)
{
    rbuf_drop(x->client->buffers, &x->in);
    if (!x->eof) {
        x->hungry = true;
        http_conn_want_read(x->conn, true);
        arm_deadline(x);
        return HTTP1_MORE;
    }
    if (x->broken || !http1_body_ends_here(&x->decoder))
        return break_off(x, ERR_CLOSED,
                         "it closed the connection in the midst of the response's body");
    complete(x);
    return HTTP1_END;
}

enum http1_event http_body_next(struct http_exchange *x, struct str *piece)
{
    struct str in = rbuf_bytes(&x->in);
    enum http1_event event = HTTP1_PIECE;

    *piece = STR_NULL;
    if (x->phase != HTTP_BODY)
        return x->phase == HTTP_COMPLETE ? HTTP1_END
               : x->phase == HTTP_FAILED ? HTTP1_ERROR
                                         : HTTP1_MORE;
    if (x->piece.n == 0) {
        event = http1_body_decode(&x->decoder, &in, &x->piece);
        x->in.start = x->in.end - in.n;
    }
    switch (event) {
    case HTTP1_PIECE:
        *piece = x->piece;
        return HTTP1_PIECE;
    case HTTP1_END:
        complete(x);
        return HTTP1_END;
    case HTTP1_MORE:
        return out_of_bytes(x);
    default:
        return break_off(x, ERR_SYNTAX, "the response's body is malformed");
    }
}

void http_body_consume(struct http_exchange *x, size_t n)
{
    must(n <= x->piece.n);
    x->piece.p += n;
    x->piece.n -= n;
}

/* ---- connecting ---- */

static void try_next_or_fail(struct http_exchange *x, int code, const char *what)
{
    if (x->turn.nth >= x->max_tries) {
        fail(x, code, what);
        return;
    }
    drop_connection(x);
    connect_anew(x);
}

static void on_connected(struct http_conn *c, int error)
{
    struct http_exchange *x = c->owner;
    struct err e;

    if (error == 0) {
        send_request(x);
        return;
    }
    errno = error;
    err_set_errno(&e, "cannot connect");
    try_next_or_fail(x, ERR_CLOSED, e.text);
}

static void on_expired(struct http_conn *c)
{
    struct http_exchange *x = c->owner;

    if (x->phase == HTTP_CONNECTING)
        try_next_or_fail(x, ERR_TIMEOUT, "it does not take the connection in time");
    else if (upload_is_blocked(x))
        fail(x, ERR_TIMEOUT, "it does not read the request in time");
    else
        fail(x, ERR_TIMEOUT, "it does not answer in time");
}

static const struct http_conn_events EVENTS = {
    .on_connected = on_connected,
    .on_readable = on_readable,
    .on_writable = on_writable,
    .on_expired = on_expired,
};

static void on_resolved(struct resolve_wait *w)
{
    struct http_exchange *x = CONTAINER_OF(w, struct http_exchange, resolving);

    deadline_clear(timeouts_queue(x->client->resolve_timeouts, x->request.connect_ms),
                   &x->deadline);
    connect_anew(x);
}

static void on_resolve_expired(struct deadline *d)
{
    struct http_exchange *x = CONTAINER_OF(d, struct http_exchange, deadline);

    resolver_forget(&x->resolving);
    fail(x, ERR_TIMEOUT, "its name is not resolved in time");
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

/* Tries addresses until one is connected, connects or waits; or fails. */
static void connect_anew(struct http_exchange *x)
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
            fail(x, ERR_SYSTEM, reason);
        if (result != RESOLVE_FOUND)
            return;
        x->turn.nth++;
        x->phase = HTTP_CONNECTING;
        x->conn = http_conn_open(x->client->loop, &addr, &EVENTS, x);
        if (!x->conn)
            err_set_errno(&e, "cannot connect");
    } while (!x->conn && x->turn.nth < x->max_tries);
    if (!x->conn)
        fail(x, ERR_CLOSED, e.text);
    else if (x->conn->connecting)
        http_conn_set_deadline(x->conn, timeouts_queue(timeouts, x->request.connect_ms));
    else
        send_request(x);
}

void http_exchange_init(struct http_exchange *x, struct http_client *client, struct arena *arena,
                        const struct http_handlers *handlers, void *arg)
{
    *x = (struct http_exchange){
        .client = client, .arena = arena, .handlers = handlers, .arg = arg
    };
    op_init(&x->op, on_cancel);
    x->resolving.done = on_resolved;
}

void http_start(struct http_exchange *x, const struct http_request *r, struct str body,
                bool complete_now)
{
    must(x->phase == HTTP_IDLE);
    op_start(&x->op);
    x->request = *r;
    x->turn.first = x->client->turn++;
    x->up.bytes = body;
    x->up.complete = complete_now;
    x->target = http_target_ref(x->client->pool, r->host, r->port);
    x->conn = http_target_take(x->target);
    if (!x->conn) {
        connect_anew(x);
        return;
    }
    x->pooled = true;
    x->conn->on = &EVENTS;
    x->conn->owner = x;
    send_request(x);
}
