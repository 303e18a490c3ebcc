/*
 * peer/resolve, timeouts, rbuf: numeric addresses, the hosts file, a name
 * server in this process (TTL, AAAA, failures, coalescing), names that fail to
 * become a connection; lengths of deadlines; buffers on loan.
 */
#include "client.h"
#include "peer/timeouts.h"
#include "scripted.h"
#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

/* ---- addresses ---- */

static void assert_text(const char *host, const char *text)
{
    struct peer_addr a;
    char to[200];

    assert_int_equal(peer_addr_parse(str_from(host), 80, &a), 0);
    assert_string_equal(peer_addr_text(&a, to, sizeof to), text);
}

static void test_numeric(void **state)
{
    struct peer_addr a;

    (void)state;
    assert_text("127.0.0.1", "127.0.0.1:80");
    assert_text("::1", "[::1]:80");
    assert_text("[::1]", "[::1]:80");
    assert_text("unix:/run/x.sock", "unix:/run/x.sock");
    assert_int_equal(peer_addr_parse(STR("localhost"), 80, &a), -1);
    assert_int_equal(peer_addr_parse(STR("1.2.3"), 80, &a), -1);
    assert_int_equal(peer_addr_parse(STR("unix:"), 80, &a), -1);
    assert_int_equal(peer_addr_parse(STR_NULL, 80, &a), -1);
}

static void test_hosts_file(void **state)
{
    char path[] = "/tmp/weir-hosts-XXXXXX", text[64];
    FILE *file = fdopen(mkstemp(path), "w");
    struct peer_addr a[4];

    (void)state;
    fputs("# 10.0.0.9 up\n127.0.0.1 localhost # up\n\n 10.0.0.1\tdown UP\nnonsense up\n"
          "::1 up\n10.0.0.2 up.\n",
          file);
    fclose(file);
    assert_int_equal(hosts_find(path, STR("up"), a, 4), 2);
    assert_string_equal(peer_addr_text(&a[0], text, sizeof text), "10.0.0.1:0");
    assert_string_equal(peer_addr_text(&a[1], text, sizeof text), "[::1]:0");
    assert_int_equal(hosts_find(path, STR("up"), a, 1), 1);
    assert_int_equal(hosts_find(path, STR("nobody"), a, 4), 0);
    assert_int_equal(hosts_find("/nonexistent", STR("up"), a, 4), 0);
    assert_int_equal(hosts_find("/nonexistent", STR("LocalHost"), a, 4), 1);
    assert_int_equal(a[0].u.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(hosts_find(path, STR("localhost"), a, 4), 1);
    unlink(path);
}

/* ---- a name server ---- */

static struct {
    struct evdns_server_port *port;
    unsigned asked;
    int ttl;
    bool silent;
} the_dns;

static void answer_question(struct evdns_server_request *q, const struct evdns_server_question *ask)
{
    unsigned char v6[16] = { [15] = 1 };
    unsigned char v4[8] = { 127, 0, 0, 2, 127, 0, 0, 1 };

    if (strcasecmp(ask->name, "two.test") == 0 && ask->type == EVDNS_TYPE_A)
        evdns_server_request_add_a_reply(q, ask->name, 2, v4, the_dns.ttl);
    else if (strcasecmp(ask->name, "one.test") == 0 && ask->type == EVDNS_TYPE_A)
        evdns_server_request_add_a_reply(q, ask->name, 1, v4 + 4, the_dns.ttl);
    else if (strcasecmp(ask->name, "six.test") == 0 && ask->type == EVDNS_TYPE_AAAA)
        evdns_server_request_add_aaaa_reply(q, ask->name, 1, v6, the_dns.ttl);
}

static void on_question(struct evdns_server_request *q, void *arg)
{
    size_t n = strlen(q->questions[0]->name);
    bool known = n > 5 && strcasecmp(q->questions[0]->name + n - 5, ".test") == 0;

    (void)arg;
    the_dns.asked++;
    if (the_dns.silent) {
        evdns_server_request_drop(q);
        return;
    }
    for (int i = 0; i < q->nquestions; i++)
        answer_question(q, q->questions[i]);
    evdns_server_request_respond(q, known ? 0 : 3);
}

static int set_up(void **state)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct evdns_base *dns;

    (void)state;
    client_open(NULL);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    memset(&the_dns, 0, sizeof the_dns);
    the_dns.ttl = 60;
    the_dns.port = evdns_add_server_port_with_base(loop_base(the_loop), fd, 0, on_question, NULL);
    dns = loop_dns(the_loop);
    assert_non_null(dns);
    evdns_base_clear_nameservers_and_suspend(dns);
    evdns_base_search_clear(dns);
    evdns_base_nameserver_sockaddr_add(dns, (struct sockaddr *)&in, n, 0);
    evdns_base_set_option(dns, "timeout:", "0.2");
    evdns_base_set_option(dns, "attempts:", "1");
    evdns_base_resume(dns);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    evdns_close_server_port(the_dns.port);
    client_close();
    return 0;
}

/* Accepts number connections, answers each once. */
static void answer_number(struct scripted *s)
{
    for (size_t i = 0; i < s->number; i++) {
        int fd = scripted_accept(s);

        scripted_head(s, fd);
        scripted_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        scripted_closed(fd);
        close(fd);
    }
}

static struct scripted *answers(size_t number)
{
    struct scripted *s = calloc(1, sizeof *s);
    int fd = scripted_listener(64, &s->port);

    s->number = number;
    scripted_start_on(s, fd, answer_number);
    return s;
}

static void assert_good(const char *host, unsigned port)
{
    struct call *c = call_run(call_new("GET", host, port));

    if (c->code != 0)
        fail_msg("%d: %s", c->code, c->x.reason.p);
    assert_int_equal(c->x.response.status, 200);
    call_free(c);
}

static void assert_bad(const char *host, int code, const char *reason)
{
    struct call *c = call_new("GET", host, 1);

    c->r.connect_ms = 500;
    call_run(c);
    assert_int_equal(c->code, code);
    assert_string_equal(c->x.reason.p, reason);
    call_free(c);
}

/* Nobody listens at the first of the addresses (127.0.0.2): the second is taken, without retries.
 */
static void test_two_addresses(void **state)
{
    struct scripted *s = answers(4);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_good("two.test", s->port);
    assert_int_equal(the_dns.asked, 1);
    scripted_join(s);
    scripted_free(s);
}

static void test_ttl(void **state)
{
    struct scripted *s = answers(3);

    (void)state;
    the_dns.ttl = 1;
    assert_good("one.test", s->port);
    assert_good("ONE.test", s->port);
    assert_int_equal(the_dns.asked, 1);
    turn_for(1100);
    assert_good("one.test", s->port); /* served at once, asked again meanwhile */
    turn_for(50);
    assert_int_equal(the_dns.asked, 2);
    scripted_join(s);
    scripted_free(s);
}

static void test_asked_once_for_all(void **state)
{
    struct scripted *s = answers(8);
    struct call *calls[8];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        calls[i] = call_new("GET", "one.test", s->port);
        call_start(calls[i]);
        assert_int_equal(calls[i]->x.phase, HTTP_RESOLVING);
    }
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        turn_until(&calls[i]->ended);
        assert_int_equal(calls[i]->code, 0);
        call_free(calls[i]);
    }
    assert_int_equal(the_dns.asked, 1);
    scripted_join(s);
    scripted_free(s);
}

static void test_ipv6(void **state)
{
    struct call *c = call_run(call_new("GET", "six.test", 1));

    (void)state;
    /* refused, or there is no IPv6 here: either way ::1 was found and tried */
    assert_int_equal(c->code, ERR_CLOSED);
    assert_int_equal(the_dns.asked, 2);
    call_free(c);
}

static void test_failures(void **state)
{
    (void)state;
    assert_bad("nobody.invalid", ERR_SYSTEM, "nobody.invalid:1: there is no such name");
    assert_int_equal(the_dns.asked, 1);
    assert_bad("nobody.invalid", ERR_SYSTEM, "nobody.invalid:1: there is no such name");
    assert_int_equal(the_dns.asked, 1); /* remembered for a second */
    assert_bad("empty.test", ERR_SYSTEM, "empty.test:1: the name has no address");
    assert_int_equal(the_dns.asked, 3); /* A and AAAA */
    assert_bad("", ERR_SYSTEM, ":1: this is not a name");
}

static void test_silent_server(void **state)
{
    struct call *c = call_new("GET", "one.test", 1), *given_up = call_new("GET", "one.test", 1);

    (void)state;
    the_dns.silent = true;
    c->r.connect_ms = 50;
    call_start(given_up);
    call_start(c);
    op_cancel(&given_up->x.op);
    turn_until(&c->ended);
    assert_int_equal(c->code, ERR_TIMEOUT);
    assert_string_equal(c->x.reason.p, "one.test:1: its name is not resolved in time");
    call_free(c);
    call_free(given_up);
    assert_bad("one.test", ERR_SYSTEM, "one.test:1: the name servers do not answer");
}

/* A thousand names and one: the oldest is forgotten, nothing else happens. */
static void test_many_names(void **state)
{
    struct resolver *r = resolver_new(the_loop);
    struct resolve_turn turn = { 0 };
    struct resolve_wait waits[RESOLVE_MAX_NAMES + 1];
    struct peer_addr a;
    unsigned count;
    const char *reason;
    char name[32];
    enum resolve_result last = RESOLVE_FOUND;

    (void)state;
    memset(waits, 0, sizeof waits);
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        snprintf(name, sizeof name, "n%zu.test", i);
        last = resolver_find(r, str_from(name), 80, turn, &a, &count, &reason, &waits[i]);
    }
    assert_int_equal(last, RESOLVE_FAILED); /* all are waited for */
    assert_string_equal(reason, "too many names are being looked up");
    resolver_forget(&waits[0]);
    last =
        resolver_find(r, STR("n.test"), 80, turn, &a, &count, &reason, &waits[RESOLVE_MAX_NAMES]);
    assert_int_equal(last, RESOLVE_WAITS);
    for (size_t i = 0; i < ARRAY_LEN(waits); i++)
        resolver_forget(&waits[i]);
    resolver_free(r);
    turn_for(300); /* the answers find nobody */
}

/* ---- timeouts, rbuf ---- */

static void nothing(struct deadline *d)
{
    (void)d;
}

static void test_spans(void **state)
{
    struct timeouts *t = timeouts_new(the_loop, nothing);

    (void)state;
    for (int64_t span = 0; span < 100000000; span += 1 + span / 7) {
        int64_t got = timeouts_queue(t, span)->span_ms;

        assert_true(got >= span);
        assert_true(got <= span + span / 32 + 1);
        assert_ptr_equal(timeouts_queue(t, span), timeouts_queue(t, got));
    }
    assert_int_equal(timeouts_queue(t, -1)->span_ms, 0);
    assert_true(timeouts_queue(t, INT64_MAX)->span_ms >= INT32_MAX);
    timeouts_free(t);
}

static void test_rbuf(void **state)
{
    struct rbuf_pool *pool = rbuf_pool_new();
    struct rbuf b = { 0 };
    char *first;

    (void)state;
    assert_int_equal(rbuf_room(pool, &b, 100000, false), RBUF_SMALL_BYTES);
    first = b.p;
    memset(b.p, 'a', RBUF_SMALL_BYTES);
    b.end = RBUF_SMALL_BYTES;
    b.start = 10;
    rbuf_settle(pool, &b);
    assert_ptr_equal(b.p, first); /* bytes are left */
    assert_int_equal(rbuf_room(pool, &b, 100000, false), 10);
    b.end += 10;
    assert_int_equal(rbuf_room(pool, &b, 100000, false), RBUF_LARGE_BYTES - RBUF_SMALL_BYTES);
    b.end = RBUF_LARGE_BYTES;
    assert_int_equal(rbuf_room(pool, &b, 100000, false), 100000 - RBUF_LARGE_BYTES);
    b.end = 100000;
    assert_int_equal(rbuf_room(pool, &b, 100000, false), 0);
    assert_int_equal(b.p[0], 'a');
    rbuf_drop(pool, &b);
    assert_null(b.p);
    assert_int_equal(rbuf_room(pool, &b, 100000, false), RBUF_SMALL_BYTES);
    assert_ptr_equal(b.p, first); /* it was kept */
    rbuf_settle(pool, &b);
    assert_null(b.p);
    rbuf_pool_free(pool);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_hosts_file),
        T(test_two_addresses),
        T(test_ttl),
        T(test_asked_once_for_all),
        T(test_ipv6),
        T(test_failures),
        T(test_silent_server),
        T(test_many_names),
        T(test_spans),
        cmocka_unit_test(test_rbuf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
