/*
 * See spans.h.
 */
#include "store/spans.h"

struct calendar_span store_span(int64_t what, int64_t now_ms)
{
    static struct calendar_span known[PERIOD_YEAR + 1];
    struct calendar_span *span;

    if (what < 0)
        return calendar_size_span(-what, now_ms);
    span = &known[what];
    if (now_ms < span->start_ms || now_ms >= span->end_ms)
        *span = calendar_period_span((enum calendar_period)what, now_ms);
    return *span;
}
