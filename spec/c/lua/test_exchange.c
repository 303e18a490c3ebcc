/*
 * lua/exchange: what of a request goes up, what of a response comes down, and
 * how either side slows the other. The transport is the spec itself.
 */
#include "lua/exchange.h"
#include "../peer/scripted.h"
#include "base/clock.h"
#include "conf/keys.h"
#include "ev/op.h"
#include "req/req.h"
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct loop *the_loop;
static struct conf the_conf;
static struct req *the_req; /* the last one; its memory stays in the pool of requests */

/* What the transport saw of the one request. */
static struct {
    struct buf body;
    size_t queued_bytes;
    int flow; /* the last on_flow: 1 resume, -1 pause */
} the_client;

static void on_body(struct req *req, const char *p, size_t n)
{
    (void)req;
    assert_int_equal(buf_add(&the_client.body, p, n), 0);
    the_client.queued_bytes += n;
}

static void on_flow(struct req *req, bool resume)
{
    req->body_paused = !resume;
    the_client.flow = resume ? 1 : -1;
}

static void on_other(struct req *req)
{
    (void)req;
}

static const struct req_transport TRANSPORT = { on_other, on_body, on_other, on_flow, on_other };

static int set_up(void **state)
{
    (void)state;
    the_conf.upstream_keepalive_pool_size = 8;
    the_conf.upstream_max_head_bytes = 65536;
    the_loop = loop_new();
    exchange_init(the_loop, &the_conf);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!the_loop)
        return 0;
    if (the_req && the_req->state != REQ_DEAD) /* a failed example's */
        req_bury(the_req);
    loop_turn(the_loop, false);
    exchange_fini();
    loop_turn(the_loop, false);
    loop_free(the_loop);
    the_loop = NULL;
    buf_free(&the_client.body);
    memset(&the_client, 0, sizeof the_client);
    return 0;
}

static struct req *request(const char *method)
{
    struct req *req = req_new(the_loop, &TRANSPORT, NULL);

    the_req = req;
    req->method = str_from(method);
    req->body_complete = true;
    req->queued_bytes = &the_client.queued_bytes;
    req_advance(req, REQ_RUNNING);
    headers_add(&req->headers, &req->arena, STR("Host"), STR("service:81"));
    return req;
}

static struct op *start_with(struct req *req, unsigned port, bool whole_body)
{
    struct exchange_params p = {
        .whole_body = whole_body,
        .host = STR("127.0.0.1"),
        .target = STR("/path?query"),
        .port = port,
        .connect_ms = 3000,
        .write_ms = 3000,
        .read_ms = 3000,
    };

    return exchange_start(req, &p);
}

static struct op *start(struct req *req, unsigned port)
{
    return start_with(req, port, false);
}

static bool turn_until_done(const struct op *op)
{
    int64_t end_us = clock_mono_us_exact() + 5000000;
    struct timeval tv = { 0, 20000 };

    while (op->state == OP_PENDING && clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
    return op->state == OP_DONE;
}

static void turn_for(int ms)
{
    int64_t end_us = clock_mono_us_exact() + ms * 1000;
    struct timeval tv = { 0, 5000 };

    while (clock_mono_us_exact() < end_us) {
        event_base_loopexit(loop_base(the_loop), &tv);
        loop_turn(the_loop, true);
    }
}

static void assert_head(struct req *req, struct op *op, unsigned status)
{
    assert_true(turn_until_done(op));
    if (exchange_result(req) != 0)
        fail_msg("%d: %s", exchange_result(req), exchange_reason(req));
    assert_int_equal(req->upstream_status, status);
    assert_true(req->upstream_start_us <= req->upstream_head_us);
}

/* As the Lua half does it: forward, wait, again. */
static int forward_all(struct req *req)
{
    struct op *op;
    int step;

    while ((step = exchange_forward(req, &op)) == EXCHANGE_WAITS)
        if (!turn_until_done(op))
            return 99;
    return step;
}

static void assert_forwarded(struct req *req, const char *body)
{
    exchange_accept(req);
    req_send_head(req);
    assert_int_equal(forward_all(req), EXCHANGE_END);
    assert_true(req->upstream_end_us >= req->upstream_head_us);
    assert_int_equal(the_client.body.n, strlen(body));
    assert_true(the_client.body.n == 0 || memcmp(the_client.body.p, body, strlen(body)) == 0);
}

/* Answers each request on each connection with the text, once its body has number bytes. */
static void answer(struct scripted *s)
{
    int fd = scripted_accept(s);

    while (scripted_head(s, fd) && scripted_body(s, fd, s->number))
        scripted_write(fd, s->text, s->text_n);
    close(fd);
}

static struct scripted *answers(const char *text, size_t body_bytes)
{
    struct scripted *s = calloc(1, sizeof *s);
    int fd = scripted_listener(8, &s->port);

    s->text = text;
    s->text_n = strlen(text);
    s->number = body_bytes;
    scripted_start_on(s, fd, answer);
    return s;
}

/* Ends request and client, and waits for the script. */
static void end(struct req *req, struct scripted *s)
{
    if (req)
        req_bury(req);
    tear_down(NULL);
    scripted_join(s);
}

static const char PLAIN[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

static void test_headers(void **state)
{
    struct scripted *s = answers("HTTP/1.1 202 Taken\r\nContent-Length: 4\r\nServer: up\r\n"
                                 "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nX-Own: up\r\n"
                                 "Keep-Alive: timeout=5\r\nX-A: 1\r\nX-A: 2\r\n\r\nbody",
                                 0);
    struct req *req = request("GET");

    (void)state;
    headers_add(&req->headers, &req->arena, STR("Connection"), STR("X-Hop"));
    headers_add(&req->headers, &req->arena, STR("X-Hop"), STR("1"));
    headers_add(&req->headers, &req->arena, STR("Proxy"), STR("evil"));
    headers_add(&req->headers, &req->arena, STR("Expect"), STR("100-continue"));
    headers_add(&req->headers, &req->arena, STR("X-Kept"), STR("1"));
    headers_add(&req->resp_headers, &req->arena, STR("x-own"), STR("plugin"));
    assert_null(exchange_headers(req));
    assert_head(req, start(req, s->port), 202);
    assert_non_null(headers_get(exchange_headers(req), STR("keep-alive")));
    assert_forwarded(req, "body");
    assert_int_equal(req->status, 202);
    assert_int_equal(req->resp_content_length, 4);
    assert_int_equal(headers_find(&req->resp_headers, STR("Connection"), 0), -1);
    assert_int_equal(headers_find(&req->resp_headers, STR("Keep-Alive"), 0), -1);
    assert_int_equal(headers_find(&req->resp_headers, STR("X-Mine"), 0), -1);
    assert_true(str_eq(*headers_get(&req->resp_headers, STR("X-Own")), STR("plugin")));
    assert_int_equal(headers_find(&req->resp_headers, STR("X-Own"), 1), -1);
    assert_true(str_eq(*headers_get(&req->resp_headers, STR("Server")), STR("up")));
    assert_true(headers_find(&req->resp_headers, STR("X-A"),
                             (unsigned)headers_find(&req->resp_headers, STR("X-A"), 0) + 1) > 0);
    end(req, s);
    assert_string_equal(s->got,
                        "GET /path?query HTTP/1.1\r\nHost: service:81\r\nX-Kept: 1\r\n\r\n");
    scripted_free(s);
}

/* The length that goes out: the upstream's, or none; never what a plugin believes. */
static void test_length(void **state)
{
    struct scripted *s = answers(PLAIN, 0);
    struct req *req = request("GET");
    static const struct {
        int64_t plugin;
        bool filtered;
        int64_t want;
    } CASES[] = { { 4, false, 4 }, { 3, false, 4 }, { -1, false, -1 },
                  { 4, true, -1 }, { 3, true, -1 }, { -1, true, -1 } };

    (void)state;
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        req->state = REQ_RUNNING;
        req->resp_content_length = CASES[i].plugin;
        exchange_send_head(req, CASES[i].filtered);
        assert_int_equal(req->resp_content_length, CASES[i].want);
    }
    assert_int_equal(forward_all(req), EXCHANGE_END);
    end(req, s);
    scripted_free(s);
}

static void test_no_length(void **state)
{
    struct scripted *s = answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "4\r\nbody\r\n0\r\n\r\n",
                                 0);
    struct req *req = request("GET");

    (void)state;
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    req->resp_content_length = 3;
    exchange_send_head(req, false);
    assert_int_equal(req->resp_content_length, -1);
    assert_int_equal(forward_all(req), EXCHANGE_END);
    end(req, s);
    scripted_free(s);
}

static void assert_sent(const char *method, int64_t length, const char *own, const char *body,
                        const char *framing)
{
    struct scripted *s = answers(PLAIN, own ? strlen(own) : body ? strlen(body) : 0);
    struct req *req;
    char want[200];

    if (!the_loop)
        set_up(NULL);
    req = request(method);
    req->content_length = length;
    if (body)
        assert_int_equal(buf_add(&req->body, body, strlen(body)), 0);
    if (own) {
        req->own_body = str_from(own);
        req->has_own_body = true;
    }
    headers_remove(&req->headers, STR("Host"));
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    req_send_head(req);
    assert_int_equal(forward_all(req), EXCHANGE_END);
    snprintf(want, sizeof want, "%s /path?query HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n%s", method,
             s->port, framing,
             own    ? own
             : body ? body
                    : "");
    end(req, s);
    assert_string_equal(s->got, want);
    scripted_free(s);
}

static void test_framing(void **state)
{
    (void)state;
    assert_sent("GET", -1, NULL, NULL, "");
    assert_sent("GET", 0, NULL, NULL, "");
    assert_sent("DELETE", 0, NULL, NULL, "");
    assert_sent("POST", -1, NULL, NULL, "Content-Length: 0\r\n");
    assert_sent("POST", 4, NULL, "data", "Content-Length: 4\r\n");
    assert_sent("GET", 4, NULL, "data", "Content-Length: 4\r\n");
    assert_sent("POST", -1, NULL, "data", "Content-Length: 4\r\n");
    assert_sent("POST", 4, "another", "data", "Content-Length: 7\r\n");
}

static void arrives(struct req *req, const char *bytes, bool complete)
{
    assert_int_equal(buf_add(&req->body, bytes, strlen(bytes)), 0);
    req->body_complete = complete;
    exchange_on_request_body(req);
}

/* The length is not known: chunks, as the pieces arrive. */
static void body_comes(struct req *req, const char *text, bool complete)
{
    assert_int_equal(buf_add(&req->body, text, strlen(text)), 0);
    req->body_bytes += strlen(text);
    req->body_complete = complete;
    exchange_on_request_body(req);
}

static void test_whole_body(void **state)
{
    struct scripted *s = answers(PLAIN, 4);
    struct req *req = request("POST");
    struct op *op;
    int64_t asked_us;

    (void)state;
    req->body_complete = false;
    op = start_with(req, s->port, true);
    body_comes(req, "bo", false);
    turn_for(50);
    body_comes(req, "d", false);
    turn_for(10);
    assert_int_equal(op->state, OP_PENDING);
    asked_us = clock_mono_us_exact();
    body_comes(req, "y", true);
    assert_head(req, op, 200);
    assert_true(req->upstream_start_us >= asked_us);
    assert_forwarded(req, "body");
    end(req, s);
    assert_string_equal(
        s->got, "POST /path?query HTTP/1.1\r\nHost: service:81\r\nContent-Length: 4\r\n\r\nbody");
    scripted_free(s);
}

/* What cannot be held goes up while it comes. */
static void test_too_large_to_wait(void **state)
{
    struct scripted *s = answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 2);
    struct req *req = request("POST");

    (void)state;
    req->body_complete = false;
    req->body.max_bytes = 8;
    req->content_length = 9;
    body_comes(req, "bo", false);
    assert_head(req, start_with(req, s->port, true), 200); /* it answers two bytes */
    end(req, s);
    scripted_free(s);

    set_up(NULL);
    s = answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", strlen("4\r\nbody\r\n"));
    req = request("POST");
    req->body_complete = false;
    req->body.max_bytes = 8;
    body_comes(req, "bod", false);
    {
        struct op *op = start_with(req, s->port, true);

        turn_for(20);
        assert_int_equal(op->state, OP_PENDING);
        body_comes(req, "y", false);
        assert_head(req, op, 200);
    }
    end(req, s);
    scripted_free(s);
}

static void test_cancel_while_held(void **state)
{
    struct req *req = request("POST");
    struct op *op;

    (void)state;
    req->body_complete = false;
    op = start_with(req, 9, true);
    turn_for(10);
    op_cancel(op);
    assert_int_equal(exchange_result(req), ERR_CANCELLED);
    body_comes(req, "late", true);
    turn_for(10);
    assert_int_equal(exchange_result(req), ERR_CANCELLED);
}

static void test_streamed_up(void **state)
{
    struct scripted *s = answers(PLAIN, strlen("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
    struct req *req = request("POST");
    struct op *op;

    (void)state;
    req->body_complete = false;
    op = start(req, s->port);
    turn_for(20);
    arrives(req, "one", false);
    assert_int_equal(req->body.n, 0); /* taken */
    turn_for(20);
    arrives(req, "two", true);
    assert_head(req, op, 200);
    assert_forwarded(req, "body");
    end(req, s);
    assert_string_equal(s->body, "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    scripted_free(s);
}

/* What is held for a second try must not keep a paused front waiting for ever. */
static void test_paused_front(void **state)
{
    struct scripted *s = answers(PLAIN, 0);
    struct req *req = request("GET");
    struct op *op;

    (void)state;
    assert_head(req, start(req, s->port), 200);
    assert_forwarded(req, "body"); /* the connection is in the pool now */
    req_bury(req);
    turn_for(10);
    __atomic_store_n(&s->number, 8, __ATOMIC_SEQ_CST);
    req = request("POST");
    req->body.max_bytes = 16;
    req->content_length = 8;
    req->body_complete = false;
    arrives(req, "half", false);
    op = start(req, s->port);
    turn_for(20);
    assert_int_equal(req->body.n, 4); /* sent, and held */
    on_flow(req, false);
    exchange_on_request_body(req);
    assert_int_equal(req->body.n, 0);
    assert_int_equal(the_client.flow, 1);
    arrives(req, "full", true);
    assert_head(req, op, 200);
    end(req, s);
    assert_string_equal(s->body, "halffull");
    scripted_free(s);
}

static void send_megabyte(struct scripted *s)
{
    static char bytes[1 << 20];
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    memset(bytes, 'm', sizeof bytes);
    scripted_say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    scripted_write(fd, bytes, sizeof bytes);
    close(fd);
}

/* The client takes nothing: the exchange stops near the mark, and goes on when told. */
static void test_slow_client(void **state)
{
    struct scripted *s = scripted_start(send_megabyte, NULL);
    struct req *req = request("GET");
    struct op *op;
    size_t before;

    (void)state;
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    assert_int_equal(req->resp_content_length, -1);
    req_send_head(req);
    assert_int_equal(exchange_forward(req, &op), EXCHANGE_WAITS);
    turn_for(150);
    assert_int_equal(op->state, OP_PENDING);
    assert_in_range(the_client.queued_bytes, REQ_QUEUE_HIGH_BYTES, REQ_QUEUE_HIGH_BYTES + 65536);
    while (op->state == OP_PENDING) {
        before = the_client.body.n;
        the_client.queued_bytes = 0;
        exchange_on_drained(req);
        turn_for(20);
        assert_true(the_client.body.n > before || op->state == OP_DONE);
    }
    assert_int_equal(exchange_forward(req, &op), EXCHANGE_END);
    assert_int_equal(the_client.body.n, 1 << 20);
    end(req, s);
    scripted_free(s);
}

static void test_read_pieces(void **state)
{
    struct scripted *s = answers(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", 0);
    struct req *req = request("GET");
    struct buf all = { 0 };
    struct str piece;
    struct op *op;
    int step;

    (void)state;
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    assert_int_equal(headers_find(&req->resp_headers, STR("Transfer-Encoding"), 0), -1);
    while ((step = exchange_read(req, &piece, &op)) != EXCHANGE_END) {
        if (step == EXCHANGE_WAITS)
            assert_true(turn_until_done(op));
        else
            assert_int_equal(buf_add(&all, piece.p, piece.n), 0);
    }
    assert_int_equal(all.n, 4);
    assert_memory_equal(all.p, "body", 4);
    assert_int_equal(the_client.body.n, 0);
    buf_free(&all);
    end(req, s);
    scripted_free(s);
}

static void test_failures(void **state)
{
    struct scripted *s = answers("garbage\r\n\r\n", 0);
    struct req *req = request("GET");
    unsigned port;

    (void)state;
    assert_string_equal(exchange_reason(req), "");
    assert_true(turn_until_done(start(req, s->port)));
    assert_int_equal(exchange_result(req), ERR_SYNTAX);
    assert_non_null(strstr(exchange_reason(req), "status line"));
    assert_null(exchange_headers(req));
    assert_int_equal(req->upstream_status, 0);
    close(scripted_listener(1, &port));
    /* the same request once more, elsewhere */
    assert_true(turn_until_done(start(req, port)));
    assert_int_equal(exchange_result(req), ERR_CLOSED);
    assert_non_null(strstr(exchange_reason(req), "Connection refused"));
    end(req, s);
    scripted_free(s);
}

static void broken_body(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    usleep(30000);
    close(fd);
}

static void test_broken_body(void **state)
{
    struct scripted *s = scripted_start(broken_body, NULL);
    struct req *req = request("GET");

    (void)state;
    assert_head(req, start(req, s->port), 200);
    exchange_accept(req);
    req_send_head(req);
    assert_int_equal(forward_all(req), ERR_CLOSED);
    assert_int_equal(the_client.body.n, 4);
    assert_true(req->upstream_end_us > 0);
    end(req, s);
    scripted_free(s);
}

static void see_close(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    s->number = scripted_closed(fd);
    close(fd);
}

/* The client goes away while the upstream thinks. */
static void test_cancel(void **state)
{
    struct scripted *s = scripted_start(see_close, NULL);
    struct req *req = request("GET");
    struct op *op = start(req, s->port);
    struct str piece;

    (void)state;
    turn_for(30);
    req->aborted = true;
    req->queued_bytes = NULL;
    op_cancel(op);
    assert_int_equal(exchange_result(req), ERR_CANCELLED);
    assert_int_equal(exchange_forward(req, &op), ERR_CANCELLED);
    assert_int_equal(exchange_read(req, &piece, &op), ERR_CANCELLED);
    exchange_on_request_body(req);
    exchange_on_drained(req);
    scripted_join(s);
    assert_int_equal(s->number, 1);
    req_bury(req);
    scripted_free(s);
}

/* Cancelled before the turn in which it would have begun is over. */
static void test_cancel_at_once(void **state)
{
    struct req *req = request("GET");
    struct op *op = start(req, 1);

    (void)state;
    op_cancel(op);
    turn_for(10);
    assert_int_equal(exchange_result(req), ERR_CANCELLED);
    req_bury(req);
}

/* The request ends while bytes are in flight: the arena's end closes the connection. */
static void test_request_ends(void **state)
{
    struct scripted *s = scripted_start(see_close, NULL);
    struct req *req = request("GET");

    (void)state;
    start(req, s->port);
    turn_for(30);
    req_bury(req);
    turn_for(10);
    scripted_join(s);
    assert_int_equal(s->number, 1);
    scripted_free(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_headers),
        T(test_length),
        T(test_no_length),
        T(test_framing),
        T(test_streamed_up),
        T(test_paused_front),
        T(test_slow_client),
        T(test_read_pieces),
        T(test_failures),
        T(test_broken_body),
        T(test_cancel),
        T(test_cancel_at_once),
        T(test_whole_body),
        T(test_too_large_to_wait),
        T(test_cancel_while_held),
        T(test_request_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
