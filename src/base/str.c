/*
 * See str.h. Pure but for the memory of a buf.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "base/str.h"
#include "base/mem.h"
#include <stdlib.h>
#include <strings.h>

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static bool bytes_eq_nocase(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

/* Eight at a time: only where the case bit alone differs must letters be looked at. */
static bool words_eq_nocase(const char *a, const char *b)
{
    const uint64_t case_bits = UINT64_C(0x2020202020202020);
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    x ^= y;
    return !(x & ~case_bits) && (!x || bytes_eq_nocase(a, b, sizeof x));
}

bool str_eq_nocase(struct str a, struct str b)
{
    size_t i = 0;

    if (a.n != b.n)
        return false;
    for (; i + sizeof(uint64_t) <= a.n; i += sizeof(uint64_t))
        if (!words_eq_nocase(a.p + i, b.p + i))
            return false;
    if (i == a.n)
        return true;
    if (a.n < sizeof(uint64_t))
        return bytes_eq_nocase(a.p, b.p, a.n);
    /* the rest, with what is before it already compared */
    return words_eq_nocase(a.p + a.n - sizeof(uint64_t), b.p + a.n - sizeof(uint64_t));
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

int str_to_u64(struct str s, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (s.n == 0)
        return -1;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';

        if (digit > 9 || value > (max - digit) / 10 || digit > max)
            return -1;
        value = value * 10 + digit;
    }
    *out = value;
    return 0;
}

struct str str_from_u64(uint64_t value, char room[U64_DIGITS])
{
    /* two digits at a time: 0 to 99 */
    static const char PAIRS[] =
        "00010203040506070809101112131415161718192021222324252627282930313233"
        "34353637383940414243444546474849505152535455565758596061626364656667"
        "6869707172737475767778798081828384858687888990919293949596979899";
    char *end = room + U64_DIGITS, *p = end;

    for (; value > 9; value /= 100)
        memcpy(p -= 2, PAIRS + 2 * (value % 100), 2);
    if (value || p == end)
        *--p = (char)('0' + value);
    return (struct str){ p, (size_t)(end - p) };
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t cap;

    if (b->max_bytes && (n > b->max_bytes || b->n > b->max_bytes - n))
        return NULL;
    if (!b->p || b->cap_bytes - b->n < n) {
        cap = b->cap_bytes ? b->cap_bytes : 512;
        while (cap - b->n < n)
            cap *= 2;
        b->p = xrealloc(b->p, cap);
        b->cap_bytes = cap;
    }
    return b->p + b->n;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);

    if (!to)
        return -1;
    if (n)
        memcpy(to, p, n);
    b->n += n;
    return 0;
}

void buf_drop(struct buf *b, size_t n)
{
    must(n <= b->n);
    b->n -= n;
    if (b->n && n)
        memmove(b->p, b->p + n, b->n);
}

void buf_drop_end(struct buf *b, size_t n)
{
    must(n <= b->n);
    b->n -= n;
}

void buf_wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->n);
    buf_free(b);
}

void buf_free(struct buf *b)
{
    free(b->p);
    b->p = NULL;
    b->n = b->cap_bytes = 0;
}
