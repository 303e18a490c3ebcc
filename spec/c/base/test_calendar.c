/*
 * Windows of the calendar, each day from 1970 to 2100 against the C library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <time.h>
#include "base/calendar.h"

#define DAY_MS INT64_C(86400000)

static int64_t utc_ms(int year, int month, int day)
{
    struct tm tm = { .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day };

    return (int64_t)timegm(&tm) * 1000; /* timegm carries a 13th month over */
}

static void assert_span(struct calendar_span span, int64_t start_ms, int64_t end_ms)
{
    assert_int_equal(span.start_ms, start_ms);
    assert_int_equal(span.end_ms, end_ms);
}

/* All moments of one day that may be wrong by one. */
static void check_day(int64_t midnight_ms)
{
    static const int64_t OFFSETS[] = { 0, 1, 43200000, 86399000, 86399999 };
    time_t now_s = (time_t)(midnight_ms / 1000);
    struct tm tm;

    gmtime_r(&now_s, &tm);
    for (size_t i = 0; i < ARRAY_LEN(OFFSETS); i++) {
        int64_t now = midnight_ms + OFFSETS[i];
        int year = tm.tm_year + 1900, month = tm.tm_mon + 1;

        assert_span(calendar_period_span(PERIOD_DAY, now), midnight_ms, midnight_ms + DAY_MS);
        assert_span(calendar_period_span(PERIOD_MONTH, now), utc_ms(year, month, 1),
                    utc_ms(year, month + 1, 1));
        assert_span(calendar_period_span(PERIOD_YEAR, now), utc_ms(year, 1, 1),
                    utc_ms(year + 1, 1, 1));
    }
}

static void each_day_from_1970_to_2100(void **state)
{
    int64_t end = utc_ms(2101, 1, 1);
    unsigned days = 0;

    (void)state;
    for (int64_t day = 0; day < end; day += DAY_MS, days++)
        check_day(day);
    assert_int_equal(days, 47847);
}

static void before_1970_and_far_ahead(void **state)
{
    (void)state;
    for (int year = 1600; year < 1970; year++)
        check_day(utc_ms(year, 2, 28) + (year % 3) * DAY_MS);
    for (int year = 2100; year < 2900; year++)
        check_day(utc_ms(year, 2, 28) + (year % 3) * DAY_MS);
    assert_span(calendar_period_span(PERIOD_SECOND, -1), -1000, 0);
    assert_span(calendar_size_span(7, -1), -7, 0);
    assert_span(calendar_size_span(7, -7), -7, 0);
}

static void the_days_that_go_wrong(void **state)
{
    static const struct {
        int year, month, day, next_year, next_month;
    } D[] = {
        { 2026, 1, 31, 2026, 2 },  { 2024, 2, 29, 2024, 3 }, { 2025, 2, 28, 2025, 3 },
        { 2000, 2, 29, 2000, 3 },  { 2100, 2, 28, 2100, 3 }, { 2026, 12, 31, 2027, 1 },
        { 2024, 12, 31, 2025, 1 }, { 2026, 3, 1, 2026, 4 },  { 2026, 8, 31, 2026, 9 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(D); i++) {
        int64_t last = utc_ms(D[i].year, D[i].month, D[i].day) + DAY_MS - 1;

        assert_span(calendar_period_span(PERIOD_MONTH, last), utc_ms(D[i].year, D[i].month, 1),
                    utc_ms(D[i].next_year, D[i].next_month, 1));
        assert_span(calendar_period_span(PERIOD_YEAR, last), utc_ms(D[i].year, 1, 1),
                    utc_ms(D[i].year + 1, 1, 1));
    }
}

static void short_periods(void **state)
{
    const int64_t now = INT64_C(1790000123) * 1000 + 456;

    (void)state;
    assert_span(calendar_period_span(PERIOD_SECOND, now), now - 456, now + 544);
    assert_span(calendar_period_span(PERIOD_MINUTE, now), now - now % 60000,
                now - now % 60000 + 60000);
    assert_span(calendar_period_span(PERIOD_HOUR, now), now - now % 3600000,
                now - now % 3600000 + 3600000);
}

static void sizes_align_to_the_epoch(void **state)
{
    (void)state;
    srand(5);
    for (int i = 0; i < 100000; i++) {
        int64_t size = 1 + rand() % 100000000, now = (int64_t)rand() * 1000 + rand() % 1000;
        struct calendar_span span = calendar_size_span(size, now);

        assert_int_equal(span.start_ms % size, 0);
        assert_int_equal(span.end_ms - span.start_ms, size);
        assert_true(span.start_ms <= now && now < span.end_ms);
    }
    assert_span(calendar_size_span(500, 1499), 1000, 1500);
    assert_span(calendar_size_span(500, 1500), 1500, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_day_from_1970_to_2100), cmocka_unit_test(before_1970_and_far_ahead),
        cmocka_unit_test(the_days_that_go_wrong),     cmocka_unit_test(short_periods),
        cmocka_unit_test(sizes_align_to_the_epoch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
