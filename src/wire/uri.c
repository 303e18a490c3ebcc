/*
 * See uri.h. What a rule does not see is a way around it: the spellings that
 * RFC 3986 calls equivalent, and those that web servers fold ("//", "/./"), become
 * the same bytes. %2F is not equivalent to '/' and stays.
 */
#include "wire/uri.h"

static const signed char hex_value[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* RFC 3986, 2.3. */
static const bool unreserved[256] = {
    ['-'] = 1,         ['.'] = 1,         ['_'] = 1,         ['~'] = 1,
    ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

/* What else stands in a path as it is: RFC 3986, 3.3. */
#define PATH_CHARS STR("/:@!$&'()*+,;=")

static const char hex_digits[] = "0123456789ABCDEF";

/* The byte that an escape at p stands for, or -1. */
static int escape_at(const char *p, const char *end)
{
    int high, low;

    if (end - p < 3 || p[0] != '%')
        return -1;
    high = hex_value[(unsigned char)p[1]];
    low = hex_value[(unsigned char)p[2]];
    return high && low ? (high - 1) << 4 | (low - 1) : -1;
}

static char *write_escape(char *to, unsigned char c)
{
    to[0] = '%';
    to[1] = hex_digits[c >> 4];
    to[2] = hex_digits[c & 15];
    return to + 3;
}

static struct str between(const char *p, const char *end)
{
    return (struct str){ p, (size_t)(end - p) };
}

void uri_split(struct str target, struct str *path, struct str *query)
{
    const char *p = target.p, *end, *mark;

    *path = *query = target;
    if (target.n == 0)
        return;
    end = memchr(p, '#', target.n);
    if (!end)
        end = p + target.n;
    mark = end > p ? memchr(p, '?', (size_t)(end - p)) : NULL;
    *path = between(p, mark ? mark : end);
    *query = mark ? between(mark + 1, end) : between(end, end);
}

/* True if nothing in the path can change: no escape, no "//", no segment that begins with a dot. */
static bool is_normal(struct str path)
{
    bool behind_slash = false;

    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];

        if (c == '%' || (behind_slash && (c == '/' || c == '.')))
            return false;
        behind_slash = c == '/';
    }
    return true;
}

/*
 * A decoded character may not complete an escape out of a '%' that began none
 * ("%%341"): somebody who decodes once sees no escape there. A valid escape ends
 * three bytes behind its '%', so that one nearer than that is such a '%'.
 */
static bool behind_bare_percent(const char *start, const char *to)
{
    return (to - start >= 1 && to[-1] == '%') ||
           (to - start >= 2 && to[-2] == '%' && hex_value[(unsigned char)to[-1]]);
}

/* Takes one character or escape off *from and appends its normal form. */
static char *copy_char(const char *start, char *to, const char **from, const char *end)
{
    int c = escape_at(*from, end);

    if (c < 0) {
        *to = *(*from)++;
        return to + 1;
    }
    *from += 3;
    if (unreserved[c] && !behind_bare_percent(start, to)) {
        *to = (char)c;
        return to + 1;
    }
    return write_escape(to, (unsigned char)c);
}

/* start..to is normal but for the segment at segment (behind its '/'). Returns the new end. */
static char *close_segment(const char *start, char *segment, char *to)
{
    size_t n = (size_t)(to - segment);

    if (n == 1 && segment[0] == '.')
        return segment;
    if (n != 2 || segment[0] != '.' || segment[1] != '.')
        return to;
    segment--; /* at its '/' */
    while (segment > start && segment[-1] != '/')
        segment--;
    return segment > start ? segment : segment + 1;
}

struct str uri_normalise(struct arena *a, struct str path)
{
    const char *p = path.p, *end;
    char *start, *to, *segment;

    if (path.n == 0)
        return STR("/");
    end = p + path.n;
    if (p[0] != '/' || is_normal(path))
        return path;
    start = arena_alloc(a, path.n + 1);
    to = start;
    *to++ = *p++;
    segment = to;
    while (p < end) {
        if (*p != '/') {
            to = copy_char(start, to, &p, end);
            continue;
        }
        p++;
        to = close_segment(start, segment, to);
        if (to[-1] != '/')
            *to++ = '/';
        segment = to;
    }
    to = close_segment(start, segment, to);
    *to = '\0';
    return between(start, to);
}

bool uri_query_next(struct str *query, struct str *name, struct str *value)
{
    while (query->n > 0) {
        const char *p = query->p, *end = p + query->n;
        const char *amp = memchr(p, '&', query->n);
        const char *stop = amp ? amp : end;
        const char *equals = stop > p ? memchr(p, '=', (size_t)(stop - p)) : NULL;

        *query = between(amp ? amp + 1 : end, end);
        if (stop == p)
            continue;
        *name = between(p, equals ? equals : stop);
        *value = equals ? between(equals + 1, stop) : STR_NULL;
        return true;
    }
    return false;
}

static bool has_encoded(struct str s, bool plus)
{
    if (s.n == 0)
        return false;
    return memchr(s.p, '%', s.n) || (plus && memchr(s.p, '+', s.n));
}

struct str uri_decode(struct arena *a, struct str s, bool plus)
{
    const char *p = s.p, *end;
    char *start, *to;

    if (!has_encoded(s, plus))
        return s;
    end = p + s.n;
    start = to = arena_alloc(a, s.n + 1);
    while (p < end) {
        int c = escape_at(p, end);

        if (c >= 0) {
            *to++ = (char)c;
            p += 3;
        } else {
            *to++ = plus && *p == '+' ? ' ' : *p;
            p++;
        }
    }
    *to = '\0';
    return between(start, to);
}

struct str uri_encode(struct arena *a, struct str s, struct str keep)
{
    char *start, *to;

    must(s.n < SIZE_MAX / 8);
    start = to = arena_alloc(a, s.n * 3 + 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (unreserved[c] || (keep.n && memchr(keep.p, c, keep.n)))
            *to++ = (char)c;
        else
            to = write_escape(to, c);
    }
    *to = '\0';
    return between(start, to);
}

struct str uri_served(struct arena *a, struct str path)
{
    bool plain = true;

    for (size_t i = 0; i < path.n; i++)
        plain &= unreserved[(unsigned char)path.p[i]] || path.p[i] == '/';
    if (!plain && path.p[0] == '/')
        path = uri_encode(a, uri_decode(a, path, false), PATH_CHARS);
    return uri_normalise(a, path);
}
