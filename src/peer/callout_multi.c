/*
 * See callout_multi.h. libcurl says which sockets it waits for, and for how
 * long; the loop says when they are ready. Nothing here is called from within
 * libcurl but the two functions that take down what it waits for.
 */
#include "peer/callout_multi.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/wiped.h"
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/queue.h>

#define CONNECTIONS_KEPT 32L

struct watch {
    LIST_ENTRY(watch) link;
    struct event *event;
};

struct callout_multi {
    CURLM *curl;
    struct event_base *base;
    struct event *timer;
    LIST_HEAD(watches, watch) watches;
    void (*done)(void *arg, CURL *easy, CURLcode code);
    void *arg;
};

static void report(struct callout_multi *m)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(m->curl, &left))) {
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;

        if (message->msg == CURLMSG_DONE) {
            curl_multi_remove_handle(m->curl, easy);
            m->done(m->arg, easy, code);
        }
    }
}

static void on_socket(int fd, short what, void *arg)
{
    struct callout_multi *m = arg;
    int bits = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
    int running;

    curl_multi_socket_action(m->curl, fd, bits, &running);
    report(m);
}

static void on_timer(int fd, short what, void *arg)
{
    struct callout_multi *m = arg;
    int running;

    (void)fd;
    (void)what;
    curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &running);
    report(m);
}

static void forget(struct watch *w)
{
    LIST_REMOVE(w, link);
    event_free(w->event);
    free(w);
}

/* libcurl waits for something else on fd. */
static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct callout_multi *m = arg;
    struct watch *w = known;
    short events = EV_PERSIST;

    (void)easy;
    if (w)
        forget(w);
    w = NULL;
    if (what != CURL_POLL_REMOVE) {
        if (what & CURL_POLL_IN)
            events |= EV_READ;
        if (what & CURL_POLL_OUT)
            events |= EV_WRITE;
        w = xcalloc(1, sizeof *w);
        LIST_INSERT_HEAD(&m->watches, w, link);
        w->event = event_new(m->base, fd, events, on_socket, m);
        must(w->event && event_add(w->event, NULL) == 0);
    }
    curl_multi_assign(m->curl, fd, w);
    return 0;
}

static int set_timer(CURLM *curl, long timeout_ms, void *arg)
{
    struct callout_multi *m = arg;
    struct timeval tv = { timeout_ms / 1000, (timeout_ms % 1000) * 1000 };

    (void)curl;
    if (timeout_ms < 0)
        event_del(m->timer);
    else
        event_add(m->timer, &tv);
    return 0;
}

/* A write to a connection that is gone is an error like others; TLS knows no MSG_NOSIGNAL. */
static void ignore_broken_pipes(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static void open_curl(struct callout_multi *m)
{
    m->curl = curl_multi_init();
    must(m->curl);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
}

static void close_curl(struct callout_multi *m)
{
    curl_multi_cleanup(m->curl);
    while (!LIST_EMPTY(&m->watches))
        forget(LIST_FIRST(&m->watches));
    event_del(m->timer);
}

struct callout_multi *callout_multi_new(struct loop *loop,
                                        void (*done)(void *arg, CURL *easy, CURLcode code),
                                        void *arg)
{
    struct callout_multi *m = xcalloc(1, sizeof *m);

    must(curl_global_init_mem(CURL_GLOBAL_DEFAULT, wiped_malloc, wiped_free, wiped_realloc,
                              wiped_strdup, wiped_calloc) == CURLE_OK);
    ignore_broken_pipes();
    m->base = loop_base(loop);
    m->done = done;
    m->arg = arg;
    LIST_INIT(&m->watches);
    m->timer = event_new(m->base, -1, 0, on_timer, m);
    must(m->timer);
    open_curl(m);
    return m;
}

void callout_multi_free(struct callout_multi *m)
{
    close_curl(m);
    event_free(m->timer);
    free(m);
    curl_global_cleanup();
}

void callout_multi_rest(struct callout_multi *m)
{
    close_curl(m);
    open_curl(m);
}

void callout_multi_add(struct callout_multi *m, CURL *easy)
{
    must(curl_multi_add_handle(m->curl, easy) == CURLM_OK);
}

void callout_multi_remove(struct callout_multi *m, CURL *easy)
{
    must(curl_multi_remove_handle(m->curl, easy) == CURLM_OK);
}
