/*
 * See start.h. The order matters: the lock of the pid file comes before
 * anything that a running instance would be disturbed by.
 */
#include "srv/start.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/keepsake.h"
#include "srv/reload.h"
#include "srv/setup.h"
#include "srv/upgrade.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whoever has started weir may have it ignore some: scripts do with SIGINT and SIGQUIT. */
static void on_early_end(int sig)
{
    (void)sig;
    _exit(1); /* nothing is there yet that others would miss */
}

static void heed_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, on_early_end);
    signal(SIGINT, on_early_end);
    signal(SIGQUIT, on_early_end);
    signal(SIGPIPE, SIG_IGN);
}

static int open_signals(struct master *m, struct err *e)
{
    static const int SIGNALS[] = { SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD };
    sigset_t mask;

    sigemptyset(&mask);
    for (size_t i = 0; i < ARRAY_LEN(SIGNALS); i++)
        sigaddset(&mask, SIGNALS[i]);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    m->signal_fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    return m->signal_fd == -1 ? err_set_errno(e, "signalfd") : 0;
}

/* Standard output and input lead nowhere in the background, standard error to the log. */
static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null != -1) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    dup2(log_fd(), STDERR_FILENO);
}

static int open_files(struct master *m, const struct conf *conf, int pid_fd, struct err *e)
{
    int rc = pidfile_open(&m->pidfile, conf->pid_file, pid_fd, e);

    if (rc == 0 && !m->upgrade.old_master) {
        state_remove(m->pidfile.path); /* of a master that was killed */
        rc = pidfile_write(&m->pidfile, e);
    }
    if (rc == 0 && mkdir(conf->prefix, 0755) == -1 && errno != EEXIST)
        rc = err_set_errno(e, "prefix: cannot make the directory %s", conf->prefix);
    if (rc == 0)
        rc = identity_own_logs(&m->workers, conf, e);
    if (rc == 0)
        rc = log_open(conf->error_log, conf->log_level, e);
    if (rc == 0 && !m->options.foreground)
        leave_terminal();
    return rc;
}

/* Without it new workers only lack what they cannot look up. */
static void open_keepsake(struct master *m, int fd)
{
    struct err e;

    m->shared.keepsake = keepsake_open(fd, &e);
    if (!m->shared.keepsake)
        log_warn("%s: a new worker has no secret while its vault is away", e.text);
}

static int open_shared(struct master *m, const struct conf *conf, struct err *e)
{
    const struct shared_options options = { conf->prefix, conf->counter_file,
                                            conf->counter_memory };
    struct state *s = &m->state;

    snprintf(s->prefix, sizeof s->prefix, "%s", conf->prefix);
    snprintf(s->counter_file, sizeof s->counter_file, "%s", conf->counter_file);
    s->counter_memory = conf->counter_memory;
    s->workers_uid = m->workers.set ? (long long)m->workers.uid : -1;
    return shared_open(&m->shared, &options, &m->workers, e);
}

int start_open(struct master *m, struct err *e)
{
    struct inherited inherited;
    struct conf *conf = NULL;
    int rc;

    TAILQ_INIT(&m->children);
    m->pidfile.fd = m->signal_fd = m->reload.check_fd = m->upgrade.report_fd = -1;
    log_set_name("master");
    heed_signals();
    rc = upgrade_inherit(&inherited, e);
    m->upgrade.old_master = inherited.old_master;
    m->upgrade.inherited = inherited.listeners;
    if (inherited.report_fd != -1)
        m->options.daemon_fd = inherited.report_fd;
    if (rc == 0)
        rc = setup_read_conf(&conf, &m->options, NULL, e);
    if (rc > 0)
        rc = conf_look_up(conf, e);
    if (rc == 0)
        rc = setup_finish_conf(conf, &m->options, NULL, e);
    if (rc == 0)
        rc = open_signals(m, e);
    if (rc == 0)
        rc = identity_of_workers(conf, &m->workers, e);
    if (rc == 0)
        rc = open_files(m, conf, inherited.pid_fd, e);
    if (rc == 0)
        rc = open_shared(m, conf, e);
    if (rc == 0)
        open_keepsake(m, inherited.keepsake_fd);
    if (rc != 0) {
        conf_free(conf);
        return rc;
    }
    if (conf->declarative_missing)
        log_warn("there is no %s: weir runs without services, routes and plugins",
                 conf->declarative_path);
    m->state.pid = getpid();
    m->state.started_ms = clock_now_ms();
    return reload_begin_first(m, conf, inherited.generation + 1, e);
}

static void generation_free(struct generation *g, bool unlink_names)
{
    if (!g)
        return;
    listeners_drop(&g->listeners, NULL, unlink_names);
    conf_free(g->conf);
    free(g);
}

/* A start that failed leaves counters alone that were there before it. */
static void close_shared(struct master *m, bool names_are_ours)
{
    if (!m->shared.region.base)
        return;
    if (names_are_ours && (m->current || m->shared.region.how != REGION_FOUND))
        shared_unlink(&m->shared);
    shared_close(&m->shared);
}

void start_close(struct master *m)
{
    /* A new binary that could not start leaves all names to the old one. */
    bool names_are_ours = !m->upgrade.handed_over && !m->upgrade.old_master;

    listeners_drop(&m->upgrade.inherited, NULL, false);
    close_shared(m, names_are_ours);
    keepsake_close(m->shared.keepsake);
    generation_free(m->current, names_are_ours);
    if (names_are_ours && m->pidfile.fd != -1) {
        state_remove(m->pidfile.path);
        pidfile_remove(&m->pidfile);
    }
    pidfile_forget(&m->pidfile);
    if (m->signal_fd != -1)
        close(m->signal_fd);
}
