/*
 * store/store: the end of a process while questions are in flight to a Redis that
 * takes connections and says nothing. A build with sanitizers sees what is used too late.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "conf/parse.h"
#include "ev/loop.h"
#include "shm/region.h"
#include "store/store.h"

static struct loop *the_loop;
static struct conf *the_conf;
static struct region the_region;
static struct counter_table *the_table;
static struct stores *the_stores;
static int the_listener;
static char the_settings[64];
static struct str the_redis;

static void listen_silently(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof in;

    the_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(0, bind(the_listener, (struct sockaddr *)&in, n));
    assert_int_equal(0, listen(the_listener, 8));
    assert_int_equal(0, getsockname(the_listener, (struct sockaddr *)&in, &n));
    n = (socklen_t)snprintf(the_settings, sizeof the_settings, "host=127.0.0.1%cport=%u", 0,
                            ntohs(in.sin_port));
    the_redis = (struct str){ the_settings, n + 1 };
}

static int set_up(void **state)
{
    char name[64];
    struct region_options options = {
        .name = name, .bytes = REGION_MIN_BYTES, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1
    };
    struct stores_args args = { 0 };
    struct err e = { 0 };

    (void)state;
    log_set_level((enum log_level)0);
    listen_silently();
    snprintf(name, sizeof name, "store-%d", (int)getpid());
    assert_int_equal(0, region_open(&the_region, &options, &e));
    assert_int_equal(0, region_unlink(name, NULL, &e));
    the_table = counter_open(&the_region);
    assert_int_equal(0, conf_load_text(&the_conf, "t.conf", STR(""), &e));
    the_loop = loop_new();
    args = (struct stores_args){
        .loop = the_loop, .conf = the_conf, .counters = the_table, .key = the_region.key
    };
    the_stores = stores_new(&args);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(the_loop);
    conf_free(the_conf);
    counter_close(the_table);
    region_close(&the_region);
    close(the_listener);
    return 0;
}

static void turn_for(int ms)
{
    int64_t end_ms = clock_mono_ms() + ms;

    while (clock_mono_ms() < end_ms) {
        loop_turn(the_loop, false);
        usleep(1000);
    }
}

static void ends_while_an_exchange_is_in_flight(void **state)
{
    struct counter_window w = { .what = -60000, .limit = 5 };
    struct store_question q = { STR("somebody"), &w, 1, false };
    struct store_waiter waiter = { 0 };
    struct store *store;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(0, stores_open(the_stores, STR("redis"), the_redis, 10, &store, &e));
    assert_int_equal(STORE_WAIT, store_admit(store, &waiter, &q, 1));
    turn_for(100);
    op_cancel(&waiter.op); /* nobody waits any more */
    stores_free(the_stores);
}

static void ends_while_a_charge_is_in_flight(void **state)
{
    struct counter_window w = { .what = -60000, .limit = 5 };
    struct store_question q = { STR("somebody"), &w, 1, true };
    struct store *store;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(0, stores_open(the_stores, STR("redis"), the_redis, 0, &store, &e));
    store_charge(store, &q, 3);
    turn_for(20);
    store_charge(store, &q, 2);
    stores_free(the_stores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ends_while_an_exchange_is_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ends_while_a_charge_is_in_flight, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
