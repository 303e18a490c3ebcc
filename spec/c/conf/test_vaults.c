/*
 * conf/vaults: the keys vault_<type>_<field>, from the file and from the
 * environment, and what is no such key.
 */
#include "conf/parse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct conf *good(const char *text)
{
    struct conf *c = NULL;
    struct err e = { 0 };

    if (conf_load_text(&c, "t.conf", str_from(text), &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static void bad(const char *text, const char *message)
{
    struct conf *c = NULL;
    struct err e = { 0 };

    assert_int_equal(conf_load_text(&c, "t.conf", str_from(text), &e), ERR_CONFIG);
    assert_string_equal(e.text, message);
}

static void expect(const struct conf_setting *s, const char *name, const char *text,
                   const char *origin)
{
    assert_non_null(s);
    assert_string_equal(s->name, name);
    assert_string_equal(s->value.text, text);
    assert_string_equal(s->value.origin, origin);
}

static void test_keys_of_the_file(void **state)
{
    struct conf *c = good("vault_env_prefix = SECRET_\n"
                          "workers = 2\n"
                          "vault_hcv_token = {vault://env/hcv-token}\n"
                          "vault_my-own_a_b =\n");
    const struct conf_setting *s = STAILQ_FIRST(&c->vault_settings);

    (void)state;
    expect(s, "env_prefix", "SECRET_", "t.conf:1");
    s = STAILQ_NEXT(s, link);
    expect(s, "hcv_token", "{vault://env/hcv-token}", "t.conf:3");
    s = STAILQ_NEXT(s, link);
    expect(s, "my-own_a_b", "", "t.conf:4");
    assert_null(STAILQ_NEXT(s, link));
    conf_free(c);
}

static void test_the_list_of_vaults(void **state)
{
    struct conf *c = good("vaults = bundled, my-own");

    (void)state;
    assert_int_equal(c->vaults.n, 2);
    assert_string_equal(c->vaults.items[1], "my-own");
    conf_free(c);
    c = good("");
    assert_string_equal(c->vaults.items[0], "all");
    assert_true(STAILQ_EMPTY(&c->vault_settings));
    conf_free(c);
    bad("vaults = a/b", "t.conf:1: vaults: \"a/b\" is no vault's name (letters, digits, - and _)");
}

static void test_what_is_refused(void **state)
{
    static const char EXPECTED[] = "t.conf:1: expected the config of a vault as "
                                   "vault_<type>_<field>, such as vault_env_prefix";
    char text[400];

    (void)state;
    bad("vault_env = s3cret", EXPECTED);
    bad("vault__prefix = s3cret", EXPECTED);
    bad("vault_env_ = s3cret", EXPECTED);
    bad("vault_en.v_x = s3cret", EXPECTED);
    memset(text, 'a', sizeof text - 1);
    memcpy(text, "vault_a_", 8);
    memcpy(text + sizeof text - 4, "= 1", 4);
    bad(text, EXPECTED);
    bad("vault_env_prefix = s3cret\nvault_env_prefix = t", "t.conf:2: vault_env_prefix is set "
                                                           "already at t.conf:1");
    bad("valts = all", "t.conf:1: unknown key \"valts\", did you mean \"vaults\"?");
}

static struct conf *with_environment(const char *name, const char *value, struct err *e)
{
    struct conf *c = NULL;

    setenv(name, value, 1);
    if (conf_load(&c, "/dev/null", NULL, e) != 0)
        c = NULL;
    unsetenv(name);
    return c;
}

static void test_the_environment(void **state)
{
    struct err e = { 0 };
    struct conf *c;

    (void)state;
    setenv("WEIR_DECLARATIVE_CONFIG", "off", 1);
    setenv("WEIR_VAULTS", "env", 1);
    c = with_environment("WEIR_VAULT_ENV_PREFIX", " X_ ", &e);
    assert_non_null(c);
    expect(STAILQ_FIRST(&c->vault_settings), "env_prefix", "X_", "WEIR_VAULT_ENV_PREFIX");
    assert_null(STAILQ_NEXT(STAILQ_FIRST(&c->vault_settings), link));
    conf_free(c);
    assert_null(with_environment("WEIR_VAULT_ENV", "s3cret", &e));
    assert_string_equal(e.text, "WEIR_VAULT_ENV: expected the config of a vault as "
                                "vault_<type>_<field>, such as vault_env_prefix");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_of_the_file),
        cmocka_unit_test(test_the_list_of_vaults),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_the_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
