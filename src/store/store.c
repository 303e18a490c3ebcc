/*
 * See store.h. Owns all channels of this process: one for each set of
 * settings, so that no connection carries what another's credentials or
 * database are for.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "store/store.h"
#include "base/mem.h"
#include "conf/keys.h"
#include "ev/loop.h"
#include "peer/resolve.h"
#include "shm/siphash.h"
#include "shm/stats.h"
#include "store/channel.h"
#include "store/pg.h"
#include "store/redis.h"
#include "store/settings.h"
#include "store/share.h"
#include "store/sqlite.h"
#include <event2/event.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

/* For a transaction of another process to end. */
#define SQLITE_TIMEOUT_MS 2000

#define LAST_EXCHANGE_US 500000 /* at most, when the process ends */

/* A channel and what it was made of. */
struct way {
    struct way *next;
    char *key; /* kind and settings, a NUL behind each */
    size_t key_n;
    struct arena arena; /* the settings' texts and secrets */
    struct redis_settings redis;
    struct pg_settings pg;
    struct store_backend *backend; /* the channel's */
    const char *name;
    struct channel *channel;
};

struct store {
    struct store *next;
    struct way *way;
    int64_t sync_ms;
    struct share *share; /* NULL: each question goes to the store */
};

struct stores {
    struct stores_args args;
    struct way *ways;
    struct store *stores;
    struct resolver *resolver;
    char node[STORE_NODE_BYTES + 1];
};

struct stores *stores_new(const struct stores_args *args)
{
    struct stores *s = xcalloc(1, sizeof *s);

    s->args = *args;
    s->resolver = resolver_new(args->loop);
    snprintf(s->node, sizeof s->node, "%016" PRIx64, siphash_1_3_128(args->key, STR("node")).h0);
    return s;
}

/* A password may stand there. */
static void free_key(char *key, size_t n)
{
    explicit_bzero(key, n);
    free(key);
}

static void free_way(struct way *w)
{
    if (w->channel)
        channel_free(w->channel);
    arena_fini(&w->arena);
    free_key(w->key, w->key_n);
    free(w);
}

static bool exchange_all(struct stores *s)
{
    bool under_way = false;

    for (struct store *st = s->stores; st; st = st->next)
        under_way |= st->share && share_exchange(st->share);
    return under_way;
}

static void on_patience_over(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

/* What was counted since the last exchange: nobody would tell it after us. */
static void tell_the_rest(struct stores *s)
{
    const struct timeval tv = { 0, LAST_EXCHANGE_US };
    bool over = false;
    struct event *timer = event_new(loop_base(s->args.loop), -1, 0, on_patience_over, &over);

    must(timer && event_add(timer, &tv) == 0);
    while (!over && exchange_all(s))
        loop_turn(s->args.loop, true);
    event_free(timer);
}

void stores_leave(struct stores *s)
{
    for (struct way *w = s->ways; w; w = w->next)
        channel_leave(w->channel);
}

void stores_free(struct stores *s)
{
    if (exchange_all(s))
        tell_the_rest(s);
    for (struct way *w = s->ways, *next; w; w = next) {
        next = w->next;
        free_way(w); /* answers what is in flight, to shares too */
    }
    for (struct store *st = s->stores, *next; st; st = next) {
        next = st->next;
        if (st->share)
            share_free(st->share);
        free(st);
    }
    resolver_free(s->resolver);
    free(s);
}

/* ---- opening ---- */

static int open_redis(struct stores *s, struct way *w, struct str settings, struct err *e)
{
    int rc = settings_redis(&w->redis, &w->arena, settings, s->args.conf, e);

    if (rc < 0)
        return rc;
    w->backend = store_redis_new(s->args.loop, s->resolver, &w->redis);
    w->name = store_redis_name(w->backend);
    return 0;
}

static int open_cluster(struct stores *s, struct way *w, struct err *e)
{
    const struct conf *conf = s->args.conf;

    if (strcmp(conf->database, "off") == 0)
        return err_set(e, ERR_CONFIG,
                       "the policy cluster needs a database; weir.conf says "
                       "database = off");
    if (strcmp(conf->database, "sqlite") == 0) {
        w->backend = store_sqlite_new(s->args.loop, conf->sqlite_file, SQLITE_TIMEOUT_MS);
        w->name = arena_printf(&w->arena, "sqlite %s", conf->sqlite_file).p;
        return 0;
    }
    w->pg = settings_pg(&w->arena, STR(""), conf);
    w->backend = store_pg_new(s->args.loop, s->resolver, &w->pg);
    w->name =
        arena_printf(&w->arena, "postgres %s:%u/%s", w->pg.host, w->pg.port, w->pg.database).p;
    return 0;
}

static int open_backend(struct stores *s, struct way *w, struct str kind, struct str settings,
                        struct err *e)
{
    if (str_eq(kind, STR("redis")))
        return open_redis(s, w, settings, e);
    if (str_eq(kind, STR("cluster")))
        return open_cluster(s, w, e);
    return err_set(e, ERR_CONFIG, "there is no store of counters named %.*s", STR_ARG(kind));
}

static int open_way(struct stores *s, struct way *w, struct str kind, struct str settings,
                    struct err *e)
{
    struct channel_args args = { .loop = s->args.loop, .key = s->args.key };
    int rc = open_backend(s, w, kind, settings, e);

    if (rc < 0)
        return rc;
    args.backend = w->backend;
    args.name = w->name;
    if (s->args.stats) {
        args.figures = stats_store_claim(s->args.stats, args.name);
        args.whole = stats_instance(s->args.stats);
    }
    w->channel = channel_new(&args);
    return 0;
}

static struct way *find_way(struct stores *s, struct str key)
{
    for (struct way *w = s->ways; w; w = w->next)
        if (str_eq(key, (struct str){ w->key, w->key_n }))
            return w;
    return NULL;
}

static int get_way(struct stores *s, struct str kind, struct str settings, struct way **out,
                   struct err *e)
{
    struct buf key = { 0 };
    struct way *w;
    int rc;

    must(buf_reserve(&key, kind.n + 1 + settings.n)); /* it does not move: it is wiped */
    must(buf_add(&key, kind.p, kind.n) == 0 && buf_add(&key, "", 1) == 0 &&
         buf_add(&key, settings.p, settings.n) == 0);
    *out = find_way(s, (struct str){ key.p, key.n });
    if (*out) {
        free_key(key.p, key.n);
        return 0;
    }
    w = xcalloc(1, sizeof *w);
    w->key = key.p;
    w->key_n = key.n;
    arena_init(&w->arena, 512);
    rc = open_way(s, w, kind, settings, e);
    if (rc < 0) {
        free_way(w);
        return rc;
    }
    w->next = s->ways;
    *out = s->ways = w;
    return 0;
}

int stores_open(struct stores *s, struct str kind, struct str settings, int64_t sync_ms,
                struct store **out, struct err *e)
{
    struct way *way;
    struct store *st;
    int rc = get_way(s, kind, settings, &way, e);

    if (rc < 0)
        return rc;
    for (st = s->stores; st; st = st->next)
        if (st->way == way && st->sync_ms == sync_ms)
            break;
    if (!st) {
        struct share_args share = { s->args.loop, way->channel, s->args.counters,
                                    s->args.key,  s->node,      sync_ms };

        st = xcalloc(1, sizeof *st);
        *st = (struct store){ .next = s->stores, .way = way, .sync_ms = sync_ms };
        st->share = sync_ms > 0 ? share_new(&share) : NULL;
        s->stores = st;
    }
    *out = st;
    return 0;
}

const char *store_failure(const struct store *s)
{
    return channel_failure(s->way->channel);
}

const char *store_name(const struct store *s)
{
    return channel_name(s->way->channel);
}

/* ---- questions ---- */

/* A long identity in its bounds: its beginning, which people know it by, and a digest of it all. */
struct bounded {
    struct store_question question;
    char text[STORE_IDENTITY_MAX];
};

#define DIGEST_BYTES 20
#define KEPT_BYTES (STORE_IDENTITY_MAX - 2 * DIGEST_BYTES - 1)

static const struct store_question *bound(const struct store_question *q, struct bounded *b)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    if (LIKELY(q->identity.n <= STORE_IDENTITY_MAX))
        return q;
    SHA256((const unsigned char *)q->identity.p, q->identity.n, digest);
    memcpy(b->text, q->identity.p, KEPT_BYTES);
    b->text[KEPT_BYTES] = '#';
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        b->text[KEPT_BYTES + 1 + 2 * i] = "0123456789abcdef"[digest[i] >> 4];
        b->text[KEPT_BYTES + 2 + 2 * i] = "0123456789abcdef"[digest[i] & 15];
    }
    b->question = *q;
    b->question.identity = (struct str){ b->text, STORE_IDENTITY_MAX };
    return &b->question;
}

int store_admit(struct store *s, struct store_waiter *w, const struct store_question *q,
                int64_t cost)
{
    struct bounded b;

    q = bound(q, &b);
    if (!s->share)
        return channel_admit(s->way->channel, w, q, cost);
    return share_admit(s->share, w, q, cost);
}

int store_peek(struct store *s, struct store_waiter *w, const struct store_question *q)
{
    struct bounded b;

    q = bound(q, &b);
    if (!s->share)
        return channel_peek(s->way->channel, w, q);
    return share_peek(s->share, w, q);
}

void store_charge(struct store *s, const struct store_question *q, int64_t amount)
{
    struct bounded b;

    q = bound(q, &b);
    if (s->share)
        share_charge(s->share, q, amount);
    else
        channel_charge(s->way->channel, q, amount);
}
