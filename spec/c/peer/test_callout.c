/*
 * peer/callout: what is sent, and where to. The server is a thread with a script.
 */
#include "callouts.h"
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/wait.h>

static void test_get(void **state)
{
    struct scripted *s = scripted_start(
        answer_all, "HTTP/1.1 203 Maybe\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello");
    struct callout *c = make("http://127.0.0.1:%u/a/../b?q=%%20#fragment", s->port);

    (void)state;
    add_header(c, "X-Token", "secret");
    add_header(c, "X-Empty", "");
    run(c);
    assert_string_equal(field(c, "x-a"), "b");
    assert_null(field(c, "x-b"));
    assert_answer(c, 203, "hello");
    end(s);
    assert_non_null(strstr(s->got, "GET /a/../b?q=%20 HTTP/1.1\r\n"));
    assert_non_null(strstr(s->got, "\r\nUser-Agent: weir/"));
    assert_non_null(strstr(s->got, "\r\nX-Token: secret\r\n"));
    assert_non_null(strstr(s->got, "\r\nX-Empty:\r\n"));
    assert_null(strstr(s->got, "Content-"));
    scripted_free(s);
}

static void test_connection_is_kept(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");
    end(s);
    assert_int_equal(s->connected, 1);
    assert_int_equal(s->number, 5);
    scripted_free(s);
}

static void answer_two_connections(struct scripted *s)
{
    for (int i = 0; i < 2; i++)
        answer_all(s);
}

static void test_connections_are_closed_at_rest(void **state)
{
    struct scripted *s =
        scripted_start(answer_two_connections, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    struct callout *c;

    (void)state;
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");
    c = make("http://127.0.0.1:%u/", s->port);
    the_ended = 0;
    start(c);
    callouts_rest(the_callouts); /* not while one is under way */
    turn_until(1);
    assert_answer(c, 200, "ok");
    assert_int_equal(s->connected, 1);
    callouts_rest(the_callouts);
    callouts_rest(the_callouts);
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");
    end(s);
    assert_int_equal(s->connected, 2);
    assert_int_equal(s->number, 3);
    scripted_free(s);
}

/* Answers with the body of the request. */
static void echo(struct scripted *s)
{
    int fd = scripted_accept(s);
    char head[100];

    while (scripted_head(s, fd)) {
        const char *length = strstr(s->got, "Content-Length: ");
        size_t n = length ? strtoul(length + 16, NULL, 10) : 0;

        scripted_body(s, fd, n);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
        scripted_say(fd, head);
        scripted_write(fd, s->body, n);
    }
    close(fd);
}

static void test_bodies(void **state)
{
    struct scripted *s = scripted_start(echo, NULL);
    struct callout *c = make("http://127.0.0.1:%u/", s->port);
    char large[60000];

    (void)state;
    memset(large, 'x', sizeof large);
    set(c, CALLOUT_METHOD, "POST");
    add_header(c, "Content-Type", "application/json");
    assert_int_equal(callout_set_body(c, STR("{\"a\":\"\0\"}")), 0);
    run(c);
    assert_body(c, STR_BYTES("{\"a\":\"\0\"}"));
    callout_free(c);
    assert_non_null(strstr(s->got, "Content-Type: application/json\r\n"));
    assert_null(strstr(s->got, "Expect"));

    c = make("http://127.0.0.1:%u/", s->port);
    set(c, CALLOUT_METHOD, "PUT");
    assert_int_equal(callout_set_body(c, (struct str){ large, sizeof large }), 0);
    run(c);
    assert_body(c, large, sizeof large);
    callout_free(c);
    assert_int_equal(strncmp(s->got, "PUT / ", 6), 0);
    assert_null(strstr(s->got, "Content-Type"));

    c = make("http://127.0.0.1:%u/", s->port);
    set(c, CALLOUT_METHOD, "POST");
    assert_answer(run(c), 200, "");
    assert_non_null(strstr(s->got, "Content-Length: 0\r\n"));

    c = make("http://127.0.0.1:%u/", s->port);
    assert_int_equal(callout_set_body(c, STR("of a GET")), 0);
    assert_answer(run(c), 200, "of a GET");
    assert_int_equal(strncmp(s->got, "GET / ", 6), 0);
    end(s);
    scripted_free(s);
}

/* Wants to be asked before it takes the body. */
static void continue_first(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    s->number = s->body_n; /* came unasked */
    scripted_say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    scripted_body(s, fd, 4);
    scripted_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    scripted_closed(fd);
    close(fd);
}

static void test_expect(void **state)
{
    struct scripted *s = scripted_start(continue_first, NULL);
    struct callout *c = make("http://127.0.0.1:%u/", s->port);

    (void)state;
    set(c, CALLOUT_METHOD, "POST");
    add_header(c, "Expect", "100-continue");
    assert_int_equal(callout_set_body(c, STR("body")), 0);
    assert_answer(run(c), 200, "ok");
    end(s);
    assert_non_null(strstr(s->got, "\r\nExpect: 100-continue\r\n"));
    assert_int_equal(s->number, 0);
    scripted_free(s);
}

static void test_head(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\n");

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct callout *c = make("http://127.0.0.1:%u/", s->port);

        set(c, CALLOUT_METHOD, "HEAD");
        run(c);
        assert_string_equal(field(c, "X-A"), "b");
        assert_answer(c, 200, "");
        assert_int_equal(strncmp(s->got, "HEAD / ", 7), 0);
    }
    end(s);
    assert_int_equal(s->connected, 1);
    scripted_free(s);
}

static void test_head_with_a_body(void **state)
{
    struct callout *c = make("http://127.0.0.1:1/");

    (void)state;
    set(c, CALLOUT_METHOD, "HEAD");
    assert_int_equal(callout_set_body(c, STR("x")), 0);
    assert_int_equal(callout_start(c), ERR_SYNTAX);
    assert_failure(c, ERR_SYNTAX, "a HEAD request has no body", NULL);
}

static void assert_refused_header(const char *name, const char *value, int code)
{
    struct callout *c = make("http://127.0.0.1:1/");

    assert_int_equal(callout_add_header(c, str_from(name), str_from(value)), code);
    callout_free(c);
}

static void test_headers_that_cannot_be(void **state)
{
    (void)state;
    assert_refused_header("X-A", "a\r\nX-Evil: 1", ERR_SYNTAX);
    assert_refused_header("X-A", "a\nX-Evil: 1", ERR_SYNTAX);
    assert_refused_header("X A", "a", ERR_SYNTAX);
    assert_refused_header("X-A:", "a", ERR_SYNTAX);
    assert_refused_header("", "a", ERR_SYNTAX);
    assert_refused_header("content-length", "1", ERR_SYNTAX);
    assert_refused_header("Transfer-Encoding", "chunked", ERR_SYNTAX);
}

static void test_bounds_of_requests(void **state)
{
    struct callout *c = make("http://127.0.0.1:1/");
    static char large[CALLOUT_BODY_BYTES_MAX + 1];

    (void)state;
    memset(large, 'a', sizeof large);
    assert_int_equal(callout_set_body(c, (struct str){ large, sizeof large }), ERR_BOUND);
    assert_int_equal(callout_set_text(c, CALLOUT_URL, (struct str){ large, 20000 }), ERR_BOUND);
    assert_int_equal(callout_set_text(c, CALLOUT_UNIX_SOCKET, (struct str){ large, 108 }),
                     ERR_BOUND);
    assert_int_equal(callout_set_text(c, CALLOUT_METHOD, (struct str){ large, 33 }), ERR_BOUND);
    assert_int_equal(callout_add_header(c, STR("X-A"), (struct str){ large, 66000 }), ERR_BOUND);
    for (int i = 0; i < CALLOUT_HEADERS_MAX; i++)
        add_header(c, "X-A", "b");
    assert_int_equal(callout_add_header(c, STR("X-A"), STR("b")), ERR_BOUND);
    assert_int_equal(callout_set_number(c, CALLOUT_TIMEOUT_MS, 0), ERR_BOUND);
    assert_int_equal(callout_set_number(c, CALLOUT_MAX_BYTES, INT64_C(1) << 40), ERR_BOUND);
    assert_int_equal(callout_set_text(c, CALLOUT_METHOD, STR("CONNECT")), ERR_SYNTAX);
    assert_int_equal(callout_set_text(c, CALLOUT_METHOD, STR("A B")), ERR_SYNTAX);
    assert_int_equal(callout_set_text(c, CALLOUT_CA_FILE, STR("")), ERR_SYNTAX);
    callout_free(c);
}

static void assert_refused_url(const char *url, const char *text)
{
    struct callout *c = make("%s", url);

    if (callout_start(c) == 0)
        fail_msg("%s", url);
    assert_true(callout_status(c) < 0);
    assert_string_equal(callout_error(c), text);
    callout_free(c);
}

static void test_urls_that_cannot_be(void **state)
{
    static const char *const invalid[] = { "127.0.0.1",    "http://",     "://x",
                                           "http://[::1",  "http://a b/", "http://a:99999/",
                                           "http://a/b c", "http://a:b/" };
    static const char *const others[] = { "ftp://127.0.0.1/secret", "file:///etc/passwd",
                                          "gopher://127.0.0.1:1/x" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++)
        assert_refused_url(invalid[i], "the URL is invalid");
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_refused_url(others[i], "the URL is neither http nor https");
    assert_refused_url("http://user:secret@127.0.0.1:1/", "the URL has a user in it");
    assert_refused_url("http://user@127.0.0.1:1/", "the URL has a user in it");
}

static void test_no_proxy_unless_asked_for(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    struct callout *c;
    char proxy[100];

    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("no_proxy", "proxied.invalid", 1);
    assert_answer(run(make("http://127.0.0.1:%u/", s->port)), 200, "ok");

    c = make("http://127.0.0.1:%u/", s->port);
    set(c, CALLOUT_PROXY, "");
    assert_failure(run(c), ERR_CLOSED, "cannot connect to the proxy: Connection refused", NULL);

    end_and_begin(s);
    s = scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    c = make("http://proxied.invalid/x");
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", s->port);
    set(c, CALLOUT_PROXY, proxy);
    assert_answer(run(c), 200, "ok");
    unsetenv("http_proxy");
    unsetenv("no_proxy");
    end(s);
    assert_non_null(strstr(s->got, "GET http://proxied.invalid/x HTTP/1.1\r\n"));
    scripted_free(s);
}

static void test_proxy_that_refuses(void **state)
{
    struct scripted *s =
        scripted_start(answer_once, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    struct callout *c = make("https://behind.invalid/?secret");
    char proxy[100];

    (void)state;
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", s->port);
    set(c, CALLOUT_PROXY, proxy);
    assert_failure(run(c), ERR_CLOSED, "the proxy does not lead to behind.invalid:443", NULL);
    end(s);
    assert_non_null(strstr(s->got, "CONNECT behind.invalid:443 HTTP/1.1\r\n"));
    scripted_free(s);
}

static void test_ipv6(void **state)
{
    struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    socklen_t n = sizeof in;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct scripted *s = calloc(1, sizeof *s);

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    s->text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    s->text_n = strlen(s->text);
    scripted_start_on(s, fd, answer_all);
    assert_answer(run(make("http://[::1]:%u/", ntohs(in.sin6_port))), 200, "ok");
    end(s);
    assert_non_null(strstr(s->got, "\r\nHost: [::1]:"));
    scripted_free(s);
}

static void test_unix_socket(void **state)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct scripted *s = calloc(1, sizeof *s);
    struct callout *c;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    snprintf(un.sun_path, sizeof un.sun_path, "/tmp/weir-spec-callout-%d", (int)getpid());
    unlink(un.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 8), 0);
    s->text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    s->text_n = strlen(s->text);
    scripted_start_on(s, fd, answer_all);
    c = make("http://some.invalid/v1");
    set(c, CALLOUT_UNIX_SOCKET, un.sun_path);
    assert_answer(run(c), 200, "ok");
    assert_non_null(strstr(s->got, "\r\nHost: some.invalid\r\n"));
    unlink(un.sun_path);

    c = make("http://some.invalid/v1");
    set(c, CALLOUT_UNIX_SOCKET, "/nowhere/at.all");
    run(c);
    assert_string_equal(callout_error(c),
                        "cannot connect to unix:/nowhere/at.all: No such file or directory");
    end(s);
    scripted_free(s);
}

/* A certificate and its key, which a passphrase opens. */
static void write_locked_pem(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    FILE *f = fopen(path, "w");

    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0 && PEM_write_X509(f, x) == 1);
    assert_int_equal(PEM_write_PrivateKey(f, key, EVP_aes_128_cbc(), (const unsigned char *)"pass",
                                          4, NULL, NULL),
                     1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* In a process that has somebody to ask, but nobody who answers. */
static void test_nobody_is_asked_for_a_passphrase(void **state)
{
    struct scripted *s =
        scripted_start(answer_once, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    struct callout *c = make("https://127.0.0.1:%u/", s->port);
    char path[] = "/tmp/weir-spec-key-XXXXXX";
    int fds[2], status = -1;
    pid_t child;

    (void)state;
    close(mkstemp(path));
    write_locked_pem(path);
    set(c, CALLOUT_CERT_FILE, path);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        setsid(); /* no terminal, so that it is standard input that would be asked */
        dup2(fds[0], 0);
        run(c);
        _exit(strncmp(callout_error(c), "certificate ", 12) == 0 ? 0 : 1);
    }
    for (int i = 0; i < 200 && waitpid(child, &status, WNOHANG) == 0; i++)
        usleep(20000);
    if (kill(child, SIGKILL) == 0) /* it waits for the answer */
        waitpid(child, &status, 0);
    unlink(path);
    close(fds[0]);
    close(fds[1]);
    callout_free(c);
    shutdown(s->listener, SHUT_RDWR);
    end(s);
    scripted_free(s);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_get),
        T(test_connection_is_kept),
        T(test_connections_are_closed_at_rest),
        T(test_bodies),
        T(test_expect),
        T(test_head),
        T(test_head_with_a_body),
        T(test_headers_that_cannot_be),
        T(test_bounds_of_requests),
        T(test_urls_that_cannot_be),
        T(test_no_proxy_unless_asked_for),
        T(test_proxy_that_refuses),
        T(test_ipv6),
        T(test_unix_socket),
        T(test_nobody_is_asked_for_a_passphrase),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
