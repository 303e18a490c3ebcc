/*
 * The master that Sentinel names, and a replica of it for those who only read.
 * A look-up asks the Sentinels in turn, beginning with the one that knew it
 * last, and believes none of them before the server has said its ROLE. While
 * it is not known whether the master still is one, calls wait.
 */
#include "base/clock.h"
#include "base/log.h"
#include "peer/redis_internal.h"
#include "peer/redis_watch.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_PAUSE_MS 100 /* after a look-up that found nothing; doubles */
#define LAST_PAUSE_MS 1000
#define REPLICAS_MAX 8 /* that are tried in a look-up */

struct replica {
    char host[REDIS_HOST_MAX + 1];
    unsigned port;
};

struct sentinel {
    struct redis base;
    struct redis_target *master, *replica; /* NULL: not known */
    struct redis_target *candidate, *asked;
    struct redis_target *refused; /* by this look-up already: did not say that it is the master */
    struct redis_watch *watch;
    unsigned first, nth;    /* of the settings' Sentinels: asked first; asked how many */
    bool trusted;           /* calls may go to the master */
    bool looking, outdated; /* a look-up runs; it must be repeated */
    int64_t again_mono_ms;  /* no look-up before */
    int64_t pause_ms;
    struct redis_cmd query;
    void (*on_answer)(struct sentinel *s, int code, const struct redisReply *reply,
                      const char *reason);
    struct replica replicas[REPLICAS_MAX];
    unsigned replica_count, replica_at, turn;
};

static void ask_next(struct sentinel *s);
static void look_up(struct sentinel *s);

/* ---- where calls go ---- */

/* A replica that is gone is missed by those whom the master answers instead. */
static bool misses_replica(const struct sentinel *s, const struct redis_call *call)
{
    return call->read_only && !s->replica && !s->looking &&
           s->base.settings->sentinel_role == REDIS_ROLE_ANY && clock_mono_ms() >= s->again_mono_ms;
}

/* NULL: nowhere yet. */
static struct redis_target *server_for(const struct sentinel *s, const struct redis_call *call)
{
    enum redis_role role = s->base.settings->sentinel_role;

    if (!s->trusted)
        return NULL;
    if (!call->read_only || role == REDIS_ROLE_MASTER)
        return s->master;
    if (s->replica || role == REDIS_ROLE_SLAVE)
        return s->replica;
    return s->master;
}

static void sentinel_send(struct redis *r, struct redis_call *call, struct str key)
{
    struct sentinel *s = CONTAINER_OF(r, struct sentinel, base);
    struct redis_target *server = server_for(s, call);

    (void)key;
    if (UNLIKELY(!server)) {
        redis_wait(call);
        return;
    }
    redis_call_put(call, server);
    if (UNLIKELY(misses_replica(s, call)))
        look_up(s);
}

static void fail_waiting(struct sentinel *s)
{
    struct err e;
    const char *said = s->base.said;

    if (s->trusted)
        err_set(&e, ERR_CLOSED, "%s has no replica that answers%s%s", s->base.name,
                said[0] ? ": " : "", said);
    else
        err_set(&e, ERR_CLOSED, "%s is not found: %s", s->base.name, said);
    redis_wait_fail(&s->base, &e);
}

static void sentinel_on_waiting(struct redis *r)
{
    struct sentinel *s = CONTAINER_OF(r, struct sentinel, base);

    if (s->looking)
        return;
    if (clock_mono_ms() >= s->again_mono_ms)
        look_up(s);
    else
        fail_waiting(s);
}

/* The call is answered first: whoever is answered may free this. */
static void sentinel_on_reply(struct redis_call *call, int code, const struct redisReply *reply,
                              const char *reason)
{
    struct sentinel *s = CONTAINER_OF(call->redis, struct sentinel, base);
    struct redis_target *server = call->server;

    if (LIKELY(code == 0 && !redis_says(reply, "READONLY"))) {
        redis_call_finish(call, code, reply, reason);
        return;
    }
    if (server == s->master)
        s->trusted = false;
    if (server == s->replica)
        s->replica = NULL;
    redis_call_finish(call, code, reply, reason);
    if (!s->base.closing && (!s->trusted || !s->replica))
        sentinel_on_waiting(&s->base);
}

/* ---- the look-up ---- */

static void on_query(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                     const char *reason)
{
    struct sentinel *s = CONTAINER_OF(cmd, struct sentinel, query);

    if (!s->base.closing)
        s->on_answer(s, code, reply, reason);
}

static void query(struct sentinel *s, struct redis_target *server,
                  void (*on_answer)(struct sentinel *s, int code, const struct redisReply *reply,
                                    const char *reason),
                  int argc, const char *const *argv)
{
    s->on_answer = on_answer;
    s->query.done = on_query;
    redis_link_send(server->conn, &s->query, argc, argv, NULL);
}

static void query_role(struct sentinel *s,
                       void (*on_answer)(struct sentinel *s, int code,
                                         const struct redisReply *reply, const char *reason))
{
    static const char *const ROLE[] = { "ROLE" };

    query(s, s->candidate, on_answer, 1, ROLE);
}

/* What a look-up has come across, and what was in use before it. */
static void retire_others(struct sentinel *s)
{
    struct redis_target *x, *next;

    for (x = TAILQ_FIRST(&s->base.targets); x; x = next) {
        next = TAILQ_NEXT(x, link);
        if (x->kind == REDIS_LINK_DATA && x != s->master && x != s->replica && !x->retired)
            redis_target_retire(x);
    }
}

static void send_waiting(struct sentinel *s)
{
    struct redis_call *call;
    struct redis_target *server;

    while ((call = redis_wait_next(&s->base))) {
        if ((server = server_for(s, call)))
            redis_call_put(call, server);
        else
            TAILQ_INSERT_TAIL(&s->base.failing, call, link);
    }
    if (!TAILQ_EMPTY(&s->base.failing))
        fail_waiting(s);
}

/* What is known now; no replica is asked for again for a while when there is none. */
static void found(struct sentinel *s, struct redis_target *replica)
{
    bool wants = s->base.settings->sentinel_role != REDIS_ROLE_MASTER;

    s->replica = replica;
    retire_others(s);
    s->first = (s->first + s->nth) % s->base.settings->sentinel_count;
    s->looking = false;
    s->pause_ms = FIRST_PAUSE_MS;
    s->again_mono_ms = wants && !replica ? clock_mono_ms() + LAST_PAUSE_MS : 0;
    if (s->outdated) {
        look_up(s);
        return;
    }
    s->trusted = true;
    send_waiting(s);
}

static void not_found(struct sentinel *s)
{
    retire_others(s);
    s->looking = false;
    s->again_mono_ms = clock_mono_ms() + s->pause_ms;
    s->pause_ms = s->pause_ms * 2 < LAST_PAUSE_MS ? s->pause_ms * 2 : LAST_PAUSE_MS;
    s->trusted = false;
    if (s->outdated)
        look_up(s);
    else
        fail_waiting(s);
}

static bool is_role(const struct redisReply *reply, const char *role)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
           reply->element[0]->type == REDIS_REPLY_STRING &&
           strcmp(reply->element[0]->str, role) == 0;
}

/* "127.0.0.1:26379: names 127.0.0.1:6379: the reason" */
static void said_of_candidate(struct sentinel *s, int code, const struct redisReply *reply,
                              const char *reason)
{
    struct err e;
    const char *what;

    if (code)
        what = redis_without_node(&s->candidate->node, reason);
    else if (reply->type == REDIS_REPLY_ERROR)
        what = reply->str;
    else
        what = is_role(reply, "slave") ? "it is a replica" : "it does not have that role";
    err_set(&e, ERR_CLOSED, "names %s:%u: %s", s->candidate->node.host, s->candidate->node.port,
            what);
    redis_said(&s->base, &s->asked->node, e.text);
}

static void try_replica(struct sentinel *s);

static void on_replica_role(struct sentinel *s, int code, const struct redisReply *reply,
                            const char *reason)
{
    if (code == 0 && is_role(reply, "slave")) {
        found(s, s->candidate);
        return;
    }
    said_of_candidate(s, code, reply, reason);
    try_replica(s);
}

static void try_replica(struct sentinel *s)
{
    const struct replica *replica;

    if (s->replica_at == s->replica_count) {
        found(s, NULL);
        return;
    }
    replica = &s->replicas[s->replica_at++];
    s->candidate =
        redis_target_get(&s->base, str_from(replica->host), replica->port, REDIS_LINK_DATA);
    if (s->candidate)
        query_role(s, on_replica_role);
    else
        try_replica(s);
}

/* Of a flat array of names and values; "" when it is not there. */
static const char *field(const struct redisReply *fields, const char *name)
{
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (fields->element[i]->type == REDIS_REPLY_STRING &&
            fields->element[i + 1]->type == REDIS_REPLY_STRING &&
            strcmp(fields->element[i]->str, name) == 0)
            return fields->element[i + 1]->str;
    return "";
}

/* Those that Sentinel believes to be up, beginning with another one each time. */
static void note_replicas(struct sentinel *s, const struct redisReply *list)
{
    s->replica_count = s->replica_at = 0;
    s->turn++;
    for (size_t i = 0; i < list->elements && s->replica_count < REPLICAS_MAX; i++) {
        const struct redisReply *x = list->element[(i + s->turn) % list->elements];
        struct replica *to = &s->replicas[s->replica_count];
        const char *flags, *host;
        uint64_t port;

        if (x->type != REDIS_REPLY_ARRAY)
            continue;
        flags = field(x, "flags");
        host = field(x, "ip");
        if (strstr(flags, "down") || strstr(flags, "disconnected") ||
            strlen(host) > REDIS_HOST_MAX || str_to_u64(str_from(field(x, "port")), 65535, &port))
            continue;
        snprintf(to->host, sizeof to->host, "%s", host);
        to->port = (unsigned)port;
        s->replica_count++;
    }
}

static void on_replicas(struct sentinel *s, int code, const struct redisReply *reply,
                        const char *reason)
{
    if (code == 0 && reply->type == REDIS_REPLY_ARRAY) {
        note_replicas(s, reply);
    } else {
        redis_said(&s->base, &s->asked->node, redis_answer_text(code, reply, reason));
        s->replica_count = s->replica_at = 0;
    }
    try_replica(s);
}

/* Sentinels before Redis 5 know another word only. */
static void on_first_replicas(struct sentinel *s, int code, const struct redisReply *reply,
                              const char *reason)
{
    if (code == 0 && reply->type == REDIS_REPLY_ERROR) {
        const char *argv[] = { "SENTINEL", "slaves", s->base.settings->sentinel_master };

        query(s, s->asked, on_replicas, 3, argv);
    } else {
        on_replicas(s, code, reply, reason);
    }
}

static void on_master_role(struct sentinel *s, int code, const struct redisReply *reply,
                           const char *reason)
{
    const char *argv[] = { "SENTINEL", "replicas", s->base.settings->sentinel_master };

    if (code || !is_role(reply, "master")) {
        said_of_candidate(s, code, reply, reason);
        s->refused = s->candidate;
        ask_next(s);
        return;
    }
    if (s->master && s->master != s->candidate)
        log_notice("%s is %s:%u now, no longer %s:%u", s->base.name, s->candidate->node.host,
                   s->candidate->node.port, s->master->node.host, s->master->node.port);
    s->master = s->candidate;
    if (s->base.settings->sentinel_role == REDIS_ROLE_MASTER)
        found(s, NULL);
    else
        query(s, s->asked, on_first_replicas, 3, argv);
}

/* [host, port], or nil when the Sentinel does not know the name. */
static void on_address(struct sentinel *s, int code, const struct redisReply *reply,
                       const char *reason)
{
    uint64_t port;

    s->candidate = NULL;
    if (code == 0 && reply->type == REDIS_REPLY_NIL) {
        redis_said(&s->base, &s->asked->node, "does not know this master");
    } else if (code || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
               reply->element[0]->type != REDIS_REPLY_STRING ||
               reply->element[1]->type != REDIS_REPLY_STRING ||
               str_to_u64(str_from(reply->element[1]->str), 65535, &port)) {
        redis_said(&s->base, &s->asked->node, redis_answer_text(code, reply, reason));
    } else {
        struct str host = { reply->element[0]->str, reply->element[0]->len };

        s->candidate = redis_target_get(&s->base, host, (unsigned)port, REDIS_LINK_DATA);
        if (!s->candidate)
            redis_said(&s->base, &s->asked->node, "names a host that cannot be");
    }
    if (s->candidate && s->candidate == s->refused) {
        redis_said(&s->base, &s->asked->node, "names it, too");
        s->candidate = NULL; /* asked twice it would take twice as long to be silent */
    }
    if (s->candidate)
        query_role(s, on_master_role);
    else
        ask_next(s);
}

static void ask_next(struct sentinel *s)
{
    const struct redis_settings *settings = s->base.settings;
    const char *argv[] = { "SENTINEL", "get-master-addr-by-name", settings->sentinel_master };
    const struct redis_node *node;

    s->nth++;
    if (s->nth == settings->sentinel_count) {
        not_found(s);
        return;
    }
    node = &settings->sentinels[(s->first + s->nth) % settings->sentinel_count];
    s->asked = redis_target_get(&s->base, str_from(node->host), node->port, REDIS_LINK_SENTINEL);
    if (s->asked)
        query(s, s->asked, on_address, 3, argv);
    else
        ask_next(s);
}

static void on_switch(void *arg)
{
    struct sentinel *s = arg;

    s->trusted = false;
    if (s->looking)
        s->outdated = true;
    else
        look_up(s);
}

static void look_up(struct sentinel *s)
{
    s->looking = true;
    s->outdated = false;
    s->base.said[0] = '\0';
    s->refused = NULL;
    s->nth = (unsigned)-1;
    if (!s->watch)
        s->watch = redis_watch_new(s->base.loop, s->base.resolver, s->base.settings, on_switch, s);
    ask_next(s);
}

/* ---- the type ---- */

static void sentinel_close(struct redis *r)
{
    struct sentinel *s = CONTAINER_OF(r, struct sentinel, base);

    if (s->watch)
        redis_watch_free(s->watch);
}

static const struct redis_type SENTINEL = {
    .send = sentinel_send,
    .on_reply = sentinel_on_reply,
    .on_waiting = sentinel_on_waiting,
    .close = sentinel_close,
};

struct redis *redis_sentinel_new(struct loop *loop, struct resolver *resolver,
                                 const struct redis_settings *settings)
{
    struct redis *r = redis_make(sizeof(struct sentinel), &SENTINEL, loop, resolver, settings);

    must(settings->sentinel_count > 0);
    CONTAINER_OF(r, struct sentinel, base)->pause_ms = FIRST_PAUSE_MS;
    return r;
}
