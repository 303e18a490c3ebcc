/*
 * Reads files that hold secrets, for Lua. A file is read below a directory that
 * its links must not leave, and only if it is a regular one, so that no pipe or
 * device holds up the worker; a file system that hangs still does. What was
 * read is wiped.
 */
#define _GNU_SOURCE /* O_PATH, explicit_bzero */
#include "base/err.h"
#include "base/mem.h"
#include "lua/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char *p;
    size_t n;
} the_text;

void weir_file_wipe(void)
{
    if (the_text.p)
        explicit_bzero(the_text.p, the_text.n);
    free(the_text.p);
    the_text.p = NULL;
    the_text.n = 0;
}

/* Where an open file really lies. */
static int place_of(int fd, char *place, size_t cap)
{
    char link[40];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, place, cap - 1);
    if (n == -1)
        return -1;
    place[n] = '\0';
    return 0;
}

static int check_place(int dir, int fd, struct err *e)
{
    char above[PATH_MAX], place[PATH_MAX];
    size_t n;

    if (place_of(dir, above, sizeof above) == -1 || place_of(fd, place, sizeof place) == -1)
        return err_set_errno(e, "cannot examine /proc/self/fd");
    n = strcmp(above, "/") == 0 ? 0 : strlen(above);
    if (strncmp(above, place, n) != 0 || place[n] != '/')
        return err_set(e, ERR_BOUND, "its symbolic links lead out of the directory");
    return 0;
}

/* Nothing is opened that would wait or act on being opened. A descriptor, or an error. */
static int open_checked(int dir, const char *path, struct err *e)
{
    char link[40];
    struct stat st;
    int fd = openat(dir, path, O_PATH | O_CLOEXEC), opened, rc;

    if (fd == -1)
        return err_set(e, ERR_SYSTEM, "%s", strerror(errno));
    rc = check_place(dir, fd, e);
    if (rc == 0 && fstat(fd, &st) == -1)
        rc = err_set(e, ERR_SYSTEM, "%s", strerror(errno));
    else if (rc == 0 && !S_ISREG(st.st_mode))
        rc = err_set(e, ERR_SYNTAX, "it is not a regular file");
    if (rc == 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        opened = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        rc = opened == -1 ? err_set(e, ERR_SYSTEM, "%s", strerror(errno)) : opened;
    }
    close(fd);
    return rc;
}

static int read_text(int fd, size_t max_bytes, struct err *e)
{
    weir_file_wipe();
    the_text.p = xmalloc(max_bytes + 1);
    for (;;) {
        ssize_t n = read(fd, the_text.p + the_text.n, max_bytes + 1 - the_text.n);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return err_set(e, ERR_SYSTEM, "%s", strerror(errno));
        if (n == 0)
            return 0;
        the_text.n += (size_t)n;
        if (the_text.n > max_bytes)
            return err_set(e, ERR_BOUND, "it is larger than %zu bytes", max_bytes);
    }
}

static int open_below(const char *dir, const char *path, struct err *e)
{
    int top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

    if (top == -1)
        return err_set(e, ERR_SYSTEM, "%s", strerror(errno));
    fd = open_checked(top, path, e);
    close(top);
    return fd;
}

int weir_file_read(const char *dir, const char *path, size_t max_bytes, weir_str *text)
{
    static struct err e;
    int fd = open_below(dir, path, &e), rc = fd;

    if (fd >= 0) {
        rc = read_text(fd, max_bytes, &e);
        close(fd);
    }
    if (rc < 0) {
        weir_file_wipe();
        *text = ffi_str(str_from(e.text));
        return rc;
    }
    *text = (weir_str){ the_text.p, the_text.n };
    return 0;
}
