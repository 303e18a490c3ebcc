/*
 * The environment of a command, as an upgrade takes it over: what is the
 * command's, what stays this process's own, and what is refused.
 */
#include "srv/environment.h"
#include "base/weir.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* A process with an environment of its own. */
static pid_t start(char *const *vars)
{
    char *const argv[] = { "sh", "-c", "echo x; exec sleep 30", NULL };
    int fds[2];
    pid_t pid;
    char c;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execve("/bin/sh", argv, vars);
        _exit(1);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1);
    close(fds[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static const char *value_of(const struct environment *env, const char *name)
{
    const char *found = NULL;
    size_t n = strlen(name);

    for (char **p = env->vars; *p; p++) {
        if (strncmp(*p, name, n) == 0 && (*p)[n] == '=') {
            assert_null(found); /* once */
            found = *p + n + 1;
        }
    }
    return found;
}

static void test_what_is_taken(void **state)
{
    char *vars[] = { "SECRET_X=new",
                     "EMPTY=",
                     "WEIR_WORKERS=3",
                     "MANY=a=b\nc",
                     "WEIR_UPGRADE=1:2",
                     "WEIR_LISTEN_FDS=unix:/evil=9",
                     "WEIR_CONF=/other",
                     "NOTIFY_SOCKET=@theirs",
                     "WATCHDOG_USEC=1",
                     "LISTEN_PID=1",
                     "LISTENING=yes",
                     "PATH=/usr/bin:/bin",
                     NULL };
    struct environment env;
    struct err e = { 0 };
    pid_t pid = start(vars);

    (void)state;
    setenv("SECRET_X", "old", 1);
    setenv("ONLY_OURS", "1", 1);
    setenv("WEIR_UPGRADE", "ours", 1);
    setenv("NOTIFY_SOCKET", "@ours", 1);
    setenv("CREDENTIALS_DIRECTORY", "/run/credentials", 1);
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(environment_take(&env, pid, getuid(), &e), 0);
    assert_string_equal(value_of(&env, "SECRET_X"), "new");
    assert_string_equal(value_of(&env, "EMPTY"), "");
    assert_string_equal(value_of(&env, "WEIR_WORKERS"), "3");
    assert_string_equal(value_of(&env, "MANY"), "a=b\nc");
    assert_string_equal(value_of(&env, "LISTENING"), "yes");
    assert_null(value_of(&env, "ONLY_OURS"));
    assert_string_equal(value_of(&env, "WEIR_UPGRADE"), "ours");
    assert_null(value_of(&env, "WEIR_LISTEN_FDS"));
    assert_null(value_of(&env, "WEIR_CONF"));
    assert_string_equal(value_of(&env, "NOTIFY_SOCKET"), "@ours");
    assert_string_equal(value_of(&env, "CREDENTIALS_DIRECTORY"), "/run/credentials");
    assert_null(value_of(&env, "WATCHDOG_USEC"));
    assert_null(value_of(&env, "LISTEN_PID"));
    environment_free(&env);
    end(pid);
}

static void test_none(void **state)
{
    char *vars[] = { NULL };
    struct environment env;
    struct err e = { 0 };
    pid_t pid = start(vars);

    (void)state;
    assert_int_equal(environment_take(&env, pid, getuid(), &e), 0);
    assert_null(value_of(&env, "SECRET_X"));
    environment_free(&env);
    end(pid);
}

static void test_what_is_refused(void **state)
{
    char *vars[] = { "A=1", NULL };
    struct environment env;
    struct err e = { 0 };
    pid_t pid = start(vars);
    char message[100];

    (void)state;
    assert_int_equal(environment_take(&env, pid, getuid() + 1, &e), ERR_CONFIG);
    snprintf(message, sizeof message, "pid %d is not the command that asked", (int)pid);
    assert_string_equal(e.text, message);
    end(pid);
    assert_int_equal(environment_take(&env, pid, getuid(), &e), ERR_SYSTEM);
    assert_non_null(strstr(e.text, "cannot read the environment of pid"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_what_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
