/*
 * See worker.h. Everything that a worker owns hangs on one struct; the orders
 * of the master are signals, handled by the loop like any other event.
 */
#include "srv/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "lua/exchange.h"
#include "lua/vm.h"
#include "lua/whereabouts.h"
#include "req/req.h"
#include "srv/accesslog.h"
#include "srv/fcgi_server.h"
#include "srv/notify.h"
#include "srv/shared.h"
#include "srv/watchdog.h"
#include "store/settings.h"
#include "store/store.h"
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* From its start until it serves, and for loading alone; the master gives up 5 s later. */
#define START_MAX_MS 30000
#define LOAD_MAX_MS 60000
/* After a connection could not be accepted: the socket stays ready, and would be tried for ever. */
#define ACCEPT_PAUSE_MS 100

struct worker {
    const struct worker_args *args;
    struct loop *loop;
    struct stores *stores;
    struct vm *vm;
    struct fcgi_server server;
    struct event **accepts; /* one for each listener */
    struct event *quit, *term, *reopen, *beat, *drain, *pause;
    struct stats_worker *stats;
};

static void set_accepting(struct worker *w, bool accepting)
{
    for (size_t i = 0; i < w->args->listen_count; i++)
        must((accepting ? event_add(w->accepts[i], NULL) : event_del(w->accepts[i])) == 0);
}

static void on_acceptable(int fd, short what, void *arg)
{
    static const struct timeval tv = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
    struct worker *w = arg;

    (void)what;
    if (fcgi_server_accept(&w->server, fd))
        return;
    set_accepting(w, false);
    event_add(w->pause, &tv);
}

static void on_pause_over(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    set_accepting(arg, true);
}

/* ---- what a process says that stands still: handlers of signals, see watchdog.c ---- */

#define WHEREABOUTS_BYTES 900 /* with what stands before it, it fits into an error */

static int the_notify_fd; /* of a process that starts */

static void on_stillness(void)
{
    char at[WHEREABOUTS_BYTES];

    whereabouts_tell(at, sizeof at);
    log_error("this process has stood still for twice the heartbeat_timeout: it ends itself; "
              "it was in %s",
              at);
}

static NORETURN void fail_start(const char *what, int max_ms)
{
    char at[WHEREABOUTS_BYTES];
    struct err e;

    whereabouts_tell(at, sizeof at);
    err_set(&e, ERR_TIMEOUT, "%s within %d s; it was in %s", what, max_ms / 1000, at);
    notify_failed(the_notify_fd, e.text);
    _exit(1);
}

static void on_slow_start(void)
{
    fail_start("not ready", START_MAX_MS);
}

static void on_slow_load(void)
{
    fail_start("not loaded", LOAD_MAX_MS);
}

/* The master finds that it stands still, or a mistake of weir's own was found. */
static void on_abort(int sig)
{
    char at[WHEREABOUTS_BYTES];

    whereabouts_tell(at, sizeof at);
    log_error("at its end this process was in %s", at);
    raise(sig); /* the action is back to the default */
}

static void hear_abort(void)
{
    struct sigaction action = { .sa_handler = on_abort, .sa_flags = SA_RESETHAND };

    sigemptyset(&action.sa_mask);
    must(sigaction(SIGABRT, &action, NULL) == 0);
}

/* ---- the loop ---- */

static void beat(struct worker *w)
{
    w->stats->in_flight = req_count();
    stats_beat(w->stats, clock_mono_ms());
    watchdog_arm(2 * w->args->conf->heartbeat_timeout_ms, on_stillness);
}

static void on_beat(int fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    beat(w);
    /* its death sends one (identity.c), which is lost while a plugin's os.execute runs */
    if (w->args->master && getppid() != w->args->master)
        raise(SIGQUIT);
}

/*
 * What waits is served. Then the sockets close: where no other process accepts
 * from one, a web server must be refused at once, not wait for the drain to end.
 */
static void stop_accepting(struct worker *w)
{
    event_del(w->pause);
    set_accepting(w, false);
    for (size_t i = 0; i < w->args->listen_count; i++) {
        fcgi_server_accept_rest(&w->server, w->args->listen_fds[i]);
        close(w->args->listen_fds[i]);
    }
}

static void on_drained(struct fcgi_server *s)
{
    loop_stop(s->loop);
}

static void on_drain_timeout(int fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    log_warn("drain_timeout is over: %u requests are cut off", req_count());
    fcgi_server_abort(&w->server);
    loop_stop(w->loop);
}

static void on_quit(int sig, short what, void *arg)
{
    struct worker *w = arg;
    int64_t drain_ms = w->args->conf->drain_timeout_ms;
    struct timeval tv = { drain_ms / 1000, (drain_ms % 1000) * 1000 };

    (void)sig;
    (void)what;
    if (w->server.draining)
        return;
    stop_accepting(w);
    event_add(w->drain, &tv);
    __atomic_store_n(&w->stats->draining, 1, __ATOMIC_RELEASE);
    stores_leave(w->stores);
    fcgi_server_drain(&w->server, on_drained);
}

static void on_term(int sig, short what, void *arg)
{
    struct worker *w = arg;

    (void)sig;
    (void)what;
    loop_stop(w->loop);
}

static void on_reopen(int sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    (void)arg;
    log_reopen();
    accesslog_reopen();
}

/* Requests are not to find that a secret of theirs is still being looked up. */
static void prepare(struct worker *w)
{
    vm_start(w->vm);
    while (!vm_is_ready(w->vm)) {
        loop_turn(w->loop, true);
        stats_beat(w->stats, clock_mono_ms());
    }
}

static struct event *on_signal(struct worker *w, int sig, void (*fn)(int, short, void *))
{
    struct event *ev = evsignal_new(loop_base(w->loop), sig, fn, w);

    must(ev && event_add(ev, NULL) == 0);
    return ev;
}

static void add_events(struct worker *w)
{
    const struct worker_args *args = w->args;
    struct event_base *base = loop_base(w->loop);
    int64_t beat_ms = args->conf->heartbeat_timeout_ms / 8;
    struct timeval tv = { beat_ms / 1000, (beat_ms % 1000) * 1000 };

    w->quit = on_signal(w, SIGQUIT, on_quit);
    w->term = on_signal(w, SIGTERM, on_term);
    w->reopen = on_signal(w, SIGUSR1, on_reopen);
    w->drain = evtimer_new(base, on_drain_timeout, w);
    w->pause = evtimer_new(base, on_pause_over, w);
    w->beat = event_new(base, -1, EV_PERSIST, on_beat, w);
    must(w->drain && w->pause && w->beat && event_add(w->beat, &tv) == 0);
    w->accepts = xcalloc(args->listen_count, sizeof(struct event *));
    for (size_t i = 0; i < args->listen_count; i++) {
        w->accepts[i] =
            event_new(base, args->listen_fds[i], EV_READ | EV_PERSIST, on_acceptable, w);
        must(w->accepts[i]);
    }
    set_accepting(w, true);
}

static void free_events(struct worker *w)
{
    struct event *const singles[] = { w->quit, w->term, w->reopen, w->drain, w->beat, w->pause };

    for (size_t i = 0; i < ARRAY_LEN(singles); i++)
        event_free(singles[i]);
    for (size_t i = 0; i < w->args->listen_count; i++)
        event_free(w->accepts[i]);
    free(w->accepts);
}

static struct stores *open_stores(struct worker *w)
{
    const struct shared *shared = w->args->shared;
    const struct stores_args args = { .loop = w->loop,
                                      .conf = w->args->conf,
                                      .counters = shared->counters,
                                      .stats = shared->stats,
                                      .key = shared->region.key };

    return stores_new(&args);
}

static int open_worker(struct worker *w, struct err *e)
{
    const struct worker_args *args = w->args;
    struct vm_args vm_args = {
        .conf = args->conf,
        .counters = args->shared->counters,
        .keepsake = args->shared->keepsake,
        .worker_id = args->number,
        .generation = args->generation,
    };
    int rc;

    w->stats = stats_claim(args->shared->stats, args->number, args->generation);
    if (!w->stats)
        return err_set(e, ERR_BOUND, "all %d places for workers are taken", STATS_WORKERS_MAX);
    stats_beat(w->stats, clock_mono_ms());
    w->loop = vm_args.loop = loop_new();
    rc = accesslog_open(w->loop, args->conf->access_log, e);
    if (rc < 0)
        return rc;
    exchange_init(w->loop, args->conf);
    w->stores = vm_args.stores = open_stores(w);
    return vm_open(&w->vm, &vm_args, e);
}

/*
 * Everything is given back, so that a leak is one. What still runs at a fast
 * stop is cancelled and let go in a last turn; what waits again then is not asked.
 */
static void close_worker(struct worker *w)
{
    fcgi_server_abort(&w->server);
    loop_turn(w->loop, false);
    vm_stop(w->vm);
    loop_end_turn(w->loop);
    free_events(w);
    fcgi_server_fini(&w->server);
    exchange_fini();
    stores_free(w->stores);
    vm_close(w->vm);
    accesslog_close();
    loop_free(w->loop);
    stats_release(w->args->shared->stats, w->stats);
}

/* Whoever has started weir may have it ignore the master's orders: scripts do with SIGQUIT. */
static void on_early_end(int sig)
{
    (void)sig;
    _exit(0); /* nothing is served yet */
}

int worker_main(const struct worker_args *args)
{
    struct worker w = { .args = args };
    char name[32];
    struct err e;

    snprintf(name, sizeof name, "worker %u", args->number);
    log_set_name(name);
    signal(SIGQUIT, on_early_end); /* until there are events for them */
    signal(SIGTERM, on_early_end);
    hear_abort();
    the_notify_fd = args->notify_fd;
    watchdog_arm(START_MAX_MS, on_slow_start);
    if (open_worker(&w, &e) < 0) {
        notify_failed(args->notify_fd, e.text);
        return 1;
    }
    fcgi_server_init(&w.server, w.loop, w.vm, args->conf, args->shared->counters, w.stats);
    prepare(&w);
    add_events(&w);
    notify_ready(args->notify_fd);
    beat(&w);
    loop_run(w.loop);
    close_worker(&w);
    watchdog_arm(0, NULL);
    return 0;
}

void worker_bound_check(int notify_fd)
{
    the_notify_fd = notify_fd;
    watchdog_arm(LOAD_MAX_MS, on_slow_load);
}

int worker_check(const struct conf *conf, struct buf *found, struct err *e)
{
    int rc = settings_check(conf, e);

    if (rc == 0 && conf->snapshot)
        rc = vm_take_snapshot(conf, e);
    return rc == 0 ? vm_check(conf, found, e) : rc;
}
