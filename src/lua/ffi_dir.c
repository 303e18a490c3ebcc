/*
 * Files with Lua in them and the names in a directory, for finding and loading
 * plugins: out of the generation's snapshot where there is one. The trial
 * process, whose snapshot is not sealed yet, still looks at the files for what
 * is missing, so that it can say why, and adds what it finds elsewhere. Blocks:
 * for the load, not for requests.
 */
#include "base/err.h"
#include "base/str.h"
#include "conf/file.h"
#include "conf/snapshot.h"
#include "lua/internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_BYTES_MAX (1024 * 1024)
#define SOURCE_BYTES_MAX (4 << 20)

static struct snapshot *the_snapshot;

void source_use(struct snapshot *s)
{
    the_snapshot = s;
}

static int add_names(DIR *dir, struct buf *names)
{
    const struct dirent *entry;

    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        /* with the NUL, which separates the names */
        if (buf_add(names, entry->d_name, strlen(entry->d_name) + 1) < 0)
            return ERR_BOUND;
    }
    return 0;
}

static int names_of_files(const char *path, struct buf *names)
{
    DIR *dir = opendir(path);
    int rc;

    if (!dir)
        return errno == ENOENT ? WEIR_NONE : ERR_SYSTEM;
    rc = add_names(dir, names);
    closedir(dir);
    return rc;
}

int weir_dir_names(const char *path, weir_str *names)
{
    static struct buf all;
    int rc;

    all.n = 0;
    all.max_bytes = NAMES_BYTES_MAX;
    if (the_snapshot && snapshot_is_sealed(the_snapshot))
        rc = snapshot_names(the_snapshot, str_from(path), &all);
    else
        rc = names_of_files(path, &all);
    names->p = all.p;
    names->n = all.n;
    return rc;
}

static int read_from_disk(const char *path, struct str *text, const char **why)
{
    struct err e;
    int rc = file_read(path, SOURCE_BYTES_MAX, text, &e);

    if (rc == 0)
        return 0;
    if (rc == ERR_SYSTEM && (errno == ENOENT || errno == ENOTDIR))
        return WEIR_NONE;
    *why = rc == ERR_SYSTEM ? strerror(errno) : "it is too large";
    return rc;
}

static char the_last[256];

const char *source_last(void)
{
    return the_last;
}

static int source(const char *path, size_t n, weir_str *out)
{
    static struct str text; /* the last that came from a file */
    struct str name = { path, n }, found;
    bool covered = the_snapshot && snapshot_covers(the_snapshot, name);
    const char *why = NULL;
    struct err e;
    int rc;

    if (the_snapshot && snapshot_get(the_snapshot, name, &found)) {
        *out = ffi_str(found);
        return 0;
    }
    if (covered && snapshot_is_sealed(the_snapshot))
        return WEIR_NONE;
    free((char *)text.p);
    text = STR_NULL;
    rc = read_from_disk(path, &text, &why);
    if (rc == 0 && the_snapshot && snapshot_add(the_snapshot, name, text, &e) != 0) {
        rc = ERR_BOUND;
        why = "too much is loaded";
    }
    *out = ffi_str(rc == 0 || !why ? text : str_from(why));
    return rc;
}

int weir_source(const char *path, size_t n, weir_str *out)
{
    int rc = source(path, n, out);

    if (rc == 0)
        snprintf(the_last, sizeof the_last, "%.*s", (int)n, path);
    return rc;
}
