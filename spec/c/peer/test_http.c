/*
 * peer/http: responses in every framing and cut at every byte, pooled
 * connections, retries, timeouts, cancellation. The upstream is a thread with a script.
 */
#include "exchanges.h"
#include "peer/http_conn.h"
#include <sys/stat.h>

/* ---- responses ---- */

static void test_simple(void **state)
{
    struct scripted *s = scripted_start(
        answer_all, "HTTP/1.1 203 Maybe\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello");
    struct call *c = call_new("GET", "127.0.0.1", s->port);

    (void)state;
    headers_add(&c->headers, &c->arena, STR("X-Up"), STR("1"));
    headers_add(&c->headers, &c->arena, STR("Connection"), STR("x-hop"));
    headers_add(&c->headers, &c->arena, STR("X-Hop"), STR("1"));
    call_run(c);
    assert_string_equal(headers_get(&c->x.response.headers, STR("x-a"))->p ? "ok" : "", "ok");
    assert_true(str_eq(*headers_get(&c->x.response.headers, STR("x-a")), STR("b")));
    assert_answer(c, 203, "hello");
    client_close();
    scripted_join(s);
    assert_string_equal(s->got, "GET / HTTP/1.1\r\nHost: up\r\nX-Up: 1\r\n\r\n");
    scripted_free(s);
}

/* Answers each request of one connection cut at the next place. */
static void answer_cut(struct scripted *s)
{
    int fd = scripted_accept(s);

    for (size_t cut = 1; cut < s->text_n && scripted_head(s, fd); cut++) {
        scripted_write(fd, s->text, cut);
        usleep(300);
        scripted_write(fd, s->text + cut, s->text_n - cut);
    }
    /* and once byte by byte */
    if (scripted_head(s, fd))
        for (size_t i = 0; i < s->text_n; i++) {
            scripted_write(fd, s->text + i, 1);
            usleep(200);
        }
    scripted_closed(fd);
    close(fd);
}

static void cut_everywhere(const char *text, unsigned status, const char *body)
{
    struct scripted *s = scripted_start(answer_cut, text);

    for (size_t i = 0; i < s->text_n; i++)
        assert_answer(get("127.0.0.1", s->port), status, body);
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 1);
    scripted_free(s);
}

static void test_cut_length(void **state)
{
    (void)state;
    cut_everywhere("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
}

static void test_cut_chunked(void **state)
{
    (void)state;
    cut_everywhere(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n"
        "\r\n3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
        201, "hello");
}

static void test_cut_empty(void **state)
{
    (void)state;
    cut_everywhere("HTTP/1.1 204 None\r\nX-Y: z\r\n\r\n", 204, "");
}

static void test_until_close(void **state)
{
    struct scripted *s = scripted_start(answer_once, "HTTP/1.0 200 OK\r\n\r\nall of it");

    (void)state;
    assert_answer(get("127.0.0.1", s->port), 200, "all of it");
    end(s);
}

static void test_refused_responses(void **state)
{
    static const char *const BAD[] = {
        "garbage\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct scripted *s = scripted_start(answer_once, BAD[i]);

        client_open(NULL);
        assert_failure(get("127.0.0.1", s->port), ERR_SYNTAX, "127.0.0.1:");
        end(s);
    }
}

static void test_broken_off(void **state)
{
    static const struct {
        const char *text, *reason;
    } CUT[] = {
        { "HTTP/1.1 200 O", "in the midst of the response's head" },
        { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
          "in the midst of the response's body" },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
          "in the midst of the response's body" },
        { "", "closed the connection without an answer" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CUT); i++) {
        struct scripted *s = scripted_start(answer_once, CUT[i].text);

        client_open(NULL);
        assert_failure(get("127.0.0.1", s->port), ERR_CLOSED, CUT[i].reason);
        end(s);
    }
}

static void answer_and_reset(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_write(fd, s->text, s->text_n);
    usleep(50000);
    scripted_reset(fd);
}

/* A body that ends with the connection must not end with a reset. */
static void test_reset(void **state)
{
    struct scripted *s = scripted_start(answer_and_reset, "HTTP/1.1 200 OK\r\n\r\nsome");

    (void)state;
    assert_failure(get("127.0.0.1", s->port), ERR_CLOSED, "in the midst of the response's body");
    end(s);
}

static void endless_head(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_say(fd, "HTTP/1.1 200 OK\r\n");
    while (scripted_say(fd, "X-Filler: fillerfillerfillerfillerfiller\r\n"))
        ;
    close(fd);
}

static void test_endless_head(void **state)
{
    struct http_config config = { .max_idle = 1, .max_head_bytes = 20000 };
    struct scripted *s = scripted_start(endless_head, NULL);

    (void)state;
    client_close();
    client_open(&config);
    assert_failure(get("127.0.0.1", s->port), ERR_BOUND, "upstream_max_head_bytes");
    end(s);
    s = scripted_start(answer_once, "HTTP/1.1 200 OK\r\nX-Long: 0123456789\r\n\r\n");
    config.max_head_bytes = 30;
    client_open(&config);
    assert_failure(get("127.0.0.1", s->port), ERR_BOUND, "upstream_max_head_bytes");
    end(s);
}

static void many_fields(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_say(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
    for (int i = 0; i < 300; i++) {
        char line[1000];

        memset(line, 'v', sizeof line);
        memcpy(line, "X-Filler: ", 10);
        memcpy(line + sizeof line - 3, "\r\n", 3);
        scripted_say(fd, line);
    }
    scripted_say(fd, "\r\nok");
    close(fd);
}

/* The bound is the configuration's alone, however large. */
static void test_head_in_bounds(void **state)
{
    struct http_config config = { .max_idle = 1, .max_head_bytes = 320000 };
    struct scripted *s = scripted_start(many_fields, NULL);
    struct call *c;

    (void)state;
    client_close();
    client_open(&config);
    c = get("127.0.0.1", s->port);
    assert_int_equal(c->x.response.headers.n, 301);
    assert_int_equal(headers_get(&c->x.response.headers, STR("X-Filler"))->n, 987);
    assert_answer(c, 200, "ok");
    end(s);
}

/* ---- pooled connections ---- */

static void test_reuse(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_answer(get("127.0.0.1", s->port), 200, "body");
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 1);
    assert_int_equal(s->number, 5);
    scripted_free(s);
}

/* The answer to HEAD has a length and no body; so has 304. */
static void test_reuse_bodyless(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\n");

    (void)state;
    assert_answer(get("127.0.0.1", s->port), 304, "");
    assert_answer(call_run(call_new("HEAD", "127.0.0.1", s->port)), 304, "");
    assert_answer(get("127.0.0.1", s->port), 304, "");
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 1);
    assert_int_equal(s->number, 3);
    scripted_free(s);
}

/* Each connection gets one answer; the other side must close it. */
static void answer_each(struct scripted *s)
{
    for (int i = 0; i < 3; i++) {
        int fd = scripted_accept(s);

        scripted_head(s, fd);
        scripted_write(fd, s->text, s->text_n);
        if (scripted_closed(fd))
            s->number++;
        close(fd);
    }
}

static void not_reused(const char *text, const struct http_config *config)
{
    struct scripted *s = scripted_start(answer_each, text);

    if (the_client)
        client_close();
    client_open(config);
    for (int i = 0; i < 3; i++)
        assert_answer(get("127.0.0.1", s->port), 200, "body");
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 3);
    assert_int_equal(s->number, 3);
    scripted_free(s);
}

static void test_not_reused(void **state)
{
    struct http_config one_request = { .max_idle = 8, .max_requests = 1, .max_head_bytes = 65536 };
    struct http_config no_pool = { .max_head_bytes = 65536 };
    const char *plain = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

    (void)state;
    not_reused("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody", NULL);
    not_reused("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", NULL);
    /* bytes behind the response are somebody else's */
    not_reused("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\n", NULL);
    not_reused(plain, &one_request);
    not_reused(plain, &no_pool);
}

/* Two connections: the first answers once and ends as number says, the second answers. */
static void answer_then_stale(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_write(fd, s->text, s->text_n);
    if (s->number == 1) { /* reads the second request, too */
        s->got_n = 0;
        scripted_head(s, fd);
    } else if (s->number == 4) { /* reads the beginning of the second request, and dies */
        char some[16];

        scripted_read(fd, some, sizeof some);
        scripted_reset(fd);
        fd = -1;
    } else if (s->number == 2) {
        scripted_reset(fd);
        fd = -1;
    }
    if (fd >= 0)
        close(fd);
    fd = scripted_accept(s);
    if (fd < 0)
        return;
    if (scripted_head(s, fd) && scripted_body(s, fd, s->number == 3 ? 4 : 0))
        scripted_write(fd, s->text, s->text_n);
    scripted_closed(fd);
    close(fd);
}

static struct scripted *make_stale(size_t how)
{
    struct scripted *s = calloc(1, sizeof *s);
    int fd = scripted_listener(64, &s->port);

    s->text = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    s->text_n = strlen(s->text);
    s->number = how;
    scripted_start_on(s, fd, answer_then_stale);
    if (!the_client)
        client_open(NULL);
    assert_answer(get("127.0.0.1", s->port), 200, "body");
    if (how != 1)
        usleep(50000); /* it closes, and no turn tells the pool: it looks */
    return s;
}

static void test_stale_is_retried(void **state)
{
    (void)state;
    for (size_t how = 0; how <= 2; how++) {
        struct scripted *s = make_stale(how);

        assert_answer(get("127.0.0.1", s->port), 200, "body");
        client_close();
        scripted_join(s);
        assert_int_equal(s->connected, 2);
        scripted_free(s);
    }
}

/* A request that is not idempotent, with a body that must be sent again. */
static void test_stale_post(void **state)
{
    struct scripted *s = make_stale(3);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    call_with_body(c, "data", 4);
    assert_answer(call_run(c), 200, "body");
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 2);
    assert_string_equal(s->body, "data");
    scripted_free(s);
}

/* The upstream has read the request, or some of it: perhaps it has acted on it. */
static void post_is_not_retried(size_t how)
{
    struct scripted *s = make_stale(how);
    struct call *c = call_new("POST", "127.0.0.1", s->port);
    int fd;

    c->r.retries = 5;
    call_with_body(c, "data", 4);
    assert_failure(call_run(c), ERR_CLOSED, "closed the connection without an answer");
    client_close();
    /* lets the script go on */
    client_open(NULL);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(
        connect(fd,
                (struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET,
                                                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                                          .sin_port = htons((uint16_t)s->port) },
                sizeof(struct sockaddr_in)),
        0);
    close(fd);
    end(s);
}

static void test_read_post_is_not_retried(void **state)
{
    (void)state;
    post_is_not_retried(1);
    post_is_not_retried(4);
}

/* A request goes out on a kept connection; whether it may have been read when that was closed. */
static bool closed_before(void (*break_up)(int fd, bool is_early), bool is_early)
{
    static const struct http_conn_events none;
    struct loop *loop = loop_new();
    struct peer_addr addr;
    struct http_conn *c;
    char some[64];
    unsigned port;
    int listener = scripted_listener(1, &port), fd;
    bool answer;

    assert_int_equal(peer_addr_parse(STR("127.0.0.1"), port, &addr), 0);
    c = http_conn_open(loop, &addr, &none, NULL);
    assert_non_null(c);
    fd = accept(listener, NULL, NULL);
    http_conn_begin(c);
    assert_int_equal(http_conn_write(c, &(struct iovec){ (char[]){ "first" }, 5 }, 1), 5);
    assert_int_equal(recv(fd, some, sizeof some, 0), 5);
    assert_true(http_conn_is_quiet(c));
    if (is_early)
        break_up(fd, true);
    http_conn_begin(c);
    assert_int_equal(http_conn_write(c, &(struct iovec){ (char[]){ "second" }, 6 }, 1), 6);
    if (!is_early)
        break_up(fd, false);
    usleep(10000);
    assert_false(http_conn_is_quiet(c));
    assert_true(http_conn_read(c, some, sizeof some) <= 0);
    answer = http_conn_closed_before(c);
    http_conn_close(c);
    loop_free(loop);
    close(listener);
    return answer;
}

static void end_in_order(int fd, bool is_early)
{
    char some[64];

    if (!is_early)
        recv(fd, some, sizeof some, 0);
    close(fd);
}

static void end_in_midst(int fd, bool is_early)
{
    char byte;

    (void)is_early;
    recv(fd, &byte, 1, 0);
    close(fd); /* what it has not read makes a reset of it */
}

static void test_closed_before(void **state)
{
    (void)state;
    assert_true(closed_before(end_in_order, true));
    assert_false(closed_before(end_in_order, false));
    assert_false(closed_before(end_in_midst, false));
}

static void test_idle_is_dropped(void **state)
{
    struct http_config config = { .max_idle = 8, .idle_timeout_ms = 40, .max_head_bytes = 65536 };
    struct scripted *s =
        scripted_start(answer_each, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");

    (void)state;
    client_close();
    client_open(&config);
    for (int i = 0; i < 3; i++) {
        assert_answer(get("127.0.0.1", s->port), 200, "body");
        turn_for(100);
    }
    scripted_join(s); /* sees each connection closed, the client being alive */
    assert_int_equal(s->number, 3);
    scripted_free(s);
}

/* ---- retries ---- */

static unsigned unused_port(void)
{
    unsigned port;

    close(scripted_listener(1, &port));
    return port;
}

static void test_refused(void **state)
{
    struct call *c = call_new("GET", "127.0.0.1", unused_port());

    (void)state;
    c->r.retries = 3;
    call_run(c);
    assert_int_equal(c->x.turn.nth, 4);
    assert_failure(c, ERR_CLOSED, "cannot connect: Connection refused");
    assert_failure(get("unix:/nonexistent/socket", 0), ERR_CLOSED,
                   "unix:/nonexistent/socket: cannot connect: No such file");
}

/* The first connection ends without an answer, the second answers. */
static void drop_then_answer(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    close(fd);
    answer_once(s);
}

static void test_retry_idempotent(void **state)
{
    struct scripted *s =
        scripted_start(drop_then_answer, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    struct call *c = call_new("GET", "127.0.0.1", s->port);

    (void)state;
    c->r.retries = 1;
    assert_answer(call_run(c), 200, "body");
    end(s);
}

static void drop_one(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    close(fd);
}

static void test_no_retry_for_post(void **state)
{
    struct scripted *s = scripted_start(drop_one, NULL);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    c->r.retries = 5;
    assert_failure(call_run(c), ERR_CLOSED, "without an answer");
    end(s);
}

/* ---- timeouts ---- */

static void silence(struct scripted *s)
{
    int fd = scripted_accept(s);

    if (s->text)
        scripted_head(s, fd);
    if (s->text)
        scripted_write(fd, s->text, s->text_n);
    while (!__atomic_load_n(&s->number, __ATOMIC_ACQUIRE))
        usleep(1000);
    close(fd);
}

static void end_silence(struct scripted *s)
{
    __atomic_store_n(&s->number, 1, __ATOMIC_RELEASE);
    end(s);
}

static void test_read_timeout(void **state)
{
    static const char *const TEXTS[] = { "", "HTTP/1.1 200 OK\r\nContent-Le",
                                         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct scripted *s = scripted_start(silence, TEXTS[i]);
        struct call *c;
        int64_t start_us = clock_mono_us_exact();

        if (!the_client)
            client_open(NULL);
        c = call_new("GET", "127.0.0.1", s->port);
        c->r.read_ms = 60;
        c->r.retries = 5;
        call_run(c);
        assert_true(clock_mono_us_exact() - start_us >= 60000);
        assert_failure(c, ERR_TIMEOUT, "does not answer in time");
        end_silence(s);
    }
}

static void test_write_timeout(void **state)
{
    struct scripted *s = scripted_start(silence, NULL);
    size_t n = 16 << 20;
    char *bytes = calloc(1, n);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    c->r.write_ms = 60;
    call_with_body(c, bytes, n);
    assert_failure(call_run(c), ERR_TIMEOUT, "does not read the request in time");
    free(bytes);
    end_silence(s);
}

/* A listener whose queue is full drops SYNs. */
static void test_connect_timeout(void **state)
{
    unsigned port;
    int listener = scripted_listener(0, &port), fill[8];
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)port) };
    struct call *c = call_new("GET", "127.0.0.1", port);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&in, sizeof in);
    }
    usleep(20000);
    c->r.connect_ms = 60;
    c->r.retries = 1;
    call_run(c);
    assert_int_equal(c->x.turn.nth, 2);
    assert_failure(c, ERR_TIMEOUT, "does not take the connection in time");
    for (size_t i = 0; i < ARRAY_LEN(fill); i++)
        close(fill[i]);
    close(listener);
}

/* ---- giving up ---- */

static void test_cancel(void **state)
{
    static const char *const TEXTS[] = { NULL, "HTTP/1.1 20",
                                         "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nsome" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct scripted *s = scripted_start(see_close, TEXTS[i]);
        struct call *c;

        if (!the_client)
            client_open(NULL);
        c = call_new("GET", "127.0.0.1", s->port);
        call_start(c);
        turn_for(30);
        op_cancel(&c->x.op);
        http_close(&c->x);
        assert_int_equal(c->head_done, i == 2);
        assert_int_equal(c->code, 0); /* not told */
        scripted_join(s);
        assert_int_equal(s->number, 1);
        call_free(c);
        end(s);
    }
}

static void test_cancel_while_connecting(void **state)
{
    struct scripted *s = scripted_start(drop_one, NULL);
    struct call *c = call_new("GET", "127.0.0.1", s->port);

    (void)state;
    call_start(c);
    assert_int_equal(c->x.phase, HTTP_CONNECTING);
    op_cancel(&c->x.op);
    assert_int_equal(c->x.op.code, ERR_CANCELLED);
    turn_for(20);
    call_free(c);
    end(s);
}

/* ---- other addresses ---- */

static void test_unix(void **state)
{
    struct scripted *s = calloc(1, sizeof *s);
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    char dir[] = "/tmp/weir-http-XXXXXX", host[120];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(un.sun_path, sizeof un.sun_path, "%s/s", dir);
    snprintf(host, sizeof host, "unix:%s", un.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 8), 0);
    s->text = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    s->text_n = strlen(s->text);
    scripted_start_on(s, fd, answer_all);
    assert_answer(get(host, 0), 200, "body");
    assert_answer(get(host, 0), 200, "body");
    client_close();
    scripted_join(s);
    assert_int_equal(s->connected, 1);
    scripted_free(s);
    unlink(un.sun_path);
    rmdir(dir);
}

static void test_localhost(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");

    (void)state;
    /* /etc/hosts may give ::1 as well, where nobody listens */
    assert_answer(get("localhost", s->port), 200, "body");
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_simple),
        T(test_cut_length),
        T(test_cut_chunked),
        T(test_cut_empty),
        T(test_until_close),
        BARE(test_refused_responses),
        BARE(test_broken_off),
        T(test_reset),
        T(test_endless_head),
        T(test_head_in_bounds),
        T(test_reuse),
        T(test_reuse_bodyless),
        T(test_not_reused),
        T(test_stale_is_retried),
        T(test_stale_post),
        T(test_read_post_is_not_retried),
        T(test_closed_before),
        T(test_idle_is_dropped),
        T(test_refused),
        T(test_retry_idempotent),
        T(test_no_retry_for_post),
        T(test_read_timeout),
        T(test_write_timeout),
        T(test_connect_timeout),
        T(test_cancel),
        T(test_cancel_while_connecting),
        T(test_unix),
        T(test_localhost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
