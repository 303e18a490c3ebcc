/*
 * What the specs of peer/redis have in common: a client, calls with what came
 * of them, and streams of INCR that run while something else happens.
 */
#ifndef WEIR_SPEC_REDIS_CALLS_H
#define WEIR_SPEC_REDIS_CALLS_H

#include "redis_servers.h"
#include "secrets.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/redis.h"
#include "peer/resolve.h"
#include <event2/event.h>

#define T(name) cmocka_unit_test_setup_teardown(name, calls_set_up, calls_tear_down)

struct question {
    struct redis_call call;
    unsigned answers; /* must become 1 */
    int code;
    char reason[1000];
    int type;
    long long integer;
    char text[512];
    void (*then)(struct question *q); /* from within done */
};

static struct loop *the_loop;
static struct resolver *the_resolver;
static struct redis *the_redis;
static struct redis_settings the_settings;

static inline int calls_set_up(void **state)
{
    (void)state;
    the_loop = loop_new();
    the_resolver = resolver_new(the_loop);
    the_redis = NULL;
    the_settings = (struct redis_settings){
        .connect_ms = 1000, .send_ms = 1000, .read_ms = 1000, .cluster_max_redirections = 5
    };
    return 0;
}

static inline void client_open(void)
{
    the_redis = redis_new(the_loop, the_resolver, &the_settings);
}

static inline void client_close(void)
{
    if (the_redis)
        redis_free(the_redis);
    the_redis = NULL;
}

static inline int calls_tear_down(void **state)
{
    (void)state;
    client_close();
    secrets_release();
    loop_turn(the_loop, false);
    resolver_free(the_resolver);
    loop_free(the_loop);
    return 0;
}

static inline void question_done(struct redis_call *call, int code, const struct redisReply *reply,
                                 const char *reason)
{
    struct question *q = CONTAINER_OF(call, struct question, call);

    q->answers++;
    assert_int_equal(q->answers, 1);
    q->code = code;
    assert_true((code == 0) == (reply != NULL) && (code == 0) == (reason == NULL));
    snprintf(q->reason, sizeof q->reason, "%s", reason ? reason : "");
    if (reply) {
        q->type = reply->type;
        q->integer = reply->integer;
        snprintf(q->text, sizeof q->text, "%s", reply->str ? reply->str : "");
    }
    if (q->then)
        q->then(q);
}

/* Room for words that end before the call does: what is sent must have been copied. */
struct words {
    char text[512];
    const char *argv[32];
    int argc;
};

static inline void split(struct words *w, const char *text)
{
    w->argc = 0;
    snprintf(w->text, sizeof w->text, "%s", text);
    for (char *rest = w->text, *word; (word = strsep(&rest, " ")); w->argc++)
        w->argv[w->argc] = word;
}

static inline void begin(struct question *q)
{
    bool read_only = q->call.read_only;

    *q = (struct question){ .then = q->then };
    q->call.read_only = read_only;
    q->call.done = question_done;
}

/* Sends the words that stand in the text, with a blank between; the second is the key. */
static inline void ask(struct question *q, const char *text)
{
    struct words w;

    split(&w, text);
    begin(q);
    redis_send(the_redis, &q->call, str_from(w.argc > 1 ? w.argv[1] : ""), w.argc, w.argv, NULL);
    assert_int_equal(q->answers, 0); /* never from within */
    memset(&w, 'x', sizeof w);
}

/* The same for a script with one key. */
static inline void ask_script(struct question *q, const struct redis_script *script,
                              const char *text)
{
    struct words w;

    split(&w, text);
    begin(q);
    redis_eval(the_redis, &q->call, script, 1, w.argc, w.argv, NULL);
    assert_int_equal(q->answers, 0);
    memset(&w, 'x', sizeof w);
}

/* A turn that waits for at most a few milliseconds. */
static inline void turn(void)
{
    struct timeval tv = { 0, 5000 };

    event_base_loopexit(loop_base(the_loop), &tv);
    loop_turn(the_loop, true);
}

static inline void turn_for(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;

    do
        turn();
    while (clock_mono_us_exact() < end_us);
}

/* Turns until it is answered, for at most ten seconds. */
static inline void await(const struct question *q)
{
    int64_t end_us = clock_mono_us_exact() + 10000000;

    while (!q->answers && clock_mono_us_exact() < end_us)
        turn();
    assert_int_equal(q->answers, 1);
}

static inline void assert_reply(const struct question *q, int type, const char *text)
{
    await(q);
    if (q->code)
        fail_msg("%d: %s", q->code, q->reason);
    if (q->type != type)
        fail_msg("type %d: %s", q->type, q->text);
    assert_string_equal(q->text, text);
}

static inline void assert_integer(const struct question *q, long long n)
{
    assert_reply(q, REDIS_REPLY_INTEGER, "");
    assert_int_equal(q->integer, n);
}

static inline void assert_failure(const struct question *q, int code, const char *reason)
{
    await(q);
    if (q->code != code || !strstr(q->reason, reason))
        fail_msg("%d: %s %s, not %d: %s", q->code, q->reason, q->text, code, reason);
}

/* ---- streams ---- */

#define STREAM_CALLS 32
#define STREAM_KEYS 64

/* INCR of one key after the other, always so many at a time. */
struct stream {
    struct question calls[STREAM_CALLS];
    const char *key; /* "{tag}:%u" */
    const struct redis_script *script;
    unsigned sent, good, bad, last_bad; /* last_bad: good ones since */
    unsigned good_of[STREAM_KEYS], sent_of[STREAM_KEYS];
    unsigned key_of[STREAM_CALLS];
    bool ends;
    char reason[1000]; /* of the last bad one */
};

static struct stream the_stream;

static inline void stream_send(unsigned i)
{
    struct stream *s = &the_stream;
    unsigned key = s->sent++ % STREAM_KEYS;
    char text[64], name[48];

    s->key_of[i] = key;
    s->sent_of[key]++;
    snprintf(name, sizeof name, "%s:%u", s->key, key);
    if (s->script) {
        ask_script(&s->calls[i], s->script, name);
    } else {
        snprintf(text, sizeof text, "INCR %s", name);
        ask(&s->calls[i], text);
    }
}

static inline void stream_take(struct stream *s, unsigned i)
{
    struct question *q = &s->calls[i];

    if (q->code == 0 && q->type == REDIS_REPLY_INTEGER) {
        s->good++;
        s->good_of[s->key_of[i]]++;
        s->last_bad++;
    } else {
        s->bad++;
        s->last_bad = 0;
        snprintf(s->reason, sizeof s->reason, "%s", q->code ? q->reason : q->text);
    }
    q->answers = 0;
}

/* Lets the stream run for so long. Answered ones are sent again in the next turn. */
static inline void stream_for(int ms)
{
    struct stream *s = &the_stream;
    int64_t end_us = clock_mono_us_exact() + ms * 1000;

    do {
        turn();
        for (unsigned i = 0; i < STREAM_CALLS; i++)
            if (s->calls[i].answers) {
                stream_take(s, i);
                stream_send(i);
            }
    } while (clock_mono_us_exact() < end_us);
}

static inline void stream_start(const char *key, const struct redis_script *script)
{
    the_stream = (struct stream){ .key = key, .script = script };
    for (unsigned i = 0; i < STREAM_CALLS; i++)
        stream_send(i);
}

/* Runs until thousands have been answered well without a bad one between, at most that long. */
static inline void stream_until_good(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;

    the_stream.last_bad = 0;
    while (the_stream.last_bad < 2000 && clock_mono_us_exact() < end_us)
        stream_for(50);
    if (the_stream.last_bad < 2000)
        fail_msg("%u good, %u bad, the last %u ago: %s", the_stream.good, the_stream.bad,
                 the_stream.last_bad, the_stream.reason);
}

/* Every call is answered once, and no answer comes later. */
static inline void stream_end(void)
{
    struct stream *s = &the_stream;

    for (unsigned i = 0; i < STREAM_CALLS; i++) {
        await(&s->calls[i]);
        stream_take(s, i);
        s->calls[i].answers = 1; /* another one fails */
    }
    assert_int_equal(s->good + s->bad, s->sent);
    turn_for(50);
}

#endif
