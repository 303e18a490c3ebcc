/*
 * See http.h: the response. Reads once for each event, and only while somebody
 * wants what comes. Decides whether a connection that was closed before the
 * response began is followed by another.
 */
#include "peer/http_conn.h"
#include "peer/http_internal.h"
#include "peer/http_upload.h"
#include <errno.h>

/*
 * A connection that had idled may have been closed by the other side just
 * before it was used: that is nobody's fault and does not count as a try. A
 * request that must not be made twice is sent again only if nothing of it has
 * surely been read.
 */
static bool may_send_again(struct http_exchange *x)
{
    bool harmless = x->request.idempotent || !x->up.began;

    if (!upload_can_rewind(x) || x->in.end > 0)
        return false;
    if (!x->pooled)
        return harmless && x->turn.nth < x->max_tries;
    return harmless || http_conn_closed_before(x->conn);
}

static void closed_before_head(struct http_exchange *x)
{
    if (!may_send_again(x)) {
        http_fail(x, ERR_CLOSED,
                  x->in.end > 0 ? "it closed the connection in the midst of the response's head"
                                : "it closed the connection without an answer");
        return;
    }
    http_drop_connection(x);
    http_connect(x);
}

static void on_head(struct http_exchange *x, size_t head_bytes)
{
    const struct http1_head *head = &x->response;

    x->in.start += head_bytes;
    x->phase = HTTP_BODY;
    http1_body_init(&x->decoder, head->framing, head->content_length);
    if (head->framing == HTTP1_BODY_NONE ||
        (head->framing == HTTP1_BODY_LENGTH && head->content_length == 0))
        http_complete(x);
    else
        http_arm_deadline(x);
    op_finish(&x->op, 0);
}

static void read_head(struct http_exchange *x)
{
    struct str in = rbuf_bytes(&x->in);
    size_t max_bytes = x->client->config.max_head_bytes;
    struct err e;
    int n = http1_head_parse(in, &x->response, x->arena, &e);

    if (n == ERR_BOUND && in.n >= max_bytes)
        http_fail(x, n, "the response's head is larger than upstream_max_head_bytes");
    else if (n < 0)
        http_fail(x, n, e.text);
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

void http_on_readable(struct http_conn *c)
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
            http_arm_deadline(x);
        read_head(x);
    } else {
        /* the upstream's time runs again when the reader has taken what is there */
        x->hungry = false;
        http_arm_deadline(x);
        x->handlers->on_data(x);
    }
}

static enum http1_event out_of_bytes(struct http_exchange *x)
{
    rbuf_drop(x->client->buffers, &x->in);
    if (!x->eof) {
        x->hungry = true;
        http_conn_want_read(x->conn, true);
        http_arm_deadline(x);
        return HTTP1_MORE;
    }
    if (x->broken || !http1_body_ends_here(&x->decoder))
        return http_break_off(x, ERR_CLOSED,
                              "it closed the connection in the midst of the response's body");
    http_complete(x);
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
    if (x->hungry)
        return HTTP1_MORE;
    if (x->piece.n == 0) {
        event = http1_body_decode(&x->decoder, &in, &x->piece);
        x->in.start = x->in.end - in.n;
    }
    switch (event) {
    case HTTP1_PIECE:
        *piece = x->piece;
        return HTTP1_PIECE;
    case HTTP1_END:
        http_complete(x);
        return HTTP1_END;
    case HTTP1_MORE:
        return out_of_bytes(x);
    default:
        return http_break_off(x, ERR_SYNTAX, "the response's body is malformed");
    }
}

void http_body_consume(struct http_exchange *x, size_t n)
{
    must(n <= x->piece.n);
    if (n == 0)
        return; /* perhaps there is no piece */
    x->piece.p += n;
    x->piece.n -= n;
}
