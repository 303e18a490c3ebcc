/*
 * See calendar.h. The civil-date arithmetic counts days in 400-year eras that
 * begin on 1 March, so that the leap day is the last of its year.
 */
#include "base/calendar.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
#define ERA_DAYS 146097   /* days in 400 years */
#define EPOCH_DAYS 719468 /* from 0000-03-01 to 1970-01-01 */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static void civil_from_days(int64_t days, int64_t *year, int *month)
{
    int64_t z = days + EPOCH_DAYS;
    int64_t era = floor_div(z, ERA_DAYS);
    int64_t day_of_era = z - era * ERA_DAYS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int from_march = (int)((5 * day_of_year + 2) / 153);

    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

/* Days from the epoch to the first of the month. */
static int64_t days_from_civil(int64_t year, int month)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400);
    int64_t year_of_era = y - era * 400;
    int from_march = month > 2 ? month - 3 : month + 9;
    int64_t day_of_year = (153 * from_march + 2) / 5;

    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           EPOCH_DAYS;
}

static struct calendar_span month_span(int64_t now_ms, bool whole_year)
{
    int64_t year;
    int month;
    int64_t start, end;

    civil_from_days(floor_div(now_ms, DAY_MS), &year, &month);
    if (whole_year) {
        start = days_from_civil(year, 1);
        end = days_from_civil(year + 1, 1);
    } else {
        start = days_from_civil(year, month);
        end = month == 12 ? days_from_civil(year + 1, 1) : days_from_civil(year, month + 1);
    }
    return (struct calendar_span){ start * DAY_MS, end * DAY_MS };
}

struct calendar_span calendar_size_span(int64_t size_ms, int64_t now_ms)
{
    int64_t start = floor_div(now_ms, size_ms) * size_ms;

    return (struct calendar_span){ start, start + size_ms };
}

struct calendar_span calendar_period_span(enum calendar_period period, int64_t now_ms)
{
    switch (period) {
    case PERIOD_SECOND:
        return calendar_size_span(SECOND_MS, now_ms);
    case PERIOD_MINUTE:
        return calendar_size_span(MINUTE_MS, now_ms);
    case PERIOD_HOUR:
        return calendar_size_span(HOUR_MS, now_ms);
    case PERIOD_DAY:
        return calendar_size_span(DAY_MS, now_ms);
    case PERIOD_MONTH:
        return month_span(now_ms, false);
    case PERIOD_YEAR:
        return month_span(now_ms, true);
    }
    must(!"a calendar period");
    return (struct calendar_span){ 0, 0 };
}
