/*
 * The pid file's lock and the state file: held means running, a dead holder
 * leaves nothing that hinders, what is written is read again.
 */
#include "srv/pidfile.h"
#include "srv/state.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char the_dir[] = "/tmp/weir-pid-XXXXXX";
static char the_path[100];

static void test_held_and_removed(void **state)
{
    struct pidfile p, second;
    struct err e = { 0 };
    pid_t pid;

    (void)state;
    assert_false(pidfile_is_held(the_path, &pid));
    assert_int_equal(pidfile_open(&p, the_path, -1, &e), 0); /* makes the directory run/ */
    assert_true(pidfile_is_held(the_path, &pid));
    assert_int_equal(pid, 0);
    assert_int_equal(pidfile_write(&p, &e), 0);
    assert_true(pidfile_is_held(the_path, &pid));
    assert_int_equal(pid, getpid());
    assert_int_equal(pidfile_open(&second, the_path, -1, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "running already"));
    pidfile_remove(&p);
    assert_int_equal(access(the_path, F_OK), -1);
}

static void test_a_killed_holder_does_not_hinder(void **state)
{
    struct pidfile p;
    struct err e = { 0 };
    int ready[2];
    char byte;
    pid_t child, pid;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        if (pidfile_open(&p, the_path, -1, &e) != 0 || pidfile_write(&p, &e) != 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_true(pidfile_is_held(the_path, &pid));
    assert_int_equal(pid, child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_false(pidfile_is_held(the_path, &pid));
    assert_int_equal(pidfile_open(&p, the_path, -1, &e), 0);
    pidfile_remove(&p); /* holds another's pid: stays */
    assert_int_equal(access(the_path, F_OK), 0);
    unlink(the_path);
    close(ready[0]);
    close(ready[1]);
}

static void test_taken_over(void **state)
{
    struct pidfile p, heir;
    struct err e = { 0 };
    pid_t pid;

    (void)state;
    assert_int_equal(pidfile_open(&p, the_path, -1, &e), 0);
    assert_int_equal(pidfile_open(&heir, the_path, dup(p.fd), &e), 0);
    pidfile_forget(&p);
    assert_true(pidfile_is_held(the_path, &pid));
    assert_int_equal(pidfile_write(&heir, &e), 0);
    pidfile_remove(&heir);
    assert_false(pidfile_is_held(the_path, &pid));
}

static void test_state(void **state)
{
    struct state s;
    struct state read_again;
    struct err e;

    (void)state;
    memset(&s, 0, sizeof s); /* padding too: it is compared as memory */
    s.pid = 7;
    s.generation = 3;
    s.started_ms = 123456789012;
    s.reloads_begun = 5;
    s.reloads_done = 4;
    s.counter_memory = 1 << 20;
    s.workers_uid = -1;
    strcpy(s.reload_text, "a.yml:3: bad\nb.lua:4: worse");
    strcpy(s.listeners, "unix:/a,127.0.0.1:9000");
    strcpy(s.prefix, "/run/x y");
    state_write(&s, the_path);
    assert_int_equal(state_read(&read_again, the_path, &e), 0);
    assert_memory_equal(&s, &read_again, sizeof s);
    state_remove(the_path);
    assert_int_not_equal(state_read(&read_again, the_path, &e), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(the_dir))
        return -1;
    snprintf(the_path, sizeof the_path, "%s/run/weir.pid", the_dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    *strrchr(the_path, '/') = '\0';
    return rmdir(the_path) == 0 ? rmdir(the_dir) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_and_removed),
        cmocka_unit_test(test_a_killed_holder_does_not_hinder),
        cmocka_unit_test(test_taken_over),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
