/*
 * See counter.h. Owns the layout: sets of one header line (lock, tags, undo) and
 * 16 slots of 32 bytes. SipHash of the identity chooses the set, so that all
 * its windows lie under one lock; hash and window together are a slot's key.
 *
 * Death between two instructions: a slot is invisible (tag 0) while it is made;
 * a charge is one store of 8 bytes; moving a slot on to a later window takes
 * two, so the old words are noted in the header first, and whoever takes
 * the lock from the dead puts them back.
 */
#include "shm/counter.h"
#include "base/mem.h"
#include "shm/lock.h"
#include <stdlib.h>

#define SLOTS 16
#define COUNT_BITS 42
#define UNTIL_BITS 22 /* in each of a slot's two words */
#define UNTIL_MASK ((UINT64_C(1) << UNTIL_BITS) - 1)
#define NOW_MAX_MS                                                                                 \
    (INT64_C(1) << 43) /* the year 2248; with two windows behind it, 44 bits hold it */
#define SKEW_MS 10000  /* clocks are read once in a turn, and a turn may be long */
#define LANE_LOW UINT64_C(0x7fff7fff7fff7fff)

struct slot {
    uint64_t key[2];
    uint64_t current;  /* count, and the low half of until */
    uint64_t previous; /* count, and the high half */
};

struct set {
    uint64_t lock;
    uint64_t undo;            /* 1 + the slot that is being moved on; 0: none */
    uint64_t tags[SLOTS / 4]; /* 16 bits of each slot's key; 0: the slot is free */
    uint64_t undo_current, undo_previous;
    struct slot slots[SLOTS];
};

struct shared_gauges {
    uint64_t slots_used, evicted, lock_steals;
    uint64_t spare[5];
};

_Static_assert(offsetof(struct set, slots) == 64, "the header is a cache line");
_Static_assert(sizeof(struct slot) == 32, "two slots share a cache line");
_Static_assert(sizeof(struct shared_gauges) == 64, "sets begin on a cache line");

/* A window of time and its neighbours: [start, end), [end, end_1), [end_1, end_2). */
struct span {
    int64_t start, end, end_1, end_2;
};

struct counter_table {
    struct set *sets;
    uint64_t set_count;
    struct shared_gauges *gauges;
    struct siphash_key key;
    struct span periods[PERIOD_YEAR + 1]; /* as of the last call that asked */
};

/*
 * One window of one call. A slot keeps "until", when it becomes worthless: the
 * end of its window, or, if sliding, of the next one. It also tells the window.
 */
struct view {
    uint64_t key[2];
    int64_t until_previous, until, until_next;
    int64_t start, end, end_1;
    int64_t now_ms;
    struct slot *slot; /* NULL: there is none */
    bool again;        /* the same window stands earlier in the call */
    int64_t current, previous;
};

struct call {
    struct set *set;
    unsigned n;
    bool sliding;
    uint32_t mine; /* the slots of this call, one bit each */
    struct view views[COUNTER_WINDOWS_MAX];
};

struct counter_table *counter_open(const struct region *r)
{
    struct counter_table *t = xcalloc(1, sizeof *t);
    size_t bytes;

    t->gauges = region_counters(r, &bytes);
    t->sets = (struct set *)(t->gauges + 1);
    t->set_count = (bytes - sizeof *t->gauges) / sizeof(struct set);
    t->key = r->key;
    return t;
}

void counter_close(struct counter_table *t)
{
    free(t);
}

bool counter_what_is_good(int64_t what)
{
    return what != 0 && what <= PERIOD_YEAR && what >= -COUNTER_SIZE_MAX_MS;
}

static struct span size_span(int64_t size_ms, int64_t now_ms)
{
    struct calendar_span now = calendar_size_span(size_ms, now_ms);

    return (struct span){ now.start_ms, now.end_ms, now.end_ms + size_ms,
                          now.end_ms + 2 * size_ms };
}

static struct span period_span(enum calendar_period period, int64_t now_ms)
{
    struct calendar_span now = calendar_period_span(period, now_ms);
    struct calendar_span next = calendar_period_span(period, now.end_ms);
    struct calendar_span third = calendar_period_span(period, next.end_ms);

    return (struct span){ now.start_ms, now.end_ms, next.end_ms, third.end_ms };
}

static struct span span_of(struct counter_table *t, int64_t what, int64_t now_ms)
{
    struct span *cached;

    if (what < 0)
        return size_span(-what, now_ms);
    cached = &t->periods[what];
    if (UNLIKELY(now_ms < cached->start || now_ms >= cached->end))
        *cached = period_span((enum calendar_period)what, now_ms);
    return *cached;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 32);
}

static uint64_t tag_of(const struct view *v)
{
    uint64_t tag = v->key[0] & 0xffff;

    return tag ? tag : 1;
}

/* Where a key is put when there is room: its line can be fetched before its tag is known. */
static unsigned home_of(const struct view *v)
{
    return (unsigned)v->key[1] % SLOTS;
}

/* All stores into a set go through here: they happen one after the other, as written. */
static void store(uint64_t *p, uint64_t value)
{
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static uint64_t get_tag(const struct set *set, unsigned i)
{
    return set->tags[i / 4] >> (i % 4 * 16) & 0xffff;
}

static void set_tag(struct set *set, unsigned i, uint64_t tag)
{
    unsigned shift = i % 4 * 16;
    uint64_t word = (set->tags[i / 4] & ~(UINT64_C(0xffff) << shift)) | tag << shift;

    store(&set->tags[i / 4], word);
}

/* The top bit of each 16-bit lane of word that holds tag. */
static uint64_t lanes_with(uint64_t word, uint64_t tag)
{
    uint64_t x = word ^ tag * UINT64_C(0x0001000100010001);

    return ~(((x & LANE_LOW) + LANE_LOW) | x | LANE_LOW);
}

static struct slot *find(struct set *set, const struct view *v)
{
    uint64_t tag = tag_of(v);

    for (unsigned i = 0; i < SLOTS / 4; i++) {
        for (uint64_t hits = lanes_with(set->tags[i], tag); hits; hits &= hits - 1) {
            struct slot *slot = &set->slots[i * 4 + (unsigned)__builtin_ctzll(hits) / 16];

            if (slot->key[0] == v->key[0] && slot->key[1] == v->key[1])
                return slot;
        }
    }
    return NULL;
}

static int64_t until_of(const struct slot *slot)
{
    return (int64_t)((slot->previous & UNTIL_MASK) << UNTIL_BITS | (slot->current & UNTIL_MASK));
}

static uint64_t pack(int64_t count, int64_t until_half)
{
    return (uint64_t)count << UNTIL_BITS | ((uint64_t)until_half & UNTIL_MASK);
}

static uint64_t current_word(const struct view *v)
{
    return pack(v->current, v->until);
}

static uint64_t previous_word(const struct view *v)
{
    return pack(v->previous, v->until >> UNTIL_BITS);
}

/* The slot's window is ahead of the caller's clock: count there, if the clock may be right. */
static bool join_ahead(struct view *v, int64_t until)
{
    if (until == v->until_next) {
        v->start = v->end;
        v->end = v->end_1;
    } else if (until - v->until <= SKEW_MS) {
        v->start += until - v->until;
        v->end += until - v->until;
    } else {
        return false;
    }
    v->until = until;
    return true;
}

/* What the slot's counts mean at this moment. Changes nothing in it. */
static void read_slot(struct view *v)
{
    int64_t until = until_of(v->slot);
    int64_t current = (int64_t)(v->slot->current >> UNTIL_BITS);

    if (until == v->until || (until > v->until && join_ahead(v, until))) {
        v->current = current;
        v->previous = (int64_t)(v->slot->previous >> UNTIL_BITS);
    } else if (until == v->until_previous) {
        v->previous = current;
    }
}

static void view_init(struct view *v, const struct span *span, bool sliding, int64_t now_ms)
{
    *v = (struct view){ .start = span->start, .end = span->end, .end_1 = span->end_1 };
    v->now_ms = now_ms;
    v->until_previous = sliding ? span->end : span->start;
    v->until = sliding ? span->end_1 : span->end;
    v->until_next = sliding ? span->end_2 : span->end_1;
}

/* The dead holder was moving a slot on: as if it had not begun. */
COLD static void undo(struct counter_table *t, struct set *set)
{
    __atomic_fetch_add(&t->gauges->lock_steals, 1, __ATOMIC_RELAXED);
    if (set->undo == 0 || set->undo > SLOTS)
        return;
    store(&set->slots[set->undo - 1].current, set->undo_current);
    store(&set->slots[set->undo - 1].previous, set->undo_previous);
    store(&set->undo, 0);
}

static bool given_before(const struct counter_window *w, unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (w[k].what == w[i].what)
            return true;
    return false;
}

static int64_t sane_now(int64_t now_ms)
{
    return now_ms < 0 ? 0 : now_ms > NOW_MAX_MS ? NOW_MAX_MS : now_ms;
}

/* Hashes, locks, and reads all windows. end_call gives the lock back. */
static void begin_call(struct counter_table *t, struct call *c, struct str identity,
                       const struct counter_window *w, int64_t now_ms)
{
    struct siphash_sum sum = siphash_1_3_128(t->key, identity);

    c->mine = 0;
    c->set = &t->sets[(uint64_t)((unsigned __int128)sum.h0 * t->set_count >> 64)];
    __builtin_prefetch(c->set, 1);
    for (unsigned i = 0; i < c->n; i++) {
        struct view *v = &c->views[i];
        struct span span;

        must(counter_what_is_good(w[i].what));
        span = span_of(t, w[i].what, sane_now(now_ms));
        view_init(v, &span, c->sliding, sane_now(now_ms));
        v->key[0] = sum.h0 ^ mix((uint64_t)w[i].what * 2 + c->sliding);
        v->key[1] = sum.h1 + (uint64_t)w[i].what;
        v->again = given_before(w, i);
        __builtin_prefetch(&c->set->slots[home_of(v)], 1);
    }
    if (UNLIKELY(lock_take(&c->set->lock)))
        undo(t, c->set);
    for (unsigned i = 0; i < c->n; i++) {
        struct view *v = &c->views[i];

        v->slot = find(c->set, v);
        if (!v->slot)
            continue;
        c->mine |= 1u << (v->slot - c->set->slots);
        read_slot(v);
    }
}

static void end_call(struct call *c)
{
    lock_give(&c->set->lock);
}

static double used_of(const struct view *v, bool sliding)
{
    double left;

    if (!sliding || v->previous == 0)
        return (double)v->current;
    left = (double)(v->end - v->now_ms) / (double)(v->end - v->start);
    return (double)v->current + (double)v->previous * (left < 1 ? left : 1);
}

/* The slot that makes room: whose worth ends first, but none of this call's. */
static unsigned victim(const struct call *c)
{
    int64_t first = INT64_MAX;
    unsigned at = 0;

    for (unsigned i = 0; i < SLOTS; i++) {
        int64_t until = until_of(&c->set->slots[i]);

        if (!(c->mine & 1u << i) && until < first) {
            first = until;
            at = i;
        }
    }
    return at;
}

static unsigned claim_slot(struct counter_table *t, const struct call *c, const struct view *v)
{
    struct set *set = c->set;
    unsigned at = home_of(v);

    for (unsigned i = 0; i < SLOTS; i++, at = (at + 1) % SLOTS) {
        if (get_tag(set, at) == 0) {
            __atomic_fetch_add(&t->gauges->slots_used, 1, __ATOMIC_RELAXED);
            return at;
        }
    }
    at = victim(c);
    if (until_of(&set->slots[at]) > v->now_ms)
        __atomic_fetch_add(&t->gauges->evicted, 1, __ATOMIC_RELAXED);
    set_tag(set, at, 0);
    return at;
}

static void make_slot(struct counter_table *t, struct call *c, struct view *v)
{
    unsigned at = claim_slot(t, c, v);
    struct slot *slot = &c->set->slots[at];

    store(&slot->key[0], v->key[0]);
    store(&slot->key[1], v->key[1]);
    store(&slot->current, current_word(v));
    store(&slot->previous, previous_word(v));
    set_tag(c->set, at, tag_of(v));
    c->mine |= 1u << at;
}

static void move_slot_on(struct set *set, const struct view *v)
{
    struct slot *slot = v->slot;

    store(&set->undo_current, slot->current);
    store(&set->undo_previous, slot->previous);
    store(&set->undo, (uint64_t)(slot - set->slots) + 1);
    store(&slot->current, current_word(v));
    store(&slot->previous, previous_word(v));
    store(&set->undo, 0);
}

static void add(struct counter_table *t, struct call *c, struct view *v, int64_t amount)
{
    if (v->again || amount == 0 || (amount < 0 && v->current == 0))
        return;
    v->current += amount;
    if (v->current < 0)
        v->current = 0;
    if (v->current > COUNTER_COUNT_MAX)
        v->current = COUNTER_COUNT_MAX;
    if (!v->slot)
        make_slot(t, c, v);
    else if (until_of(v->slot) == v->until)
        store(&v->slot->current, current_word(v));
    else
        move_slot_on(c->set, v);
}

static void add_to_all(struct counter_table *t, struct call *c, int64_t amount)
{
    if (amount > COUNTER_COUNT_MAX)
        amount = COUNTER_COUNT_MAX;
    if (amount < -COUNTER_COUNT_MAX)
        amount = -COUNTER_COUNT_MAX;
    for (unsigned i = 0; i < c->n; i++)
        add(t, c, &c->views[i], amount);
}

static void tell(const struct call *c, struct counter_use *use)
{
    for (unsigned i = 0; i < c->n; i++) {
        const struct view *v = &c->views[i];

        use[i].used = used_of(v, c->sliding);
        use[i].previous = c->sliding ? (double)v->previous : 0;
        use[i].reset_ms = v->end - v->now_ms;
    }
}

int counter_admit(struct counter_table *t, struct str identity, const struct counter_window *w,
                  unsigned n, bool sliding, int64_t cost, int64_t now_ms, struct counter_use *use)
{
    struct call c;
    int admitted = 1;

    must(n <= COUNTER_WINDOWS_MAX);
    c.n = n;
    c.sliding = sliding;
    begin_call(t, &c, identity, w, now_ms);
    tell(&c, use);
    for (unsigned i = 0; i < n; i++)
        admitted &= use[i].used + (double)cost <= w[i].limit;
    if (admitted)
        add_to_all(t, &c, cost);
    end_call(&c);
    return admitted;
}

void counter_charge(struct counter_table *t, struct str identity, const struct counter_window *w,
                    unsigned n, bool sliding, int64_t amount, int64_t now_ms)
{
    struct call c;

    must(n <= COUNTER_WINDOWS_MAX);
    c.n = n;
    c.sliding = sliding;
    begin_call(t, &c, identity, w, now_ms);
    add_to_all(t, &c, amount);
    end_call(&c);
}

void counter_peek(struct counter_table *t, struct str identity, const struct counter_window *w,
                  unsigned n, bool sliding, int64_t now_ms, struct counter_use *use)
{
    struct call c;

    must(n <= COUNTER_WINDOWS_MAX);
    c.n = n;
    c.sliding = sliding;
    begin_call(t, &c, identity, w, now_ms);
    end_call(&c);
    tell(&c, use);
}

struct counter_gauges counter_get_gauges(const struct counter_table *t)
{
    return (struct counter_gauges){
        .slots = t->set_count * SLOTS,
        .slots_used = __atomic_load_n(&t->gauges->slots_used, __ATOMIC_RELAXED),
        .evicted = __atomic_load_n(&t->gauges->evicted, __ATOMIC_RELAXED),
        .lock_steals = __atomic_load_n(&t->gauges->lock_steals, __ATOMIC_RELAXED),
    };
}
