/*
 * conf/references: what they stand for gets into members, not into what is
 * shown; in lists, over a reload, when they cannot be looked up, and when what
 * they stand for is wrong.
 */
#include "conf/references.h"
#include "conf/hide.h"
#include "conf/parse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* What the references stand for: "{vault://t/NAME}" is the environment's TEST_NAME. */
static unsigned the_look_ups;
static char the_prefix[100]; /* as the look-up saw it */

static const char *value_of(struct str text)
{
    char name[80];

    snprintf(name, sizeof name, "TEST_%.*s", (int)text.n - 12, text.p + 11);
    return getenv(name);
}

static int look_up(const struct conf *rest, struct conf_references *references, struct arena *arena,
                   struct err *e)
{
    struct conf_reference *r;

    if (getenv("TEST_DEAD"))
        return err_set(e, ERR_TIMEOUT, "not found within 10 s");
    if (getenv("TEST_WRONG"))
        return err_set(e, ERR_CONFIG, "t.conf:9: vault_t_x: the vault t has no field x");
    snprintf(the_prefix, sizeof the_prefix, "%s", rest->prefix);
    STAILQ_FOREACH (r, references, link) {
        the_look_ups++;
        if (value_of(r->text))
            r->value = arena_str(arena, str_from(value_of(r->text)));
        else
            r->why = "the environment has none";
    }
    return 0;
}

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

    if (conf_load_text(&c, "t.conf", str_from(text), &e) == 0) {
        conf_free(c);
        fail_msg("taken: %s", text);
    }
    assert_string_equal(e.text, message);
}

static void test_members_have_values(void **state)
{
    struct conf *c;
    struct str out;

    (void)state;
    setenv("TEST_PORT", " 7001\n", 1);
    setenv("TEST_HOST", "db.internal", 1);
    setenv("TEST_EMPTY", "", 1);
    c = good("pg_port = {vault://t/PORT}\npg_host = {vault://t/HOST}\n"
             "pg_schema = {vault://t/EMPTY}");
    assert_int_equal(c->pg_port, 7001);
    assert_string_equal(c->pg_host, "db.internal");
    assert_string_equal(c->pg_schema, "");
    assert_string_equal(c->values[CONF_KEY_pg_host].text, "{vault://t/HOST}");
    assert_int_equal(conf_get_text(c, STR("pg_host"), &out), 0);
    assert_true(str_eq(out, STR("db.internal")));
    conf_free(c);
}

static void test_secrets_keep_references(void **state)
{
    unsigned before = the_look_ups;
    struct conf *c = good("pg_password = {vault://t/SECRET}");
    struct str out;

    (void)state;
    assert_string_equal(c->pg_password, "{vault://t/SECRET}");
    assert_int_equal(conf_get_text(c, STR("pg_password"), &out), 0);
    assert_true(str_eq(out, STR("{vault://t/SECRET}")));
    assert_int_equal(the_look_ups, before);
    conf_free(c);
}

static void test_lists(void **state)
{
    struct conf *c;
    struct str out;

    (void)state;
    setenv("TEST_A", "10.0.0.1, 10.0.0.2", 1);
    setenv("TEST_B", "::1", 1);
    setenv("TEST_LISTEN", "127.0.0.1:9000", 1);
    c = good("trusted_ips = {vault://t/A},1.1.1.1 , {vault://t/B},{vault://t/A}\n"
             "prefix = /p\n"
             "fastcgi_listen = unix:{prefix}/a,{vault://t/LISTEN}");
    assert_int_equal(c->trusted_ips.n, 6);
    assert_string_equal(c->trusted_ips.items[1], "10.0.0.2");
    assert_string_equal(c->trusted_ips.items[2], "1.1.1.1");
    assert_string_equal(c->trusted_ips.items[3], "::1");
    assert_string_equal(c->fastcgi_listen.items[0], "unix:/p/a");
    assert_string_equal(c->fastcgi_listen.items[1], "127.0.0.1:9000");
    assert_string_equal(c->values[CONF_KEY_fastcgi_listen].text, "unix:/p/a,{vault://t/LISTEN}");
    assert_int_equal(conf_get_list(c, STR("trusted_ips"), 5, &out), 0);
    assert_true(str_eq(out, STR("10.0.0.2")));
    conf_free(c);
}

static void test_a_part_of_a_value_is_no_reference(void **state)
{
    struct conf *c = good("pg_host = x{vault://t/HOST}\npg_user = {prefix}{vault://t/HOST}y");

    (void)state;
    assert_string_equal(c->pg_host, "x{vault://t/HOST}");
    assert_string_equal(c->pg_user, "/run/weir{vault://t/HOST}y");
    conf_free(c);
}

static void test_a_version(void **state)
{
    static const char MESSAGE[] = "a reference ends with }, and a # in it is written \\#";
    char message[200];
    struct conf *c;

    (void)state;
    c = good("pg_password = {vault://t/SECRET\\#2}");
    assert_string_equal(c->pg_password, "{vault://t/SECRET#2}");
    conf_free(c);
    snprintf(message, sizeof message, "t.conf:1: pg_password: %s", MESSAGE);
    bad("pg_password = {vault://t/SECRET#2}", message);
    snprintf(message, sizeof message, "t.conf:1: trusted_ips: %s", MESSAGE);
    bad("trusted_ips = ::1,{vault://t/A", message);
}

static void test_prefix_may_be_one(void **state)
{
    struct conf *c;

    (void)state;
    setenv("TEST_P", "/from/vault", 1);
    c = good("prefix = {vault://t/P}");
    assert_string_equal(the_prefix, "/run/weir"); /* its default */
    assert_string_equal(c->prefix, "/from/vault");
    assert_string_equal(c->pid_file, "/from/vault/weir.pid");
    conf_free(c);
    c = good("prefix = /mine\npg_host = {vault://t/P}");
    assert_string_equal(the_prefix, "/mine");
    conf_free(c);
}

static void test_values_are_not_shown(void **state)
{
    char long_value[201];

    (void)state;
    setenv("TEST_X", "s3cret value", 1);
    bad("pg_port = {vault://t/X}", "t.conf:1: pg_port: expected a number from 1 to 65535, got "
                                   "\"{vault://t/X}\"");
    bad("prefix = {vault://t/X}",
        "t.conf:1: prefix: expected an absolute path, got \"{vault://t/X}\"");
    bad("fastcgi_listen = {vault://t/X}", "t.conf:1: fastcgi_listen: {vault://t/X}: expected "
                                          "unix:/path, host:port, [v6]:port or stdin");
    bad("database = {vault://t/X}",
        "t.conf:1: database: expected sqlite, postgres or off, got \"{vault://t/X}\"");
    setenv("TEST_X", "1.1.1.1,s3cret", 1);
    bad("trusted_ips = 2.2.2.2,{vault://t/X}",
        "t.conf:1: trusted_ips: expected an address or a block such as 10.0.0.0/8, got "
        "\"{vault://t/X}\"");
    setenv("TEST_X", "0", 1);
    bad("pg_port = {vault://t/X}", "t.conf:1: pg_port: expected a number from 1 to 65535, got "
                                   "\"{vault://t/X}\"");
    memset(long_value, 'x', sizeof long_value - 1);
    long_value[sizeof long_value - 1] = '\0';
    setenv("TEST_X", long_value, 1);
    bad("pg_ssl = {vault://t/X}", "t.conf:1: pg_ssl: expected on or off, got \"{vault://t/X}...\"");
}

/* A value with a zero byte is not looked for behind the end of a message. */
static void test_a_message_ends_where_it_ends(void **state)
{
    struct conf_reference r = { .text = STR("{vault://t/X}"), .value = { "ab\0cd", 5 } };
    struct conf c = { .references = STAILQ_HEAD_INITIALIZER(c.references) };
    char text[40] = "it is ab\0cd, which is behind";

    (void)state;
    STAILQ_INSERT_TAIL(&c.references, &r, link);
    hide_values(&c, r.key, text, sizeof text);
    assert_string_equal(text, "it is ab");
}

static void test_what_cannot_be_looked_up(void **state)
{
    (void)state;
    bad("\npg_host = {vault://t/NONE}",
        "t.conf:2: pg_host: {vault://t/NONE}: the environment has none");
    setenv("TEST_DEAD", "1", 1);
    bad("pg_host = {vault://t/HOST}", "t.conf:1: pg_host: {vault://t/HOST}: not found within 10 s");
    unsetenv("TEST_DEAD");
    setenv("TEST_WRONG", "1", 1);
    bad("pg_host = {vault://t/HOST}", "t.conf:9: vault_t_x: the vault t has no field x");
    unsetenv("TEST_WRONG");
    references_set_resolver(NULL);
    bad("pg_host = {vault://t/HOST}",
        "t.conf:1: pg_host: {vault://t/HOST}: references cannot be used here");
    references_set_resolver(look_up);
}

/* As a master does it, in steps. */
static int reload(struct conf **out, const struct conf *old, const char *path, struct err *e)
{
    struct conf *rest;
    int rc = conf_read(out, old, path, NULL, e);

    if (rc > 0) {
        rc = conf_without_references(*out, &rest, old, e);
        assert_int_equal(rc, 0);
        rc = look_up(rest, &(*out)->references, &(*out)->arena, e);
        conf_free(rest);
        rc = references_looked_up(*out, rc, e, e);
    }
    return rc == 0 ? conf_finish(*out, old, e) : rc;
}

static struct conf *load(const char *text, const struct conf *old, bool lenient)
{
    char path[] = "/tmp/weir-references-XXXXXX";
    struct conf *c = NULL;
    struct err e = { 0 };
    int fd = mkstemp(path), rc;

    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    rc = old       ? reload(&c, old, path, &e)
         : lenient ? conf_load_lenient(&c, path, NULL, &e)
                   : conf_load(&c, path, NULL, &e);
    unlink(path);
    if (rc != 0)
        fail_msg("%s", e.text);
    return c;
}

static void test_a_reload(void **state)
{
    static const char TEXT[] = "prefix = {vault://t/P}\ncounter_memory = {vault://t/MEMORY}\n"
                               "pg_host = {vault://t/HOST}\ndeclarative_config = off\n";
    struct conf *old, *c;
    unsigned before;

    (void)state;
    setenv("TEST_P", "/p", 1);
    setenv("TEST_MEMORY", "2m", 1);
    setenv("TEST_HOST", "first", 1);
    old = load(TEXT, NULL, false);
    setenv("TEST_P", "/q", 1);
    unsetenv("TEST_MEMORY");
    setenv("TEST_HOST", "second", 1);
    before = the_look_ups;
    c = load(TEXT, old, false);
    assert_int_equal(the_look_ups, before + 1); /* keys of a start are not looked up again */
    assert_null(c->kept_key);
    conf_free(old);
    assert_string_equal(c->prefix, "/p");
    assert_string_equal(c->pid_file, "/p/weir.pid");
    assert_int_equal(c->counter_memory, 2 << 20);
    assert_string_equal(c->pg_host, "second");
    old = c;
    c = load("prefix = /other\ncounter_memory = 2m\ndeclarative_config = off\n", old, false);
    assert_string_equal(c->kept_key, "prefix");
    assert_string_equal(c->prefix, "/p");
    assert_string_equal(c->values[CONF_KEY_prefix].text, "{vault://t/P}");
    conf_free(old);
    conf_free(c);
}

static void test_a_lenient_load(void **state)
{
    unsigned before = the_look_ups;
    struct conf *c = load("prefix = {vault://t/P}\npid_file = {vault://t/NONE}\n"
                          "pg_host = {vault://t/HOST}\n",
                          NULL, true);

    (void)state;
    assert_int_equal(the_look_ups, before + 2); /* what commands do not use is not looked up */
    assert_string_equal(c->prefix, "/q");
    assert_string_equal(c->pid_file, "/q/weir.pid");
    assert_string_equal(c->values[CONF_KEY_pid_file].text, "{vault://t/NONE}");
    assert_string_equal(c->pg_host, "127.0.0.1");
    assert_string_equal(c->values[CONF_KEY_pg_host].text, "{vault://t/HOST}");
    conf_free(c);
    setenv("TEST_DEAD", "1", 1);
    c = load("prefix = {vault://t/P}\n", NULL, true);
    assert_string_equal(c->prefix, "/run/weir");
    conf_free(c);
    unsetenv("TEST_DEAD");
}

static void test_wrong_lines_are_not_shown(void **state)
{
    (void)state;
    bad("pg_password hunter2", "t.conf:1: expected \"key = value\", got \"pg_password ...\"");
    bad("user = a\nMIIEpAIBAAKCAQ", "t.conf:2: expected \"key = value\"");
    bad("MIIEpAIBAAKCAQEA7bq==", "t.conf:1: what stands before the = is no key");
    bad("pg_password = hunter2\npg_password = hunter3", "t.conf:2: pg_password is set already at "
                                                        "t.conf:1");
}

static int set_up(void **state)
{
    (void)state;
    references_set_resolver(look_up);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_have_values),
        cmocka_unit_test(test_secrets_keep_references),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_a_part_of_a_value_is_no_reference),
        cmocka_unit_test(test_a_version),
        cmocka_unit_test(test_prefix_may_be_one),
        cmocka_unit_test(test_values_are_not_shown),
        cmocka_unit_test(test_a_message_ends_where_it_ends),
        cmocka_unit_test(test_what_cannot_be_looked_up),
        cmocka_unit_test(test_a_reload),
        cmocka_unit_test(test_a_lenient_load),
        cmocka_unit_test(test_wrong_lines_are_not_shown),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
