/*
 * store/settings: what a plugin's config.redis leaves out, and what weir.conf has to say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/secret.h"
#include "conf/parse.h"
#include "store/settings.h"

static struct conf *the_conf;
static struct arena the_arena;
static struct redis_settings the_settings;

/* texts: with a NUL behind each but the last. */
#define READ(conf_text, texts) read_settings(conf_text, (struct str){ texts, sizeof(texts) })

static struct redis_settings *read_settings(const char *conf_text, struct str texts)
{
    struct err e = { 0 };

    conf_free(the_conf);
    the_conf = NULL;
    if (conf_load_text(&the_conf, "t.conf", str_from(conf_text), &e) != 0)
        fail_msg("%s", e.text);
    if (settings_redis(&the_settings, &the_arena, texts, the_conf, &e) != 0)
        fail_msg("%s", e.text);
    return &the_settings;
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&the_arena, 4096);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&the_arena);
    conf_free(the_conf);
    the_conf = NULL;
    return 0;
}

static void assert_secret(const struct secret *s, const char *value)
{
    assert_non_null(s);
    assert_string_equal(secret_name(s), "");
    assert_string_equal(secret_value(s).p, value);
}

static struct secret *named(const char *name)
{
    return secret_from_text(str_from(name));
}

#define SITE                                                                                       \
    "redis_host = site\nredis_port = 7000\nredis_password = secret\nredis_database = 2\n"          \
    "redis_timeout = 100\nredis_read_timeout = 50\nredis_ssl = on\n"

static void test_a_server_of_its_own_is_taken_by_itself(void **state)
{
    struct redis_settings *s = READ(SITE, "host=own");

    (void)state;
    assert_string_equal(s->server.host, "own");
    assert_int_equal(s->server.port, 6379);
    assert_null(s->password);
    assert_int_equal(s->database, 0);
    assert_int_equal(s->connect_ms, 2000);
    assert_int_equal(s->read_ms, 2000);
    assert_false(s->ssl);
    assert_int_equal(s->cluster_max_redirections, 5);
}

static void test_without_a_server_it_is_that_of_weir_conf(void **state)
{
    struct redis_settings *s = READ(SITE, "");

    (void)state;
    assert_string_equal(s->server.host, "site");
    assert_int_equal(s->server.port, 7000);
    assert_secret(s->password, "secret");
    assert_int_equal(s->database, 2);
    assert_int_equal(s->connect_ms, 100);
    assert_int_equal(s->read_ms, 50);
    assert_true(s->ssl);
}

static void test_what_else_it_says_goes_before_weir_conf(void **state)
{
    struct redis_settings *s = READ(SITE, "database=3\0password=other\0ssl=false\0timeout=10");

    (void)state;
    assert_string_equal(s->server.host, "site");
    assert_int_equal(s->database, 3);
    assert_secret(s->password, "other");
    assert_false(s->ssl);
    assert_int_equal(s->send_ms, 10);
    assert_int_equal(s->read_ms, 10);
}

/* One secret for all who name it, released with the settings. */
static void test_references_name_secrets(void **state)
{
    struct secret *user = named("{vault://env/user}"), *password = named("{vault://env/password}");
    struct secret *sentinel = named("{vault://env/sentinel}");
    struct redis_settings *s = READ("redis_host = site\nredis_password = {vault://env/other}\n"
                                    "redis_sentinel_password = {vault://env/sentinel}\n",
                                    "password={vault://env/password}\0username={vault://env/user}\0"
                                    "sentinel_username={vault://env/user}");

    (void)state;
    assert_ptr_equal(s->username, user);
    assert_ptr_equal(s->password, password);
    assert_ptr_equal(s->sentinel_username, user);
    assert_ptr_equal(s->sentinel_password, sentinel);
    assert_null(secret_value(s->password).p);
    assert_int_equal(secret_put(password, STR("now")), 0);
    assert_string_equal(secret_value(s->password).p, "now");
    arena_reset(&the_arena);
    secret_release(password);
    password = named("{vault://env/password}");
    assert_null(secret_value(password).p); /* it is another one */
    secret_release(password);
    secret_release(user);
    secret_release(sentinel);
}

static void test_an_empty_password_is_none(void **state)
{
    struct redis_settings *s = READ("redis_host = site\n", "password=\0username=");

    (void)state;
    assert_null(s->username);
    assert_null(s->password);
    assert_null(s->sentinel_password);
}

static void test_a_timeout_of_its_own_goes_before_timeout(void **state)
{
    struct redis_settings *s = READ("", "host=a\0timeout=10\0connect_timeout=20");

    (void)state;
    assert_int_equal(s->connect_ms, 20);
    assert_int_equal(s->read_ms, 10);
}

static void test_no_timeout_is_without_bound(void **state)
{
    struct redis_settings *s = READ("", "host=a\0timeout=0\0read_timeout=0\0send_timeout=7");

    (void)state;
    assert_int_equal(s->connect_ms, 2000);
    assert_int_equal(s->send_ms, 7);
    assert_int_equal(s->read_ms, 2000);
}

static void test_an_address_is_good_in_brackets_too(void **state)
{
    (void)state;
    assert_string_equal(READ("", "host=[::1]\0port=1")->server.host, "::1");
    assert_string_equal(READ("redis_host = [::2]\n", "port=1")->server.host, "::2");
}

static void test_sentinels_go_before_a_host(void **state)
{
    struct redis_settings *s =
        READ(SITE, "sentinel_master=m\0sentinel_nodes=a:1,[::1]:2\0sentinel_role=any");

    (void)state;
    assert_null(s->server.host);
    assert_string_equal(s->sentinel_master, "m");
    assert_int_equal(s->sentinel_role, REDIS_ROLE_ANY);
    assert_int_equal(s->sentinel_count, 2);
    assert_string_equal(s->sentinels[1].host, "::1");
    assert_int_equal(s->sentinels[1].port, 2);
}

static int check(const char *text, struct err *e)
{
    struct conf *conf;
    int rc;

    assert_int_equal(0, conf_load_text(&conf, "weir.conf", str_from(text), e));
    rc = settings_check(conf, e);
    conf_free(conf);
    return rc;
}

static void test_what_is_wrong_in_weir_conf_is_told(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(0, check("declarative_config = off\n", &e));
    assert_int_equal(0, check("declarative_config = off\nredis_host = a\n", &e));
    assert_int_equal(ERR_CONFIG,
                     check("declarative_config = off\nredis_sentinel_master = m\n", &e));
    assert_string_equal(e.text,
                        "weir.conf: redis: sentinel_master m needs the addresses of Sentinels");
    assert_int_equal(ERR_CONFIG,
                     check("declarative_config = off\nredis_cluster_addresses = a:b\n", &e));
    assert_string_equal(e.text, "weir.conf: redis: \"a:b\" is no host:port");
    assert_int_equal(
        ERR_CONFIG,
        check("declarative_config = off\nlua_ssl_trusted_certificate = /nowhere/ca.pem\n", &e));
    assert_string_equal(e.text, "weir.conf:2: lua_ssl_trusted_certificate: cannot read "
                                "/nowhere/ca.pem: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(test_a_server_of_its_own_is_taken_by_itself),
        T(test_without_a_server_it_is_that_of_weir_conf),
        T(test_what_else_it_says_goes_before_weir_conf),
        T(test_references_name_secrets),
        T(test_an_empty_password_is_none),
        T(test_a_timeout_of_its_own_goes_before_timeout),
        T(test_no_timeout_is_without_bound),
        T(test_what_is_wrong_in_weir_conf_is_told),
        T(test_an_address_is_good_in_brackets_too),
        T(test_sentinels_go_before_a_host),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
