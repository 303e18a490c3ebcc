/*
 * A Cluster: each call goes to the node that has its key's slot, over one link
 * per node. Redirections are followed; the map of slots is asked for again, at
 * most once a second, when a node redirects or fails. A call whose connection
 * was lost is never sent twice: it may have been carried out.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "peer/redis_internal.h"
#include "peer/redis_slot.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>

#define PAUSE_MS 25        /* before what the cluster cannot do now is tried again */
#define REFRESH_MS 1000    /* between two looks at the map */
#define FIRST_AGAIN_MS 100 /* the same, while no node tells it; doubles */

struct cluster {
    struct redis base;
    struct redis_target **slots; /* REDIS_SLOTS; NULL: nobody has it, as far as is known */
    bool mapped;
    bool refreshing, wanted;      /* the map is asked for; shall be, when it may be again */
    struct redis_target **nodes;  /* to ask for the map */
    unsigned node_count, node_at; /* asked is nodes[node_at - 1] */
    unsigned turn;
    int64_t again_mono_ms, again_ms;
    struct redis_cmd query;
    struct redis_calls paused;
    struct deadline_queue pause, refresh;
    struct deadline due; /* a refresh that is wanted */
};

/* ---- where calls go ---- */

static struct redis_target *any_node(const struct cluster *c)
{
    struct redis_target *s;

    TAILQ_FOREACH (s, &c->base.targets, link)
        if (s->listed && !s->retired && !s->failed)
            return s;
    TAILQ_FOREACH (s, &c->base.targets, link)
        if (s->listed && !s->retired)
            return s;
    must_fail(__FILE__, __LINE__, "a map names a node");
}

/* To whoever has the slot; where that is nobody, the answer says so in the cluster's own words. */
static void route(struct cluster *c, struct redis_call *call)
{
    struct redis_target *s = c->slots[call->slot];

    call->ask = false;
    redis_call_put(call, LIKELY(s != NULL) ? s : any_node(c));
}

static void cluster_send(struct redis *r, struct redis_call *call, struct str key)
{
    struct cluster *c = CONTAINER_OF(r, struct cluster, base);

    call->slot = redis_slot(key);
    call->until_ms = clock_mono_ms() + r->settings->read_ms;
    redis_call_keep(call);
    if (LIKELY(c->mapped))
        route(c, call);
    else
        redis_wait(call);
}

/* ---- the map ---- */

static void ask_next(struct cluster *c);

static void add_node(struct cluster *c, struct redis_target *s)
{
    if (s && !s->asked) {
        s->asked = true;
        c->nodes[c->node_count++] = s;
    }
}

/* The preferred one, those that answered last, those that did not, then the settings'. */
static void collect_nodes(struct cluster *c, struct redis_target *preferred)
{
    const struct redis_settings *settings = c->base.settings;
    struct redis_target *s;

    free(c->nodes);
    c->nodes = xcalloc(REDIS_TARGETS_MAX + REDIS_NODES_MAX, sizeof(struct redis_target *));
    c->node_count = c->node_at = 0;
    TAILQ_FOREACH (s, &c->base.targets, link)
        s->asked = s->retired;
    add_node(c, preferred);
    for (int failed = 0; failed < 2; failed++)
        TAILQ_FOREACH (s, &c->base.targets, link)
            if (s->failed == (failed == 1))
                add_node(c, s);
    for (unsigned i = 0; i < settings->cluster_count; i++) {
        const struct redis_node *node = &settings->cluster[i];

        add_node(c, redis_target_get(&c->base, str_from(node->host), node->port, REDIS_LINK_DATA));
    }
}

/* Asks for the map now or, where that was done less than a second ago, then. */
static void want_refresh(struct cluster *c, struct redis_target *preferred)
{
    if (c->refreshing || clock_mono_ms() < c->again_mono_ms) {
        c->wanted = true;
        if (!c->refreshing && !c->due.queued)
            deadline_set(&c->refresh, &c->due);
        return;
    }
    c->refreshing = true;
    c->wanted = false;
    c->base.said[0] = '\0';
    collect_nodes(c, preferred);
    ask_next(c);
}

static void on_due(struct deadline *d)
{
    struct cluster *c = CONTAINER_OF(d, struct cluster, due);

    if (c->wanted)
        want_refresh(c, NULL);
}

static void fail_waiting(struct cluster *c)
{
    struct err e;

    err_set(&e, ERR_CLOSED, "%s: no node tells the slots: %s", c->base.name, c->base.said);
    redis_wait_fail(&c->base, &e);
}

static void cluster_on_waiting(struct redis *r)
{
    struct cluster *c = CONTAINER_OF(r, struct cluster, base);

    if (c->refreshing)
        return;
    if (clock_mono_ms() >= c->again_mono_ms)
        want_refresh(c, NULL);
    else
        fail_waiting(c);
}

static void end_refresh(struct cluster *c, int64_t again_ms)
{
    c->refreshing = false;
    c->again_mono_ms = clock_mono_ms() + again_ms;
    if (c->wanted)
        want_refresh(c, NULL);
}

static bool is_integer(const struct redisReply *x, long long min, long long max)
{
    return x->type == REDIS_REPLY_INTEGER && x->integer >= min && x->integer <= max;
}

/* [host, port, ...]; a node that does not know its own host is where it was asked. */
static struct redis_target *node_of(struct cluster *c, const struct redisReply *x,
                                    const struct redis_target *asked)
{
    struct str host = str_from(asked->host);

    if (x->type != REDIS_REPLY_ARRAY || x->elements < 2 || !is_integer(x->element[1], 1, 65535))
        return NULL;
    if (x->element[0]->type == REDIS_REPLY_STRING && x->element[0]->len > 0)
        host = (struct str){ x->element[0]->str, x->element[0]->len };
    else if (x->element[0]->type != REDIS_REPLY_NIL && x->element[0]->type != REDIS_REPLY_STRING)
        return NULL;
    return redis_target_get(&c->base, host, (unsigned)x->element[1]->integer, REDIS_LINK_DATA);
}

/* [[from, to, master, replicas...]...]; NULL when it does not have that form, or names no slot. */
static struct redis_target **read_map(struct cluster *c, const struct redisReply *reply,
                                      const struct redis_target *asked)
{
    struct redis_target **slots;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return NULL;
    slots = xcalloc(REDIS_SLOTS, sizeof(struct redis_target *));
    for (size_t i = 0; i < reply->elements; i++) {
        const struct redisReply *x = reply->element[i];
        struct redis_target *s = NULL;

        if (x->type == REDIS_REPLY_ARRAY && x->elements >= 3 &&
            is_integer(x->element[0], 0, REDIS_SLOTS - 1) &&
            is_integer(x->element[1], x->element[0]->integer, REDIS_SLOTS - 1))
            s = node_of(c, x->element[2], asked);
        if (!s) {
            free(slots);
            return NULL;
        }
        for (long long slot = x->element[0]->integer; slot <= x->element[1]->integer; slot++)
            slots[slot] = s;
    }
    return slots;
}

/* The nodes that have no slot any more go when their last answer is there. */
static void use_map(struct cluster *c, struct redis_target **slots)
{
    struct redis_target *s, *next;

    free(c->slots);
    c->slots = slots;
    c->mapped = true;
    TAILQ_FOREACH (s, &c->base.targets, link)
        s->listed = false;
    for (unsigned i = 0; i < REDIS_SLOTS; i++)
        if (slots[i])
            slots[i]->listed = true;
    for (s = TAILQ_FIRST(&c->base.targets); s; s = next) {
        next = TAILQ_NEXT(s, link);
        if (!s->listed && !s->retired)
            redis_target_retire(s);
    }
}

static void on_slots(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                     const char *reason)
{
    struct cluster *c = CONTAINER_OF(cmd, struct cluster, query);
    struct redis_target *asked = c->base.closing ? NULL : c->nodes[c->node_at - 1];
    struct redis_target **slots = NULL;
    struct redis_call *call;

    if (c->base.closing)
        return;
    asked->failed = code != 0;
    if (code == 0)
        slots = read_map(c, reply, asked);
    if (!slots) {
        bool empty = code == 0 && reply->type == REDIS_REPLY_ARRAY && reply->elements == 0;

        redis_said(&c->base, &asked->node,
                   empty ? "knows no slots" : redis_answer_text(code, reply, reason));
        ask_next(c);
        return;
    }
    use_map(c, slots);
    c->again_ms = FIRST_AGAIN_MS;
    while ((call = redis_wait_next(&c->base)))
        route(c, call);
    end_refresh(c, REFRESH_MS);
}

static void ask_next(struct cluster *c)
{
    static const char *const SLOTS[] = { "CLUSTER", "SLOTS" };

    if (c->node_at == c->node_count) {
        end_refresh(c, c->mapped ? REFRESH_MS : c->again_ms);
        c->again_ms = c->again_ms * 2 < REFRESH_MS ? c->again_ms * 2 : REFRESH_MS;
        fail_waiting(c);
        return;
    }
    c->query.done = on_slots;
    redis_link_send(c->nodes[c->node_at++]->conn, &c->query, 2, SLOTS, NULL);
}

/* ---- replies ---- */

/* "MOVED 3999 127.0.0.1:6381": the last word; host may be empty, or an IPv6 address. */
static struct redis_target *target_of(struct cluster *c, const struct redis_call *call,
                                      const struct redisReply *reply)
{
    const char *at = strrchr(reply->str, ' '), *colon = strrchr(reply->str, ':');
    struct str host;
    uint64_t port;

    if (!at || !colon || colon < at || str_to_u64(str_from(colon + 1), 65535, &port) || port == 0)
        return NULL;
    host = (struct str){ at + 1, (size_t)(colon - at - 1) };
    if (host.n == 0)
        host = str_from(call->server->host);
    return redis_target_get(&c->base, host, (unsigned)port, REDIS_LINK_DATA);
}

static void follow(struct cluster *c, struct redis_call *call, const struct redisReply *reply,
                   bool ask)
{
    struct redis_target *s = target_of(c, call, reply);
    struct err e;

    if (s && !ask) {
        c->slots[call->slot] = s;
        want_refresh(c, s);
    }
    if (!s || clock_mono_ms() >= call->until_ms) {
        redis_call_finish(call, 0, reply, NULL);
    } else if (call->redirections == c->base.settings->cluster_max_redirections) {
        err_set(&e, ERR_CLOSED, "%s: more than %u redirections: %s", c->base.name,
                call->redirections, reply->str);
        redis_call_finish(call, e.code, NULL, e.text);
    } else {
        call->redirections++;
        call->ask = ask;
        redis_call_put(call, s);
    }
}

static void on_paused(struct deadline *d)
{
    struct redis_call *call = CONTAINER_OF(d, struct redis_call, deadline);
    struct cluster *c = CONTAINER_OF(call->redis, struct cluster, base);

    TAILQ_REMOVE(&c->paused, call, link);
    route(c, call);
}

/* What is redirected after the pause is a new try. */
static void pause_call(struct cluster *c, struct redis_call *call, const struct redisReply *reply)
{
    if (clock_mono_ms() + PAUSE_MS >= call->until_ms) {
        redis_call_finish(call, 0, reply, NULL);
        return;
    }
    call->redirections = 0;
    TAILQ_INSERT_TAIL(&c->paused, call, link);
    deadline_set(&c->pause, &call->deadline);
}

static void cluster_on_reply(struct redis_call *call, int code, const struct redisReply *reply,
                             const char *reason)
{
    struct cluster *c = CONTAINER_OF(call->redis, struct cluster, base);

    if (LIKELY(code == 0 && reply->type != REDIS_REPLY_ERROR)) {
        redis_call_finish(call, code, reply, reason);
    } else if (code) {
        if (!c->base.closing) {
            call->server->failed = true;
            want_refresh(c, NULL);
        }
        redis_call_finish(call, code, reply, reason);
    } else if (strncmp(reply->str, "MOVED ", 6) == 0) {
        follow(c, call, reply, false);
    } else if (strncmp(reply->str, "ASK ", 4) == 0) {
        follow(c, call, reply, true);
    } else if (strncmp(reply->str, "TRYAGAIN", 8) == 0 ||
               strncmp(reply->str, "CLUSTERDOWN", 11) == 0) {
        pause_call(c, call, reply);
    } else {
        redis_call_finish(call, code, reply, reason);
    }
}

/* ---- the type ---- */

static void cluster_close(struct redis *r)
{
    struct cluster *c = CONTAINER_OF(r, struct cluster, base);

    deadline_clear(&c->refresh, &c->due);
    deadline_queue_fini(&c->refresh);
    deadline_queue_fini(&c->pause);
    TAILQ_CONCAT(&r->failing, &c->paused, link);
    free(c->slots);
    free(c->nodes);
    c->slots = c->nodes = NULL;
}

static const struct redis_type CLUSTER = {
    .send = cluster_send,
    .on_reply = cluster_on_reply,
    .on_waiting = cluster_on_waiting,
    .close = cluster_close,
};

struct redis *redis_cluster_new(struct loop *loop, struct resolver *resolver,
                                const struct redis_settings *settings)
{
    struct redis *r = redis_make(sizeof(struct cluster), &CLUSTER, loop, resolver, settings);
    struct cluster *c = CONTAINER_OF(r, struct cluster, base);

    c->again_ms = FIRST_AGAIN_MS;
    TAILQ_INIT(&c->paused);
    deadline_queue_init(&c->pause, loop, PAUSE_MS, on_paused);
    deadline_queue_init(&c->refresh, loop, REFRESH_MS, on_due);
    return r;
}
