/*
 * The SQLite store's file: locked, full, missing, damaged, another's; each is
 * told of in words, and over when its cause is. And how the file is made.
 */
#include "sqlite_spec.h"

/* ---- what goes wrong */

static void expect_failure(int code, const char *reason)
{
    struct question q = ask(STORE_CHARGE, "a");

    add_window(&q, PERIOD_YEAR, 0);
    if (put(&q) != code || !strstr(q.reason, reason) || strstr(q.reason, path))
        fail_msg("%d: %s", q.code, q.reason);
}

/* A process that holds the lock until its end. */
static pid_t hold_lock(void)
{
    int fds[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        sqlite3 *db;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
            write(fds[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void end_process(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_lock_is_waited_for_no_longer_than_the_timeout(void **state)
{
    int64_t before_us;
    pid_t pid;

    (void)state;
    store->type->free(store);
    store = store_sqlite_new(loop, path, 1500);
    pid = hold_lock();
    before_us = clock_mono_us_exact();
    expect_failure(ERR_TIMEOUT, "another process keeps it locked");
    assert_in_range(clock_mono_us_exact() - before_us, 1400000, 8000000);
    assert_int_equal(peek("a", PERIOD_YEAR), 0); /* readers do not wait */
    end_process(pid);
    assert_int_equal(admit_some("a", 1, 1, 5), 1);
    assert_int_equal(peek("a", PERIOD_YEAR), 1);
}

static void the_end_does_not_wait_for_a_lock(void **state)
{
    struct question q = ask(STORE_CHARGE, "a"), second = ask(STORE_CHARGE, "b");
    pid_t pid = hold_lock();
    int64_t before_us;

    (void)state;
    add_window(&q, PERIOD_YEAR, 0);
    add_window(&second, PERIOD_YEAR, 0);
    send_all(&q, 1);
    send_all(&second, 1);
    usleep(20000);
    before_us = clock_mono_us_exact();
    store->type->free(store);
    assert_true(clock_mono_us_exact() - before_us < 1900000); /* a thread is given 2 s */
    assert_true(q.done && second.done);
    assert_int_equal(q.code, ERR_CANCELLED);
    assert_int_equal(second.code, ERR_CANCELLED);
    end_process(pid);
    store = store_sqlite_new(loop, path, 5000);
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
}

static void a_missing_file_is_told_of_and_found_again(void **state)
{
    char other[sizeof path + 8];

    (void)state;
    charge("a", PERIOD_YEAR, 3);
    assert_int_equal(unlink(path), 0);
    expect_failure(ERR_SYSTEM, "there is no such file; run: weir migrations up");
    must_migrate();
    assert_int_equal(peek("a", PERIOD_YEAR), 0);
    charge("a", PERIOD_YEAR, 2);
    snprintf(other, sizeof other, "%s.old", path); /* another file takes its place */
    assert_int_equal(rename(path, other), 0);
    must_migrate();
    charge("a", PERIOD_YEAR, 5);
    assert_int_equal(peek("a", PERIOD_YEAR), 5);
}

static void write_file(const void *bytes, size_t n, off_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void a_file_that_is_no_database_is_told_of(void **state)
{
    (void)state;
    assert_int_equal(unlink(path), 0);
    write_file("this is not what it should be, and longer than a header would be: not SQLite "
               "at all, whatever its name may be; nobody should write into this.",
               140, 0);
    expect_failure(ERR_SYNTAX, "file is not a database; put it away");
    assert_int_equal(unlink(path), 0);
    write_file("", 0, 0);
    expect_failure(ERR_CONFIG, "weir's tables are missing; run: weir migrations up");
    must_migrate();
    charge("a", PERIOD_YEAR, 2);
    assert_int_equal(peek("a", PERIOD_YEAR), 2);
}

static void a_damaged_database_is_told_of(void **state)
{
    static struct question all[500];
    static char names[500][8], garbage[40000];
    struct stat st;

    (void)state;
    for (int i = 0; i < 500; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        all[i] = ask(STORE_CHARGE, names[i]);
        add_window(&all[i], PERIOD_YEAR, 0);
    }
    send_all(all, 500);
    wait_all(all, 500);
    store->type->free(store); /* and with it the log goes into the file */
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, 8192, sizeof garbage);
    memset(garbage, 0x5a, sizeof garbage);
    write_file(garbage, (size_t)st.st_size - 1024, 1024);
    store = store_sqlite_new(loop, path, 5000);
    expect_failure(ERR_SYNTAX, "malformed; put it away");
    assert_int_equal(unlink(path), 0);
    must_migrate();
    charge("a", PERIOD_YEAR, 2);
}

static void sql(const char *text)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void tables_of_other_versions_are_told_of(void **state)
{
    struct err e;

    (void)state;
    charge("a", PERIOD_YEAR, 2);
    sql("DROP TABLE counters");
    expect_failure(ERR_CONFIG, "no such table: counters; run: weir migrations up");
    assert_int_equal(unlink(path), 0);
    must_migrate();
    charge("a", PERIOD_YEAR, 2);
    store->type->free(store);
    sql("PRAGMA user_version=99");
    store = store_sqlite_new(loop, path, 5000);
    expect_failure(ERR_CONFIG, "weir's tables are of version 99, this weir knows only 1");
    sql("PRAGMA user_version=1");
    assert_int_equal(peek("a", PERIOD_YEAR), 2);
    assert_int_equal(unlink(path), 0);
    sql("CREATE TABLE songs(title)");
    expect_failure(ERR_CONFIG, "is a database of something else than weir");
    assert_int_not_equal(migrate(&e), 0);
    assert_non_null(strstr(e.text, "something else"));
}

static void a_directory_is_no_file(void **state)
{
    (void)state;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_failure(ERR_SYSTEM, "cannot use it");
    assert_int_equal(rmdir(path), 0);
}

/* As somebody who may read the file and not write it. */
static void a_file_that_may_not_be_written_is_told_of(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    pid = fork();
    if (pid == 0) {
        assert_int_equal(chmod(dir, 0755), 0);
        assert_int_equal(chmod(path, 0444), 0);
        if (geteuid() == 0)
            assert_int_equal(setuid(65534), 0);
        loop = loop_new();
        store = store_sqlite_new(loop, path, 1000);
        expect_failure(ERR_SYSTEM, "the user of this process may not write it");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Charges new identities until it fails; how many there were. */
static int charge_until_failure(const char *reason)
{
    static char name[STORE_IDENTITY_MAX];

    for (int i = 0; i < 20000; i++) {
        struct question q = ask(STORE_CHARGE, "");
        int n = snprintf(name, sizeof name, "%d", i);

        memset(name + n, 'x', sizeof name - (size_t)n);
        q.ask.identity = (struct str){ name, sizeof name };
        add_window(&q, PERIOD_YEAR, 0);
        if (put(&q) == 0)
            continue;
        if (!strstr(q.reason, reason))
            fail_msg("%d: %s", q.code, q.reason);
        return i;
    }
    fail_msg("no failure");
    return 0;
}

static void a_file_that_may_not_grow_fails_and_recovers(void **state)
{
    struct rlimit before, now;

    (void)state;
    charge("a", PERIOD_YEAR, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    now = before;
    now.rlim_cur = 200 << 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
    assert_true(charge_until_failure("no room for it") > 10);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 2);
    assert_int_equal(admit_some("a", 5, 1, 4), 2);
}

static void a_full_disk_fails_and_recovers(void **state)
{
    char other[sizeof path + 8];
    int fd;

    (void)state;
    store->type->free(store);
    if (mount("weir-spec", dir, "tmpfs", 0, "size=1m") == -1) {
        store = store_sqlite_new(loop, path, 5000);
        skip();
    }
    snprintf(other, sizeof other, "%s/other", dir);
    must_migrate();
    store = store_sqlite_new(loop, path, 5000);
    charge("a", PERIOD_YEAR, 2);
    fd = open(other, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 600 << 10), 0);
    close(fd);
    assert_true(charge_until_failure("no room for it") > 10);
    for (int i = 0; i < 20; i++) { /* nor is there room for the least change */
        struct question q = ask(STORE_CHARGE, "a");

        q.ask.cost = 0;
        add_window(&q, PERIOD_YEAR, 0);
        assert_int_equal(put(&q), ERR_SYSTEM);
        assert_int_equal(peek("a", PERIOD_YEAR), 2); /* who only reads is answered */
    }
    assert_int_equal(unlink(other), 0);
    assert_int_equal(admit_some("a", 5, 1, 4), 2);
    assert_int_equal(peek("a", PERIOD_YEAR), 4);
    store->type->free(store);
    assert_int_equal(umount(dir), 0);
    must_migrate();
    store = store_sqlite_new(loop, path, 5000);
}

/* ---- migrations */

static void migrations_are_done_once(void **state)
{
    (void)state;
    assert_int_equal(version_of_file(), 1);
    charge("a", PERIOD_YEAR, 2);
    steps_done = 0;
    must_migrate();
    assert_int_equal(steps_done, 0);
    assert_int_equal(peek("a", PERIOD_YEAR), 2);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(version_of_file(), 0);
    assert_int_equal(access(path, F_OK), -1);
    must_migrate();
    assert_int_equal(steps_done, 1);
}

static void directories_are_made(void **state)
{
    char whole[sizeof path];

    (void)state;
    strcpy(whole, path);
    snprintf(path, sizeof path, "%s/lib/weir/weir.db", dir);
    must_migrate();
    assert_int_equal(version_of_file(), 1);
    strcpy(path, whole);
}

/* The log of a database that is gone, which all of them find and want to remove. */
static void leave_log(void)
{
    char name[sizeof path + 4];
    int fd;

    snprintf(name, sizeof name, "%s-wal", path);
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    assert_int_equal(write(fd, name, sizeof name), sizeof name);
    close(fd);
}

static void migrations_at_once_do_one(void **state)
{
    pid_t pids[8];
    int status, sum = 0;

    (void)state;
    for (int round = 0; round < 10; round++) {
        assert_int_equal(unlink(path), 0);
        leave_log();
        for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                struct err e;

                steps_done = 0;
                if (migrate(&e) == 0)
                    _exit(steps_done);
                fprintf(stderr, "%s\n", e.text);
                _exit(100);
            }
        }
        for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status));
            sum += WEXITSTATUS(status);
        }
        assert_int_equal(sum, round + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lock_is_waited_for_no_longer_than_the_timeout),
        TEST(the_end_does_not_wait_for_a_lock),
        TEST(a_missing_file_is_told_of_and_found_again),
        TEST(a_file_that_is_no_database_is_told_of),
        TEST(a_damaged_database_is_told_of),
        TEST(tables_of_other_versions_are_told_of),
        TEST(a_directory_is_no_file),
        TEST(a_file_that_may_not_be_written_is_told_of),
        TEST(a_file_that_may_not_grow_fails_and_recovers),
        TEST(a_full_disk_fails_and_recovers),
        TEST(migrations_are_done_once),
        TEST(directories_are_made),
        TEST(migrations_at_once_do_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
