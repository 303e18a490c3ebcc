/*
 * Memory. The x-functions die when there is none. An arena belongs to one
 * request: it only grows, and gives everything back at once; hooks let things
 * that are not memory (descriptors, references) end with it.
 */
#ifndef WEIR_BASE_MEM_H
#define WEIR_BASE_MEM_H

#include "base/str.h"
#include "base/weir.h"

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *z) __attribute__((malloc, returns_nonnull));

struct arena_block;
struct arena_hook;

struct arena {
    struct arena_block *block; /* the newest; linked to the older ones */
    struct arena_hook *hooks;  /* the newest first: run in that order */
    char *next, *end;          /* free room of the newest block */
    size_t first_bytes;        /* size of the first block, kept over resets */
};

/* A place to come back to; see arena_rewind. */
struct arena_mark {
    struct arena_block *block;
    char *next;
};

/* first_bytes is kept through arena_reset, so that a pooled owner does not allocate again. */
void arena_init(struct arena *a, size_t first_bytes);

/* Overwrites everything: there were secrets in it. Only arena_fini may follow. */
void arena_wipe(struct arena *a);

/* Frees everything, first block too. */
void arena_fini(struct arena *a);

/* Runs the hooks, newest first, and frees all but the first block. */
void arena_reset(struct arena *a);

/* Aligned to 16 bytes; never NULL; not zeroed. */
void *arena_alloc(struct arena *a, size_t n) __attribute__((returns_nonnull));

/* A copy, with a NUL behind it that is not counted. */
struct str arena_str(struct arena *a, struct str s);

/* printf into the arena. */
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);

struct arena_mark arena_get_mark(const struct arena *a);

/* Frees what was allocated since the mark. Hooks stay: none may have been added since. */
void arena_rewind(struct arena *a, struct arena_mark mark);

/* fn(arg) runs once, at arena_reset or arena_fini. */
void arena_on_reset(struct arena *a, void (*fn)(void *arg), void *arg);

/* Bytes held, for the memory report. */
size_t arena_size_bytes(const struct arena *a);

#endif
