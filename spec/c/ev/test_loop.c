/*
 * Turns of the loop: what runs at their end and in which order, deadlines, and
 * operations. The deadlines are real ones, of some milliseconds; only "too
 * early" and the order are asserted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/err.h"
#include "ev/loop.h"
#include "ev/op.h"

static struct loop *loop;
static char the_order[64];

static int setup(void **state)
{
    (void)state;
    loop = loop_new();
    the_order[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

struct thing {
    struct deferred deferred;
    struct dying dying;
    const char *name;
    struct thing *other;
};

static struct thing *thing_of(struct deferred *d)
{
    return CONTAINER_OF(d, struct thing, deferred);
}

static void note(struct deferred *d)
{
    strcat(the_order, thing_of(d)->name);
}

static void reap(struct dying *d)
{
    strcat(the_order, CONTAINER_OF(d, struct thing, dying)->name);
}

/* ---- deferred */

static void deferred_calls_run_once_in_their_order(void **state)
{
    struct thing a = { .name = "a" }, b = { .name = "b" };

    (void)state;
    loop_defer(loop, &b.deferred, note);
    loop_defer(loop, &a.deferred, note);
    loop_defer(loop, &b.deferred, note);
    assert_string_equal(the_order, "");
    loop_turn(loop, true); /* does not wait: there is something to do */
    assert_string_equal(the_order, "ba");
    loop_turn(loop, false);
    assert_string_equal(the_order, "ba");
    loop_defer(loop, &b.deferred, note);
    loop_turn(loop, false);
    assert_string_equal(the_order, "bab");
}

static void a_deferred_call_may_be_forgotten(void **state)
{
    struct thing a = { .name = "a" }, b = { .name = "b" };

    (void)state;
    loop_undefer(loop, &a.deferred);
    loop_defer(loop, &a.deferred, note);
    loop_defer(loop, &b.deferred, note);
    loop_undefer(loop, &a.deferred);
    loop_undefer(loop, &a.deferred);
    loop_turn(loop, false);
    assert_string_equal(the_order, "b");
    loop_defer(loop, &a.deferred, note);
    loop_turn(loop, false);
    assert_string_equal(the_order, "ba");
}

static void note_and_forget_the_other(struct deferred *d)
{
    note(d);
    loop_undefer(loop, &thing_of(d)->other->deferred);
}

static void note_and_defer_the_other(struct deferred *d)
{
    note(d);
    loop_defer(loop, &thing_of(d)->other->deferred, note);
}

static void deferred_calls_may_change_the_queue(void **state)
{
    struct thing b = { .name = "b" }, a = { .name = "a", .other = &b };

    (void)state;
    loop_defer(loop, &a.deferred, note_and_forget_the_other);
    loop_defer(loop, &b.deferred, note);
    loop_turn(loop, false);
    assert_string_equal(the_order, "a");
    loop_defer(loop, &a.deferred, note_and_defer_the_other);
    loop_turn(loop, false);
    assert_string_equal(the_order, "aab"); /* of the same turn */
}

static void note_and_defer_again(struct deferred *d)
{
    note(d);
    if (strlen(the_order) < 3)
        loop_defer(loop, d, note_and_defer_again);
}

static void a_deferred_call_may_defer_itself(void **state)
{
    struct thing a = { .name = "a" };

    (void)state;
    loop_defer(loop, &a.deferred, note_and_defer_again);
    for (int i = 0; i < 3; i++)
        loop_turn(loop, false);
    assert_string_equal(the_order, "aaa");
}

/* ---- the dying */

static void note_and_defer_for_ever(struct deferred *d)
{
    if (strlen(the_order) < sizeof the_order - 8)
        note(d);
    loop_defer(loop, d, note_and_defer_for_ever);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

/* The loop comes to its events, and what is dying waits as long as there is a call left. */
static void one_that_defers_itself_for_ever_stops_nobody(void **state)
{
    struct thing a = { .name = "a" }, d = { .name = "d" };
    bool seen = false;

    (void)state;
    loop_defer(loop, &a.deferred, note_and_defer_for_ever);
    loop_bury(loop, &d.dying, reap);
    loop_turn(loop, true);
    assert_true(a.deferred.queued);
    event_base_once(loop_base(loop), -1, EV_TIMEOUT, on_event, &seen, &(struct timeval){ 0, 0 });
    loop_turn(loop, true);
    assert_true(seen);
    assert_null(strchr(the_order, 'd'));
    loop_undefer(loop, &a.deferred);
    loop_turn(loop, false);
    assert_int_equal(the_order[strlen(the_order) - 1], 'd');
}

static void note_and_bury(struct deferred *d)
{
    note(d);
    loop_bury(loop, &thing_of(d)->dying, reap);
}

static void the_dying_go_after_the_deferred(void **state)
{
    struct thing a = { .name = "a" }, b = { .name = "b" }, c = { .name = "c" };

    (void)state;
    loop_bury(loop, &c.dying, reap);
    loop_defer(loop, &a.deferred, note_and_bury);
    loop_defer(loop, &b.deferred, note);
    assert_string_equal(the_order, "");
    loop_turn(loop, false);
    assert_string_equal(the_order, "abca");
    loop_turn(loop, false);
    assert_string_equal(the_order, "abca");
}

static void free_thing(struct dying *d)
{
    struct thing *x = CONTAINER_OF(d, struct thing, dying);

    if (x->other)
        loop_bury(loop, &x->other->dying, free_thing);
    strcat(the_order, x->name);
    free(x);
}

static struct thing *new_thing(const char *name, struct thing *other)
{
    struct thing *x = calloc(1, sizeof *x);

    assert_non_null(x);
    x->name = name;
    x->other = other;
    return x;
}

static void the_dying_may_bury_and_be_freed(void **state)
{
    struct thing *x = new_thing("x", new_thing("y", new_thing("z", NULL)));

    (void)state;
    loop_bury(loop, &x->dying, free_thing);
    loop_turn(loop, false);
    assert_string_equal(the_order, "xyz");
}

static void the_end_of_the_loop_frees_the_dying(void **state)
{
    struct loop *kept = loop;
    struct thing *x = new_thing("x", NULL);
    struct thing a = { .name = "a" };

    (void)state;
    loop = loop_new();
    loop_bury(loop, &x->dying, free_thing);
    loop_defer(loop, &a.deferred, note);
    loop_free(loop);
    assert_string_equal(the_order, "ax");
    loop = kept;
}

/* ---- events and turns */

struct reader {
    struct thing thing;
    struct event *event;
    int64_t seen_ms, seen_later_ms;
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct reader *r = arg;
    char byte;

    (void)what;
    assert_int_equal(read(fd, &byte, 1), 1);
    r->seen_ms = clock_mono_ms();
    usleep(3000);
    r->seen_later_ms = clock_mono_ms();
    strcat(the_order, r->thing.name);
    loop_bury(loop, &r->thing.dying, reap);
    if (byte == 's')
        loop_stop(loop);
}

static void an_event_is_a_turn_and_time_stands_still_in_it(void **state)
{
    struct reader r = { .thing.name = "r" };
    int64_t before_ms;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    r.event = event_new(loop_base(loop), ends[0], EV_READ | EV_PERSIST, on_readable, &r);
    event_add(r.event, NULL);
    loop_turn(loop, false);
    assert_string_equal(the_order, "");
    before_ms = clock_mono_ms(); /* as a worker does that gets ready, before its first wait */
    usleep(3000);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop, true);
    assert_string_equal(the_order, "rr"); /* read, and reaped */
    assert_int_equal(r.seen_ms, r.seen_later_ms);
    assert_true(r.seen_ms >= before_ms + 3);
    before_ms = r.seen_ms;
    assert_int_equal(write(ends[1], "s", 1), 1);
    loop_run(loop); /* until the s */
    assert_string_equal(the_order, "rrrr");
    assert_true(r.seen_ms >= before_ms + 3);
    event_free(r.event);
    close(ends[0]);
    close(ends[1]);
}

static void note_and_stop(struct deferred *d)
{
    note(d);
    loop_stop(loop);
}

static void the_loop_can_be_stopped_at_a_turns_end_and_run_again(void **state)
{
    struct thing a = { .name = "a" };

    (void)state;
    for (int i = 0; i < 3; i++) {
        loop_defer(loop, &a.deferred, note_and_stop);
        loop_run(loop);
    }
    assert_string_equal(the_order, "aaa");
}

/* ---- libevent's own words */

static void turn_inside_a_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    assert_int_equal(event_base_dispatch(arg), -1);
}

static void libevent_complains_in_the_log(void **state)
{
    struct timeval now = { 0 };
    char path[] = "/tmp/weir-loop-XXXXXX", text[1000];
    int saved = dup(STDERR_FILENO), errors = mkstemp(path);
    ssize_t n;

    (void)state;
    dup2(errors, STDERR_FILENO);
    assert_int_equal(
        event_base_once(loop_base(loop), -1, EV_TIMEOUT, turn_inside_a_turn, loop_base(loop), &now),
        0);
    loop_turn(loop, false);
    dup2(saved, STDERR_FILENO);
    n = pread(errors, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    assert_non_null(strstr(text, "[warn]"));
    assert_non_null(strstr(text, "libevent: event_base_loop: reentrant"));
    close(errors);
    close(saved);
    unlink(path);
}

/* ---- deadlines */

struct timed {
    struct deadline deadline;
    int number;
    int64_t set_ms, fired_ms;
};

static struct deadline_queue the_queue;
static int the_fired[64];
static size_t the_fired_n;

static void on_expired(struct deadline *d)
{
    struct timed *x = CONTAINER_OF(d, struct timed, deadline);

    assert_false(d->queued);
    x->fired_ms = clock_mono_us_exact() / 1000;
    the_fired[the_fired_n++] = x->number;
}

static void set(struct timed *x)
{
    x->set_ms = clock_mono_ms();
    deadline_set(&the_queue, &x->deadline);
}

static void turn_for_ms(int64_t span_ms)
{
    int64_t end_ms = clock_mono_us_exact() / 1000 + span_ms;

    while (clock_mono_us_exact() / 1000 < end_ms) {
        loop_turn(loop, false);
        usleep(500);
    }
}

static void turn_until_fired(size_t n)
{
    for (int i = 0; i < 20000 && the_fired_n < n; i++) {
        loop_turn(loop, false);
        usleep(500);
    }
    assert_int_equal(the_fired_n, n);
}

static void begin_queue(int64_t span_ms)
{
    the_fired_n = 0;
    deadline_queue_init(&the_queue, loop, span_ms, on_expired);
}

static void deadlines_fire_in_order_and_not_early(void **state)
{
    struct timed x[8] = { 0 };

    (void)state;
    begin_queue(40);
    for (int i = 0; i < 8; i++) {
        x[i].number = i;
        set(&x[i]);
        turn_for_ms(3);
    }
    turn_until_fired(8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(the_fired[i], i);
        assert_true(x[i].fired_ms >= x[i].set_ms + 40);
    }
    deadline_queue_fini(&the_queue);
}

static void a_deadline_set_again_moves(void **state)
{
    struct timed a = { .number = 1 }, b = { .number = 2 };

    (void)state;
    begin_queue(40);
    set(&a);
    turn_for_ms(5);
    set(&b);
    turn_for_ms(20);
    set(&a);
    turn_until_fired(2);
    assert_int_equal(the_fired[0], 2);
    assert_int_equal(the_fired[1], 1);
    assert_true(a.fired_ms >= a.set_ms + 40);
    set(&a); /* and after it has fired */
    turn_until_fired(3);
    deadline_queue_fini(&the_queue);
}

static void a_deadline_that_is_cleared_does_not_fire(void **state)
{
    struct timed a = { .number = 1 }, b = { .number = 2 };

    (void)state;
    begin_queue(10);
    deadline_clear(&the_queue, &a.deadline);
    set(&a);
    set(&b);
    deadline_clear(&the_queue, &a.deadline);
    deadline_clear(&the_queue, &a.deadline);
    turn_until_fired(1);
    turn_for_ms(20);
    assert_int_equal(the_fired_n, 1);
    assert_int_equal(the_fired[0], 2);
    deadline_queue_fini(&the_queue);
}

static void a_deadline_is_in_one_queue_at_a_time(void **state)
{
    struct timed a = { .number = 1 }, b = { .number = 2 }, c = { .number = 3 };
    struct deadline_queue other;

    (void)state;
    begin_queue(10);
    deadline_queue_init(&other, loop, 20, on_expired);
    set(&a);
    set(&b);
    deadline_clear(&other, &b.deadline); /* is not in there: nothing happens to either */
    set(&c);
    turn_until_fired(3);
    deadline_set(&other, &a.deadline);
    deadline_set(&other, &b.deadline);
    set(&b);
    assert_ptr_equal(b.deadline.queued, &the_queue);
    deadline_set(&other, &c.deadline);
    turn_until_fired(6);
    assert_int_equal(the_fired[3], 2);
    assert_int_equal(the_fired[4], 1);
    assert_int_equal(the_fired[5], 3);
    deadline_queue_fini(&other);
    deadline_queue_fini(&the_queue);
}

static void on_expired_clear_the_next(struct deadline *d)
{
    struct timed *x = CONTAINER_OF(d, struct timed, deadline);

    on_expired(d);
    deadline_clear(&the_queue, &x[1].deadline);
    if (the_fired_n < 3)
        deadline_set(&the_queue, &x[0].deadline);
}

static void a_deadline_may_change_the_queue_when_it_fires(void **state)
{
    struct timed x[2] = { { .number = 0 }, { .number = 1 } };

    (void)state;
    begin_queue(5);
    the_queue.on_expired = on_expired_clear_the_next;
    set(&x[0]);
    set(&x[1]);
    turn_until_fired(3);
    turn_for_ms(15);
    assert_int_equal(the_fired_n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(the_fired[i], 0);
    deadline_queue_fini(&the_queue);
}

static void no_span_no_deadline(void **state)
{
    struct timed a = { .number = 1 };

    (void)state;
    begin_queue(0);
    set(&a);
    assert_false(a.deadline.queued);
    turn_for_ms(5);
    assert_int_equal(the_fired_n, 0);
    deadline_queue_fini(&the_queue);
}

static void a_waiting_loop_wakes_for_a_deadline(void **state)
{
    struct timed a = { .number = 1 };

    (void)state;
    begin_queue(10);
    set(&a);
    for (int i = 0; i < 100 && the_fired_n == 0; i++)
        loop_turn(loop, true);
    assert_int_equal(the_fired_n, 1);
    deadline_queue_fini(&the_queue);
}

/* ---- operations */

struct call {
    struct op op;
    int done, cancelled;
};

static void on_done(struct op *op, void *arg)
{
    struct call *c = arg;

    assert_ptr_equal(op, &c->op);
    assert_int_equal(op->state, OP_DONE);
    c->done++;
}

static void on_cancel(struct op *op)
{
    CONTAINER_OF(op, struct call, op)->cancelled++;
}

static struct call start_call(void)
{
    struct call c = { .done = 0 };

    op_init(&c.op, on_cancel);
    assert_int_equal(c.op.state, OP_IDLE);
    op_start(&c.op);
    c.op.done = on_done;
    return c;
}

static void an_operation_finishes_once(void **state)
{
    struct call c = start_call();

    (void)state;
    c.op.arg = &c;
    assert_int_equal(c.op.state, OP_PENDING);
    op_finish(&c.op, ERR_TIMEOUT);
    assert_int_equal(c.done, 1);
    assert_int_equal(c.op.code, ERR_TIMEOUT);
    op_cancel(&c.op);
    assert_int_equal(c.cancelled, 0);
    assert_int_equal(c.op.code, ERR_TIMEOUT);
}

static void a_cancelled_operation_is_never_done(void **state)
{
    struct call c = start_call(), idle = { .done = 0 };

    (void)state;
    c.op.arg = &c;
    op_cancel(&c.op);
    op_cancel(&c.op);
    assert_int_equal(c.cancelled, 1);
    assert_int_equal(c.done, 0);
    assert_int_equal(c.op.state, OP_DONE);
    assert_int_equal(c.op.code, ERR_CANCELLED);
    op_init(&idle.op, on_cancel);
    op_cancel(&idle.op);
    assert_int_equal(idle.cancelled, 0);
    assert_int_equal(idle.op.state, OP_IDLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deferred_calls_run_once_in_their_order),
        TEST(a_deferred_call_may_be_forgotten),
        TEST(deferred_calls_may_change_the_queue),
        TEST(a_deferred_call_may_defer_itself),
        TEST(one_that_defers_itself_for_ever_stops_nobody),
        TEST(the_dying_go_after_the_deferred),
        TEST(the_dying_may_bury_and_be_freed),
        TEST(the_end_of_the_loop_frees_the_dying),
        TEST(an_event_is_a_turn_and_time_stands_still_in_it),
        TEST(the_loop_can_be_stopped_at_a_turns_end_and_run_again),
        TEST(libevent_complains_in_the_log),
        TEST(deadlines_fire_in_order_and_not_early),
        TEST(a_deadline_set_again_moves),
        TEST(a_deadline_that_is_cleared_does_not_fire),
        TEST(a_deadline_is_in_one_queue_at_a_time),
        TEST(a_deadline_may_change_the_queue_when_it_fires),
        TEST(no_span_no_deadline),
        TEST(a_waiting_loop_wakes_for_a_deadline),
        TEST(an_operation_finishes_once),
        TEST(a_cancelled_operation_is_never_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
