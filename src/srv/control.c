/*
 * See control.h. An instance runs as long as its pid file is locked; a broken
 * weir.conf must not keep anybody from stopping it.
 */
#include "srv/control.h"
#include "base/clock.h"
#include "conf/file.h"
#include "conf/parse.h"
#include "srv/environment.h"
#include "srv/pidfile.h"
#include "srv/state.h"
#include "srv/status.h"
#include "srv/upgrade.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 20
#define STOP_SPARE_MS 15000    /* over drain_timeout */
#define RELOAD_WAIT_MS 240000  /* more than the master grants a reload and what it follows */
#define UPGRADE_WAIT_MS 130000 /* more than it grants an upgrade */

struct instance {
    char pid_file[4096];
    pid_t pid;
    int64_t drain_timeout_ms;
};

static void pause_ms(int64_t ms)
{
    const struct timespec span = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&span, NULL);
    clock_stale();
}

/* Whether the pid is that of a program with our name: a state file may be older than the system. */
static bool is_weir(pid_t pid)
{
    char path[40];
    struct str name;
    bool is;

    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    if (pid <= 0 || file_read(path, 64, &name, NULL) != 0)
        return false;
    is = str_eq(name, STR("weir\n"));
    free((char *)name.p);
    return is;
}

/* Nobody holds the pid file: 0 if nobody does who has lost it. */
static int look_for_lost(const struct instance *i, struct err *e)
{
    struct state s;
    struct stat st;

    if (stat(i->pid_file, &st) == 0 || state_read(&s, i->pid_file, NULL) != 0 || !is_weir(s.pid))
        return 0;
    return err_set(e, ERR_CONFIG,
                   "weir runs, pid %d, but somebody has removed %s: kill -QUIT %d, then weir start",
                   (int)s.pid, i->pid_file, (int)s.pid);
}

/* 1 found, 0 it does not run, or a negative code. */
static int find(struct instance *out, const char *conf_path, const char *prefix, struct err *e)
{
    const struct conf_override overrides[] = { { prefix ? "prefix" : NULL, prefix },
                                               { NULL, NULL } };
    struct conf *conf;
    int rc = conf_load_lenient(&conf, conf_path, overrides, e);
    bool held;

    if (rc != 0)
        return rc;
    snprintf(out->pid_file, sizeof out->pid_file, "%s", conf->pid_file);
    out->drain_timeout_ms = conf->drain_timeout_ms;
    conf_free(conf);
    held = pidfile_is_held(out->pid_file, &out->pid);
    for (int tries = 0; held && !out->pid && tries < 50; tries++) { /* it is just starting */
        pause_ms(POLL_MS);
        held = pidfile_is_held(out->pid_file, &out->pid);
    }
    return held && out->pid ? 1 : look_for_lost(out, e);
}

static int not_running(const struct instance *i, struct err *e)
{
    return err_set(e, ERR_CONFIG, "weir is not running (nobody holds %s)", i->pid_file);
}

static int read_state(const struct instance *i, struct state *s, struct err *e)
{
    int rc = state_read(s, i->pid_file, e);

    if (rc == ERR_SYSTEM && errno == ENOENT)
        return err_set(e, rc, "weir, pid %d, does not serve yet: it has written no %s.state",
                       (int)i->pid, i->pid_file);
    return rc;
}

/* The instance, which must run, and what it says of itself. */
static int find_running(struct instance *out, struct state *s, const char *conf_path,
                        const char *prefix, struct err *e)
{
    int rc = find(out, conf_path, prefix, e);

    if (rc == 0)
        return not_running(out, e);
    return rc == 1 ? read_state(out, s, e) : rc;
}

static int send_signal(const struct instance *i, int sig, struct err *e)
{
    if (kill(i->pid, sig) == 0)
        return 0;
    return err_set_errno(e, "cannot signal the master, pid %d", (int)i->pid);
}

int control_stop(const char *conf_path, const char *prefix, int sig, bool may_be_stopped,
                 struct err *e)
{
    struct instance i;
    int rc = find(&i, conf_path, prefix, e);
    int64_t end_ms;
    pid_t pid;

    if (rc < 0)
        return rc;
    if (rc == 0)
        return may_be_stopped ? 0 : not_running(&i, e);
    rc = send_signal(&i, sig, e);
    if (rc != 0)
        return rc;
    end_ms = clock_mono_ms() + STOP_SPARE_MS + (sig == SIGQUIT ? i.drain_timeout_ms : 0);
    while (pidfile_is_held(i.pid_file, &pid)) {
        if (clock_mono_ms() > end_ms)
            return err_set(e, ERR_TIMEOUT,
                           "the master, pid %d, has not stopped in time; see its log", (int)i.pid);
        pause_ms(POLL_MS);
    }
    return 0;
}

/*
 * Until *done, a count in s, is above before, or another master has taken over, which has read
 * what there is: it writes the state then.
 */
static int wait_until_done(const struct instance *i, struct state *s, const uint64_t *done,
                           uint64_t before, int64_t span_ms, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + span_ms;
    pid_t pid;

    for (;;) {
        if (!pidfile_is_held(i->pid_file, &pid))
            return err_set(e, ERR_CLOSED, "weir stopped meanwhile; see its log");
        if (state_read(s, i->pid_file, NULL) == 0 && (*done > before || s->pid != i->pid))
            return 0;
        if (clock_mono_ms() > end_ms)
            return err_set(e, ERR_TIMEOUT, "no answer from the master, pid %d; see its log",
                           (int)i->pid);
        pause_ms(POLL_MS);
    }
}

/* The reload that answers this command is the first that begins after it. */
static int wait_for_reload(const struct instance *i, struct state *s, struct err *e)
{
    int rc = wait_until_done(i, s, &s->reloads_done, s->reloads_begun, RELOAD_WAIT_MS, e);

    if (rc != 0)
        return rc;
    if (s->pid == i->pid && !s->reload_good)
        return err_set(e, ERR_CONFIG, "reload failed, the old configuration stays: %s",
                       s->reload_text);
    printf("%s\n", s->reload_text);
    return 0;
}

int control_reload(const char *conf_path, const char *prefix, struct err *e)
{
    struct instance i;
    struct state s;
    int rc = find_running(&i, &s, conf_path, prefix, e);

    if (rc == 0)
        rc = send_signal(&i, SIGHUP, e);
    return rc == 0 ? wait_for_reload(&i, &s, e) : rc;
}

static int wait_for_upgrade(const struct instance *i, struct state *s, struct err *e)
{
    int rc = wait_until_done(i, s, &s->upgrades_done, s->upgrades_begun, UPGRADE_WAIT_MS, e);

    if (rc != 0)
        return rc;
    if (s->pid == i->pid)
        return err_set(e, ERR_CONFIG, "upgrade failed, what runs goes on: %s", s->upgrade_text);
    printf("pid %d has taken over: %s\n", (int)s->pid, s->reload_text);
    return 0;
}

/* Of the master's process, and so of its user. */
static uid_t owner_of(pid_t pid)
{
    char path[40];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return stat(path, &st) == 0 ? st.st_uid : geteuid();
}

/* An older master does not know that there is an environment to be taken over. */
static int upgrade_here(const struct instance *i, struct state *s, struct err *e)
{
    const union sigval mark = { .sival_int = UPGRADE_WITH_ENVIRONMENT };
    int rc = environment_offer(i->pid_file, owner_of(i->pid), e), sent;
    struct err why;

    if (rc != 0)
        return rc;
    if (sigqueue(i->pid, SIGUSR2, mark) == -1)
        return err_set_errno(e, "cannot signal the master, pid %d", (int)i->pid);
    sent = environment_send(i->pid_file, &why);
    rc = wait_for_upgrade(i, s, e);
    return rc == 0 && sent != 0 ? err_set(e, ERR_CLOSED, "the new binary serves, but %s", why.text)
                                : rc;
}

int control_upgrade(const char *conf_path, const char *prefix, bool with_environment, struct err *e)
{
    struct instance i;
    struct state s;
    int rc = find_running(&i, &s, conf_path, prefix, e);

    if (rc == 0 && s.upgrades_begun > s.upgrades_done)
        return err_set(e, ERR_CONFIG, "an upgrade is going on already");
    if (rc == 0 && with_environment)
        return upgrade_here(&i, &s, e);
    if (rc == 0)
        rc = send_signal(&i, SIGUSR2, e);
    return rc == 0 ? wait_for_upgrade(&i, &s, e) : rc;
}

int control_find(const char *conf_path, const char *prefix, struct state *out, struct err *e)
{
    struct instance i;
    int rc = find(&i, conf_path, prefix, e);

    if (rc == 1)
        rc = read_state(&i, out, e);
    else if (rc == 0)
        return 0;
    return rc == 0 ? 1 : rc;
}

int control_status(const char *conf_path, const char *prefix, struct err *e)
{
    struct instance i;
    struct state s;
    int rc = find_running(&i, &s, conf_path, prefix, e);

    return rc == 0 ? status_print(&s, e) : rc;
}
