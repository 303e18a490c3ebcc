/*
 * See mem.h. Blocks are linked from the newest to the first; the first one
 * survives a reset, so that a pooled request costs no malloc.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "base/mem.h"
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGN_BYTES 16

struct arena_block {
    struct arena_block *older;
    size_t n; /* bytes behind this header */
};

struct arena_hook {
    struct arena_hook *older;
    void (*fn)(void *arg);
    void *arg;
};

_Static_assert(sizeof(struct arena_block) % ALIGN_BYTES == 0, "a block's bytes are aligned");

static char *block_start(struct arena_block *block)
{
    return (char *)(block + 1);
}

void must_fail(const char *file, int line, const char *cond)
{
    log_msg(LOG_EMERG, "%s:%d: this must hold and does not: %s", file, line, cond);
    abort();
}

NORETURN COLD static void no_memory(size_t n)
{
    log_msg(LOG_EMERG, "out of memory: %zu bytes asked for", n);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    if (UNLIKELY(!p))
        no_memory(n);
    return p;
}

void *xcalloc(size_t count, size_t n)
{
    void *p = calloc(count ? count : 1, n ? n : 1);

    if (UNLIKELY(!p))
        no_memory(count * n);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    p = realloc(p, n ? n : 1);
    if (UNLIKELY(!p))
        no_memory(n);
    return p;
}

char *xstrdup(const char *z)
{
    size_t n = strlen(z) + 1;

    return memcpy(xmalloc(n), z, n);
}

static void arena_grow(struct arena *a, size_t n)
{
    size_t bytes = a->first_bytes;
    struct arena_block *block;

    if (bytes < n)
        bytes = n;
    block = xmalloc(sizeof *block + bytes);
    block->older = a->block;
    block->n = bytes;
    a->block = block;
    a->next = block_start(block);
    a->end = a->next + bytes;
}

void arena_init(struct arena *a, size_t first_bytes)
{
    *a = (struct arena){ .first_bytes = first_bytes };
}

static void run_hooks(struct arena *a)
{
    while (a->hooks) {
        struct arena_hook *hook = a->hooks;

        a->hooks = hook->older;
        hook->fn(hook->arg);
    }
}

void arena_wipe(struct arena *a)
{
    run_hooks(a);
    for (struct arena_block *block = a->block; block; block = block->older)
        explicit_bzero(block_start(block), block->n);
}

void arena_fini(struct arena *a)
{
    run_hooks(a);
    while (a->block) {
        struct arena_block *older = a->block->older;

        free(a->block);
        a->block = older;
    }
    a->next = a->end = NULL;
}

void arena_reset(struct arena *a)
{
    run_hooks(a);
    if (!a->block)
        return;
    while (a->block->older) {
        struct arena_block *older = a->block->older;

        free(a->block);
        a->block = older;
    }
    a->next = block_start(a->block);
    a->end = a->next + a->block->n;
}

void *arena_alloc(struct arena *a, size_t n)
{
    void *p;

    must(n <= SIZE_MAX / 2);
    n = (n + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
    if (!a->next || (size_t)(a->end - a->next) < n)
        arena_grow(a, n);
    p = a->next;
    a->next += n;
    return p;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct str){ p, s.n };
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    int n;
    char *p;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    must(n >= 0);
    p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct str){ p, (size_t)n };
}

struct arena_mark arena_get_mark(const struct arena *a)
{
    return (struct arena_mark){ a->block, a->next };
}

void arena_rewind(struct arena *a, struct arena_mark mark)
{
    while (a->block != mark.block) {
        struct arena_block *older = a->block->older;

        free(a->block);
        a->block = older;
    }
    a->next = mark.next;
    a->end = a->block ? block_start(a->block) + a->block->n : NULL;
}

void arena_on_reset(struct arena *a, void (*fn)(void *arg), void *arg)
{
    struct arena_hook *hook = arena_alloc(a, sizeof *hook);

    *hook = (struct arena_hook){ .older = a->hooks, .fn = fn, .arg = arg };
    a->hooks = hook;
}

size_t arena_size_bytes(const struct arena *a)
{
    size_t n = 0;

    for (const struct arena_block *block = a->block; block; block = block->older)
        n += sizeof *block + block->n;
    return n;
}
