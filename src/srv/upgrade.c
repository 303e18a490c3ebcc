/*
 * See upgrade.h. WEIR_LISTEN_FDS holds the sockets, WEIR_UPGRADE the old
 * master's pid, the descriptor of the locked pid file and the generation. The
 * new master asks the old one to leave by SIGQUIT once its workers are ready.
 */
#include "srv/upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "srv/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UPGRADE_ENV "WEIR_UPGRADE"
#define START_TIMEOUT_MS 60000

bool upgrade_is_inherited(void)
{
    return getenv(LISTENERS_ENV) && getenv(UPGRADE_ENV);
}

int upgrade_inherit(struct inherited *out, struct err *e)
{
    const char *sockets = getenv(LISTENERS_ENV);
    const char *rest = getenv(UPGRADE_ENV);
    int old_master, rc;

    *out = (struct inherited){ .pid_fd = -1 };
    if (!sockets || !rest)
        return 0;
    if (sscanf(rest, "%d:%d:%u", &old_master, &out->pid_fd, &out->generation) != 3)
        return err_set(e, ERR_CONFIG, UPGRADE_ENV ": cannot be read: \"%s\"", rest);
    out->old_master = (pid_t)old_master;
    rc = listeners_from_text(&out->listeners, sockets, e);
    unsetenv(LISTENERS_ENV);
    unsetenv(UPGRADE_ENV);
    return rc;
}

static NORETURN void run_new_binary(struct master *m)
{
    const struct master_options *o = &m->options;
    const char *argv[8] = { o->exe, "start" };
    int argc = 2;
    char rest[80];

    setenv(LISTENERS_ENV, listeners_to_text(&m->current->listeners), 1);
    snprintf(rest, sizeof rest, "%d:%d:%u", (int)getppid(), m->pidfile.fd, m->current->number);
    setenv(UPGRADE_ENV, rest, 1);
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
    listeners_set_inherit(&m->current->listeners, true);
    fcntl(m->pidfile.fd, F_SETFD, 0);
    sigprocmask(SIG_SETMASK, &m->old_mask, NULL);
    execv(o->exe, (char *const *)argv);
    log_error("upgrade: cannot run %s: %s", o->exe, strerror(errno));
    _exit(127);
}

void upgrade_begin(struct master *m)
{
    pid_t pid;

    if (m->upgrade.new_master || m->stop != STOP_NOT || !m->current) {
        log_warn("upgrade: not now, %s",
                 m->upgrade.new_master ? "one is going on" : "weir is starting or stopping");
        return;
    }
    pid = fork();
    if (pid == 0)
        run_new_binary(m);
    if (pid == -1) {
        log_error("upgrade: cannot fork: %s", strerror(errno));
        return;
    }
    m->upgrade.new_master = pid;
    m->upgrade.deadline_mono_ms = clock_mono_ms() + START_TIMEOUT_MS;
    log_notice("upgrade: %s is starting as pid %d", m->options.exe, (int)pid);
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

void upgrade_on_exit(struct master *m, int status)
{
    m->upgrade.new_master = 0;
    if (m->upgrade.handed_over)
        return;
    if (WIFSIGNALED(status))
        log_error("upgrade: the new binary died by signal %d (%s), the old one goes on",
                  WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_error("upgrade: the new binary could not start (exit status %d), the old one goes on",
                  WEXITSTATUS(status));
    if (m->reload.again && m->reload.step == RELOAD_IDLE)
        kill(getpid(), SIGHUP);
}

void upgrade_tick(struct master *m, int64_t now_ms)
{
    if (!m->upgrade.new_master || m->upgrade.handed_over || now_ms < m->upgrade.deadline_mono_ms)
        return;
    log_error("upgrade: the new binary was not ready within %d s", START_TIMEOUT_MS / 1000);
    kill(m->upgrade.new_master, SIGKILL);
    m->upgrade.deadline_mono_ms = now_ms + START_TIMEOUT_MS;
}
