/*
 * See sqlite.h. A batch goes to the thread as a copy, and the originals stay
 * here: so the loop can answer them when the disk, and with it the thread,
 * stands still. What the thread comes back with then is thrown away.
 */
#include "store/sqlite.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "peer/errands.h"
#include "store/sqlite_tally.h"
#include <stdlib.h>
#include <string.h>

#define GRACE_MS 100 /* for the thread to say itself that its time is over */

TAILQ_HEAD(batch_list, batch);

struct batch {
    struct errand errand;
    TAILQ_ENTRY(batch) link;
    struct sqlite_store *store;
    struct tally *tally;
    struct store_asks asks; /* the originals; empty: they have been answered */
    int64_t until_us;       /* locks are waited for until then */
    int code;
    struct err err;
    size_t n;
    struct tally_item items[];
};

struct sqlite_store {
    struct store_backend base;
    struct errands *errands;
    struct tally *tally; /* the thread's */
    char *path;
    int64_t timeout_ms;
    struct batch_list batches; /* with the thread */
};

/* ---- in the thread */

static void run(struct errand *e)
{
    struct batch *b = CONTAINER_OF(e, struct batch, errand);
    const struct tally_patience patience = { b->until_us, errands_stop(e->home) };

    b->code = tally_run(b->tally, b->items, b->n, &patience, &b->err);
}

static void rest(void *arg)
{
    tally_rest(arg);
}

static void end(void *arg)
{
    tally_free(arg);
}

/* ---- in the loop */

/* The answer's members; what was asked the original has itself. */
static void copy_answer(struct store_ask *to, const struct store_ask *from)
{
    to->granted = from->granted;
    memcpy(to->used, from->used, sizeof to->used);
    memcpy(to->previous, from->previous, sizeof to->previous);
    to->now_ms = from->now_ms;
}

static void answer_all(struct batch *b, int code, const char *reason)
{
    struct store_ask *ask;

    for (size_t i = 0; (ask = TAILQ_FIRST(&b->asks)) != NULL; i++) {
        TAILQ_REMOVE(&b->asks, ask, link);
        if (code == 0)
            copy_answer(ask, &b->items[i].ask);
        ask->answered(ask, code ? code : b->items[i].code, reason);
    }
}

/* Whoever tells of it names the store, and with it the file. */
static const char *without_name(const struct batch *b)
{
    size_t n = strlen("sqlite : ") + strlen(b->store->path);

    return strncmp(b->err.text, "sqlite ", 7) == 0 && strlen(b->err.text) > n ? b->err.text + n
                                                                              : b->err.text;
}

static void on_late(struct errand *e)
{
    struct batch *b = CONTAINER_OF(e, struct batch, errand);
    struct err reason; /* b's is the thread's still */

    err_set(&reason, ERR_TIMEOUT, "no answer within %lld ms", (long long)b->store->timeout_ms);
    answer_all(b, ERR_TIMEOUT, reason.text);
}

static void on_done(struct errand *e)
{
    struct batch *b = CONTAINER_OF(e, struct batch, errand);

    if (e->state == ERRAND_RAN) {
        b->store->base.round_trips++;
        answer_all(b, b->code, b->code ? without_name(b) : NULL);
    }
    TAILQ_REMOVE(&b->store->batches, b, link);
    free(b);
}

static void copy_question(struct tally_item *item, const struct store_ask *ask)
{
    must(ask->n >= 1 && ask->n <= COUNTER_WINDOWS_MAX && ask->identity.n <= STORE_IDENTITY_MAX);
    item->ask = *ask;
    if (ask->identity.n)
        memcpy(item->identity, ask->identity.p, ask->identity.n);
    item->ask.identity.p = item->identity;
}

static void send_asks(struct store_backend *base, struct store_asks *asks)
{
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    struct store_ask *ask;
    struct batch *b;
    size_t n = 0, i = 0;

    TAILQ_FOREACH (ask, asks, link)
        n++;
    if (n == 0)
        return;
    b = xmalloc(sizeof *b + n * sizeof b->items[0]);
    memset(b, 0, sizeof *b);
    TAILQ_FOREACH (ask, asks, link)
        copy_question(&b->items[i++], ask);
    b->errand.run = run;
    b->errand.late = on_late;
    b->errand.done = on_done;
    b->store = s;
    b->tally = s->tally;
    b->until_us = clock_mono_us_exact() + s->timeout_ms * 1000;
    b->n = n;
    TAILQ_INIT(&b->asks);
    TAILQ_CONCAT(&b->asks, asks, link);
    TAILQ_INSERT_TAIL(&s->batches, b, link);
    errands_add(s->errands, &b->errand);
}

static void free_store(struct store_backend *base)
{
    struct sqlite_store *s = CONTAINER_OF(base, struct sqlite_store, base);
    struct batch *b;

    TAILQ_FOREACH (b, &s->batches, link)
        answer_all(b, ERR_CANCELLED, "given up");
    errands_free(s->errands);
    free(s->path);
    free(s);
}

static const struct store_backend_type TYPE = {
    .send = send_asks,
    .free = free_store,
    .one_batch_at_a_time = true,
};

struct store_backend *store_sqlite_new(struct loop *loop, const char *path, int64_t timeout_ms)
{
    struct sqlite_store *s = xcalloc(1, sizeof *s);
    const struct errands_args args = {
        .loop = loop,
        .late_ms = timeout_ms + timeout_ms / 8 + GRACE_MS,
        .rest = rest,
        .end = end,
        .arg = s->tally = tally_new(path),
    };

    s->base.type = &TYPE;
    s->path = xstrdup(path);
    s->timeout_ms = timeout_ms;
    TAILQ_INIT(&s->batches);
    s->errands = errands_new(&args);
    return &s->base;
}
