/*
 * Windows of time, in UTC: of the calendar (second to year) or of any size,
 * aligned to the epoch. Pure.
 */
#ifndef WEIR_BASE_CALENDAR_H
#define WEIR_BASE_CALENDAR_H

#include "base/weir.h"

enum calendar_period { /* the values are part of Lua's interface */
                       PERIOD_SECOND = 1,
                       PERIOD_MINUTE,
                       PERIOD_HOUR,
                       PERIOD_DAY,
                       PERIOD_MONTH,
                       PERIOD_YEAR,
};

struct calendar_span {
    int64_t start_ms, end_ms; /* [start, end) */
};

/* The period that now_ms lies in. */
struct calendar_span calendar_period_span(enum calendar_period period, int64_t now_ms);

/* floor(now / size) * size; size_ms > 0. */
struct calendar_span calendar_size_span(int64_t size_ms, int64_t now_ms);

#endif
