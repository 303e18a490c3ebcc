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

#define ANSWER_MAX_BYTES (8 << 20)
#define POLL_MS 200

/* ---- the process */

static int ask(const struct conf *rest, const struct conf_references *references, pid_t parent,
               struct buf *answer, struct err *e)
{
    static char name[] = "references";
    struct vm_args args = { .conf = rest, .loop = loop_new(), .answer = answer };
    char *argv[REFERENCES_MAX + 1] = { name };
    const struct conf_reference *r;
    struct identity workers;
    int argc = 1, rc;

    STAILQ_FOREACH (r, references, link)
        argv[argc++] = (char *)r->text.p;
    rc = identity_of_workers(rest, &workers, e);
    if (rc == 0)
        rc = identity_assume(&workers, parent, e); /* and ends with its parent */
    if (rc == 0)
        rc = lua_command(&args, argc, argv, e);
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

NORETURN void references_answer(const struct conf *rest, const struct conf_references *references,
                                int fd, pid_t parent)
{
    struct buf answer = { .max_bytes = ANSWER_MAX_BYTES };
    sigset_t none;
    struct err e;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    alarm(REFERENCES_TIMEOUT_MS / 1000 + 1); /* should nobody be there who kills it */
    log_set_name("references");
    log_set_level(LOG_CRIT); /* what is not found is told by those who asked */
    if (ask(rest, references, parent, &answer, &e) != 0) {
        write_all(fd, "f", 1);
        write_all(fd, e.text, strlen(e.text));
        _exit(1);
    }
    write_all(fd, answer.p, answer.n);
    _exit(0);
}

/* ---- who asks */

int references_read(int fd, struct buf *answer, struct err *e)
{
    ssize_t n;

    if (!answer->p)
        must(buf_reserve(answer, ANSWER_MAX_BYTES)); /* it does not move: it is wiped */
    do {
        n = read(fd, answer->p + answer->n, ANSWER_MAX_BYTES - answer->n);
        answer->n += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n == -1 && errno == EINTR));
    if (n == 0)
        return 1;
    return errno == EAGAIN ? 0 : err_set_errno(e, "cannot read");
}

static int wait_for_answer(int fd, struct buf *answer, struct err *e)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int64_t end_ms = clock_mono_ms() + REFERENCES_TIMEOUT_MS;
    int rc;

    while ((rc = references_read(fd, answer, e)) == 0) {
        if (clock_mono_ms() > end_ms)
            return err_set(e, ERR_TIMEOUT, "not found within %d s", REFERENCES_TIMEOUT_MS / 1000);
        poll(&p, 1, POLL_MS);
        clock_stale();
        systemd_watchdog(); /* the master's, should it be the one that waits */
    }
    return rc < 0 ? rc : 0;
}

static int converse(const struct conf *rest, const struct conf_references *references,
                    struct buf *answer, struct err *e)
{
    pid_t pid, parent = getpid();
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC) == -1)
        return err_set_errno(e, "cannot make a pipe");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        references_answer(rest, references, fds[1], parent);
    }
    close(fds[1]);
    rc = pid == -1 ? err_set_errno(e, "cannot fork") : wait_for_answer(fds[0], answer, e);
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

static int take_values(struct conf_references *references, struct arena *arena, struct str rest,
                       struct err *e)
{
    struct conf_reference *r;
    struct str text;

    if (rest.n == 0)
        return err_set(e, ERR_CLOSED, "the process that looks it up died");
    if (*rest.p == 'f')
        return err_set(e, ERR_CONFIG, "%.*s", (int)rest.n - 1, rest.p + 1);
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

int references_take(struct conf_references *references, struct arena *arena, struct buf *answer,
                    struct err *e)
{
    int rc = take_values(references, arena, (struct str){ answer->p, answer->n }, e);

    buf_wipe(answer);
    return rc;
}

static int resolve(const struct conf *rest, struct conf_references *references, struct arena *arena,
                   struct err *e)
{
    struct buf answer = { .max_bytes = ANSWER_MAX_BYTES };
    int rc = converse(rest, references, &answer, e);

    if (rc == 0)
        return references_take(references, arena, &answer, e);
    buf_wipe(&answer);
    return rc;
}

void references_install(void)
{
    references_set_resolver(resolve);
}

/* It stays until the process ends: nobody here knows who asks for it, and when. */
static int put(const struct conf_reference *r, struct err *e)
{
    if (!r->value.p)
        return err_set(e, ERR_LUA, "%s", r->why);
    return secret_put(secret_from_text(r->text), r->value) == 0
               ? 0
               : err_set(e, ERR_BOUND, "it is too long");
}

int references_put_secret(const struct conf *conf, enum conf_key_index key, struct err *e)
{
    struct conf_reference r = { .text = str_from(conf->values[key].text) };
    struct conf_references one = STAILQ_HEAD_INITIALIZER(one);
    struct arena arena;
    struct err reason;
    int rc;

    must(CONF_TABLE[key].kind == CONF_SECRET);
    if (!references_are_in(conf, key))
        return 0;
    STAILQ_INSERT_TAIL(&one, &r, link);
    arena_init(&arena, 1024);
    rc = resolve(conf, &one, &arena, &reason);
    if (rc == 0)
        rc = put(&r, &reason);
    if (rc == ERR_CONFIG) /* it says by itself where the mistake is */
        *e = reason;
    else if (rc != 0)
        rc = conf_refuse(conf, key, e, "%s: %s", r.text.p, reason.text);
    arena_wipe(&arena);
    arena_fini(&arena);
    return rc;
}
