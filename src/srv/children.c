/*
 * See children.h. A worker is a fork of the master without exec: it has the
 * configuration that the master had then. One that dies comes back at once,
 * or, if it lived for less than a second or never got ready, after a pause that doubles.
 */
#define _GNU_SOURCE /* pipe2 */
#include "srv/children.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/owner.h"
#include "srv/instance.h"
#include "srv/notify.h"
#include "srv/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAST_DEATH_MS 1000
#define RESPAWN_MAX_MS 30000
#define ABORT_GRACE_MS 1000

static int worker_set_up(struct master *m, const struct generation *g, pid_t parent, struct err *e)
{
    /* As root still: after this the worker can only reopen what it owns. */
    int rc = log_open(g->conf->error_log, g->conf->log_level, e);

    return rc == 0 ? identity_assume(&m->workers, parent, e) : rc;
}

static NORETURN void run_worker(struct master *m, const struct generation *g, unsigned number,
                                int notify_fd, pid_t parent)
{
    int *fds = xcalloc(g->listeners.n, sizeof *fds);
    const struct worker_args args = {
        .conf = g->conf,
        .shared = &m->shared,
        .listen_fds = fds,
        .listen_count = g->listeners.n,
        .number = number,
        .generation = g->number,
        .notify_fd = notify_fd,
        .master = parent,
    };
    char name[32];
    struct err e;

    instance_leave(m);
    if (m->current && m->current != g) /* what the other generation listens on */
        listeners_drop(&m->current->listeners, &g->listeners, false);
    if (m->reload.next && m->reload.next != g)
        listeners_drop(&m->reload.next->listeners, &g->listeners, false);
    listeners_drop(&m->upgrade.inherited, NULL, false);
    for (size_t i = 0; i < g->listeners.n; i++)
        fds[i] = g->listeners.items[i].fd;
    snprintf(name, sizeof name, "worker %u", number);
    log_set_name(name);
    snprintf(name, sizeof name, "weir-worker-%u", number);
    prctl(PR_SET_NAME, name);
    if (worker_set_up(m, g, parent, &e) != 0) {
        notify_failed(notify_fd, e.text);
        exit(1);
    }
    exit(worker_main(&args));
}

int child_spawn(struct master *m, const struct generation *g, unsigned number, struct err *e)
{
    pid_t pid, parent = getpid();
    struct child *c;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) == -1)
        return err_set_errno(e, "cannot make a pipe");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        run_worker(m, g, number, fds[1], parent);
    }
    close(fds[1]);
    if (pid == -1) {
        close(fds[0]);
        return err_set_errno(e, "cannot start worker %u", number);
    }
    c = xcalloc(1, sizeof *c);
    c->pid = pid;
    c->number = number;
    c->generation = g->number;
    c->notify_fd = fds[0];
    c->started_mono_ms = clock_mono_ms();
    TAILQ_INSERT_TAIL(&m->children, c, link);
    return 0;
}

struct child *child_find(struct master *m, pid_t pid)
{
    struct child *c;

    TAILQ_FOREACH (c, &m->children, link)
        if (c->pid == pid)
            return c;
    return NULL;
}

static void close_notify(struct child *c)
{
    if (c->notify_fd != -1)
        close(c->notify_fd);
    c->notify_fd = -1;
}

static bool is_of(const struct child *c, const struct generation *g)
{
    return g && c->generation == g->number;
}

static void fail_next(struct master *m, const struct child *c, const char *why)
{
    struct err e;

    err_set(&e, ERR_CONFIG, "worker %u: %s", c->number, why);
    m->reload.on_worker_failed(m, e.text);
}

/* It said why, or died without a word; the process may be there still. */
static void on_failed_start(struct master *m, struct child *c, const struct err *e)
{
    close_notify(c);
    if (is_of(c, m->reload.next)) {
        fail_next(m, c, e->text);
        c->state = CHILD_STOPPING;
        return;
    }
    log_error("worker %u (pid %d) cannot start: %s", c->number, (int)c->pid, e->text);
}

void child_on_notify(struct master *m, struct child *c)
{
    struct err e;
    int rc = notify_read(c->notify_fd, &e);

    if (rc == 0 || c->state != CHILD_STARTING)
        return;
    if (rc < 0) {
        on_failed_start(m, c, &e);
        return;
    }
    close_notify(c);
    c->state = CHILD_READY;
    c->ready_mono_ms = clock_mono_ms();
    if (c->reopen_when_ready)
        kill(c->pid, SIGUSR1);
    if (is_of(c, m->reload.next))
        m->reload.on_worker_ready(m);
}

static void log_death(const struct child *c, int status)
{
    if (WIFSIGNALED(status))
        log_error("worker %u (pid %d) died by signal %d (%s)", c->number, (int)c->pid,
                  WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_error("worker %u (pid %d) ended unbidden with status %d", c->number, (int)c->pid,
                  WEXITSTATUS(status));
}

static void plan_respawn(struct master *m, const struct child *c)
{
    struct respawn *r = &m->respawns[c->number];
    int64_t now = clock_mono_ms(), pause = 0;

    if (c->state == CHILD_READY && now - c->started_mono_ms >= FAST_DEATH_MS) {
        r->fast_deaths = 0;
    } else {
        unsigned doublings = r->fast_deaths < 5 ? r->fast_deaths : 5;

        r->fast_deaths++;
        pause = INT64_C(1000) << doublings;
        if (pause > RESPAWN_MAX_MS)
            pause = RESPAWN_MAX_MS;
        log_warn("worker %u %s, it comes back in %lld s", c->number,
                 c->state == CHILD_READY ? "lived less than a second" : "did not get ready",
                 (long long)pause / 1000);
    }
    r->due_mono_ms = now + pause + (pause == 0); /* 0 says "not due" */
}

void child_on_exit(struct master *m, struct child *c, int status)
{
    TAILQ_REMOVE(&m->children, c, link); /* first: its pid may be another's now */
    c->reopen_when_ready = false;
    if (c->notify_fd != -1)
        child_on_notify(m, c); /* its last words may not have been read */
    if (c->state != CHILD_STOPPING) {
        log_death(c, status);
        if (is_of(c, m->reload.next))
            fail_next(m, c, "died before the others were ready");
        else if (is_of(c, m->current) && m->stop == STOP_NOT)
            plan_respawn(m, c);
    } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM && WTERMSIG(status) != SIGQUIT &&
               WTERMSIG(status) != SIGKILL) {
        log_death(c, status);
    }
    close_notify(c);
    free(c);
    stats_sweep(m->shared.stats);
}

void children_stop(struct master *m, uint32_t generation, int sig, int64_t grace_ms)
{
    struct child *c;

    TAILQ_FOREACH (c, &m->children, link) {
        int64_t kill_at = clock_mono_ms() + grace_ms;

        if (generation && c->generation != generation)
            continue;
        c->state = CHILD_STOPPING;
        c->drains = sig == SIGQUIT;
        if (!c->kill_at_mono_ms || c->kill_at_mono_ms > kill_at)
            c->kill_at_mono_ms = kill_at;
        kill(c->pid, sig);
    }
}

unsigned children_ready(const struct master *m, uint32_t generation)
{
    const struct child *c;
    unsigned n = 0;

    TAILQ_FOREACH (c, &m->children, link)
        n += c->generation == generation && c->state == CHILD_READY;
    return n;
}

void children_reopen_logs(struct master *m)
{
    struct child *c;

    TAILQ_FOREACH (c, &m->children, link) {
        if (c->state == CHILD_STARTING)
            c->reopen_when_ready = true; /* it has no handler yet */
        else
            kill(c->pid, SIGUSR1);
    }
}

/* NULL: it has none yet, or none any more. */
static const struct stats_worker *figures_of(const struct master *m, pid_t pid)
{
    const struct stats_worker *w;
    unsigned at = 0;

    while ((w = stats_next(m->shared.stats, &at)) != NULL)
        if (owner_pid(w->owner) == pid)
            return w;
    return NULL;
}

bool children_accept(const struct master *m, uint32_t generation)
{
    const struct child *c;

    TAILQ_FOREACH (c, &m->children, link) {
        const struct stats_worker *w = c->generation == generation ? figures_of(m, c->pid) : NULL;

        if (w && !__atomic_load_n(&w->draining, __ATOMIC_ACQUIRE))
            return true;
    }
    return false;
}

static void check_heartbeat(struct master *m, struct child *c, int64_t now_ms)
{
    const struct stats_worker *w = figures_of(m, c->pid);
    int64_t beat_ms = w ? __atomic_load_n(&w->beat_mono_ms, __ATOMIC_RELAXED) : 0;
    int64_t silent_ms = now_ms - (beat_ms > c->ready_mono_ms ? beat_ms : c->ready_mono_ms);

    if (silent_ms <= m->current->conf->heartbeat_timeout_ms || c->kill_at_mono_ms)
        return;
    log_error("worker %u (pid %d) has stood still for %lld ms (heartbeat_timeout): killing it",
              c->number, (int)c->pid, (long long)silent_ms);
    kill(c->pid, SIGABRT);
    c->kill_at_mono_ms = now_ms + ABORT_GRACE_MS;
}

/* It is lost while a plugin's os.execute runs. */
static void repeat_order(const struct master *m, const struct child *c)
{
    const struct stats_worker *w = c->drains ? figures_of(m, c->pid) : NULL;

    if (w && !__atomic_load_n(&w->draining, __ATOMIC_ACQUIRE))
        kill(c->pid, SIGQUIT);
}

static void kill_when_due(struct child *c, int64_t now_ms)
{
    if (!c->kill_at_mono_ms || now_ms < c->kill_at_mono_ms)
        return;
    if (c->state == CHILD_STOPPING)
        log_warn("worker %u (pid %d) did not stop in time: killing it", c->number, (int)c->pid);
    kill(c->pid, SIGKILL);
    c->kill_at_mono_ms = now_ms + ABORT_GRACE_MS;
}

static void respawn_when_due(struct master *m, unsigned number, int64_t now_ms)
{
    struct respawn *r = &m->respawns[number];
    struct err e;

    if (!r->due_mono_ms || now_ms < r->due_mono_ms)
        return;
    r->due_mono_ms = 0;
    if (child_spawn(m, m->current, number, &e) == 0)
        return;
    log_error("%s", e.text);
    r->due_mono_ms = now_ms + FAST_DEATH_MS;
}

/* When all of weir has stood still: a container may be paused, a machine may sleep. */
static void forgive_pause(struct master *m, int64_t now_ms)
{
    int64_t last_ms = m->looked_mono_ms;
    struct child *c;

    m->looked_mono_ms = now_ms;
    if (!m->current || now_ms - last_ms < m->current->conf->heartbeat_timeout_ms / 2)
        return;
    TAILQ_FOREACH (c, &m->children, link)
        c->ready_mono_ms = now_ms;
}

void children_tick(struct master *m, int64_t now_ms)
{
    struct child *c;

    forgive_pause(m, now_ms);
    TAILQ_FOREACH (c, &m->children, link) {
        if (c->state == CHILD_READY && m->current)
            check_heartbeat(m, c, now_ms);
        repeat_order(m, c);
        kill_when_due(c, now_ms);
    }
    if (m->stop != STOP_NOT || !m->current)
        return;
    for (unsigned i = 1; i <= (unsigned)m->current->conf->workers; i++)
        respawn_when_due(m, i, now_ms);
}

void children_forget_deaths(struct master *m)
{
    memset(m->respawns, 0, sizeof m->respawns);
}
