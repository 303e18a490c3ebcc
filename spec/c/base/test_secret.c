/*
 * base/secret: names and fixed texts, values that change, who is told of it,
 * and that a value is wiped when it is replaced.
 */
#include "base/mem.h"
#include "base/secret.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define NAME "{vault://env/test}"

struct ear {
    struct secret_watch watch, *leaves_too;
    int heard;
    enum secret_news last;
};

static void hear(struct secret_watch *w, enum secret_news news)
{
    struct ear *ear = CONTAINER_OF(w, struct ear, watch);

    ear->heard++;
    ear->last = news;
    if (ear->leaves_too) {
        secret_unwatch(w);
        secret_unwatch(ear->leaves_too);
    }
}

static void test_fixed(void **state)
{
    struct secret *a = secret_from_text(STR("s3cret")), *b = secret_from_text(STR("s3cret"));

    (void)state;
    assert_ptr_not_equal(a, b);
    assert_string_equal(secret_name(a), "");
    assert_string_equal(secret_value(a).p, "s3cret");
    assert_int_equal(secret_value(a).n, 6);
    assert_false(secret_ask(a));
    secret_release(a);
    secret_release(b);
    secret_release(NULL);
}

static void test_named(void **state)
{
    struct secret *a = secret_from_text(STR(NAME)), *b = secret_from_text(STR(NAME));
    unsigned before = secret_version(a);

    (void)state;
    assert_ptr_equal(a, b);
    assert_string_equal(secret_name(a), NAME);
    assert_null(secret_value(a).p);
    assert_string_equal(secret_why(a), "it was not looked up yet");
    assert_int_equal(secret_put(a, (struct str){ "a\0b", 3 }), 0);
    assert_memory_equal(secret_value(b).p, "a\0b", 4);
    assert_string_equal(secret_why(a), "");
    assert_int_not_equal(secret_version(a), before);
    secret_release(a);
    secret_release(b);
    a = secret_from_text(STR(NAME));
    assert_null(secret_value(a).p);
    secret_release(a);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(secret_is_name(STR("{vault://x}")));
    assert_true(secret_is_name(STR("{cloud://aws/1}")));
    assert_false(secret_is_name(STR("{vault://x} ")));
    assert_false(secret_is_name(STR("vault://x}")));
    assert_false(secret_is_name(STR("{vault:/")));
    assert_false(secret_is_name(STR("")));
}

static void test_news(void **state)
{
    struct secret *s = secret_from_text(STR(NAME));
    struct ear a = { .watch.on_news = hear }, b = { .watch.on_news = hear };

    (void)state;
    secret_watch(&a.watch, s);
    secret_watch(&b.watch, s);
    assert_int_equal(secret_put(s, STR("one")), 0);
    assert_int_equal(a.last, SECRET_CHANGED);
    assert_int_equal(secret_put(s, STR("one")), 0);
    assert_int_equal(b.last, SECRET_SAME);
    secret_fail(s, STR("the vault is closed"), false);
    assert_int_equal(a.last, SECRET_FAILED);
    assert_string_equal(secret_value(s).p, "one");
    assert_string_equal(secret_why(s), "the vault is closed");
    b.leaves_too = &a.watch;
    assert_int_equal(secret_put(s, STR("two")), 0);
    assert_int_equal(b.heard, 4);
    assert_int_equal(a.heard, 3);
    assert_null(b.watch.secret);
    secret_release(s);
}

static void test_never_empty(void **state)
{
    struct secret *s = secret_from_text(STR(NAME));

    (void)state;
    assert_int_equal(secret_put(s, STR("")), 0);
    assert_string_equal(secret_value(s).p, "");
    assert_int_equal(secret_put(s, STR("one")), 0);
    assert_int_equal(secret_put(s, STR("")), 0);
    assert_string_equal(secret_value(s).p, "one");
    assert_string_equal(secret_why(s), "it is empty now");
    secret_fail(s, STR("gone"), true);
    assert_null(secret_value(s).p);
    secret_release(s);
}

static void test_bound(void **state)
{
    struct secret *s = secret_from_text(STR(NAME));
    char *much = xcalloc(1, SECRET_VALUE_MAX + 1);

    (void)state;
    memset(much, 'x', SECRET_VALUE_MAX + 1);
    assert_int_equal(secret_put(s, (struct str){ much, SECRET_VALUE_MAX + 1 }), -1);
    assert_int_equal(secret_put(s, (struct str){ much, SECRET_VALUE_MAX }), 0);
    assert_int_equal(secret_value(s).n, SECRET_VALUE_MAX);
    secret_release(s);
    free(much);
}

static void ask(void *arg, struct secret *s)
{
    *(struct secret **)arg = s;
}

static void test_ask(void **state)
{
    struct secret *s = secret_from_text(STR(NAME)), *asked = NULL;

    (void)state;
    assert_false(secret_ask(s));
    secret_set_keeper(ask, &asked);
    assert_true(secret_ask(s));
    assert_ptr_equal(asked, s);
    secret_set_keeper(NULL, NULL);
    secret_release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed),       cmocka_unit_test(test_named),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_news),
        cmocka_unit_test(test_never_empty), cmocka_unit_test(test_bound),
        cmocka_unit_test(test_ask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
