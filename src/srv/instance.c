/*
 * See instance.h. The figures and the state file tell of the generation that
 * serves; what a child must not keep is listed here and nowhere else.
 */
#include "srv/instance.h"
#include "base/clock.h"
#include "shm/owner.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

void instance_write_state(struct master *m)
{
    struct state *s = &m->state;
    struct stats_instance *instance;

    if (m->upgrade.handed_over || !m->current)
        return;
    s->generation = m->current->number;
    snprintf(s->conf_path, sizeof s->conf_path, "%s",
             m->current->conf->path ? m->current->conf->path : "");
    snprintf(s->listeners, sizeof s->listeners, "%s",
             m->current->conf->values[CONF_KEY_fastcgi_listen].text);
    state_write(s, m->pidfile.path);
    instance = stats_instance(m->shared.stats);
    instance->master = owner_self();
    instance->started_ms = s->started_ms;
    instance->generation = s->generation;
    instance->reloads = (uint32_t)s->reloads_done;
}

void instance_leave(struct master *m)
{
    static const int IGNORED[] = { SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    struct child *c;
    sigset_t none;

    clock_stale();
    for (size_t i = 0; i < ARRAY_LEN(IGNORED); i++)
        signal(IGNORED[i], SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close(m->signal_fd);
    pidfile_forget(&m->pidfile);
    if (m->options.daemon_fd != -1)
        close(m->options.daemon_fd);
    if (m->reload.check_fd != -1)
        close(m->reload.check_fd);
    buf_wipe(&m->reload.answer);
    if (m->upgrade.report_fd != -1)
        close(m->upgrade.report_fd);
    TAILQ_FOREACH (c, &m->children, link)
        if (c->notify_fd != -1)
            close(c->notify_fd);
}
