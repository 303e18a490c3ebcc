/*
 * See headers.h. A list is an array in the arena that doubles; lists are short
 * (tens), so that looking through the lengths beats any index.
 */
#include "wire/headers.h"
#include "base/mem.h"
#include "wire/word.h"

#define FIRST_CAP 16

/* RFC 9110, 5.6.2: the characters of a token. */
static const bool token_char[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
    ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
    ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

static unsigned lower(char c)
{
    unsigned u = (unsigned char)c;

    return u - 'A' < 26u ? u + 32 : u;
}

/* The first character decides nearly always: no call then. */
static bool name_is(const struct str *have, struct str want)
{
    if (have->n != want.n)
        return false;
    if (want.n && lower(have->p[0]) != lower(want.p[0]))
        return false;
    return str_eq_nocase(*have, want);
}

static void headers_grow(struct headers *h, struct arena *a)
{
    unsigned cap = h->cap ? h->cap * 2 : FIRST_CAP;
    struct header *v = arena_alloc(a, cap * sizeof *v);

    if (h->n)
        memcpy(v, h->v, h->n * sizeof *v);
    h->v = v;
    h->cap = cap;
}

#ifdef WEIR_SANITIZE
#define MUST_BE_VALID(name, value) must(header_name_valid(name) && header_value_valid(value))
#else
#define MUST_BE_VALID(name, value) ((void)0)
#endif

void headers_add(struct headers *h, struct arena *a, struct str name, struct str value)
{
    MUST_BE_VALID(name, value);
    if (UNLIKELY(h->n == h->cap))
        headers_grow(h, a);
    h->v[h->n++] = (struct header){ name, value };
}

/* Takes away the fields of that name at or behind from. */
static unsigned remove_from(struct headers *h, struct str name, unsigned from)
{
    unsigned kept = from, n = h->n;

    for (unsigned i = from; i < n; i++)
        if (!name_is(&h->v[i].name, name))
            h->v[kept++] = h->v[i];
    h->n = kept;
    return n - kept;
}

void headers_set(struct headers *h, struct arena *a, struct str name, struct str value)
{
    int i = headers_find(h, name, 0);

    if (i < 0) {
        headers_add(h, a, name, value);
        return;
    }
    MUST_BE_VALID(name, value);
    h->v[i] = (struct header){ name, value };
    remove_from(h, name, (unsigned)i + 1);
}

unsigned headers_remove(struct headers *h, struct str name)
{
    int i = headers_find(h, name, 0);

    return i < 0 ? 0 : remove_from(h, name, (unsigned)i);
}

const struct str *headers_get(const struct headers *h, struct str name)
{
    int i = headers_find(h, name, 0);

    return i < 0 ? NULL : &h->v[i].value;
}

int headers_find(const struct headers *h, struct str name, unsigned from)
{
    for (unsigned i = from; i < h->n; i++)
        if (name_is(&h->v[i].name, name))
            return (int)i;
    return -1;
}

/* Letters, digits and '-': nearly every name consists of nothing else. */
static bool is_plain(uint64_t w)
{
    uint64_t small =
        w | WORD_ALL(0x20u); /* makes small letters of capital ones, and of nothing else */

    return word_is_ascii(w) && (word_in_range(small, 'a', 'z') | word_in_range(w, '0', '9') |
                                word_equals(w, '-')) == WORD_HIGH;
}

static bool is_token(const char *p, size_t n)
{
    bool valid = true;

    for (size_t i = 0; i < n; i++)
        valid &= token_char[(unsigned char)p[i]];
    return valid;
}

bool header_name_valid(struct str name)
{
    const char *p = name.p;
    size_t n = name.n;

    if (n < WORD_BYTES)
        return n > 0 && is_token(p, n);
    for (; n > WORD_BYTES; p += WORD_BYTES, n -= WORD_BYTES)
        if (!is_plain(word_load(p)) && !is_token(p, WORD_BYTES))
            return false;
    p -= WORD_BYTES - n; /* the last word may overlap the one before */
    return is_plain(word_load(p)) || is_token(p, WORD_BYTES);
}

static bool has_no_break(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (UNLIKELY((unsigned char)p[i] < ' ') && (p[i] == '\r' || p[i] == '\n' || p[i] == '\0'))
            return false;
    return true;
}

/* Only words with control characters are looked at byte by byte. */
static bool word_has_no_break(const char *p)
{
    return LIKELY(!word_has_control(word_load(p))) || has_no_break(p, WORD_BYTES);
}

bool header_value_valid(struct str value)
{
    const char *p = value.p;
    size_t n = value.n;

    if (n < WORD_BYTES)
        return has_no_break(p, n);
    for (; n > WORD_BYTES; p += WORD_BYTES, n -= WORD_BYTES)
        if (!word_has_no_break(p))
            return false;
    return word_has_no_break(p - (WORD_BYTES - n)); /* may overlap the one before */
}
