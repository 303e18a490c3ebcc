/*
 * See http.h: how an exchange ends, in good order or not, and the deadline that
 * it may end by. Knows nothing of what the others do; they all call this.
 */
#include "peer/http_conn.h"
#include "peer/http_internal.h"
#include "peer/http_pool.h"
#include "peer/http_upload.h"
#include "peer/timeouts.h"

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

/* Calls on_data if somebody was told HTTP1_MORE. */
static void tell(struct http_exchange *x)
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
        tell(x);
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
