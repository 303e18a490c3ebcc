/*
 * See share.h. This worker keeps an entry for each identity that it was asked
 * about: what the other nodes have counted in its windows. Who asks when that
 * is not known, or was learnt too long ago, waits for an exchange. Entries whose
 * windows are over are swept, a few buckets with each exchange; when there are
 * too many, the identities that find no place are exchanged when they do.
 */
#include "store/share.h"
#include "base/clock.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "store/spans.h"
#include <event2/event.h>
#include <math.h>
#include <stdlib.h>

#define BUCKETS 4096
#define BUCKETS_SWEPT 64 /* with each exchange */
#define ENTRIES_MAX 65536
#define FRESH_MIN_MS 100 /* what was learnt so lately is believed, however short sync_ms is */

/* A question that waits until what the others have counted is known. */
struct share_wait {
    TAILQ_ENTRY(share_wait) link; /* in its entry */
    struct entry *entry;
    struct store_waiter *waiter;
    int64_t cost; /* 0: it only looks */
    struct counter_window windows[COUNTER_WINDOWS_MAX];
};

struct entry {
    struct share *share;
    struct entry *next;      /* in its bucket */
    TAILQ_ENTRY(entry) link; /* while it is due */
    struct siphash_sum what;
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    unsigned n;
    bool sliding, due, in_flight;
    int64_t learnt_mono_ms;           /* 0: never */
    TAILQ_HEAD(, share_wait) waiting; /* for the exchange in flight */
    /* of the windows that begin at start_ms; 0: not known yet */
    int64_t start_ms[COUNTER_WINDOWS_MAX];
    double others[COUNTER_WINDOWS_MAX], others_previous[COUNTER_WINDOWS_MAX];
    struct str identity;
    char bytes[];
};

struct share {
    struct share_args args;
    struct event *timer;
    struct entry *buckets[BUCKETS];
    size_t entries, swept_to;
    unsigned in_flight;      /* exchanges */
    TAILQ_HEAD(, entry) due; /* counted since their last exchange, or it failed */
};

/* The node's own count lies apart from those of the policy local, and of other stores. */
struct own {
    char text[STORE_IDENTITY_MAX + 80];
    struct store_question question;
};

static void own_question(const struct share *s, const struct store_question *q, struct own *own)
{
    const char *name = channel_name(s->args.channel);
    size_t n = strlen(name) < 64 ? strlen(name) : 64;

    memcpy(own->text, "share:", 6);
    memcpy(own->text + 6, name, n);
    own->text[6 + n] = ':';
    memcpy(own->text + 7 + n, q->identity.p, q->identity.n);
    own->question = *q;
    own->question.identity = (struct str){ own->text, 7 + n + q->identity.n };
}

static struct siphash_sum sum_of(const struct share *s, const struct store_question *q)
{
    struct {
        struct siphash_sum who;
        int64_t sliding;
        int64_t what[COUNTER_WINDOWS_MAX];
    } all = { .sliding = q->sliding };

    all.who = siphash_1_3_128(s->args.key, q->identity);
    for (unsigned i = 0; i < q->n; i++)
        all.what[i] = q->windows[i].what;
    return siphash_1_3_128(s->args.key, (struct str){ (const char *)&all, sizeof all });
}

static struct store_question question_of(const struct entry *e)
{
    return (struct store_question){ e->identity, e->windows, e->n, e->sliding };
}

/* ---- the exchange ---- */

static void make_due(struct entry *e)
{
    if (e->due)
        return;
    e->due = true;
    TAILQ_INSERT_TAIL(&e->share->due, e, link);
}

static void learn(struct entry *e, const struct store_ask *ask)
{
    e->learnt_mono_ms = clock_mono_ms();
    for (unsigned i = 0; i < e->n; i++) {
        e->start_ms[i] = ask->w[i].start_ms;
        e->others[i] = (double)ask->used[i];
        e->others_previous[i] = e->sliding ? (double)ask->previous[i] : 0;
    }
}

static void answer_all(struct entry *e);

static void on_shared(void *arg, int code, const struct store_ask *ask)
{
    struct entry *e = arg;

    e->in_flight = false;
    e->share->in_flight--;
    if (code < 0)
        make_due(e);
    else
        learn(e, ask);
    answer_all(e); /* by what is known, if it failed */
}

/* What this node has counted itself, without what weighs of the previous windows. */
static void own_counts(void *arg, int64_t now_ms, int64_t *own)
{
    struct entry *e = arg;
    struct store_question q = question_of(e);
    struct counter_use use[COUNTER_WINDOWS_MAX];
    struct own o;

    own_question(e->share, &q, &o);
    counter_peek(e->share->args.counters, o.question.identity, e->windows, e->n, e->sliding, now_ms,
                 use);
    for (unsigned i = 0; i < e->n; i++) {
        struct calendar_span span = store_span(e->windows[i].what, now_ms);
        double left = (double)use[i].reset_ms / (double)(span.end_ms - span.start_ms);

        if (use[i].reset_ms > span.end_ms - now_ms) /* another worker counts in the next one */
            own[i] = llround(use[i].previous);
        else
            own[i] = llround(use[i].used - use[i].previous * left);
    }
}

static void exchange(struct entry *e)
{
    struct share *s = e->share;
    struct store_question q = question_of(e);
    struct channel_share share = { &q, s->args.node, own_counts, on_shared, e };

    if (e->in_flight || !channel_is_answering(s->args.channel))
        return;
    if (e->due)
        TAILQ_REMOVE(&s->due, e, link);
    e->due = false;
    e->in_flight = true;
    s->in_flight++;
    channel_share(s->args.channel, &share);
}

static bool is_over(const struct entry *e, int64_t now_ms)
{
    for (unsigned i = 0; i < e->n; i++)
        if (e->start_ms[i] == store_span(e->windows[i].what, now_ms).start_ms)
            return false;
    return !e->due && !e->in_flight;
}

static void sweep(struct share *s)
{
    int64_t now_ms = channel_now_ms(s->args.channel);

    for (unsigned i = 0; i < BUCKETS_SWEPT; i++) {
        struct entry **p = &s->buckets[s->swept_to++ % BUCKETS], *e;

        while ((e = *p)) {
            if (is_over(e, now_ms)) {
                *p = e->next;
                s->entries--;
                free(e);
            } else {
                p = &e->next;
            }
        }
    }
}

bool share_exchange(struct share *s)
{
    struct entry *e, *next;

    for (e = TAILQ_FIRST(&s->due); e; e = next) {
        next = TAILQ_NEXT(e, link);
        exchange(e);
    }
    return s->in_flight > 0;
}

static void on_timer(int fd, short what, void *arg)
{
    struct share *s = arg;

    (void)fd;
    (void)what;
    (void)share_exchange(s);
    sweep(s);
}

struct share *share_new(const struct share_args *args)
{
    struct share *s = xcalloc(1, sizeof *s);
    struct timeval tv = { args->sync_ms / 1000, (args->sync_ms % 1000) * 1000 };

    s->args = *args;
    TAILQ_INIT(&s->due);
    s->timer = event_new(loop_base(args->loop), -1, EV_PERSIST, on_timer, s);
    must(s->timer && event_add(s->timer, &tv) == 0);
    return s;
}

void share_free(struct share *s)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *e = s->buckets[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    }
    event_free(s->timer);
    free(s);
}

/* ---- counting ---- */

static struct entry *add_entry(struct share *s, const struct store_question *q,
                               struct siphash_sum what)
{
    struct entry **bucket = &s->buckets[what.h0 % BUCKETS], *e;

    if (s->entries >= ENTRIES_MAX)
        return NULL;
    e = xcalloc(1, sizeof *e + q->identity.n);
    e->share = s;
    e->what = what;
    e->n = q->n;
    e->sliding = q->sliding;
    TAILQ_INIT(&e->waiting);
    for (unsigned i = 0; i < q->n; i++)
        e->windows[i] = q->windows[i];
    memcpy(e->bytes, q->identity.p, q->identity.n);
    e->identity = (struct str){ e->bytes, q->identity.n };
    e->next = *bucket;
    *bucket = e;
    s->entries++;
    return e;
}

/* NULL when there are too many already. */
static struct entry *find(struct share *s, const struct store_question *q)
{
    struct siphash_sum what = sum_of(s, q);

    for (struct entry *e = s->buckets[what.h0 % BUCKETS]; e; e = e->next)
        if (e->what.h0 == what.h0 && e->what.h1 == what.h1)
            return e;
    return add_entry(s, q, what);
}

/* What the other nodes have counted that matters now. */
static double others_of(const struct entry *e, unsigned i, int64_t now_ms, double *previous)
{
    struct calendar_span span = store_span(e->windows[i].what, now_ms);
    double left = (double)(span.end_ms - now_ms) / (double)(span.end_ms - span.start_ms);

    *previous = 0;
    if (e->start_ms[i] == span.start_ms) {
        *previous = e->others_previous[i];
        return e->others[i] + *previous * left;
    }
    if (!e->sliding || e->start_ms[i] + (span.end_ms - span.start_ms) != span.start_ms)
        return 0;
    *previous = e->others[i];
    return *previous * left;
}

static void add_others(const struct entry *e, int64_t now_ms, struct counter_use *use)
{
    for (unsigned i = 0; i < e->n; i++) {
        double previous;

        use[i].used += others_of(e, i, now_ms, &previous);
        use[i].previous += previous;
    }
}

/* 1 or 0; cost 0: only looks. e may be NULL. */
static int decide(struct share *s, struct entry *e, const struct store_question *q, int64_t cost,
                  struct counter_use *use)
{
    int64_t now_ms = channel_now_ms(s->args.channel);
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    struct own own;
    int admitted = 0;

    for (unsigned i = 0; i < q->n; i++) {
        double previous;

        windows[i] = q->windows[i];
        if (e)
            windows[i].limit -= others_of(e, i, now_ms, &previous);
    }
    own_question(s, q, &own);
    if (cost)
        admitted = counter_admit(s->args.counters, own.question.identity, windows, q->n, q->sliding,
                                 cost, now_ms, use);
    else
        counter_peek(s->args.counters, own.question.identity, windows, q->n, q->sliding, now_ms,
                     use);
    if (e)
        add_others(e, now_ms, use);
    if (e && cost)
        make_due(e); /* after a refusal too: others may have given back */
    return admitted;
}

static void answer_all(struct entry *e)
{
    struct share_wait *wait;

    while ((wait = TAILQ_FIRST(&e->waiting))) {
        struct store_waiter *w = wait->waiter;
        struct store_question q = { e->identity, wait->windows, e->n, e->sliding };

        TAILQ_REMOVE(&e->waiting, wait, link);
        w->code = decide(e->share, e, &q, wait->cost, w->use);
        w->share = NULL;
        free(wait);
        op_finish(&w->op, 0);
    }
}

static void on_cancel(struct op *op)
{
    struct store_waiter *w = CONTAINER_OF(op, struct store_waiter, op);

    TAILQ_REMOVE(&w->share->entry->waiting, w->share, link);
    free(w->share);
    w->share = NULL;
}

/* Whether it must be asked what the others have counted, and it will be. */
static bool must_learn(struct entry *e)
{
    int64_t fresh_ms = e->share->args.sync_ms * 2;

    if (fresh_ms < FRESH_MIN_MS)
        fresh_ms = FRESH_MIN_MS;
    if (e->learnt_mono_ms && clock_mono_ms() - e->learnt_mono_ms <= fresh_ms)
        return false;
    if (!channel_is_answering(e->share->args.channel))
        return false;
    exchange(e);
    return e->in_flight;
}

static int ask(struct share *s, struct store_waiter *w, const struct store_question *q,
               int64_t cost)
{
    struct entry *e = find(s, q);
    struct share_wait *wait;

    if (!e || !must_learn(e))
        return decide(s, e, q, cost, w->use);
    wait = xmalloc(sizeof *wait);
    wait->entry = e;
    wait->waiter = w;
    wait->cost = cost;
    memcpy(wait->windows, q->windows, q->n * sizeof *q->windows);
    TAILQ_INSERT_TAIL(&e->waiting, wait, link);
    w->share = wait;
    op_init(&w->op, on_cancel);
    op_start(&w->op);
    return STORE_WAIT;
}

int share_admit(struct share *s, struct store_waiter *w, const struct store_question *q,
                int64_t cost)
{
    return ask(s, w, q, cost);
}

int share_peek(struct share *s, struct store_waiter *w, const struct store_question *q)
{
    return ask(s, w, q, 0);
}

void share_charge(struct share *s, const struct store_question *q, int64_t amount)
{
    struct entry *e = find(s, q);
    struct own own;

    own_question(s, q, &own);
    counter_charge(s->args.counters, own.question.identity, q->windows, q->n, q->sliding, amount,
                   channel_now_ms(s->args.channel));
    if (e)
        make_due(e);
}
