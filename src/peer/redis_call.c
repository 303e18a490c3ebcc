/*
 * Servers and calls of all kinds of Redis: sending a call, once more with the
 * script's text where the server does not know it, waiting until a server is
 * known, answering. Each call is in one place at a time: on a link, or in one list.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "peer/redis_internal.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>

#define HEAD_ARGS 3 /* EVALSHA, the script, the number of keys */

/* ---- targets ---- */

static void on_bound(struct deadline *d)
{
    struct redis_call *call = CONTAINER_OF(d, struct redis_call, deadline);
    struct redis *r = call->redis;
    struct err e;

    TAILQ_REMOVE(&r->waiting, call, link);
    err_set(&e, ERR_TIMEOUT, "%s: the look-up takes too long%s%s", r->name, r->said[0] ? ": " : "",
            r->said);
    redis_call_finish(call, e.code, NULL, e.text);
}

struct redis *redis_make(size_t size, const struct redis_type *type, struct loop *loop,
                         struct resolver *resolver, const struct redis_settings *settings)
{
    struct redis *r = xcalloc(1, size);

    r->type = type;
    r->loop = loop;
    r->resolver = resolver;
    r->settings = settings;
    TAILQ_INIT(&r->targets);
    TAILQ_INIT(&r->waiting);
    TAILQ_INIT(&r->failing);
    deadline_queue_init(&r->bound, loop, settings->connect_ms + settings->read_ms, on_bound);
    return r;
}

struct redis_target *redis_target_get(struct redis *r, struct str host, unsigned port,
                                      enum redis_link_kind kind)
{
    struct redis_target *s;
    unsigned count = 0;

    TAILQ_FOREACH (s, &r->targets, link) {
        if (!s->retired && s->kind == kind && s->node.port == port &&
            str_eq(str_from(s->host), host))
            return s;
        count++;
    }
    if (host.n == 0 || host.n > REDIS_HOST_MAX || count >= REDIS_TARGETS_MAX ||
        memchr(host.p, '\0', host.n))
        return NULL;
    s = xcalloc(1, sizeof *s + host.n + 1);
    memcpy(s->host, host.p, host.n);
    s->node = (struct redis_node){ .host = s->host, .port = port };
    s->kind = kind;
    s->redis = r;
    s->conn = redis_link_new(r->loop, r->resolver, r->settings, &s->node, kind);
    TAILQ_INSERT_TAIL(&r->targets, s, link);
    return s;
}

static void reap_target(struct dying *d)
{
    struct redis_target *s = CONTAINER_OF(d, struct redis_target, dying);

    TAILQ_REMOVE(&s->redis->targets, s, link);
    if (s->conn) {
        s->redis->past_writes += redis_link_write_count(s->conn);
        redis_link_free(s->conn);
    }
    free(s);
}

/* Not at once: its link may be about to call the next done. */
static void bury_if_idle(struct redis_target *s)
{
    if (s->retired && s->in_flight == 0 && !s->dying.reap)
        loop_bury(s->redis->loop, &s->dying, reap_target);
}

void redis_target_retire(struct redis_target *s)
{
    s->retired = true;
    bury_if_idle(s);
}

static void close_targets(struct redis *r)
{
    struct redis_target *s;

    TAILQ_FOREACH (s, &r->targets, link) {
        struct redis_link *conn = s->conn;

        s->conn = NULL;
        r->past_writes += redis_link_write_count(conn);
        redis_link_free(conn);
        redis_target_retire(s);
    }
}

static void reap_redis(struct dying *d)
{
    free(CONTAINER_OF(d, struct redis, dying));
}

void redis_free(struct redis *r)
{
    static const struct err CLOSED = { ERR_CANCELLED, "the client is closed" };

    must(!r->closing);
    r->closing = true;
    loop_undefer(r->loop, &r->deferred);
    r->type->close(r);
    close_targets(r);
    redis_wait_fail(r, &CLOSED);
    deadline_queue_fini(&r->bound);
    loop_bury(r->loop, &r->dying, reap_redis);
}

uint64_t redis_write_count(const struct redis *r)
{
    const struct redis_target *s;
    uint64_t n = r->past_writes;

    TAILQ_FOREACH (s, &r->targets, link)
        if (s->conn)
            n += redis_link_write_count(s->conn);
    return n;
}

/* ---- calls on a link ---- */

static size_t arg_length(const struct redis_call *call, int i)
{
    return call->lens ? call->lens[i] : strlen(call->argv[i]);
}

void redis_call_keep(struct redis_call *call)
{
    size_t n = 0, argc = (size_t)call->argc;
    const char **argv;
    size_t *lens;
    char *at;

    if (call->args_stay || call->copy)
        return;
    for (int i = 0; i < call->argc; i++)
        n += arg_length(call, i);
    call->copy = argv = xmalloc(argc * (sizeof *argv + sizeof *lens) + n + 1);
    lens = (size_t *)(argv + argc);
    at = (char *)(lens + argc);
    for (int i = 0; i < call->argc; i++) {
        lens[i] = arg_length(call, i);
        argv[i] = memcpy(at, call->argv[i], lens[i]);
        at += lens[i];
    }
    call->argv = argv;
    call->lens = lens;
}

static void on_done(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                    const char *reason)
{
    struct redis_call *call = CONTAINER_OF(cmd, struct redis_call, cmd);
    struct redis_target *s = call->server;

    s->in_flight--;
    if (code == 0)
        s->failed = false;
    if (UNLIKELY(call->script && !call->sent_text && redis_says(reply, "NOSCRIPT"))) {
        call->sent_text = true;
        redis_call_put(call, s);
    } else {
        s->redis->type->on_reply(call, code, reply, reason);
    }
    bury_if_idle(s);
}

static void on_asking(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                      const char *reason)
{
    /* the command's own reply tells whether it helped */
    (void)code;
    (void)reply;
    (void)reason;
    free(cmd);
}

static void send_script(struct redis_call *call, struct redis_target *s)
{
    const char *argv[HEAD_ARGS + REDIS_ARGS_MAX];
    size_t lens[HEAD_ARGS + REDIS_ARGS_MAX];
    char digits[U64_DIGITS];
    struct str keys = str_from_u64((uint64_t)call->key_count, digits);

    argv[0] = call->sent_text ? "EVAL" : "EVALSHA";
    lens[0] = call->sent_text ? 4 : 7;
    argv[1] = call->sent_text ? call->script->text : call->script->sha1;
    lens[1] = call->sent_text ? strlen(call->script->text) : 40;
    argv[2] = keys.p;
    lens[2] = keys.n;
    for (int i = 0; i < call->argc; i++) {
        argv[HEAD_ARGS + i] = call->argv[i];
        lens[HEAD_ARGS + i] = arg_length(call, i);
    }
    redis_link_send(s->conn, &call->cmd, HEAD_ARGS + call->argc, argv, lens);
}

/* Has a memory of its own, as its end may come after the call's. */
static void send_asking(struct redis_target *s)
{
    static const char *const ASKING[] = { "ASKING" };
    struct redis_cmd *cmd = xcalloc(1, sizeof *cmd);

    cmd->done = on_asking;
    redis_link_send(s->conn, cmd, 1, ASKING, NULL);
}

void redis_call_put(struct redis_call *call, struct redis_target *s)
{
    call->server = s;
    s->in_flight++;
    call->cmd.done = on_done;
    if (call->ask)
        send_asking(s);
    if (call->script)
        send_script(call, s);
    else
        redis_link_send(s->conn, &call->cmd, call->argc, call->argv, call->lens);
}

void redis_call_finish(struct redis_call *call, int code, const struct redisReply *reply,
                       const char *reason)
{
    if (call->deadline.queued)
        deadline_clear(call->deadline.queued, &call->deadline);
    if (call->copy) {
        free(call->copy);
        call->copy = NULL;
    }
    if (UNLIKELY(code == 0 && redis_is_failure(reply))) {
        code = ERR_CLOSED;
        reason = reply->str;
    }
    call->done(call, code, code ? NULL : reply, reason);
}

/* ---- calls that wait ---- */

static void on_deferred(struct deferred *d)
{
    struct redis *r = CONTAINER_OF(d, struct redis, deferred);

    r->type->on_waiting(r);
}

void redis_wait(struct redis_call *call)
{
    struct redis *r = call->redis;

    redis_call_keep(call);
    TAILQ_INSERT_TAIL(&r->waiting, call, link);
    deadline_set(&r->bound, &call->deadline);
    loop_defer(r->loop, &r->deferred, on_deferred);
}

struct redis_call *redis_wait_next(struct redis *r)
{
    struct redis_call *call = TAILQ_FIRST(&r->waiting);

    if (call) {
        TAILQ_REMOVE(&r->waiting, call, link);
        deadline_clear(&r->bound, &call->deadline);
    }
    return call;
}

/* By way of a list of its own: a done may send again, or free r. */
void redis_wait_fail(struct redis *r, const struct err *e)
{
    struct redis_call *call;

    while ((call = redis_wait_next(r)))
        TAILQ_INSERT_TAIL(&r->failing, call, link);
    while ((call = TAILQ_FIRST(&r->failing))) {
        TAILQ_REMOVE(&r->failing, call, link);
        redis_call_finish(call, e->code, NULL, e->text);
    }
}
