/*
 * Targets are split, paths normalised so that no spelling goes around a rule,
 * queries taken apart.
 */
#include "base/mem.h"
#include "wire/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 4096);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static void assert_str(struct str have, const char *want)
{
    if (!str_eq(have, str_from(want)))
        fail_msg("have \"%.*s\", want \"%s\"", STR_ARG(have), want);
}

static void splits(void **state)
{
    static const char *const cases[][3] = {
        { "/a/b?c=d", "/a/b", "c=d" },
        { "/a", "/a", "" },
        { "/a?", "/a", "" },
        { "/a?b?c", "/a", "b?c" },
        { "?x", "", "x" },
        { "", "", "" },
        { "*", "*", "" },
        { "/a#b?c", "/a", "" },
        { "/a?b#c", "/a", "b" },
        { "#", "", "" },
        { "/a%3Fb", "/a%3Fb", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str path, query;

        uri_split(str_from(cases[i][0]), &path, &query);
        assert_str(path, cases[i][1]);
        assert_str(query, cases[i][2]);
    }
    struct str path, query;

    uri_split(STR_NULL, &path, &query);
    assert_int_equal(path.n + query.n, 0);
}

static const char *const normal[][2] = {
    { "", "/" },
    { "*", "*" },
    { "/", "/" },
    { "/plain/path.html", "/plain/path.html" },
    /* escapes */
    { "/%41%7A%30%2D%2e%5F%7e", "/Az0-._~" },
    { "/a%2fb%3f%c3%a9", "/a%2Fb%3F%C3%A9" },
    { "/%20%25%23", "/%20%25%23" },
    { "/a%00b", "/a%00b" },
    { "/100%", "/100%" },
    { "/%4", "/%4" },
    { "/%zz%4g", "/%zz%4g" },
    { "/%2541", "/%2541" },
    /* a '%' that begins no escape is not completed by what is decoded behind it */
    { "/%%34%31", "/%%341" },
    { "/%4%31", "/%4%31" },
    { "/%%34%31%41", "/%%341A" },
    /* slashes */
    { "//", "/" },
    { "//a///b//", "/a/b/" },
    { "/%2F/%2f", "/%2F/%2F" },
    /* dot segments */
    { "/.", "/" },
    { "/..", "/" },
    { "/./", "/" },
    { "/../", "/" },
    { "/a/.", "/a/" },
    { "/a/..", "/" },
    { "/a/b/..", "/a/" },
    { "/a/b/../", "/a/" },
    { "/a/b/../c", "/a/c" },
    { "/a/./b/./c", "/a/b/c" },
    { "/a/b/c/../../d", "/a/d" },
    { "/a/../../../b", "/b" },
    { "/.../..a/a../.a/a.", "/.../..a/a../.a/a." },
    /* all of it at once */
    { "/%2e%2E/a", "/a" },
    { "/a/%2e", "/a/" },
    { "/a/.%2e/b", "/b" },
    { "/a/%2e./%2E%2e/b", "/b" },
    { "/a//../b", "/b" },
    { "/a/b//../c", "/a/c" },
    { "/a/%2F../b", "/a/%2F../b" },
    { "/a/..%2fb", "/a/..%2Fb" },
    { "//..//./admin", "/admin" },
};

static void normalises(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(normal); i++) {
        size_t n = strlen(normal[i][0]);
        char *copy = memcpy(xmalloc(n), normal[i][0], n);
        struct str once = uri_normalise(&arena, (struct str){ copy, n });

        assert_str(once, normal[i][1]);
        assert_str(uri_normalise(&arena, once), normal[i][1]);
        free(copy);
    }
}

static const char *const served[][2] = {
    { "", "/" },
    { "*", "*" },
    { "/plain/path.html", "/plain/path.html" },
    { "/a/b/../c", "/a/c" },
    { "/x/..%2fecho", "/echo" },
    { "/x%2F..%2F%2fecho", "/echo" },
    { "/%2e%2e%2fecho", "/echo" },
    { "/a%40b%3A%2c", "/a@b:," },
    { "/a@b:,", "/a@b:," },
    { "/a b\"%c3%A9\xc3\xa9", "/a%20b%22%C3%A9%C3%A9" },
    { "/a%3fb%23%00", "/a%3Fb%23%00" },
    /* decoded once, as it is by the web server */
    { "/x/..%252fecho", "/x/..%252fecho" },
    { "/%%341", "/%2541" },
    { "/100%", "/100%25" },
};

static void finds_what_is_served(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(served); i++) {
        struct str once = uri_served(&arena, str_from(served[i][0]));

        assert_str(once, served[i][1]);
        assert_str(uri_served(&arena, once), served[i][1]);
    }
}

static void borrows_what_is_normal(void **state)
{
    struct str path = STR("/api/v1/items.json");

    (void)state;
    assert_ptr_equal(uri_normalise(&arena, path).p, path.p);
}

static void iterates_arguments(void **state)
{
    struct str query = STR("a=1&&b&=c&d==&e=&f%3D=g+h&"), name, value;

    (void)state;
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "a");
    assert_str(value, "1");
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "b");
    assert_null(value.p);
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "");
    assert_str(value, "c");
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "d");
    assert_str(value, "=");
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "e");
    assert_non_null(value.p);
    assert_int_equal(value.n, 0);
    assert_true(uri_query_next(&query, &name, &value));
    assert_str(name, "f%3D");
    assert_str(value, "g+h");
    assert_false(uri_query_next(&query, &name, &value));
    query = STR_NULL;
    assert_false(uri_query_next(&query, &name, &value));
}

static void decodes(void **state)
{
    struct str plain = STR("nothing");

    (void)state;
    assert_str(uri_decode(&arena, STR("a%20b%2Fc%c3%A9+d"), false), "a b/c\xc3\xa9+d");
    assert_str(uri_decode(&arena, STR("a+b%2B"), true), "a b+");
    assert_str(uri_decode(&arena, STR("%"), true), "%");
    assert_str(uri_decode(&arena, STR("%4%41%4"), true), "%4A%4");
    assert_str(uri_decode(&arena, STR("%2541"), true), "%41");
    assert_ptr_equal(uri_decode(&arena, plain, true).p, plain.p);
    assert_int_equal(uri_decode(&arena, STR("%00"), true).n, 1);
    assert_int_equal(uri_decode(&arena, STR_NULL, true).n, 0);
}

static void encodes(void **state)
{
    (void)state;
    assert_str(uri_encode(&arena, STR("a b/\xc3\xa9?~"), STR("/")), "a%20b/%C3%A9%3F~");
    assert_str(uri_encode(&arena, STR("%/"), STR_NULL), "%25%2F");
    assert_str(uri_encode(&arena, STR_NULL, STR("/")), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits),
        cmocka_unit_test(normalises),
        cmocka_unit_test(finds_what_is_served),
        cmocka_unit_test(borrows_what_is_normal),
        cmocka_unit_test(iterates_arguments),
        cmocka_unit_test(decodes),
        cmocka_unit_test(encodes),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
