/*
 * See redis_watch.h. A lost connection goes to the next Sentinel after a pause
 * that doubles; a PING every few seconds finds out about those that are silent.
 */
#include "peer/redis_watch.h"
#include "base/mem.h"
#include "ev/loop.h"
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#define PING_MS 5000
#define FIRST_PAUSE_MS 100
#define LAST_PAUSE_MS 5000

struct redis_watch {
    struct loop *loop;
    struct resolver *resolver;
    const struct redis_settings *settings;
    struct redis_link *link; /* to settings->sentinels[at]; NULL during a pause */
    struct redis_cmd cmd;
    struct event *timer;
    struct dying dying;
    unsigned at;
    int pause_ms;
    bool subscribed, was_subscribed, in_flight, closing;
    void (*on_switch)(void *arg);
    void *arg;
};

static void set_timer(struct redis_watch *w, int ms)
{
    struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

    event_add(w->timer, &tv);
}

/* The link is closed at the timer: this may be one of its calls. */
static void lost(struct redis_watch *w)
{
    w->subscribed = false;
    w->at = (w->at + 1) % w->settings->sentinel_count;
    set_timer(w, w->pause_ms);
    w->pause_ms = w->pause_ms * 2 < LAST_PAUSE_MS ? w->pause_ms * 2 : LAST_PAUSE_MS;
}

/* ["message", "+switch-master", "name old-host old-port new-host new-port"] */
static bool tells_of_master(const struct redis_watch *w, const struct redisReply *reply)
{
    struct str name = str_from(w->settings->sentinel_master), text;

    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[2]->type != REDIS_REPLY_STRING)
        return false;
    text = (struct str){ reply->element[2]->str, reply->element[2]->len };
    return str_starts(text, name) && text.n > name.n && text.p[name.n] == ' ';
}

static void on_push(void *arg, const struct redisReply *reply)
{
    struct redis_watch *w = arg;

    if (w->closing)
        return;
    if (!reply)
        lost(w);
    else if (tells_of_master(w, reply))
        w->on_switch(w->arg);
}

/* Of SUBSCRIBE and PING. A message that comes before the answer may be taken for it. */
static void on_answer(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                      const char *reason)
{
    struct redis_watch *w = CONTAINER_OF(cmd, struct redis_watch, cmd);
    bool missed = w->was_subscribed && !w->subscribed;

    (void)reason;
    w->in_flight = false;
    if (w->closing)
        return;
    if (code || reply->type == REDIS_REPLY_ERROR) {
        lost(w);
        return;
    }
    w->subscribed = w->was_subscribed = true;
    w->pause_ms = FIRST_PAUSE_MS;
    set_timer(w, PING_MS);
    if (missed || tells_of_master(w, reply))
        w->on_switch(w->arg);
}

static void ask(struct redis_watch *w, int argc, const char *const *argv)
{
    w->in_flight = true;
    w->cmd.done = on_answer;
    redis_link_send(w->link, &w->cmd, argc, argv, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    static const char *const PING[] = { "PING" };
    static const char *const SUBSCRIBE[] = { "SUBSCRIBE", "+switch-master" };
    struct redis_watch *w = arg;

    (void)fd;
    (void)what;
    if (w->subscribed) {
        if (!w->in_flight)
            ask(w, 1, PING);
        return;
    }
    if (w->link)
        redis_link_free(w->link);
    w->link = redis_link_new(w->loop, w->resolver, w->settings, &w->settings->sentinels[w->at],
                             REDIS_LINK_SENTINEL);
    redis_link_on_push(w->link, on_push, w);
    ask(w, 2, SUBSCRIBE);
}

struct redis_watch *redis_watch_new(struct loop *loop, struct resolver *resolver,
                                    const struct redis_settings *settings,
                                    void (*on_switch)(void *arg), void *arg)
{
    struct redis_watch *w = xcalloc(1, sizeof *w);

    must(settings->sentinel_count > 0);
    w->loop = loop;
    w->resolver = resolver;
    w->settings = settings;
    w->on_switch = on_switch;
    w->arg = arg;
    w->pause_ms = FIRST_PAUSE_MS;
    w->timer = event_new(loop_base(loop), -1, 0, on_timer, w);
    must(w->timer);
    set_timer(w, 0);
    return w;
}

static void reap(struct dying *d)
{
    free(CONTAINER_OF(d, struct redis_watch, dying));
}

void redis_watch_free(struct redis_watch *w)
{
    w->closing = true;
    event_free(w->timer);
    if (w->link)
        redis_link_free(w->link);
    loop_bury(w->loop, &w->dying, reap);
}
