/*
 * The workers' lines: claimed, read, and taken over from the dead. The stores'
 * lines: one for a name, whoever asks for it.
 */
#include "shm_spec.h"
#include "shm/lock.h"
#include "shm/owner.h"
#include "shm/stats.h"

static struct region the_region;
static struct stats *s;

static int setup(void **state)
{
    (void)state;
    spec_region_open(&the_region, REGION_MIN_BYTES);
    s = stats_attach(&the_region);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    region_close(&the_region);
    return 0;
}

static unsigned living(void)
{
    unsigned at = 0, n = 0;

    while (stats_next(s, &at))
        n++;
    return n;
}

/* A worker that answers 7 requests and then waits for its end. */
static int work(void *arg)
{
    struct stats_worker *w = stats_claim(s, 3, 9);

    if (!w)
        return 1;
    w->in_flight = 2;
    w->connections = 5;
    stats_beat(w, 4711);
    __atomic_store_n(&w->requests, 7, __ATOMIC_RELEASE);
    if (arg) {
        stats_release(s, w);
        return 0;
    }
    for (;;)
        pause();
}

static pid_t start_worker(void)
{
    uint64_t before = stats_requests(s);
    pid_t pid = spec_fork(work, NULL);

    while (stats_requests(s) < before + 7)
        usleep(100);
    return pid;
}

static void a_worker_is_seen(void **state)
{
    pid_t pid = start_worker();
    unsigned at = 0;
    const struct stats_worker *w = stats_next(s, &at);

    (void)state;
    assert_non_null(w);
    assert_int_equal(owner_pid(w->owner), pid);
    assert_int_equal(w->number, 3);
    assert_int_equal(w->generation, 9);
    assert_int_equal(w->requests, 7);
    assert_int_equal(w->in_flight, 2);
    assert_int_equal(w->connections, 5);
    assert_int_equal(w->beat_mono_ms, 4711);
    assert_true(w->started_ms > INT64_C(1600000000) * 1000);
    assert_null(stats_next(s, &at));
    spec_kill(pid);
}

static void the_dead_are_not_seen_and_their_requests_stay(void **state)
{
    pid_t a = start_worker(), b = start_worker();

    (void)state;
    assert_int_equal(living(), 2);
    spec_kill(a);
    assert_int_equal(living(), 1);
    assert_int_equal(stats_requests(s), 14);
    stats_sweep(s);
    stats_sweep(s);
    assert_int_equal(stats_requests(s), 14);
    assert_int_equal(stats_instance(s)->requests_past, 7);
    spec_kill(b);
    assert_int_equal(spec_wait(spec_fork(work, s)), 0); /* takes a line, and gives it back */
    assert_int_equal(stats_requests(s), 21);
    assert_int_equal(living(), 0);
    stats_sweep(s);
    assert_int_equal(stats_requests(s), 21);
}

static void a_line_taken_over_begins_anew(void **state)
{
    const struct stats_worker *w;
    unsigned at = 0;

    (void)state;
    spec_kill(start_worker());
    w = stats_claim(s, 1, 10);
    assert_non_null(w);
    assert_true(w == stats_next(s, &at));
    assert_int_equal(owner_pid(w->owner), getpid());
    assert_int_equal(w->requests, 0);
    assert_int_equal(w->in_flight, 0);
    assert_int_equal(w->connections, 0);
    assert_int_equal(w->generation, 10);
    assert_true(w->beat_mono_ms != 4711);
    assert_int_equal(stats_requests(s), 7);
}

static void when_all_lines_are_taken_there_is_none(void **state)
{
    struct stats_worker *w = NULL;

    (void)state;
    for (int i = 0; i < STATS_WORKERS_MAX; i++) {
        w = stats_claim(s, (uint32_t)i, 1);
        assert_non_null(w);
    }
    assert_null(stats_claim(s, 1, 1));
    assert_int_equal(living(), STATS_WORKERS_MAX);
    stats_release(s, w);
    assert_true(stats_claim(s, 1, 1) == w);
}

static void many_claim_at_once(void **state)
{
    pid_t pids[20];

    (void)state;
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < ARRAY_LEN(pids); i++)
            pids[i] = spec_fork(work, NULL);
        while (stats_requests(s) < (uint64_t)(round + 1) * 7 * ARRAY_LEN(pids))
            usleep(100);
        assert_int_equal(living(), ARRAY_LEN(pids));
        for (size_t i = 0; i < ARRAY_LEN(pids); i++)
            spec_kill(pids[i]);
    }
    stats_sweep(s);
    assert_int_equal(stats_instance(s)->requests_past, 5 * 7 * ARRAY_LEN(pids));
}

#define CLAIMANTS 4

static unsigned stores(void)
{
    unsigned at = 0, n = 0;

    while (stats_store_next(s, &at))
        n++;
    return n;
}

static void a_store_has_one_line(void **state)
{
    struct stats_store *a = stats_store_claim(s, "redis 127.0.0.1:6379");
    struct stats_store *b = stats_store_claim(s, "redis 127.0.0.1:637");
    unsigned at = 0;

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_true(a != b);
    stats_add(&a->asked, 3);
    assert_true(stats_store_claim(s, "redis 127.0.0.1:6379") == a);
    assert_true(stats_store_claim(s, "redis 127.0.0.1:637") == b);
    assert_int_equal(a->asked, 3);
    assert_int_equal(b->asked, 0);
    assert_true(stats_store_next(s, &at) == a);
    assert_true(stats_store_next(s, &at) == b);
    assert_null(stats_store_next(s, &at));
}

static void a_long_name_is_cut(void **state)
{
    char name[200];
    struct stats_store *row;

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    row = stats_store_claim(s, name);
    assert_non_null(row);
    assert_int_equal(strlen(row->name), STATS_STORE_NAME_BYTES - 1);
    assert_true(stats_store_claim(s, name) == row);
    assert_int_equal(stores(), 1);
}

static void more_stores_than_lines_have_none(void **state)
{
    struct stats_store *last = NULL;
    char name[20];

    (void)state;
    for (int i = 0; i < STATS_STORES_MAX; i++) {
        snprintf(name, sizeof name, "store %d", i);
        last = stats_store_claim(s, name);
        assert_non_null(last);
    }
    assert_null(stats_store_claim(s, "another"));
    assert_true(stats_store_claim(s, name) == last);
}

/* Claims all lines' worth of names and counts in each, all processes at the same moment. */
static int claim_all(void *arg)
{
    unsigned *ready = arg;
    char name[20];

    __atomic_fetch_add(ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) < CLAIMANTS)
        ;
    for (int i = 0; i < STATS_STORES_MAX; i++) {
        struct stats_store *row;

        snprintf(name, sizeof name, "store %d", i);
        row = stats_store_claim(s, name);
        if (!row || strcmp(row->name, name) != 0)
            return 1;
        stats_add(&row->asked, 1);
    }
    return 0;
}

static void processes_agree_on_the_stores_lines(void **state)
{
    pid_t pids[CLAIMANTS];
    unsigned at = 0, *ready = spec_share(sizeof *ready);
    const struct stats_store *row;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        pids[i] = spec_fork(claim_all, ready);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        assert_int_equal(spec_wait(pids[i]), 0);
    assert_int_equal(stores(), STATS_STORES_MAX);
    while ((row = stats_store_next(s, &at)) != NULL)
        assert_int_equal(row->asked, ARRAY_LEN(pids));
}

/* Dies with the lock in its hand and a line half made. */
static int die_while_claiming(void *arg)
{
    lock_take(&stats_instance(s)->stores_lock);
    snprintf(((struct stats_store *)arg)->name, STATS_STORE_NAME_BYTES, "half");
    return 0;
}

static void a_claimant_that_died_leaves_a_free_line(void **state)
{
    struct stats_store *row = stats_store_claim(s, "whole"), *next = row + 1;

    (void)state;
    assert_int_equal(spec_wait(spec_fork(die_while_claiming, next)), 0);
    assert_true(stats_store_claim(s, "whole") == row);
    assert_true(stats_store_claim(s, "other") == next);
    assert_string_equal(next->name, "other");
    assert_int_equal(stores(), 2);
}

static void forgetting_is_counted(void **state)
{
    uint64_t before = stats_forgotten(stats_instance(s));

    (void)state;
    stats_forget(s);
    assert_int_equal(stats_forgotten(stats_instance(s)), before + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_is_seen),
        TEST(the_dead_are_not_seen_and_their_requests_stay),
        TEST(a_line_taken_over_begins_anew),
        TEST(when_all_lines_are_taken_there_is_none),
        TEST(many_claim_at_once),
        TEST(a_store_has_one_line),
        TEST(a_long_name_is_cut),
        TEST(more_stores_than_lines_have_none),
        TEST(processes_agree_on_the_stores_lines),
        TEST(a_claimant_that_died_leaves_a_free_line),
        TEST(forgetting_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
