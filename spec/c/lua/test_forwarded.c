/*
 * lua/forwarded: what stays of the client's headers, and what weir adds.
 */
#include "lua/forwarded.h"
#include "req/req.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct loop *the_loop;
static struct req *the_req;

static int set_up(void **state)
{
    static const struct req_transport NONE;

    (void)state;
    the_loop = loop_new();
    the_req = req_new(the_loop, &NONE, NULL);
    the_req->remote_addr = STR("192.0.2.7");
    the_req->scheme = STR("https");
    the_req->host = STR("front.example:8443");
    the_req->raw_path = STR("/a%20path");
    the_req->server_port = 8443;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    req_bury(the_req);
    loop_free(the_loop);
    return 0;
}

static void say(const char *name, const char *value)
{
    headers_add(&the_req->headers, &the_req->arena, str_from(name), str_from(value));
}

/* The list that goes out; its last name and value must not be the caller's memory. */
static struct headers passed(bool trusted, const char *prefix)
{
    char client_ip[] = "198.51.100.1", copy[40];
    struct forwarded f = { .trusted = trusted, .client_ip = str_from(client_ip) };
    struct headers out;

    snprintf(copy, sizeof copy, "%s", prefix);
    f.prefix = str_from(copy);
    out = forwarded_headers(the_req, &f);
    memset(client_ip, '?', sizeof client_ip);
    memset(copy, '?', sizeof copy);
    return out;
}

/* The only field of that name; NULL: there is none. */
static void assert_field(const struct headers *h, const char *name, const char *want)
{
    int i = headers_find(h, str_from(name), 0);

    if (!want) {
        assert_int_equal(i, -1);
        return;
    }
    assert_true(i >= 0);
    if (!str_eq(h->v[i].value, str_from(want)))
        fail_msg("%s: %.*s", name, STR_ARG(h->v[i].value));
    assert_int_equal(headers_find(h, str_from(name), (unsigned)i + 1), -1);
}

static void test_added(void **state)
{
    struct headers h;

    (void)state;
    say("Accept", "*/*");
    h = passed(false, "/api");
    assert_field(&h, "Accept", "*/*");
    assert_field(&h, "X-Forwarded-For", "192.0.2.7");
    assert_field(&h, "X-Forwarded-Proto", "https");
    assert_field(&h, "X-Forwarded-Host", "front.example");
    assert_field(&h, "X-Forwarded-Port", "8443");
    assert_field(&h, "X-Forwarded-Path", "/a%20path");
    assert_field(&h, "X-Forwarded-Prefix", "/api");
    assert_field(&h, "X-Real-IP", "198.51.100.1");
    assert_int_equal(headers_get(&h, STR("X-Kong-Request-Id"))->n, 32);
    assert_true(str_starts(*headers_get(&h, STR("Via")), STR("1.1 weir/")));
    assert_int_equal(h.n, 10);
    assert_true(h.n <= h.cap);
    assert_int_equal(the_req->headers.n, 1);
}

static void test_bad_prefix(void **state)
{
    struct headers h = passed(false, "/a\r\nX-Evil: 1");

    (void)state;
    assert_field(&h, "X-Forwarded-Prefix", NULL);
}

static void test_stranger(void **state)
{
    struct headers h;

    (void)state;
    say("x-forwarded-for", "203.0.113.1");
    say("X-Forwarded-Proto", "ftp");
    say("X-Forwarded-Host", "evil");
    say("X-Forwarded-Port", "1");
    say("X-Forwarded-Path", "/evil");
    say("X-Forwarded-Prefix", "/evil");
    say("X-Real-IP", "203.0.113.1");
    say("X-Kong-Request-Id", "mine");
    say("X-Forwarded-For", "203.0.113.2");
    say("Via", "1.0 a");
    say("Via", "1.1 b");
    h = passed(false, "");
    assert_field(&h, "X-Forwarded-For", "203.0.113.1, 203.0.113.2, 192.0.2.7");
    assert_field(&h, "X-Forwarded-Proto", "https");
    assert_field(&h, "X-Forwarded-Host", "front.example");
    assert_field(&h, "X-Forwarded-Port", "8443");
    assert_field(&h, "X-Forwarded-Path", "/a%20path");
    assert_field(&h, "X-Forwarded-Prefix", NULL);
    assert_field(&h, "X-Real-IP", "198.51.100.1");
    assert_int_equal(headers_get(&h, STR("X-Kong-Request-Id"))->n, 32);
    assert_true(str_starts(*headers_get(&h, STR("Via")), STR("1.0 a, 1.1 b, 1.1 weir/")));
}

static void test_trusted(void **state)
{
    struct headers h;

    (void)state;
    say("X-Forwarded-For", "203.0.113.1");
    say("X-Forwarded-Proto", "http");
    say("X-Forwarded-Host", "outer");
    say("X-Forwarded-Port", "80");
    say("X-Forwarded-Path", "/outer");
    say("X-Forwarded-Prefix", "/out");
    h = passed(true, "/api");
    assert_field(&h, "X-Forwarded-For", "203.0.113.1, 192.0.2.7");
    assert_field(&h, "X-Forwarded-Proto", "http");
    assert_field(&h, "X-Forwarded-Host", "outer");
    assert_field(&h, "X-Forwarded-Port", "80");
    assert_field(&h, "X-Forwarded-Path", "/outer");
    assert_field(&h, "X-Forwarded-Prefix", "/out");
}

/* What Connection names is the client's own: it cannot take weir's headers away by it. */
static void test_connection(void **state)
{
    struct headers h;

    (void)state;
    say("Connection", "close, X-Private, X-Forwarded-For, x-real-ip, Via, X-Forwarded-Proto");
    say("X-Private", "1");
    say("X-Forwarded-For", "203.0.113.1");
    say("X-Public", "1");
    h = passed(true, "");
    assert_field(&h, "Connection", NULL);
    assert_field(&h, "X-Private", NULL);
    assert_field(&h, "X-Public", "1");
    assert_field(&h, "X-Forwarded-For", "192.0.2.7");
    assert_field(&h, "X-Real-IP", "198.51.100.1");
    assert_field(&h, "X-Forwarded-Proto", "https");
    assert_true(str_starts(*headers_get(&h, STR("Via")), STR("1.1 weir/")));
}

static void test_hosts(void **state)
{
    static const char *const HOSTS[][2] = { { "192.0.2.1", "192.0.2.1" },
                                            { "192.0.2.1:80", "192.0.2.1" },
                                            { "[2001:db8::1]", "[2001:db8::1]" },
                                            { "[2001:db8::1]:80", "[2001:db8::1]" },
                                            { "host1", "host1" },
                                            { "host:", "host" },
                                            { "8080", "8080" },
                                            { "", "" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(HOSTS); i++) {
        struct headers h;

        the_req->host = str_from(HOSTS[i][0]);
        h = passed(false, "");
        assert_field(&h, "X-Forwarded-Host", HOSTS[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_added, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stranger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trusted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hosts, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
