/*
 * See references.h. The process is forked, becomes the user of the workers, asks
 * lua/weir/cli/references.lua, and writes the answer into a pipe: for each
 * reference "v" or "e", a length, ":" and the value or why there is none; "x" in
 * the place of all, why none can be looked up. Owns no value: they go into the
 * arena of the configuration, or become secrets.
 */
#define _GNU_SOURCE /* pipe2 */
#include "srv/references.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "conf/references.h"
#include "ev/loop.h"
#include "lua/vm.h"
#include "srv/identity.h"
#include "srv/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 10000 /* weir.secret's own is shorter, and its messages say more */
#define ANSWER_MAX_BYTES (8 << 20)
#define POLL_MS 200

/* ---- the process */

/* What is asked, and by whom. */
struct question {
    const struct conf *conf;
    int argc;
    char **argv;
    pid_t parent;
};

static int ask(const struct question *q, struct buf *answer, struct err *e)
{
    struct vm_args args = { .conf = q->conf, .loop = loop_new(), .answer = answer };
    struct identity workers;
    int rc = identity_of_workers(q->conf, &workers, e);

    if (rc == 0)
        rc = identity_assume(&workers, q->parent, e); /* and ends with its parent */
    if (rc == 0)
        rc = lua_command(&args, q->argc, q->argv, e);
    return rc > 0 ? err_set(e, ERR_LUA, "the look-up failed; see the log") : rc;
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = write(fd, p, n);

        if (sent <= 0 && errno != EINTR)
            _exit(1);
        p += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
    }
}

static NORETURN void run(const struct question *q, int fd)
{
    struct buf answer = { .max_bytes = ANSWER_MAX_BYTES };
    sigset_t none;
    struct err e;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    alarm(TIMEOUT_MS / 1000 + 1); /* should nobody be there who kills it */
    log_set_name("references");
    log_set_level(LOG_CRIT); /* what is not found is told by those who asked */
    if (ask(q, &answer, &e) != 0) {
        write_all(fd, "f", 1);
        write_all(fd, e.text, strlen(e.text));
        _exit(1);
    }
    write_all(fd, answer.p, answer.n);
    _exit(0);
}

/* ---- who waits for it */

/* 1 the end was read, 0 not yet, or negative. */
static int read_some(int fd, struct buf *answer, struct err *e)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    ssize_t n;

    if (poll(&p, 1, POLL_MS) == -1 && errno != EINTR)
        return err_set_errno(e, "poll");
    if (!p.revents)
        return 0;
    n = read(fd, answer->p + answer->n, ANSWER_MAX_BYTES - answer->n);
    if (n == -1)
        return errno == EINTR || errno == EAGAIN ? 0 : err_set_errno(e, "cannot read");
    answer->n += (size_t)n;
    return n == 0;
}

static int read_answer(int fd, struct buf *answer, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + TIMEOUT_MS;
    int rc = 0;

    while (rc == 0) {
        rc = read_some(fd, answer, e);
        clock_stale();
        if (rc == 0 && clock_mono_ms() > end_ms)
            return err_set(e, ERR_TIMEOUT, "not found within %d s", TIMEOUT_MS / 1000);
        systemd_watchdog(); /* the master's, should it be the one that waits */
    }
    if (rc < 0)
        return rc;
    if (answer->n == 0)
        return err_set(e, ERR_CLOSED, "the process that looks it up died");
    if (*answer->p == 'f')
        return err_set(e, ERR_CONFIG, "%.*s", (int)answer->n - 1, answer->p + 1);
    return 0;
}

static int converse(const struct conf *conf, int argc, char **argv, struct buf *answer,
                    struct err *e)
{
    const struct question q = { conf, argc, argv, getpid() };
    int fds[2], rc;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) == -1)
        return err_set_errno(e, "cannot make a pipe");
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        run(&q, fds[1]);
    }
    close(fds[1]);
    rc = pid == -1 ? err_set_errno(e, "cannot fork") : read_answer(fds[0], answer, e);
    close(fds[0]);
    if (pid != -1) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
            ;
    }
    return rc;
}

/* Takes a frame off the front: 'v', 'e' or 'x', or -1 when there is none. */
static int take_frame(struct str *rest, struct str *out)
{
    const char *colon = rest->n ? memchr(rest->p, ':', rest->n) : NULL;
    int kind = rest->n ? *rest->p : 0;
    uint64_t n;

    if (!colon || !kind || !strchr("vex", kind) ||
        str_to_u64((struct str){ rest->p + 1, (size_t)(colon - rest->p) - 1 }, ANSWER_MAX_BYTES,
                   &n) != 0 ||
        n > (size_t)(rest->p + rest->n - colon) - 1)
        return -1;
    *out = (struct str){ colon + 1, (size_t)n };
    *rest = (struct str){ out->p + n, (size_t)(rest->p + rest->n - out->p) - (size_t)n };
    return kind;
}

/* ---- for weir.conf */

static int take_values(struct conf_references *references, struct arena *arena, struct str rest,
                       struct err *e)
{
    struct conf_reference *r;
    struct str text;

    STAILQ_FOREACH (r, references, link) {
        int kind = take_frame(&rest, &text);

        if (kind < 0)
            return err_set(e, ERR_LUA, "the answer cannot be read");
        if (kind == 'x')
            return err_set(e, ERR_CONFIG, "%.*s", STR_ARG(text));
        if (kind == 'v')
            r->value = arena_str(arena, text);
        else
            r->why = arena_str(arena, text).p;
    }
    return 0;
}

static int resolve(const struct conf *rest, struct conf_references *references, struct arena *arena,
                   struct err *e)
{
    static char name[] = "references";
    char *argv[REFERENCES_MAX + 1] = { name };
    struct buf answer = { .max_bytes = ANSWER_MAX_BYTES };
    struct conf_reference *r;
    int argc = 1, rc;

    STAILQ_FOREACH (r, references, link)
        argv[argc++] = (char *)r->text.p;
    must(buf_reserve(&answer, ANSWER_MAX_BYTES)); /* it does not move: it is wiped */
    rc = converse(rest, argc, argv, &answer, e);
    if (rc == 0)
        rc = take_values(references, arena, (struct str){ answer.p, answer.n }, e);
    buf_wipe(&answer);
    return rc;
}

void references_install(void)
{
    references_set_resolver(resolve);
}

/* ---- for secrets */

/* It stays until the process ends: nobody here knows who asks for it, and when. */
static int put(const struct conf *conf, enum conf_key_index key, struct str rest, struct err *e)
{
    const char *name = conf->values[key].text;
    struct str text = STR("the answer cannot be read");
    int kind = take_frame(&rest, &text);

    if (kind == 'v')
        return secret_put(secret_from_text(str_from(name)), text) == 0
                   ? 0
                   : conf_refuse(conf, key, e, "%s: it is too long", name);
    if (kind == 'x')
        return err_set(e, ERR_CONFIG, "%.*s", STR_ARG(text));
    return conf_refuse(conf, key, e, "%s: %.*s", name, STR_ARG(text));
}

int references_put_secret(const struct conf *conf, enum conf_key_index key, struct err *e)
{
    static char command[] = "references";
    char *argv[] = { command, (char *)conf->values[key].text };
    struct buf answer = { .max_bytes = ANSWER_MAX_BYTES };
    struct err reason;
    int rc;

    must(CONF_TABLE[key].kind == CONF_SECRET);
    if (!references_are_in(conf, key))
        return 0;
    must(buf_reserve(&answer, ANSWER_MAX_BYTES));
    rc = converse(conf, ARRAY_LEN(argv), argv, &answer, &reason);
    if (rc == 0)
        rc = put(conf, key, (struct str){ answer.p, answer.n }, e);
    else
        rc = conf_refuse(conf, key, e, "%s: %s", argv[1], reason.text);
    buf_wipe(&answer);
    return rc;
}
