/*
 * See http_upload.h. A body whose length is known goes out of the caller's
 * memory; one in chunks is encoded into a queue of its own. While the
 * connection may turn out to be stale, the first bytes are held, up to a bound.
 *
 * A failed write is no failure of the exchange: the upstream may have answered
 * before it closed, so the reader decides.
 */
#include "peer/http_upload.h"
#include "peer/http_conn.h"
#include <errno.h>

#define HOLD_BYTES (64 * 1024)  /* held for a second try */
#define DROP_BYTES (64 * 1024)  /* dropped in steps of this, as it moves memory */
#define CHUNK_BYTES (16 * 1024) /* of one chunk, at most */
#define QUEUE_BYTES (64 * 1024) /* of encoded chunks */

void upload_rewind(struct http_exchange *x)
{
    struct http_upload *up = &x->up;

    must(!up->dropped);
    if (x->request.framing == HTTP1_BODY_LENGTH) {
        up->announced = x->request.content_length;
        up->used = 0;
    }
    up->chunks_sent = 0;
    up->head_rest = STR_NULL;
    up->began = up->abandoned = false;
}

bool upload_can_rewind(const struct http_exchange *x)
{
    return !x->up.dropped;
}

static bool body_is_over(const struct http_exchange *x)
{
    const struct http_upload *up = &x->up;

    switch (x->request.framing) {
    case HTTP1_BODY_LENGTH:
        return up->announced == 0;
    case HTTP1_BODY_CHUNKED:
        return up->last_chunk && up->chunks_sent == up->chunks.n;
    default:
        return true;
    }
}

bool upload_is_over(const struct http_exchange *x)
{
    return x->up.began && !x->up.head_rest.n && body_is_over(x);
}

bool upload_is_blocked(const struct http_exchange *x)
{
    const struct http_upload *up = &x->up;

    if (up->abandoned)
        return false;
    if (up->head_rest.n)
        return true;
    if (x->request.framing == HTTP1_BODY_LENGTH)
        return up->used < up->bytes.n;
    return up->chunks_sent < up->chunks.n;
}

/* Moves bytes into chunks, as far as the queue's bound lets it. */
static void encode(struct http_upload *up)
{
    while (up->used < up->bytes.n && up->chunks.n - up->chunks_sent < QUEUE_BYTES) {
        size_t n = up->bytes.n - up->used;

        if (n > CHUNK_BYTES)
            n = CHUNK_BYTES;
        must(http1_put_chunk(&up->chunks, up->bytes.p + up->used, n) == 0);
        up->used += n;
    }
    if (up->complete && up->used == up->bytes.n && !up->last_chunk) {
        must(http1_put_last_chunk(&up->chunks) == 0);
        up->last_chunk = true;
    }
}

static struct str rest_of(const char *p, size_t n, size_t done)
{
    return n == done ? STR_NULL : (struct str){ p + done, n - done }; /* p may be null */
}

/* The body's bytes that go out next. */
static struct str next_bytes(struct http_exchange *x)
{
    struct http_upload *up = &x->up;

    switch (x->request.framing) {
    case HTTP1_BODY_LENGTH:
        return rest_of(up->bytes.p, up->bytes.n, up->used);
    case HTTP1_BODY_CHUNKED:
        encode(up);
        return rest_of(up->chunks.p, up->chunks.n, up->chunks_sent);
    default:
        return STR_NULL;
    }
}

static void sent(struct http_exchange *x, size_t n)
{
    struct http_upload *up = &x->up;

    if (x->request.framing == HTTP1_BODY_LENGTH) {
        up->used += n;
        up->announced -= n;
        return;
    }
    up->chunks_sent += n;
    if (up->chunks_sent < HOLD_BYTES && x->pooled && x->phase == HTTP_HEAD)
        return;
    /* all, or a good part: moving the rest must stay cheap */
    if (up->chunks_sent == up->chunks.n || up->chunks_sent >= HOLD_BYTES) {
        up->dropped = true;
        buf_drop(&up->chunks, up->chunks_sent);
        up->chunks_sent = 0;
    }
}

static int check_length(const struct http_exchange *x, struct err *e)
{
    const struct http_upload *up = &x->up;
    size_t unsent = up->bytes.n - up->used;

    if (x->request.framing == HTTP1_BODY_CHUNKED || up->abandoned)
        return 0;
    if (x->request.framing == HTTP1_BODY_NONE ? up->bytes.n > 0 : unsent > up->announced)
        return err_set(e, ERR_SYNTAX, "the request's body is longer than announced");
    if (x->request.framing == HTTP1_BODY_LENGTH && up->complete && unsent < up->announced)
        return err_set(e, ERR_SYNTAX, "the request's body is shorter than announced");
    return 0;
}

/* One write of the head and what there is of the body. -1: the socket takes no more now. */
static int write_some(struct http_exchange *x, struct str *head)
{
    struct str body = next_bytes(x);
    struct iovec iov[2] = { { (void *)(uintptr_t)head->p, head->n },
                            { (void *)(uintptr_t)body.p, body.n } };
    unsigned from = head->n ? 0 : 1, to = body.n ? 2 : 1;
    ssize_t n;
    size_t of_head;

    if (from >= to)
        return -1;
    n = http_conn_write(x->conn, iov + from, to - from);
    if (n < 0) {
        x->up.abandoned = errno != EAGAIN;
        return -1;
    }
    of_head = (size_t)n < head->n ? (size_t)n : head->n;
    x->up.began = x->up.began || n > 0;
    *head = (struct str){ head->p + of_head, head->n - of_head };
    if ((size_t)n > of_head)
        sent(x, (size_t)n - of_head);
    return head->n || (size_t)n - of_head < body.n ? -1 : 0;
}

int upload_flush(struct http_exchange *x, struct buf *scratch, struct err *e)
{
    struct http_upload *up = &x->up;
    struct str head = up->head_rest;
    bool first = !up->began && !head.n;
    int rc = check_length(x, e);

    if (rc == 0 && first) {
        scratch->n = 0;
        rc = x->handlers->put_head(x, scratch, e);
        head = (struct str){ scratch->p, scratch->n };
    }
    if (rc != 0 || up->abandoned)
        return rc;
    while (write_some(x, &head) == 0)
        ;
    /* the scratch is everybody's */
    up->head_rest = first && head.n ? arena_str(x->arena, head) : head;
    http_conn_want_write(x->conn, upload_is_blocked(x));
    return 0;
}

size_t http_upload_unsent(const struct http_exchange *x)
{
    return x->up.bytes.n - x->up.used;
}

size_t http_upload_drop(struct http_exchange *x, bool hard)
{
    struct http_upload *up = &x->up;
    size_t n = up->used;

    if (x->phase >= HTTP_COMPLETE || (up->abandoned && x->phase == HTTP_BODY)) {
        n = up->bytes.n;
        up->bytes = STR_NULL;
        up->used = 0;
        return n;
    }
    if (n == 0 || (n < up->bytes.n && n < DROP_BYTES))
        return 0;
    if (x->request.framing == HTTP1_BODY_LENGTH) {
        if (!hard && n < HOLD_BYTES && x->pooled && x->phase == HTTP_HEAD)
            return 0;
        up->dropped = true;
    }
    up->bytes = (struct str){ up->bytes.p + n, up->bytes.n - n };
    up->used = 0;
    return n;
}
