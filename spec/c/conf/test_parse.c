/*
 * conf: precedence, units, bounds, lists, messages with file and line, and
 * what a reload keeps.
 */
#include "../needle.h"
#include "conf/file.h"
#include "conf/parse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char the_dir[] = "/tmp/weir-conf-XXXXXX";

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

static const char *path_of(const char *name)
{
    static char path[2][200];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", the_dir, name);
    return path[turn];
}

static const char *write_file(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void test_defaults(void **state)
{
    struct conf *c = good("");

    (void)state;
    assert_string_equal(c->prefix, "/run/weir");
    assert_string_equal(c->pid_file, "/run/weir/weir.pid");
    assert_int_equal(c->fastcgi_listen.n, 1);
    assert_string_equal(c->fastcgi_listen.items[0], "unix:/run/weir/weir.sock");
    assert_int_equal(c->fastcgi_socket_mode, 0660);
    assert_true(c->workers >= 1);
    assert_int_equal(c->counter_memory, 32 << 20);
    assert_int_equal(c->log_level, LOG_NOTICE);
    assert_int_equal(c->request_timeout_ms, 60000);
    assert_int_equal(c->idle_timeout_ms, 0);
    assert_int_equal(c->trusted_ips.n, 0);
    assert_int_equal(c->headers.n, 3);
    assert_false(c->real_ip_recursive);
    assert_int_equal(c->deny_style, DENY_STATUS);
    conf_free(c);
}

static void test_every_default_is_good_when_written(void **state)
{
    (void)state;
    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        char line[400];

        snprintf(line, sizeof line, "%s = %s\n", CONF_TABLE[i].name, CONF_TABLE[i].default_text);
        conf_free(good(line));
    }
}

static void test_comments_blanks_and_units(void **state)
{
    struct conf *c = good("# first\n"
                          "\n"
                          "  max_requests=7 # few\r\n"
                          "user = a\\#b\n"
                          "counter_memory = 2g\r\n"
                          "request_timeout = 250ms\n"
                          "drain_timeout = 2m\n"
                          "idle_timeout = 5\n"
                          "real_ip_recursive = on\n"
                          "trusted_ips = 10.0.0.0/8 ,, ::1,127.0.0.1");

    (void)state;
    assert_int_equal(c->max_requests, 7);
    assert_string_equal(c->user, "a#b");
    assert_int_equal(c->counter_memory, INT64_C(2) << 30);
    assert_int_equal(c->request_timeout_ms, 250);
    assert_int_equal(c->drain_timeout_ms, 120000);
    assert_int_equal(c->idle_timeout_ms, 5000);
    assert_true(c->real_ip_recursive);
    assert_int_equal(c->trusted_ips.n, 3);
    assert_string_equal(c->trusted_ips.items[1], "::1");
    conf_free(c);
}

static void test_prefix_is_filled_in(void **state)
{
    struct conf *c = good("fastcgi_listen = unix:{prefix}/a, unix:{prefix}{prefix}/b, [::1]:9000\n"
                          "prefix = /p\n"
                          "plugin_dir = {datadir}/x\n");

    (void)state;
    assert_int_equal(c->fastcgi_listen.n, 3);
    assert_string_equal(c->fastcgi_listen.items[0], "unix:/p/a");
    assert_string_equal(c->fastcgi_listen.items[1], "unix:/p/p/b");
    assert_string_equal(c->pid_file, "/p/weir.pid");
    assert_null(strstr(c->plugin_dir.items[0], "{"));
    conf_free(c);
    /* what `make install` brings is found without a word in weir.conf */
    c = good("");
    assert_string_equal(c->declarative_config, SYSCONFDIR "/weir/weir.yml");
    assert_string_equal(c->plugin_dir.items[1], SYSCONFDIR "/weir/plugins");
    assert_string_equal(CONF_DEFAULT_PATH, SYSCONFDIR "/weir/weir.conf");
    conf_free(c);
}

static void test_messages(void **state)
{
    (void)state;
    bad("\n\nlog_level = loud", "t.conf:3: log_level: expected one of: emerg, alert, crit, error, "
                                "warn, notice, info, debug, got \"loud\"");
    bad("log_levl = info", "t.conf:1: unknown key \"log_levl\", did you mean \"log_level\"?");
    bad("zzzzzz = info", "t.conf:1: unknown key \"zzzzzz\"");
    bad("what", "t.conf:1: expected \"key = value\", got \"what\"");
    bad("user = a\nuser = b", "t.conf:2: user is set already at t.conf:1");
    bad("workers = 0", "t.conf:1: workers: expected auto or a number from 1 to 256, got \"0\"");
    bad("max_requests = ", "t.conf:1: max_requests: expected a number from 1 to 1000000, got \"\"");
    bad("max_header_bytes = 33x",
        "t.conf:1: max_header_bytes: expected a size from 256 to 16m, got \"33x\"");
    bad("counter_memory = 99999999999999999999g",
        "t.conf:1: counter_memory: expected a size from 256k to 1024g, "
        "got \"99999999999999999999g\"");
    bad("drain_timeout = 25h",
        "t.conf:1: drain_timeout: expected a time from 0 to 24h, got \"25h\"");
    bad("real_ip_recursive = true",
        "t.conf:1: real_ip_recursive: expected on or off, got \"true\"");
    bad("fastcgi_socket_mode = 999", "t.conf:1: fastcgi_socket_mode: expected permission bits in "
                                     "octal, such as 0660, got \"999\"");
    bad("prefix = here", "t.conf:1: prefix: expected an absolute path, got \"here\"");
    bad("prefix = /a,b", "t.conf:1: prefix: expected a path without commas and control "
                         "characters, got \"/a,b\"");
    bad("plugin_dir = /a,b", "t.conf:1: plugin_dir: expected an absolute path, got \"b\"");
    bad("deny_style = no",
        "t.conf:1: deny_style: expected one of: status, nginx, variable, got \"no\"");
}

static void test_messages_of_later_checks(void **state)
{
    (void)state;
    bad("fastcgi_listen = ", "t.conf:1: fastcgi_listen: expected at least one of unix:/path, "
                             "host:port or stdin");
    bad("fastcgi_listen = unix:a",
        "t.conf:1: fastcgi_listen: unix:a: expected unix: and an absolute path");
    bad("fastcgi_listen = 127.0.0.1:0",
        "t.conf:1: fastcgi_listen: 127.0.0.1:0: expected a port from 1 to 65535");
    bad("fastcgi_listen = ::1:9000", "t.conf:1: fastcgi_listen: ::1:9000: an IPv6 address is "
                                     "written in brackets: [::1]:9000");
    bad("fastcgi_listen = example.org:9000", "t.conf:1: fastcgi_listen: example.org:9000: expected "
                                             "an IP address, localhost or *");
    bad("fastcgi_listen = *:90,*:90", "t.conf:1: fastcgi_listen: *:90 is there twice");
    bad("trusted_ips = 10.0.0.0/33", "t.conf:1: trusted_ips: expected an address or a block such "
                                     "as 10.0.0.0/8, got \"10.0.0.0/33\"");
    bad("headers = off,Via", "t.conf:1: headers: off cannot stand beside other items");
    bad("plugins = a/b", "t.conf:1: plugins: \"a/b\" is no plugin's name (letters, digits, - "
                         "and _)");
    bad("real_ip_header = a b", "t.conf:1: real_ip_header: expected a header's name, got \"a b\"");
}

static void test_bounds_of_the_file(void **state)
{
    static char text[70000];
    struct conf *c = NULL;
    struct err e;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    bad(text, "t.conf:1: the line is longer than 65536 bytes");
    assert_int_equal(conf_load_text(&c, "t.conf", (struct str){ "user\0=", 6 }, &e), ERR_CONFIG);
    assert_string_equal(e.text, "t.conf: holds a zero byte: this is no text file");
}

static void test_precedence(void **state)
{
    const struct conf_override overrides[] = { { "log_level", "error" }, { NULL, NULL } };
    const char *path = write_file("p.conf", "log_level = info\nuser = file\nworkers = 3\n"
                                            "declarative_config = off\n");
    struct conf *c = NULL;
    struct err e = { 0 };

    (void)state;
    setenv("WEIR_LOG_LEVEL", "debug", 1);
    setenv("WEIR_USER", " env ", 1);
    assert_int_equal(conf_load(&c, path, overrides, &e), 0);
    assert_int_equal(c->log_level, LOG_ERROR);
    assert_string_equal(c->user, "env");
    assert_int_equal(c->workers, 3);
    assert_string_equal(c->path, path);
    assert_null(c->declarative_path);
    conf_free(c);

    setenv("WEIR_MAX_REQUESTS", "many", 1);
    assert_int_equal(conf_load(&c, path, overrides, &e), ERR_CONFIG);
    assert_string_equal(e.text, "WEIR_MAX_REQUESTS: max_requests: expected a number from 1 to "
                                "1000000, got \"many\"");
    unsetenv("WEIR_MAX_REQUESTS");
    unsetenv("WEIR_LOG_LEVEL");
    unsetenv("WEIR_USER");
}

static void test_command_line_errors(void **state)
{
    const struct conf_override unknown[] = { { "prefx", "/x" }, { NULL, NULL } };
    const struct conf_override wrong[] = { { "prefix", "x" }, { NULL, NULL } };
    const char *path = write_file("c.conf", "");
    struct conf *c = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(conf_load(&c, path, unknown, &e), ERR_CONFIG);
    assert_string_equal(e.text, "command line: unknown key \"prefx\", did you mean \"prefix\"?");
    assert_int_equal(conf_load(&c, path, wrong, &e), ERR_CONFIG);
    assert_string_equal(e.text, "command line: prefix: expected an absolute path, got \"x\"");
}

static void test_declarative(void **state)
{
    const char *yml = write_file("weir.yml", "services: []\n");
    struct conf_override overrides[] = { { "declarative_config", yml }, { NULL, NULL } };
    char expected[300];
    struct conf *c = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(conf_load(&c, write_file("d.conf", ""), overrides, &e), 0);
    assert_true(str_eq(c->declarative, STR("services: []\n")));
    assert_string_equal(c->declarative_path, yml);
    assert_false(c->declarative_missing);
    conf_free(c);

    overrides[0].value = "/nowhere/weir.yml";
    assert_int_equal(conf_load(&c, path_of("d.conf"), overrides, &e), ERR_CONFIG);
    snprintf(expected, sizeof expected,
             "command line: declarative_config: cannot open "
             "/nowhere/weir.yml: No such file or directory");
    assert_string_equal(e.text, expected);
    assert_int_not_equal(conf_load(&c, "/nowhere/weir.conf", NULL, &e), 0);
    assert_string_equal(e.text, "cannot open /nowhere/weir.conf: No such file or directory");
    assert_int_not_equal(conf_load(&c, the_dir, NULL, &e), 0);
}

static void test_a_pipe_without_a_writer_is_empty(void **state)
{
    struct conf *c = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    alarm(10); /* a reader that waits would wait for ever */
    assert_int_equal(conf_load(&c, path_of("fifo"), NULL, &e), 0);
    alarm(0);
    unlink(path_of("fifo"));
    conf_free(c);
}

static void test_texts_for_lua(void **state)
{
    struct conf *c = good("headers = Via , Server\nprefix = /p");
    struct str out;

    (void)state;
    assert_int_equal(conf_get_text(c, STR("pid_file"), &out), 0);
    assert_true(str_eq(out, STR("/p/weir.pid")));
    assert_int_equal(conf_get_text(c, STR("request_timeout"), &out), 0);
    assert_true(str_eq(out, STR("60s")));
    assert_int_equal(conf_get_text(c, STR("nothing"), &out), -1);
    assert_int_equal(conf_get_list(c, STR("headers"), 1, &out), 0);
    assert_true(str_eq(out, STR("Server")));
    assert_int_equal(conf_get_list(c, STR("headers"), 2, &out), -1);
    assert_int_equal(conf_get_list(c, STR("prefix"), 0, &out), -1);
    conf_free(c);
}

static void test_reload_keeps_start_keys(void **state)
{
    struct conf *old = good("prefix = /p\ncounter_memory = 1m\ndeclarative_config = off");
    const char *path = write_file("r.conf", "prefix = /q\ncounter_memory = 2m\n"
                                            "declarative_config = off\nworkers = 9\n");
    struct conf *c = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(conf_read(&c, old, path, NULL, &e), 0);
    assert_int_equal(conf_finish(c, old, &e), 0);
    assert_string_equal(c->kept_key, "prefix");
    assert_string_equal(c->prefix, "/p");
    assert_string_equal(c->fastcgi_listen.items[0], "unix:/p/weir.sock");
    assert_int_equal(c->counter_memory, 1 << 20);
    assert_int_equal(c->workers, 9);
    conf_free(old);
    assert_string_equal(c->prefix, "/p"); /* a copy: the old one is gone */
    conf_free(c);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(the_dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const NAMES[] = { "p.conf", "c.conf", "d.conf", "r.conf", "weir.yml" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        unlink(path_of(NAMES[i]));
    return rmdir(the_dir);
}

static void test_a_file_leaves_nothing_behind(void **state)
{
    char path[] = "/tmp/weir-spec-file-XXXXXX", secret[SECRET_BYTES];
    int fd = mkstemp(path);
    struct str text;
    struct err e;

    (void)state;
    make_needle();
    put_secret(secret);
    /* not at the beginning, where malloc writes into what is free */
    assert_int_equal(pwrite(fd, secret, sizeof secret, 1000), sizeof secret);
    explicit_bzero(secret, sizeof secret);
    close(fd);
    assert_int_equal(file_read(path, 1 << 20, &text, &e), 0);
    unlink(path);
    assert_true(text.n == 1000 + SECRET_BYTES && holds_secret(text.p + 1000));
    explicit_bzero((char *)text.p, text.n);
    free((char *)text.p);
    assert_int_equal(count_in_memory(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_default_is_good_when_written),
        cmocka_unit_test(test_comments_blanks_and_units),
        cmocka_unit_test(test_prefix_is_filled_in),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_messages_of_later_checks),
        cmocka_unit_test(test_bounds_of_the_file),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_command_line_errors),
        cmocka_unit_test(test_declarative),
        cmocka_unit_test(test_a_pipe_without_a_writer_is_empty),
        cmocka_unit_test(test_texts_for_lua),
        cmocka_unit_test(test_reload_keeps_start_keys),
        cmocka_unit_test(test_a_file_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
