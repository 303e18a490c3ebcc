/*
 * See http.h. Here: the client, the beginning and the end of an exchange, and
 * sending. http_connect.c finds a connection, http_receive.c has the response.
 *
 * Every handler's last act is its call upward, because the exchange may be closed in it.
 */
#include "peer/http.h"
#include "peer/http_conn.h"
#include "peer/http_pool.h"
#include "peer/http_internal.h"
#include "peer/http_upload.h"
#include "peer/timeouts.h"
#include <stdlib.h>

struct http_client *http_client_new(struct loop *loop, const struct http_config *config)
{
    struct http_client *client = xcalloc(1, sizeof *client);

    client->loop = loop;
    client->config = *config;
    client->resolver = resolver_new(loop);
    client->timeouts = timeouts_new(loop, http_conn_expired);
    client->resolve_timeouts = timeouts_new(loop, http_resolve_expired);
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

void http_drop_connection(struct http_exchange *x)
{
    if (x->conn)
        http_conn_close(x->conn);
    x->conn = NULL;
    x->piece = STR_NULL;
    rbuf_drop(x->client->buffers, &x->in);
}

enum http1_event http_break_off(struct http_exchange *x, int code, const char *what)
{
    const struct http_request *r = &x->request;

    http_drop_connection(x);
    x->phase = HTTP_FAILED;
    x->code = code;
    if (str_starts(r->host, STR("unix:")))
        x->reason = arena_printf(x->arena, "%.*s: %s", STR_ARG(r->host), what);
    else
        x->reason = arena_printf(x->arena, "%.*s:%u: %s", STR_ARG(r->host), r->port, what);
    return HTTP1_ERROR;
}

void http_tell(struct http_exchange *x)
{
    if (!x->hungry)
        return;
    x->hungry = false;
    x->handlers->on_data(x);
}

void http_fail(struct http_exchange *x, int code, const char *what)
{
    http_break_off(x, code, what);
    if (x->op.state == OP_PENDING)
        op_finish(&x->op, code);
    else
        http_tell(x);
}

void http_complete(struct http_exchange *x)
{
    bool reusable = x->response.keep_alive && !x->eof && x->in.start == x->in.end &&
                    upload_is_over(x) && !x->up.abandoned;

    x->phase = HTTP_COMPLETE;
    if (reusable) {
        http_target_give(x->target, x->conn);
        x->conn = NULL;
    }
    http_drop_connection(x);
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
        http_drop_connection(x);
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

void http_arm_deadline(struct http_exchange *x)
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
        http_fail(x, rc, e.text);
    else
        http_arm_deadline(x);
}

void http_send_request(struct http_exchange *x)
{
    x->phase = HTTP_HEAD;
    x->eof = x->broken = x->bulk = false;
    x->response = (struct http1_head){ .to_head = x->request.to_head,
                                       .max_bytes = x->client->config.max_head_bytes };
    x->conn->requests++;
    upload_rewind(x);
    flush(x);
    if (x->phase == HTTP_HEAD && x->up.used)
        x->handlers->on_sent(x);
}

void http_on_writable(struct http_conn *c)
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

void http_exchange_init(struct http_exchange *x, struct http_client *client, struct arena *arena,
                        const struct http_handlers *handlers, void *arg)
{
    *x = (struct http_exchange){
        .client = client, .arena = arena, .handlers = handlers, .arg = arg
    };
    op_init(&x->op, on_cancel);
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
        http_connect(x);
        return;
    }
    x->pooled = true;
    x->conn->on = &HTTP_EXCHANGE_EVENTS;
    x->conn->owner = x;
    http_send_request(x);
}
