/*
 * The only caller of clock_gettime. Time is read once in a turn of the loop:
 * the loop calls clock_stale() before it waits and at the turn's end, and the
 * first reader after it pays for the system call.
 */
#ifndef WEIR_BASE_CLOCK_H
#define WEIR_BASE_CLOCK_H

#include "base/weir.h"

/* Milliseconds since the epoch, UTC, as of this turn. */
int64_t clock_now_ms(void);

/* Microseconds since the epoch, as of this turn. */
int64_t clock_now_us(void);

/* Milliseconds of a clock that never steps, as of this turn. */
int64_t clock_mono_ms(void);

/* Microseconds of the same clock, read now (for latencies). */
int64_t clock_mono_us_exact(void);

/* The next reader reads the system's clock again. */
void clock_stale(void);

#endif
