/*
 * peer/redis_slot: the checksum's known values, hash tags of every form, and
 * the slots that a Cluster itself gives.
 */
#include "peer/redis_slot.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void test_crc16(void **state)
{
    (void)state;
    assert_int_equal(redis_crc16(STR("")), 0);
    assert_int_equal(redis_crc16(STR("123456789")), 0x31c3);
    assert_int_equal(redis_crc16(STR("A")), 0x58e5);
    assert_int_equal(redis_crc16((struct str){ "\xff\xff", 2 }), 0x1d0f);
    assert_int_equal(redis_crc16((struct str){ "\0", 1 }), 0);
}

/* As CLUSTER KEYSLOT of Redis 7.0 gives them. */
static void test_slots(void **state)
{
    (void)state;
    assert_int_equal(redis_slot(STR("")), 0);
    assert_int_equal(redis_slot(STR("foo")), 12182);
    assert_int_equal(redis_slot(STR("somekey")), 11058);
    assert_int_equal(redis_slot(STR("user:1000")), 1649);
}

static void assert_same(const char *a, const char *b)
{
    assert_int_equal(redis_slot(str_from(a)), redis_slot(str_from(b)));
}

static void assert_other(const char *a, const char *b)
{
    assert_int_not_equal(redis_slot(str_from(a)), redis_slot(str_from(b)));
}

static void test_tags(void **state)
{
    (void)state;
    assert_same("foo{hash_tag}", "bar{hash_tag}");
    assert_same("{user1000}.following", "user1000");
    assert_same("foo{{bar}}zap", "{bar");
    assert_same("foo{bar}{zap}", "bar");
    assert_same("a}b{c}d", "c");
    /* an empty tag is none, and later ones do not count */
    assert_int_equal(redis_slot(STR("foo{}{bar}")), 8363);
    assert_other("foo{}{bar}", "bar");
    assert_other("foo{bar", "bar");
    assert_int_equal(redis_slot(STR("foo{")), redis_crc16(STR("foo{")) % REDIS_SLOTS);
    assert_int_equal(redis_slot(STR("}{")), redis_crc16(STR("}{")) % REDIS_SLOTS);
    /* bytes of any value */
    assert_int_equal(redis_slot((struct str){ "x{\0a}y", 6 }),
                     redis_slot((struct str){ "\0a", 2 }));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc16),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_tags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
