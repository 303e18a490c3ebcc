/*
 * store/channel over a store that lies in this process: the counter table behind a
 * backend that answers a turn later. What is merged, remembered, asked again and given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "shm/stats.h"
#include "store/channel.h"
#include "store/spans.h"

struct memory {
    struct store_backend head;
    struct loop *loop;
    struct counter_table *table;
    struct store_asks held; /* sent, not answered yet */
    struct deferred answer;
    unsigned sends, asks;
    int64_t ahead_ms; /* of its clock */
    int fails;        /* with this code, unless it is 0 */
    bool holds;       /* answers nothing for now */
};

static struct region the_region;
static struct loop *the_loop;
static struct memory *the_memory;
static struct channel *the_channel;
static struct stats_store the_figures;

static int64_t the_step_s; /* how far the clock of this machine was set on */

/* In the place of libc's. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    long rc = syscall(SYS_clock_gettime, id, ts);

    if (id == CLOCK_REALTIME)
        ts->tv_sec += the_step_s;
    return (int)rc;
}

/* This machine's clock alone: the store's stays right. */
static void set_clock(int64_t by_s)
{
    the_step_s += by_s;
    the_memory->ahead_ms -= by_s * 1000;
    clock_stale();
}

static int carry_out(struct memory *m, struct store_ask *ask)
{
    struct counter_window w[COUNTER_WINDOWS_MAX];
    struct counter_use use[COUNTER_WINDOWS_MAX];

    ask->now_ms = clock_now_ms() + m->ahead_ms;
    for (unsigned i = 0; i < ask->n; i++) {
        w[i] = (struct counter_window){ ask->w[i].what, ask->w[i].limit };
        if (ask->now_ms < ask->w[i].start_ms || ask->now_ms >= ask->w[i].end_ms)
            return STORE_STALE;
    }
    counter_peek(m->table, ask->identity, w, ask->n, false, ask->now_ms, use);
    for (unsigned i = 0; i < ask->n; i++)
        ask->used[i] = (int64_t)use[i].used;
    ask->granted = 0;
    if (ask->verb == STORE_CHARGE)
        counter_charge(m->table, ask->identity, w, ask->n, false, ask->cost, ask->now_ms);
    while (ask->verb == STORE_ADMIT && ask->granted < ask->count &&
           counter_admit(m->table, ask->identity, w, ask->n, false, ask->cost, ask->now_ms, use))
        ask->granted++;
    return 0;
}

static void answer(struct deferred *d)
{
    struct memory *m = CONTAINER_OF(d, struct memory, answer);
    struct store_ask *ask;

    if (!m->holds)
        m->head.round_trips = m->sends; /* known with the answer, as those of a server */
    while (!m->holds && (ask = TAILQ_FIRST(&m->held))) {
        TAILQ_REMOVE(&m->held, ask, link);
        ask->answered(ask, m->fails ? m->fails : carry_out(m, ask), "it was told to");
    }
}

static void take_over(struct store_backend *b, struct store_asks *asks)
{
    struct memory *m = CONTAINER_OF(b, struct memory, head);
    struct store_ask *ask;

    m->sends++;
    while ((ask = TAILQ_FIRST(asks))) {
        TAILQ_REMOVE(asks, ask, link);
        TAILQ_INSERT_TAIL(&m->held, ask, link);
        m->asks++;
    }
    loop_defer(m->loop, &m->answer, answer);
}

static void free_memory(struct store_backend *b)
{
    struct memory *m = CONTAINER_OF(b, struct memory, head);

    m->fails = ERR_CANCELLED;
    m->holds = false;
    answer(&m->answer);
    loop_undefer(m->loop, &m->answer);
    free(m);
}

static struct store_backend_type the_type = { .send = take_over, .free = free_memory };

static int set_up(void **state)
{
    char name[64];
    struct region_options options = {
        .name = name, .bytes = REGION_MIN_BYTES, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1
    };
    struct channel_args args = { 0 };
    struct err e;

    (void)state;
    the_step_s = 0;
    snprintf(name, sizeof name, "channel-%d", (int)getpid());
    assert_int_equal(0, region_open(&the_region, &options, &e));
    assert_int_equal(0, region_unlink(name, NULL, &e));
    the_loop = loop_new();
    the_memory = xcalloc(1, sizeof *the_memory);
    the_memory->head.type = &the_type;
    the_memory->loop = the_loop;
    the_memory->table = counter_open(&the_region);
    TAILQ_INIT(&the_memory->held);
    args = (struct channel_args){
        .loop = the_loop, .backend = &the_memory->head, .name = "memory", .key = the_region.key
    };
    the_figures = (struct stats_store){ 0 };
    args.figures = &the_figures;
    the_type.one_batch_at_a_time = false;
    the_channel = channel_new(&args);
    return 0;
}

static int tear_down(void **state)
{
    struct counter_table *table = the_memory->table;

    (void)state;
    channel_free(the_channel);
    counter_close(table);
    loop_free(the_loop);
    region_close(&the_region);
    return 0;
}

/* A question about an hour, or a day and an hour. */
static struct counter_window the_windows[] = { { PERIOD_HOUR, 3 }, { PERIOD_DAY, 100 } };

static struct store_question ask_about(const char *identity, unsigned n)
{
    return (struct store_question){ str_from(identity), the_windows, n, false };
}

static int admit(struct store_waiter *w, const char *identity)
{
    struct store_question q = ask_about(identity, 2);

    return channel_admit(the_channel, w, &q, 1);
}

static void turn(void)
{
    for (int i = 0; i < 6; i++)
        loop_turn(the_loop, false);
}

static void merges_equal_questions_of_a_turn(void **state)
{
    struct store_waiter w[5] = { 0 }, other = { 0 };

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    assert_int_equal(STORE_WAIT, admit(&other, "another"));
    turn();
    assert_int_equal(1, the_memory->sends);
    assert_int_equal(2, the_memory->asks);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(OP_DONE, w[i].op.state);
        assert_int_equal(i < 3, w[i].code);
        assert_true(w[i].use[0].used == (i < 3 ? i : 3));
        assert_true(w[i].use[1].used == (i < 3 ? i : 3));
        assert_true(w[i].use[0].reset_ms > 0 && w[i].use[0].reset_ms <= 3600000);
    }
    assert_int_equal(1, other.code);
    assert_int_equal(6, the_figures.asked);
    assert_int_equal(4, the_figures.merged);
    assert_int_equal(1, the_figures.round_trips);
}

static void remembers_a_refusal_until_units_come_back(void **state)
{
    struct store_waiter w[4] = { 0 };
    struct store_question q = ask_about("one", 2);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    turn();
    assert_int_equal(0, w[3].code);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(0, admit(&w[0], "one"));
    assert_true(w[0].use[0].used == 3);
    assert_int_equal(1, the_memory->asks);
    /* another limit is another question */
    the_windows[0].limit = 4;
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_int_equal(1, w[0].code);
    the_windows[0].limit = 3;
    channel_charge(the_channel, &q, -2);
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_int_equal(1, w[0].code);
    assert_true(w[0].use[0].used == 2);
}

static void tells_the_refused_what_they_are_charged(void **state)
{
    struct store_waiter w[4] = { 0 };
    struct store_question q = ask_about("one", 2);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    turn();
    channel_charge(the_channel, &q, 2);
    assert_int_equal(0, admit(&w[0], "one"));
    assert_true(w[0].use[0].used == 5);
    assert_true(w[0].use[1].used == 5);
    turn();
    assert_int_equal(2, the_memory->asks);
}

static void goes_by_the_clock_of_the_store(void **state)
{
    struct store_waiter w = { 0 };

    (void)state;
    the_memory->ahead_ms = 7200000;
    assert_int_equal(STORE_WAIT, admit(&w, "one"));
    turn();
    assert_int_equal(1, w.code);
    assert_int_equal(2, the_memory->asks);
    assert_true(llabs(channel_now_ms(the_channel) - clock_now_ms() - 7200000) < 1000);
    assert_int_equal(STORE_WAIT, admit(&w, "one"));
    turn();
    assert_int_equal(3, the_memory->asks);
}

static void a_clock_of_the_store_that_is_set_back_refuses_nobody_for_longer(void **state)
{
    struct store_waiter w[4] = { 0 }, other = { 0 };

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    turn();
    assert_int_equal(0, admit(&w[0], "one"));
    the_memory->ahead_ms -= 1800 * 1000;
    assert_int_equal(STORE_WAIT, admit(&other, "another"));
    turn();
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_int_equal(0, w[0].code);
    assert_int_equal(0, admit(&w[0], "one")); /* known again, by the clock as it is now */
}

static void setting_this_machines_clock_changes_nothing(void **state)
{
    struct store_waiter w[4] = { 0 };

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    turn();
    for (int by_s = -7200; by_s <= 7200; by_s += 3600) {
        int64_t now_ms = channel_now_ms(the_channel);

        set_clock(by_s);
        assert_in_range(channel_now_ms(the_channel), now_ms, now_ms + 1000);
        assert_int_equal(0, admit(&w[0], "one"));
    }
}

static double used_in_table(const struct counter_window *w)
{
    struct counter_use use;

    counter_peek(the_memory->table, STR("one"), w, 1, false, clock_now_ms() + the_memory->ahead_ms,
                 &use);
    return use.used;
}

static void gives_nothing_back_in_the_next_window(void **state)
{
    int64_t now_ms = clock_now_ms();
    struct store_question q = ask_about("one", 2);
    struct store_waiter w = { 0 };

    (void)state;
    the_memory->ahead_ms = store_span(PERIOD_DAY, now_ms).start_ms + 13 * 3600000 - 60000 - now_ms;
    assert_int_equal(STORE_WAIT, channel_admit(the_channel, &w, &q, 2));
    turn();
    the_memory->ahead_ms += 120000;
    counter_charge(the_memory->table, q.identity, q.windows, 2, false, 3,
                   clock_now_ms() + the_memory->ahead_ms);
    channel_charge(the_channel, &q, -2);
    turn();
    assert_true(used_in_table(&the_windows[0]) == 3);
    assert_true(used_in_table(&the_windows[1]) == 3);
    channel_charge(the_channel, &(struct store_question){ q.identity, q.windows, 1, false }, -1);
    the_memory->ahead_ms += 3600000;
    turn();
    assert_int_equal(0, the_figures.failed);
    assert_true(used_in_table(&the_windows[0]) == 0);
}

static void gives_back_no_more_than_was_counted(void **state)
{
    struct store_question q = ask_about("one", 1);

    (void)state;
    channel_charge(the_channel, &q, -5);
    channel_charge(the_channel, &q, 3);
    turn();
    assert_true(used_in_table(&the_windows[0]) == 3);
}

static void counts_nobody_who_left_when_it_asks_again(void **state)
{
    struct store_waiter w[3] = { 0 };

    (void)state;
    the_memory->ahead_ms = 3600000;
    the_memory->holds = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], "one"));
    turn();
    op_cancel(&w[0].op);
    op_cancel(&w[2].op);
    the_memory->holds = false;
    loop_defer(the_loop, &the_memory->answer, answer);
    turn();
    assert_int_equal(1, w[1].code);
    assert_true(used_in_table(&the_windows[0]) == 1);
}

static void gives_up_a_store_that_fails_and_comes_back(void **state)
{
    struct store_waiter w[2] = { 0 }, late = { 0 };
    struct store_question q = ask_about("one", 1);

    (void)state;
    log_set_level((enum log_level)0);
    the_memory->fails = ERR_TIMEOUT;
    the_memory->holds = true;
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_int_equal(STORE_WAIT, channel_peek(the_channel, &late, &q));
    turn();
    the_memory->holds = false;
    the_memory->fails = ERR_CLOSED;
    answer(&the_memory->answer);
    assert_int_equal(ERR_CLOSED, w[0].code);
    assert_int_equal(ERR_CLOSED, late.code);
    assert_int_equal(ERR_CLOSED, admit(&w[1], "one"));
    assert_false(channel_is_answering(the_channel));
    /* a probe asks; it counts nothing */
    the_memory->fails = 0;
    for (int i = 0; i < 50 && !channel_is_answering(the_channel); i++) {
        usleep(10000);
        turn();
    }
    assert_true(channel_is_answering(the_channel));
    assert_int_equal(STORE_WAIT, admit(&w[1], "one"));
    turn();
    assert_int_equal(1, w[1].code);
    assert_true(w[1].use[0].used == 0);
}

static void sends_one_batch_at_a_time_where_that_is_better(void **state)
{
    struct store_waiter w[3] = { 0 };

    (void)state;
    the_type.one_batch_at_a_time = true;
    the_memory->holds = true;
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_int_equal(STORE_WAIT, admit(&w[1], "two"));
    turn();
    assert_int_equal(STORE_WAIT, admit(&w[2], "two"));
    turn();
    assert_int_equal(1, the_memory->sends);
    the_memory->holds = false;
    answer(&the_memory->answer);
    turn();
    assert_int_equal(2, the_memory->sends);
    assert_int_equal(2, the_memory->asks);
    assert_int_equal(1, w[2].code);
}

static void forgets_who_has_left(void **state)
{
    struct store_waiter w[3] = { 0 };

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(STORE_WAIT, admit(&w[i], i == 2 ? "alone" : "one"));
    op_cancel(&w[0].op);
    op_cancel(&w[2].op);
    turn();
    assert_int_equal(1, the_memory->asks);
    assert_int_equal(1, w[1].code);
    assert_true(w[1].use[0].used == 0);
    assert_int_equal(STORE_WAIT, admit(&w[0], "one"));
    turn();
    assert_true(w[0].use[0].used == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_equal_questions_of_a_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_the_refused_what_they_are_charged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(remembers_a_refusal_until_units_come_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(goes_by_the_clock_of_the_store, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_clock_of_the_store_that_is_set_back_refuses_nobody_for_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(setting_this_machines_clock_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(gives_nothing_back_in_the_next_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gives_back_no_more_than_was_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_nobody_who_left_when_it_asks_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(gives_up_a_store_that_fails_and_comes_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(sends_one_batch_at_a_time_where_that_is_better, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(forgets_who_has_left, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
