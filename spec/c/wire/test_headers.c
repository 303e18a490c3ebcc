/*
 * The list of header fields, what may stand in one, and which fields concern
 * one connection only.
 */
#include "base/mem.h"
#include "wire/headers.h"
#include "wire/hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct fixture {
    struct arena arena;
    struct headers list;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);

    arena_init(&f->arena, 1024);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    arena_fini(&f->arena);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *name, const char *value)
{
    headers_add(&f->list, &f->arena, str_from(name), str_from(value));
}

static void assert_field(const struct fixture *f, unsigned i, const char *name, const char *value)
{
    assert_true(i < f->list.n);
    assert_true(str_eq(f->list.v[i].name, str_from(name)));
    assert_true(str_eq(f->list.v[i].value, str_from(value)));
}

static void keeps_the_order_of_many(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 500; i++) {
        struct str text = arena_printf(&f->arena, "X-%d", i);

        headers_add(&f->list, &f->arena, text, text);
    }
    assert_int_equal(f->list.n, 500);
    assert_field(f, 0, "X-0", "X-0");
    assert_field(f, 499, "X-499", "X-499");
    assert_int_equal(headers_find(&f->list, STR("x-499"), 0), 499);
}

static void finds_names_without_case(void **state)
{
    struct fixture *f = *state;

    add(f, "Accept", "a");
    add(f, "Cookie", "b");
    add(f, "accept", "c");
    assert_true(str_eq(*headers_get(&f->list, STR("ACCEPT")), STR("a")));
    assert_int_equal(headers_find(&f->list, STR("aCCEPT"), 0), 0);
    assert_int_equal(headers_find(&f->list, STR("aCCEPT"), 1), 2);
    assert_int_equal(headers_find(&f->list, STR("aCCEPT"), 3), -1);
    assert_null(headers_get(&f->list, STR("Accep")));
    assert_null(headers_get(&f->list, STR("")));
    /* '^' and '~' differ by the bit of case and are no letters */
    add(f, "X^", "d");
    assert_null(headers_get(&f->list, STR("X~")));
}

static void sets_at_the_place_of_the_first(void **state)
{
    struct fixture *f = *state;

    add(f, "A", "1");
    add(f, "B", "2");
    add(f, "C", "3");
    add(f, "b", "4");
    headers_set(&f->list, &f->arena, STR("B"), STR("5"));
    assert_int_equal(f->list.n, 3);
    assert_field(f, 0, "A", "1");
    assert_field(f, 1, "B", "5");
    assert_field(f, 2, "C", "3");
    headers_set(&f->list, &f->arena, STR("D"), STR("6"));
    assert_field(f, 3, "D", "6");
}

static void removes_all_of_a_name(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(headers_remove(&f->list, STR("A")), 0);
    add(f, "A", "1");
    add(f, "B", "2");
    add(f, "a", "3");
    assert_int_equal(headers_remove(&f->list, STR("A")), 2);
    assert_int_equal(f->list.n, 1);
    assert_field(f, 0, "B", "2");
    assert_int_equal(headers_remove(&f->list, STR("A")), 0);
    assert_int_equal(headers_remove(&f->list, STR("B")), 1);
    assert_int_equal(f->list.n, 0);
}

static void a_name_is_a_token(void **state)
{
    const char *separators = "\"(),/:;<=>?@[\\]{} \t\r\n\x7f";

    (void)state;
    assert_true(header_name_valid(STR("X-Forwarded-For")));
    assert_true(header_name_valid(STR("!#$%&'*+-.^_`|~09azAZ")));
    assert_false(header_name_valid(STR("")));
    assert_false(header_name_valid(STR("a\0b")));
    assert_false(header_name_valid(STR("a\x80")));
    for (size_t i = 0; separators[i]; i++) {
        char name[3] = { 'a', separators[i], 'b' };

        assert_false(header_name_valid((struct str){ name, sizeof name }));
    }
}

/* The bad byte at every place of values of every length around the width of a word. */
static void a_value_has_no_line_break(void **state)
{
    const char bad[] = { '\r', '\n', '\0' };

    (void)state;
    assert_true(header_value_valid(STR("")));
    assert_true(header_value_valid(STR_NULL));
    assert_true(header_value_valid(STR("tab\tand \xc3\xa9 and \x01\x7f\x80\xff, all of it")));
    for (size_t n = 1; n < 40; n++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < sizeof bad; k++) {
                char *p = xmalloc(n);

                memset(p, k == 0 ? '\t' : 'x', n);
                assert_true(header_value_valid((struct str){ p, n }));
                p[i] = bad[k];
                assert_false(header_value_valid((struct str){ p, n }));
                free(p);
            }
        }
    }
}

static void knows_the_fixed_hop_by_hop_fields(void **state)
{
    (void)state;
    assert_true(hop_is_fixed(STR("connection")));
    assert_true(hop_is_fixed(STR("Keep-Alive")));
    assert_true(hop_is_fixed(STR("PROXY-CONNECTION")));
    assert_true(hop_is_fixed(STR("te")));
    assert_true(hop_is_fixed(STR("Trailer")));
    assert_true(hop_is_fixed(STR("Transfer-Encoding")));
    assert_true(hop_is_fixed(STR("upgrade")));
    assert_false(hop_is_fixed(STR("Content-Encoding")));
    assert_false(hop_is_fixed(STR("Host")));
    assert_false(hop_is_fixed(STR("")));
}

static void reads_lists(void **state)
{
    struct str list = STR(" ,, a ,b\t,,c,"), element;

    (void)state;
    assert_true(hop_list_next(&list, &element));
    assert_true(str_eq(element, STR("a")));
    assert_true(hop_list_next(&list, &element));
    assert_true(str_eq(element, STR("b")));
    assert_true(hop_list_next(&list, &element));
    assert_true(str_eq(element, STR("c")));
    assert_false(hop_list_next(&list, &element));
    list = STR_NULL;
    assert_false(hop_list_next(&list, &element));
}

static void connection_names_fields(void **state)
{
    struct fixture *f = *state;

    assert_false(hop_names_fields(&f->list));
    add(f, "Connection", "Keep-Alive ,, close");
    assert_false(hop_names_fields(&f->list));
    add(f, "connection", "close, x-a");
    add(f, "Connection", "X-B");
    assert_true(hop_names_fields(&f->list));
    assert_true(hop_is_named(&f->list, STR("X-A")));
    assert_true(hop_is_named(&f->list, STR("x-b")));
    assert_false(hop_is_named(&f->list, STR("X")));
    assert_true(hop_is_bounded(&f->list));
    for (int i = 0; i <= HOP_MAX_NAMED; i++)
        add(f, "Connection", "y");
    assert_false(hop_is_bounded(&f->list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_the_order_of_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(finds_names_without_case, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sets_at_the_place_of_the_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removes_all_of_a_name, set_up, tear_down),
        cmocka_unit_test(a_name_is_a_token),
        cmocka_unit_test(a_value_has_no_line_break),
        cmocka_unit_test(knows_the_fixed_hop_by_hop_fields),
        cmocka_unit_test(reads_lists),
        cmocka_unit_test_setup_teardown(connection_names_fields, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
