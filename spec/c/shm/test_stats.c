/*
 * The workers' lines: claimed, read, and taken over from the dead.
 */
#include "shm_spec.h"
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_is_seen),
        TEST(the_dead_are_not_seen_and_their_requests_stay),
        TEST(a_line_taken_over_begins_anew),
        TEST(when_all_lines_are_taken_there_is_none),
        TEST(many_claim_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
