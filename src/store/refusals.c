/*
 * See refusals.h. A table of sets of four; the place of the one that ends
 * first is taken. Times are the store's.
 */
#include "store/refusals.h"
#include "base/mem.h"
#include "store/backend.h"
#include "store/spans.h"
#include "store/store.h"
#include <stdlib.h>

#define SETS 1024
#define WAYS 4
#define TRUST_MS 5000 /* a refusal is not believed for longer without asking again */

struct window {
    double current, previous;
    int64_t what, start_ms, end_ms;
};

struct refusal {
    struct siphash_sum who, what;
    bool sliding;
    int64_t until_ms; /* 0: free */
    unsigned n;
    struct window w[COUNTER_WINDOWS_MAX];
};

struct refusals {
    struct refusal *sets[SETS]; /* made when first needed */
};

struct refusals *refusals_new(void)
{
    return xcalloc(1, sizeof(struct refusals));
}

void refusals_free(struct refusals *r)
{
    for (size_t i = 0; i < SETS; i++)
        free(r->sets[i]);
    free(r);
}

static bool same(const struct siphash_sum *a, const struct siphash_sum *b)
{
    return a->h0 == b->h0 && a->h1 == b->h1;
}

static struct refusal **set_of(struct refusals *r, const struct siphash_sum *who)
{
    return &r->sets[who->h0 % SETS];
}

static double used_at(const struct window *w, int64_t now_ms)
{
    double left = (double)(w->end_ms - now_ms) / (double)(w->end_ms - w->start_ms);

    return w->current + w->previous * (left < 1 ? left : 1);
}

/* When a window has room for one request: its end, or, sliding, as soon as enough has slid out. */
static int64_t room_at(const struct window *w, double limit, double cost)
{
    double room = limit - cost - w->current, share;

    if (w->previous == 0 || room < 0)
        return w->end_ms;
    share = room / w->previous;
    return w->end_ms - (int64_t)((share < 1 ? share : 1) * (double)(w->end_ms - w->start_ms));
}

static struct refusal *place_for(struct refusal *set, const struct siphash_sum *what)
{
    struct refusal *place = &set[0];

    for (int i = 0; i < WAYS; i++) {
        if (same(&set[i].what, what))
            return &set[i];
        if (set[i].until_ms < place->until_ms)
            place = &set[i];
    }
    return place;
}

void refusals_add(struct refusals *r, const struct siphash_sum *who, const struct siphash_sum *what,
                  const struct store_ask *ask)
{
    struct refusal **set = set_of(r, who), *p;
    double cost = (double)ask->cost, counted = (double)(ask->granted * ask->cost);

    if (!*set)
        *set = xcalloc(WAYS, sizeof **set);
    p = place_for(*set, what);
    *p = (struct refusal){ .who = *who, .what = *what, .sliding = ask->sliding, .n = ask->n };
    for (unsigned i = 0; i < ask->n; i++) {
        p->w[i] = (struct window){ (double)ask->used[i] + counted, (double)ask->previous[i],
                                   ask->w[i].what, ask->w[i].start_ms, ask->w[i].end_ms };
        if (used_at(&p->w[i], ask->now_ms) + cost > ask->w[i].limit) {
            int64_t at = room_at(&p->w[i], ask->w[i].limit, cost);

            p->until_ms = at > p->until_ms ? at : p->until_ms;
        }
    }
    if (p->until_ms > ask->now_ms + TRUST_MS)
        p->until_ms = ask->now_ms + TRUST_MS;
}

/* Another window holds the request back; this one may have ended meanwhile, and begun anew. */
static void roll(struct window *w, bool sliding, int64_t now_ms)
{
    struct calendar_span span = store_span(w->what, now_ms);

    if (now_ms < w->end_ms)
        return;
    w->previous = sliding && span.start_ms == w->end_ms ? w->current : 0;
    w->current = 0;
    w->start_ms = span.start_ms;
    w->end_ms = span.end_ms;
}

bool refusals_hold(struct refusals *r, const struct siphash_sum *who,
                   const struct siphash_sum *what, int64_t now_ms, struct counter_use *use)
{
    struct refusal *set = *set_of(r, who), *p = NULL;

    /* what seems to end later than it can: the clock was set back since */
    for (int i = 0; set && i < WAYS; i++)
        if (now_ms < set[i].until_ms && now_ms >= set[i].until_ms - TRUST_MS &&
            same(&set[i].what, what))
            p = &set[i];
    if (!p)
        return false;
    for (unsigned i = 0; i < p->n; i++) {
        roll(&p->w[i], p->sliding, now_ms);
        use[i].used = used_at(&p->w[i], now_ms);
        use[i].previous = p->w[i].previous;
        use[i].reset_ms = p->w[i].end_ms - now_ms;
    }
    return true;
}

static void count(struct refusal *p, const struct store_question *q, int64_t amount, int64_t now_ms)
{
    for (unsigned i = 0; i < p->n; i++) {
        for (unsigned k = 0; k < q->n; k++) {
            if (q->windows[k].what != p->w[i].what)
                continue;
            roll(&p->w[i], p->sliding, now_ms);
            p->w[i].current += (double)amount;
            break;
        }
    }
}

void refusals_count(struct refusals *r, const struct siphash_sum *who,
                    const struct store_question *q, int64_t amount, int64_t now_ms)
{
    struct refusal *set = *set_of(r, who);

    for (int i = 0; set && i < WAYS; i++)
        if (now_ms < set[i].until_ms && same(&set[i].who, who) && set[i].sliding == q->sliding)
            count(&set[i], q, amount, now_ms);
}

void refusals_forget(struct refusals *r, const struct siphash_sum *who)
{
    for (size_t i = 0; i < SETS; i++) {
        struct refusal *set = r->sets[i];

        if (!set || (who && i != who->h0 % SETS))
            continue;
        for (int j = 0; j < WAYS; j++)
            if (!who || same(&set[j].who, who))
                set[j].until_ms = 0;
    }
}
