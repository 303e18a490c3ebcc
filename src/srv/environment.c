/*
 * See environment.h. Reads /proc/<pid>/environ, which only the process's own
 * user and root may. Refuses what is too large.
 */
#define _GNU_SOURCE /* environ, explicit_bzero */
#include "srv/environment.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX_BYTES (4 << 20)

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

static int open_environ(pid_t pid, uid_t uid, struct err *e)
{
    char path[40];
    struct stat st;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return err_set_errno(e, "cannot read the environment of pid %d", (int)pid);
    if (fstat(fd, &st) == 0 && st.st_uid == uid)
        return fd;
    close(fd);
    return err_set(e, ERR_CONFIG, "pid %d is not the command that asked", (int)pid);
}

static int read_text(struct buf *out, int fd, struct err *e)
{
    for (;;) {
        /* one more byte than may be, to see that there is more; room does not move: it is wiped */
        ssize_t n = read(fd, out->p + out->n, TEXT_MAX_BYTES + 1 - out->n);

        if (n == -1 && errno != EINTR)
            return err_set_errno(e, "cannot read an environment");
        if (n == 0)
            break;
        out->n += n > 0 ? (size_t)n : 0;
        if (out->n > TEXT_MAX_BYTES)
            return err_set(e, ERR_BOUND, "the environment is larger than %d bytes", TEXT_MAX_BYTES);
    }
    if (out->n > 0 && out->p[out->n - 1] != '\0') /* a process may write over it */
        return err_set(e, ERR_SYNTAX, "the environment cannot be read");
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

int environment_take(struct environment *out, pid_t pid, uid_t uid, struct err *e)
{
    int fd = open_environ(pid, uid, e), rc;

    *out = (struct environment){ .text = { .max_bytes = 0 } };
    if (fd < 0)
        return fd;
    must(buf_reserve(&out->text, TEXT_MAX_BYTES + 1));
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
    if (env->text.p)
        explicit_bzero(env->text.p, env->text.n);
    buf_free(&env->text);
    free(env->vars);
    env->vars = NULL;
}
