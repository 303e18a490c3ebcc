/*
 * Memory that is overwritten when it is given back: for what carries tokens
 * and passwords. The functions have the form that libcurl wants for its own
 * memory. They die when there is none.
 */
#ifndef WEIR_PEER_WIPED_H
#define WEIR_PEER_WIPED_H

#include "base/str.h"
#include "base/weir.h"

void *wiped_malloc(size_t n) __attribute__((returns_nonnull));
void *wiped_calloc(size_t count, size_t n) __attribute__((returns_nonnull));

/* Always another block; the old one is overwritten. */
void *wiped_realloc(void *p, size_t n) __attribute__((returns_nonnull));

/* p may be NULL. */
void wiped_free(void *p);

char *wiped_strdup(const char *z) __attribute__((returns_nonnull));

/* A copy with a NUL behind it. */
char *wiped_copy(struct str s) __attribute__((returns_nonnull));

/* Bytes that grow. Zero it first; wiped_buf_free leaves it usable. */
struct wiped_buf {
    char *p;
    size_t n, cap_bytes;
};

void wiped_buf_add(struct wiped_buf *b, const void *p, size_t n);
void wiped_buf_free(struct wiped_buf *b);

#endif
