/*
 * See wiped.h. The length stands before each block, because nothing else
 * tells for sure how much of it may be written.
 */
#include "peer/wiped.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

struct block {
    _Alignas(max_align_t) size_t n;
};

static struct block *block_of(void *p)
{
    return (struct block *)((char *)p - sizeof(struct block));
}

void *wiped_malloc(size_t n)
{
    struct block *b;

    must(n <= SIZE_MAX / 2);
    b = xmalloc(sizeof *b + n);
    b->n = n;
    return b + 1;
}

void *wiped_calloc(size_t count, size_t n)
{
    void *p;

    must(n == 0 || count <= SIZE_MAX / 2 / n);
    p = wiped_malloc(count * n);
    memset(p, 0, count * n);
    return p;
}

void *wiped_realloc(void *p, size_t n)
{
    void *q = wiped_malloc(n);

    if (p) {
        size_t had = block_of(p)->n;

        memcpy(q, p, had < n ? had : n);
        wiped_free(p);
    }
    return q;
}

void wiped_free(void *p)
{
    struct block *b;

    if (!p)
        return;
    b = block_of(p);
    explicit_bzero(b + 1, b->n);
    free(b);
}

char *wiped_strdup(const char *z)
{
    return wiped_copy(str_from(z));
}

char *wiped_copy(struct str s)
{
    char *z = wiped_malloc(s.n + 1);

    if (s.n)
        memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    return z;
}

void wiped_buf_add(struct wiped_buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    must(n <= SIZE_MAX / 4 - b->n);
    if (b->n + n > b->cap_bytes) {
        b->cap_bytes = b->n + n < 1024 ? 1024 : (b->n + n) * 2;
        b->p = wiped_realloc(b->p, b->cap_bytes);
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void wiped_buf_free(struct wiped_buf *b)
{
    wiped_free(b->p);
    *b = (struct wiped_buf){ 0 };
}
