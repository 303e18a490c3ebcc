/*
 * See reload.h. IDLE -> LOOKING_UP (a throw-away process asks vaults, if weir.conf has references)
 * -> CHECKING (another one loads the plugins and
 * the declarative configuration in a Lua state of its own, out of a snapshot of
 * the files that it takes and leaves for the workers) -> STARTING (the workers
 * of the next generation) -> RETIRING (until the old ones take no connections any
 * more: whoever waits for a reload may rely on it) -> IDLE. Counters and old workers are
 * not touched before the last step.
 */
#define _GNU_SOURCE /* pipe2 */
#include "srv/reload.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/references.h"
#include "conf/snapshot.h"
#include "srv/children.h"
#include "srv/instance.h"
#include "srv/notify.h"
#include "srv/references.h"
#include "srv/setup.h"
#include "srv/upgrade.h"
#include "srv/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a trial and of workers that do not end themselves, which they do 5 s before. */
#define CHECK_TIMEOUT_MS 65000
#define START_TIMEOUT_MS 35000 /* the messages say both */
#define STOP_GRACE_MS 5000     /* over what a worker grants itself */
#define RETIRE_TIMEOUT_MS 2000 /* of workers that stand still */

static void drop_next(struct master *m)
{
    struct generation *g = m->reload.next;

    m->reload.next = NULL;
    m->reload.step = RELOAD_IDLE;
    if (m->reload.check_pid)
        kill(m->reload.check_pid, SIGKILL);
    if (m->reload.check_fd != -1)
        close(m->reload.check_fd);
    m->reload.check_fd = -1;
    buf_wipe(&m->reload.answer);
    if (!g)
        return;
    children_stop(m, g->number, SIGTERM, STOP_GRACE_MS);
    /* A new binary that cannot start has got its sockets from one that goes on. */
    listeners_drop(&g->listeners, m->current ? &m->current->listeners : NULL,
                   !m->upgrade.old_master);
    conf_free(g->conf);
    free(g);
}

void reload_cancel(struct master *m)
{
    m->reload.again = false;
    drop_next(m);
}

void reload_postpone(struct master *m)
{
    if (!m->current || m->reload.step == RELOAD_IDLE || m->reload.step == RELOAD_RETIRING)
        return;
    drop_next(m);
    m->reload.again = true;
}

/* `weir reload` reads this; another SIGHUP may have come meanwhile. */
static void finish(struct master *m, bool good, const char *text)
{
    m->state.reloads_done = m->state.reloads_begun;
    m->state.reload_good = good;
    snprintf(m->state.reload_text, sizeof m->state.reload_text, "%s", text);
    instance_write_state(m);
    systemd_ready(good ? text : "the last reload failed, the old configuration stays");
    if (m->reload.again && !m->upgrade.new_master)
        kill(getpid(), SIGHUP);
}

/* Gives the next generation up: logged once, told to `weir reload`. */
static void fail(struct master *m, const char *why)
{
    drop_next(m);
    if (!m->current) { /* the first start: the top floor says it */
        err_set(&m->start_error, ERR_CONFIG, "%s", why);
        return;
    }
    log_error("reload failed, the old configuration stays: %s", why);
    finish(m, false, why);
}

static void retire(struct master *m, struct generation *old)
{
    /* the names first: what has connected by then is what the old workers find in the queue */
    listeners_drop(&old->listeners, &m->current->listeners, true);
    children_stop(m, old->number, SIGQUIT, old->conf->drain_timeout_ms + STOP_GRACE_MS);
    conf_free(old->conf);
    free(old);
}

static void announce(struct master *m)
{
    char text[160];

    m->reload.step = RELOAD_IDLE;
    snprintf(text, sizeof text, "generation %u serves with %lld workers", m->current->number,
             (long long)m->current->conf->workers);
    log_notice("%s", text);
    finish(m, true, text);
    notify_ready(m->options.daemon_fd);
    m->options.daemon_fd = -1;
}

static void commit(struct master *m)
{
    struct generation *old = m->current;
    struct err e;

    m->current = m->reload.next;
    m->reload.next = NULL;
    m->reload.step = RELOAD_RETIRING;
    m->reload.deadline_mono_ms = clock_mono_ms() + RETIRE_TIMEOUT_MS;
    children_forget_deaths(m);
    if (log_open(m->current->conf->error_log, m->current->conf->log_level, &e) != 0)
        log_error("%s", e.text);
    if (old)
        retire(m, old);
    else
        upgrade_finish(m);
    reload_tick(m, clock_mono_ms());
}

static void on_worker_ready(struct master *m)
{
    const struct generation *g = m->reload.next;

    if (m->reload.step == RELOAD_STARTING &&
        children_ready(m, g->number) == (unsigned)g->conf->workers)
        commit(m);
}

static void start_workers(struct master *m)
{
    struct generation *g = m->reload.next;
    struct err e;

    m->reload.step = RELOAD_STARTING;
    m->reload.on_worker_ready = on_worker_ready;
    m->reload.on_worker_failed = fail;
    m->reload.deadline_mono_ms = clock_mono_ms() + START_TIMEOUT_MS;
    setup_raise_file_limit(g->conf);
    for (unsigned i = 1; i <= (unsigned)g->conf->workers; i++) {
        if (child_spawn(m, g, i, &e) != 0) {
            fail(m, e.text);
            return;
        }
    }
}

/*
 * Forks a throw-away process, in which run is called and does not return: what it has to say comes
 * on check_fd.
 */
static int begin_process(struct master *m, void (*run)(struct master *m, int fd, pid_t parent),
                         enum reload_step step, int64_t timeout_ms, struct err *e)
{
    pid_t pid, parent = getpid();
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) == -1)
        return err_set_errno(e, "cannot make a pipe");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        instance_leave(m);
        if (m->current)
            listeners_drop(&m->current->listeners, NULL, false);
        listeners_drop(&m->upgrade.inherited, NULL, false);
        run(m, fds[1], parent);
    }
    close(fds[1]);
    if (pid == -1) {
        close(fds[0]);
        return err_set_errno(e, "cannot fork");
    }
    m->reload.check_pid = pid;
    m->reload.check_fd = fds[0];
    m->reload.deadline_mono_ms = clock_mono_ms() + timeout_ms;
    m->reload.step = step;
    return 0;
}

static void run_check(struct master *m, int fd, pid_t parent)
{
    struct err e;

    log_set_name("check");
    worker_bound_check(fd);
    if (identity_assume(&m->workers, parent, &e) != 0 ||
        worker_check(m->reload.next->conf, NULL, &e) != 0) {
        notify_failed(fd, e.text);
        _exit(1);
    }
    notify_ready(fd);
    _exit(0);
}

static int begin_check(struct master *m, struct err *e)
{
    if (snapshot_new(&m->reload.next->conf->snapshot, e) != 0)
        return ERR_SYSTEM;
    return begin_process(m, run_check, RELOAD_CHECKING, CHECK_TIMEOUT_MS, e);
}

static void run_look_up(struct master *m, int fd, pid_t parent)
{
    struct conf *conf = m->reload.next->conf, *rest;
    struct err e;

    if (conf_without_references(conf, &rest, m->current->conf, &e) != 0)
        _exit(1); /* what is wrong comes to light without it too */
    references_answer(rest, &conf->references, fd, parent);
}

/* What references stand for is known, or why it is not. */
static int begin_check_of(struct master *m, struct conf *conf, struct err *e)
{
    int rc = setup_finish_conf(conf, &m->options, m->current->conf, e);

    if (rc == 0 && conf->kept_key)
        log_warn("%s has changed, it and other keys that are read at a start only keep their "
                 "value until weir is restarted",
                 conf->kept_key);
    return rc == 0 ? begin_check(m, e) : rc;
}

static void on_looked_up(struct master *m, int rc, const struct err *reason)
{
    struct conf *conf = m->reload.next->conf;
    struct err e;

    if (references_looked_up(conf, rc, reason, &e) != 0 || begin_check_of(m, conf, &e) != 0)
        fail(m, e.text);
}

int reload_begin_first(struct master *m, struct conf *conf, uint32_t number, struct err *e)
{
    int rc;

    m->reload.next = xcalloc(1, sizeof *m->reload.next);
    m->reload.next->number = number;
    m->reload.next->conf = conf;
    rc = begin_check(m, e);
    if (rc != 0)
        drop_next(m);
    return rc;
}

void reload_begin(struct master *m)
{
    struct conf *conf;
    struct err e;
    int rc;

    if (m->stop != STOP_NOT || m->start_error.code)
        return;
    if (m->reload.step != RELOAD_IDLE || m->reload.check_pid || m->upgrade.new_master) {
        m->reload.again = true;
        return;
    }
    m->reload.again = false;
    m->state.reloads_begun++;
    instance_write_state(m);
    systemd_reloading();
    rc = setup_read_conf(&conf, &m->options, m->current->conf, &e);
    if (rc < 0) {
        fail(m, e.text);
        return;
    }
    m->reload.next = xcalloc(1, sizeof *m->reload.next);
    m->reload.next->conf = conf;
    m->reload.next->number = m->current->number + 1;
    if (rc > 0)
        rc = begin_process(m, run_look_up, RELOAD_LOOKING_UP, REFERENCES_TIMEOUT_MS, &e);
    else
        rc = begin_check_of(m, conf, &e);
    if (rc != 0)
        fail(m, e.text);
}

/* What the trial has found good becomes a generation. */
static int open_generation(struct master *m, struct generation *g, struct err *e)
{
    struct listeners *inherited = &m->upgrade.inherited;
    struct listeners *old = m->current ? &m->current->listeners : inherited;
    int rc = snapshot_seal(g->conf->snapshot, e);

    if (rc == 0)
        rc = listeners_open(&g->listeners, old, g->conf, &m->workers, e);
    if (rc == 0 && !m->current)
        listeners_forget(inherited, &g->listeners);
    if (rc == 0)
        rc = identity_own_logs(&m->workers, g->conf, e);
    return rc;
}

static void close_check(struct master *m)
{
    close(m->reload.check_fd);
    m->reload.check_fd = -1;
}

static void on_trial(struct master *m)
{
    struct generation *g = m->reload.next;
    struct err e;
    int rc = notify_read(m->reload.check_fd, &e);

    if (rc == 0)
        return;
    close_check(m);
    if (rc < 0) {
        fail(m, rc == ERR_CLOSED ? "the trial process died" : e.text);
        return;
    }
    if (open_generation(m, g, &e) != 0) {
        fail(m, e.text);
        return;
    }
    start_workers(m);
}

/* The end of the answer is taken when the process has gone: there is only one at a time. */
static void read_answer(struct master *m)
{
    struct err e;

    if (references_read(m->reload.check_fd, &m->reload.answer, &e) != 0)
        close_check(m);
}

void reload_on_check(struct master *m)
{
    if (m->reload.step == RELOAD_LOOKING_UP)
        read_answer(m);
    else
        on_trial(m);
}

static void take_answer(struct master *m)
{
    struct conf *conf = m->reload.next->conf;
    struct err e;
    int rc = references_take(&conf->references, &conf->arena, &m->reload.answer, &e);

    if (m->reload.check_fd != -1)
        close_check(m);
    on_looked_up(m, rc, &e);
}

void reload_on_check_exit(struct master *m)
{
    m->reload.check_pid = 0;
    if (m->reload.check_fd != -1)
        reload_on_check(m); /* its last words may not have been read */
    if (m->reload.step == RELOAD_LOOKING_UP)
        take_answer(m);
    else if (m->reload.step == RELOAD_IDLE && m->reload.again)
        kill(getpid(), SIGHUP);
}

static void on_deadline(struct master *m)
{
    struct err e;

    switch (m->reload.step) {
    case RELOAD_IDLE:
        return;
    case RELOAD_LOOKING_UP:
        err_set(&e, ERR_TIMEOUT, "not found within %d s", REFERENCES_TIMEOUT_MS / 1000);
        on_looked_up(m, e.code, &e);
        return;
    case RELOAD_CHECKING:
        fail(m, "loading took more than 65 s");
        return;
    case RELOAD_STARTING:
        fail(m, "not all workers were ready within 35 s");
        return;
    case RELOAD_RETIRING:
        announce(m);
        return;
    }
}

void reload_tick(struct master *m, int64_t now_ms)
{
    if (m->reload.step == RELOAD_RETIRING && !children_accept(m, m->current->number - 1))
        announce(m);
    if (now_ms >= m->reload.deadline_mono_ms)
        on_deadline(m);
}
