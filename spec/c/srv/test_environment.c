/*
 * The environment of a command, as an upgrade takes it over: what is the
 * command's, what stays this process's own, and what is refused.
 */
#define _GNU_SOURCE /* environ */
#include "srv/environment.h"
#include "base/weir.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char the_dir[] = "/tmp/weir-environment-XXXXXX";
static char the_pid_file[60], the_fifo[60];

/* A command with an environment of its own. */
static pid_t start(char **vars)
{
    struct err e = { 0 };
    pid_t pid;

    if (environment_offer(the_pid_file, getuid(), &e) != 0)
        fail_msg("%s", e.text);
    pid = fork();
    if (pid == 0) {
        environ = vars;
        _exit(environment_send(the_pid_file, &e) == 0 ? 0 : 1);
    }
    return pid;
}

static int end(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
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
    assert_int_equal(environment_take(&env, the_pid_file, &e), 0);
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
    assert_int_equal(end(pid), 0);
    assert_int_equal(access(the_fifo, F_OK), -1);
}

static void test_none(void **state)
{
    char *vars[] = { NULL };
    struct environment env;
    struct err e = { 0 };
    pid_t pid = start(vars);

    (void)state;
    assert_int_equal(environment_take(&env, the_pid_file, &e), 0);
    assert_null(value_of(&env, "SECRET_X"));
    environment_free(&env);
    assert_int_equal(end(pid), 0);
    assert_int_equal(access(the_fifo, F_OK), -1);
}

static void test_a_large_one(void **state)
{
    static char large[120000];
    char *vars[12] = { NULL };
    struct environment env;
    struct err e = { 0 };
    pid_t pid;

    (void)state;
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "LARGE=", 6);
    vars[0] = vars[1] = large;
    vars[2] = (char[]){ "" }; /* is left out */
    vars[3] = (char[]){ "LAST=1" };
    pid = start(vars);
    assert_int_equal(environment_take(&env, the_pid_file, &e), 0);
    assert_int_equal(env.text.n, 2 * sizeof large + sizeof "LAST=1" + 1);
    assert_string_equal(value_of(&env, "LAST"), "1");
    environment_free(&env);
    assert_int_equal(end(pid), 0);
}

static void refuse(const char *why)
{
    struct environment env;
    struct err e = { 0 };

    assert_true(environment_take(&env, the_pid_file, &e) < 0);
    if (!strstr(e.text, why))
        fail_msg("%s", e.text);
}

static void test_what_is_refused(void **state)
{
    struct err e = { 0 };
    int fd;
    pid_t pid;

    (void)state;
    refuse("No such file or directory");
    fd = open(the_fifo, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "A=1\0\0", 5), 5);
    close(fd);
    refuse("was not made by the command");
    assert_int_equal(unlink(the_fifo), 0);
    assert_int_equal(symlink("/dev/null", the_fifo), 0);
    refuse("cannot open");

    assert_int_equal(environment_offer(the_pid_file, getuid(), &e), 0); /* what was there goes */
    pid = fork();
    if (pid == 0) {
        fd = open(the_fifo, O_WRONLY);
        _exit(write(fd, "A=1", 4) == 4 ? 0 : 1); /* it dies before the end */
    }
    refuse("did not send its environment");
    assert_int_equal(end(pid), 0);
    unlink(the_fifo);
}

static void test_a_command_that_dies_at_once(void **state)
{
    struct err e = { 0 };
    time_t begun = time(NULL);
    pid_t pid;

    (void)state;
    assert_int_equal(environment_offer(the_pid_file, getuid(), &e), 0);
    pid = fork();
    if (pid == 0)
        _exit(open(the_fifo, O_WRONLY) == -1);
    refuse("did not send its environment");
    assert_true(time(NULL) - begun < 3);
    assert_int_equal(end(pid), 0);
    unlink(the_fifo);
}

static void test_somebody_elses(void **state)
{
    struct err e = { 0 };

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(environment_offer(the_pid_file, 12345, &e), 0);
    refuse("was not made by the command");
    unlink(the_fifo);
}

/* Whoever owns the directory puts a link to another's file where the FIFO is being made. */
static void test_a_link_in_its_place(void **state)
{
    char other[80], link[80];
    struct err e = { 0 };
    struct stat st;
    time_t till = time(NULL) + 1;
    pid_t pid;
    int fd;

    (void)state;
    if (geteuid() != 0)
        skip();
    snprintf(other, sizeof other, "%s/other", the_dir);
    snprintf(link, sizeof link, "%s/link", the_dir);
    fd = open(other, O_CREAT | O_WRONLY, 0600);
    close(fd);
    pid = fork();
    while (pid == 0)
        if (symlink(other, link) == 0)
            rename(link, the_fifo);
    while (time(NULL) <= till)
        (void)!environment_offer(the_pid_file, 12345, &e);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(stat(other, &st), 0);
    unlink(other);
    unlink(link);
    unlink(the_fifo);
    assert_int_equal(st.st_uid, 0);
}

static void test_a_file_in_its_place(void **state)
{
    struct err e = { 0 };
    struct stat st;
    int fd;

    (void)state;
    assert_int_equal(environment_offer(the_pid_file, getuid(), &e), 0);
    unlink(the_fifo);
    fd = open(the_fifo, O_CREAT | O_RDWR, 0600);
    assert_true(environment_send(the_pid_file, &e) < 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    close(fd);
    unlink(the_fifo);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(the_dir))
        return -1;
    snprintf(the_pid_file, sizeof the_pid_file, "%s/pid", the_dir);
    snprintf(the_fifo, sizeof the_fifo, "%s/pid.environment", the_dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(the_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_a_large_one),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_a_command_that_dies_at_once),
        cmocka_unit_test(test_somebody_elses),
        cmocka_unit_test(test_a_link_in_its_place),
        cmocka_unit_test(test_a_file_in_its_place),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
