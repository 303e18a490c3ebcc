/*
 * store/breaker: what all workers of an instance see of a store, though each has its own breaker,
 * and though some end while theirs is open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "ev/loop.h"
#include "shm/stats.h"
#include "store/breaker.h"

static struct stats_store the_figures;
static struct loop *the_loop;
static char the_log[] = "/tmp/test-breaker-XXXXXX";

static void probe(void *arg)
{
    (void)arg;
}

/* How often the log says so. */
static int said(const char *text)
{
    char lines[8192], *at = lines;
    FILE *f = fopen(the_log, "r");
    int n = 0;

    assert_non_null(f);
    lines[fread(lines, 1, sizeof lines - 1, f)] = '\0';
    fclose(f);
    while ((at = strstr(at, text))) {
        at++;
        n++;
    }
    return n;
}

static int set_up(void **state)
{
    struct err e;
    int fd;

    (void)state;
    strcpy(the_log + sizeof the_log - 7, "XXXXXX");
    fd = mkstemp(the_log);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(0, log_open(the_log, LOG_NOTICE, &e));
    the_figures = (struct stats_store){ .name = "memory", .used = 1 };
    the_loop = loop_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(the_loop);
    unlink(the_log);
    return 0;
}

static void says_once_what_all_workers_find(void **state)
{
    struct breaker one, other;

    (void)state;
    breaker_init(&one, the_loop, "memory", &the_figures, probe, NULL);
    breaker_init(&other, the_loop, "memory", &the_figures, probe, NULL);
    breaker_bad(&one, "gone");
    breaker_bad(&other, "gone");
    breaker_bad(&one, "gone");
    assert_int_equal(1, said("does not answer"));
    assert_int_equal(1, the_figures.open);
    breaker_good(&one);
    breaker_good(&other);
    breaker_good(&one);
    assert_int_equal(1, said("answers again"));
    assert_int_equal(0, the_figures.open);
    breaker_fini(&one);
    breaker_fini(&other);
}

static void stays_open_while_one_worker_finds_it_so(void **state)
{
    struct breaker one, other;

    (void)state;
    breaker_init(&one, the_loop, "memory", &the_figures, probe, NULL);
    breaker_init(&other, the_loop, "memory", &the_figures, probe, NULL);
    breaker_bad(&one, "no more connections");
    breaker_good(&other);
    assert_int_equal(1, the_figures.open);
    assert_int_equal(0, said("answers again"));
    breaker_fini(&one);
    breaker_fini(&other);
}

static void is_closed_by_others_when_a_worker_ends(void **state)
{
    struct breaker one, other;

    (void)state;
    breaker_init(&one, the_loop, "memory", &the_figures, probe, NULL);
    breaker_init(&other, the_loop, "memory", &the_figures, probe, NULL);
    breaker_bad(&one, "wrong password");
    /* it has died */
    the_figures.bad_ms = clock_now_ms() - 11000; /* so long ago */
    breaker_good(&other);
    assert_int_equal(0, the_figures.open);
    assert_int_equal(1, said("answers again"));
    breaker_bad(&other, "gone");
    assert_int_equal(2, said("does not answer"));
    breaker_fini(&one);
    breaker_fini(&other);
}

static void is_told_by_no_worker_that_leaves(void **state)
{
    struct breaker one, other;

    (void)state;
    breaker_init(&one, the_loop, "memory", &the_figures, probe, NULL);
    breaker_init(&other, the_loop, "memory", &the_figures, probe, NULL);
    breaker_bad(&one, "wrong password");
    breaker_leave(&one);
    breaker_bad(&one, "wrong password"); /* it goes on probing while it drains */
    breaker_good(&other);
    assert_int_equal(0, the_figures.open);
    breaker_bad(&one, "wrong password");
    breaker_good(&one);
    breaker_bad(&one, "wrong password");
    assert_int_equal(0, the_figures.open);
    assert_int_equal(1, said("answers again"));
    assert_int_equal(1, said("does not answer"));
    breaker_bad(&other, "gone");
    breaker_fini(&other);
    assert_int_equal(0, the_figures.bad_ms);
    breaker_fini(&one);
}

static void is_left_to_those_who_stay(void **state)
{
    struct breaker one, other;

    (void)state;
    breaker_init(&one, the_loop, "memory", &the_figures, probe, NULL);
    breaker_init(&other, the_loop, "memory", &the_figures, probe, NULL);
    breaker_bad(&one, "gone");
    usleep(2000);
    clock_stale();
    breaker_bad(&other, "gone");
    breaker_leave(&one);
    assert_int_not_equal(0, the_figures.bad_ms);
    breaker_fini(&one);
    assert_int_not_equal(0, the_figures.bad_ms);
    breaker_fini(&other);
    assert_int_equal(0, the_figures.bad_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(says_once_what_all_workers_find, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stays_open_while_one_worker_finds_it_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(is_closed_by_others_when_a_worker_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(is_told_by_no_worker_that_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(is_left_to_those_who_stay, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
