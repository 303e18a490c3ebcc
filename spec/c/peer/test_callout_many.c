/*
 * peer/callout in time: what waits too long, is cancelled, or comes in numbers; that nothing
 * holds up the loop, and that nothing of an exchange stays in memory.
 */
#include "../needle.h"
#include "callouts.h"
#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <sys/wait.h>

#define SLOW_NAME "slow.invalid"
#define MANY 150

/* ---- names ---- */

static unsigned the_lookups;
static bool the_lookup_goes_on;

/* libcurl's: the slow name takes until it is told to end, or two seconds. */
EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out)
{
    static struct addrinfo answer;
    static struct sockaddr_in in;
    bool is_slow = node && strcmp(node, SLOW_NAME) == 0;

    if (is_slow) {
        __atomic_add_fetch(&the_lookups, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < 400 && __atomic_load_n(&the_lookup_goes_on, __ATOMIC_SEQ_CST); i++)
            usleep(5000);
        __atomic_sub_fetch(&the_lookups, 1, __ATOMIC_SEQ_CST);
        return EAI_NONAME;
    }
    in = (struct sockaddr_in){ .sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(service ? service : "0")),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    answer = (struct addrinfo){ .ai_family = AF_INET,
                                .ai_socktype = hints ? hints->ai_socktype : SOCK_STREAM,
                                .ai_addr = (struct sockaddr *)&in,
                                .ai_addrlen = sizeof in };
    *out = &answer;
    return 0;
}

EXPORT void freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

static void end_lookups(void)
{
    __atomic_store_n(&the_lookup_goes_on, false, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 1000 && __atomic_load_n(&the_lookups, __ATOMIC_SEQ_CST); i++)
        usleep(5000);
    usleep(50000); /* libcurl's thread frees what it held */
}

static void test_slow_name(void **state)
{
    struct callout *c = make("http://" SLOW_NAME "/?secret"), *gone;
    int64_t before_us;

    (void)state;
    __atomic_store_n(&the_lookup_goes_on, true, __ATOMIC_SEQ_CST);
    set_number(c, CALLOUT_CONNECT_TIMEOUT_MS, 100);
    the_ended = 0;
    start(c);
    assert_true(turn_until(1) < 1000);
    assert_failure(c, ERR_TIMEOUT, "cannot connect to " SLOW_NAME ":80: timeout", NULL);

    c = make("http://" SLOW_NAME "/");
    set_number(c, CALLOUT_TIMEOUT_MS, 100);
    the_ended = 0;
    start(c);
    assert_true(turn_until(1) < 1000);
    assert_failure(c, ERR_TIMEOUT, "timeout", NULL);

    gone = start(make("http://" SLOW_NAME "/"));
    turn_for(50);
    before_us = clock_mono_us_exact();
    op_cancel(callout_op(gone));
    callout_free(gone);
    start(make("http://" SLOW_NAME "/")); /* is there at the end */
    turn_for(20);
    tear_down(state);
    assert_true(clock_mono_us_exact() - before_us < 1000000);
    end_lookups();
}

static void test_name(void **state)
{
    struct scripted *s =
        scripted_start(answer_all, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

    (void)state;
    assert_answer(run(make("http://some.example:%u/", s->port)), 200, "ok");
    end(s);
    assert_non_null(strstr(s->got, "\r\nHost: some.example:"));
    scripted_free(s);
}

/* ---- time ---- */

/* Takes a connection, says the text, and is silent until the other side closes. */
static void be_silent(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_write(fd, s->text, s->text_n);
    s->number = scripted_closed(fd);
    close(fd);
}

static void test_timeout(void **state)
{
    static const char *const texts[] = { "", "HTTP/1.1 200 OK\r\nX-A:",
                                         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsec" };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct scripted *s = scripted_start(be_silent, texts[i]);
        struct callout *c = make("http://127.0.0.1:%u/?secret", s->port);
        int64_t begun_us = clock_mono_us_exact();

        set_number(c, CALLOUT_TIMEOUT_MS, 150);
        assert_failure(run(c), ERR_TIMEOUT, "timeout", NULL);
        assert_true(clock_mono_us_exact() - begun_us > 140000);
        scripted_join(s); /* the connection is closed at once */
        assert_true(s->number);
        scripted_free(s);
        tear_down(state);
        set_up(state);
    }
}

static void trickle(struct scripted *s)
{
    int fd = scripted_accept(s);

    scripted_head(s, fd);
    scripted_say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    for (int i = 0; i < 400 && scripted_write(fd, "x", 1); i++)
        usleep(10000);
    close(fd);
}

/* A server that always says a little more does not get more time for it. */
static void test_timeout_of_the_whole(void **state)
{
    struct scripted *s = scripted_start(trickle, NULL);
    struct callout *c = make("http://127.0.0.1:%u/", s->port);

    (void)state;
    set_number(c, CALLOUT_TIMEOUT_MS, 200);
    assert_failure(run(c), ERR_TIMEOUT, "timeout", NULL);
    end(s);
    scripted_free(s);
}

/* A listener whose backlog is full takes no connection. */
static void test_not_taken(void **state)
{
    unsigned port;
    int listener = scripted_listener(0, &port), fillers[4];
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)port) };
    struct callout *c = make("http://127.0.0.1:%u/?secret", port);
    struct scripted there = { .port = port };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(connect(fillers[i], (struct sockaddr *)&in, sizeof in) != 0);
    }
    set_number(c, CALLOUT_CONNECT_TIMEOUT_MS, 150);
    assert_failure(run(c), ERR_TIMEOUT, "cannot connect to @: timeout", &there);
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++)
        close(fillers[i]);
    close(listener);
}

/* ---- cancelled ---- */

static void test_cancelled(void **state)
{
    struct scripted *s = scripted_start(be_silent, "HTTP/1.1 200 OK\r\n");
    struct callout *c = start(make("http://127.0.0.1:%u/", s->port));

    (void)state;
    the_ended = 0;
    turn_for(50);
    op_cancel(callout_op(c));
    scripted_join(s);
    assert_true(s->number);
    turn_for(20);
    assert_int_equal(the_ended, 0);
    assert_int_equal(callout_status(c), ERR_CANCELLED);
    callout_free(c);
    scripted_free(s);
}

static void test_freed_while_it_runs(void **state)
{
    struct scripted *s = scripted_start(be_silent, "HTTP/1.1 200 OK\r\n");

    (void)state;
    start(make("http://127.0.0.1:%u/", s->port));
    callout_free(start(make("http://127.0.0.1:1/")));
    turn_for(50);
    callout_new(the_callouts);
    end(s); /* also the others */
    assert_true(s->number);
    scripted_free(s);
}

/* ---- many ---- */

/* Takes all connections that come; answers when none has come for a while. */
static void answer_late(struct scripted *s)
{
    int fds[MANY], n = 0;
    char sink[4096];

    for (size_t left = s->number; left;) {
        struct pollfd p = { .fd = s->listener, .events = POLLIN };

        if (n < MANY && poll(&p, 1, 300) == 1) {
            fds[n++] = accept(s->listener, NULL, NULL);
            continue;
        }
        if (n == 0)
            return;
        if ((size_t)n > s->body_n)
            s->body_n = (size_t)n; /* the most at once */
        while (n > 0) {
            int fd = fds[--n];

            if (recv(fd, sink, sizeof sink, 0) > 0)
                scripted_say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok");
            close(fd);
            left--;
        }
    }
}

static void test_many(void **state)
{
    struct scripted *s = calloc(1, sizeof *s);
    struct callout *all[MANY];

    (void)state;
    s->number = MANY;
    scripted_start_on(s, scripted_listener(256, &s->port), answer_late);
    the_ended = 0;
    for (int i = 0; i < MANY; i++)
        all[i] = start(make("http://127.0.0.1:%u/", s->port));
    turn_until(MANY);
    for (int i = 0; i < MANY; i++)
        assert_answer(all[i], 200, "ok");
    end(s);
    assert_int_equal(s->body_n, CALLOUTS_AT_ONCE);
    scripted_free(s);
}

/* Its time runs from its start, not from the end of the queue. */
static void test_too_many(void **state)
{
    unsigned port;
    int listener = scripted_listener(256, &port);
    struct callout *c;

    (void)state;
    the_ended = 0;
    for (int i = 0; i < CALLOUTS_AT_ONCE; i++)
        start(make("http://127.0.0.1:%u/", port));
    for (int i = 0; i < CALLOUTS_WAITING; i++) {
        c = make("http://127.0.0.1:%u/", port);
        set_number(c, CALLOUT_TIMEOUT_MS, i % 2 ? 100 : 60000);
        start(c);
        if (i % 4 == 0)
            op_cancel(callout_op(c));
    }
    turn_until(CALLOUTS_WAITING / 2);
    for (int i = 0; i < CALLOUTS_WAITING / 4 * 3; i++)
        start(make("http://127.0.0.1:%u/", port));
    c = make("http://127.0.0.1:%u/", port);
    assert_int_equal(callout_start(c), ERR_BOUND);
    assert_failure(c, ERR_BOUND, "too many call-outs at once", NULL);
    close(listener);
}

/* ---- memory ---- */

/* Sends the secret back in a field and in the body; keeps nothing of it itself. */
static void answer_secret(struct scripted *s)
{
    char text[400] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Secret: ";
    size_t n = strlen(text);
    int fd = scripted_accept(s);

    put_secret(text + n);
    n += SECRET_BYTES;
    n += (size_t)sprintf(text + n, "\r\n\r\n28\r\n");
    put_secret(text + n);
    n += SECRET_BYTES;
    n += (size_t)sprintf(text + n, "\r\n0\r\n\r\n");
    scripted_head(s, fd);
    s->number = strstr(s->got, "X-Token: ") != NULL && holds_secret(strstr(s->got, "?") + 1);
    scripted_body(s, fd, SECRET_BYTES);
    scripted_write(fd, text, n);
    explicit_bzero(text, sizeof text);
    explicit_bzero(s->got, sizeof s->got);
    explicit_bzero(s->body, sizeof s->body);
    scripted_closed(fd);
    close(fd);
}

static void ask_for_secret(const char *scheme, unsigned port)
{
    struct callout *c = callout_new(the_callouts);
    char secret[SECRET_BYTES], url[100];
    int n = sprintf(url, "%s://127.0.0.1:%u/?", scheme, port);

    put_secret(secret);
    put_secret(url + n);
    assert_int_equal(
        callout_set_text(c, CALLOUT_URL, (struct str){ url, (size_t)n + SECRET_BYTES }), 0);
    set_number(c, CALLOUT_SSL_VERIFY, 0);
    set(c, CALLOUT_METHOD, "POST");
    assert_int_equal(callout_add_header(c, STR("X-Token"), (struct str){ secret, SECRET_BYTES }),
                     0);
    assert_int_equal(callout_set_body(c, (struct str){ secret, SECRET_BYTES }), 0);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(url, sizeof url);
    run(c);
    assert_int_equal(callout_status(c), 200);
    assert_true(callout_body(c).n == SECRET_BYTES && holds_secret(callout_body(c).p));
    assert_true(count_in_memory() > 2);
    callout_free(c);
}

static void test_memory_is_wiped(void **state)
{
    struct scripted *s;

    (void)state;
    make_needle();
    s = scripted_start(answer_secret, NULL);
    ask_for_secret("http", s->port);
    assert_int_equal(count_in_memory(), 0); /* while the connection is kept */
    end(s);
    assert_true(s->number);
    assert_int_equal(count_in_memory(), 0);
    scripted_free(s);
}

/* A certificate of its own making, for the server's process alone. */
static SSL_CTX *server_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();

    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    if (X509_sign(x, key, EVP_sha256()) == 0 || SSL_CTX_use_certificate(ctx, x) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1)
        abort();
    return ctx;
}

/* As answer_secret, by TLS and in a process of its own: its memory is not looked at. */
static void serve_secret_by_tls(int listener)
{
    char got[8192] = "", text[400] = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n";
    SSL *ssl = SSL_new(server_context());
    size_t n = strlen(text);
    int had = 0;

    SSL_set_fd(ssl, accept(listener, NULL, NULL));
    if (SSL_accept(ssl) != 1)
        _exit(1);
    while (!strstr(got, "\r\n\r\n") || !holds_secret(strstr(got, "\r\n\r\n") + 4)) {
        int more = SSL_read(ssl, got + had, (int)sizeof got - 1 - had);

        if (more <= 0)
            _exit(2);
        had += more;
    }
    put_secret(text + n);
    SSL_write(ssl, text, (int)n + SECRET_BYTES);
    _exit(SSL_read(ssl, got, sizeof got) > 0); /* until the other side closes */
}

static void test_memory_is_wiped_after_tls(void **state)
{
    unsigned port;
    int listener = scripted_listener(1, &port), status;
    pid_t child;

    make_needle();
    child = fork();
    if (child == 0) {
        alarm(20);
        serve_secret_by_tls(listener);
    }
    close(listener);
    ask_for_secret("https", port);
    assert_int_equal(count_in_memory(), 0); /* while the connection is kept */
    tear_down(state);
    assert_int_equal(count_in_memory(), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_slow_name),
        T(test_name),
        T(test_timeout),
        T(test_timeout_of_the_whole),
        T(test_not_taken),
        T(test_cancelled),
        T(test_freed_while_it_runs),
        T(test_many),
        T(test_too_many),
        T(test_memory_is_wiped),
        T(test_memory_is_wiped_after_tls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
