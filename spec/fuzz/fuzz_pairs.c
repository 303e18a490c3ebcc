/*
 * Name-value pairs: slices lie in the input, what is left gets shorter, a refusal
 * changes nothing; the answer to FCGI_GET_VALUES is bounded and well-formed.
 */
#include "base/mem.h"
#include "wire/fcgi.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool inside(struct str s, const char *p, const char *end)
{
    return s.p >= p && s.p <= end && s.n <= (size_t)(end - s.p);
}

static void check_values(struct str asked)
{
    const struct fcgi_values values = { 4294967295u, 1, true };
    struct buf out = { 0 };
    struct str in, name, value;
    int rc, pairs = 0;

    must(fcgi_put_values_result(&out, asked, &values) == 0);
    must(out.n >= FCGI_HEADER_LEN && out.n < 128);
    in = (struct str){ out.p + FCGI_HEADER_LEN, out.n - FCGI_HEADER_LEN };
    while ((rc = fcgi_pair_next(&in, &name, &value)) > 0)
        pairs++;
    must(rc == 0 && pairs <= 3);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in, name, value;
    const char *end;
    char *copy;
    int rc;

    if (n == 0)
        return 0;
    copy = memcpy(xmalloc(n), data, n);
    in = (struct str){ copy, n };
    end = copy + n;
    for (;;) {
        struct str before = in;

        rc = fcgi_pair_next(&in, &name, &value);
        if (rc <= 0) {
            must(in.p == before.p && in.n == before.n);
            break;
        }
        must(in.n < before.n && in.p + in.n == end);
        must(inside(name, before.p, end) && inside(value, name.p, end));
        must(value.p + value.n == in.p);
    }
    must(rc != 0 || in.n == 0);
    check_values((struct str){ copy, n });
    free(copy);
    return 0;
}
