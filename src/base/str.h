/*
 * Borrowed bytes (`struct str`) and a bounded growing buffer (`struct buf`).
 * A str owns nothing and is not terminated by NUL.
 */
#ifndef WEIR_BASE_STR_H
#define WEIR_BASE_STR_H

#include "base/weir.h"
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })
#define STR_NULL ((struct str){ NULL, 0 })
/* a literal as the two arguments "bytes, their number" */
#define STR_BYTES(literal) (literal), sizeof(literal) - 1
/* for "%.*s" */
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_from(const char *z)
{
    return (struct str){ z, z ? strlen(z) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII only: header names, schemes, host names. */
bool str_eq_nocase(struct str a, struct str b);

bool str_starts(struct str s, struct str prefix);

/* Without the blanks and tabs at both ends. */
struct str str_trim(struct str s);

/* Decimal digits only, all of s, at most max. Returns 0, or -1. */
int str_to_u64(struct str s, uint64_t max, uint64_t *out) MUST_CHECK;

#define U64_DIGITS 20

/* The decimal digits of value; they lie in room. */
struct str str_from_u64(uint64_t value, char room[U64_DIGITS]);

/*
 * A buffer that grows up to a bound. Zero it, or set max_bytes (0: no bound),
 * before use; buf_free gives the memory back and leaves it usable.
 */
struct buf {
    char *p;
    size_t n, cap_bytes, max_bytes;
};

/* Room for n more bytes at the end, or NULL when that passes max_bytes. */
char *buf_reserve(struct buf *b, size_t n) MUST_CHECK;

/* 0, or -1 when the bound would be passed (nothing is appended then). */
int buf_add(struct buf *b, const void *p, size_t n) MUST_CHECK;

/* Takes n bytes off the front. */
void buf_drop(struct buf *b, size_t n);

/* Takes n bytes off the end. */
void buf_drop_end(struct buf *b, size_t n);

void buf_free(struct buf *b);

/* The same, and what it holds is overwritten; what it held before it grew is not. */
void buf_wipe(struct buf *b);

#endif
