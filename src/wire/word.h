/*
 * Eight bytes at a time, in one register. Each test gives 0x80 in the bytes that
 * pass and 0 in the others. Those of ASCII are right only if no byte is above 0x7f:
 * see word_is_ascii.
 */
#ifndef WEIR_WIRE_WORD_H
#define WEIR_WIRE_WORD_H

#include "base/weir.h"
#include <endian.h>
#include <string.h>

#define WORD_BYTES 8
#define WORD_ALL(byte) (UINT64_MAX / 255 * (byte))
#define WORD_HIGH WORD_ALL(0x80u)

/* The first byte is the lowest. */
static inline uint64_t word_load(const char *p)
{
    uint64_t w;

    memcpy(&w, p, sizeof w);
    return le64toh(w);
}

static inline void word_store(char *p, uint64_t w)
{
    w = htole64(w);
    memcpy(p, &w, sizeof w);
}

static inline bool word_is_ascii(uint64_t w)
{
    return (w & WORD_HIGH) == 0;
}

/* Any byte below ' ', whatever the others are. */
static inline bool word_has_control(uint64_t w)
{
    return ((w - WORD_ALL((unsigned)' ')) & ~w & WORD_HIGH) != 0;
}

/* ASCII only. */
static inline uint64_t word_in_range(uint64_t w, unsigned first, unsigned last)
{
    uint64_t not_below = w + WORD_ALL(0x80u - first), above = w + WORD_ALL(0x7fu - last);

    return not_below & ~above & WORD_HIGH;
}

/* ASCII only. */
static inline uint64_t word_equals(uint64_t w, unsigned c)
{
    return (WORD_HIGH - (w ^ WORD_ALL(c))) & WORD_HIGH;
}

#endif
