/*
 * See snapshot.h. A memory file of entries, one behind the other: head, path,
 * text; sealed, the same in plain memory. A tree is an entry without a text
 * whose path ends with a slash. There are some hundred entries and nobody asks
 * during requests: a walk finds them.
 */
#define _GNU_SOURCE /* memfd_create */
#include "conf/snapshot.h"
#include "base/mem.h"
#include "conf/file.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (4 << 20)
#define ALL_MAX_BYTES (64 << 20)

struct snapshot {
    int fd;               /* -1: sealed */
    char *base;           /* the mapping, once sealed memory of our own; NULL: none */
    size_t mapped_bytes;  /* of base */
    size_t written_bytes; /* by this process */
};

struct entry {
    uint32_t path_n, text_n;
};

int snapshot_new(struct snapshot **out, struct err *e)
{
    struct snapshot *s;
    int fd = memfd_create("weir-snapshot", MFD_CLOEXEC);

    if (fd == -1)
        return err_set_errno(e, "memfd_create");
    s = xcalloc(1, sizeof *s);
    s->fd = fd;
    *out = s;
    return 0;
}

static void unmap(struct snapshot *s)
{
    if (s->fd == -1)
        free(s->base);
    else if (s->base)
        munmap(s->base, s->mapped_bytes);
    s->base = NULL;
}

void snapshot_free(struct snapshot *s)
{
    if (!s)
        return;
    unmap(s);
    if (s->fd != -1)
        close(s->fd);
    free(s);
}

/* Slashes that follow each other are one: the same file may be named in several ways. */
static int plain_path(char *out, struct str path, size_t *n, struct err *e)
{
    *n = 0;
    for (size_t i = 0; i < path.n; i++) {
        if (path.p[i] == '/' && *n && out[*n - 1] == '/')
            continue;
        if (*n == PATH_MAX)
            return err_set(e, ERR_BOUND, "a path is longer than %d bytes", PATH_MAX);
        out[(*n)++] = path.p[i];
    }
    return 0;
}

static int put(struct snapshot *s, const void *p, size_t n, struct err *e)
{
    const char *from = p;

    while (n) {
        ssize_t done = write(s->fd, from, n);

        if (done == -1 && errno == EINTR)
            continue;
        if (done == -1)
            return err_set_errno(e, "cannot write to memory");
        from += done;
        n -= (size_t)done;
        s->written_bytes += (size_t)done;
    }
    return 0;
}

int snapshot_add(struct snapshot *s, struct str path, struct str text, struct err *e)
{
    char plain[PATH_MAX];
    struct entry entry = { .text_n = (uint32_t)text.n };
    size_t n;
    int rc;

    if (s->fd == -1)
        return 0;
    rc = plain_path(plain, path, &n, e);
    if (rc == 0 && s->written_bytes + sizeof entry + n + text.n > ALL_MAX_BYTES)
        rc = err_set(e, ERR_BOUND, "plugins and weir's own files are larger than %d MiB in all",
                     ALL_MAX_BYTES >> 20);
    entry.path_n = (uint32_t)n;
    if (rc == 0)
        rc = put(s, &entry, sizeof entry, e);
    if (rc == 0)
        rc = put(s, plain, n, e);
    if (rc == 0)
        rc = put(s, text.p, text.n, e);
    return rc;
}

static bool is_lua(const FTSENT *f)
{
    return f->fts_info == FTS_F && f->fts_namelen > 4 &&
           strcmp(f->fts_name + f->fts_namelen - 4, ".lua") == 0;
}

static int add_file(struct snapshot *s, const char *path, struct err *e)
{
    struct str text;
    struct err ignored;
    int rc;

    /* who wants to load it will hear of it */
    if (file_read(path, FILE_MAX_BYTES, &text, &ignored) != 0)
        return 0;
    rc = snapshot_add(s, str_from(path), text, e);
    free((char *)text.p);
    return rc;
}

int snapshot_add_tree(struct snapshot *s, const char *dir, struct err *e)
{
    char tree[PATH_MAX + 2], *roots[] = { tree, NULL };
    int n = snprintf(tree, sizeof tree, "%s/", dir);
    FTSENT *f;
    FTS *fts;
    int rc;

    if (n >= PATH_MAX)
        return err_set(e, ERR_BOUND, "a path is longer than %d bytes", PATH_MAX);
    rc = snapshot_add(s, str_from(tree), STR(""), e);
    fts = rc == 0 ? fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL) : NULL;
    if (!fts)
        return rc != 0 ? rc : err_set_errno(e, "cannot read %s", dir);
    while (rc == 0 && (f = fts_read(fts))) {
        if (f->fts_level > 0 && f->fts_info == FTS_D && f->fts_name[0] == '.')
            fts_set(fts, f, FTS_SKIP); /* what keeps versions */
        else if (is_lua(f))
            rc = add_file(s, f->fts_path, e);
    }
    fts_close(fts);
    return rc;
}

/* The trial process looks into what it is still writing. */
static bool map(struct snapshot *s)
{
    if (s->fd == -1 || (s->base && s->mapped_bytes == s->written_bytes))
        return s->base != NULL;
    unmap(s);
    if (s->written_bytes == 0)
        return false;
    s->base = mmap(NULL, s->written_bytes, PROT_READ, MAP_SHARED, s->fd, 0);
    if (s->base == MAP_FAILED)
        s->base = NULL;
    s->mapped_bytes = s->written_bytes;
    return s->base != NULL;
}

/* Into memory that a fork copies: who still has the file may write to it as he likes. */
int snapshot_seal(struct snapshot *s, struct err *e)
{
    struct stat st;
    size_t n = 0;
    char *p;

    if (fstat(s->fd, &st) == -1)
        return err_set_errno(e, "cannot examine the snapshot");
    if (st.st_size == 0 || st.st_size > ALL_MAX_BYTES)
        return err_set(e, ERR_BOUND, "the snapshot is empty or too large");
    p = xmalloc((size_t)st.st_size);
    while (n < (size_t)st.st_size) {
        ssize_t got = pread(s->fd, p + n, (size_t)st.st_size - n, (off_t)n);

        if (got > 0) {
            n += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            free(p);
            return err_set_errno(e, "cannot read the snapshot");
        }
    }
    unmap(s);
    close(s->fd);
    s->fd = -1;
    s->base = p;
    s->mapped_bytes = n;
    return 0;
}

bool snapshot_is_sealed(const struct snapshot *s)
{
    return s->fd == -1;
}

/* The entry at *at, and *at behind it; false at the end. */
static bool next(struct snapshot *s, size_t *at, struct str *path, struct str *text)
{
    struct entry entry;

    if (*at + sizeof entry > s->mapped_bytes)
        return false;
    memcpy(&entry, s->base + *at, sizeof entry);
    *at += sizeof entry;
    if ((uint64_t)entry.path_n + entry.text_n > s->mapped_bytes - *at)
        return false;
    *path = (struct str){ s->base + *at, entry.path_n };
    *text = (struct str){ path->p + path->n, entry.text_n };
    *at += path->n + text->n;
    return true;
}

int snapshot_get(struct snapshot *s, struct str path, struct str *text)
{
    char plain[PATH_MAX];
    struct str wanted = { plain, 0 }, found;
    struct err ignored;
    size_t at = 0;

    if (plain_path(plain, path, &wanted.n, &ignored) != 0 || !map(s))
        return 0;
    while (next(s, &at, &found, text))
        if (str_eq(found, wanted))
            return 1;
    return 0;
}

bool snapshot_covers(struct snapshot *s, struct str path)
{
    char plain[PATH_MAX];
    struct str wanted = { plain, 0 }, found, text;
    struct err ignored;
    size_t at = 0;

    if (plain_path(plain, path, &wanted.n, &ignored) != 0 || !map(s))
        return false;
    while (next(s, &at, &found, &text))
        if (found.n && found.p[found.n - 1] == '/' && str_starts(wanted, found))
            return true;
    return false;
}

static bool has_name(const struct buf *names, size_t from, struct str name)
{
    for (size_t at = from; at < names->n; at += strlen(names->p + at) + 1)
        if (str_eq(str_from(names->p + at), name))
            return true;
    return false;
}

int snapshot_names(struct snapshot *s, struct str dir, struct buf *out)
{
    char plain[PATH_MAX];
    struct str below = { plain, 0 }, found, text;
    size_t at = 0, from = out->n;
    struct err ignored;

    if (plain_path(plain, dir, &below.n, &ignored) != 0 || below.n == PATH_MAX || !map(s))
        return 0;
    if (below.n && plain[below.n - 1] != '/')
        plain[below.n++] = '/';
    while (next(s, &at, &found, &text)) {
        struct str name = { found.p + below.n, 0 };
        size_t left = found.n - below.n;

        if (!str_starts(found, below) || left == 0)
            continue;
        while (name.n < left && name.p[name.n] != '/')
            name.n++;
        if (name.n < left && !has_name(out, from, name) &&
            (buf_add(out, name.p, name.n) < 0 || buf_add(out, "", 1) < 0))
            return ERR_BOUND;
    }
    return 0;
}
