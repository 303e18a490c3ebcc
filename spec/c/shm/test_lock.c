/*
 * Owner words and the lock: taken from the dead, never from the living, be
 * they stopped or be their pid the dead one's.
 */
#include "shm_spec.h"
#include "shm/lock.h"

struct board {
    uint64_t lock;
    uint64_t owner;
    int64_t sum;
    int ready;
};

static struct board *the_board;

static int setup(void **state)
{
    (void)state;
    the_board = spec_share(sizeof *the_board);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    munmap(the_board, sizeof *the_board);
    return 0;
}

static int tell_owner(void *arg)
{
    struct board *b = arg;

    b->owner = owner_self();
    return owner_pid(b->owner) == getpid() ? 0 : 1;
}

static int hold_and_stop(void *arg)
{
    struct board *b = arg;

    if (lock_take(&b->lock))
        return 1;
    raise(SIGSTOP);
    b->sum++;
    lock_give(&b->lock);
    return 0;
}

/* 10: the lock was stolen; 0: it was given. */
static int take_and_give(void *arg)
{
    struct board *b = arg;
    bool stolen = lock_take(&b->lock);

    b->sum *= 2;
    lock_give(&b->lock);
    return stolen ? 10 : 0;
}

static int take_and_die(void *arg)
{
    struct board *b = arg;

    (void)lock_take(&b->lock);
    kill(getpid(), SIGKILL);
    return 0;
}

static int count(void *arg)
{
    struct board *b = arg;

    for (int i = 0; i < 100000; i++) {
        (void)lock_take(&b->lock);
        b->sum++; /* not atomic: it is the lock that must make it exact */
        lock_give(&b->lock);
    }
    return 0;
}

static void wait_until_stopped(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void each_process_is_another_owner(void **state)
{
    uint64_t mine = owner_self();

    (void)state;
    assert_int_equal(owner_pid(mine), getpid());
    assert_true(owner_self() == mine);
    assert_int_equal(spec_wait(spec_fork(tell_owner, the_board)), 0);
    assert_true(the_board->owner != mine);
    assert_false(owner_is_dead(mine));
    assert_true(owner_is_dead(the_board->owner));
    assert_true(owner_is_dead(0));
}

static void a_pid_used_again_is_another_owner(void **state)
{
    uint64_t other_birth = owner_self() ^ UINT64_C(1) << 40;

    (void)state;
    assert_int_equal(owner_pid(other_birth), getpid());
    assert_true(owner_is_dead(other_birth));
    the_board->lock = other_birth;
    assert_true(lock_take(&the_board->lock));
    lock_give(&the_board->lock);
}

static void a_zombie_is_dead(void **state)
{
    pid_t pid = spec_fork(take_and_die, the_board);
    siginfo_t info;

    (void)state;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(owner_pid(the_board->lock), pid);
    assert_true(lock_take(&the_board->lock));
    lock_give(&the_board->lock);
    assert_int_equal(spec_wait(pid), 128 + SIGKILL);
}

static void a_stopped_holder_is_waited_for(void **state)
{
    pid_t holder = spec_fork(hold_and_stop, the_board), waiter;
    int status;

    (void)state;
    wait_until_stopped(holder);
    assert_false(owner_is_dead(the_board->lock));
    waiter = spec_fork(take_and_give, the_board);
    usleep(50000);
    assert_int_equal(waitpid(waiter, &status, WNOHANG), 0);
    kill(holder, SIGCONT);
    assert_int_equal(spec_wait(holder), 0);
    assert_int_equal(spec_wait(waiter), 0);
    assert_int_equal(the_board->sum, 2); /* the holder's 1 first, then doubled */
}

static void a_stopped_holder_that_is_killed_is_dead(void **state)
{
    pid_t holder = spec_fork(hold_and_stop, the_board), waiter;

    (void)state;
    wait_until_stopped(holder);
    waiter = spec_fork(take_and_give, the_board);
    usleep(5000);
    spec_kill(holder);
    assert_int_equal(spec_wait(waiter), 10);
}

static void two_never_hold_it(void **state)
{
    pid_t pids[6];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        pids[i] = spec_fork(count, the_board);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        assert_int_equal(spec_wait(pids[i]), 0);
    assert_int_equal(the_board->sum, 100000 * (int)ARRAY_LEN(pids));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_process_is_another_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pid_used_again_is_another_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(a_zombie_is_dead, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopped_holder_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopped_holder_that_is_killed_is_dead, setup, teardown),
        cmocka_unit_test_setup_teardown(two_never_hold_it, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
