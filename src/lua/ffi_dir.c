/*
 * The names in a directory, for finding plugins. Blocks: for the load, not
 * for requests.
 */
#include "base/err.h"
#include "base/str.h"
#include "lua/internal.h"
#include <dirent.h>
#include <errno.h>

#define NAMES_BYTES_MAX (1024 * 1024)

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

int weir_dir_names(const char *path, weir_str *names)
{
    static struct buf all;
    DIR *dir = opendir(path);
    int rc;

    if (!dir)
        return errno == ENOENT ? WEIR_NONE : ERR_SYSTEM;
    all.n = 0;
    all.max_bytes = NAMES_BYTES_MAX;
    rc = add_names(dir, &all);
    closedir(dir);
    names->p = all.p;
    names->n = all.n;
    return rc;
}
