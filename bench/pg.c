/*
 * How many decisions a second the PostgreSQL store makes with 64 requests in
 * flight, beside a client that sends one upsert for each request and waits for
 * it: for one hot key and for 10,000, with synchronous_commit on and off. The
 * core merges requests of the same key into one question; so does this.
 * Prints one table. Makes its own server and removes it.
 *
 * usage: bench-pg [passes, default 5] [seconds of each, default 2]
 */
#define PG_SERVER_PARENT "/var/tmp" /* on a real disk */
#include "../spec/c/peer/pg_server.h"
#include "base/calendar.h"
#include "base/clock.h"
#include "conf/parse.h"
#include "peer/resolve.h"
#include "store/migrations.h"
#include "store/pg.h"

#define IN_FLIGHT 64
#define PASSES_MAX 25

static struct pg_server the_server;
static uint32_t the_random = 1;

static unsigned any_of(unsigned keys)
{
    the_random = the_random * 1664525u + 1013904223u;
    return (unsigned)((uint64_t)the_random * keys >> 32);
}

static void name_key(char name[64], unsigned key)
{
    snprintf(name, 64, "ratelimit:4a1b7c9e-0d2f-4c55-9b1e-77aa01cd:%05u", key);
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-pg: %s: %s\n", what, why);
    pg_server_remove(&the_server);
    exit(1);
}

/* ---- one upsert for each request */

static double upserts(unsigned keys, bool sync, int64_t span_us)
{
    static const char UPSERT[] =
        "INSERT INTO metrics AS m (identifier, period, period_date, value) VALUES ($1, 'second',"
        " '2026-01-01', 1) ON CONFLICT (identifier, period, period_date)"
        " DO UPDATE SET value = m.value + 1 RETURNING value";
    PGconn *c = pg_server_connect(&the_server, "weir");
    int64_t began, now;
    uint64_t n = 0;

    pg_server_ask(c, sync ? "SET synchronous_commit = on" : "SET synchronous_commit = off");
    PQclear(PQprepare(c, "upsert", UPSERT, 1, NULL));
    began = now = clock_mono_us_exact();
    for (; now - began < span_us; n++, now = clock_mono_us_exact()) {
        char name[64];
        const char *const params[] = { name };
        PGresult *r;

        name_key(name, any_of(keys));
        r = PQexecPrepared(c, "upsert", 1, params, NULL, NULL, 0);
        if (PQresultStatus(r) != PGRES_TUPLES_OK)
            die("upsert", PQerrorMessage(c));
        PQclear(r);
    }
    PQfinish(c);
    return (double)n * 1e6 / (double)(now - began);
}

/* ---- the store */

static struct store_ask the_asks[IN_FLIGHT];
static char the_names[IN_FLIGHT][64];
static unsigned waiting;
static int64_t granted;

static void on_answered(struct store_ask *ask, int code, const char *reason)
{
    if (code != 0 && code != STORE_STALE)
        die("store", reason);
    granted += ask->granted;
    waiting--;
}

static void ask_batch(struct store_backend *store, unsigned keys)
{
    struct store_asks list = TAILQ_HEAD_INITIALIZER(list);
    struct calendar_span minute = calendar_period_span(PERIOD_MINUTE, clock_now_ms());
    unsigned n = 0, at;

    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        name_key(the_names[n], any_of(keys));
        for (at = 0; strcmp(the_names[at], the_names[n]) != 0; at++)
            ;
        if (at < n) {
            the_asks[at].count++;
            continue;
        }
        the_asks[n] = (struct store_ask){ .verb = STORE_ADMIT, .n = 1, .cost = 1, .count = 1 };
        the_asks[n].identity = str_from(the_names[n]);
        the_asks[n].answered = on_answered;
        the_asks[n].w[0] =
            (struct store_window){ PERIOD_MINUTE, 1e9, minute.start_ms, minute.end_ms };
        TAILQ_INSERT_TAIL(&list, &the_asks[n], link);
        n++;
    }
    waiting = n;
    store->type->send(store, &list);
}

static double decisions(unsigned keys, bool sync, int64_t span_us)
{
    struct pg_settings settings = { .host = the_server.dir,
                                    .port = (unsigned)atoi(the_server.port),
                                    .user = "weir",
                                    .database = "weir",
                                    .timeout_ms = 10000,
                                    .synchronous_commit = sync };
    struct loop *loop = loop_new();
    struct resolver *resolver = resolver_new(loop);
    struct store_backend *store = store_pg_new(loop, resolver, &settings);
    int64_t began = 0, now = 0;

    for (int batches = 0; batches < 20 || now - began < span_us; batches++) {
        if (batches == 10) { /* connected by now */
            began = clock_mono_us_exact();
            granted = 0;
        }
        ask_batch(store, keys);
        while (waiting)
            loop_turn(loop, true);
        now = clock_mono_us_exact();
    }
    store->type->free(store);
    loop_turn(loop, false);
    resolver_free(resolver);
    loop_free(loop);
    return (double)granted * 1e6 / (double)(now - began);
}

/* ---- the table */

static void on_step(unsigned number, const struct migration *step)
{
    (void)number;
    (void)step;
}

static void make_tables(void)
{
    PGconn *c = pg_server_connect(&the_server, "weir");
    char text[300];
    struct conf *conf;
    struct err e;

    snprintf(text, sizeof text,
             "database = postgres\npg_host = %s\npg_port = %s\n"
             "declarative_config = off\n",
             the_server.dir, the_server.port);
    if (conf_load_text(&conf, "weir.conf", str_from(text), &e) != 0 ||
        MIGRATIONS_PG.up(conf, false, on_step, &e) != 0)
        die("migrations", e.text);
    conf_free(conf);
    pg_server_ask(c, "CREATE TABLE metrics (identifier text, period text, period_date timestamptz,"
                     " value int, PRIMARY KEY (identifier, period, period_date))");
    PQfinish(c);
}

static int order(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, order);
    return v[n / 2];
}

static void measure(unsigned keys, bool sync, unsigned passes, int64_t span_us)
{
    double one[PASSES_MAX], many[PASSES_MAX], a, b;

    for (unsigned i = 0; i < passes; i++) {
        one[i] = upserts(keys, sync, span_us);
        many[i] = decisions(keys, sync, span_us);
    }
    a = median(one, passes);
    b = median(many, passes);
    printf("| %s, synchronous_commit %s | %.0f | %.0f | %.1f | >= %d |\n",
           keys == 1 ? "a hot key" : "10,000 keys", sync ? "on" : "off", a, b, b / a,
           keys == 1 ? 10 : 5);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    unsigned passes = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
    int64_t span_us = (argc > 2 ? atoi(argv[2]) : 2) * INT64_C(1000000);

    if (passes < 1 || passes > PASSES_MAX || span_us < 1) {
        fprintf(stderr, "usage: bench-pg [passes] [seconds of each]\n");
        return 2;
    }
    pg_server_make(&the_server);
    make_tables();
    printf("| PostgreSQL, 64 in flight | an upsert each, decisions/s | weir, decisions/s | ratio | "
           "bar |\n|---|---|---|---|---|\n");
    for (int sync = 1; sync >= 0; sync--) {
        measure(1, sync, passes, span_us);
        measure(10000, sync, passes, span_us);
    }
    pg_server_remove(&the_server);
    return 0;
}
