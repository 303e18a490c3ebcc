/*
 * The thread for calls that block: order, lateness, what becomes of errands
 * when it is freed, even when the thread does not come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "peer/errands.h"

struct job {
    struct errand errand;
    int number;
    int fd; /* read from it, if it is above 0: blocks */
    bool begun, ran, late, done, signals_blocked;
    pthread_t thread;
};

static struct loop *loop;
static struct errands *es;
static int order[16], orders, rests, ends;

static void run(struct errand *e)
{
    struct job *j = CONTAINER_OF(e, struct job, errand);
    sigset_t mask;
    char byte;

    __atomic_store_n(&j->begun, true, __ATOMIC_SEQ_CST);
    if (j->fd > 0)
        assert_int_equal(read(j->fd, &byte, 1), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    j->signals_blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGXFSZ);
    j->thread = pthread_self();
    j->ran = true;
}

static void on_late(struct errand *e)
{
    struct job *j = CONTAINER_OF(e, struct job, errand);

    assert_false(j->late);
    j->late = true;
}

static void on_done(struct errand *e)
{
    struct job *j = CONTAINER_OF(e, struct job, errand);

    assert_false(j->done);
    j->done = true;
    order[orders++] = j->number;
}

static void on_rest(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&rests, 1, __ATOMIC_SEQ_CST);
}

static void on_end(void *arg)
{
    assert_ptr_equal(arg, &ends);
    __atomic_fetch_add(&ends, 1, __ATOMIC_SEQ_CST);
}

static void begin(int64_t late_ms)
{
    const struct errands_args args = { loop = loop_new(), late_ms, on_rest, on_end, &ends };

    es = errands_new(&args);
    orders = rests = ends = 0;
}

static int setup(void **state)
{
    (void)state;
    begin(60000);
    return 0;
}

static int setup_impatient(void **state)
{
    (void)state;
    begin(100);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void add(struct job *j, int number, int fd)
{
    *j = (struct job){ .number = number, .fd = fd };
    j->errand.run = run;
    j->errand.late = on_late;
    j->errand.done = on_done;
    errands_add(es, &j->errand);
}

static void wait_until_begun(const struct job *j)
{
    while (!__atomic_load_n(&j->begun, __ATOMIC_SEQ_CST))
        usleep(1000);
}

static void they_run_in_order_in_a_thread_without_signals(void **state)
{
    struct job jobs[10];

    (void)state;
    for (int i = 0; i < 10; i++)
        add(&jobs[i], i, 0);
    while (orders < 10)
        loop_turn(loop, true);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(order[i], i);
        assert_true(jobs[i].ran && !jobs[i].late && jobs[i].signals_blocked);
        assert_false(pthread_equal(jobs[i].thread, pthread_self()));
    }
    errands_free(es);
    assert_int_equal(ends, 1);
    assert_int_equal(rests, 10);
}

static void one_that_blocks_is_late_and_done_when_it_comes_back(void **state)
{
    struct job blocked, waiting;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    add(&blocked, 1, fds[0]);
    wait_until_begun(&blocked);
    add(&waiting, 2, 0);
    while (!blocked.late || !waiting.late)
        loop_turn(loop, true);
    assert_false(blocked.done);
    assert_true(waiting.done); /* the thread had not begun it, and never will */
    assert_int_equal(write(fds[1], "x", 1), 1);
    while (!blocked.done)
        loop_turn(loop, true);
    assert_true(blocked.ran);
    assert_false(waiting.ran);
    add(&waiting, 3, 0);
    while (!waiting.done)
        loop_turn(loop, true);
    errands_free(es);
    close(fds[0]);
    close(fds[1]);
}

static void what_waits_is_done_at_the_end_without_having_run(void **state)
{
    struct job first, second;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    add(&first, 1, fds[0]);
    add(&second, 2, 0);
    wait_until_begun(&first);
    assert_int_equal(write(fds[1], "x", 1), 1);
    errands_free(es);
    assert_true(first.done && second.done);
    assert_true(first.ran);
    assert_false(first.late || second.late);
    assert_int_equal(ends, 1);
    close(fds[0]);
    close(fds[1]);
}

static void nothing_is_begun_for_nothing(void **state)
{
    (void)state;
    errands_free(es);
    assert_int_equal(ends, 1);
    assert_int_equal(rests, 0);
}

static void a_thread_that_does_not_come_back_is_left(void **state)
{
    struct job *stuck = xmalloc(sizeof *stuck), waiting;
    int fds[2];
    int64_t before_us = clock_mono_us_exact();

    (void)state;
    assert_int_equal(pipe(fds), 0);
    add(stuck, 1, fds[0]);
    add(&waiting, 2, 0);
    wait_until_begun(stuck);
    errands_free(es);
    assert_true(clock_mono_us_exact() - before_us < 5000000);
    assert_true(waiting.done);
    assert_false(stuck->done || waiting.ran);
    assert_int_equal(ends, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    while (__atomic_load_n(&ends, __ATOMIC_SEQ_CST) == 0)
        usleep(1000);
    free(stuck);
    close(fds[0]);
    close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(they_run_in_order_in_a_thread_without_signals),
        cmocka_unit_test_setup_teardown(one_that_blocks_is_late_and_done_when_it_comes_back,
                                        setup_impatient, teardown),
        TEST(what_waits_is_done_at_the_end_without_having_run),
        TEST(nothing_is_begun_for_nothing),
        TEST(a_thread_that_does_not_come_back_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
