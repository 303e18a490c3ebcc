/*
 * See http.h: the request goes out, as fast as the socket takes it. Which bytes
 * those are is http_upload.c's business.
 */
#include "peer/http_conn.h"
#include "peer/http_internal.h"
#include "peer/http_upload.h"

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
    http_conn_begin(x->conn);
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
