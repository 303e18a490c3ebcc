/*
 * The SQLite store: what each verb comes to, what becomes of old rows, and
 * several processes at one file.
 */
#include "sqlite_spec.h"

/* ---- the verbs */

static void a_limit_admits_as_many(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(admit_some("a", 1, 1, 5), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(admit_some("a", 1, 1, 5), 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 5);
    assert_int_equal(peek("b", PERIOD_YEAR), 0);
    assert_int_equal(store->round_trips, 10);
}

static void of_many_as_many_as_find_room(void **state)
{
    (void)state;
    assert_int_equal(admit_some("a", 10, 3, 20), 6);
    assert_int_equal(peek("a", PERIOD_YEAR), 18);
    assert_int_equal(admit_some("a", 10, 3, 20), 0);
    assert_int_equal(admit_some("a", 10, 2, 20), 1);
    assert_int_equal(admit_some("a", 1, 1, 20), 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 20);
    assert_int_equal(admit_some("b", 1000000, 1, 0.5), 0);
    assert_int_equal(admit_some("b", 5, 1, 1e300), 5);
    assert_int_equal(admit_some("b", 5, 1, -3), 0);
}

static void all_windows_or_none(void **state)
{
    struct question q = ask(STORE_ADMIT, "a");

    (void)state;
    q.ask.count = 10;
    add_window(&q, PERIOD_YEAR, 100);
    add_window(&q, -COUNTER_SIZE_MAX_MS, 7);
    add_window(&q, PERIOD_MONTH, 50);
    must_put(&q);
    assert_int_equal(q.ask.granted, 7);
    must_put(&q);
    assert_int_equal(q.ask.granted, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(q.ask.used[i], 7);
    assert_int_equal(peek("a", PERIOD_MONTH), 7);
}

static void a_window_given_twice_is_charged_once(void **state)
{
    struct question q = ask(STORE_ADMIT, "a");

    (void)state;
    add_window(&q, PERIOD_YEAR, 10);
    add_window(&q, PERIOD_YEAR, 10);
    must_put(&q);
    assert_int_equal(q.ask.granted, 1);
    assert_int_equal(peek("a", PERIOD_YEAR), 1);
}

static void charges_stay_within_bounds(void **state)
{
    (void)state;
    charge("a", PERIOD_YEAR, -5);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("a", PERIOD_YEAR, 7);
    charge("a", PERIOD_YEAR, -3);
    assert_int_equal(peek("a", PERIOD_YEAR), 4);
    charge("a", PERIOD_YEAR, -10);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("a", PERIOD_YEAR, INT64_MAX);
    charge("a", PERIOD_YEAR, INT64_MAX);
    assert_int_equal(peek("a", PERIOD_YEAR), COUNTER_COUNT_MAX);
    charge("a", PERIOD_YEAR, INT64_MIN);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("b", PERIOD_YEAR, 0);
    assert_int_equal(peek("b", PERIOD_YEAR), 0);
}

static void asks_of_one_identity_happen_in_order(void **state)
{
    struct question all[] = { ask(STORE_CHARGE, "a"), ask(STORE_ADMIT, "a"), ask(STORE_PEEK, "a"),
                              ask(STORE_CHARGE, "a"), ask(STORE_PEEK, "a") };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        add_window(&all[i], PERIOD_YEAR, 5);
    all[0].ask.cost = 3;
    all[1].ask.count = 9;
    all[3].ask.cost = -4;
    send_all(all, ARRAY_LEN(all));
    wait_all(all, ARRAY_LEN(all));
    assert_int_equal(all[0].ask.used[0], 0);
    assert_int_equal(all[1].ask.used[0], 3);
    assert_int_equal(all[1].ask.granted, 2);
    assert_int_equal(all[2].ask.used[0], 5);
    assert_int_equal(all[3].ask.used[0], 5);
    assert_int_equal(all[4].ask.used[0], 1);
    assert_int_equal(store->round_trips, 1);
}

static void identities_are_any_bytes(void **state)
{
    static const char *const NAMES[] = { "",         "a", "A",   "a ", "'; DROP TABLE counters; --",
                                         "\xff\xfe", "1", "1.0", "%",  "NULL" };
    static char long_name[STORE_IDENTITY_MAX];
    struct question q;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        charge(NAMES[i], PERIOD_YEAR, (int64_t)i + 1);
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        assert_int_equal(peek(NAMES[i], PERIOD_YEAR), i + 1);
    for (size_t n = 1; n <= 3; n++) { /* "x\0\0", whole and in part */
        q = ask(STORE_CHARGE, "");
        q.ask.identity = (struct str){ "x\0\0", n };
        add_window(&q, PERIOD_YEAR, 0);
        must_put(&q);
        assert_int_equal(q.ask.used[0], 0);
    }
    memset(long_name, 0, sizeof long_name);
    q.ask.identity = (struct str){ long_name, sizeof long_name };
    must_put(&q);
    must_put(&q);
    assert_int_equal(q.ask.used[0], 1);
}

static void sliding_windows_remember_the_one_before(void **state)
{
    struct question q = ask(STORE_ADMIT, "a");
    const int64_t size_ms = 1500;
    int64_t start_ms, used = 0;

    (void)state;
    q.ask.sliding = true;
    do { /* eight in one window */
        q.ask.n = 0;
        q.ask.count = 8;
        add_window(&q, -size_ms, 1000);
        must_put(&q);
        start_ms = q.ask.w[0].start_ms;
        used = q.ask.used[0];
    } while (put(&q) != 0);
    used += 16;
    while (clock_now_ms() < start_ms + size_ms + 20) {
        usleep(5000);
        clock_stale();
    }
    q.ask.n = 0;
    q.ask.count = 1000;
    add_window(&q, -size_ms, 20);
    must_put(&q);
    assert_int_equal(q.ask.w[0].start_ms, start_ms + size_ms);
    assert_int_equal(q.ask.used[0], 0);
    assert_int_equal(q.ask.previous[0], used);
    {
        double left = (double)(q.ask.w[0].end_ms - q.ask.now_ms) / (double)size_ms;

        assert_true(left > 0 && left < 1);
        assert_int_equal(q.ask.granted, (int64_t)(20 - (double)used * left));
    }
    q.ask.sliding = false; /* counts of fixed windows are others */
    q.ask.verb = STORE_PEEK;
    if (put(&q) == 0)
        assert_int_equal(q.ask.used[0], 0);
}

static void a_window_that_is_not_now_is_stale(void **state)
{
    struct question all[] = { ask(STORE_ADMIT, "a"), ask(STORE_CHARGE, "a"), ask(STORE_PEEK, "a"),
                              ask(STORE_SHARE, "a") };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        add_window(&all[i], PERIOD_YEAR, 5);
        add_window(&all[i], -HOUR_MS, 5);
        all[i].ask.w[1].start_ms += i % 2 ? HOUR_MS : -HOUR_MS;
        all[i].ask.w[1].end_ms += i % 2 ? HOUR_MS : -HOUR_MS;
    }
    send_all(all, ARRAY_LEN(all));
    wait_all(all, ARRAY_LEN(all));
    clock_stale();
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(all[i].code, STORE_STALE);
        assert_in_range(all[i].ask.now_ms, clock_now_ms() - 5000, clock_now_ms());
    }
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
}

static struct question share(const char *node, int64_t own)
{
    struct question q = ask(STORE_SHARE, "a");

    q.ask.own[0] = own;
    strcpy(q.ask.node, node);
    add_window(&q, PERIOD_YEAR, 0);
    must_put(&q);
    return q;
}

static void nodes_share_their_own_counts(void **state)
{
    (void)state;
    assert_int_equal(share("aaaaaaaaaaaaaaaa", 3).ask.used[0], 0);
    assert_int_equal(share("bbbbbbbbbbbbbbbb", 5).ask.used[0], 3);
    assert_int_equal(share("aaaaaaaaaaaaaaaa", 4).ask.used[0], 5);
    assert_int_equal(share("aaaaaaaaaaaaaaaa", 4).ask.used[0], 5); /* twice does no harm */
    assert_int_equal(share("cccccccccccccccc", 0).ask.used[0], 9);
    assert_int_equal(peek("a", PERIOD_YEAR), 9);
    assert_int_equal(admit_some("a", 5, 1, 12), 3);
    assert_int_equal(share("bbbbbbbbbbbbbbbb", 5).ask.used[0], 7);
    charge("a", PERIOD_YEAR, -100); /* for all: a reset */
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    assert_int_equal(share("bbbbbbbbbbbbbbbb", 6).ask.used[0], -5);
    assert_int_equal(peek("a", PERIOD_YEAR), 1);
}

static int64_t count_rows(void)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    int64_t n;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM counters", -1, &stmt, NULL), 0);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

static void to_add_nothing_writes_all_the_same(void **state)
{
    (void)state;
    charge("a", PERIOD_YEAR, 0);
    assert_int_equal(count_rows(), 1);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
}

static void rows_end_with_their_windows(void **state)
{
    static struct question all[50];
    static char names[50][32];

    (void)state;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 50; i++) {
            snprintf(names[i], sizeof names[i], "%d.%d", i * 7919 % 50, round);
            all[i] = ask(STORE_CHARGE, names[i]);
            add_window(&all[i], -40, 0);
        }
        send_all(all, 50);
        wait_all(all, 50);
    }
    charge("kept", PERIOD_YEAR, 1);
    usleep(100000);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 50; i++) {
            snprintf(names[i], sizeof names[i], "%d:%d", i, round);
            all[i] = ask(STORE_CHARGE, names[i]);
            add_window(&all[i], PERIOD_YEAR, 0);
        }
        send_all(all, 50);
        wait_all(all, 50);
    }
    assert_int_equal(count_rows(), 100 * 50 + 1);
    assert_int_equal(peek("kept", PERIOD_YEAR), 1);
}

/* ---- several processes */

#define PROCESSES 6
#define ASKS 20
#define ROUNDS 60

struct board {
    int64_t granted, charged, failed;
};

/* Each asks for the same identity, and charges another, in batches. */
static void hammer(struct board *board, int number)
{
    struct question all[ASKS];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    loop = loop_new();
    store = store_sqlite_new(loop, path, 20000);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < ASKS; i++) {
            all[i] = ask(i % 2 ? STORE_ADMIT : STORE_CHARGE, i % 2 ? "admitted" : "charged");
            all[i].ask.sliding = i % 4 >= 2;
            all[i].ask.cost = i % 2 ? 1 : number + round % 3 - 1;
            add_window(&all[i], PERIOD_YEAR, 1000);
            add_window(&all[i], -COUNTER_SIZE_MAX_MS, 2000);
        }
        send_all(all, ASKS);
        wait_all(all, ASKS);
        for (int i = 0; i < ASKS; i++) {
            __atomic_fetch_add(&board->failed, all[i].code != 0, __ATOMIC_SEQ_CST);
            if (i % 2)
                __atomic_fetch_add(&board->granted, all[i].ask.granted, __ATOMIC_SEQ_CST);
            else if (all[i].ask.sliding)
                __atomic_fetch_add(&board->charged, all[i].ask.cost, __ATOMIC_SEQ_CST);
        }
    }
    store->type->free(store);
    loop_free(loop);
    _exit(0);
}

static void processes_are_exact_together(void **state)
{
    struct board *board =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];
    int status;

    (void)state;
    for (int i = 0; i < PROCESSES; i++)
        if ((pids[i] = fork()) == 0)
            hammer(board, i + 1);
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(board->failed, 0);
    assert_int_equal(board->granted, 2 * 1000); /* fixed and sliding */
    {
        struct question q = ask(STORE_PEEK, "charged");

        q.ask.sliding = true;
        add_window(&q, PERIOD_YEAR, 0);
        add_window(&q, -COUNTER_SIZE_MAX_MS, 0);
        must_put(&q);
        assert_int_equal(q.ask.used[0], board->charged);
        assert_int_equal(q.ask.used[1], board->charged);
    }
    munmap(board, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_limit_admits_as_many),
        TEST(of_many_as_many_as_find_room),
        TEST(all_windows_or_none),
        TEST(a_window_given_twice_is_charged_once),
        TEST(charges_stay_within_bounds),
        TEST(asks_of_one_identity_happen_in_order),
        TEST(identities_are_any_bytes),
        TEST(sliding_windows_remember_the_one_before),
        TEST(a_window_that_is_not_now_is_stale),
        TEST(nodes_share_their_own_counts),
        TEST(to_add_nothing_writes_all_the_same),
        TEST(rows_end_with_their_windows),
        TEST(processes_are_exact_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
