/*
 * See exchange.h. Owns the worker's HTTP client. Bytes of the request's body
 * leave req->body when the upstream's socket has taken them; bytes of the
 * response never lie here: they go from the receive buffer to the transport.
 */
#include "lua/exchange.h"
#include "base/clock.h"
#include "conf/keys.h"
#include "ev/op.h"
#include "lua/forwarded.h"
#include "peer/http.h"
#include "req/req.h"
#include "wire/hop.h"
#include <stdio.h>

struct exchange {
    struct http_exchange http;
    struct op op; /* what the coroutine waits for */
    struct deferred start;
    struct req *req;
    struct exchange_params params;
    struct str host;        /* the Host field; empty until it is known */
    struct headers headers; /* that go out */
    enum http1_framing framing;
    uint64_t content_length;
    size_t lent_bytes; /* of the piece that exchange_read gave last */
    bool held;         /* it starts when the request's body is here */
    bool forwarding;   /* the coroutine sleeps while bytes go down */
    bool pumping;      /* what the transport says meanwhile is no news */
    bool cancelled;
};

static struct {
    struct loop *loop;
    struct http_client *client;
} the_exchanges;

void exchange_init(struct loop *loop, const struct conf *conf)
{
    struct http_config config = {
        .max_idle = (unsigned)conf->upstream_keepalive_pool_size,
        .max_requests = (unsigned)conf->upstream_keepalive_max_requests,
        .idle_timeout_ms = conf->upstream_keepalive_idle_timeout_ms,
        .max_head_bytes = (size_t)conf->upstream_max_head_bytes,
    };

    the_exchanges.loop = loop;
    the_exchanges.client = http_client_new(loop, &config);
}

void exchange_fini(void)
{
    if (the_exchanges.client)
        http_client_free(the_exchanges.client);
    the_exchanges.client = NULL;
}

static void finish(struct exchange *ex)
{
    struct req *req = ex->req;

    if (!req->upstream_end_us)
        req->upstream_end_us = clock_mono_us_exact();
}

/* ---- the request, on its way up ---- */

static bool is_idempotent(struct str method)
{
    static const struct str METHODS[] = { { "GET", 3 },    { "HEAD", 4 },    { "PUT", 3 },
                                          { "DELETE", 6 }, { "OPTIONS", 7 }, { "TRACE", 5 } };

    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++)
        if (str_eq(method, METHODS[i]))
            return true;
    return false;
}

static void set_length(struct exchange *ex, uint64_t n)
{
    struct str method = ex->req->method;
    bool bare = !str_eq(method, STR("POST")) && !str_eq(method, STR("PUT")) &&
                !str_eq(method, STR("PATCH"));

    /* a GET without a body says nothing about its length, a POST must */
    ex->framing = n == 0 && bare ? HTTP1_BODY_NONE : HTTP1_BODY_LENGTH;
    ex->content_length = n;
}

static void set_framing(struct exchange *ex)
{
    const struct req *req = ex->req;

    if (req->has_own_body)
        set_length(ex, req->own_body.n);
    else if (req->content_length >= 0)
        set_length(ex, (uint64_t)req->content_length);
    else if (req->body_complete)
        set_length(ex, req->body.n);
    else
        ex->framing = HTTP1_BODY_CHUNKED;
}

static struct str body_of(const struct req *req)
{
    return req->has_own_body ? req->own_body : (struct str){ req->body.p, req->body.n };
}

static bool body_is_complete(const struct req *req)
{
    return req->has_own_body || req->body_complete;
}

/* Takes off the request's body what has been sent, and lets more of it come. */
static void take_body(struct exchange *ex)
{
    struct req *req = ex->req;
    size_t n;

    if (req->has_own_body)
        return;
    /* the front is paused: bytes that are held for a second try would hold up the first */
    n = http_upload_drop(&ex->http, req->body_paused);
    if (n == 0)
        return;
    buf_drop(&req->body, n);
    http_upload(&ex->http, body_of(req), req->body_complete);
    if (req->body.n == 0)
        buf_free(&req->body);
    if (req->body_paused && req->body.n <= req->body.max_bytes / 4)
        req->transport->on_flow(req, true);
}

/*
 * A body that is too large to be held goes up from its first byte; one of unknown length as soon
 * as half of the room is used, so that what comes meanwhile fits into the other half.
 */
static bool waits_for_body(const struct exchange *ex)
{
    const struct req *req = ex->req;
    size_t max_bytes = req->body.max_bytes;

    if (!ex->params.whole_body || body_is_complete(req) || req->body_paused)
        return false;
    if (max_bytes == 0)
        return true;
    if (req->content_length >= 0)
        return (uint64_t)req->content_length <= max_bytes;
    return req->body.n < max_bytes / 2;
}

static void start_now(struct deferred *d);

void exchange_on_request_body(struct req *req)
{
    struct exchange *ex = req->exchange;

    if (!ex || ex->start.queued || req->has_own_body)
        return;
    if (ex->held) {
        ex->held = waits_for_body(ex);
        if (!ex->held)
            loop_defer(req->loop, &ex->start, start_now);
        return;
    }
    http_upload(&ex->http, body_of(req), req->body_complete);
    take_body(ex);
}

static void on_sent(struct http_exchange *x)
{
    take_body(x->arg);
}

static int put_head(struct http_exchange *x, struct buf *out, struct err *e)
{
    struct exchange *ex = x->arg;
    struct http1_request r = {
        .method = ex->req->method,
        .target = ex->params.target,
        .host = ex->host,
        .headers = &ex->headers,
        .framing = ex->framing,
        .content_length = ex->content_length,
    };

    return http1_put_request(out, &r, e);
}

/* ---- the response, on its way down ---- */

static bool queue_is_full(const struct req *req)
{
    return req->queued_bytes && *req->queued_bytes > REQ_QUEUE_HIGH_BYTES;
}

/* Moves what is there. EXCHANGE_WAITS: the upstream, or the client, is slower. */
static int pump_until_blocked(struct exchange *ex)
{
    struct req *req = ex->req;
    struct str piece;

    for (;;) {
        if (req->aborted)
            return ERR_CANCELLED;
        if (queue_is_full(req))
            return EXCHANGE_WAITS;
        switch (http_body_next(&ex->http, &piece)) {
        case HTTP1_MORE:
            return EXCHANGE_WAITS;
        case HTTP1_END:
            finish(ex);
            return EXCHANGE_END;
        case HTTP1_ERROR:
            finish(ex);
            return ex->http.code;
        case HTTP1_PIECE:
            req_send_body(req, piece.p, piece.n);
            if (!req->aborted) /* or the exchange is closed by now */
                http_body_consume(&ex->http, piece.n);
            break;
        }
    }
}

static int pump(struct exchange *ex)
{
    int step;

    ex->pumping = true;
    step = pump_until_blocked(ex);
    ex->pumping = false;
    return step;
}

static void wake(struct exchange *ex)
{
    ex->forwarding = false;
    if (ex->op.state == OP_PENDING)
        op_finish(&ex->op, 0);
}

static void go_on(struct exchange *ex)
{
    if (!ex->forwarding || pump(ex) != EXCHANGE_WAITS)
        wake(ex);
}

static void on_data(struct http_exchange *x)
{
    go_on(x->arg);
}

void exchange_on_drained(struct req *req)
{
    struct exchange *ex = req->exchange;

    if (ex && ex->forwarding && !ex->pumping)
        go_on(ex);
}

static const struct http_handlers HANDLERS = {
    .put_head = put_head,
    .on_data = on_data,
    .on_sent = on_sent,
};

/* ---- begin and end ---- */

static void on_head(struct op *op, void *arg)
{
    struct exchange *ex = arg;
    struct req *req = ex->req;

    (void)op;
    req->upstream_head_us = clock_mono_us_exact();
    if (ex->http.code == 0)
        req->upstream_status = ex->http.response.status;
    else
        finish(ex);
    op_finish(&ex->op, 0);
}

static void start_now(struct deferred *d)
{
    struct exchange *ex = CONTAINER_OF(d, struct exchange, start);
    struct req *req = ex->req;
    const struct exchange_params *p = &ex->params;
    struct http_request r = {
        .host = p->host,
        .port = p->port,
        .to_head = str_eq(req->method, STR("HEAD")),
        .idempotent = is_idempotent(req->method),
        .retries = p->retries,
        .connect_ms = p->connect_ms,
        .write_ms = p->write_ms,
        .read_ms = p->read_ms,
    };

    ex->held = waits_for_body(ex);
    if (ex->held)
        return;
    req->upstream_start_us = clock_mono_us_exact();
    set_framing(ex);
    r.framing = ex->framing;
    r.content_length = ex->content_length;
    http_start(&ex->http, &r, body_of(req), body_is_complete(req));
}

static void on_cancel(struct op *op)
{
    struct exchange *ex = CONTAINER_OF(op, struct exchange, op);

    loop_undefer(ex->req->loop, &ex->start);
    http_close(&ex->http);
    ex->cancelled = true;
    ex->held = ex->forwarding = false;
    finish(ex);
}

/* A response that was not sent on, but is all here, leaves its connection to others. */
static void skip_body(struct http_exchange *x)
{
    struct str piece;

    while (x->phase == HTTP_BODY && http_body_next(x, &piece) == HTTP1_PIECE)
        http_body_consume(x, piece.n);
}

static void on_request_end(void *arg)
{
    struct exchange *ex = arg;

    skip_body(&ex->http);
    loop_undefer(ex->req->loop, &ex->start);
    http_close(&ex->http);
}

/* The request's own Host; without one, the upstream's name. */
static struct str host_field(struct req *req, const struct exchange_params *p)
{
    const struct str *host = headers_get(&req->headers, STR("Host"));

    if (host)
        return *host;
    if (str_starts(p->host, STR("unix:")))
        return STR("localhost");
    if (p->port == 80)
        return p->host;
    return arena_printf(&req->arena, "%.*s:%u", STR_ARG(p->host), p->port);
}

/* The request's exchange, in the state before its start. */
static struct exchange *prepare(struct req *req)
{
    struct exchange *ex = req->exchange;

    if (ex) {
        on_request_end(ex); /* a second try of the Lua half's */
    } else {
        ex = req->exchange = arena_alloc(&req->arena, sizeof *ex);
        arena_on_reset(&req->arena, on_request_end, ex);
    }
    *ex = (struct exchange){ .req = req, .headers = req->headers };
    return ex;
}

static struct op *begin_wait(struct exchange *ex)
{
    op_init(&ex->op, on_cancel);
    op_start(&ex->op);
    return &ex->op;
}

void exchange_describe(struct req *req, struct str host, const struct forwarded *f)
{
    struct exchange *ex = prepare(req);

    ex->host = arena_str(&req->arena, host);
    ex->headers = forwarded_headers(req, f);
}

struct op *exchange_start(struct req *req, const struct exchange_params *p)
{
    struct exchange *ex = req->exchange;

    if (!ex || ex->op.state != OP_IDLE)
        ex = prepare(req);
    ex->params = *p;
    ex->params.host = arena_str(&req->arena, p->host);
    ex->params.target = arena_str(&req->arena, p->target);
    if (!ex->host.n)
        ex->host = host_field(req, &ex->params);
    http_exchange_init(&ex->http, the_exchanges.client, &req->arena, &HANDLERS, ex);
    ex->http.op.done = on_head;
    ex->http.op.arg = ex;
    req->upstream_start_us = clock_mono_us_exact();
    req->upstream_end_us = req->upstream_head_us = 0;
    req->upstream_status = 0;
    /* body records that lie in the same read as the parameters go out in the same write */
    loop_defer(req->loop, &ex->start, start_now);
    return begin_wait(ex);
}

int exchange_result(const struct req *req)
{
    const struct exchange *ex = req->exchange;

    if (!ex || ex->cancelled)
        return ERR_CANCELLED;
    return ex->http.code;
}

const char *exchange_reason(const struct req *req)
{
    const struct exchange *ex = req->exchange;

    if (!ex)
        return "";
    if (ex->cancelled)
        return "the request was given up";
    return ex->http.reason.p ? ex->http.reason.p : "";
}

const struct headers *exchange_headers(const struct req *req)
{
    return req->upstream_status ? &req->exchange->http.response.headers : NULL;
}

/* ---- for the Lua half ---- */

/* True if one of the first n fields is of that name: a plugin's. */
static bool is_taken(const struct headers *h, unsigned n, struct str name)
{
    int i = n ? headers_find(h, name, 0) : -1;

    return i >= 0 && (unsigned)i < n;
}

void exchange_accept(struct req *req)
{
    const struct http1_head *head = &req->exchange->http.response;
    const struct headers *from = &head->headers;
    unsigned own = req->resp_headers.n;
    bool names_fields = hop_names_fields(from);

    must(req->upstream_status);
    req->status = head->status;
    req->resp_content_length = head->has_length ? (int64_t)head->content_length : -1;
    for (unsigned i = 0; i < from->n; i++) {
        const struct header *field = &from->v[i];

        /* the length is a number of its own */
        if (str_eq_nocase(field->name, STR("Content-Length")) || hop_is_fixed(field->name) ||
            (names_fields && hop_is_named(from, field->name)) ||
            is_taken(&req->resp_headers, own, field->name))
            continue;
        headers_add(&req->resp_headers, &req->arena, field->name, field->value);
    }
}

void exchange_send_head(struct req *req, bool filtered)
{
    const struct http1_head *head = &req->exchange->http.response;

    /* of HEAD or 304 a plugin may have made something that has a body: then that is empty */
    bool is_missing = head->framing == HTTP1_BODY_NONE && head->content_length > 0;

    if (filtered || !head->has_length || (is_missing && !req_bodyless(req)))
        req->resp_content_length = -1;
    else if (req->resp_content_length >= 0)
        req->resp_content_length = (int64_t)head->content_length;
    req_send_head(req);
}

static int wait_or(struct exchange *ex, int step, struct op **op)
{
    if (step == EXCHANGE_WAITS)
        *op = begin_wait(ex);
    return step;
}

int exchange_forward(struct req *req, struct op **op)
{
    struct exchange *ex = req->exchange;
    int step = ex && !ex->cancelled ? pump(ex) : ERR_CANCELLED;

    if (step == EXCHANGE_WAITS)
        ex->forwarding = true;
    return wait_or(ex, step, op);
}

int exchange_read(struct req *req, struct str *piece, struct op **op)
{
    struct exchange *ex = req->exchange;

    if (!ex || ex->cancelled || req->aborted)
        return ERR_CANCELLED;
    http_body_consume(&ex->http, ex->lent_bytes);
    ex->lent_bytes = 0;
    switch (http_body_next(&ex->http, piece)) {
    case HTTP1_PIECE:
        ex->lent_bytes = piece->n;
        return EXCHANGE_PIECE;
    case HTTP1_MORE:
        return wait_or(ex, EXCHANGE_WAITS, op);
    case HTTP1_END:
        finish(ex);
        return EXCHANGE_END;
    default:
        finish(ex);
        return ex->http.code;
    }
}
