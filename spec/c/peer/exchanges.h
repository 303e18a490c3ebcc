/*
 * What the specs of peer/http have in common: an exchange and what is expected
 * of it, and upstreams that answer with a text.
 */
#ifndef WEIR_SPEC_EXCHANGES_H
#define WEIR_SPEC_EXCHANGES_H

#include "client.h"
#include "scripted.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define BARE(name) cmocka_unit_test_teardown(name, tear_down)

static inline struct call *get(const char *host, unsigned port)
{
    return call_run(call_new("GET", host, port));
}

static inline void assert_answer(struct call *c, unsigned status, const char *body)
{
    assert_true(c->ended);
    if (c->code != 0)
        fail_msg("%d: %s", c->code, c->x.reason.p);
    assert_int_equal(c->x.response.status, status);
    assert_int_equal(c->body.n, strlen(body));
    assert_true(c->body.n == 0 || memcmp(c->body.p, body, c->body.n) == 0);
    call_free(c);
}

static inline void assert_failure(struct call *c, int code, const char *reason)
{
    assert_true(c->ended);
    assert_int_equal(c->code, code);
    if (!strstr(c->x.reason.p, reason))
        fail_msg("%s", c->x.reason.p);
    call_free(c);
}

static inline int set_up(void **state)
{
    (void)state;
    client_open(NULL);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (the_client)
        client_close();
    return 0;
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

static inline void end(struct scripted *s)
{
    client_close();
    scripted_join(s);
    scripted_free(s);
}

static inline void see_close(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    if (s->text)
        scripted_write(fd, s->text, s->text_n);
    s->number = scripted_closed(fd);
    close(fd);
}

#endif
