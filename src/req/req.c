/*
 * See req.h. Finished requests are kept in a small pool with their arena's
 * first block, so that a request costs no malloc.
 */
#include "req/req.h"
#include "base/clock.h"
#include <stdlib.h>
#include <sys/random.h>

#define ARENA_FIRST_BYTES 3968 /* with the block's header under one page */
#define POOL_MAX 256

static struct {
    struct req *free[POOL_MAX];
    unsigned free_count, alive;
} the_reqs;

struct req *req_new(struct loop *loop, const struct req_transport *transport, void *conn)
{
    struct req *req;
    struct arena arena;

    if (the_reqs.free_count) {
        req = the_reqs.free[--the_reqs.free_count];
        arena = req->arena;
    } else {
        req = xmalloc(sizeof *req);
        arena_init(&arena, ARENA_FIRST_BYTES);
    }
    *req = (struct req){
        .arena = arena,
        .loop = loop,
        .transport = transport,
        .conn = conn,
        .content_length = -1,
        .resp_content_length = -1,
        .start_us = clock_mono_us_exact(),
        .start_now_ms = clock_now_ms(),
    };
    the_reqs.alive++;
    return req;
}

static void reap(struct dying *d)
{
    struct req *req = CONTAINER_OF(d, struct req, dying);

    buf_free(&req->body);
    the_reqs.alive--;
    if (the_reqs.free_count < POOL_MAX) {
        arena_reset(&req->arena);
        the_reqs.free[the_reqs.free_count++] = req;
        return;
    }
    arena_fini(&req->arena);
    free(req);
}

void req_bury(struct req *req)
{
    req_advance(req, REQ_DEAD);
    loop_bury(req->loop, &req->dying, reap);
}

void req_advance(struct req *req, enum req_state next)
{
    must(next > req->state);
    req->state = next;
}

bool req_bodyless(const struct req *req)
{
    return req->is_head || req->status == 204 || req->status == 304;
}

void req_send_head(struct req *req)
{
    if (req->status == 0)
        req->status = 200;
    req_advance(req, REQ_RESPONDING);
    if (!req->aborted)
        req->transport->on_head(req);
}

void req_send_body(struct req *req, const char *p, size_t n)
{
    must(req->state == REQ_RESPONDING);
    if (n == 0 || req_bodyless(req))
        return;
    req->resp_bytes += n;
    if (!req->aborted)
        req->transport->on_body(req, p, n);
}

void req_send_end(struct req *req)
{
    req_advance(req, REQ_ANSWERED);
    if (!req->aborted)
        req->transport->on_end(req);
}

static void start_wait(struct op *op)
{
    must(op->state != OP_PENDING);
    op_init(op, NULL);
    op_start(op);
}

void req_wait_body(struct req *req)
{
    start_wait(&req->body_op);
}

void req_body_arrived(struct req *req)
{
    if (req->body_op.state == OP_PENDING &&
        (req->body_complete || req->body_paused || req->aborted))
        op_finish(&req->body_op, 0);
}

void req_wait_drain(struct req *req)
{
    start_wait(&req->drain_op);
}

void req_drained(struct req *req)
{
    if (req->drain_op.state == OP_PENDING)
        op_finish(&req->drain_op, 0);
}

unsigned req_count(void)
{
    return the_reqs.alive;
}

/* splitmix64, seeded once by the kernel: ids must differ, not be secret. */
static uint64_t next_random(void)
{
    static uint64_t state;
    uint64_t z;

    while (state == 0)
        must(getrandom(&state, sizeof state, 0) == sizeof state);
    z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct str req_id(struct req *req)
{
    static const char HEX[] = "0123456789abcdef";
    uint64_t bits = 0;

    if (!req->id[0]) {
        for (int i = 0; i < 32; i++, bits >>= 4) {
            if (i % 16 == 0)
                bits = next_random();
            req->id[i] = HEX[bits & 15];
        }
        req->id[32] = '\0';
    }
    return (struct str){ req->id, 32 };
}
