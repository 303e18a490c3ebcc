/*
 * peer/tls below peer/redis_link, against a real redis-server that speaks TLS: who is
 * trusted under which name, and what is said where that ends.
 */
#include "links.h"
#include "redis_server.h"
#include "scripted.h"

static struct redis_server the_server, the_strict;
static char the_ca[96], the_other_ca[96];

static void run(const char *fmt, ...) PRINTF(1, 2);

static void run(const char *fmt, ...)
{
    char command[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    if (system(command) != 0)
        abort();
}

/* NAME.crt and NAME.key in the server's directory: an authority of its own. */
static void make_authority(const char *name)
{
    run("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        "-days 2 -subj /CN=%s -keyout %s.key -out %s.crt 2>/dev/null",
        the_server.dir, name, name, name);
}

/* NAME.crt, signed by ca, for these names. */
static void make_certificate(const char *name, const char *alternatives)
{
    run("cd %s && printf 'subjectAltName=%s' >%s.ext && "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=redis "
        "-keyout %s.key -out %s.csr 2>/dev/null && openssl x509 -req -in %s.csr -CA ca.crt "
        "-CAkey ca.key -CAcreateserial -days 2 -extfile %s.ext -out %s.crt 2>/dev/null",
        the_server.dir, alternatives, name, name, name, name, name, name);
}

static void launch(struct redis_server *s, const char *clients)
{
    char conf[1024];

    snprintf(conf, sizeof conf,
             "port 0\ntls-port %u\ntls-cert-file %s/server.crt\ntls-key-file %s/server.key\n"
             "tls-ca-cert-file %s\ntls-auth-clients %s\nrequirepass secret\n",
             s->port, the_server.dir, the_server.dir, the_ca, clients);
    redis_launch(s, conf);
    redis_await(s, s->port);
}

static int start_servers(void **state)
{
    (void)state;
    redis_prepare(&the_server);
    redis_prepare(&the_strict);
    snprintf(the_ca, sizeof the_ca, "%s/ca.crt", the_server.dir);
    snprintf(the_other_ca, sizeof the_other_ca, "%s/other.crt", the_server.dir);
    make_authority("ca");
    make_authority("other");
    make_certificate("server", "DNS:localhost,DNS:redis.example,IP:127.0.0.1");
    launch(&the_server, "no");
    launch(&the_strict, "yes");
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    redis_stop(&the_strict);
    redis_stop(&the_server);
    return 0;
}

static void open_tls(const char *host, const char *server_name, const char *ca_file)
{
    the_settings.ssl = true;
    the_settings.ssl_verify = ca_file != NULL;
    the_settings.ca_file = ca_file;
    the_settings.server_name = server_name;
    the_settings.password = secret_of("secret");
    link_open(host, the_server.port, REDIS_LINK_DATA);
}

static void assert_refused(int code, const char *reason)
{
    struct question q[2] = { 0 };

    ask(&q[0], "SET trespass 1");
    ask(&q[1], "SET trespass 1");
    assert_failure(&q[0], code, reason);
    assert_failure(&q[1], code, reason);
    assert_int_equal(redis_link_write_count(the_link), 0);
}

static void test_trusted(void **state)
{
    (void)state;
    open_tls("127.0.0.1", NULL, the_ca);
    ASSERT_STATUS("PING", "PONG");
    open_tls("localhost", NULL, the_ca);
    ASSERT_STATUS("PING", "PONG");
    open_tls("127.0.0.1", "redis.example", the_ca);
    ASSERT_STATUS("PING", "PONG");
}

static void test_not_verified(void **state)
{
    (void)state;
    open_tls("127.0.0.1", "elsewhere.example", NULL);
    ASSERT_STATUS("PING", "PONG");
}

static void test_not_trusted(void **state)
{
    (void)state;
    open_tls("127.0.0.1", NULL, the_other_ca);
    assert_refused(ERR_CONFIG, ": TLS: the certificate is not accepted: ");
}

static void test_system_authorities(void **state)
{
    (void)state;
    open_tls("127.0.0.1", NULL, NULL);
    the_settings.ssl_verify = true;
    assert_refused(ERR_CONFIG, ": TLS: the certificate is not accepted: ");
}

static void test_wrong_name(void **state)
{
    (void)state;
    open_tls("127.0.0.1", "elsewhere.example", the_ca);
    assert_refused(ERR_CONFIG, ": TLS: the certificate is not accepted: hostname mismatch");
    open_tls("127.0.0.1", "example", the_ca);
    assert_refused(ERR_CONFIG, ": TLS: the certificate is not accepted: hostname mismatch");
    open_tls("127.0.0.1", "127.0.0.2", the_ca);
    assert_refused(ERR_CONFIG, ": TLS: the certificate is not accepted: IP address mismatch");
}

static void test_no_authorities(void **state)
{
    char key[96];

    (void)state;
    open_tls("127.0.0.1", NULL, "/tmp/weir-no-such-file.pem");
    assert_refused(ERR_CONFIG, ": TLS: /tmp/weir-no-such-file.pem: No such file or directory");
    snprintf(key, sizeof key, "%s/ca.key", the_server.dir);
    open_tls("127.0.0.1", NULL, key);
    assert_refused(ERR_CONFIG, "/ca.key: ");
}

static void test_credentials(void **state)
{
    (void)state;
    open_tls("127.0.0.1", NULL, the_ca);
    the_settings.password = secret_of("wrong");
    link_open("127.0.0.1", the_server.port, REDIS_LINK_DATA);
    assert_refused(ERR_CONFIG, ": AUTH: WRONGPASS");
}

/* It says so after the handshake, when TLS 1.3 has let us write already. */
static void test_certificate_wanted(void **state)
{
    struct question q = { 0 };

    (void)state;
    open_tls("127.0.0.1", NULL, the_ca);
    link_open("127.0.0.1", the_strict.port, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_CLOSED, "TLS: ");
}

static void test_large_and_many(void **state)
{
    static struct question q[2000];
    size_t n = (size_t)20 << 20, lens[] = { 3, 1, n };
    char *value = malloc(n), text[32];
    const char *argv[] = { "SET", "k", value };
    struct question set = { .cmd.done = question_done }, get = { 0 };
    uint64_t writes;

    (void)state;
    the_settings.send_ms = the_settings.read_ms = 15000; /* slow under sanitizers */
    open_tls("127.0.0.1", NULL, the_ca);
    memset(value, 'v', n);
    redis_link_send(the_link, &set.cmd, 3, argv, lens);
    free(value);
    loop_turn(the_loop, false);
    ask(&get, "GET k");
    assert_reply(&set, REDIS_REPLY_STATUS, "OK");
    await(&get);
    assert_int_equal(get.n, n);
    ASSERT_STATUS("FLUSHALL", "OK");
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, "ECHO %u", i);
        ask(&q[i], text);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        await(&q[i]);
        assert_int_equal(strtoul(q[i].text, NULL, 10), i);
    }
    /* what one record holds leaves in one write */
    writes = redis_link_write_count(the_link);
    for (unsigned i = 0; i < 100; i++)
        ask(&q[i], "PING");
    await(&q[99]);
    assert_int_equal(redis_link_write_count(the_link) - writes, 1);
}

/* Many records that come in one read from the socket, of which no other event will tell. */
static void test_many_records(void **state)
{
    struct question q[100] = { 0 };

    (void)state;
    open_tls("127.0.0.1", NULL, the_ca);
    ASSERT_STATUS("PING", "PONG");
    kill(the_server.pid, SIGSTOP);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        ask(&q[i], "PING");
        loop_turn(the_loop, false);
    }
    kill(the_server.pid, SIGCONT);
    usleep(200000);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        assert_reply(&q[i], REDIS_REPLY_STATUS, "PONG");
}

static void test_killed(void **state)
{
    struct question q = { 0 };

    (void)state;
    open_tls("127.0.0.1", NULL, the_ca);
    ASSERT_STATUS("PING", "PONG");
    redis_kill(&the_server);
    turn_for(20);
    ask(&q, "PING");
    assert_failure(&q, ERR_CLOSED, ": Connection refused");
    launch(&the_server, "no");
    ASSERT_STATUS("PING", "PONG");
    kill(the_server.pid, SIGSTOP);
    ask(&q, "PING");
    turn_for(20);
    redis_kill(&the_server);
    assert_failure(&q, ERR_CLOSED, ": ");
    launch(&the_server, "no");
    ASSERT_STATUS("PING", "PONG");
}

/* ---- servers that do not speak TLS ---- */

static void say_and_wait(struct scripted *s)
{
    int fd = scripted_accept(s);
    char sink[1024];

    if (scripted_read(fd, sink, sizeof sink) > 0 && s->text)
        scripted_say(fd, s->text);
    if (s->text)
        shutdown(fd, SHUT_WR);
    scripted_closed(fd);
    close(fd);
}

static void assert_no_tls(const char *text, int code, const char *reason)
{
    struct scripted *s = scripted_start(say_and_wait, text);
    struct question q = { 0 };

    open_tls("127.0.0.1", NULL, the_ca);
    the_settings.connect_ms = 300;
    link_open("127.0.0.1", s->port, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, code, reason);
    scripted_join(s);
    scripted_free(s);
}

static void test_no_tls(void **state)
{
    (void)state;
    assert_no_tls("-ERR unknown command\r\n", ERR_CLOSED, ": TLS: ");
    assert_no_tls("", ERR_CLOSED, ": TLS: the server has closed the connection");
    assert_no_tls(NULL, ERR_TIMEOUT, ": TLS: it does not agree in time");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_trusted),        T(test_not_verified),
        T(test_not_trusted),    T(test_system_authorities),
        T(test_wrong_name),     T(test_no_authorities),
        T(test_credentials),    T(test_certificate_wanted),
        T(test_large_and_many), T(test_many_records),
        T(test_killed),         T(test_no_tls),
    };

    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
