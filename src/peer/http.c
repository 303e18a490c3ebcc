/*
 * See http.h. Here: the client, and the beginning and the breaking off of an exchange.
 * Below it, each calling only those behind it: http_receive.c has the response,
 * http_connect.c finds a connection, http_send.c sends, http_end.c ends.
 *
 * Every handler's last act is its call upward, because the exchange may be closed in it.
 */
#include "peer/http.h"
#include "peer/http_conn.h"
#include "peer/http_pool.h"
#include "peer/http_internal.h"
#include "peer/timeouts.h"
#include <stdlib.h>

static const struct http_conn_events EVENTS = {
    .on_connected = http_on_connected,
    .on_readable = http_on_readable,
    .on_writable = http_on_writable,
    .on_expired = http_on_expired,
};

struct http_client *http_client_new(struct loop *loop, const struct http_config *config)
{
    struct http_client *client = xcalloc(1, sizeof *client);

    client->loop = loop;
    client->config = *config;
    client->events = &EVENTS;
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

void http_close(struct http_exchange *x)
{
    if (x->op.state == OP_PENDING) {
        op_cancel(&x->op); /* comes back here */
        return;
    }
    resolver_forget(&x->resolving);
    if (x->deadline.queued)
        deadline_clear(x->deadline.queued, &x->deadline);
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
    x->conn->on = &EVENTS;
    x->conn->owner = x;
    http_send_request(x);
}
