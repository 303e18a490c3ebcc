/*
 * shm/keepsake: values by key, for children and for who takes the descriptor
 * over; what is replaced is wiped; a holder of the lock that dies.
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

static void expect(const unsigned char *key, const char *value, int64_t put_ms)
{
    struct buf out = { 0 };

    assert_int_equal(keepsake_get(the, key, &out), put_ms);
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
    keepsake_put(the, A, STR("first of a"), 1);
    keepsake_put(the, B, STR("of b"), 2);
    keepsake_put(the, C, STR(""), 3);
    expect(A, "first of a", 1);
    keepsake_put(the, A, STR("second, a longer one, of a"), 4);
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
    keepsake_put(the, A, (struct str){ much, KEEPSAKE_VALUE_MAX + 1 }, 1);
    expect(A, "", 0);
    for (key[0] = 1; key[0] <= 5; key[0]++)
        keepsake_put(the, key, (struct str){ much, KEEPSAKE_VALUE_MAX }, key[0]);
    for (key[0] = 1; key[0] <= 5; key[0]++)
        assert_int_equal(keepsake_get(the, key, &out), key[0] <= 2 ? 0 : key[0]);
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
        keepsake_put(the, A, STR("of a child"), 5);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    expect(A, "of a child", 5);
    the = keepsake_open(dup(keepsake_fd(first)), &e);
    keepsake_close(first);
    expect(A, "of a child", 5);
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
                keepsake_put(the, n % 3 ? A : B, (struct str){ text, n }, 1);
        usleep((useconds_t)(500 + i * 37));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        keepsake_put(the, C, STR("of the living"), 6);
        expect(C, "of the living", 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_room, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_children, open_one, close_one),
        cmocka_unit_test_setup_teardown(test_deaths, open_one, close_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
