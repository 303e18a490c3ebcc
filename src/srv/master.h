/*
 * The master: reads the configuration, owns sockets and files, starts workers
 * and looks after them. It uses neither libevent nor Lua. This header is shared
 * by the files it is made of, each of which calls those behind it only: master
 * (loop, signals), start (the first steps), reload, upgrade, children (worker
 * processes), setup and instance.
 */
#ifndef WEIR_SRV_MASTER_H
#define WEIR_SRV_MASTER_H

#include "base/err.h"
#include "base/weir.h"
#include "conf/parse.h"
#include "srv/identity.h"
#include "srv/listen.h"
#include "srv/pidfile.h"
#include "srv/shared.h"
#include "srv/state.h"
#include <signal.h>
#include <sys/queue.h>
#include <sys/types.h>

#define WORKERS_MAX 256

struct master;

struct master_options {
    const char *exe;       /* this binary, absolute: what an upgrade runs */
    const char *conf_path; /* absolute; NULL: the default */
    const char *prefix;    /* from the command line, absolute; NULL: from the configuration */
    bool foreground;
    int daemon_fd; /* notify_* tell the waiting command how the start went; -1: nobody waits */
};

/* One configuration and the sockets of its workers. */
struct generation {
    uint32_t number;
    struct conf *conf;
    struct listeners listeners;
};

enum child_state {
    CHILD_STARTING,
    CHILD_READY,
    CHILD_STOPPING, /* was told to */
};

struct child {
    TAILQ_ENTRY(child) link;
    pid_t pid;
    unsigned number; /* of the worker, from 1 */
    uint32_t generation;
    enum child_state state;
    int notify_fd; /* -1 once it is ready */
    int64_t started_mono_ms, ready_mono_ms;
    int64_t kill_at_mono_ms; /* SIGKILL then; 0: not */
    bool drains;             /* it was told to */
    bool reopen_when_ready;
};

/* When a worker that died comes back. */
struct respawn {
    int64_t due_mono_ms;  /* 0: not due */
    unsigned fast_deaths; /* in a row */
};

enum reload_step {
    RELOAD_IDLE,
    RELOAD_LOOKING_UP, /* a throw-away process looks up what references in weir.conf stand for */
    RELOAD_CHECKING,   /* a throw-away process loads everything */
    RELOAD_STARTING,   /* the next generation starts; also at the first start */
    RELOAD_RETIRING,   /* the new generation serves, the old one still takes connections too */
};

struct reload {
    enum reload_step step;
    bool again; /* another SIGHUP came meanwhile */
    struct generation *next;
    pid_t check_pid; /* the throw-away process; 0: none */
    int check_fd;
    struct buf answer; /* of the look-up, as far as it has come; wiped at the end */
    int64_t deadline_mono_ms;
    /* what the workers of next come to; set while there is one */
    void (*on_worker_ready)(struct master *m);
    void (*on_worker_failed)(struct master *m, const char *why);
};

struct upgrade {
    pid_t old_master; /* that this one takes over from; 0: none */
    pid_t new_master; /* the new binary, while it starts; 0: none */
    /* what the old master listened on and the new configuration does not name; until it leaves */
    struct listeners inherited;
    int report_fd; /* what the new binary says if it cannot start; -1: there is none */
    int64_t deadline_mono_ms;
    bool handed_over;
};

enum master_stop { STOP_NOT, STOP_GRACEFUL, STOP_FAST };

struct master {
    struct master_options options;
    struct generation *current; /* NULL until the first generation is ready */
    struct reload reload;
    struct upgrade upgrade;
    struct identity workers;
    struct shared shared;
    struct pidfile pidfile;
    struct state state;
    TAILQ_HEAD(child_list, child) children;
    struct respawn respawns[WORKERS_MAX + 1]; /* by the worker's number; of current */
    int64_t looked_mono_ms;                   /* when children_tick was called last */
    enum master_stop stop;
    struct err start_error; /* code 0: the start went well; else the loop stops the master */
    int signal_fd;
};

/*
 * Runs until it is told to stop; the exit status is 0. A negative code means that it could
 * not start; it has told options->daemon_fd then.
 */
int master_run(const struct master_options *options, struct err *e) MUST_CHECK;

#endif
