/*
 * Which window of a kind a time lies in: calendar.h in the terms of counter.h.
 */
#ifndef WEIR_STORE_SPANS_H
#define WEIR_STORE_SPANS_H

#include "base/calendar.h"

/* what: a period, or minus a size in milliseconds. Remembers the last span of each period. */
struct calendar_span store_span(int64_t what, int64_t now_ms);

#endif
