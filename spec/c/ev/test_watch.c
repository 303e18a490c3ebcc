/*
 * Files that others change, with real directories, links and inotify: what is
 * told, what is not, and that it is told again after it was looked at again.
 */
#define _GNU_SOURCE /* unshare */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "ev/loop.h"
#include "ev/watch.h"

static char top[64];
static struct loop *loop;
static struct watches *watches;
static struct watch the_watch;
static int changes;

__attribute__((format(printf, 1, 2))) static void run(const char *fmt, ...)
{
    char command[600], whole[700];
    va_list args;

    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    snprintf(whole, sizeof whole, "cd %s && %s", top, command);
    assert_int_equal(system(whole), 0);
}

static void on_change(struct watch *w)
{
    (void)w;
    changes++;
}

static int setup(void **state)
{
    struct err e;

    (void)state;
    strcpy(top, "/tmp/weir-watch-XXXXXX");
    assert_non_null(mkdtemp(top));
    loop = loop_new();
    assert_int_equal(watches_new(&watches, loop, &e), 0);
    the_watch = (struct watch){ .on_change = on_change };
    changes = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    watches_free(watches);
    loop_free(loop);
    run("rm -r %s", top);
    return 0;
}

static void start(const char *name)
{
    char path[200];
    struct err e;

    snprintf(path, sizeof path, "%s/%s", top, name);
    assert_int_equal(watch_start(watches, &the_watch, path, &e), 0);
}

static void look_again(void)
{
    struct err e;

    assert_int_equal(watch_again(&the_watch, &e), 0);
}

/* Inotify tells at once: what has not come after a few turns does not come. */
static int told(void)
{
    int n;

    for (int i = 0; i < 5; i++)
        loop_turn(loop, false);
    n = changes;
    changes = 0;
    return n;
}

static int told_and_armed(void)
{
    int n = told();

    look_again();
    return n;
}

/* ---- a file ---- */

static void test_content(void **state)
{
    int fd;

    (void)state;
    run("echo a >f");
    start("f");
    assert_int_equal(told(), 0);
    run("echo b >f");
    assert_int_equal(told_and_armed(), 1);
    run("cat f >/dev/null");
    assert_int_equal(told(), 0);
    run("echo c >>f");
    assert_int_equal(told_and_armed(), 1);

    char path[200];
    snprintf(path, sizeof path, "%s/f", top);
    fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "d", 1), 1);
    assert_int_equal(told(), 0); /* still written */
    close(fd);
    assert_int_equal(told(), 1);
}

static void test_coming_and_going(void **state)
{
    (void)state;
    start("f");
    run("echo a >other; rm other");
    assert_int_equal(told(), 0);
    run("echo a >f");
    assert_true(told_and_armed() == 1);
    run("rm f");
    assert_int_equal(told_and_armed(), 1);
    run("echo b >new; mv new f");
    assert_int_equal(told_and_armed(), 1);
    run("mv f away");
    assert_int_equal(told_and_armed(), 1);
    run("echo c >>away");
    assert_int_equal(told(), 0);
    run("mv away f");
    assert_int_equal(told_and_armed(), 1);
    run("chmod 600 f");
    assert_int_equal(told_and_armed(), 1);
    run("ln f second; echo d >second");
    assert_true(told_and_armed() >= 1);
}

static void test_once(void **state)
{
    (void)state;
    run("echo a >f");
    start("f");
    run("echo b >f; echo c >f; rm f");
    assert_int_equal(told(), 1);
    run("echo d >f");
    assert_int_equal(told(), 0);
    look_again();
    run("echo e >f");
    assert_int_equal(told(), 1);
}

/* ---- directories and links ---- */

static void test_directories(void **state)
{
    (void)state;
    start("a/b/f");
    run("mkdir a");
    assert_int_equal(told_and_armed(), 1);
    run("mkdir a/b");
    assert_int_equal(told_and_armed(), 1);
    run("echo a >a/b/f");
    assert_int_equal(told_and_armed(), 1);
    run("mv a gone");
    assert_int_equal(told_and_armed(), 1);
    run("echo b >gone/b/f");
    assert_int_equal(told(), 0);
    run("mkdir -p new/b; echo c >new/b/f; mv new a");
    assert_int_equal(told_and_armed(), 1);
    run("rm -r a");
    assert_int_equal(told_and_armed(), 1);
}

/* As the kubelet does it. */
static void test_kubernetes(void **state)
{
    (void)state;
    run("mkdir ..1; echo a >..1/f; ln -s ..1 ..data; ln -s ..data/f f");
    start("f");
    for (int i = 2; i < 6; i++) {
        run("mkdir ..%d; echo %d >..%d/f; ln -s ..%d ..data_tmp", i, i, i, i);
        assert_int_equal(told(), 0);
        run("mv -T ..data_tmp ..data");
        assert_int_equal(told_and_armed(), 1);
        run("rm -r ..%d", i - 1);
        assert_int_equal(told(), 0);
        run("echo again >..%d/f", i);
        assert_int_equal(told_and_armed(), 1);
    }
}

static void test_links(void **state)
{
    (void)state;
    run("mkdir -p v1/x v2/x; echo a >v1/x/f; echo b >v2/x/f; ln -s $PWD/v1 now");
    run("ln -s ./now//x/../x ./x; ln -s loop loop");
    start("x/f");
    run("ln -s v2 next; mv -T next now");
    assert_int_equal(told_and_armed(), 1);
    run("echo c >v1/x/f");
    assert_int_equal(told(), 0);
    run("echo c >v2/x/f");
    assert_int_equal(told(), 1);
    watch_stop(&the_watch);
    start("loop");
    assert_int_equal(told(), 0);
    run("rm loop");
    assert_int_equal(told_and_armed(), 1);
}

/* ---- bounds ---- */

static void test_stop(void **state)
{
    struct watch second = { .on_change = on_change };
    char path[200];
    struct err e;

    (void)state;
    run("echo a >f");
    start("f");
    snprintf(path, sizeof path, "%s/f", top);
    assert_int_equal(watch_start(watches, &second, path, &e), 0);
    run("echo b >f");
    assert_int_equal(told(), 2);
    watch_stop(&the_watch);
    watch_stop(&the_watch);
    assert_int_equal(watch_again(&second, &e), 0);
    run("echo c >f"); /* the file is watched for the second still */
    assert_int_equal(told(), 1);
    watch_stop(&second);
    run("echo d >f");
    assert_int_equal(told(), 0);
}

static void test_paths(void **state)
{
    char path[5000], name[400] = "/tmp/";
    struct err e;

    (void)state;
    assert_int_equal(watch_start(watches, &the_watch, "f", &e), ERR_SYNTAX);
    memset(path, '/', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_int_equal(watch_start(watches, &the_watch, path, &e), ERR_SYNTAX);
    memset(name + 5, 'x', 300);
    assert_int_equal(watch_start(watches, &the_watch, name, &e), 0); /* it may never be there */
    assert_int_equal(told(), 0);
}

static bool allow_watches(int n)
{
    int fd = open("/proc/sys/user/max_inotify_watches", O_WRONLY | O_CLOEXEC);
    bool done = fd != -1 && dprintf(fd, "%d\n", n) > 0;

    close(fd);
    return done;
}

/* In a user namespace, whose bounds can be set. 77: there is none to be had. */
static int run_out(void)
{
    struct err e;
    int rc;

    if (unshare(CLONE_NEWUSER) == -1 || !allow_watches(2) || watches_new(&watches, loop, &e) != 0)
        return 77;
    rc = watch_start(watches, &the_watch, "/usr/bin/env", &e);
    if (rc != ERR_SYSTEM || !strstr(e.text, "No space left"))
        return 1;
    if (the_watch.all || !allow_watches(100))
        return 2;
    return watch_start(watches, &the_watch, "/usr/bin/env", &e) == 0 ? 0 : 3;
}

static void test_bound(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(run_out());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_content, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coming_and_going, setup, teardown),
        cmocka_unit_test_setup_teardown(test_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kubernetes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
