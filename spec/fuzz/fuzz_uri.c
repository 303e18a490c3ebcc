/*
 * Targets: parts lie in the target; normalising is idempotent, never lengthens, leaves no dot
 * segment, no "//", no escape of an unreserved character, and so does the form that is served;
 * encoding and decoding are inverse.
 */
#include "base/mem.h"
#include "wire/uri.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool inside(struct str s, struct str of)
{
    return s.n == 0 || (s.p >= of.p && s.p + s.n <= of.p + of.n);
}

static void check_segments(struct str path)
{
    struct str rest = path;

    while (rest.n > 0) {
        const char *slash = memchr(rest.p + 1, '/', rest.n - 1);
        struct str segment = { rest.p + 1, slash ? (size_t)(slash - rest.p) - 1 : rest.n - 1 };

        must(rest.p[0] == '/');
        must(segment.n > 0 || !slash);
        must(!str_eq(segment, STR(".")) && !str_eq(segment, STR("..")));
        rest.p += segment.n + 1;
        rest.n -= segment.n + 1;
    }
}

static void check_path(struct str path, struct arena *a)
{
    struct str once = uri_normalise(a, path), twice = uri_normalise(a, once);

    must(str_eq(once, twice));
    must(once.n <= path.n || path.n == 0);
    if (path.n == 0 || path.p[0] == '/')
        check_segments(once);
    else
        must(str_eq(once, path));
}

static void check_served(struct str path, struct arena *a)
{
    struct str once = uri_served(a, path);

    must(str_eq(once, uri_served(a, once)) && str_eq(once, uri_normalise(a, once)));
    if (path.n == 0 || path.p[0] == '/')
        check_segments(once);
}

static void check_query(struct str query, struct arena *a)
{
    struct str rest = query, name, value;

    while (uri_query_next(&rest, &name, &value)) {
        struct str decoded = uri_decode(a, name, true);

        must(inside(name, query) && inside(value, query));
        must(decoded.n <= name.n && !memchr(name.p, '&', name.n));
    }
    must(rest.n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct str target, path, query, encoded;
    char *copy;

    if (n == 0)
        return 0;
    arena_init(&arena, 64);
    copy = memcpy(xmalloc(n), data, n);
    target = (struct str){ copy, n };
    uri_split(target, &path, &query);
    must(inside(path, target) && inside(query, target));
    must(path.n + query.n <= n);
    must(!memchr(path.p, '?', path.n) && !memchr(query.p, '#', query.n));
    check_path(path, &arena);
    check_served(path, &arena);
    check_query(query, &arena);
    encoded = uri_encode(&arena, target, STR("/:@!$&'()*+,;="));
    must(str_eq(uri_decode(&arena, encoded, false), target));
    check_path(encoded, &arena);
    arena_fini(&arena);
    free(copy);
    return 0;
}
