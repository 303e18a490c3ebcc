/*
 * The watchdog: who stands still dies and has said why, who beats lives.
 */
#include "srv/watchdog.h"
#include "base/log.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static void pause_ms(long ms)
{
    struct timespec span = { ms / 1000, ms % 1000 * 1000000 };

    while (nanosleep(&span, &span) == -1)
        ;
}

/* A child that runs fn with its log in the pipe; its wait status. */
static int in_child(void (*fn)(void), char *said, size_t size)
{
    int fds[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        fn();
        _exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], said + n, size - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void last_words(void)
{
    log_error("it stands still");
}

static void stand_still(void)
{
    volatile unsigned turns = 0;

    watchdog_arm(50, last_words);
    for (;;)
        turns++;
}

static void stand_still_deaf(void)
{
    close(STDERR_FILENO); /* no last words */
    stand_still();
}

static void beat(void)
{
    for (int i = 0; i < 20; i++) {
        watchdog_arm(400, last_words);
        pause_ms(30);
    }
    watchdog_arm(0, NULL);
    pause_ms(500);
}

/* Longer than the span, and then it goes on. */
static void be_stopped(void)
{
    pid_t pid = getpid(), other;

    watchdog_arm(400, last_words);
    other = fork();
    if (other == 0) {
        kill(pid, SIGSTOP);
        pause_ms(700);
        kill(pid, SIGCONT);
        _exit(0);
    }
    waitpid(other, NULL, 0);
    beat();
}

static void test_who_was_stopped_lives(void **state)
{
    char said[1000];

    (void)state;
    assert_int_equal(in_child(be_stopped, said, sizeof said), 0);
    assert_string_equal(said, "");
}

static void test_who_stands_still_dies(void **state)
{
    char said[1000];
    int status = in_child(stand_still, said, sizeof said);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGALRM);
    assert_non_null(strstr(said, "[error]"));
    assert_non_null(strstr(said, "it stands still"));
    status = in_child(stand_still_deaf, said, sizeof said);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGALRM);
}

static void test_who_beats_lives(void **state)
{
    char said[1000];

    (void)state;
    assert_int_equal(in_child(beat, said, sizeof said), 0);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_stands_still_dies),
        cmocka_unit_test(test_who_beats_lives),
        cmocka_unit_test(test_who_was_stopped_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
