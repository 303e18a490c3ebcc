/*
 * See master.h. One loop over a signalfd and the pipes of workers that start;
 * everything else is time.
 */
#include "srv/master.h"
#include "base/clock.h"
#include "base/log.h"
#include "srv/children.h"
#include "srv/notify.h"
#include "srv/reload.h"
#include "srv/start.h"
#include "srv/upgrade.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_FAST_MS 5000
#define STOP_GRACE_MS 5000
#define TICK_MAX_MS 500
#define RETIRING_TICK_MS 5
#define FDS_MAX (2 + 2 * WORKERS_MAX)

/* A second call may only make it faster. */
static void stop(struct master *m, enum master_stop how)
{
    struct generation *g = m->current;
    int sig = how == STOP_FAST ? SIGTERM : SIGQUIT;
    int64_t grace_ms =
        how == STOP_FAST ? STOP_FAST_MS : (g ? g->conf->drain_timeout_ms : 0) + STOP_GRACE_MS;

    if (how <= m->stop)
        return;
    if (!m->upgrade.handed_over)
        systemd_stopping();
    m->stop = how;
    reload_cancel(m);
    /* Nobody may connect to a socket that is not accepted from any more. */
    if (g)
        listeners_drop(&g->listeners, NULL, !m->upgrade.handed_over);
    children_stop(m, 0, sig, grace_ms);
    upgrade_stop(m, sig, grace_ms);
}

static void reopen_logs(struct master *m)
{
    struct err e;

    if (!m->current)
        return;
    if (identity_own_logs(&m->workers, m->current->conf, &e) != 0)
        log_error("%s", e.text);
    log_reopen();
    if (!m->options.foreground)
        dup2(log_fd(), STDERR_FILENO);
    children_reopen_logs(m);
    log_notice("logs opened again");
}

static void reap(struct master *m)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *c = child_find(m, pid);

        if (c)
            child_on_exit(m, c, status);
        else if (pid == m->reload.check_pid)
            reload_on_check_exit(m);
        else if (pid == m->upgrade.new_master)
            upgrade_on_exit(m, status);
    }
}

static void on_signal(struct master *m, const struct signalfd_siginfo *info)
{
    switch (info->ssi_signo) {
    case SIGCHLD:
        reap(m);
        return;
    case SIGHUP:
        reload_begin(m);
        return;
    case SIGUSR1:
        reopen_logs(m);
        return;
    case SIGUSR2:
        reload_postpone(m);
        upgrade_begin(m, info->ssi_code == SI_QUEUE && info->ssi_int == UPGRADE_WITH_ENVIRONMENT);
        return;
    case SIGQUIT:
        if (m->upgrade.new_master && info->ssi_pid == (uint32_t)m->upgrade.new_master) {
            upgrade_hand_over(m);
            stop(m, STOP_GRACEFUL);
            return;
        }
        log_notice("stopping gracefully");
        stop(m, STOP_GRACEFUL);
        return;
    default:
        log_notice("stopping");
        stop(m, STOP_FAST);
        return;
    }
}

static void read_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        on_signal(m, &info);
}

static int tick_ms(const struct master *m)
{
    int64_t ms = m->reload.step == RELOAD_RETIRING ? RETIRING_TICK_MS : TICK_MAX_MS;

    if (m->current && m->current->conf->heartbeat_timeout_ms / 4 < ms)
        ms = m->current->conf->heartbeat_timeout_ms / 4;
    if (systemd_watchdog_ms() > 0 && systemd_watchdog_ms() < ms)
        ms = systemd_watchdog_ms();
    for (unsigned i = 1; i <= WORKERS_MAX; i++)
        if (m->respawns[i].due_mono_ms && m->respawns[i].due_mono_ms - clock_mono_ms() < ms)
            ms = m->respawns[i].due_mono_ms - clock_mono_ms();
    return ms < 0 ? 0 : (int)ms;
}

static nfds_t watched(const struct master *m, struct pollfd *fds)
{
    const struct child *c;
    nfds_t n = 0;

    fds[n++] = (struct pollfd){ .fd = m->signal_fd, .events = POLLIN };
    fds[n++] = (struct pollfd){ .fd = m->reload.check_fd, .events = POLLIN };
    TAILQ_FOREACH (c, &m->children, link)
        if (c->notify_fd != -1 && c->state == CHILD_STARTING && n < FDS_MAX)
            fds[n++] = (struct pollfd){ .fd = c->notify_fd, .events = POLLIN };
    return n;
}

/* A call may change the list: each is looked up by its descriptor. */
static void read_notifications(struct master *m, const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 2; i < n; i++) {
        struct child *c;

        if (!fds[i].revents)
            continue;
        TAILQ_FOREACH (c, &m->children, link)
            if (c->notify_fd == fds[i].fd)
                break;
        if (c)
            child_on_notify(m, c);
    }
}

static bool has_ended(const struct master *m)
{
    return m->stop != STOP_NOT && TAILQ_EMPTY(&m->children) && !m->reload.check_pid &&
           (!m->upgrade.new_master || m->upgrade.handed_over);
}

static void turn(struct master *m)
{
    struct pollfd fds[FDS_MAX];
    nfds_t n = watched(m, fds);
    int64_t now;

    if (poll(fds, n, tick_ms(m)) == -1)
        for (nfds_t i = 0; i < n; i++)
            fds[i].revents = 0;
    clock_stale();
    now = clock_mono_ms();
    read_notifications(m, fds, n);
    if (fds[1].revents && m->reload.check_fd == fds[1].fd)
        reload_on_check(m);
    read_signals(m);
    children_tick(m, now);
    reload_tick(m, now);
    upgrade_tick(m, now);
    if (m->start_error.code)
        stop(m, STOP_FAST);
    if (m->current)
        systemd_watchdog();
}

int master_run(const struct master_options *options, struct err *e)
{
    struct master m = { .options = *options };
    int rc = start_open(&m, &m.start_error);

    if (rc == 0) {
        while (!has_ended(&m))
            turn(&m);
        rc = m.start_error.code;
    }
    if (rc != 0) {
        if (m.options.daemon_fd != -1)
            notify_failed(m.options.daemon_fd, m.start_error.text);
        if (log_fd() != STDERR_FILENO)
            log_error("cannot start: %s", m.start_error.text);
        *e = m.start_error;
    }
    start_close(&m);
    if (rc == 0)
        log_notice("stopped");
    return rc;
}
