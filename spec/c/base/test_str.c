/*
 * Borrowed bytes and the bounded buffer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "base/str.h"

static void equality(void **state)
{
    (void)state;
    assert_true(str_eq(STR("abc"), str_from("abc")));
    assert_false(str_eq(STR("abc"), STR("abd")));
    assert_false(str_eq(STR("abc"), STR("ab")));
    assert_true(str_eq(STR_NULL, STR("")));
    assert_true(str_eq(str_from(NULL), STR_NULL));
    assert_true(str_eq(STR("a\0b"), STR("a\0b")));
    assert_false(str_eq(STR("a\0b"), STR("a\0c")));
}

/* ASCII letters only: bytes 32 apart that are no letters differ. */
static void equality_without_case(void **state)
{
    (void)state;
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            char x[8], y[8]; /* one at a time, and eight */
            bool letters = (a | 32) == (b | 32) && (a | 32) >= 'a' && (a | 32) <= 'z';

            memset(x, a, sizeof x);
            memset(y, b, sizeof y);
            for (size_t n = 1; n <= 8; n += 7)
                assert_int_equal(str_eq_nocase((struct str){ x, n }, (struct str){ y, n }),
                                 a == b || letters);
        }
    }
    for (size_t n = 0; n < 40; n++) { /* each length, and a difference at each place */
        char upper[40], lower[40];

        memset(upper, 'Q', n);
        memset(lower, 'q', n);
        assert_true(str_eq_nocase((struct str){ upper, n }, (struct str){ lower, n }));
        for (size_t i = 0; i < n; i++) {
            lower[i] = 'Q' ^ 0x40;
            assert_false(str_eq_nocase((struct str){ upper, n }, (struct str){ lower, n }));
            lower[i] = 'q';
        }
    }
    assert_true(str_eq_nocase(STR("Content-Length"), STR("cONTENT-lENGTH")));
    assert_false(str_eq_nocase(STR("Content-Length"), STR("Content-Lengt")));
    assert_true(str_eq_nocase(STR_NULL, STR("")));
}

static void beginnings(void **state)
{
    (void)state;
    assert_true(str_starts(STR("/api/x"), STR("/api")));
    assert_true(str_starts(STR("/api"), STR("/api")));
    assert_true(str_starts(STR("/api"), STR_NULL));
    assert_true(str_starts(STR_NULL, STR_NULL));
    assert_false(str_starts(STR("/ap"), STR("/api")));
    assert_false(str_starts(STR("/aqi"), STR("/api")));
}

static void trimming(void **state)
{
    (void)state;
    assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
    assert_true(str_eq(str_trim(STR(" \t ")), STR("")));
    assert_true(str_eq(str_trim(STR_NULL), STR("")));
    assert_true(str_eq(str_trim(STR("\r\na\n")), STR("\r\na\n"))); /* HTTP's blanks only */
}

static void numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        int result;
        uint64_t value;
    } N[] = {
        { "0", 0, 0, 0 },
        { "1", 0, -1, 0 },
        { "007", 9, 0, 7 },
        { "5", 3, -1, 0 },
        { "10", 9, -1, 0 },
        { "65535", 65535, 0, 65535 },
        { "65536", 65535, -1, 0 },
        { "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
        { "18446744073709551616", UINT64_MAX, -1, 0 },
        { "99999999999999999999999", UINT64_MAX, -1, 0 },
        { "", 9, -1, 0 },
        { "-1", 9, -1, 0 },
        { "+1", 9, -1, 0 },
        { " 1", 9, -1, 0 },
        { "1 ", 9, -1, 0 },
        { "0x1", 99, -1, 0 },
        { "1.0", 99, -1, 0 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(N); i++) {
        uint64_t value = 4711;

        assert_int_equal(str_to_u64(str_from(N[i].text), N[i].max, &value), N[i].result);
        assert_true(value == (N[i].result == 0 ? N[i].value : 4711));
    }
}

static void numbers_as_text(void **state)
{
    char room[U64_DIGITS];

    (void)state;
    assert_true(str_eq(str_from_u64(0, room), STR("0")));
    assert_true(str_eq(str_from_u64(1090, room), STR("1090")));
    assert_true(str_eq(str_from_u64(UINT64_MAX, room), STR("18446744073709551615")));
}

static void a_buffer_grows_to_its_bound_and_no_further(void **state)
{
    struct buf b = { .max_bytes = 1000 };
    char byte;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        byte = (char)i;
        assert_int_equal(buf_add(&b, &byte, 1), 0);
    }
    assert_int_equal(buf_add(&b, &byte, 1), -1);
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_non_null(buf_reserve(&b, 0));
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    assert_int_equal(b.n, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b.p[i], (char)i);
    buf_free(&b);
    assert_int_equal(buf_add(&b, "again", 5), 0);
    assert_memory_equal(b.p, "again", 5);
    buf_free(&b);
    buf_free(&b);
}

/* NULL means that the bound would be passed, and nothing else. */
static void an_empty_buffer_takes_no_bytes(void **state)
{
    struct buf b = { .max_bytes = 10 };

    (void)state;
    assert_non_null(buf_reserve(&b, 0));
    buf_free(&b);
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    buf_free(&b);
}

static void a_buffer_without_bound(void **state)
{
    struct buf b = { 0 };
    char *to;

    (void)state;
    for (size_t n = 1; n < 100000; n = n * 3 + 1) {
        to = buf_reserve(&b, n);
        assert_non_null(to);
        memset(to, 'x', n); /* all of it is ours */
        b.n += n;
    }
    assert_true(b.cap_bytes >= b.n);
    buf_free(&b);
}

static void dropping_from_the_front(void **state)
{
    struct buf b = { 0 };

    (void)state;
    buf_drop(&b, 0);
    assert_int_equal(buf_add(&b, "abcdef", 6), 0);
    buf_drop(&b, 2);
    assert_int_equal(b.n, 4);
    assert_memory_equal(b.p, "cdef", 4);
    buf_drop(&b, 0);
    buf_drop(&b, 4);
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality),
        cmocka_unit_test(equality_without_case),
        cmocka_unit_test(beginnings),
        cmocka_unit_test(trimming),
        cmocka_unit_test(numbers),
        cmocka_unit_test(numbers_as_text),
        cmocka_unit_test(a_buffer_grows_to_its_bound_and_no_further),
        cmocka_unit_test(an_empty_buffer_takes_no_bytes),
        cmocka_unit_test(a_buffer_without_bound),
        cmocka_unit_test(dropping_from_the_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
