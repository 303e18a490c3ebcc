/*
 * See file.h. Reads to the end whatever size stat says, so that pipes and
 * files of /proc work too; refuses directories.
 */
#include "conf/file.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE_BYTES 65536

static int fail_errno(const char *verb, const char *path, struct err *e)
{
    int saved_errno = errno;

    err_set_errno(e, "cannot %s %s", verb, path);
    errno = saved_errno;
    return ERR_SYSTEM;
}

/* Files may hold secrets: where the buffer grows, nothing is left behind. */
static char *make_room(struct buf *b)
{
    struct buf larger = { 0 };

    if (b->cap_bytes - b->n < PIECE_BYTES) {
        must(buf_reserve(&larger, 2 * b->n + PIECE_BYTES));
        must(buf_add(&larger, b->p, b->n) == 0);
        buf_wipe(b);
        *b = larger;
    }
    return b->p + b->n;
}

static int read_all(int fd, const char *path, size_t max_bytes, struct buf *b, struct err *e)
{
    for (;;) {
        char *to = make_room(b);
        ssize_t n = read(fd, to, PIECE_BYTES);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return fail_errno("read", path, e);
        if (n == 0)
            return 0;
        b->n += (size_t)n;
        if (b->n > max_bytes)
            return err_set(e, ERR_BOUND, "%s: larger than %zu bytes", path, max_bytes);
    }
}

/* A pipe that nobody writes to is as good as empty: nobody waits for a writer that never comes. */
static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd != -1)
        fcntl(fd, F_SETFL, O_RDONLY);
    return fd;
}

int file_read(const char *path, size_t max_bytes, struct str *out, struct err *e)
{
    struct buf b = { 0 };
    int fd = open_file(path);
    int rc;

    if (fd == -1)
        return fail_errno("open", path, e);
    rc = read_all(fd, path, max_bytes, &b, e);
    if (rc == 0) {
        b.p[b.n] = '\0'; /* the last read, of nothing, left room */
        *out = (struct str){ b.p, b.n };
        b.p = NULL;
    }
    {
        int saved_errno = errno;

        buf_wipe(&b);
        close(fd);
        errno = saved_errno;
    }
    return rc;
}
