/*
 * peer/callout: what is made of responses of every kind, cut at every byte,
 * broken, too large and malicious. The server is a thread with a script.
 */
#include "callouts.h"

/* Answers each request of one connection cut at the next place, then byte by byte. */
static void answer_cut(struct scripted *s)
{
    int fd = scripted_accept(s);

    for (size_t cut = 1; cut < s->text_n && scripted_head(s, fd); cut++) {
        scripted_write(fd, s->text, cut);
        usleep(300);
        scripted_write(fd, s->text + cut, s->text_n - cut);
    }
    if (scripted_head(s, fd))
        for (size_t i = 0; i < s->text_n; i++) {
            scripted_write(fd, s->text + i, 1);
            usleep(200);
        }
    scripted_closed(fd);
    close(fd);
}

static void cut_everywhere(const char *text, int status, const char *body)
{
    struct scripted *s = scripted_start(answer_cut, text);

    for (size_t i = 0; i < s->text_n; i++)
        assert_answer(run(make("http://127.0.0.1:%u/", s->port)), status, body);
    end(s);
    assert_int_equal(s->connected, 1);
    scripted_free(s);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    cut_everywhere("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", 200, "hello");
}

static void test_chunks_cut_anywhere(void **state)
{
    (void)state;
    cut_everywhere(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
        "0\r\nX-T: t\r\n\r\n",
        200, "abcde");
}

static void test_no_body(void **state)
{
    (void)state;
    cut_everywhere("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204, "");
    set_up(state);
    cut_everywhere("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, "");
}

static void test_redirects_are_not_followed(void **state)
{
    struct scripted *s = scripted_start(
        answer_all,
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    struct callout *c = run(make("http://127.0.0.1:%u/", s->port));

    (void)state;
    assert_string_equal(field(c, "location"), "http://127.0.0.1:1/");
    assert_answer(c, 302, "");
    end(s);
    scripted_free(s);
}

static void test_cookies_are_not_kept(void **state)
{
    struct scripted *s = scripted_start(
        answer_all, "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n");

    (void)state;
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "");
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "");
    end(s);
    assert_null(strstr(s->got, "Cookie"));
    scripted_free(s);
}

/* What interim responses and trailers say is not the response's. */
static void test_interim_responses_and_trailers(void **state)
{
    struct scripted *s = scripted_start(
        answer_once, "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                     "X-B: 1\r\n\r\nHTTP/1.1 201 Created\r\nX-C: 1\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-D: 1\r\n\r\n");
    struct callout *c = run(make("http://127.0.0.1:%u/", s->port));

    (void)state;
    assert_null(field(c, "X-A"));
    assert_null(field(c, "X-B"));
    assert_string_equal(field(c, "X-C"), "1");
    assert_null(field(c, "X-D"));
    assert_answer(c, 201, "x");
    end(s);
    scripted_free(s);
}

static void test_body_to_the_end(void **state)
{
    struct scripted *s = scripted_start(answer_once, "HTTP/1.0 200 OK\r\n\r\nall of it");

    (void)state;
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "all of it");
    end(s);
    scripted_free(s);
}

static void answer_and_fail(const char *text, int code, const char *error)
{
    struct scripted *s = scripted_start(answer_once, text);

    assert_failure(run(make("http://127.0.0.1:%u/?secret", s->port)), code, error, s);
    end_and_begin(s);
}

static void test_broken_responses(void **state)
{
    const char *closed = "@ closed the connection before the end of its response";
    const char *no_http = "@ does not speak HTTP";

    (void)state;
    answer_and_fail("", ERR_CLOSED, closed);
    answer_and_fail("HTTP/1.1 200 OK\r\nContent-Le", ERR_CLOSED, closed);
    answer_and_fail("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", ERR_CLOSED, closed);
    answer_and_fail("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", ERR_CLOSED,
                    closed);
    answer_and_fail("HTTP/1.1 100 Continue\r\n\r\n", ERR_CLOSED, closed);
    answer_and_fail("secret garbage\r\n\r\n", ERR_SYNTAX, no_http);
    answer_and_fail("HTTP/1.1 200 OK\r\nsecret without colon\r\n\r\n", ERR_SYNTAX, no_http);
    answer_and_fail("HTTP/1.1 200 OK\r\nX-A: b\r\n  folded\r\nContent-Length: 0\r\n\r\n",
                    ERR_SYNTAX, no_http);
    answer_and_fail("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n", ERR_SYNTAX,
                    no_http);
}

static char *repeat(const char *head, const char *line, int n, const char *tail)
{
    char *text = malloc(strlen(head) + strlen(line) * (size_t)n + strlen(tail) + 1);
    char *p = stpcpy(text, head);

    while (n-- > 0)
        p = stpcpy(p, line);
    strcpy(p, tail);
    return text;
}

static void fail_with_many(const char *head, const char *line, int n, const char *tail,
                           const char *error)
{
    char *text = repeat(head, line, n, tail);

    answer_and_fail(text, ERR_BOUND, error);
    free(text);
}

static void test_bounds_of_heads(void **state)
{
    const char *ok = "HTTP/1.1 200 OK\r\n", *tail = "Content-Length: 0\r\n\r\n";
    const char *error = "more than 256 header fields, or 65536 bytes of them";
    char large[70000];

    (void)state;
    memset(large, 'v', sizeof large);
    memcpy(large, "X: ", 3);
    strcpy(large + sizeof large - 3, "\r\n");
    fail_with_many(ok, "X: y\r\n", 256, tail, error);
    fail_with_many(ok, large, 1, tail, error);
    strcpy(large + 1000, "\r\n");
    fail_with_many(ok, large, 70, tail, error);
    fail_with_many("", "HTTP/1.1 100 Continue\r\n\r\n", 5000, tail, error);
    fail_with_many("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", large, 70, "\r\n",
                   "more than 1048576 bytes");
}

static void test_many_fields(void **state)
{
    char *text = repeat("HTTP/1.1 200 OK\r\n", "X: y\r\n", 255, "Content-Length: 0\r\n\r\n");
    struct scripted *s = scripted_start(answer_once, text);
    struct callout *c = run(make("http://127.0.0.1:%u/", s->port));
    struct str name, value;

    (void)state;
    assert_int_equal(callout_header_at(c, 255, &name, &value), 0);
    assert_true(str_eq(value, STR("0")));
    assert_int_equal(callout_header_at(c, 256, &name, &value), -1);
    assert_answer(c, 200, "");
    end(s);
    free(text);
    scripted_free(s);
}

static struct callout *at_most(struct scripted *s, int bytes)
{
    struct callout *c = make("http://127.0.0.1:%u/", s->port);

    set_number(c, CALLOUT_MAX_BYTES, bytes);
    return run(c);
}

static void test_bounds_of_bodies(void **state)
{
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct scripted *s = scripted_start(answer_once, texts[i]);

        assert_answer(at_most(s, 5), 200, "hello");
        end_and_begin(s);
        s = scripted_start(answer_once, texts[i]);
        assert_failure(at_most(s, 4), ERR_BOUND, "more than 4 bytes", NULL);
        end_and_begin(s);
        s = scripted_start(answer_once, texts[i]);
        assert_failure(at_most(s, 0), ERR_BOUND, "more than 0 bytes", NULL);
        end_and_begin(s);
    }
}

static void test_large_body(void **state)
{
    size_t n = 1 << 20;
    char *text = malloc(n + 100), *body;
    struct scripted *s;
    struct callout *c;

    (void)state;
    body = text + sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
    for (size_t i = 0; i < n; i++)
        body[i] = (char)('a' + i % 23);
    body[n] = '\0';
    s = scripted_start(answer_once, text);
    c = run(make("http://127.0.0.1:%u/", s->port));
    assert_int_equal(callout_status(c), 200);
    assert_body(c, body, n);
    end(s);
    free(text);
    scripted_free(s);
}

static void drop_after_head(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_say(fd, s->text);
    usleep(20000);
    scripted_reset(fd);
}

static void test_reset(void **state)
{
    struct scripted *s =
        scripted_start(drop_after_head, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");

    (void)state;
    assert_failure(run(make("http://127.0.0.1:%u/", s->port)), ERR_CLOSED,
                   "@ broke off the connection", s);
    end(s);
    scripted_free(s);
}

static void test_refused(void **state)
{
    (void)state;
    assert_failure(run(make("http://127.0.0.1:1/?secret")), ERR_CLOSED,
                   "cannot connect to 127.0.0.1:1: Connection refused", NULL);
    assert_failure(run(make("http://[::1]:1/?secret")), ERR_CLOSED,
                   "cannot connect to [::1]:1: Connection refused", NULL);
    assert_failure(run(make("http://no-such-name.invalid/?secret")), ERR_SYSTEM,
                   "cannot connect to no-such-name.invalid:80: the name has no address", NULL);
}

/* Answers before the body is there, or does not answer at all. */
static void refuse_early(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    if (s->text_n == 0) {
        scripted_reset(fd);
        return;
    }
    scripted_write(fd, s->text, s->text_n);
    scripted_closed(fd);
    close(fd);
}

static struct callout *upload(struct scripted *s)
{
    static char large[8 << 20];
    struct callout *c = make("http://127.0.0.1:%u/", s->port);

    set(c, CALLOUT_METHOD, "PUT");
    assert_int_equal(callout_set_body(c, (struct str){ large, sizeof large }), 0);
    return run(c);
}

static void test_upload_that_nobody_wants(void **state)
{
    struct scripted *s =
        scripted_start(refuse_early, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    struct callout *c;

    (void)state;
    assert_answer(upload(s), 413, "no");
    end_and_begin(s);
    s = scripted_start(refuse_early, "");
    c = upload(s);
    assert_int_equal(callout_status(c), ERR_CLOSED);
    end(s);
    scripted_free(s);
}

/* A kept connection that the server has closed meanwhile is not the caller's trouble. */
static void answer_twice(struct scripted *s)
{
    for (int i = 0; i < 2; i++) {
        int fd = scripted_accept(s);

        if (scripted_head(s, fd))
            scripted_write(fd, s->text, s->text_n);
        usleep(20000);
        close(fd);
    }
}

static void test_connection_closed_meanwhile(void **state)
{
    struct scripted *s =
        scripted_start(answer_twice, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

    (void)state;
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");
    turn_for(60);
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");
    end(s);
    assert_int_equal(s->connected, 2);
    scripted_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_cut_anywhere),
        T(test_chunks_cut_anywhere),
        T(test_no_body),
        T(test_redirects_are_not_followed),
        T(test_cookies_are_not_kept),
        T(test_interim_responses_and_trailers),
        T(test_body_to_the_end),
        T(test_broken_responses),
        T(test_bounds_of_heads),
        T(test_many_fields),
        T(test_bounds_of_bodies),
        T(test_large_body),
        T(test_reset),
        T(test_refused),
        T(test_upload_that_nobody_wants),
        T(test_connection_closed_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
