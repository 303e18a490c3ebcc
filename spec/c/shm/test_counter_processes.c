/*
 * The table among processes: exact under contention, and whole after any of
 * them dies, at random moments and behind each single store of a call.
 * Includes the source, to look into the set that a call works on.
 */
#include "shm_spec.h"
#include "shm/counter.c"
#include <math.h>
#include <sys/ptrace.h>

#define NOW (INT64_C(1790000000) * 1000)
#define ID STR("route:1:ip:192.0.2.7")

static struct region the_region;
static struct counter_table *t;

/* What the children tell, beyond their death. */
struct board {
    int64_t now_ms;
    uint64_t admitted;
    uint64_t by_second[4096]; /* since NOW, by the window that counted it */
    int stop;
};

static struct board *the_board;

static int setup(void **state)
{
    (void)state;
    spec_region_open(&the_region, REGION_MIN_BYTES);
    t = counter_open(&the_region);
    the_board = spec_share(sizeof *the_board);
    the_board->now_ms = NOW;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    counter_close(t);
    region_close(&the_region);
    munmap(the_board, sizeof *the_board);
    return 0;
}

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static double used(int64_t what)
{
    struct counter_window w = { what, 0 };
    struct counter_use use;

    counter_peek(t, ID, &w, 1, false, the_board->now_ms, &use);
    return use.used;
}

/* ---- exactness */

static int take_what_there_is(void *arg)
{
    const struct counter_window w[] = { { PERIOD_HOUR, 30000 },
                                        { PERIOD_DAY, 20000 },
                                        { PERIOD_MONTH, 100000 } };
    struct counter_use use[3];
    uint64_t admitted = 0;

    (void)arg;
    for (int i = 0; i < 20000; i++)
        admitted += (uint64_t)counter_admit(t, ID, w, 3, false, 1, NOW, use);
    __atomic_fetch_add(&the_board->admitted, admitted, __ATOMIC_RELAXED);
    return 0;
}

static void many_processes_admit_exactly_the_limit(void **state)
{
    pid_t pids[8];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        pids[i] = spec_fork(take_what_there_is, NULL);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        assert_int_equal(spec_wait(pids[i]), 0);
    assert_int_equal(the_board->admitted, 20000);
    assert_true(used(PERIOD_HOUR) == 20000 && used(PERIOD_DAY) == 20000);
    assert_true(used(PERIOD_MONTH) == 20000);
}

/* ---- death at random moments */

#define SECOND_LIMIT 50
#define KILLS 240

/*
 * Admits until told to stop, while the parent moves the clock on; tells, after
 * each admission, which second counted it.
 */
static int hammer(void *arg)
{
    const struct counter_window w[] = { { PERIOD_SECOND, SECOND_LIMIT },
                                        { PERIOD_HOUR, 1e9 },
                                        { PERIOD_DAY, 1e9 } };
    struct counter_use use[3];

    (void)arg;
    while (!__atomic_load_n(&the_board->stop, __ATOMIC_RELAXED)) {
        int64_t now_ms = __atomic_load_n(&the_board->now_ms, __ATOMIC_RELAXED);
        int64_t second;

        if (!counter_admit(t, ID, w, 3, false, 1, now_ms, use))
            continue;
        second = (now_ms + use[0].reset_ms - NOW) / 1000 - 1;
        __atomic_fetch_add(&the_board->by_second[second], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&the_board->admitted, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

static void killed_at_random_nothing_is_lost_or_exceeded(void **state)
{
    pid_t pids[5];
    unsigned full = 0;

    (void)state;
    srand((unsigned)getpid());
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        pids[i] = spec_fork(hammer, NULL);
    for (int kills = 0; kills < KILLS; kills++) {
        size_t i = (size_t)rand() % ARRAY_LEN(pids);

        usleep((useconds_t)(rand() % 3000));
        spec_kill(pids[i]);
        pids[i] = spec_fork(hammer, NULL);
        __atomic_fetch_add(&the_board->now_ms, 1000, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&the_board->stop, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        assert_int_equal(spec_wait(pids[i]), 0);
    for (int i = 0; i <= KILLS; i++) {
        assert_true(load(&the_board->by_second[i]) <= SECOND_LIMIT);
        full += load(&the_board->by_second[i]) >= SECOND_LIMIT - 1;
    }
    assert_true(full > KILLS / 2); /* or it has tested nothing */
    /* a victim may have been counted and not have told */
    assert_true(used(PERIOD_DAY) >= (double)load(&the_board->admitted));
    assert_true(used(PERIOD_DAY) <= (double)load(&the_board->admitted) + KILLS);
    assert_true(fabs(used(PERIOD_DAY) - used(PERIOD_HOUR)) <= KILLS);
}

/* ---- death behind each store */

#define STORES_MAX 100

enum { MOVES_ON, STAYS, IS_MADE, WINDOWS };

static const struct counter_window STEPPED[WINDOWS] = {
    [MOVES_ON] = { -1000, 1e9 },        /* its slot is one window old: two words change */
    [STAYS] = { PERIOD_DAY, 1e9 },      /* its slot is of this window */
    [IS_MADE] = { PERIOD_MINUTE, 1e9 }, /* the set is full: another must go */
};

/* 77: somebody traces us already, or it is forbidden here. */
static int admit_once(void *arg)
{
    struct counter_use use[WINDOWS];

    (void)arg;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
        return 77;
    (void)owner_self();
    raise(SIGSTOP);
    return counter_admit(t, ID, STEPPED, WINDOWS, true, 1, NOW, use) == 1 ? 0 : 1;
}

/* A child that stands before a call of admit. */
static pid_t start_traced(void)
{
    pid_t pid = spec_fork(admit_once, NULL);
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_true(WIFSTOPPED(status));
    return pid;
}

/* One instruction; false: the child has ended, in order. */
static bool step(pid_t pid)
{
    int status;

    assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        return true;
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

/* Behind which instructions the set is another than before them: their number. */
static size_t find_stores(const struct set *set, int at[STORES_MAX])
{
    pid_t pid = start_traced();
    struct set last = *set;
    size_t n = 0;

    for (int i = 1; step(pid); i++) {
        if (memcmp(&last, set, sizeof last) == 0)
            continue;
        assert_true(n < STORES_MAX);
        at[n++] = i;
        last = *set;
    }
    return n;
}

static void die_after(int instructions)
{
    pid_t pid = start_traced();

    for (int i = 0; i < instructions; i++)
        assert_true(step(pid));
    spec_kill(pid);
}

/*
 * A full set in which ID has two windows. The others' slots end when the one that is
 * made will, so that a count left over from the one that had to go would show.
 */
static struct set *prepare(void)
{
    struct set *set;
    char text[32];
    struct counter_use use[WINDOWS];
    struct siphash_sum sum = siphash_1_3_128(t->key, ID);
    uint64_t index = (uint64_t)((unsigned __int128)sum.h0 * t->set_count >> 64);

    counter_charge(t, ID, &STEPPED[MOVES_ON], 1, true, 40, NOW - 2000);
    counter_charge(t, ID, &STEPPED[MOVES_ON], 1, true, 70, NOW - 1000);
    counter_charge(t, ID, &STEPPED[STAYS], 1, true, 300, NOW);
    /* the spans are known from here on: each child takes the same steps */
    counter_peek(t, ID, STEPPED, WINDOWS, true, NOW, use);
    set = &t->sets[index];
    for (unsigned i = 0; load(&t->gauges->slots_used) < SLOTS; i++) {
        struct str id = { text, (size_t)snprintf(text, sizeof text, "other-%u", i) };

        sum = siphash_1_3_128(t->key, id);
        if ((uint64_t)((unsigned __int128)sum.h0 * t->set_count >> 64) != index)
            continue;
        counter_charge(t, id, &STEPPED[IS_MADE], 1, true, 9, NOW - 60000);
        counter_charge(t, id, &STEPPED[IS_MADE], 1, true, 5, NOW);
    }
    return set;
}

static void assert_count(double count, double before)
{
    if (count != before && count != before + 1)
        fail_msg("%g is neither %g nor one more", count, before);
}

/* As the call found it, with each charge made or not, and nothing else touched. */
static void assert_whole(const struct set *before, const struct set *now,
                         double used_before[WINDOWS])
{
    struct counter_use use[WINDOWS];
    unsigned others = 0;

    counter_peek(t, ID, STEPPED, WINDOWS, true, NOW, use);
    for (int i = 0; i < WINDOWS; i++)
        assert_count(use[i].used, used_before[i]);
    assert_int_equal(now->lock, 0);
    assert_int_equal(now->undo, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        bool same = memcmp(&before->slots[i], &now->slots[i], sizeof before->slots[i]) == 0;

        if (get_tag(now, i) && get_tag(now, i) == get_tag(before, i) && same)
            others++;
    }
    /* at most three differ: the two of the call, and the one that had to go */
    assert_true(others >= SLOTS - 3);
    /* and it goes on from there */
    assert_int_equal(counter_admit(t, ID, STEPPED, WINDOWS, true, 1, NOW, use), 1);
    for (int i = 0; i < WINDOWS; i++)
        used_before[i] = use[i].used;
    counter_peek(t, ID, STEPPED, WINDOWS, true, NOW, use);
    for (int i = 0; i < WINDOWS; i++)
        assert_true(use[i].used == used_before[i] + 1);
}

static void killed_behind_each_store_the_set_is_whole(void **state)
{
    struct set *set = prepare();
    const struct set before = *set;
    const double used_before[WINDOWS] = { [MOVES_ON] = 70, [STAYS] = 300, [IS_MADE] = 0 };
    int at[STORES_MAX];
    size_t n = find_stores(set, at);

    (void)state;
    assert_true(n >= 15); /* lock, 1 to stay, 6 to move on, 6 to make, lock */
    for (size_t i = 0; i < n; i++) {
        double used_now[WINDOWS];

        *set = before;
        die_after(at[i]);
        assert_int_equal(set->lock != 0, i + 1 < n);
        memcpy(used_now, used_before, sizeof used_now);
        assert_whole(&before, set, used_now);
    }
    assert_int_equal(load(&t->gauges->lock_steals), n - 1);
}

/* ---- holders that are stopped */

static int hold_the_set(void *arg)
{
    struct set *set = arg;

    if (lock_take(&set->lock))
        return 1;
    raise(SIGSTOP);
    lock_give(&set->lock);
    return 0;
}

static int admit_one(void *arg)
{
    const struct counter_window w = { PERIOD_DAY, 1 };
    struct counter_use use;

    (void)arg;
    return counter_admit(t, ID, &w, 1, false, 1, NOW, &use) ? 0 : 1;
}

static void a_stopped_holder_delays_and_loses_nothing(void **state)
{
    struct siphash_sum sum = siphash_1_3_128(t->key, ID);
    struct set *set = &t->sets[(uint64_t)((unsigned __int128)sum.h0 * t->set_count >> 64)];
    pid_t holder = spec_fork(hold_the_set, set), waiter;
    int status;

    (void)state;
    assert_int_equal(waitpid(holder, &status, WUNTRACED), holder);
    assert_true(WIFSTOPPED(status));
    waiter = spec_fork(admit_one, NULL);
    usleep(30000);
    assert_int_equal(waitpid(waiter, &status, WNOHANG), 0);
    kill(holder, SIGCONT);
    assert_int_equal(spec_wait(holder), 0);
    assert_int_equal(spec_wait(waiter), 0);
    assert_int_equal(spec_wait(spec_fork(admit_one, NULL)), 1);
    assert_int_equal(load(&t->gauges->lock_steals), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_processes_admit_exactly_the_limit),
        TEST(killed_at_random_nothing_is_lost_or_exceeded),
        TEST(killed_behind_each_store_the_set_is_whole),
        TEST(a_stopped_holder_delays_and_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
