/*
 * See upgrade.h. WEIR_LISTEN_FDS holds the sockets, WEIR_UPGRADE the old
 * master's pid, the descriptors of the locked pid file and of a pipe to report
 * into, and the generation. The new master asks the old one to leave by SIGQUIT once its workers
 * are ready.
 */
#define _GNU_SOURCE /* pipe2, environ */
#include "srv/upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "srv/environment.h"
#include "srv/instance.h"
#include "shm/keepsake.h"
#include "srv/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UPGRADE_ENV "WEIR_UPGRADE"
/* More than the new master grants what it looks up, its trial and its workers. */
#define START_TIMEOUT_MS 115000

bool upgrade_is_inherited(void)
{
    return getenv(LISTENERS_ENV) && getenv(UPGRADE_ENV);
}

int upgrade_inherit(struct inherited *out, struct err *e)
{
    const char *sockets = getenv(LISTENERS_ENV);
    const char *rest = getenv(UPGRADE_ENV);
    int old_master, rc;

    *out = (struct inherited){ .pid_fd = -1, .report_fd = -1, .keepsake_fd = -1 };
    if (!sockets || !rest)
        return 0;
    /* an older one hands no pipe over, nor secrets */
    if (sscanf(rest, "%d:%d:%u:%d:%d", &old_master, &out->pid_fd, &out->generation, &out->report_fd,
               &out->keepsake_fd) < 3)
        return err_set(e, ERR_CONFIG, UPGRADE_ENV ": cannot be read: \"%s\"", rest);
    out->old_master = (pid_t)old_master;
    if (out->report_fd != -1)
        fcntl(out->report_fd, F_SETFD, FD_CLOEXEC);
    if (out->keepsake_fd != -1)
        fcntl(out->keepsake_fd, F_SETFD, FD_CLOEXEC);
    rc = listeners_from_text(&out->listeners, sockets, e);
    unsetenv(LISTENERS_ENV);
    unsetenv(UPGRADE_ENV);
    return rc;
}

static void set_arguments(const struct master_options *o, const char *argv[8])
{
    int argc = 2;

    if (o->foreground)
        argv[argc++] = "--foreground";
    if (o->conf_path) {
        argv[argc++] = "-c";
        argv[argc++] = o->conf_path;
    }
    if (o->prefix) {
        argv[argc++] = "-p";
        argv[argc++] = o->prefix;
    }
}

static void hand_over(struct master *m, int report_fd)
{
    int secrets_fd = m->shared.keepsake ? keepsake_fd(m->shared.keepsake) : -1;
    sigset_t none;
    char rest[80];

    setenv(LISTENERS_ENV, listeners_to_text(&m->current->listeners), 1);
    snprintf(rest, sizeof rest, "%d:%d:%u:%d:%d", (int)getppid(), m->pidfile.fd, m->current->number,
             report_fd, secrets_fd);
    setenv(UPGRADE_ENV, rest, 1);
    listeners_set_inherit(&m->current->listeners, true);
    fcntl(m->pidfile.fd, F_SETFD, 0);
    fcntl(report_fd, F_SETFD, 0);
    if (secrets_fd != -1)
        fcntl(secrets_fd, F_SETFD, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static NORETURN void run_new_binary(struct master *m, bool anew, int report_fd)
{
    const struct master_options *o = &m->options;
    const char *argv[8] = { o->exe, "start" };
    struct environment env;
    struct err e;

    set_arguments(o, argv);
    hand_over(m, report_fd);
    env.vars = environ; /* by now: setenv may move it */
    if (!anew || environment_take(&env, m->pidfile.path, &e) == 0) {
        execve(o->exe, (char *const *)argv, env.vars);
        err_set_errno(&e, "cannot run %s", o->exe);
    }
    notify_failed(report_fd, e.text);
    _exit(127);
}

/* Logged once, told to `weir upgrade`. */
static void fail(struct master *m, const char *why)
{
    log_error("upgrade: %s, the old binary goes on", why);
    m->state.upgrades_done = m->state.upgrades_begun;
    snprintf(m->state.upgrade_text, sizeof m->state.upgrade_text, "%s", why);
    instance_write_state(m);
    if (m->reload.again && m->reload.step == RELOAD_IDLE)
        kill(getpid(), SIGHUP);
}

static int start_new_binary(struct master *m, bool anew, struct err *e)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) == -1)
        return err_set_errno(e, "cannot make a pipe");
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        run_new_binary(m, anew, fds[1]);
    }
    close(fds[1]);
    if (pid == -1) {
        close(fds[0]);
        return err_set_errno(e, "cannot fork");
    }
    m->upgrade.new_master = pid;
    m->upgrade.report_fd = fds[0];
    m->upgrade.deadline_mono_ms = clock_mono_ms() + START_TIMEOUT_MS;
    return 0;
}

void upgrade_begin(struct master *m, bool with_environment)
{
    struct err e;

    if (m->upgrade.new_master || m->stop != STOP_NOT || !m->current) {
        log_warn("upgrade: not now, %s",
                 m->upgrade.new_master ? "one is going on" : "weir is starting or stopping");
        return;
    }
    m->state.upgrades_begun++;
    if (start_new_binary(m, with_environment, &e) != 0) {
        fail(m, e.text);
        return;
    }
    instance_write_state(m);
    log_notice("upgrade: %s is starting as pid %d%s", m->options.exe, (int)m->upgrade.new_master,
               with_environment ? ", in the environment of the command" : "");
}

void upgrade_finish(struct master *m)
{
    struct err e;

    if (!m->upgrade.old_master)
        return;
    if (pidfile_write(&m->pidfile, &e) != 0)
        log_error("%s", e.text);
    /* before the old workers look for the last time who has connected */
    listeners_drop(&m->upgrade.inherited, NULL, true);
    if (getppid() == m->upgrade.old_master)
        kill(m->upgrade.old_master, SIGQUIT);
    log_notice("upgrade: took over from pid %d", (int)m->upgrade.old_master);
    m->upgrade.old_master = 0;
}

void upgrade_hand_over(struct master *m)
{
    pid_t pid = m->upgrade.new_master;

    log_notice("upgrade: pid %d has taken over, this master leaves", (int)pid);
    systemd_main_pid(pid);
    m->upgrade.handed_over = true;
    /* What was to be reloaded may be newer than what the new master has read. */
    if (m->reload.step != RELOAD_IDLE || m->reload.again)
        kill(pid, SIGHUP);
}

/* Why the new binary has ended. */
static void why_it_ended(struct master *m, int status, struct err *out)
{
    struct err told;

    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        err_set(out, ERR_TIMEOUT, "the new binary was killed: not ready within %d s, or by others",
                START_TIMEOUT_MS / 1000);
    else if (WIFSIGNALED(status))
        err_set(out, ERR_CLOSED, "the new binary died by signal %d (%s)", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    else if (notify_read(m->upgrade.report_fd, &told) < 0 && told.code != ERR_CLOSED)
        err_set(out, told.code, "the new binary could not start: %s", told.text);
    else
        err_set(out, ERR_CLOSED, "the new binary could not start (exit status %d)",
                WEXITSTATUS(status));
}

void upgrade_stop(struct master *m, int sig, int64_t grace_ms)
{
    if (!m->upgrade.new_master || m->upgrade.handed_over)
        return;
    kill(m->upgrade.new_master, sig);
    m->upgrade.deadline_mono_ms = clock_mono_ms() + grace_ms;
}

void upgrade_on_exit(struct master *m, int status)
{
    struct err why;

    m->upgrade.new_master = 0;
    if (!m->upgrade.handed_over && m->stop == STOP_NOT) {
        why_it_ended(m, status, &why);
        fail(m, why.text);
    }
    close(m->upgrade.report_fd);
    m->upgrade.report_fd = -1;
}

void upgrade_tick(struct master *m, int64_t now_ms)
{
    if (!m->upgrade.new_master || m->upgrade.handed_over || now_ms < m->upgrade.deadline_mono_ms)
        return;
    kill(m->upgrade.new_master, SIGKILL);
    m->upgrade.deadline_mono_ms = now_ms + START_TIMEOUT_MS;
}
