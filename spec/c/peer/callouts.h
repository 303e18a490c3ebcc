/*
 * What the specs of peer/callout have in common: exchanges that are started,
 * run to their end and looked at.
 */
#ifndef WEIR_SPEC_CALLOUTS_H
#define WEIR_SPEC_CALLOUTS_H

#include "base/clock.h"
#include "ev/loop.h"
#include "ev/op.h"
#include "peer/callout.h"
#include "scripted.h"
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static struct loop *the_loop;
static struct callouts *the_callouts;

static inline int set_up(void **state)
{
    (void)state;
    the_loop = loop_new();
    the_callouts = callouts_new(the_loop);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (the_callouts)
        callouts_free(the_callouts);
    if (the_loop)
        loop_free(the_loop);
    the_callouts = NULL;
    the_loop = NULL;
    return 0;
}

static inline struct callout *make(const char *fmt, ...) PRINTF(1, 2);

/* One for this URL, not started. */
static inline struct callout *make(const char *fmt, ...)
{
    struct callout *c = callout_new(the_callouts);
    char url[20000];
    va_list args;

    va_start(args, fmt);
    vsnprintf(url, sizeof url, fmt, args);
    va_end(args);
    assert_int_equal(callout_set_text(c, CALLOUT_URL, str_from(url)), 0);
    return c;
}

static inline void set(struct callout *c, enum callout_text what, const char *text)
{
    assert_int_equal(callout_set_text(c, what, str_from(text)), 0);
}

static inline void set_number(struct callout *c, enum callout_number what, int64_t value)
{
    assert_int_equal(callout_set_number(c, what, value), 0);
}

static inline void add_header(struct callout *c, const char *name, const char *value)
{
    assert_int_equal(callout_add_header(c, str_from(name), str_from(value)), 0);
}

static inline void on_ended(struct op *op, void *arg)
{
    (void)op;
    ++*(unsigned *)arg;
}

static unsigned the_ended;

/* Told of its end by the_ended. */
static inline struct callout *start(struct callout *c)
{
    assert_int_equal(callout_start(c), 0);
    callout_op(c)->done = on_ended;
    callout_op(c)->arg = &the_ended;
    return c;
}

/* Turns until so many have ended, for at most eight seconds; the longest turn in ms. */
static inline int64_t turn_until(unsigned ended)
{
    int64_t now_us = clock_mono_us_exact(), end_us = now_us + 8000000, longest_us = 0;
    struct timeval tv = { 0, 10000 };

    while (the_ended < ended && now_us < end_us) {
        int64_t after_us;

        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
        after_us = clock_mono_us_exact();
        if (after_us - now_us > longest_us)
            longest_us = after_us - now_us;
        now_us = after_us;
    }
    assert_int_equal(the_ended, ended);
    return longest_us / 1000;
}

static inline void turn_for(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;
    struct timeval tv = { 0, 5000 };

    while (clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
}

static inline struct callout *run(struct callout *c)
{
    the_ended = 0;
    start(c);
    turn_until(1);
    return c;
}

static inline void assert_body(const struct callout *c, const char *p, size_t n)
{
    struct str body = callout_body(c);

    assert_int_equal(body.n, n);
    assert_true(n == 0 || memcmp(body.p, p, n) == 0);
}

/* And frees it. */
static inline void assert_answer(struct callout *c, int status, const char *body)
{
    if (callout_status(c) != status)
        fail_msg("%d: %s", callout_status(c), callout_error(c));
    assert_body(c, body, strlen(body));
    callout_free(c);
}

/* And frees it. @ in the text is the address of s. */
static inline void assert_failure(struct callout *c, int code, const char *text,
                                  const struct scripted *s)
{
    char expected[400];
    const char *at = strchr(text, '@');

    if (at)
        snprintf(expected, sizeof expected, "%.*s127.0.0.1:%u%s", (int)(at - text), text, s->port,
                 at + 1);
    assert_string_equal(callout_error(c), at ? expected : text);
    assert_int_equal(callout_status(c), code);
    assert_body(c, "", 0);
    callout_free(c);
}

/* The value of a response's field; NULL: there is none. Valid until the next call. */
static inline const char *field(const struct callout *c, const char *name)
{
    static char text[1000];
    struct str n, v;

    for (unsigned i = 0; callout_header_at(c, i, &n, &v) == 0; i++)
        if (str_eq_nocase(n, str_from(name))) {
            snprintf(text, sizeof text, "%.*s", STR_ARG(v));
            return text;
        }
    return NULL;
}

/* Answers every request of one connection with the text. */
static inline void answer_all(struct scripted *s)
{
    int fd = scripted_accept(s);

    while (scripted_head(s, fd)) {
        s->number++;
        scripted_write(fd, s->text, s->text_n);
    }
    close(fd);
}

/* One request, one answer, then the end of the connection. */
static inline void answer_once(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_write(fd, s->text, s->text_n);
    shutdown(fd, SHUT_WR);
    scripted_closed(fd);
    close(fd);
}

/* Closes the kept connections first, for which the script waits. */
static inline void end(struct scripted *s)
{
    tear_down(NULL);
    scripted_join(s);
}

static inline void end_and_begin(struct scripted *s)
{
    end(s);
    scripted_free(s);
    set_up(NULL);
}

#endif
