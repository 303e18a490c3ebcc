/*
 * The table in one process: windows, clocks, full sets, equal tags. Includes
 * the source, to find identities that meet in one set.
 */
#include "shm_spec.h"
#include "shm/counter.c"
#include <math.h>
#include <time.h>

#define NOW (INT64_C(1790000000) * 1000) /* 2026-09-21 14:13:20 UTC, a Monday */
#define ID STR("route:1:ip:192.0.2.7")

static struct region the_region;
static struct counter_table *t;

static int setup(void **state)
{
    (void)state;
    spec_region_open(&the_region, REGION_MIN_BYTES);
    t = counter_open(&the_region);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    counter_close(t);
    region_close(&the_region);
    return 0;
}

static int64_t utc_ms(int year, int month, int day, int hour, int minute, int second)
{
    struct tm tm = { .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day };

    tm.tm_hour = hour;
    tm.tm_min = minute;
    tm.tm_sec = second;
    return (int64_t)timegm(&tm) * 1000;
}

static struct counter_use peek_of(struct str id, int64_t what, bool sliding, int64_t now_ms)
{
    struct counter_window w = { what, 0 };
    struct counter_use use;

    counter_peek(t, id, &w, 1, sliding, now_ms, &use);
    return use;
}

static double used(int64_t what, int64_t now_ms)
{
    return peek_of(ID, what, false, now_ms).used;
}

static double slid(int64_t what, int64_t now_ms)
{
    return peek_of(ID, what, true, now_ms).used;
}

static int admit(int64_t what, double limit, bool sliding, int64_t cost, int64_t now_ms)
{
    struct counter_window w = { what, limit };
    struct counter_use use;

    return counter_admit(t, ID, &w, 1, sliding, cost, now_ms, &use);
}

static void charge_id(struct str id, int64_t what, int64_t amount, int64_t now_ms)
{
    struct counter_window w = { what, 0 };

    counter_charge(t, id, &w, 1, false, amount, now_ms);
}

static void charge(int64_t what, bool sliding, int64_t amount, int64_t now_ms)
{
    struct counter_window w = { what, 0 };

    counter_charge(t, ID, &w, 1, sliding, amount, now_ms);
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-9)

/* ---- verbs */

static void a_limit_of_n_admits_n(void **state)
{
    struct counter_window w = { PERIOD_MINUTE, 5 };
    struct counter_use use;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(counter_admit(t, ID, &w, 1, false, 1, NOW, &use), 1);
        assert_near(use.used, i);
        assert_int_equal(use.reset_ms, 40000);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(counter_admit(t, ID, &w, 1, false, 1, NOW, &use), 0);
        assert_near(use.used, 5);
    }
    assert_near(used(PERIOD_MINUTE, NOW), 5);
    assert_near(used(PERIOD_MINUTE, NOW + 40000), 0);
}

static void a_rejected_request_costs_nothing_anywhere(void **state)
{
    const struct counter_window w[] = { { PERIOD_SECOND, 5 }, { PERIOD_HOUR, 100 } };
    struct counter_use use[2];
    int admitted = 0;

    (void)state;
    for (int i = 0; i < 100; i++)
        admitted += counter_admit(t, ID, w, 2, false, 1, NOW, use);
    assert_int_equal(admitted, 5);
    assert_near(100 - used(PERIOD_HOUR, NOW), 95);
    assert_int_equal(use[0].reset_ms, 1000);
    assert_int_equal(use[1].reset_ms, 2800 * 1000);
}

static void a_rejected_request_takes_no_slot(void **state)
{
    (void)state;
    assert_int_equal(admit(PERIOD_DAY, 0, false, 1, NOW), 0);
    assert_int_equal(admit(PERIOD_DAY, 4, false, 5, NOW), 0);
    peek_of(ID, PERIOD_DAY, false, NOW);
    assert_int_equal(counter_get_gauges(t).slots_used, 0);
    assert_int_equal(admit(PERIOD_DAY, 5, false, 5, NOW), 1);
    assert_int_equal(counter_get_gauges(t).slots_used, 1);
}

static void the_outermost_costs(void **state)
{
    (void)state;
    assert_int_equal(admit(PERIOD_YEAR, 1e300, false, INT64_MAX, NOW), 1);
    assert_near(used(PERIOD_YEAR, NOW), (double)COUNTER_COUNT_MAX);
    charge(PERIOD_YEAR, false, INT64_MAX, NOW);
    assert_near(used(PERIOD_YEAR, NOW), (double)COUNTER_COUNT_MAX);
    charge(PERIOD_YEAR, false, INT64_MIN, NOW);
    assert_near(used(PERIOD_YEAR, NOW), 0);
    assert_int_equal(admit(PERIOD_YEAR, NAN, false, 1, NOW), 0);
    assert_int_equal(admit(PERIOD_YEAR, INFINITY, false, 1, NOW), 1);
    assert_near(used(PERIOD_YEAR, INT64_MIN), 0);
    assert_near(used(PERIOD_YEAR, INT64_MAX), 0);
}

static void charge_passes_limits_and_stops_at_zero(void **state)
{
    (void)state;
    charge(PERIOD_DAY, false, -5, NOW);
    assert_int_equal(counter_get_gauges(t).slots_used, 0);
    charge(PERIOD_DAY, false, 7, NOW);
    charge(PERIOD_DAY, false, 3, NOW);
    assert_near(used(PERIOD_DAY, NOW), 10);
    charge(PERIOD_DAY, false, -4, NOW);
    assert_near(used(PERIOD_DAY, NOW), 6);
    charge(PERIOD_DAY, false, -100, NOW);
    assert_near(used(PERIOD_DAY, NOW), 0);
    assert_int_equal(admit(PERIOD_DAY, 1, false, 1, NOW), 1);
}

static void a_window_given_twice_is_charged_once(void **state)
{
    const struct counter_window w[] = { { PERIOD_DAY, 9 }, { PERIOD_DAY, 3 }, { PERIOD_HOUR, 9 } };
    struct counter_use use[3];
    int admitted = 0;

    (void)state;
    for (int i = 0; i < 9; i++)
        admitted += counter_admit(t, ID, w, 3, false, 1, NOW, use);
    assert_int_equal(admitted, 3);
    assert_near(use[0].used, 3);
    assert_near(use[1].used, 3);
    assert_int_equal(counter_get_gauges(t).slots_used, 2);
}

static void windows_types_and_identities_are_apart(void **state)
{
    (void)state;
    charge(PERIOD_MINUTE, false, 1, NOW);
    charge(PERIOD_MINUTE, true, 10, NOW);
    charge(-60000, false, 100, NOW);
    charge_id(STR(""), PERIOD_MINUTE, 1000, NOW);
    assert_near(used(PERIOD_MINUTE, NOW), 1);
    assert_near(slid(PERIOD_MINUTE, NOW), 10);
    assert_near(used(-60000, NOW), 100);
    assert_near(peek_of(STR(""), PERIOD_MINUTE, false, NOW).used, 1000);
    assert_near(peek_of(STR("\0"), PERIOD_MINUTE, false, NOW).used, 0);
    assert_near(used(PERIOD_HOUR, NOW), 0);
}

static void all_eight_windows_at_once(void **state)
{
    struct counter_window w[COUNTER_WINDOWS_MAX];
    struct counter_use use[COUNTER_WINDOWS_MAX];
    int admitted = 0;

    (void)state;
    for (int i = 0; i < COUNTER_WINDOWS_MAX; i++)
        w[i] = (struct counter_window){ i < 6 ? i + 1 : -500 * i, 50 - i };
    for (int i = 0; i < 60; i++)
        admitted += counter_admit(t, ID, w, COUNTER_WINDOWS_MAX, false, 1, NOW, use);
    assert_int_equal(admitted, 43);
    for (int i = 0; i < COUNTER_WINDOWS_MAX; i++)
        assert_near(use[i].used, 43);
    assert_int_equal(counter_admit(t, ID, NULL, 0, false, 1, NOW, NULL), 1);
}

static void what_can_be_counted(void **state)
{
    (void)state;
    for (int64_t what = PERIOD_SECOND; what <= PERIOD_YEAR; what++)
        assert_true(counter_what_is_good(what));
    assert_true(counter_what_is_good(-1));
    assert_true(counter_what_is_good(-COUNTER_SIZE_MAX_MS));
    assert_false(counter_what_is_good(0));
    assert_false(counter_what_is_good(PERIOD_YEAR + 1));
    assert_false(counter_what_is_good(-COUNTER_SIZE_MAX_MS - 1));
    assert_false(counter_what_is_good(INT64_MIN));
    charge(-COUNTER_SIZE_MAX_MS, true, 3, NOW_MAX_MS);
    assert_near(slid(-COUNTER_SIZE_MAX_MS, NOW_MAX_MS), 3);
}

/* ---- windows and clocks */

static void resets_are_true_distances(void **state)
{
    static const struct {
        int year, month, day, next_year, next_month;
    } M[] = {
        { 2026, 1, 31, 2026, 2 }, { 2026, 2, 28, 2026, 3 },  { 2028, 2, 29, 2028, 3 },
        { 2028, 2, 28, 2028, 3 }, { 2026, 12, 31, 2027, 1 }, { 2026, 4, 30, 2026, 5 },
        { 2100, 2, 28, 2100, 3 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(M); i++) {
        int64_t now = utc_ms(M[i].year, M[i].month, M[i].day, 23, 59, 58) + 7;
        int64_t month_end = utc_ms(M[i].next_year, M[i].next_month, 1, 0, 0, 0);

        assert_int_equal(peek_of(ID, PERIOD_MONTH, false, now).reset_ms, month_end - now);
        assert_int_equal(peek_of(ID, PERIOD_YEAR, false, now).reset_ms,
                         utc_ms(M[i].year + 1, 1, 1, 0, 0, 0) - now);
        assert_int_equal(peek_of(ID, PERIOD_SECOND, false, now).reset_ms, 993);
        assert_int_equal(peek_of(ID, PERIOD_DAY, false, now).reset_ms, 1993);
    }
    assert_int_equal(peek_of(ID, -500, false, NOW + 750).reset_ms, 250);
    assert_int_equal(peek_of(ID, -7000, true, NOW + 1).reset_ms, 7000 - (NOW + 1) % 7000);
}

static void a_count_ends_with_its_window(void **state)
{
    int64_t last = utc_ms(2026, 12, 31, 23, 59, 59) + 999;

    (void)state;
    for (int64_t what = PERIOD_SECOND; what <= PERIOD_YEAR; what++) {
        charge(what, false, 3, last);
        assert_near(used(what, last), 3);
        assert_near(used(what, last + 1), 0);
        assert_int_equal(admit(what, 1, false, 1, last + 1), 1);
        assert_int_equal(admit(what, 1, false, 1, last + 1), 0);
        assert_near(used(what, last + 1), 1);
    }
    assert_int_equal(counter_get_gauges(t).slots_used, PERIOD_YEAR);
}

static void below_a_second(void **state)
{
    (void)state;
    for (int64_t now = NOW; now < NOW + 5000; now += 500) {
        assert_int_equal(admit(-500, 2, false, 1, now), 1);
        assert_int_equal(admit(-500, 2, false, 1, now + 499), 1);
        assert_int_equal(admit(-500, 2, false, 1, now + 499), 0);
        assert_int_equal(admit(-1, 1, false, 1, now), 1);
        assert_int_equal(admit(-1, 1, false, 1, now), 0);
    }
}

static void sliding_weighs_the_previous_window(void **state)
{
    static const int64_t WHATS[] = { PERIOD_MINUTE, -60000 };
    const int64_t start = NOW - NOW % 60000;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(WHATS); i++) {
        int64_t what = WHATS[i];

        charge(what, true, 100, start + 59999);
        assert_near(slid(what, start + 60000), 100);
        assert_near(slid(what, start + 75000), 75);
        assert_near(slid(what, start + 119999), 100.0 / 60000);
        assert_near(slid(what, start + 120000), 0);
        assert_int_equal(admit(what, 100, true, 1, start + 60000), 0);
        assert_int_equal(admit(what, 100, true, 25, start + 75000), 1);
        assert_near(slid(what, start + 75000), 100);
        assert_int_equal(admit(what, 100, true, 1, start + 75000), 0);
        assert_near(slid(what, start + 120000), 25);
        charge(what, true, 1, start + 180000);
        assert_near(slid(what, start + 180000), 1);
    }
}

static void sliding_over_months_of_unequal_length(void **state)
{
    int64_t january = utc_ms(2026, 1, 15, 0, 0, 0), february = utc_ms(2026, 2, 8, 0, 0, 0);

    (void)state;
    charge(PERIOD_MONTH, true, 400, january);
    assert_near(slid(PERIOD_MONTH, february), 300); /* 21 of 28 days are left */
    charge(PERIOD_MONTH, true, 4, february);
    assert_near(slid(PERIOD_MONTH, february), 304);
    assert_near(slid(PERIOD_MONTH, utc_ms(2026, 3, 1, 0, 0, 0)), 4);
    assert_near(slid(PERIOD_MONTH, utc_ms(2026, 4, 1, 0, 0, 0)), 0);
}

static void a_clock_that_is_a_window_behind_joins(void **state)
{
    const int64_t start = NOW - NOW % 60000;

    (void)state;
    charge(PERIOD_MINUTE, false, 4, start);
    assert_int_equal(admit(PERIOD_MINUTE, 5, false, 1, start - 1), 1);
    assert_int_equal(admit(PERIOD_MINUTE, 5, false, 1, start - 1), 0);
    assert_near(used(PERIOD_MINUTE, start), 5);
    assert_int_equal(peek_of(ID, PERIOD_MINUTE, false, start - 1).reset_ms, 60001);

    charge(PERIOD_MONTH, true, 30, utc_ms(2026, 1, 31, 0, 0, 0));
    charge(PERIOD_MONTH, true, 4, utc_ms(2026, 2, 1, 0, 0, 0));
    assert_near(slid(PERIOD_MONTH, utc_ms(2026, 1, 31, 23, 59, 59)), 34);
    assert_int_equal(peek_of(ID, PERIOD_MONTH, true, utc_ms(2026, 1, 31, 23, 59, 59)).reset_ms,
                     utc_ms(2026, 3, 1, 0, 0, 0) - utc_ms(2026, 1, 31, 23, 59, 59));
    charge(PERIOD_MONTH, true, 1, utc_ms(2026, 1, 31, 23, 59, 59));
    assert_near(slid(PERIOD_MONTH, utc_ms(2026, 2, 1, 0, 0, 0)), 35);
}

static void a_long_turn_does_not_reset_short_windows(void **state)
{
    (void)state;
    for (int sliding = 0; sliding < 2; sliding++) {
        charge(-100, sliding, 5, NOW);
        assert_int_equal(admit(-100, 5, sliding, 1, NOW - 3000), 0);
        charge(PERIOD_SECOND, sliding, 5, NOW);
        assert_int_equal(admit(PERIOD_SECOND, 5, sliding, 1, NOW - 3000), 0);
        assert_int_equal(peek_of(ID, PERIOD_SECOND, sliding, NOW - 3000).reset_ms, 4000);
        assert_int_equal(admit(PERIOD_SECOND, 6, sliding, 1, NOW - 3000), 1);
        assert_near(peek_of(ID, PERIOD_SECOND, sliding, NOW).used, 6);
    }
}

static void what_a_wrong_clock_made_begins_anew(void **state)
{
    (void)state;
    charge(PERIOD_MINUTE, false, 5, NOW + 3600000);
    assert_near(used(PERIOD_MINUTE, NOW), 0);
    assert_int_equal(admit(PERIOD_MINUTE, 5, false, 1, NOW), 1);
    assert_near(used(PERIOD_MINUTE, NOW), 1);
    charge(PERIOD_YEAR, true, 5, utc_ms(2060, 1, 1, 0, 0, 0));
    charge(PERIOD_YEAR, true, 1, NOW);
    assert_near(slid(PERIOD_YEAR, NOW), 1);
    assert_int_equal(counter_get_gauges(t).slots_used, 2);
}

static void a_year_of_steps_in_any_direction(void **state)
{
    int64_t now = NOW;

    (void)state;
    srand(7);
    for (int i = 0; i < 200000; i++) {
        struct counter_window w = { i % 7 ? i % 7 : -1500, 3 };
        struct counter_use use;

        now += (rand() % 4000 - 1900) * (int64_t)(rand() % 20 == 0 ? 100000 : 1);
        if (counter_admit(t, ID, &w, 1, i & 1, 1, now, &use))
            assert_true(use.used <= 2);
        assert_true(use.used >= 0 && use.used <= 6);
        assert_true(use.reset_ms > 0 && use.reset_ms <= INT64_C(2) * 366 * 86400000);
    }
}

/* ---- sets */

struct name {
    char text[24];
};

static uint64_t set_of(struct str id)
{
    return (uint64_t)((unsigned __int128)siphash_1_3_128(t->key, id).h0 * t->set_count >> 64);
}

static struct str numbered(struct name *name, unsigned i)
{
    return (struct str){ name->text, (size_t)sprintf(name->text, "identity-%u", i) };
}

/* The next identity from *at on that lies in the set of ID. */
static struct str neighbour(struct name *name, unsigned *at)
{
    struct str id;

    do
        id = numbered(name, (*at)++);
    while (set_of(id) != set_of(ID));
    return id;
}

static double used_by(struct str id, int64_t what, int64_t now_ms)
{
    return peek_of(id, what, false, now_ms).used;
}

static void a_full_set_gives_up_what_is_worthless_first(void **state)
{
    struct name names[SLOTS + 2];
    struct str ids[SLOTS + 2];
    unsigned at = 0;

    (void)state;
    for (int i = 0; i < SLOTS + 2; i++)
        ids[i] = neighbour(&names[i], &at);
    for (int i = 0; i < SLOTS; i++)
        charge_id(ids[i], i == 9 ? PERIOD_SECOND : i == 4 ? PERIOD_MINUTE : PERIOD_YEAR, 3, NOW);
    charge_id(ids[SLOTS], PERIOD_YEAR, 7, NOW + 1000); /* the second has passed */
    assert_int_equal(counter_get_gauges(t).evicted, 0);
    assert_near(used_by(ids[4], PERIOD_MINUTE, NOW + 1000), 3);
    assert_near(used_by(ids[SLOTS], PERIOD_YEAR, NOW + 1000), 7);
    charge_id(ids[SLOTS + 1], PERIOD_YEAR, 8, NOW + 1000); /* the minute has not */
    assert_int_equal(counter_get_gauges(t).evicted, 1);
    assert_near(used_by(ids[4], PERIOD_MINUTE, NOW + 1000), 0);
    for (int i = 0; i < SLOTS; i++)
        if (i != 4 && i != 9)
            assert_near(used_by(ids[i], PERIOD_YEAR, NOW + 1000), 3);
    assert_int_equal(counter_get_gauges(t).slots_used, SLOTS);
}

static void an_eviction_spares_the_callers_own_windows(void **state)
{
    const struct counter_window w[] = { { PERIOD_SECOND, 50 }, { PERIOD_MINUTE, 50 },
                                        { PERIOD_HOUR, 50 },   { PERIOD_DAY, 50 },
                                        { -1000, 50 },         { -2000, 50 },
                                        { -3000, 50 },         { -4000, 50 } };
    struct name name;
    struct counter_use use[8];
    unsigned at = 0;
    int admitted = 0;

    (void)state;
    for (int i = 0; i < SLOTS; i++)
        charge_id(neighbour(&name, &at), PERIOD_YEAR, 1, NOW);
    for (int i = 0; i < 60; i++)
        admitted += counter_admit(t, ID, w, 8, false, 1, NOW, use);
    assert_int_equal(admitted, 50);
    for (int i = 0; i < 8; i++)
        assert_near(use[i].used, 50);
    assert_int_equal(counter_get_gauges(t).evicted, 8);
}

static void equal_tags_are_told_apart(void **state)
{
    uint64_t h0 = siphash_1_3_128(t->key, ID).h0;
    struct name name;
    struct str id;
    unsigned at = 0;

    (void)state;
    do
        id = numbered(&name, at++);
    while ((siphash_1_3_128(t->key, id).h0 ^ h0) & 0xffff || set_of(id) != set_of(ID));
    charge(PERIOD_DAY, false, 3, NOW);
    assert_near(used_by(id, PERIOD_DAY, NOW), 0);
    charge_id(id, PERIOD_DAY, 5, NOW);
    assert_near(used_by(id, PERIOD_DAY, NOW), 5);
    assert_near(used(PERIOD_DAY, NOW), 3);
}

static void lanes_find_exactly_their_tag(void **state)
{
    (void)state;
    srand(3);
    for (int i = 0; i < 200000; i++) {
        uint64_t lanes[4], word = 0, want = 0, tag = (uint64_t)(rand() % 4) * 0x5555;

        for (unsigned k = 0; k < 4; k++) {
            lanes[k] = (uint64_t)(rand() % 4) * 0x5555 ^ (uint64_t)(rand() % 2) * 0x8000;
            word |= lanes[k] << (16 * k);
            want |= (uint64_t)(lanes[k] == tag) << (16 * k + 15);
        }
        assert_true(lanes_with(word, tag) == want);
    }
}

static void more_identities_than_slots(void **state)
{
    struct name name;
    struct counter_gauges g = counter_get_gauges(t);
    unsigned kept = 0, n = (unsigned)g.slots * 3;

    (void)state;
    for (unsigned i = 0; i < n; i++)
        charge_id(numbered(&name, i), PERIOD_DAY, i + 1, NOW);
    g = counter_get_gauges(t);
    assert_int_equal(g.slots_used, g.slots);
    assert_int_equal(g.evicted, n - g.slots);
    for (unsigned i = 0; i < n; i++) {
        double count = used_by(numbered(&name, i), PERIOD_DAY, NOW);

        assert_true(count == 0 || count == i + 1);
        kept += count != 0;
    }
    assert_int_equal(kept, g.slots);
    assert_int_equal(g.lock_steals, 0);
}

static void a_second_view_sees_the_same(void **state)
{
    struct counter_table *mine = t;

    (void)state;
    charge(PERIOD_DAY, false, 3, NOW);
    t = counter_open(&the_region);
    assert_near(used(PERIOD_DAY, NOW), 3);
    counter_close(t);
    t = mine;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_limit_of_n_admits_n),
        TEST(a_rejected_request_costs_nothing_anywhere),
        TEST(a_rejected_request_takes_no_slot),
        TEST(the_outermost_costs),
        TEST(charge_passes_limits_and_stops_at_zero),
        TEST(a_window_given_twice_is_charged_once),
        TEST(windows_types_and_identities_are_apart),
        TEST(all_eight_windows_at_once),
        TEST(what_can_be_counted),
        TEST(resets_are_true_distances),
        TEST(a_count_ends_with_its_window),
        TEST(below_a_second),
        TEST(sliding_weighs_the_previous_window),
        TEST(sliding_over_months_of_unequal_length),
        TEST(a_clock_that_is_a_window_behind_joins),
        TEST(a_long_turn_does_not_reset_short_windows),
        TEST(what_a_wrong_clock_made_begins_anew),
        TEST(a_year_of_steps_in_any_direction),
        TEST(a_full_set_gives_up_what_is_worthless_first),
        TEST(an_eviction_spares_the_callers_own_windows),
        TEST(equal_tags_are_told_apart),
        TEST(lanes_find_exactly_their_tag),
        TEST(more_identities_than_slots),
        TEST(a_second_view_sees_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
