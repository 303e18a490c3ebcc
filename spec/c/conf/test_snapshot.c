/*
 * Snapshots of real directories: what was there then is there still, and
 * nothing else; another process fills it; sealed is sealed.
 */
#define _GNU_SOURCE /* splice, memmem */
#include "conf/snapshot.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char the_dir[] = "/tmp/weir-snapshot-XXXXXX";

static struct str path_of(const char *name)
{
    static char path[4][300];
    static int turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", the_dir, name);
    return str_from(p);
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name).p, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct snapshot *new_snapshot(void)
{
    struct snapshot *s;
    struct err e = { 0 };

    if (snapshot_new(&s, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

static void add_tree(struct snapshot *s, const char *name)
{
    struct err e = { 0 };

    if (snapshot_add_tree(s, path_of(name).p, &e) != 0)
        fail_msg("%s", e.text);
}

static void assert_text(struct snapshot *s, const char *name, const char *expected)
{
    struct str text;

    assert_int_equal(snapshot_get(s, path_of(name), &text), expected != NULL);
    if (expected)
        assert_true(str_eq(text, str_from(expected)));
}

static void test_a_tree_stays_as_it_was(void **state)
{
    struct snapshot *s = new_snapshot();

    (void)state;
    add_tree(s, "p");
    add_tree(s, "nowhere");
    write_file("p/a/handler.lua", "changed");
    unlink(path_of("p/b/sub/deep.lua").p);
    write_file("p/b/new.lua", "new");
    assert_text(s, "p/a/handler.lua", "return 1");
    assert_text(s, "p//a///handler.lua", "return 1");
    assert_text(s, "p/b/sub/deep.lua", "deep");
    assert_text(s, "p/empty.lua", "");
    assert_text(s, "p/linked/handler.lua", "elsewhere"); /* by a link to a directory */
    assert_text(s, "p/b/new.lua", NULL);
    assert_text(s, "p/a/readme.txt", NULL);
    assert_text(s, "p/.git/hook.lua", NULL);
    assert_text(s, "p/a", NULL);
    assert_true(snapshot_covers(s, path_of("p/b/new.lua")));
    assert_true(snapshot_covers(s, path_of("nowhere/x.lua")));
    assert_false(snapshot_covers(s, path_of("px/a.lua")));
    assert_false(snapshot_covers(s, path_of("q/handler.lua")));
    snapshot_free(s);
}

static bool has(const struct buf *names, const char *name)
{
    for (const char *p = names->p; p < names->p + names->n; p += strlen(p) + 1)
        if (strcmp(p, name) == 0)
            return true;
    return false;
}

static void test_names_are_those_of_directories_once(void **state)
{
    struct snapshot *s = new_snapshot();
    struct buf names = { 0 };

    (void)state;
    add_tree(s, "p");
    assert_int_equal(snapshot_names(s, path_of("p"), &names), 0);
    assert_true(has(&names, "a") && has(&names, "b") && has(&names, "linked"));
    assert_int_equal(names.n, strlen("a") + strlen("b") + strlen("linked") + 3);
    names.n = 0;
    assert_int_equal(snapshot_names(s, path_of("q"), &names), 0);
    assert_int_equal(names.n, 0);
    buf_free(&names);
    snapshot_free(s);
}

static void test_another_process_fills_it(void **state)
{
    struct snapshot *s = new_snapshot();
    struct err e = { 0 };
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct str text;

        if (snapshot_add_tree(s, path_of("p").p, &e) != 0 ||
            snapshot_get(s, path_of("p/b/sub/deep.lua"), &text) != 1 ||
            snapshot_add(s, STR("/else/where.lua"), STR("found on the way"), &e) != 0 ||
            snapshot_get(s, path_of("p/b/sub/deep.lua"), &text) != 1)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(snapshot_seal(s, &e), 0);
    assert_true(snapshot_is_sealed(s));
    assert_text(s, "p/b/sub/deep.lua", "deep");
    {
        struct str text;

        assert_int_equal(snapshot_get(s, STR("/else/where.lua"), &text), 1);
        assert_true(str_eq(text, STR("found on the way")));
        assert_int_equal(snapshot_add(s, STR("/too/late.lua"), STR("x"), &e), 0);
        assert_int_equal(snapshot_get(s, STR("/too/late.lua"), &text), 0);
    }
    snapshot_free(s);
}

static void test_an_empty_one_cannot_be_sealed_by_mistake(void **state)
{
    struct snapshot *s = new_snapshot();
    struct str text;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(snapshot_get(s, STR("/x.lua"), &text), 0);
    assert_int_not_equal(snapshot_seal(s, &e), 0);
    snapshot_free(s);
    snapshot_free(NULL);
}

/* The snapshot's own descriptor: the last one that is open, and a memfd. */
static int descriptor_of_snapshot(void)
{
    char name[40], target[100];

    for (int fd = 255; fd > 2; fd--) {
        ssize_t n;

        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        n = readlink(name, target, sizeof target);
        if (n > 0 && memmem(target, (size_t)n, "weir-snapshot", 13))
            return fd;
    }
    return -1;
}

static void test_sealing_waits_for_who_holds_a_page(void **state)
{
    struct snapshot *s = new_snapshot();
    struct err e = { 0 };
    int pipes[2];
    loff_t at = 0;
    pid_t holder;

    (void)state;
    assert_int_equal(snapshot_add(s, STR("/x.lua"), STR("return 1"), &e), 0);
    assert_int_equal(pipe(pipes), 0);
    assert_true(splice(descriptor_of_snapshot(), &at, pipes[1], NULL, 8, 0) > 0);
    holder = fork();
    if (holder == 0) {
        usleep(400000);
        _exit(0);
    }
    close(pipes[0]);
    close(pipes[1]);
    if (snapshot_seal(s, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    snapshot_free(s);
}

static int make_files(void **state)
{
    static const char *const DIRS[] = { "p", "p/a", "p/b", "p/b/sub", "p/.git", "q" };

    (void)state;
    assert_non_null(mkdtemp(the_dir));
    for (size_t i = 0; i < ARRAY_LEN(DIRS); i++)
        assert_int_equal(mkdir(path_of(DIRS[i]).p, 0700), 0);
    return 0;
}

static int fill(void **state)
{
    (void)state;
    write_file("p/a/handler.lua", "return 1");
    write_file("p/a/readme.txt", "no");
    write_file("p/b/sub/deep.lua", "deep");
    write_file("p/.git/hook.lua", "no");
    write_file("p/empty.lua", "");
    write_file("q/handler.lua", "elsewhere");
    unlink(path_of("p/b/new.lua").p);
    unlink(path_of("p/linked").p);
    assert_int_equal(symlink("../q", path_of("p/linked").p), 0);
    return 0;
}

static int remove_files(void **state)
{
    char command[100];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", the_dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_tree_stays_as_it_was, fill),
        cmocka_unit_test_setup(test_names_are_those_of_directories_once, fill),
        cmocka_unit_test_setup(test_another_process_fills_it, fill),
        cmocka_unit_test(test_an_empty_one_cannot_be_sealed_by_mistake),
        cmocka_unit_test(test_sealing_waits_for_who_holds_a_page),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
