/*
 * What the specs of the PostgreSQL store share: a server of the spec's own with
 * weir's tables, a store at it, and questions to that.
 */
#ifndef WEIR_SPEC_PG_SPEC_H
#define WEIR_SPEC_PG_SPEC_H

#include "../peer/pg_server.h"
#include "base/clock.h"
#include "conf/parse.h"
#include "peer/resolve.h"
#include "store/migrations.h"
#include "store/pg.h"
#include <math.h>
#include <sys/mman.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct pg_server the_server;
static struct loop *the_loop;
static struct resolver *the_resolver;
static struct pg_settings the_settings;
static struct store_backend *the_store;
static PGconn *the_admin; /* a superuser beside it */

/* An ask, what came of it, and how to make one. */
struct asked {
    struct store_ask ask;
    bool done;
    int code, order;
    char reason[500];
};

static int the_order;
static bool sending;

static inline void on_answered(struct store_ask *ask, int code, const char *reason)
{
    struct asked *a = CONTAINER_OF(ask, struct asked, ask);

    assert_false(sending);
    assert_false(a->done);
    a->done = true;
    a->code = code;
    a->order = ++the_order;
    assert_int_equal(code < 0 && code != STORE_STALE, reason != NULL);
    snprintf(a->reason, sizeof a->reason, "%s", reason ? reason : "");
    assert_null(strstr(a->reason, "secret"));
}

static int64_t now_ms(void)
{
    clock_stale();
    return clock_now_ms();
}

/* The present window, or the one that lies `ahead` behind it. */
static inline struct store_window window(int64_t what, double limit, int64_t ahead_ms)
{
    int64_t at = now_ms() + ahead_ms;
    struct calendar_span span = what > 0 ? calendar_period_span((enum calendar_period)what, at)
                                         : calendar_size_span(-what, at);

    return (struct store_window){ what, limit, span.start_ms, span.end_ms };
}

static inline struct asked make(enum store_verb verb, const char *identity, int64_t what,
                                double limit, int64_t cost, int64_t count)
{
    struct asked a = { .ask = { .verb = verb, .n = 1, .cost = cost, .count = count } };

    a.ask.identity = str_from(identity);
    a.ask.w[0] = window(what, limit, 0);
    a.ask.answered = on_answered;
    return a;
}

static inline void add_window(struct asked *a, int64_t what, double limit)
{
    a->ask.w[a->ask.n++] = window(what, limit, 0);
}

static inline void send_all(struct asked *a, size_t n)
{
    struct store_asks asks = TAILQ_HEAD_INITIALIZER(asks);

    for (size_t i = 0; i < n; i++) {
        a[i].done = false;
        TAILQ_INSERT_TAIL(&asks, &a[i].ask, link);
    }
    sending = true;
    the_store->type->send(the_store, &asks);
    sending = false;
    assert_true(TAILQ_EMPTY(&asks));
}

static inline void await(struct asked *a, size_t n)
{
    int64_t until;

    clock_stale();
    until = clock_mono_ms() + 15000;
    for (size_t i = 0; i < n; i++) {
        while (!a[i].done) {
            assert_true(clock_mono_ms() < until);
            loop_turn(the_loop, true);
        }
    }
}

static inline void run(struct asked *a, size_t n)
{
    send_all(a, n);
    await(a, n);
}

static inline void run_well(struct asked *a)
{
    run(a, 1);
    if (a->code != 0)
        print_error("%d %s\n", a->code, a->reason);
    assert_int_equal(a->code, 0);
}

static int64_t admit(const char *identity, double limit, int64_t cost, int64_t count)
{
    struct asked a = make(STORE_ADMIT, identity, PERIOD_YEAR, limit, cost, count);

    run_well(&a);
    return a.ask.granted;
}

static inline void charge(const char *identity, int64_t amount)
{
    struct asked a = make(STORE_CHARGE, identity, PERIOD_YEAR, 0, amount, 0);

    run_well(&a);
}

static int64_t peek(const char *identity, int64_t what)
{
    struct asked a = make(STORE_PEEK, identity, what, 0, 0, 0);

    run_well(&a);
    assert_in_range(a.ask.now_ms, now_ms() - 5000, now_ms() + 5000);
    return a.ask.used[0];
}

/* ---- around each example ---- */

static inline void open_store(void)
{
    the_store = store_pg_new(the_loop, the_resolver, &the_settings);
}

static inline void close_store(void)
{
    if (the_store)
        the_store->type->free(the_store);
    the_store = NULL;
    loop_turn(the_loop, false);
}

static inline void open_loop(void)
{
    the_loop = loop_new();
    the_resolver = resolver_new(the_loop);
    the_settings = (struct pg_settings){
        .host = the_server.dir,
        .port = (unsigned)atoi(the_server.port),
        .user = "weir",
        .database = "weir",
        .timeout_ms = 5000,
    };
    open_store();
}

static inline void close_loop(void)
{
    close_store();
    resolver_free(the_resolver);
    loop_free(the_loop);
}

static inline int set_up(void **state)
{
    (void)state;
    pg_server_ask(the_admin, "TRUNCATE weir_counters");
    open_loop();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    close_loop();
    return 0;
}

/* ---- the tables ---- */

static unsigned steps_done;

static inline void on_step(unsigned number, const struct migration *step)
{
    assert_int_equal(number, ++steps_done);
    assert_non_null(step->name);
}

static inline struct conf *conf_of(const char *more)
{
    char text[500];
    struct conf *conf;
    struct err e;

    snprintf(text, sizeof text,
             "database = postgres\npg_host = %s\npg_port = %s\n"
             "pg_database = weir\ndeclarative_config = off\n%s",
             the_server.dir, the_server.port, more);
    assert_int_equal(conf_load_text(&conf, "weir.conf", str_from(text), &e), 0);
    return conf;
}

static inline void ignore_step(unsigned number, const struct migration *step)
{
    (void)number;
    (void)step;
}

static inline void migrate(const char *more, bool unlogged)
{
    struct conf *conf = conf_of(more);
    unsigned version = 0;
    struct err e = { 0 };

    if (MIGRATIONS_PG.up(conf, unlogged, on_step, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(MIGRATIONS_PG.version(conf, &version, &e), 0);
    assert_int_equal(version, MIGRATIONS_PG.count);
    conf_free(conf);
}

static inline void drop_tables(void)
{
    pg_server_ask(the_admin, "DROP SCHEMA public CASCADE");
    pg_server_ask(the_admin, "CREATE SCHEMA public AUTHORIZATION weir");
    pg_server_ask(the_admin, "GRANT USAGE ON SCHEMA public TO PUBLIC"); /* as initdb does */
}

static inline int make_server(void **state)
{
    (void)state;
    pg_server_make(&the_server);
    the_admin = pg_server_connect(&the_server, "weir");
    drop_tables();
    migrate("pg_user = weir\n", false);
    return 0;
}

static inline int remove_server(void **state)
{
    (void)state;
    PQfinish(the_admin);
    pg_server_remove(&the_server);
    return 0;
}

#define EXAMPLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
