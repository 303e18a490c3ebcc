/*
 * What the specs of peer/redis_link have in common: a loop, a link, and
 * questions with what came of them.
 */
#ifndef WEIR_SPEC_LINKS_H
#define WEIR_SPEC_LINKS_H

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/redis_link.h"
#include "peer/resolve.h"
#include "secrets.h"
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define T(name) cmocka_unit_test_setup_teardown(name, links_set_up, links_tear_down)

struct question {
    struct redis_cmd cmd;
    unsigned answers; /* must become 1 */
    unsigned order;   /* of all answers */
    int code;
    char reason[300];
    int type;
    long long integer;
    size_t n; /* bytes, or elements */
    char text[256];
    void (*then)(struct question *q); /* from within done */
};

static struct loop *the_loop;
static struct resolver *the_resolver;
static struct redis_link *the_link;
static struct redis_settings the_settings;
static struct redis_node the_node;
static unsigned the_order;

static inline int links_set_up(void **state)
{
    (void)state;
    the_loop = loop_new();
    the_resolver = resolver_new(the_loop);
    the_link = NULL;
    the_order = 0;
    the_settings = (struct redis_settings){ .connect_ms = 3000, .send_ms = 3000, .read_ms = 3000 };
    return 0;
}

static inline int links_tear_down(void **state)
{
    (void)state;
    if (the_link)
        redis_link_free(the_link);
    the_link = NULL;
    secrets_release();
    loop_turn(the_loop, false);
    resolver_free(the_resolver);
    loop_free(the_loop);
    return 0;
}

static inline void link_open(const char *host, unsigned port, enum redis_link_kind kind)
{
    if (the_link)
        redis_link_free(the_link);
    the_node = (struct redis_node){ host, port };
    the_link = redis_link_new(the_loop, the_resolver, &the_settings, &the_node, kind);
}

static inline void question_done(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                                 const char *reason)
{
    struct question *q = CONTAINER_OF(cmd, struct question, cmd);

    q->answers++;
    q->order = ++the_order;
    q->code = code;
    snprintf(q->reason, sizeof q->reason, "%s", reason ? reason : "");
    assert_true((code == 0) == (reply != NULL) && (code == 0) == (reason == NULL));
    if (reply) {
        q->type = reply->type;
        q->integer = reply->integer;
        q->n = reply->type == REDIS_REPLY_ARRAY ? reply->elements : reply->len;
        snprintf(q->text, sizeof q->text, "%s", reply->str ? reply->str : "");
    }
    if (q->then)
        q->then(q);
}

/* Sends the words that stand in the text, with a blank between. */
static inline void ask(struct question *q, const char *text)
{
    char words[512];
    const char *argv[32];
    int argc = 0;

    *q = (struct question){ .cmd.done = question_done, .then = q->then };
    snprintf(words, sizeof words, "%s", text);
    for (char *rest = words, *word; (word = strsep(&rest, " ")); argc++)
        argv[argc] = word;
    redis_link_send(the_link, &q->cmd, argc, argv, NULL);
    assert_int_equal(q->answers, 0); /* never from within */
}

static inline void turn_for(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;
    struct timeval tv = { 0, 5000 };

    do {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    } while (clock_mono_us_exact() < end_us);
}

/* Turns until it is answered, for at most twenty seconds. */
static inline void await(const struct question *q)
{
    int64_t end_us = clock_mono_us_exact() + 20000000;
    struct timeval tv = { 0, 20000 };

    while (!q->answers && clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
    if (!q->answers && the_link) { /* it will not be there when the example has failed */
        redis_link_free(the_link);
        the_link = NULL;
        fail_msg("no answer");
    }
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

static inline void assert_failure(const struct question *q, int code, const char *reason)
{
    await(q);
    if (q->code != code || !strstr(q->reason, reason))
        fail_msg("%d: %s %s, not %d: %s", q->code, q->reason, q->text, code, reason);
}

/* Asks and compares a reply of text. */
static inline void assert_ask(const char *text, int type, const char *expected)
{
    struct question q = { 0 };

    ask(&q, text);
    assert_reply(&q, type, expected);
}

#define ASSERT_STATUS(text, expected) assert_ask(text, REDIS_REPLY_STATUS, expected)
#define ASSERT_STRING(text, expected) assert_ask(text, REDIS_REPLY_STRING, expected)

#endif
