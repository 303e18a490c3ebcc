/*
 * peer/http: bodies up, early answers, bodies down with back-pressure. The
 * upstream is a thread with a script.
 */
#include "exchanges.h"

/* ---- bodies up ---- */

/* Reads number bytes of body behind the head, sums them up, answers. */
static void sum_body(struct scripted *s)
{
    int fd = scripted_accept(s);
    static char bytes[65536];
    size_t left = s->number, sum = 0, n;

    scripted_head(s, fd);
    for (n = 0; n < s->body_n; n++)
        sum += (unsigned char)s->body[n];
    for (left -= s->body_n; left; left -= n) {
        ssize_t some = scripted_read(fd, bytes, sizeof bytes);

        if (some <= 0)
            break;
        n = (size_t)some;
        for (size_t i = 0; i < n; i++)
            sum += (unsigned char)bytes[i];
        usleep(100);
    }
    s->number = sum;
    scripted_write(fd, s->text, s->text_n);
    scripted_closed(fd);
    close(fd);
}

static void test_large_upload(void **state)
{
    size_t n = 3 << 20, sum = 0;
    unsigned char *bytes = malloc(n);
    struct scripted *s = calloc(1, sizeof *s);
    int listener = scripted_listener(8, &s->port);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    for (size_t i = 0; i < n; i++)
        sum += bytes[i] = (unsigned char)(i * 31 + i / 1000);
    s->text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    s->text_n = strlen(s->text);
    s->number = n;
    scripted_start_on(s, listener, sum_body);
    call_with_body(c, (char *)bytes, n);
    call_run(c);
    assert_int_equal(c->upload.n, 0); /* all of it was dropped on the way */
    assert_answer(c, 200, "ok");
    client_close();
    scripted_join(s);
    assert_int_equal(s->number, sum);
    scripted_free(s);
    free(bytes);
}

static void answer_chunked_upload(struct scripted *s)
{
    int fd = scripted_accept(s);

    for (int i = 0; i < 2 && scripted_head(s, fd); i++) {
        while (!strstr(s->body, "\r\n0\r\n\r\n") && scripted_body(s, fd, s->body_n + 1))
            ;
        scripted_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    scripted_closed(fd);
    close(fd);
}

static void test_chunked_upload(void **state)
{
    struct scripted *s = scripted_start(answer_chunked_upload, NULL);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call *c = call_new("POST", "127.0.0.1", s->port);

        c->r.framing = HTTP1_BODY_CHUNKED;
        c->upload_complete = false;
        c->upload = STR("first ");
        call_start(c);
        turn_for(20);
        c->upload = STR("second");
        http_upload(&c->x, (struct str){ c->upload.p, c->upload.n }, false);
        call_on_sent(&c->x);
        turn_for(20);
        c->upload_complete = true;
        http_upload(&c->x, c->upload, true);
        turn_until(&c->ended);
        assert_answer(c, 200, "ok");
    }
    client_close();
    scripted_join(s);
    assert_non_null(strstr(s->got, "Transfer-Encoding: chunked\r\n"));
    assert_string_equal(s->body, "6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n");
    assert_int_equal(s->connected, 1);
    scripted_free(s);
}

static void test_wrong_length(void **state)
{
    struct scripted *s = scripted_start(see_close, NULL);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    c->r.framing = HTTP1_BODY_LENGTH;
    c->r.content_length = 10;
    c->upload = STR("short");
    c->upload_complete = false;
    call_start(c);
    turn_for(20);
    http_upload(&c->x, c->upload, true);
    assert_failure(c, ERR_SYNTAX, "shorter than announced");
    end(s);
    client_open(NULL);
    s = scripted_start(see_close, NULL);
    c = call_new("POST", "127.0.0.1", s->port);
    c->r.framing = HTTP1_BODY_LENGTH;
    c->r.content_length = 3;
    c->upload = STR("longer");
    assert_failure(call_run(c), ERR_SYNTAX, "longer than announced");
    end(s);
}

/* Takes its time before it reads the first of number bytes. */
static void read_late(struct scripted *s)
{
    int fd = scripted_accept(s);
    static char bytes[65536];
    size_t left = s->number;

    usleep(50000);
    while (left) {
        ssize_t n = scripted_read(fd, bytes, left < sizeof bytes ? left : sizeof bytes);

        if (n <= 0)
            break;
        left -= (size_t)n;
        if (left == 0)
            memcpy(s->got, bytes + n - 8, 8);
    }
    scripted_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    scripted_closed(fd);
    close(fd);
}

/* The socket does not take the head at once. */
static void test_large_head(void **state)
{
    size_t n = 8 << 20;
    char *value = malloc(n);
    struct scripted *s = calloc(1, sizeof *s);
    int listener = scripted_listener(8, &s->port);
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    memset(value, 'v', n);
    headers_add(&c->headers, &c->arena, STR("X-Large"), (struct str){ value, n });
    call_with_body(c, "body", 4);
    s->number =
        n + strlen("POST / HTTP/1.1\r\nHost: up\r\nX-Large: \r\nContent-Length: 4\r\n\r\nbody");
    scripted_start_on(s, listener, read_late);
    assert_answer(call_run(c), 200, "ok");
    client_close();
    scripted_join(s);
    assert_memory_equal(s->got, "\r\n\r\nbody", 8);
    scripted_free(s);
    free(value);
}

static void answer_early(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_write(fd, s->text, s->text_n);
    s->number = scripted_closed(fd);
    close(fd);
}

/* The answer comes before the body is sent: taken, and the connection closed. */
static void test_early_answer(void **state)
{
    struct scripted *s =
        scripted_start(answer_early, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    c->r.framing = HTTP1_BODY_LENGTH;
    c->r.content_length = 1000;
    c->upload = STR("a beginning");
    c->upload_complete = false;
    call_run(c);
    http_upload(&c->x, STR("a beginning, and more"), false);
    assert_int_equal(http_upload_drop(&c->x, false), 21); /* nobody wants it now */
    assert_answer(c, 413, "no");
    scripted_join(s);
    assert_int_equal(s->number, 1);
    end(s);
}

/* The same, but the upstream closes at once: the answer must be found behind the broken pipe. */
static void answer_early_and_close(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    usleep(30000);
    scripted_write(fd, s->text, s->text_n);
    shutdown(fd, SHUT_RDWR);
    usleep(100000);
    close(fd);
}

static void test_early_answer_and_close(void **state)
{
    size_t n = 8 << 20;
    char *bytes = calloc(1, n);
    struct scripted *s =
        scripted_start(answer_early_and_close, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
    struct call *c = call_new("POST", "127.0.0.1", s->port);

    (void)state;
    c->r.framing = HTTP1_BODY_LENGTH;
    c->r.content_length = n;
    c->upload = (struct str){ bytes, 10 };
    c->upload_complete = false;
    c->hold_back = true;
    call_start(c);
    turn_for(15);
    usleep(60000);         /* answer and end are there before the rest is written */
    n -= 10 - c->upload.n; /* those that were dropped meanwhile */
    c->upload = (struct str){ c->upload.p, n };
    c->upload_complete = true;
    http_upload(&c->x, c->upload, true);
    turn_until(&c->head_done);
    turn_for(200);
    assert_true(c->x.up.abandoned);
    assert_int_equal(http_upload_drop(&c->x, false), c->upload.n);
    call_read(c);
    turn_until(&c->ended);
    assert_answer(c, 413, "no");
    free(bytes);
    end(s);
}

/* ---- bodies down ---- */

#define FLOOD_BYTES ((size_t)12 << 20)

static void flood(struct scripted *s)
{
    int fd = scripted_accept(s);
    static char bytes[4096];
    char head[100];

    memset(bytes, 'x', sizeof bytes);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", FLOOD_BYTES);
    scripted_head(s, fd);
    scripted_say(fd, head);
    for (size_t n = 0; n < FLOOD_BYTES && scripted_write(fd, bytes, sizeof bytes);
         n += sizeof bytes)
        __atomic_fetch_add(&s->number, sizeof bytes, __ATOMIC_RELAXED);
    scripted_closed(fd);
    close(fd);
}

static void test_back_pressure(void **state)
{
    struct scripted *s = scripted_start(flood, NULL);
    struct call *c = call_new("GET", "127.0.0.1", s->port);
    struct str piece;

    (void)state;
    c->hold_back = true;
    c->r.read_ms = 400; /* runs only while the upstream is waited for */
    call_start(c);
    turn_until(&c->head_done);
    while (http_body_next(&c->x, &piece) == HTTP1_MORE) /* the head came alone */
        turn_for(5);
    assert_int_equal(http_body_next(&c->x, &piece), HTTP1_PIECE);
    turn_for(700);
    assert_true(__atomic_load_n(&s->number, __ATOMIC_RELAXED) < FLOOD_BYTES);
    assert_true(c->x.in.cap_bytes <= RBUF_LARGE_BYTES);
    assert_int_equal(http_body_next(&c->x, &piece), HTTP1_PIECE);
    c->hold_back = false;
    call_read(c);
    turn_until(&c->ended);
    assert_int_equal(c->code, 0);
    assert_int_equal(c->body.n, FLOOD_BYTES);
    assert_null(c->x.in.p);
    call_free(c);
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_large_upload),  T(test_large_head),   T(test_chunked_upload),
        T(test_wrong_length),  T(test_early_answer), T(test_early_answer_and_close),
        T(test_back_pressure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
