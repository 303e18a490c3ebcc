/*
 * See errands.h. The lists and states are under the mutex; an eventfd wakes the
 * loop. All signals are blocked in the thread: they are the loop's.
 */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "peer/errands.h"
#include "base/clock.h"
#include "base/mem.h"
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define JOIN_MS 2000

TAILQ_HEAD(errand_list, errand);

struct errands {
    struct errands_args args;
    struct deadline_queue deadlines;
    struct event *wake;
    int fd;
    bool started;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct errand_list waiting, ran;
    struct errand *running;
    bool stop; /* read without the mutex too */
};

/* ---- in the thread */

static struct errand *next_errand(struct errands *es)
{
    struct errand *e;

    while (!es->stop && TAILQ_EMPTY(&es->waiting))
        pthread_cond_wait(&es->more, &es->mutex);
    if (es->stop)
        return NULL;
    e = TAILQ_FIRST(&es->waiting);
    TAILQ_REMOVE(&es->waiting, e, link);
    e->state = ERRAND_RUNS;
    return e;
}

static void *run_all(void *arg)
{
    struct errands *es = arg;
    const uint64_t one = 1;

    pthread_mutex_lock(&es->mutex);
    while ((es->running = next_errand(es)) != NULL) {
        struct errand *e = es->running;

        pthread_mutex_unlock(&es->mutex);
        e->run(e);
        pthread_mutex_lock(&es->mutex);
        e->state = ERRAND_RAN;
        TAILQ_INSERT_TAIL(&es->ran, e, link);
        must(write(es->fd, &one, sizeof one) == (ssize_t)sizeof one);
        pthread_mutex_unlock(&es->mutex);
        es->args.rest(es->args.arg);
        pthread_mutex_lock(&es->mutex);
    }
    pthread_mutex_unlock(&es->mutex);
    es->args.end(es->args.arg);
    return NULL;
}

/* ---- in the loop */

static void finish(struct errands *es, struct errand_list *list)
{
    struct errand *e;

    while ((e = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, e, link);
        deadline_clear(&es->deadlines, &e->deadline);
        e->done(e);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct errands *es = arg;
    struct errand_list ran = TAILQ_HEAD_INITIALIZER(ran);
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    pthread_mutex_lock(&es->mutex);
    TAILQ_CONCAT(&ran, &es->ran, link);
    pthread_mutex_unlock(&es->mutex);
    finish(es, &ran);
}

static void on_late(struct deadline *d)
{
    struct errand *e = CONTAINER_OF(d, struct errand, deadline);
    struct errands *es = e->home;
    enum errand_state state;

    pthread_mutex_lock(&es->mutex);
    state = e->state;
    if (state == ERRAND_WAITS)
        TAILQ_REMOVE(&es->waiting, e, link);
    pthread_mutex_unlock(&es->mutex);
    if (state == ERRAND_RAN) /* the wake-up is on its way */
        return;
    e->late(e);
    if (state == ERRAND_WAITS)
        e->done(e);
}

struct errands *errands_new(const struct errands_args *args)
{
    struct errands *es = xcalloc(1, sizeof *es);

    es->args = *args;
    TAILQ_INIT(&es->waiting);
    TAILQ_INIT(&es->ran);
    must(pthread_mutex_init(&es->mutex, NULL) == 0 && pthread_cond_init(&es->more, NULL) == 0);
    es->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(es->fd != -1);
    es->wake = event_new(loop_base(args->loop), es->fd, EV_READ | EV_PERSIST, on_wake, es);
    must(es->wake && event_add(es->wake, NULL) == 0);
    deadline_queue_init(&es->deadlines, args->loop, args->late_ms, on_late);
    return es;
}

static void start(struct errands *es)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    es->started = pthread_create(&es->thread, NULL, run_all, es) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void errands_add(struct errands *es, struct errand *e)
{
    if (!es->started)
        start(es);
    e->home = es;
    e->deadline = (struct deadline){ 0 };
    deadline_set(&es->deadlines, &e->deadline);
    pthread_mutex_lock(&es->mutex);
    e->state = ERRAND_WAITS;
    TAILQ_INSERT_TAIL(&es->waiting, e, link);
    pthread_cond_signal(&es->more);
    pthread_mutex_unlock(&es->mutex);
}

const bool *errands_stop(const struct errands *es)
{
    return &es->stop;
}

/* Whether the thread has ended; if not, it keeps es and what it runs. */
static bool join(struct errands *es)
{
    struct timespec until;

    pthread_mutex_lock(&es->mutex);
    __atomic_store_n(&es->stop, true, __ATOMIC_RELEASE);
    pthread_cond_signal(&es->more);
    pthread_mutex_unlock(&es->mutex);
    clock_stale();
    until.tv_sec = (clock_now_ms() + JOIN_MS) / 1000;
    until.tv_nsec = 0;
    if (pthread_timedjoin_np(es->thread, NULL, &until) == 0)
        return true;
    pthread_detach(es->thread);
    return false;
}

void errands_free(struct errands *es)
{
    bool ended = true;

    if (es->started)
        ended = join(es);
    else
        es->args.end(es->args.arg);
    pthread_mutex_lock(&es->mutex);
    TAILQ_CONCAT(&es->ran, &es->waiting, link);
    pthread_mutex_unlock(&es->mutex);
    finish(es, &es->ran);
    if (!ended && es->running)
        deadline_clear(&es->deadlines, &es->running->deadline);
    deadline_queue_fini(&es->deadlines);
    event_free(es->wake);
    if (!ended) /* it writes to fd when it comes back */
        return;
    close(es->fd);
    pthread_cond_destroy(&es->more);
    pthread_mutex_destroy(&es->mutex);
    free(es);
}
