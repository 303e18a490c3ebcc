/*
 * See pidfile.h. flock(2) belongs to the open file description: it outlives
 * an exec, and ends with the last process that has the descriptor.
 */
#include "srv/pidfile.h"
#include "conf/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TRIES 20 /* of 50 ms: somebody may be asking pidfile_is_held, or just leaving */

static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static pid_t read_pid(const char *path)
{
    struct str text;
    long pid;

    if (file_read(path, 64, &text, NULL) != 0)
        return 0;
    pid = strtol(text.p, NULL, 10);
    free((char *)text.p);
    return pid > 0 ? (pid_t)pid : 0;
}

/* 0, or errno. */
static int make_directory(const char *path)
{
    char dir[4096];
    char *slash;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (!slash || slash == dir)
        return 0;
    *slash = '\0';
    return mkdir(dir, 0755) == -1 && errno != EEXIST ? errno : 0;
}

static const char *advice(int code)
{
    if (code == EACCES)
        return ": start weir as root, or with another prefix (-p)";
    return code == ENOENT ? ": make the directory above it, or choose another prefix" : "";
}

static int refuse(const struct pidfile *p, int code, struct err *e)
{
    return err_set(e, ERR_SYSTEM, "pid_file: cannot open %s: %s%s", p->path, strerror(code),
                   advice(code));
}

/*
 * 1 locked, 0 try again, negative: an error that stays. no_directory says why its directory could
 * not be made, if so.
 */
static int try_lock(struct pidfile *p, int no_directory, struct err *e)
{
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (p->fd == -1)
        return refuse(p, errno == ENOENT && no_directory ? no_directory : errno, e);
    /* A master that leaves removes the name before it lets go of the lock. */
    if (flock(p->fd, LOCK_EX | LOCK_NB) == 0 && is_same_file(p->fd, p->path))
        return 1;
    close(p->fd);
    p->fd = -1;
    return 0;
}

int pidfile_open(struct pidfile *p, const char *path, int inherited, struct err *e)
{
    const struct timespec pause = { 0, 50000000 };
    int no_directory;

    p->fd = -1;
    if (snprintf(p->path, sizeof p->path, "%s", path) >= (int)sizeof p->path)
        return err_set(e, ERR_CONFIG, "pid_file: the path is too long");
    if (inherited != -1) {
        if (is_same_file(inherited, path)) {
            fcntl(inherited, F_SETFD, FD_CLOEXEC);
            p->fd = inherited;
            return 0;
        }
        close(inherited);
    }
    no_directory = make_directory(path);
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        int rc = try_lock(p, no_directory, e);

        if (rc != 0)
            return rc < 0 ? rc : 0;
        nanosleep(&pause, NULL);
    }
    return err_set(e, ERR_CONFIG,
                   "weir is running already (pid %d holds %s): stop it, or choose another prefix",
                   (int)read_pid(path), path);
}

int pidfile_write(const struct pidfile *p, struct err *e)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

    /* Never empty in between: the longest first, then cut. */
    if (pwrite(p->fd, text, (size_t)n, 0) != n || ftruncate(p->fd, n) == -1)
        return err_set_errno(e, "pid_file: cannot write %s", p->path);
    return 0;
}

void pidfile_remove(struct pidfile *p)
{
    if (p->fd == -1)
        return;
    if (read_pid(p->path) == getpid() && is_same_file(p->fd, p->path))
        unlink(p->path);
    pidfile_forget(p);
}

void pidfile_forget(struct pidfile *p)
{
    if (p->fd != -1)
        close(p->fd);
    p->fd = -1;
}

bool pidfile_is_held(const char *path, pid_t *pid)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool held;

    *pid = 0;
    if (fd == -1)
        return false;
    held = flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK;
    close(fd);
    if (held)
        *pid = read_pid(path);
    return held;
}
