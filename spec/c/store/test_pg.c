/*
 * store/pg against a real server: the verbs and what they count, windows that
 * are over, all or nothing, shares, and processes that ask for the same rows at once.
 */
#include "pg_spec.h"

/* ---- the verbs ---- */

static void test_admits_the_limit(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(admit("a", 5, 1, 1), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(admit("a", 5, 1, 1), 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 5);
    assert_int_equal(peek("b", PERIOD_YEAR), 0);
    assert_true(the_store->round_trips >= 10);
}

static void test_counts_and_costs(void **state)
{
    (void)state;
    assert_int_equal(admit("a", 20, 3, 10), 6);
    assert_int_equal(peek("a", PERIOD_YEAR), 18);
    assert_int_equal(admit("a", 20, 3, 10), 0);
    assert_int_equal(admit("a", 20, 2, 10), 1);
    assert_int_equal(admit("a", 20, 1, 1), 0);
    assert_int_equal(admit("b", 0.5, 1, 1000000), 0);
    assert_int_equal(admit("b", -3, 1, 5), 0);
    assert_int_equal(admit("b", NAN, 1, 5), 0);
    assert_int_equal(admit("b", 1e300, 1, 5), 5);
    assert_int_equal(admit("b", INFINITY, COUNTER_COUNT_MAX, 5), 2); /* limits end at 9e12 */
    assert_int_equal(peek("b", PERIOD_YEAR), COUNTER_COUNT_MAX);
}

static void test_charges(void **state)
{
    struct asked a = make(STORE_CHARGE, "a", PERIOD_YEAR, 0, -9, 0);

    (void)state;
    charge("a", 7);
    charge("a", 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 7);
    run_well(&a);
    assert_int_equal(a.ask.used[0], 7);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("a", INT64_MAX);
    charge("a", INT64_MAX);
    assert_int_equal(peek("a", PERIOD_YEAR), COUNTER_COUNT_MAX);
    charge("a", INT64_MIN);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("new", -5);
    assert_int_equal(peek("new", PERIOD_YEAR), 0);
}

/* One window takes the short way, two of the same take the long one: they agree. */
static void test_both_ways_agree(void **state)
{
    static const double limits[] = { 0, 0.5, 1, 2.999, 7, 10, 1e300, -1 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        for (int64_t cost = 1; cost < 4; cost++) {
            struct asked a = make(STORE_ADMIT, "short", PERIOD_YEAR, limits[i], cost, 3),
                         b = make(STORE_ADMIT, "long", PERIOD_YEAR, limits[i], cost, 3);

            add_window(&b, PERIOD_YEAR, limits[i]);
            run_well(&a);
            run_well(&b);
            assert_int_equal(a.ask.granted, b.ask.granted);
            assert_int_equal(a.ask.used[0], b.ask.used[0]);
            assert_int_equal(a.ask.previous[0], 0);
        }
    }
    charge("short", COUNTER_COUNT_MAX);
    assert_int_equal(admit("short", 1e300, COUNTER_COUNT_MAX, 1), 1);
    assert_int_equal(peek("short", PERIOD_YEAR), COUNTER_COUNT_MAX);
}

static void test_peeking_makes_no_rows(void **state)
{
    (void)state;
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    assert_int_equal(pg_server_ask(the_admin, "SELECT count(*) FROM weir_counters"), 0);
}

static void test_all_windows_or_none(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 100, 1, 10);

    (void)state;
    add_window(&a, -COUNTER_SIZE_MAX_MS, 7);
    add_window(&a, PERIOD_MONTH, 50);
    run_well(&a);
    assert_int_equal(a.ask.granted, 7);
    run_well(&a);
    assert_int_equal(a.ask.granted, 0);
    for (unsigned i = 0; i < a.ask.n; i++)
        assert_int_equal(a.ask.used[i], 7);
    assert_int_equal(peek("a", PERIOD_MONTH), 7);
}

/* Who asks for other windows of the same identity neither sees nor loses these. */
static void test_other_windows_stay(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 100, 1, 10),
                 b = make(STORE_ADMIT, "a", PERIOD_MONTH, 100, 1, 3);

    (void)state;
    add_window(&a, -COUNTER_SIZE_MAX_MS, 100);
    run_well(&a);
    run_well(&b);
    assert_int_equal(b.ask.used[0], 0);
    assert_int_equal(peek("a", PERIOD_MONTH), 3);
    assert_int_equal(peek("a", PERIOD_YEAR), 10);
    assert_int_equal(peek("a", -COUNTER_SIZE_MAX_MS), 10);
    b = make(STORE_ADMIT, "b", PERIOD_DAY, 100, 1, 4);
    run_well(&b);
    b = make(STORE_ADMIT, "b", PERIOD_MONTH, 100, 1, 5);
    run_well(&b);
    assert_int_equal(peek("b", PERIOD_DAY), 4);
    assert_int_equal(peek("b", PERIOD_MONTH), 5);
    a.ask.sliding = true; /* another count altogether */
    run_well(&a);
    assert_int_equal(a.ask.used[0], 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 10);
}

static void test_a_window_given_twice(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 10, 1, 4);

    (void)state;
    add_window(&a, PERIOD_YEAR, 10);
    run_well(&a);
    assert_int_equal(a.ask.granted, 4);
    run_well(&a);
    assert_int_equal(peek("a", PERIOD_YEAR), 8);
}

/* Asks of one send about one identity are done in their order, others beside them. */
static void test_order_in_a_send(void **state)
{
    struct asked a[] = {
        make(STORE_PEEK, "b", PERIOD_YEAR, 0, 0, 0),
        make(STORE_CHARGE, "b", PERIOD_YEAR, 0, 5, 0),
        make(STORE_PEEK, "b", PERIOD_YEAR, 0, 0, 0),
        make(STORE_ADMIT, "b", PERIOD_YEAR, 7, 1, 9),
        make(STORE_CHARGE, "b", PERIOD_YEAR, 0, -1, 0),
        make(STORE_PEEK, "b", PERIOD_YEAR, 0, 0, 0),
        make(STORE_ADMIT, "a", PERIOD_YEAR, 7, 1, 9),
        make(STORE_PEEK, "c", PERIOD_YEAR, 0, 0, 0),
    };
    uint64_t before;

    (void)state;
    charge("c", 3);
    before = the_store->round_trips;
    run(a, ARRAY_LEN(a));
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        assert_int_equal(a[i].code, 0);
    assert_int_equal(a[0].ask.used[0], 0);
    assert_int_equal(a[2].ask.used[0], 5);
    assert_int_equal(a[3].ask.granted, 2);
    assert_int_equal(a[4].ask.used[0], 7);
    assert_int_equal(a[5].ask.used[0], 6);
    assert_int_equal(a[6].ask.granted, 7);
    assert_int_equal(a[7].ask.used[0], 3);
    assert_int_equal(the_store->round_trips, before + 1);
}

static void test_many_in_a_send(void **state)
{
    static struct asked a[1000];
    static char names[ARRAY_LEN(a)][12];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        snprintf(names[i], sizeof names[i], "%zu", i * 7919 % 1000);
        a[i] = make(STORE_ADMIT, names[i], PERIOD_YEAR, (double)i, 1, 2000);
    }
    run(a, ARRAY_LEN(a));
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i].code, 0);
        assert_int_equal(a[i].ask.granted, i);
    }
}

static void test_strange_identities(void **state)
{
    char longest[STORE_IDENTITY_MAX + 1];
    const char *const strange[] = { "'; DROP TABLE weir_counters; --",
                                    "\"{},\\\\x",
                                    "\xff\xfe\x80",
                                    "",
                                    "{",
                                    "NULL",
                                    "a b\tc\nd",
                                    longest };
    struct asked zeroes[2];

    (void)state;
    memset(longest, '\xee', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(strange); i++)
        charge(strange[i], (int64_t)i + 1);
    for (size_t i = 0; i < ARRAY_LEN(strange); i++)
        assert_int_equal(peek(strange[i], PERIOD_YEAR), i + 1);
    zeroes[0] = make(STORE_CHARGE, "", PERIOD_YEAR, 0, 100, 0);
    zeroes[0].ask.identity = (struct str){ "\0a", 2 };
    zeroes[1] = make(STORE_CHARGE, "", PERIOD_YEAR, 0, 200, 0);
    zeroes[1].ask.identity = (struct str){ "\0b", 2 };
    run(zeroes, 2);
    zeroes[0].ask.verb = STORE_PEEK;
    run_well(&zeroes[0]);
    assert_int_equal(zeroes[0].ask.used[0], 100);
}

/* ---- time ---- */

static void test_stale(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_MONTH, 10, 1, 1);
    enum store_verb verbs[] = { STORE_ADMIT, STORE_CHARGE, STORE_PEEK, STORE_SHARE };

    (void)state;
    charge("old", 3);
    add_window(&a, -1000, 10);
    strcpy(a.ask.node, "0123456789abcdef");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        for (int k = 0; k < 4; k++) {
            a.ask.identity = k % 2 ? STR("old") : STR("a");
            a.ask.w[1] = window(-1000, 10, k < 2 ? 1000 : -1000);
            a.ask.verb = verbs[i];
            run(&a, 1);
            assert_int_equal(a.code, STORE_STALE);
            assert_in_range(a.ask.now_ms, now_ms() - 5000, now_ms() + 5000);
        }
    }
    assert_int_equal(peek("a", PERIOD_MONTH), 0);
    assert_int_equal(peek("old", PERIOD_MONTH), 0);
    assert_int_equal(peek("old", PERIOD_YEAR), 3);
}

static void sleep_until(int64_t at_ms)
{
    while (now_ms() < at_ms)
        usleep(1000);
}

/* Once more when a busy machine was slower than the window is long. */
static struct asked admit_in_half_a_second(void)
{
    struct asked a;

    do {
        a = make(STORE_ADMIT, "a", -500, 3, 1, 9);
        run(&a, 1);
    } while (a.code == STORE_STALE);
    assert_int_equal(a.code, 0);
    return a;
}

static void test_windows_end(void **state)
{
    struct asked a;

    (void)state;
    sleep_until(window(-500, 0, 500).start_ms + 5);
    a = admit_in_half_a_second();
    assert_int_equal(a.ask.granted, 3);
    sleep_until(a.ask.w[0].end_ms + 1);
    a = admit_in_half_a_second();
    assert_int_equal(a.ask.granted, 3);
    assert_int_equal(a.ask.used[0], 0);
    assert_int_equal(a.ask.previous[0], 0);
}

static void test_sliding(void **state)
{
    struct asked a;
    int64_t size = 800, left;

    (void)state;
    sleep_until(window(-size, 0, size).start_ms + 5);
    a = make(STORE_CHARGE, "a", -size, 0, 100, 0);
    a.ask.sliding = true;
    run_well(&a);
    sleep_until(a.ask.w[0].end_ms + 100);
    a.ask.verb = STORE_ADMIT;
    a.ask.w[0] = window(-size, 120, 0);
    a.ask.cost = 1;
    a.ask.count = 1000;
    run_well(&a);
    left = a.ask.w[0].end_ms - a.ask.now_ms;
    assert_int_equal(a.ask.used[0], 0);
    assert_int_equal(a.ask.previous[0], 100);
    assert_int_equal(a.ask.granted, (int)floor(120 - 100 * (double)left / (double)size));
    a.ask.verb = STORE_PEEK;
    run_well(&a);
    assert_int_equal(a.ask.previous[0], 100);
    sleep_until(a.ask.w[0].end_ms + size + 1); /* a window without any */
    a.ask.w[0] = window(-size, 1000, 0);
    run_well(&a);
    assert_int_equal(a.ask.previous[0], 0);
    assert_int_equal(a.ask.used[0], 0);
}

/* The server's clock was set back by a second: the row's window lies ahead. */
static void test_clock_set_back(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", -60000, 10, 1, 4);

    (void)state;
    sleep_until(window(-60000, 0, 3000).start_ms); /* not at a minute's end */
    a.ask.w[0] = window(-60000, 10, 0);
    run_well(&a);
    pg_server_ask(the_admin, "UPDATE weir_counters SET state[6] = state[6] + 5000, state[7] = "
                             "state[7] + 5000 WHERE state[6] + 5000 < weir_now_ms() + 10000");
    run_well(&a);
    if (a.ask.w[0].start_ms + 5000 < a.ask.now_ms + 10000)
        assert_int_equal(a.ask.used[0], 4);
    pg_server_ask(the_admin, "UPDATE weir_counters SET state[6] = state[6] + 9000000, state[7] = "
                             "state[7] + 9000000");
    run_well(&a);
    assert_int_equal(a.ask.used[0], 0);
}

static long long rows(void)
{
    return pg_server_ask(the_admin, "SELECT count(*) FROM weir_counters");
}

static void sweep_everything(PGconn *c)
{
    for (int i = 0; i < 3; i++) { /* whatever page it has come to */
        pg_server_ask(c, "UPDATE weir_sweeps SET next_ms = 0");
        pg_server_ask(c, "SELECT weir_sweep()");
    }
}

static void test_sweeping(void **state)
{
    PGconn *other = pg_server_connect(&the_server, "weir");

    (void)state;
    charge("over", 1);
    charge("over, and locked", 1);
    charge("just over", 1);
    charge("b", 1);
    sweep_everything(other);
    assert_int_equal(rows(), 4);
    pg_server_ask(the_admin, "UPDATE weir_counters SET state[4] = weir_now_ms() - 61000 "
                             "WHERE identity LIKE 'over%'");
    pg_server_ask(the_admin, "UPDATE weir_counters SET state[4] = weir_now_ms() - 30000 "
                             "WHERE identity = 'just over'");
    pg_server_ask(the_admin, "BEGIN; SELECT 1 FROM weir_counters WHERE identity LIKE 'over,%' "
                             "FOR UPDATE");
    pg_server_ask(other, "SET statement_timeout = 2000");
    sweep_everything(other);
    assert_int_equal(rows(), 3);
    pg_server_ask(the_admin, "ROLLBACK");
    sweep_everything(other);
    assert_int_equal(rows(), 2);
    assert_int_equal(peek("b", PERIOD_YEAR), 1);
    PQfinish(other);
}

/* Once a second, while it counts; a call that comes too early does nothing. */
static void test_sweeps_by_itself(void **state)
{
    int64_t until;

    (void)state;
    charge("over", 1);
    pg_server_ask(the_admin, "UPDATE weir_counters SET state[4] = weir_now_ms() - 61000");
    pg_server_ask(the_admin, "UPDATE weir_sweeps SET next_ms = weir_now_ms() + 60000");
    assert_int_equal(pg_server_ask(the_admin, "SELECT (weir_sweep() IS NULL)::int"), 1);
    assert_int_equal(rows(), 1);
    pg_server_ask(the_admin, "UPDATE weir_sweeps SET next_ms = 0, page = 0");
    until = now_ms() + 10000;
    while (rows() > 1 || pg_server_ask(the_admin, "SELECT next_ms FROM weir_sweeps") == 0) {
        assert_true(now_ms() < until);
        charge("b", 1);
        usleep(20000);
    }
    assert_int_equal(rows(), 1);
}

/* ---- shares ---- */

static struct asked share(const char *node, int64_t own, bool sliding)
{
    struct asked a = make(STORE_SHARE, "a", -700, 0, 0, 0);

    a.ask.sliding = sliding;
    a.ask.own[0] = own;
    snprintf(a.ask.node, sizeof a.ask.node, "%s", node);
    run_well(&a);
    return a;
}

static void test_shares(void **state)
{
    struct asked a;

    (void)state;
    a = make(STORE_CHARGE, "a", -700, 0, 1000, 0); /* of no node */
    a.ask.sliding = true;
    sleep_until(window(-700, 0, 700).start_ms + 5);
    a.ask.w[0] = window(-700, 0, 0);
    run_well(&a);
    assert_int_equal(share("00000000000000aa", 5, true).ask.used[0], 0);
    assert_int_equal(share("00000000000000bb", 7, true).ask.used[0], 5);
    assert_int_equal(share("00000000000000aa", 6, true).ask.used[0], 7);
    assert_int_equal(share("00000000000000cc", 0, true).ask.used[0], 13);
    assert_int_equal(share("00000000000000aa", 6, false).ask.used[0], 0);
    sleep_until(a.ask.w[0].end_ms + 5);
    a = share("00000000000000aa", 1, true);
    assert_int_equal(a.ask.used[0], 0);
    assert_int_equal(a.ask.previous[0], 7);
    a = share("00000000000000bb", 2, true);
    assert_int_equal(a.ask.used[0], 1);
    assert_int_equal(a.ask.previous[0], 6);
}

/* ---- many processes at the same rows ---- */

enum { PROCESSES = 5, KEYS = 40, BATCHES = 60, IN_BATCH = 24, KEY_LIMIT = 100 };

struct totals {
    long granted[KEYS];
    long failed;
};

/* Asks for random keys in random order; two windows, of which the second is the narrower for odd
 * keys. */
static void hammer(unsigned seed, struct totals *totals)
{
    struct asked a[IN_BATCH];
    char names[IN_BATCH][16];

    srandom(seed);
    open_loop();
    for (int round = 0; round < BATCHES; round++) {
        unsigned keys[IN_BATCH];

        for (int i = 0; i < IN_BATCH; i++) {
            keys[i] = (unsigned)random() % KEYS;
            snprintf(names[i], sizeof names[i], "key %u", keys[i]);
            a[i] = make(STORE_ADMIT, names[i], PERIOD_YEAR, keys[i] % 2 ? 1000 : KEY_LIMIT, 1,
                        1 + random() % 3);
            add_window(&a[i], -COUNTER_SIZE_MAX_MS, keys[i] % 2 ? KEY_LIMIT : 1000);
        }
        run(a, IN_BATCH);
        for (int i = 0; i < IN_BATCH; i++) {
            __atomic_fetch_add(&totals->failed, a[i].code != 0, __ATOMIC_RELAXED);
            __atomic_fetch_add(&totals->granted[keys[i]], a[i].ask.granted, __ATOMIC_RELAXED);
        }
    }
    close_loop();
}

static void test_processes(void **state)
{
    struct totals *totals =
        mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    (void)state;
    close_store();
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            hammer(i + 1, totals);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(totals->failed, 0);
    open_store();
    for (int k = 0; k < KEYS; k++) {
        char name[16];

        snprintf(name, sizeof name, "key %d", k);
        assert_int_equal(totals->granted[k], KEY_LIMIT);
        assert_int_equal(peek(name, PERIOD_YEAR), KEY_LIMIT);
        assert_int_equal(peek(name, -COUNTER_SIZE_MAX_MS), KEY_LIMIT);
    }
    munmap(totals, sizeof *totals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXAMPLE(test_admits_the_limit),
        EXAMPLE(test_counts_and_costs),
        EXAMPLE(test_charges),
        EXAMPLE(test_both_ways_agree),
        EXAMPLE(test_peeking_makes_no_rows),
        EXAMPLE(test_all_windows_or_none),
        EXAMPLE(test_other_windows_stay),
        EXAMPLE(test_a_window_given_twice),
        EXAMPLE(test_order_in_a_send),
        EXAMPLE(test_many_in_a_send),
        EXAMPLE(test_strange_identities),
        EXAMPLE(test_stale),
        EXAMPLE(test_windows_end),
        EXAMPLE(test_sliding),
        EXAMPLE(test_clock_set_back),
        EXAMPLE(test_sweeping),
        EXAMPLE(test_sweeps_by_itself),
        EXAMPLE(test_shares),
        EXAMPLE(test_processes),
    };

    return cmocka_run_group_tests(tests, make_server, remove_server);
}
