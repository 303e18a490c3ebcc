/*
 * One exchange as a spec sees it: started, run to its end, looked at.
 */
#ifndef WEIR_SPEC_CLIENT_H
#define WEIR_SPEC_CLIENT_H

#include "base/clock.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/http.h"
#include <event2/event.h>
#include <stdlib.h>

struct call {
    LIST_ENTRY(call) link;
    struct http_exchange x;
    struct arena arena;
    struct str method, target;
    struct headers headers;
    struct http_request r;
    struct str upload; /* not dropped yet */
    bool upload_complete;
    bool hold_back;  /* does not read the body of its own accord */
    struct buf body; /* received */
    bool head_done, ended;
    int code; /* of the end: 0, or the exchange's */
    struct err e;
};

static struct loop *the_loop;
static struct http_client *the_client;
static LIST_HEAD(calls, call) the_calls;

static inline void client_open(const struct http_config *config)
{
    struct http_config usual = { .max_idle = 8, .max_requests = 0, .max_head_bytes = 65536 };

    the_loop = loop_new();
    the_client = http_client_new(the_loop, config ? config : &usual);
}

static inline void call_free(struct call *c)
{
    LIST_REMOVE(c, link);
    http_close(&c->x);
    buf_free(&c->body);
    arena_fini(&c->arena);
    free(c);
}

/* Also what a failed example has left behind. */
static inline void client_close(void)
{
    while (!LIST_EMPTY(&the_calls))
        call_free(LIST_FIRST(&the_calls));
    http_client_free(the_client);
    loop_turn(the_loop, false);
    loop_free(the_loop);
    the_client = NULL;
    the_loop = NULL;
}

static inline int call_put_head(struct http_exchange *x, struct buf *out, struct err *e)
{
    struct call *c = x->arg;
    struct http1_request r = {
        .method = c->method,
        .target = c->target,
        .host = STR("up"),
        .headers = &c->headers,
        .framing = c->r.framing,
        .content_length = c->r.content_length,
    };

    return http1_put_request(out, &r, e);
}

static inline void call_read(struct call *c)
{
    struct str piece;

    while (!c->ended) {
        switch (http_body_next(&c->x, &piece)) {
        case HTTP1_MORE:
            return;
        case HTTP1_PIECE:
            if (buf_add(&c->body, piece.p, piece.n) != 0)
                abort();
            http_body_consume(&c->x, piece.n);
            break;
        case HTTP1_END:
            c->ended = true;
            break;
        case HTTP1_ERROR:
            c->ended = true;
            c->code = c->x.code;
            break;
        }
    }
}

static inline void call_on_data(struct http_exchange *x)
{
    struct call *c = x->arg;

    if (!c->hold_back)
        call_read(c);
}

static inline void call_on_sent(struct http_exchange *x)
{
    struct call *c = x->arg;
    size_t n = http_upload_drop(x, false);

    if (n) {
        c->upload = (struct str){ c->upload.p + n, c->upload.n - n };
        http_upload(x, c->upload, c->upload_complete);
    }
}

static inline void call_on_head(struct op *op, void *arg)
{
    struct call *c = arg;

    c->head_done = true;
    if (op->code != 0) {
        c->ended = true;
        c->code = op->code;
    } else if (!c->hold_back) {
        call_read(c);
    }
}

static const struct http_handlers CALL_HANDLERS = {
    .put_head = call_put_head,
    .on_data = call_on_data,
    .on_sent = call_on_sent,
};

/* A call that is not started: the caller may still change c->r and c->upload. */
static inline struct call *call_new(const char *method, const char *host, unsigned port)
{
    struct call *c = calloc(1, sizeof *c);

    arena_init(&c->arena, 4096);
    LIST_INSERT_HEAD(&the_calls, c, link);
    c->method = str_from(method);
    c->target = STR("/");
    c->r = (struct http_request){
        .host = str_from(host),
        .port = port,
        .to_head = strcmp(method, "HEAD") == 0,
        .idempotent = strcmp(method, "POST") != 0,
        .connect_ms = 3000,
        .write_ms = 3000,
        .read_ms = 3000,
    };
    c->upload_complete = true;
    return c;
}

static inline void call_with_body(struct call *c, const char *p, size_t n)
{
    c->upload = (struct str){ p, n };
    c->r.framing = HTTP1_BODY_LENGTH;
    c->r.content_length = n;
}

static inline void call_start(struct call *c)
{
    http_exchange_init(&c->x, the_client, &c->arena, &CALL_HANDLERS, c);
    c->x.op.done = call_on_head;
    c->x.op.arg = c;
    http_start(&c->x, &c->r, c->upload, c->upload_complete);
}

/* Turns until *flag, for at most six seconds. */
static inline bool turn_until(const bool *flag)
{
    int64_t end_us = clock_mono_us_exact() + 6000000;
    struct timeval tv = { 0, 20000 };

    while (!*flag && clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
    return *flag;
}

static inline void turn_for(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;
    struct timeval tv = { 0, 5000 };

    while (clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
}

/* Starts it and runs it to its end. */
static inline struct call *call_run(struct call *c)
{
    call_start(c);
    turn_until(&c->ended);
    return c;
}

#endif
