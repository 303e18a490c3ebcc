/*
 * The keeper of an example's secrets: the next look-up of any of them gives
 * what the example has laid out, a while after it was asked for.
 */
#ifndef WEIR_SPEC_KEEPER_H
#define WEIR_SPEC_KEEPER_H

#include "secrets.h"
#include "ev/loop.h"
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct {
    const char *value; /* NULL: the look-up fails */
    int wait_ms;       /* -1: for ever */
    unsigned asked;
    unsigned due; /* look-ups on their way */
    struct secret *of[SECRETS_MAX];
    struct event *timer;
} the_keeper;

static inline void keeper_tell(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    while (the_keeper.due > 0) {
        struct secret *s = the_keeper.of[--the_keeper.due];

        if (the_keeper.value)
            assert_int_equal(secret_put(s, str_from(the_keeper.value)), 0);
        else
            secret_fail(s, STR("the vault is asleep"), false);
    }
}

static inline void keeper_ask(void *arg, struct secret *s)
{
    struct timeval tv = { 0, the_keeper.wait_ms * 1000 };

    (void)arg;
    the_keeper.asked++;
    if (the_keeper.wait_ms < 0)
        return;
    the_keeper.of[the_keeper.due++] = s;
    event_add(the_keeper.timer, &tv);
}

static inline void keeper_open(struct loop *loop)
{
    memset(&the_keeper, 0, sizeof the_keeper);
    the_keeper.wait_ms = 10;
    the_keeper.timer = event_new(loop_base(loop), -1, 0, keeper_tell, NULL);
    must(the_keeper.timer);
    secret_set_keeper(keeper_ask, NULL);
}

static inline void keeper_close(void)
{
    event_free(the_keeper.timer);
    secret_set_keeper(NULL, NULL);
}

/* A named secret with this value. */
static inline struct secret *kept(const char *name, const char *value)
{
    struct secret *s = secret_of(name);

    assert_int_equal(secret_put(s, str_from(value)), 0);
    return s;
}

/* What a look-up in the background would do. */
static inline void renew(struct secret *s, const char *value)
{
    assert_int_equal(secret_put(s, str_from(value)), 0);
}

#endif
