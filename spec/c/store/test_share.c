/*
 * store/share: two nodes that count by themselves and exchange their totals through a
 * store, which here lies in this process, may be away, and may come back empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "store/share.h"
#include "store/spans.h"

#define SYNC_MS 20

/* What the store keeps of one identity: the total of each node, and in which window. */
static struct {
    int64_t total[2], start_ms[2];
    int64_t ahead_ms; /* its clock */
    bool away;
} the_store;

struct memory {
    struct store_backend head;
    struct store_asks held;
    struct loop *loop;
    struct deferred answer;
};

struct node {
    struct region region;
    struct counter_table *table;
    struct memory *memory;
    struct channel *channel;
    struct share *share;
};

static struct loop *the_loop;
static struct node the_nodes[2];

static int carry_out(struct store_ask *ask)
{
    int me = ask->node[0] - '0';

    if (the_store.away)
        return ERR_CLOSED;
    ask->now_ms = clock_now_ms() + the_store.ahead_ms;
    if (ask->now_ms < ask->w[0].start_ms || ask->now_ms >= ask->w[0].end_ms)
        return STORE_STALE;
    if (ask->verb == STORE_SHARE) {
        the_store.total[me] = ask->own[0];
        the_store.start_ms[me] = ask->w[0].start_ms;
        ask->used[0] = the_store.start_ms[!me] == ask->w[0].start_ms ? the_store.total[!me] : 0;
    }
    return 0;
}

static void answer(struct deferred *d)
{
    struct memory *m = CONTAINER_OF(d, struct memory, answer);
    struct store_ask *ask;

    while ((ask = TAILQ_FIRST(&m->held))) {
        TAILQ_REMOVE(&m->held, ask, link);
        ask->answered(ask, carry_out(ask), "it is away");
    }
}

static void take_over(struct store_backend *b, struct store_asks *asks)
{
    struct memory *m = CONTAINER_OF(b, struct memory, head);

    TAILQ_CONCAT(&m->held, asks, link);
    loop_defer(m->loop, &m->answer, answer);
}

static void free_memory(struct store_backend *b)
{
    struct memory *m = CONTAINER_OF(b, struct memory, head);

    answer(&m->answer);
    loop_undefer(m->loop, &m->answer);
    free(m);
}

static void open_node(struct node *n, int number)
{
    static const struct store_backend_type TYPE = { .send = take_over, .free = free_memory };
    static const char *const NAMES[] = { "0000000000000000", "1000000000000000" };
    char name[64];
    struct region_options options = {
        .name = name, .bytes = REGION_MIN_BYTES, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1
    };
    struct channel_args args = { .loop = the_loop, .name = "memory" };
    struct share_args share = { .loop = the_loop, .node = NAMES[number], .sync_ms = SYNC_MS };
    struct err e;

    snprintf(name, sizeof name, "share-%d-%d", (int)getpid(), number);
    assert_int_equal(0, region_open(&n->region, &options, &e));
    assert_int_equal(0, region_unlink(name, NULL, &e));
    n->table = counter_open(&n->region);
    n->memory = xcalloc(1, sizeof *n->memory);
    n->memory->head.type = &TYPE;
    n->memory->loop = the_loop;
    TAILQ_INIT(&n->memory->held);
    args.backend = &n->memory->head;
    args.key = share.key = n->region.key;
    n->channel = channel_new(&args);
    share.channel = n->channel;
    share.counters = n->table;
    n->share = share_new(&share);
}

static void close_node(struct node *n)
{
    channel_free(n->channel);
    share_free(n->share);
    counter_close(n->table);
    region_close(&n->region);
}

static int set_up(void **state)
{
    (void)state;
    log_set_level((enum log_level)0);
    the_store.total[0] = the_store.total[1] = 0;
    the_store.away = false;
    the_store.ahead_ms = 0;
    the_loop = loop_new();
    open_node(&the_nodes[0], 0);
    open_node(&the_nodes[1], 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_node(&the_nodes[0]);
    close_node(&the_nodes[1]);
    loop_free(the_loop);
    return 0;
}

/* Several exchanges' worth of time, and of turns: a busy machine may sleep through the time. */
static void wait_for_exchanges(int count)
{
    int64_t until = clock_mono_us_exact() + count * SYNC_MS * 1000;

    for (int turns = 0; turns < 5 * count + 10 || clock_mono_us_exact() < until; turns++) {
        loop_turn(the_loop, false);
        usleep(1000);
    }
}

static struct store_waiter the_waiter;

/* The answer, waited for if it must be. */
static int answer_of(int code)
{
    if (code != STORE_WAIT)
        return code;
    for (int i = 0; i < 100 && the_waiter.op.state == OP_PENDING; i++)
        loop_turn(the_loop, false);
    assert_int_equal(OP_DONE, the_waiter.op.state);
    return the_waiter.code;
}

/* How many of so many requests the node lets through. */
static int admit(int node, int requests)
{
    static const struct counter_window window = { PERIOD_DAY, 10 };
    struct store_question q = { STR("somebody"), &window, 1, false };
    int admitted = 0;

    for (int i = 0; i < requests; i++)
        admitted += answer_of(share_admit(the_nodes[node].share, &the_waiter, &q, 1));
    return admitted;
}

static void each_node_learns_what_the_other_has_counted(void **state)
{
    (void)state;
    assert_int_equal(4, admit(0, 4));
    wait_for_exchanges(4);
    assert_int_equal(1, admit(1, 1));
    wait_for_exchanges(4);
    assert_int_equal(4, the_store.total[0]);
    assert_int_equal(1, the_store.total[1]);
    assert_int_equal(5, admit(1, 20));
    assert_true(the_waiter.use[0].used == 10);
    wait_for_exchanges(10);
    /* a node that nobody has asked meanwhile asks before it decides */
    assert_int_equal(0, admit(0, 1));
}

static void a_client_that_comes_now_and_then_gets_no_more(void **state)
{
    int admitted = 0;

    (void)state;
    for (int i = 0; i < 12; i++) {
        admitted += admit(i % 2, 1);
        wait_for_exchanges(7); /* what is known is old by then */
    }
    assert_int_equal(10, admitted);
}

static void nobody_waits_who_knows_enough(void **state)
{
    static const struct counter_window window = { PERIOD_DAY, 10 };
    struct store_question q = { STR("somebody"), &window, 1, false };
    int code = STORE_WAIT;

    (void)state;
    assert_int_equal(STORE_WAIT, share_admit(the_nodes[0].share, &the_waiter, &q, 1));
    op_cancel(&the_waiter.op); /* who leaves has used nothing */
    /* what is learnt is believed for a while, which a busy machine may sleep through */
    for (int i = 0; i < 20 && code != 1; i++) {
        wait_for_exchanges(1);
        code = share_admit(the_nodes[0].share, &the_waiter, &q, 1);
        op_cancel(&the_waiter.op);
    }
    assert_int_equal(1, code);
    assert_true(the_waiter.use[0].used == 0);
    the_store.away = true;
    wait_for_exchanges(3);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(1, answer_of(share_admit(the_nodes[0].share, &the_waiter, &q, 1)));
        wait_for_exchanges(2); /* known to be away by then: longer ago than is believed */
    }
    assert_int_equal(0, share_admit(the_nodes[0].share, &the_waiter, &q, 1));
}

static void nothing_is_lost_while_the_store_is_away(void **state)
{
    (void)state;
    assert_int_equal(2, admit(0, 2));
    wait_for_exchanges(3);
    the_store.away = true;
    assert_int_equal(3, admit(0, 3));
    wait_for_exchanges(10);
    assert_int_equal(2, the_store.total[0]);
    the_store.away = false;
    for (int i = 0; i < 100 && the_store.total[0] != 5; i++)
        wait_for_exchanges(2);
    assert_int_equal(5, the_store.total[0]);
}

static void a_store_that_comes_back_empty_is_filled_again(void **state)
{
    (void)state;
    assert_int_equal(6, admit(0, 6));
    wait_for_exchanges(3);
    the_store.total[0] = 0;
    assert_int_equal(1, admit(0, 1));
    wait_for_exchanges(3);
    assert_int_equal(7, the_store.total[0]);
}

static void what_comes_back_is_shared_too(void **state)
{
    static const struct counter_window window = { PERIOD_DAY, 10 };
    struct store_question q = { STR("somebody"), &window, 1, false };

    (void)state;
    assert_int_equal(10, admit(0, 12));
    wait_for_exchanges(3);
    share_charge(the_nodes[0].share, &q, -4);
    wait_for_exchanges(3);
    assert_int_equal(6, the_store.total[0]);
    assert_int_equal(0, answer_of(share_peek(the_nodes[1].share, &the_waiter, &q)));
    assert_true(the_waiter.use[0].used == 6);
    assert_int_equal(4, admit(1, 10));
}

/* An exchange leaves before midnight, and arrives behind it. */
static void what_was_counted_yesterday_is_not_told_of_today(void **state)
{
    int64_t now_ms = clock_now_ms();
    int64_t end_ms = store_span(PERIOD_DAY, now_ms).end_ms;

    (void)state;
    the_store.ahead_ms = end_ms - now_ms - 60000;
    assert_int_equal(6, admit(0, 6));
    wait_for_exchanges(3);
    assert_int_equal(6, the_store.total[0]);
    assert_int_equal(1, admit(0, 1));
    the_store.ahead_ms += 120000;
    wait_for_exchanges(3);
    assert_true(the_store.start_ms[0] == end_ms);
    assert_int_equal(0, the_store.total[0]);
    assert_int_equal(10, admit(1, 12));
}

/* Of two workers that share a table the other one's clock is ahead. */
static void a_sliding_window_keeps_its_count_when_the_next_has_begun(void **state)
{
    static const struct counter_window window = { -86400000, 10 };
    struct store_question q = { STR("somebody"), &window, 1, true };
    int64_t now_ms = clock_now_ms();
    int64_t end_ms = store_span(window.what, now_ms).end_ms;

    (void)state;
    the_store.ahead_ms = end_ms - now_ms - 60000;
    for (int i = 0; i < 6; i++)
        assert_int_equal(1, answer_of(share_admit(the_nodes[0].share, &the_waiter, &q, 1)));
    wait_for_exchanges(3);
    assert_int_equal(6, the_store.total[0]);
    counter_charge(the_nodes[0].table, STR("share:memory:somebody"), &window, 1, true, 1, end_ms);
    share_charge(the_nodes[0].share, &q, 0);
    wait_for_exchanges(3);
    assert_int_equal(6, the_store.total[0]);
    the_store.ahead_ms += 120000;
    share_charge(the_nodes[0].share, &q, 0);
    wait_for_exchanges(3);
    assert_true(the_store.start_ms[0] == end_ms);
    assert_int_equal(1, the_store.total[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_node_learns_what_the_other_has_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_comes_now_and_then_gets_no_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nobody_waits_who_knows_enough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_lost_while_the_store_is_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_that_comes_back_empty_is_filled_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_comes_back_is_shared_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sliding_window_keeps_its_count_when_the_next_has_begun,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_counted_yesterday_is_not_told_of_today, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
