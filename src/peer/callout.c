/*
 * See callout.h. An exchange is made, filled, started, and freed by its owner.
 * It runs, or waits in a queue until fewer run; in both it hangs on a list of
 * `struct callouts`, which frees what is left. Its clock is its own timer; of
 * libcurl's there is only the one of the connection.
 */
#include "peer/callout.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/callout_internal.h"
#include "peer/callout_multi.h"
#include "peer/callout_words.h"
#include <event2/event.h>
#include <stdlib.h>

TAILQ_HEAD(callout_list, callout);

struct callouts {
    struct loop *loop;
    struct callout_multi *multi;
    struct callout_list made, waiting, running; /* made: also what is over */
    unsigned waiting_count, running_count;
    struct event *rest;
};

static void on_done(void *arg, CURL *easy, CURLcode code);

void callouts_rest(struct callouts *cs)
{
    if (cs->running_count == 0)
        callout_multi_rest(cs->multi);
}

static void on_rest(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    callouts_rest(arg);
}

struct callouts *callouts_new(struct loop *loop)
{
    struct callouts *cs = xcalloc(1, sizeof *cs);

    cs->loop = loop;
    TAILQ_INIT(&cs->made);
    TAILQ_INIT(&cs->waiting);
    TAILQ_INIT(&cs->running);
    cs->multi = callout_multi_new(loop, on_done, cs);
    cs->rest = event_new(loop_base(loop), -1, 0, on_rest, cs);
    must(cs->rest);
    return cs;
}

struct callout *callout_new(struct callouts *cs)
{
    struct callout *c = wiped_calloc(1, sizeof *c);

    c->home = cs;
    c->numbers[CALLOUT_TIMEOUT_MS] = 5000;
    c->numbers[CALLOUT_CONNECT_TIMEOUT_MS] = 2000;
    c->numbers[CALLOUT_MAX_BYTES] = 1 << 20;
    c->numbers[CALLOUT_SSL_VERIFY] = 1;
    TAILQ_INSERT_TAIL(&cs->made, c, link);
    return c;
}

static void go(struct callout *c)
{
    TAILQ_INSERT_TAIL(&c->home->running, c, link);
    if (c->home->running_count++ == 0)
        event_del(c->home->rest);
    c->state = RUNS;
    callout_multi_add(c->home->multi, c->easy);
}

static void wait_in_queue(struct callout *c)
{
    TAILQ_INSERT_TAIL(&c->home->waiting, c, link);
    c->home->waiting_count++;
    c->state = WAITS;
}

static void start_next(struct callouts *cs)
{
    const struct timeval rest = { CALLOUTS_REST_S, 0 };
    struct callout *next = TAILQ_FIRST(&cs->waiting);

    if (!next && cs->running_count == 0)
        event_add(cs->rest, &rest);
    if (!next || cs->running_count >= CALLOUTS_AT_ONCE)
        return;
    TAILQ_REMOVE(&cs->waiting, next, link);
    cs->waiting_count--;
    go(next);
}

/* Takes it out of the lists; libcurl has let it go, or lets it go here. */
static void stop(struct callout *c, bool is_in_multi)
{
    struct callouts *cs = c->home;
    enum callout_state was = c->state;

    if (was != WAITS && was != RUNS)
        return;
    c->state = OVER;
    event_del(c->timer);
    if (was == WAITS) {
        TAILQ_REMOVE(&cs->waiting, c, link);
        cs->waiting_count--;
    } else {
        TAILQ_REMOVE(&cs->running, c, link);
        cs->running_count--;
        if (is_in_multi)
            callout_multi_remove(cs->multi, c->easy);
    }
    TAILQ_INSERT_TAIL(&cs->made, c, link);
    start_next(cs);
}

/* No half response is shown. */
static void finish(struct callout *c, int code)
{
    if (code < 0)
        callout_drop(c);
    op_finish(&c->op, code);
}

static int judge(struct callout *c, CURLcode code)
{
    const struct callout_place place = {
        .where = c->where,
        .detail = c->detail,
        .ca_file = c->texts[CALLOUT_CA_FILE],
        .cert_file = c->texts[CALLOUT_CERT_FILE],
        .has_proxy = c->texts[CALLOUT_PROXY] != NULL,
    };

    if (code == CURLE_OK && c->head_ended)
        return 0;
    if (code == CURLE_FILESIZE_EXCEEDED || (c->refused == ERR_BOUND && c->head_ended))
        return err_set(&c->e, ERR_BOUND, "more than %lld bytes",
                       (long long)c->numbers[CALLOUT_MAX_BYTES]);
    if (c->refused == ERR_BOUND)
        return err_set(&c->e, ERR_BOUND, "more than %d header fields, or %d bytes of them",
                       CALLOUT_HEADERS_MAX, CALLOUT_HEAD_BYTES_MAX);
    if (c->refused)
        code = CURLE_WEIRD_SERVER_REPLY;
    else if (code == CURLE_OK)
        code = CURLE_GOT_NOTHING;
    return callout_words(&c->e, c->easy, code, &place);
}

static void on_done(void *arg, CURL *easy, CURLcode code)
{
    struct callout *c = NULL;

    (void)arg;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &c);
    stop(c, false);
    finish(c, judge(c, code));
}

static void on_timeout(int fd, short what, void *arg)
{
    struct callout *c = arg;

    (void)fd;
    (void)what;
    stop(c, true);
    finish(c, err_set(&c->e, ERR_TIMEOUT, "timeout"));
}

static void on_cancel(struct op *op)
{
    struct callout *c = CONTAINER_OF(op, struct callout, op);

    err_set(&c->e, ERR_CANCELLED, "cancelled");
    stop(c, true);
}

static void set_timer(struct callout *c)
{
    int64_t ms = c->numbers[CALLOUT_TIMEOUT_MS];
    struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

    c->timer = event_new(loop_base(c->home->loop), -1, 0, on_timeout, c);
    must(c->timer && event_add(c->timer, &tv) == 0);
}

int callout_start(struct callout *c)
{
    must(c->state == MADE);
    if (c->home->waiting_count >= CALLOUTS_WAITING)
        return err_set(&c->e, ERR_BOUND, "too many call-outs at once");
    if (callout_prepare(c) < 0)
        return c->e.code;
    set_timer(c);
    op_init(&c->op, on_cancel);
    op_start(&c->op);
    TAILQ_REMOVE(&c->home->made, c, link);
    if (c->home->running_count < CALLOUTS_AT_ONCE)
        go(c);
    else
        wait_in_queue(c);
    return 0;
}

struct op *callout_op(struct callout *c)
{
    return &c->op;
}

void callout_free(struct callout *c)
{
    stop(c, true);
    TAILQ_REMOVE(&c->home->made, c, link);
    if (c->timer)
        event_free(c->timer);
    if (c->easy)
        curl_easy_cleanup(c->easy);
    if (c->url)
        curl_url_cleanup(c->url);
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->connect_to);
    for (int i = 0; i < CALLOUT_TEXTS; i++)
        wiped_free(c->texts[i]);
    wiped_buf_free(&c->request_body);
    wiped_buf_free(&c->head);
    wiped_buf_free(&c->body);
    free(c->fields);
    wiped_free(c);
}

static void free_all(struct callout_list *list)
{
    while (!TAILQ_EMPTY(list))
        callout_free(TAILQ_FIRST(list));
}

void callouts_free(struct callouts *cs)
{
    free_all(&cs->waiting);
    free_all(&cs->running);
    free_all(&cs->made);
    event_free(cs->rest);
    callout_multi_free(cs->multi);
    free(cs);
}
