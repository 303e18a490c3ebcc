/*
 * shm/keepsake: values by key, for children and for who takes the descriptor
 * over, unless its layout is another; what is replaced is wiped; a holder of the
 * lock that dies.
 */
#include "base/mem.h"
#include "shm/keepsake.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MEMORY_BYTES ((size_t)4 << 20)

static const unsigned char A[KEEPSAKE_KEY_BYTES] = "a", B[KEEPSAKE_KEY_BYTES] = "b",
                           C[KEEPSAKE_KEY_BYTES] = "c";

static struct keepsake *the;

static int open_one(void **state)
{
    struct err e;

    (void)state;
    the = keepsake_open(-1, &e);
    return the ? 0 : -1;
}

static int close_one(void **state)
{
    (void)state;
    keepsake_close(the);
    return 0;
}

static void put(const unsigned char *key, struct str value, int n)
{
    const struct keepsake_mark mark = { n, n + 0.5, (uint64_t)n };

    keepsake_put(the, key, value, &mark);
}

/* The number that it was put with, if there is one. */
static int get(const unsigned char *key, struct buf *out)
{
    struct keepsake_mark mark;

    if (!keepsake_get(the, key, out, &mark))
        return 0;
    assert_true(mark.found_s == (double)mark.generation);
    assert_true(mark.ttl_s == (double)mark.generation + 0.5);
    return (int)mark.generation;
}

static void expect(const unsigned char *key, const char *value, int n)
{
    struct buf out = { 0 };

    assert_int_equal(get(key, &out), n);
    assert_int_equal(out.n, strlen(value));
    if (*value)
        assert_memory_equal(out.p, value, out.n);
    buf_free(&out);
}

static bool holds(const char *text)
{
    char *p = mmap(NULL, MEMORY_BYTES, PROT_READ, MAP_SHARED, keepsake_fd(the), 0);
    size_t n = strlen(text);
    bool found = false;

    assert_true(p != MAP_FAILED);
    for (size_t i = 0; i + n <= MEMORY_BYTES && !found; i++)
        found = memcmp(p + i, text, n) == 0;
    munmap(p, MEMORY_BYTES);
    return found;
}

static void test_values(void **state)
{
    (void)state;
    expect(A, "", 0);
    put(A, STR("first of a"), 1);
    put(B, STR("of b"), 2);
    put(C, STR(""), 3);
    expect(A, "first of a", 1);
    put(A, STR("second, a longer one, of a"), 4);
    expect(A, "second, a longer one, of a", 4);
    expect(B, "of b", 2);
    expect(C, "", 3);
    assert_true(holds("second, a"));
    assert_false(holds("first of a"));
    keepsake_forget(the, A);
    keepsake_forget(the, A);
    expect(A, "", 0);
    expect(B, "of b", 2);
    assert_false(holds("second, a"));
}

static void test_room(void **state)
{
    char *much = xcalloc(1, KEEPSAKE_VALUE_MAX + 1);
    unsigned char key[KEEPSAKE_KEY_BYTES] = { 0 };
    struct buf out = { 0 };

    (void)state;
    put(A, (struct str){ much, KEEPSAKE_VALUE_MAX + 1 }, 1);
    expect(A, "", 0);
    for (key[0] = 1; key[0] <= 5; key[0]++)
        put(key, (struct str){ much, KEEPSAKE_VALUE_MAX }, key[0]);
    for (key[0] = 1; key[0] <= 5; key[0]++)
        assert_int_equal(get(key, &out), key[0] <= 2 ? 0 : key[0]);
    buf_free(&out);
    free(much);
}

static void test_children(void **state)
{
    pid_t pid = fork();
    struct keepsake *first = the;
    struct err e;

    (void)state;
    if (pid == 0) {
        put(A, STR("of a child"), 5);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    expect(A, "of a child", 5);
    the = keepsake_open(dup(keepsake_fd(first)), &e);
    keepsake_close(first);
    expect(A, "of a child", 5);
}

static void overwrite(uint64_t word)
{
    assert_int_equal(pwrite(keepsake_fd(the), &word, sizeof word, 0), sizeof word);
}

/* Those who know another layout keep their memory, as it was; before there was a version, a lock
 * stood in its place. */
static void test_layouts(void **state)
{
    const uint64_t others[] = { 0, 1, UINT64_MAX, UINT64_C(0x7765697273656301) };
    uint64_t layout;

    (void)state;
    assert_int_equal(pread(keepsake_fd(the), &layout, sizeof layout, 0), sizeof layout);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct keepsake *older = the;
        struct err e;

        put(A, STR("of another layout"), 7);
        overwrite(others[i]);
        the = keepsake_open(dup(keepsake_fd(older)), &e);
        assert_non_null(the);
        expect(A, "", 0);
        put(A, STR("anew"), 8);
        assert_false(holds("of another"));
        keepsake_close(the);
        the = older;
        overwrite(layout);
        expect(A, "of another layout", 7);
    }
}

/* However often one dies in the midst of it, the others go on. */
static void test_deaths(void **state)
{
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();

        if (pid == 0)
            for (size_t n = 0;; n = (n + 37) % sizeof text)
                put(n % 3 ? A : B, (struct str){ text, n }, 1);
        usleep((useconds_t)(500 + i * 37));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        put(C, STR("of the living"), 6);
        expect(C, "of the living", 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_room, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_children, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_layouts, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_deaths, open_one, close_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
