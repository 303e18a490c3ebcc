/*
 * Where the SQLite database lies, and whose that is, when root makes the tables: the directory
 * that is missing, that systemd has made, and that is others', too.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store/sqlite_migrations.h"

#define SOMEBODY 65534

static char the_dir[] = "/tmp/test-place-XXXXXX";

static const char *in_dir(const char *path)
{
    static char full[4][300];
    static unsigned at;
    char *to = full[at++ % 4];

    snprintf(to, sizeof full[0], "%s/%s", the_dir, path);
    return to;
}

static struct stat look(const char *path)
{
    struct stat st;

    assert_int_equal(0, stat(in_dir(path), &st));
    return st;
}

static void make(const char *path)
{
    struct err e;

    if (sqlite_make_place(in_dir(path), SOMEBODY, SOMEBODY, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(SOMEBODY, look(path).st_uid);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(the_dir + sizeof the_dir - 7, "XXXXXX");
    assert_non_null(mkdtemp(the_dir));
    return 0;
}

static int tear_down(void **state)
{
    static const char *const ALL[] = { "a/b/weir.db", "a/b/other", "a/b", "a" };

    (void)state;
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        remove(in_dir(ALL[i]));
    return rmdir(the_dir);
}

static void is_made_whatever_the_umask(void **state)
{
    mode_t mask = umask(0077);

    (void)state;
    make("a/b/weir.db");
    umask(mask);
    assert_int_equal(0, look("a").st_uid);
    assert_int_equal(0755, look("a").st_mode & 0777);
    assert_int_equal(SOMEBODY, look("a/b").st_uid);
}

static void is_taken_over_when_there_is_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir(in_dir("a"), 0755));
    assert_int_equal(0, mkdir(in_dir("a/b"), 0755));
    make("a/b/weir.db");
    assert_int_equal(SOMEBODY, look("a/b").st_uid);
    assert_int_equal(0, look("a").st_uid);
    assert_int_equal(0, chown(in_dir("a/b"), 0, 0)); /* with the file in it */
    make("a/b/weir.db");
    assert_int_equal(SOMEBODY, look("a/b").st_uid);
}

static void is_left_to_its_owner_when_there_is_something_else(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(0, mkdir(in_dir("a"), 0755));
    assert_int_equal(0, mkdir(in_dir("a/b"), 0755));
    fd = open(in_dir("a/b/other"), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    make("a/b/weir.db");
    assert_int_equal(0, look("a/b").st_uid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_made_whatever_the_umask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(is_taken_over_when_there_is_nothing_else, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(is_left_to_its_owner_when_there_is_something_else, set_up,
                                        tear_down),
    };

    if (geteuid() != 0) {
        puts("only root gives files to others");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
