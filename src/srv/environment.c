/*
 * See environment.h. The variables as they stand in memory, each with a NUL
 * behind it, and an empty one at the end. Refuses what is too large, what comes
 * too slowly, and what others offer.
 */
#define _GNU_SOURCE /* environ, O_PATH */
#include "srv/environment.h"
#include "base/clock.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX_BYTES (4 << 20)
#define PATH_BYTES 4200
#define PAUSE_MS 5
#define TIMEOUT_MS 5000

/* What is this process's own and stays so; with * any name that begins so. */
static const char *const KEPT[] = {
    "WEIR_LISTEN_FDS",       "WEIR_UPGRADE",      "WEIR_CONF",
    "WEIR_CONFIG", /* which instance a command means is no setting of the instance */
    "NOTIFY_SOCKET",         "WATCHDOG_*",        "LISTEN_*",
    "CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY", "STATE_DIRECTORY",
    "CACHE_DIRECTORY",       "LOGS_DIRECTORY",    "CONFIGURATION_DIRECTORY",
    "INVOCATION_ID",         "JOURNAL_STREAM",    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_*",
};

static bool is_kept(const char *var)
{
    size_t n = strcspn(var, "=");

    for (size_t i = 0; i < ARRAY_LEN(KEPT); i++) {
        size_t length = strcspn(KEPT[i], "*");

        if (strncmp(var, KEPT[i], length) == 0 && (KEPT[i][length] || n == length))
            return true;
    }
    return false;
}

static void path_of(char *out, size_t size, const char *pid_file)
{
    snprintf(out, size, "%s.environment", pid_file);
}

static void pause_a_little(void)
{
    const struct timespec span = { 0, PAUSE_MS * 1000000L };

    nanosleep(&span, NULL);
    clock_stale();
}

/* ---- the command */

/* The directory may be the user's: what he puts in the FIFO's place is not given to him. */
static int give_to(const char *path, uid_t uid)
{
    int fd = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW), rc = -1;
    struct stat st;

    if (fd == -1)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1)
        rc = fchownat(fd, "", uid, (gid_t)-1, AT_EMPTY_PATH);
    else
        errno = EEXIST;
    close(fd);
    return rc;
}

int environment_offer(const char *pid_file, uid_t uid, struct err *e)
{
    char path[PATH_BYTES];

    if (geteuid() != 0 && geteuid() != uid)
        return err_set(e, ERR_SYSTEM, "only root and the user of the master may do this");
    path_of(path, sizeof path, pid_file);
    unlink(path); /* of a command that was killed */
    if (mkfifo(path, 0600) == -1 || (uid != geteuid() && give_to(path, uid) == -1))
        return err_set_errno(e, "cannot make %s", path);
    return 0;
}

/* -1 when nobody reads within the time, or it is no FIFO any more. */
static int open_for_reader(const char *path)
{
    int64_t end_ms = clock_mono_ms() + TIMEOUT_MS;
    struct stat st;
    int fd;

    while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)) == -1) {
        if (errno != ENXIO || clock_mono_ms() > end_ms)
            return -1;
        pause_a_little();
    }
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
        return fd;
    close(fd);
    return -1;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        struct pollfd ready = { .fd = fd, .events = POLLOUT };
        ssize_t sent;

        if (poll(&ready, 1, TIMEOUT_MS) <= 0)
            return -1;
        sent = write(fd, p, n);
        if (sent == -1 && errno != EAGAIN && errno != EINTR)
            return -1;
        p += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

/* The last of them is empty: so the reader sees that none is missing. */
static int write_vars(int fd)
{
    int rc = 0;

    for (char **p = environ; *p && rc == 0; p++)
        if (**p)
            rc = write_all(fd, *p, strlen(*p) + 1);
    return rc == 0 ? write_all(fd, "", 1) : rc;
}

int environment_send(const char *pid_file, struct err *e)
{
    void (*old)(int) = signal(SIGPIPE, SIG_IGN);
    char path[PATH_BYTES];
    int fd, rc;

    path_of(path, sizeof path, pid_file);
    fd = open_for_reader(path);
    rc = fd != -1 && write_vars(fd) == 0
             ? 0
             : err_set(e, ERR_TIMEOUT, "the environment was not taken over");
    if (fd != -1)
        close(fd);
    unlink(path);
    signal(SIGPIPE, old);
    return rc;
}

/* ---- the master */

/* Only root and this process's own user can have made it so. */
static int open_offer(const char *pid_file, struct err *e)
{
    char path[PATH_BYTES];
    struct stat st;
    int fd;

    path_of(path, sizeof path, pid_file);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd == -1)
        return err_set_errno(e, "cannot open %s", path);
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_uid == geteuid())
        return fd;
    close(fd);
    return err_set(e, ERR_CONFIG, "%s was not made by the command weir upgrade", path);
}

static bool is_whole(const struct buf *text)
{
    return text->n > 0 && text->p[text->n - 1] == '\0' &&
           (text->n == 1 || text->p[text->n - 2] == '\0');
}

/* An end is that nobody writes yet, or that who wrote has gone: POLLHUP. */
static int read_text(struct buf *out, int fd, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + TIMEOUT_MS;

    while (!is_whole(out)) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        ssize_t n;

        poll(&ready, 1, PAUSE_MS);
        clock_stale();
        n = read(fd, out->p + out->n, TEXT_MAX_BYTES - out->n);
        if (n == -1 && errno != EAGAIN && errno != EINTR)
            return err_set_errno(e, "cannot read the environment of the command");
        out->n += n > 0 ? (size_t)n : 0;
        if (out->n == TEXT_MAX_BYTES)
            return err_set(e, ERR_BOUND, "the environment is larger than %d bytes", TEXT_MAX_BYTES);
        if ((n == 0 && ready.revents & POLLHUP) || clock_mono_ms() > end_ms)
            return err_set(e, ERR_CLOSED, "the command did not send its environment");
    }
    return 0;
}

static size_t count_vars(const struct buf *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->n; i++)
        n += text->p[i] == '\0';
    for (char **p = environ; *p; p++)
        n++;
    return n;
}

static void collect(struct environment *env)
{
    size_t n = 0;

    env->vars = xcalloc(count_vars(&env->text) + 1, sizeof *env->vars);
    for (size_t i = 0; i < env->text.n; i += strlen(env->text.p + i) + 1)
        if (strchr(env->text.p + i, '=') && !is_kept(env->text.p + i))
            env->vars[n++] = env->text.p + i;
    for (char **p = environ; *p; p++)
        if (is_kept(*p))
            env->vars[n++] = *p;
}

int environment_take(struct environment *out, const char *pid_file, struct err *e)
{
    int fd = open_offer(pid_file, e), rc;

    *out = (struct environment){ .text = { .max_bytes = 0 } };
    if (fd < 0)
        return fd;
    must(buf_reserve(&out->text, TEXT_MAX_BYTES)); /* it does not move: it is wiped */
    rc = read_text(&out->text, fd, e);
    close(fd);
    if (rc == 0)
        collect(out);
    else
        environment_free(out);
    return rc;
}

void environment_free(struct environment *env)
{
    buf_wipe(&env->text);
    free(env->vars);
    env->vars = NULL;
}
