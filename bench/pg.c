/*
 * How many decisions a second the PostgreSQL store makes with 64 requests in
 * flight, beside a client that sends one upsert for each request and waits for
 * it: for one hot key and for 10,000, with synchronous_commit on and off. The
 * core merges requests of the same key into one question; so does this. CPU
 * is that of client and server together: it moves less than the rates when
 * something else runs. Makes its own server and removes it.
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
#include <dirent.h>

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

/* ---- what it takes */

struct rate {
    double per_second, cpu_us; /* of one decision */
};

struct stretch {
    int64_t began_us;
    uint64_t cpu_ns;
};

static uint64_t run_ns(const char *pid)
{
    unsigned long long ns = 0;
    char path[300];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%s/schedstat", pid);
    f = fopen(path, "r");
    if (f && fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return ns;
}

static bool is_server(const char *pid)
{
    char path[300];
    int parent = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) != 1)
        parent = 0;
    if (f)
        fclose(f);
    return parent == the_server.pid;
}

/* Of the server's processes that have ended, such as those that vacuum. */
static uint64_t ended_ns(void)
{
    unsigned long user = 0, system = 0;
    char path[300];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)the_server.pid);
    f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu",
                    &user, &system) != 2)
        user = system = 0;
    if (f)
        fclose(f);
    return (user + system) * (1000000000U / (unsigned long)sysconf(_SC_CLK_TCK));
}

/* Of this process and the server's. */
static uint64_t cpu_ns(void)
{
    DIR *proc = opendir("/proc");
    uint64_t sum = run_ns("self") + ended_ns();

    for (struct dirent *entry; (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_server(entry->d_name))
            sum += run_ns(entry->d_name);
    closedir(proc);
    return sum;
}

static struct stretch begin(void)
{
    return (struct stretch){ .cpu_ns = cpu_ns(), .began_us = clock_mono_us_exact() };
}

static struct rate end(const struct stretch *s, uint64_t n)
{
    int64_t us = clock_mono_us_exact() - s->began_us;

    return (struct rate){ (double)n * 1e6 / (double)us,
                          (double)(cpu_ns() - s->cpu_ns) / 1e3 / (double)n };
}

/* ---- one upsert for each request */

static struct rate upserts(unsigned keys, bool sync, int64_t span_us)
{
    static const char UPSERT[] =
        "INSERT INTO metrics AS m (identifier, period, period_date, value) VALUES ($1, 'second',"
        " '2026-01-01', 1) ON CONFLICT (identifier, period, period_date)"
        " DO UPDATE SET value = m.value + 1 RETURNING value";
    PGconn *c = pg_server_connect(&the_server, "weir");
    struct stretch stretch;
    struct rate rate;
    uint64_t n = 0;

    pg_server_ask(c, sync ? "SET synchronous_commit = on" : "SET synchronous_commit = off");
    PQclear(PQprepare(c, "upsert", UPSERT, 1, NULL));
    stretch = begin();
    for (; clock_mono_us_exact() - stretch.began_us < span_us; n++) {
        char name[64];
        const char *const params[] = { name };
        PGresult *r;

        name_key(name, any_of(keys));
        r = PQexecPrepared(c, "upsert", 1, params, NULL, NULL, 0);
        if (PQresultStatus(r) != PGRES_TUPLES_OK)
            die("upsert", PQerrorMessage(c));
        PQclear(r);
    }
    rate = end(&stretch, n);
    PQfinish(c);
    return rate;
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

static struct rate decisions(unsigned keys, bool sync, int64_t span_us)
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
    struct stretch stretch = { 0 };
    struct rate rate;

    for (int i = 0; i <= 10 || clock_mono_us_exact() - stretch.began_us < span_us; i++) {
        if (i == 10) { /* connected by now */
            stretch = begin();
            granted = 0;
        }
        ask_batch(store, keys);
        while (waiting)
            loop_turn(loop, true);
    }
    rate = end(&stretch, (uint64_t)granted);
    store->type->free(store);
    loop_turn(loop, false);
    resolver_free(resolver);
    loop_free(loop);
    return rate;
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

static struct rate median(const struct rate *rates, unsigned n)
{
    double per_second[PASSES_MAX], cpu_us[PASSES_MAX];

    for (unsigned i = 0; i < n; i++) {
        per_second[i] = rates[i].per_second;
        cpu_us[i] = rates[i].cpu_us;
    }
    qsort(per_second, n, sizeof *per_second, order);
    qsort(cpu_us, n, sizeof *cpu_us, order);
    return (struct rate){ per_second[n / 2], cpu_us[n / 2] };
}

static void measure(unsigned keys, bool sync, unsigned passes, int64_t span_us)
{
    struct rate upsert[PASSES_MAX], weir[PASSES_MAX], a, b;

    for (unsigned i = 0; i < passes; i++) {
        upsert[i] = upserts(keys, sync, span_us);
        weir[i] = decisions(keys, sync, span_us);
    }
    a = median(upsert, passes);
    b = median(weir, passes);
    printf("| %s, synchronous_commit %s | %.0f | %.0f | %.1f | >= %d | %.1f | %.1f | %.1f |\n",
           keys == 1 ? "a hot key" : "10,000 keys", sync ? "on" : "off", a.per_second, b.per_second,
           b.per_second / a.per_second, keys == 1 ? 10 : 5, a.cpu_us, b.cpu_us,
           a.cpu_us / b.cpu_us);
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
    printf("| PostgreSQL, 64 in flight | an upsert each, a second | weir, a second | ratio | bar |"
           " CPU us, upsert | CPU us, weir | ratio |\n|---|---|---|---|---|---|---|---|\n");
    for (int sync = 1; sync >= 0; sync--) {
        measure(1, sync, passes, span_us);
        measure(10000, sync, passes, span_us);
    }
    pg_server_remove(&the_server);
    return 0;
}
