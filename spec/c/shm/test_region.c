/*
 * The named mapping: made once by many, kept, replaced, refused.
 */
#include "shm_spec.h"
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define BYTES (300u << 10)

static char the_name[64], the_dir[64], the_file[96];
static struct err e;

static int setup(void **state)
{
    (void)state;
    snprintf(the_name, sizeof the_name, "spec-region-%d", (int)getpid());
    strcpy(the_dir, "/tmp/weir-spec-XXXXXX");
    assert_non_null(mkdtemp(the_dir));
    snprintf(the_file, sizeof the_file, "%s/counters", the_dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(region_unlink(the_name, NULL, &e), 0);
    assert_int_equal(region_unlink(NULL, the_file, &e), 0);
    assert_int_equal(rmdir(the_dir), 0);
    return 0;
}

static struct region_options options(const char *file, size_t bytes)
{
    struct region_options o = { .name = the_name, .file = file, .bytes = bytes, .mode = 0640 };

    o.uid = (uid_t)-1;
    o.gid = (gid_t)-1;
    return o;
}

static struct region open_good(const char *file, size_t bytes, enum region_how how)
{
    struct region_options o = options(file, bytes);
    struct region r;

    if (region_open(&r, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(r.how, how);
    return r;
}

static void open_bad(struct region_options o, const char *word)
{
    struct region r;

    assert_int_not_equal(region_open(&r, &o, &e), 0);
    assert_null(r.base);
    if (!strstr(e.text, word))
        fail_msg("\"%s\" does not say \"%s\"", e.text, word);
}

static char *counters(const struct region *r)
{
    size_t bytes;

    return region_counters(r, &bytes);
}

static void made_once_and_found_again(void **state)
{
    const char *files[] = { NULL, the_file };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct region a = open_good(files[i], BYTES, REGION_CREATED);
        struct region b = open_good(files[i], BYTES, REGION_FOUND);
        size_t bytes;

        assert_true(a.base != b.base);
        assert_true(a.key.k0 == b.key.k0 && a.key.k1 == b.key.k1);
        assert_true(a.key.k0 != 0 || a.key.k1 != 0);
        assert_true(a.created_ms > 0 && a.created_ms == b.created_ms);
        (void)region_counters(&a, &bytes);
        assert_true(counters(&a) + bytes == a.base + a.bytes);
        memset(counters(&a), 'x', bytes);
        assert_true(counters(&b)[bytes - 1] == 'x');
        memset(region_stats(&a), 'y', REGION_STATS_BYTES);
        assert_true(counters(&b)[0] == 'x');
        region_close(&a);
        region_close(&b);
        region_close(&b);
        b = open_good(files[i], BYTES, REGION_FOUND); /* it outlives all who held it */
        assert_true(counters(&b)[0] == 'x');
        region_close(&b);
    }
}

static void the_mode_is_as_asked_whatever_the_umask(void **state)
{
    mode_t old = umask(0077); /* with less than its own bits the owner could not open it either */
    struct region r = open_good(the_file, BYTES, REGION_CREATED);
    struct stat st;

    (void)state;
    umask(old);
    assert_int_equal(stat(the_file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_size, (off_t)r.bytes);
    region_close(&r);
}

static void each_has_a_key_of_its_own(void **state)
{
    struct region a = open_good(NULL, BYTES, REGION_CREATED);
    struct region b = open_good(the_file, BYTES, REGION_CREATED);

    (void)state;
    assert_true(a.key.k0 != b.key.k0 && a.key.k1 != b.key.k1);
    region_close(&a);
    region_close(&b);
}

static void another_size_replaces_and_holders_keep_theirs(void **state)
{
    const char *files[] = { NULL, the_file };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct region a = open_good(files[i], BYTES, REGION_CREATED);
        struct region b, c;

        counters(&a)[0] = 'a';
        b = open_good(files[i], 2 * BYTES, REGION_REPLACED);
        assert_int_equal(counters(&b)[0], 0);
        counters(&b)[0] = 'b';
        assert_int_equal(counters(&a)[0], 'a');
        counters(&a)[counters(&a) - a.base] = 'z';
        c = open_good(files[i], 2 * BYTES, REGION_FOUND);
        assert_int_equal(counters(&c)[0], 'b');
        region_close(&a);
        region_close(&b);
        region_close(&c);
    }
}

static void another_version_replaces(void **state)
{
    struct region r = open_good(the_file, BYTES, REGION_CREATED);

    (void)state;
    ((uint64_t *)(void *)r.base)[1] += 1;
    region_close(&r);
    r = open_good(the_file, BYTES, REGION_REPLACED);
    region_close(&r);
}

static void a_file_that_was_cut_is_replaced(void **state)
{
    struct region r = open_good(the_file, BYTES, REGION_CREATED);

    (void)state;
    region_close(&r);
    assert_int_equal(truncate(the_file, 8192), 0);
    r = open_good(the_file, BYTES, REGION_REPLACED);
    counters(&r)[0] = 'x';
    region_close(&r);
}

/* The maker dies with the file sized and the magic not yet written, or before. */
static void what_is_half_made_is_made_again(void **state)
{
    (void)state;
    for (off_t bytes = 0; bytes <= BYTES; bytes += BYTES) {
        int fd = open(the_file, O_CREAT | O_RDWR, 0600);
        struct region r;

        assert_int_not_equal(fd, -1);
        assert_int_equal(pwrite(fd, "left over", 9, 5000), 9);
        assert_int_equal(ftruncate(fd, bytes), 0);
        close(fd);
        r = open_good(the_file, BYTES, REGION_CREATED);
        assert_int_equal(r.base[5000], 0);
        region_close(&r);
        assert_int_equal(unlink(the_file), 0);
    }
}

static void a_file_of_somebody_elses_making_is_refused(void **state)
{
    static const char PRECIOUS[] = "-----BEGIN PRIVATE KEY-----\n";
    char text[sizeof PRECIOUS];
    int fd = open(the_file, O_CREAT | O_RDWR, 0600);

    (void)state;
    assert_int_equal(write(fd, PRECIOUS, sizeof PRECIOUS), sizeof PRECIOUS);
    open_bad(options(the_file, BYTES), "is not weir's");
    assert_int_equal(pread(fd, text, sizeof text, 0), sizeof text);
    assert_memory_equal(text, PRECIOUS, sizeof text);
    close(fd);
    assert_int_equal(unlink(the_file), 0);
    assert_int_equal(symlink("/etc/hostname", the_file), 0);
    open_bad(options(the_file, BYTES), "cannot open");
}

static void what_cannot_be_is_refused_with_reasons(void **state)
{
    struct region_options o = options(NULL, BYTES);
    static const char *const NAMES[] = { "", "a/b", "a b", "../x" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        o.name = NAMES[i];
        open_bad(o, "letters");
    }
    open_bad(options(NULL, REGION_MIN_BYTES - 1), "at least 256k");
    open_bad(options(NULL, SIZE_MAX / 2), "counter_memory");
    open_bad(options("/nowhere/at/all", BYTES), "/nowhere/at/all");
    open_bad(options(the_dir, BYTES), the_dir);
    open_bad(options(NULL, (size_t)1 << 50), "counter_memory smaller");
    open_bad(options("/dev/null", BYTES), "/dev/null");
}

static void only_its_owner_and_root_are_trusted(void **state)
{
    struct region r = open_good(the_file, BYTES, REGION_CREATED);
    struct region_options o = options(the_file, BYTES);
    struct stat st;

    (void)state;
    region_close(&r);
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(the_file, 12345, 12345), 0);
    open_bad(o, "somebody else");
    o.uid = 12345;
    assert_int_equal(region_open(&r, &o, &e), 0);
    region_close(&r);
    assert_int_equal(unlink(the_file), 0);
    o.gid = 54321;
    assert_int_equal(region_open(&r, &o, &e), 0);
    region_close(&r);
    assert_int_equal(stat(the_file, &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(st.st_gid, 54321);
}

/* In /dev/shm, which is sticky, the kernel may deny O_CREAT on another user's file. */
static void what_root_gave_to_its_user_root_finds_again(void **state)
{
    struct region_options o = options(NULL, BYTES);
    struct region r;

    (void)state;
    if (geteuid() != 0)
        skip();
    o.uid = 12345;
    assert_int_equal(region_open(&r, &o, &e), 0);
    assert_int_equal(r.how, REGION_CREATED);
    region_close(&r);
    assert_int_equal(region_open(&r, &o, &e), 0);
    assert_int_equal(r.how, REGION_FOUND);
    region_close(&r);
}

static int open_only(void *arg)
{
    struct region_options o = options(the_file, BYTES);
    struct region r;

    (void)arg;
    return region_open(&r, &o, &e) ? 1 : 0;
}

static void who_is_making_it_is_waited_for(void **state)
{
    int fd = open(the_file, O_CREAT | O_RDWR, 0600), status;
    pid_t waiter;

    (void)state;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    waiter = spec_fork(open_only, NULL);
    usleep(30000);
    assert_int_equal(waitpid(waiter, &status, WNOHANG), 0);
    assert_int_equal(flock(fd, LOCK_UN), 0); /* close is not enough: the child has it too */
    close(fd);
    assert_int_equal(spec_wait(waiter), 0);
}

struct race {
    uint64_t go;
    uint64_t keys[16];
    int how[3];
};

static struct race *the_race;

static int open_at_once(void *arg)
{
    struct region_options o = options(the_file, BYTES);
    struct region r;

    while (!__atomic_load_n(&the_race->go, __ATOMIC_ACQUIRE))
        ;
    if (region_open(&r, &o, &e))
        return 1;
    *(uint64_t *)arg = r.key.k0;
    __atomic_fetch_add(&the_race->how[r.how], 1, __ATOMIC_RELAXED);
    return 0;
}

static void many_make_it_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        bool stale = round % 2;
        pid_t pids[16];

        if (stale) { /* one of another size is in the way */
            struct region r = open_good(the_file, 2 * BYTES, REGION_CREATED);

            region_close(&r);
        }
        the_race = spec_share(sizeof *the_race);
        for (size_t i = 0; i < ARRAY_LEN(pids); i++)
            pids[i] = spec_fork(open_at_once, &the_race->keys[i]);
        __atomic_store_n(&the_race->go, 1, __ATOMIC_RELEASE);
        for (size_t i = 0; i < ARRAY_LEN(pids); i++)
            assert_int_equal(spec_wait(pids[i]), 0);
        for (size_t i = 0; i < ARRAY_LEN(pids); i++)
            assert_true(the_race->keys[i] == the_race->keys[0]);
        if (!stale)
            assert_int_equal(the_race->how[REGION_CREATED], 1);
        else
            assert_int_equal(the_race->how[REGION_CREATED] + the_race->how[REGION_REPLACED] > 0, 1);
        munmap(the_race, sizeof *the_race);
        assert_int_equal(unlink(the_file), 0);
    }
}

static int make_and_die(void *arg)
{
    struct region_options o = options(the_file, BYTES);
    struct region r;

    (void)arg;
    for (;;) {
        if (region_open(&r, &o, &e) || region_unlink(NULL, the_file, &e))
            return 1;
        region_close(&r);
    }
}

static void makers_may_be_killed(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        pid_t a = spec_fork(make_and_die, NULL), b = spec_fork(make_and_die, NULL);
        struct region_options o = options(the_file, BYTES);
        struct region r;

        usleep((useconds_t)(i * 17));
        spec_kill(a);
        spec_kill(b);
        assert_int_equal(region_open(&r, &o, &e), 0);
        counters(&r)[0] = 'x';
        region_close(&r);
        r = open_good(the_file, BYTES, REGION_FOUND);
        assert_int_equal(counters(&r)[0], 'x');
        region_close(&r);
    }
}

/* Who else fills the file system later does no harm. */
static void memory_is_there_before_it_is_used(void **state)
{
    struct region r = open_good(the_file, 4u << 20, REGION_CREATED);
    struct stat st;

    (void)state;
    assert_int_equal(stat(the_file, &st), 0);
    assert_int_equal(st.st_size, 4 << 20);
    assert_true(st.st_blocks * 512 >= 4 << 20);
    region_close(&r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(made_once_and_found_again),
        TEST(the_mode_is_as_asked_whatever_the_umask),
        TEST(each_has_a_key_of_its_own),
        TEST(another_size_replaces_and_holders_keep_theirs),
        TEST(another_version_replaces),
        TEST(a_file_that_was_cut_is_replaced),
        TEST(what_is_half_made_is_made_again),
        TEST(a_file_of_somebody_elses_making_is_refused),
        TEST(what_cannot_be_is_refused_with_reasons),
        TEST(only_its_owner_and_root_are_trusted),
        TEST(what_root_gave_to_its_user_root_finds_again),
        TEST(who_is_making_it_is_waited_for),
        TEST(many_make_it_at_once),
        TEST(makers_may_be_killed),
        TEST(memory_is_there_before_it_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
