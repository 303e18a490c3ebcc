/*
 * What the specs of the SQLite store share: a database of the spec's own, and
 * questions to it.
 */
#ifndef WEIR_SPEC_SQLITE_SPEC_H
#define WEIR_SPEC_SQLITE_SPEC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/calendar.h"
#include "base/clock.h"
#include "base/mem.h"
#include "conf/keys.h"
#include "ev/loop.h"
#include "store/migrations.h"
#include "store/sqlite.h"

#define HOUR_MS 3600000

static struct loop *loop;
static struct store_backend *store;
static char dir[64], path[128];
static int steps_done;

struct question {
    struct store_ask ask;
    int code;
    bool done;
    char reason[300];
};

static inline void on_step(unsigned number, const struct migration *step)
{
    assert_int_equal(number, 1);
    assert_string_equal(step->name, "counters");
    steps_done++;
}

static inline int migrate(struct err *e)
{
    struct conf conf = { .sqlite_file = path };

    return MIGRATIONS_SQLITE.up(&conf, false, on_step, e);
}

static inline unsigned version_of_file(void)
{
    struct conf conf = { .sqlite_file = path };
    struct err e;
    unsigned version = 99;

    if (MIGRATIONS_SQLITE.version(&conf, &version, &e) != 0)
        fail_msg("%s", e.text);
    return version;
}

static inline void must_migrate(void)
{
    struct err e;

    if (migrate(&e) != 0)
        fail_msg("%s", e.text);
}

static inline int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/weir-sqlite-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/weir.db", dir);
    must_migrate();
    loop = loop_new();
    store = store_sqlite_new(loop, path, 5000);
    return 0;
}

static inline int teardown(void **state)
{
    char command[120];

    (void)state;
    store->type->free(store);
    loop_free(loop);
    (void)umount2(dir, MNT_DETACH); /* if an example has mounted something there */
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* ---- questions */

static inline void on_answer(struct store_ask *ask, int code, const char *reason)
{
    struct question *q = CONTAINER_OF(ask, struct question, ask);

    assert_false(q->done);
    q->done = true;
    q->code = code;
    snprintf(q->reason, sizeof q->reason, "%s", reason ? reason : "");
}

static inline struct question ask(enum store_verb verb, const char *identity)
{
    struct question q = { .ask = { .verb = verb, .cost = 1, .count = 1 } };

    q.ask.identity = str_from(identity);
    q.ask.answered = on_answer;
    return q;
}

static inline void add_window(struct question *q, int64_t what, double limit)
{
    struct calendar_span span;

    clock_stale();
    span = what < 0 ? calendar_size_span(-what, clock_now_ms())
                    : calendar_period_span((enum calendar_period)what, clock_now_ms());
    q->ask.w[q->ask.n++] = (struct store_window){ what, limit, span.start_ms, span.end_ms };
}

static inline void send_all(struct question *all, size_t n)
{
    struct store_asks asks = TAILQ_HEAD_INITIALIZER(asks);

    for (size_t i = 0; i < n; i++) {
        all[i].done = false;
        TAILQ_INSERT_TAIL(&asks, &all[i].ask, link);
    }
    store->type->send(store, &asks);
    assert_true(TAILQ_EMPTY(&asks));
    for (size_t i = 0; i < n; i++)
        assert_false(all[i].done);
}

static inline void wait_all(const struct question *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        while (!all[i].done)
            loop_turn(loop, true);
}

static inline int put(struct question *q)
{
    send_all(q, 1);
    wait_all(q, 1);
    return q->code;
}

static inline void must_put(struct question *q)
{
    if (put(q) != 0)
        fail_msg("%d: %s", q->code, q->reason);
}

static inline int64_t admit_some(const char *identity, int64_t count, int64_t cost, double limit)
{
    struct question q = ask(STORE_ADMIT, identity);

    q.ask.count = count;
    q.ask.cost = cost;
    add_window(&q, PERIOD_YEAR, limit);
    must_put(&q);
    return q.ask.granted;
}

static inline int64_t peek(const char *identity, int64_t what)
{
    struct question q = ask(STORE_PEEK, identity);

    add_window(&q, what, 0);
    must_put(&q);
    return q.ask.used[0];
}

static inline void charge(const char *identity, int64_t what, int64_t amount)
{
    struct question q = ask(STORE_CHARGE, identity);

    q.ask.cost = amount;
    add_window(&q, what, 0);
    must_put(&q);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
