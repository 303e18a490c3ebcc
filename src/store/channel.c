/*
 * See channel.h. A group is one question on its way, with all who wait for its
 * answer: it collects until the end of the turn, or, where the store takes one
 * batch at a time, until the batch before is answered. Memory of groups is
 * pooled.
 */
#include "store/channel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "shm/stats.h"
#include "store/breaker.h"
#include "store/refusals.h"
#include "store/spans.h"
#include <stdlib.h>

#define BUCKETS 256
#define ATTEMPTS_MAX 4 /* of a question whose windows ended before it arrived */

TAILQ_HEAD(waiters, store_waiter);

struct store_group {
    struct store_ask ask;
    struct channel *channel;
    LIST_ENTRY(store_group) sent;       /* while the store has it */
    struct store_group *next_in_bucket; /* while it collects; in the pool: the next free one */
    struct waiters waiters;
    struct siphash_sum who, what;
    int64_t sent_mono_ms;
    unsigned attempts;
    bool is_sent, is_probe;
    struct channel_share share; /* SHARE only */
    char identity[STORE_IDENTITY_MAX];
};

struct channel {
    struct loop *loop;
    struct store_backend *backend;
    char *name;
    struct siphash_key key;
    struct stats_store *figures;
    const struct stats_instance *whole;
    uint64_t forgotten; /* of whole, when refusals were last forgotten */
    struct refusals *refusals;
    struct breaker breaker;
    struct store_group *probe; /* what failed last, to be asked again; NULL: nothing has yet */
    int64_t ahead_ms;          /* the store's clock, of the monotonic one, which nobody sets */
    struct store_asks pending; /* collecting, in order */
    struct store_group *buckets[BUCKETS];
    LIST_HEAD(, store_group) sent;
    unsigned in_flight;
    uint64_t round_trips; /* told to figures so far */
    struct store_group *pool;
    struct deferred flush;
};

static void flush(struct deferred *d);
static void probe(void *arg);

struct channel *channel_new(const struct channel_args *args)
{
    struct channel *c = xcalloc(1, sizeof *c);

    c->loop = args->loop;
    c->backend = args->backend;
    c->name = xstrdup(args->name);
    c->key = args->key;
    c->figures = args->figures;
    c->whole = args->whole;
    c->ahead_ms = clock_now_ms() - clock_mono_ms();
    c->refusals = refusals_new();
    TAILQ_INIT(&c->pending);
    LIST_INIT(&c->sent);
    breaker_init(&c->breaker, c->loop, c->name, c->figures, probe, c);
    return c;
}

static struct store_group *group_of(struct store_ask *ask)
{
    return CONTAINER_OF(ask, struct store_group, ask);
}

static void release(struct store_group *g)
{
    g->next_in_bucket = g->channel->pool;
    g->channel->pool = g;
}

void channel_free(struct channel *c)
{
    struct store_ask *ask;

    loop_undefer(c->loop, &c->flush);
    c->backend->type->free(c->backend); /* answers what it has */
    loop_undefer(c->loop, &c->flush);
    while ((ask = TAILQ_FIRST(&c->pending))) {
        TAILQ_REMOVE(&c->pending, ask, link);
        release(group_of(ask));
    }
    while (c->pool) {
        struct store_group *g = c->pool;

        c->pool = g->next_in_bucket;
        free(g);
    }
    free(c->probe);
    breaker_fini(&c->breaker);
    refusals_free(c->refusals);
    free(c->name);
    free(c);
}

void channel_leave(struct channel *c)
{
    breaker_leave(&c->breaker);
}

const char *channel_name(const struct channel *c)
{
    return c->name;
}

int64_t channel_now_ms(const struct channel *c)
{
    return clock_mono_ms() + c->ahead_ms;
}

bool channel_is_answering(const struct channel *c)
{
    return !c->breaker.open;
}

const char *channel_failure(const struct channel *c)
{
    return c->breaker.open ? c->breaker.reason : NULL;
}

static void count(struct channel *c, size_t offset, uint64_t n)
{
    if (c->figures)
        stats_add((uint64_t *)((char *)c->figures + offset), n);
}

#define COUNT(c, figure, n) count(c, offsetof(struct stats_store, figure), n)

/* ---- answers to those who wait ---- */

static void finish(struct store_waiter *w, int code)
{
    TAILQ_REMOVE(&w->group->waiters, w, link);
    w->group = NULL;
    w->code = code;
    op_finish(&w->op, 0);
}

static void fail_all(struct store_group *g, int code)
{
    struct store_waiter *w;

    while ((w = TAILQ_FIRST(&g->waiters))) {
        COUNT(g->channel, failed, 1);
        finish(w, code);
    }
}

static void give_use(const struct store_ask *ask, int64_t counted, struct counter_use *use)
{
    for (unsigned i = 0; i < ask->n; i++) {
        const struct store_window *w = &ask->w[i];
        double left = (double)(w->end_ms - ask->now_ms) / (double)(w->end_ms - w->start_ms);

        use[i].previous = ask->sliding ? (double)ask->previous[i] : 0;
        use[i].used = (double)(ask->used[i] + counted) + use[i].previous * left;
        use[i].reset_ms = w->end_ms - ask->now_ms;
    }
}

/* The first ones are admitted, each as if it had come alone after the one before. */
static void answer_all(struct store_group *g)
{
    const struct store_ask *ask = &g->ask;
    struct store_waiter *w;
    int64_t nth = 0;

    while ((w = TAILQ_FIRST(&g->waiters))) {
        bool admitted = nth < ask->granted;

        give_use(ask, (admitted ? nth : ask->granted) * ask->cost, w->use);
        nth++;
        finish(w, admitted);
    }
}

/* ---- groups ---- */

static void on_answered(struct store_ask *ask, int code, const char *reason);

static void set_windows(struct store_group *g, int64_t now_ms)
{
    for (unsigned i = 0; i < g->ask.n; i++) {
        struct calendar_span span = store_span(g->ask.w[i].what, now_ms);

        g->ask.w[i].start_ms = span.start_ms;
        g->ask.w[i].end_ms = span.end_ms;
    }
}

/* now_ms: by the store's clock. */
static void append(struct channel *c, struct store_group *g, int64_t now_ms)
{
    set_windows(g, now_ms);
    if (g->share.own)
        g->share.own(g->share.arg, now_ms, g->ask.own);
    g->is_sent = false;
    TAILQ_INSERT_TAIL(&c->pending, &g->ask, link);
    if (c->in_flight == 0 || !c->backend->type->one_batch_at_a_time)
        loop_defer(c->loop, &c->flush, flush);
}

static struct store_group *new_group(struct channel *c, enum store_verb verb,
                                     const struct store_question *q)
{
    struct store_group *g = c->pool;

    if (g)
        c->pool = g->next_in_bucket;
    else
        g = xmalloc(sizeof *g);
    memset(g, 0, offsetof(struct store_group, identity));
    TAILQ_INIT(&g->waiters);
    g->channel = c;
    g->ask.verb = verb;
    g->ask.sliding = q->sliding;
    g->ask.n = q->n;
    g->ask.answered = on_answered;
    for (unsigned i = 0; i < q->n; i++)
        g->ask.w[i] =
            (struct store_window){ .what = q->windows[i].what, .limit = q->windows[i].limit };
    memcpy(g->identity, q->identity.p, q->identity.n);
    g->ask.identity = (struct str){ g->identity, q->identity.n };
    return g;
}

struct name {
    struct siphash_sum who, what;
};

/* The names of an identity and of the whole question about it. */
static struct name name_of(const struct channel *c, enum store_verb verb,
                           const struct store_question *q, int64_t cost)
{
    struct {
        struct siphash_sum who;
        int64_t verb, sliding, n, cost;
        struct counter_window w[COUNTER_WINDOWS_MAX];
    } all = { .verb = verb, .sliding = q->sliding, .n = q->n, .cost = cost };
    struct name name;

    name.who = all.who = siphash_1_3_128(c->key, q->identity);
    memcpy(all.w, q->windows, q->n * sizeof *q->windows);
    name.what =
        siphash_1_3_128(c->key, (struct str){ (const char *)&all, offsetof(typeof(all), w) +
                                                                      q->n * sizeof *q->windows });
    return name;
}

/* The group that collects this question, made if there is none. */
static struct store_group *collect(struct channel *c, enum store_verb verb,
                                   const struct store_question *q, const struct name *name)
{
    struct store_group **bucket = &c->buckets[name->what.h0 % BUCKETS], *g;

    for (g = *bucket; g; g = g->next_in_bucket) {
        if (g->what.h0 == name->what.h0 && g->what.h1 == name->what.h1) {
            COUNT(c, merged, 1);
            return g;
        }
    }
    g = new_group(c, verb, q);
    g->who = name->who;
    g->what = name->what;
    g->next_in_bucket = *bucket;
    *bucket = g;
    append(c, g, channel_now_ms(c));
    return g;
}

static void tell_round_trips(struct channel *c)
{
    COUNT(c, round_trips, c->backend->round_trips - c->round_trips);
    c->round_trips = c->backend->round_trips;
}

/* Nobody wants it any more: those who asked have left. */
static bool is_void(const struct store_group *g)
{
    return (g->ask.verb == STORE_ADMIT || g->ask.verb == STORE_PEEK) && TAILQ_EMPTY(&g->waiters);
}

static void flush(struct deferred *d)
{
    struct channel *c = CONTAINER_OF(d, struct channel, flush);
    struct store_ask *ask, *next;

    for (ask = TAILQ_FIRST(&c->pending); ask; ask = next) {
        struct store_group *g = group_of(ask);

        next = TAILQ_NEXT(ask, link);
        c->buckets[g->what.h0 % BUCKETS] = NULL;
        if (is_void(g)) {
            TAILQ_REMOVE(&c->pending, ask, link);
            release(g);
            continue;
        }
        g->is_sent = true;
        g->sent_mono_ms = clock_mono_ms();
        LIST_INSERT_HEAD(&c->sent, g, sent);
        c->in_flight++;
    }
    if (!TAILQ_EMPTY(&c->pending))
        c->backend->type->send(c->backend, &c->pending);
    tell_round_trips(c);
}

/* ---- what the store answers ---- */

static void remember_for_probe(struct channel *c, const struct store_group *g)
{
    if (!c->probe)
        c->probe = xmalloc(sizeof *c->probe);
    *c->probe = *g;
}

/* All who wait are answered at once: nobody waits for a store that is known to fail. */
static void give_up(struct channel *c, int code)
{
    struct store_group *g;
    struct store_ask *ask;

    LIST_FOREACH (g, &c->sent, sent)
        fail_all(g, code);
    while ((ask = TAILQ_FIRST(&c->pending))) {
        g = group_of(ask);
        TAILQ_REMOVE(&c->pending, ask, link);
        c->buckets[g->what.h0 % BUCKETS] = NULL;
        fail_all(g, code);
        if (g->share.done)
            g->share.done(g->share.arg, code, NULL);
        release(g);
    }
    loop_undefer(c->loop, &c->flush);
}

static void failed(struct channel *c, struct store_group *g, int code, const char *reason)
{
    bool was_open = c->breaker.open;

    fail_all(g, code);
    if (code == ERR_CANCELLED)
        return;
    /* those that were on their way when it failed say nothing new */
    if (was_open && !g->is_probe)
        return;
    remember_for_probe(c, g);
    breaker_bad(&c->breaker, reason);
    if (!was_open)
        give_up(c, code);
}

/*
 * The store looked at its clock after we had sent and before we knew the answer, which may be long
 * ago: of what its clock may be ahead of ours, the least change.
 */
static void learn_clock(struct channel *c, const struct store_group *g)
{
    int64_t least = g->ask.now_ms - clock_mono_ms(), most = g->ask.now_ms - g->sent_mono_ms;

    if (c->ahead_ms < least)
        c->ahead_ms = least;
    if (c->ahead_ms > most)
        c->ahead_ms = most;
}

static void answered(struct channel *c, struct store_group *g)
{
    struct store_ask *ask = &g->ask;

    if (ask->now_ms)
        learn_clock(c, g);
    else
        ask->now_ms = channel_now_ms(c);
    breaker_good(&c->breaker);
    if (ask->verb == STORE_ADMIT && ask->granted < ask->count)
        refusals_add(c->refusals, &g->who, &g->what, ask);
    answer_all(g);
}

/* What was counted in a window that is over is not given back in the next one. */
static void forget_ended(struct store_ask *ask)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ask->n; i++)
        if (ask->now_ms < ask->w[i].end_ms)
            ask->w[n++] = ask->w[i];
    ask->n = n;
}

/* Who has left since it was sent is not asked for again. */
static void count_waiters(struct store_group *g)
{
    struct store_waiter *w;

    g->ask.count = 0;
    TAILQ_FOREACH (w, &g->waiters, link)
        g->ask.count++;
}

/* The windows have ended meanwhile, or our clock is not the store's: once more, by its clock. */
static bool ask_again(struct channel *c, struct store_group *g)
{
    if (++g->attempts >= ATTEMPTS_MAX)
        return false;
    learn_clock(c, g);
    count_waiters(g);
    append(c, g, g->ask.now_ms > channel_now_ms(c) ? g->ask.now_ms : channel_now_ms(c));
    return true;
}

static void on_answered(struct store_ask *ask, int code, const char *reason)
{
    struct store_group *g = group_of(ask);
    struct channel *c = g->channel;

    LIST_REMOVE(g, sent);
    c->in_flight--;
    if (code == STORE_STALE && ask->verb == STORE_CHARGE && ask->cost < 0) {
        forget_ended(ask);
        if (ask->n == 0)
            code = 0;
    }
    if (code == STORE_STALE && ask_again(c, g))
        return;
    if (code == STORE_STALE) {
        code = ERR_TIMEOUT;
        reason = "its clock runs from window to window faster than it answers";
    }
    if (g->share.done)
        g->share.done(g->share.arg, code, ask);
    if (code < 0)
        failed(c, g, code, reason);
    else
        answered(c, g);
    release(g);
    if (c->in_flight > 0)
        return;
    tell_round_trips(c);
    if (!TAILQ_EMPTY(&c->pending))
        loop_defer(c->loop, &c->flush, flush);
}

static void probe(void *arg)
{
    struct channel *c = arg;
    const struct store_group *last = c->probe;
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    struct store_question q = { last->ask.identity, windows, last->ask.n, last->ask.sliding };
    struct store_group *g;

    q.identity.p = last->identity;
    for (unsigned i = 0; i < q.n; i++)
        windows[i] = (struct counter_window){ .what = last->ask.w[i].what };
    /* nothing is counted, but what a store that takes no writes refuses is done */
    g = new_group(c, STORE_CHARGE, &q);
    g->is_probe = true;
    append(c, g, channel_now_ms(c));
}

/* ---- the face ---- */

static void on_cancel(struct op *op)
{
    struct store_waiter *w = CONTAINER_OF(op, struct store_waiter, op);
    struct store_group *g = w->group;

    TAILQ_REMOVE(&g->waiters, w, link);
    w->group = NULL;
    if (!g->is_sent)
        g->ask.count--;
}

static int wait_in(struct store_group *g, struct store_waiter *w)
{
    TAILQ_INSERT_TAIL(&g->waiters, w, link);
    w->group = g;
    op_init(&w->op, on_cancel);
    op_start(&w->op);
    return STORE_WAIT;
}

static bool is_refused(struct channel *c, const struct name *name, struct store_waiter *w)
{
    if (c->whole && stats_forgotten(c->whole) != c->forgotten) {
        c->forgotten = stats_forgotten(c->whole);
        refusals_forget(c->refusals, NULL);
    }
    if (!refusals_hold(c->refusals, &name->who, &name->what, channel_now_ms(c), w->use))
        return false;
    COUNT(c, remembered, 1);
    return true;
}

static int refuse_to_ask(struct channel *c)
{
    COUNT(c, failed, 1);
    return ERR_CLOSED;
}

int channel_admit(struct channel *c, struct store_waiter *w, const struct store_question *q,
                  int64_t cost)
{
    struct name name;
    struct store_group *g;

    COUNT(c, asked, 1);
    if (c->breaker.open)
        return refuse_to_ask(c);
    name = name_of(c, STORE_ADMIT, q, cost);
    if (is_refused(c, &name, w))
        return 0;
    g = collect(c, STORE_ADMIT, q, &name);
    g->ask.cost = cost;
    g->ask.count++;
    return wait_in(g, w);
}

int channel_peek(struct channel *c, struct store_waiter *w, const struct store_question *q)
{
    struct name name;

    COUNT(c, asked, 1);
    if (c->breaker.open)
        return refuse_to_ask(c);
    name = name_of(c, STORE_PEEK, q, 0);
    return wait_in(collect(c, STORE_PEEK, q, &name), w);
}

void channel_charge(struct channel *c, const struct store_question *q, int64_t amount)
{
    /* what is counted and what is given back do not merge: no count falls below 0 between them */
    struct name name = name_of(c, STORE_CHARGE, q, amount < 0);

    COUNT(c, asked, 1);
    if (amount < 0)
        refusals_forget(c->refusals, &name.who);
    else
        refusals_count(c->refusals, &name.who, q, amount, channel_now_ms(c));
    if (c->breaker.open)
        COUNT(c, failed, 1);
    else
        collect(c, STORE_CHARGE, q, &name)->ask.cost += amount;
}

void channel_share(struct channel *c, const struct channel_share *share)
{
    struct store_group *g = new_group(c, STORE_SHARE, share->question);

    memcpy(g->ask.node, share->node, sizeof g->ask.node);
    g->share = *share;
    g->share.question = NULL; /* the asker's, and g has it all */
    append(c, g, channel_now_ms(c));
}
