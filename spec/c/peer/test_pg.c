/*
 * peer/pg against a real server: connecting (refused, wrong password, TLS, a
 * name), queries that fail beside others that do not, a server that goes away
 * or does not answer, notifications. Nothing is answered from within pg_send.
 */
#include "base/clock.h"
#include "base/str.h"
#include "peer/pg.h"
#include "peer/pg_params.h"
#include "secrets.h"
#include "peer/resolve.h"
#include "pg_server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct pg_server the_server;
static struct loop *the_loop;
static struct resolver *the_resolver;
static struct pg_settings the_settings;
static struct pg *the_pg;

/* A query and what came of it. */
struct asked {
    struct pg_query q;
    bool done;
    int code, order;
    char value[200], reason[400], state[6];
};

static int the_order;
static bool sending;

static void on_done(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct asked *a = CONTAINER_OF(q, struct asked, q);
    const char *state;

    assert_false(sending);
    assert_false(a->done);
    a->done = true;
    a->code = code;
    a->order = ++the_order;
    snprintf(a->reason, sizeof a->reason, "%s", reason ? reason : "");
    assert_null(strstr(a->reason, "secret"));
    assert_null(strchr(a->reason, '\n'));
    if (code == 0 && PQntuples(result) > 0)
        snprintf(a->value, sizeof a->value, "%s", PQgetvalue(result, 0, 0));
    if (code == ERR_SYSTEM) {
        state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        snprintf(a->state, sizeof a->state, "%s", state);
    }
    if (code != 0 && code != ERR_SYSTEM)
        assert_null(result);
}

static void ask(struct asked *a, const struct pg_statement *s, const char *const *params)
{
    *a = (struct asked){ .q = { .statement = s, .params = params, .done = on_done } };
    sending = true;
    pg_send(the_pg, &a->q);
    sending = false;
}

static void wait_for(const bool *done)
{
    int64_t until = clock_mono_ms() + 10000;

    while (!*done) {
        assert_true(clock_mono_ms() < until);
        loop_turn(the_loop, true);
    }
}

static void turns(int64_t ms)
{
    clock_stale();
    for (int64_t until = clock_mono_ms() + ms; clock_mono_ms() < until; usleep(2000))
        loop_turn(the_loop, false);
}

static void run(struct asked *a, const struct pg_statement *s, const char *const *params)
{
    ask(a, s, params);
    wait_for(&a->done);
}

static const struct pg_statement ECHO_TEXT = { "echo", "SELECT $1::text", 1 };
static const struct pg_statement BACKEND = { "backend", "SELECT pg_backend_pid()", 0 };
static const struct pg_statement DIVIDE = { "divide", "SELECT 1 / $1::int", 1 };
static const struct pg_statement WRONG = { "wrong", "SELEC 1", 0 };
static const struct pg_statement SLEEP = { "sleep", "SELECT pg_sleep($1::float8)", 1 };
static const char *const ONE[] = { "1" }, *const ZERO[] = { "0" }, *const HELLO[] = { "hello" };

/* ---- around each example ---- */

static int set_up(void **state)
{
    (void)state;
    the_loop = loop_new();
    the_resolver = resolver_new(the_loop);
    the_settings = (struct pg_settings){
        .host = the_server.dir,
        .port = (unsigned)atoi(the_server.port),
        .user = "weir",
        .database = "weir",
        .timeout_ms = 5000,
    };
    return 0;
}

static void open_pg(const struct pg_check *check)
{
    the_pg = pg_new(the_loop, the_resolver, &the_settings, check);
}

static void close_pg(void)
{
    if (the_pg)
        pg_free(the_pg);
    the_pg = NULL;
    loop_turn(the_loop, false);
}

static int tear_down(void **state)
{
    (void)state;
    close_pg();
    secrets_release();
    resolver_free(the_resolver);
    loop_free(the_loop);
    return 0;
}

/* ---- queries ---- */

static void test_values(void **state)
{
    const char *const strange[] = { "'; DROP TABLE x; -- \"\\ \xc3\xa4" };
    struct asked a, b;

    (void)state;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
    assert_string_equal(a.value, "hello");
    run(&b, &ECHO_TEXT, strange);
    assert_string_equal(b.value, strange[0]);
}

static void on_binary(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    assert_int_equal(PQfformat(result, 0), 1);
    assert_int_equal(PQgetlength(result, 0, 0), 3);
    on_done(q, code, result, reason);
}

static void test_binary_form(void **state)
{
    static const struct pg_statement ECHO_BYTES = { "bytes", "SELECT $1::bytea", 1 };
    const char *const params[] = { "\xff\0z" };
    const int lengths[] = { 3 };
    struct asked a;

    (void)state;
    open_pg(NULL);
    ask(&a, &ECHO_BYTES, params);
    a.q.lengths = lengths;
    a.q.done = on_binary;
    wait_for(&a.done);
    assert_int_equal(a.code, 0);
    assert_memory_equal(a.value, "\xff", 2); /* up to the zero */
}

static void test_one_write_for_a_turn(void **state)
{
    struct asked many[50];

    (void)state;
    open_pg(NULL);
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        ask(&many[i], i % 2 ? &ECHO_TEXT : &BACKEND, HELLO);
    wait_for(&many[49].done);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        assert_int_equal(many[i].code, 0);
        assert_int_equal(many[i].order, many[0].order + (int)i);
        assert_string_equal(many[i].value, many[i % 2].value);
    }
    assert_int_equal(pg_write_count(the_pg), 1);
}

static void test_failures_stand_alone(void **state)
{
    struct asked good, by_zero, wrong, again, last;

    (void)state;
    open_pg(NULL);
    ask(&good, &DIVIDE, ONE);
    ask(&by_zero, &DIVIDE, ZERO);
    ask(&wrong, &WRONG, NULL);
    ask(&again, &WRONG, NULL);
    ask(&last, &DIVIDE, ONE);
    wait_for(&last.done);
    assert_int_equal(good.code, 0);
    assert_int_equal(by_zero.code, ERR_SYSTEM);
    assert_string_equal(by_zero.reason, "ERROR: division by zero");
    assert_string_equal(by_zero.state, "22012");
    assert_string_equal(wrong.state, "42601");
    assert_int_equal(again.code, ERR_SYSTEM);
    assert_int_equal(last.code, 0);
    run(&wrong, &WRONG, NULL); /* it was not prepared, and is tried again */
    assert_string_equal(wrong.state, "42601");
}

/* Of a size that comes out even with no buffer and no TLS record. */
static void echo_much(size_t n)
{
    char *text = malloc(n + 1);
    const char *const params[] = { text };
    struct asked a;

    memset(text, 'x', n);
    text[n] = '\0';
    run(&a, &ECHO_TEXT, params);
    assert_int_equal(a.code, 0);
    assert_int_equal(strlen(a.value), n < sizeof a.value ? n : sizeof a.value - 1);
    free(text);
}

static void test_large(void **state)
{
    (void)state;
    open_pg(NULL);
    echo_much((8 << 20) + 17);
}

/* ---- sessions ---- */

static void assert_setting(const char *name, const char *value)
{
    static const struct pg_statement SHOW = { "show", "SELECT current_setting($1)", 1 };
    const char *const params[] = { name };
    struct asked a;

    run(&a, &SHOW, params);
    assert_string_equal(a.value, value);
}

static void test_session(void **state)
{
    (void)state;
    the_settings.timeout_ms = 800;
    the_settings.schema = "some \"schema\"";
    open_pg(NULL);
    assert_setting("statement_timeout", "700ms");
    assert_setting("synchronous_commit", "off");
    assert_setting("search_path", "\"some \"\"schema\"\"\"");
    assert_setting("application_name", "weir");
    close_pg();
    the_settings.schema = NULL;
    the_settings.synchronous_commit = true;
    open_pg(NULL);
    assert_setting("synchronous_commit", "on");
    assert_setting("search_path", "\"$user\", public");
}

static bool refuse(const PGresult *result, char *why, size_t n)
{
    snprintf(why, n, "not %s", PQgetvalue(result, 0, 0));
    return false;
}

static bool accept_errors(const PGresult *result, char *why, size_t n)
{
    (void)n;
    assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE), "42P01");
    assert_non_null(strstr(why, "nowhere"));
    return true;
}

static void test_check(void **state)
{
    const struct pg_check no = { "SELECT 'this one'", refuse },
                          yes = { "TABLE nowhere", accept_errors };
    struct asked a, b;

    (void)state;
    open_pg(&no);
    ask(&b, &ECHO_TEXT, HELLO);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_CONFIG);
    assert_string_equal(a.reason, "not this one");
    assert_int_equal(b.code, ERR_CONFIG);
    close_pg();
    open_pg(&yes);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

static void test_refused(void **state)
{
    struct asked a;

    (void)state;
    the_settings.host = "127.0.0.1";
    the_settings.port = 1;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "127.0.0.1"));
    assert_non_null(strstr(a.reason, "Connection refused"));
}

static void test_passwords(void **state)
{
    struct asked a;

    (void)state;
    the_settings.host = "127.0.0.1";
    the_settings.password = secret_of("secret of another");
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "password authentication failed for user \"weir\""));
    the_settings.password = secret_of("secret word"); /* as when it was rotated */
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

static void test_password_without_a_value(void **state)
{
    struct asked a;

    (void)state;
    the_settings.host = "127.0.0.1";
    the_settings.password = secret_of("{vault://fs/pg}");
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_CLOSED);
    assert_string_equal(a.reason, "no password: {vault://fs/pg}: it was not looked up yet");
    assert_int_equal(secret_put(the_settings.password, STR("secret word")), 0);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

static void test_tls(void **state)
{
    static const struct pg_statement TLS = {
        "tls", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", 0
    };
    char ca[100];
    struct asked a;

    (void)state;
    snprintf(ca, sizeof ca, "%s/cert.pem", the_server.dir);
    the_settings.host = "localhost";
    the_settings.password = secret_of("secret word");
    the_settings.ssl = true;
    open_pg(NULL);
    run(&a, &TLS, NULL);
    assert_string_equal(a.value, "t");
    for (size_t n = 1; n < 4 << 20; n = n * 3 + 1)
        echo_much(n);
    close_pg();
    the_settings.ssl_verify = true;
    open_pg(NULL);
    run(&a, &TLS, NULL); /* no authority of the system */
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "certificate verify failed"));
    the_settings.ca_file = ca;
    run(&a, &TLS, NULL);
    assert_string_equal(a.value, "t");
    close_pg();
    the_settings.host = "127.0.0.1"; /* it is not the certificate's name */
    open_pg(NULL);
    run(&a, &TLS, NULL);
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "does not match"));
    close_pg();
    the_settings.ssl = false;
    open_pg(NULL);
    run(&a, &TLS, NULL);
    assert_string_equal(a.value, "f");
}

/* Nothing in the home directory matters: it may be another user's. */
static void test_tls_without_a_home(void **state)
{
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    char path[200];
    struct asked a;
    FILE *f;

    (void)state;
    snprintf(path, sizeof path, "%s/.postgresql", the_server.dir);
    assert_int_equal(0, mkdir(path, 0700));
    strcat(path, "/postgresql.crt");
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("no certificate\n", f);
    fclose(f);
    setenv("HOME", the_server.dir, 1);
    the_settings.host = "localhost";
    the_settings.password = secret_of("secret word");
    the_settings.ssl = true;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
    close_pg();
    unlink(path);
    if (home)
        setenv("HOME", home, 1);
    else
        unsetenv("HOME");
    free(home);
}

/* ---- a server that goes away, or does not answer ---- */

static void terminate_all(void)
{
    PGconn *c = pg_server_connect(&the_server, "postgres");

    pg_server_ask(c,
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir'");
    PQfinish(c);
}

static void test_terminated(void **state)
{
    static const char *const LONG[] = { "30" };
    struct asked flying, behind, a;

    (void)state;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    ask(&flying, &SLEEP, LONG);
    ask(&behind, &ECHO_TEXT, HELLO);
    turns(100);
    terminate_all();
    wait_for(&behind.done);
    assert_int_equal(flying.code, ERR_CLOSED);
    assert_string_equal(flying.reason,
                        "FATAL: terminating connection due to administrator command");
    assert_int_equal(behind.code, ERR_CLOSED);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
    terminate_all(); /* while it is idle: nobody is told */
    turns(100);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

static void test_restarted(void **state)
{
    struct asked a;

    (void)state;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    pg_server_stop(&the_server, SIGKILL);
    turns(50);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_CLOSED);
    usleep(300000); /* its processes notice that it is gone */
    pg_server_start(&the_server);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

/* The server cancels a moment before the connection is given up. */
static void test_statement_timeout(void **state)
{
    static const char *const LONG[] = { "3" };
    struct asked a, before, after;

    (void)state;
    the_settings.timeout_ms = 400;
    open_pg(NULL);
    run(&before, &BACKEND, NULL);
    run(&a, &SLEEP, LONG);
    assert_int_equal(a.code, ERR_SYSTEM);
    assert_string_equal(a.state, "57014");
    run(&after, &BACKEND, NULL);
    assert_string_equal(before.value, after.value);
}

static void test_silent_server(void **state)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t n = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct asked a;

    (void)state;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &n), 0);
    the_settings.host = "127.0.0.1";
    the_settings.port = ntohs(addr.sin_port);
    the_settings.timeout_ms = 200;
    open_pg(NULL);
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, ERR_TIMEOUT);
    assert_string_equal(a.reason, "it does not take the connection in time");
    close(fd);
}

static void test_stopped_server(void **state)
{
    struct asked a, pid;

    (void)state;
    the_settings.timeout_ms = 300;
    open_pg(NULL);
    run(&pid, &BACKEND, NULL);
    kill(atoi(pid.value), SIGSTOP);
    run(&a, &ECHO_TEXT, HELLO);
    kill(atoi(pid.value), SIGCONT);
    assert_int_equal(a.code, ERR_TIMEOUT);
    assert_string_equal(a.reason, "it does not answer in time");
    run(&a, &ECHO_TEXT, HELLO);
    assert_int_equal(a.code, 0);
}

static void test_freed_and_reset(void **state)
{
    static const char *const LONG[] = { "3" };
    struct asked a, b;

    (void)state;
    open_pg(NULL);
    ask(&a, &SLEEP, LONG);
    ask(&b, &SLEEP, LONG);
    turns(50);
    pg_reset(the_pg, ERR_CLOSED, "so be it");
    assert_int_equal(a.code, ERR_CLOSED);
    assert_string_equal(b.reason, "so be it");
    ask(&a, &SLEEP, LONG);
    turns(50);
    ask(&b, &SLEEP, LONG); /* not sent yet */
    close_pg();
    assert_int_equal(a.code, ERR_CANCELLED);
    assert_int_equal(b.code, ERR_CANCELLED);
}

static void on_done_free(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    on_done(q, code, result, reason);
    pg_free(the_pg);
    the_pg = NULL;
}

static void test_freed_within(void **state)
{
    struct asked a, b;

    (void)state;
    open_pg(NULL);
    ask(&a, &ECHO_TEXT, HELLO);
    ask(&b, &ECHO_TEXT, HELLO);
    a.q.done = on_done_free;
    wait_for(&b.done);
    assert_int_equal(a.code, 0);
    assert_int_equal(b.code, ERR_CANCELLED);
}

/* ---- notifications ---- */

static struct {
    unsigned begun, told;
    char last[50];
    bool changed;
} the_news;

static void on_notify(void *arg, const char *payload)
{
    assert_ptr_equal(arg, &the_news);
    the_news.changed = true;
    if (!payload) {
        the_news.begun++;
        return;
    }
    the_news.told++;
    snprintf(the_news.last, sizeof the_news.last, "%s", payload);
}

static void await_news(void)
{
    wait_for(&the_news.changed);
    the_news.changed = false;
}

static void test_listen(void **state)
{
    PGconn *c = pg_server_connect(&the_server, "weir");
    struct asked a;

    (void)state;
    memset(&the_news, 0, sizeof the_news);
    open_pg(NULL);
    pg_listen(the_pg, "Some channel", on_notify, &the_news);
    await_news();
    assert_int_equal(the_news.begun, 1);
    pg_server_ask(c, "NOTIFY \"Some channel\", 'one'");
    await_news();
    assert_string_equal(the_news.last, "one");
    run(&a, &ECHO_TEXT, HELLO); /* beside it */
    assert_int_equal(a.code, 0);
    terminate_all();
    await_news(); /* by itself */
    assert_int_equal(the_news.begun, 2);
    pg_server_ask(c, "NOTIFY \"Some channel\", 'two'");
    await_news();
    assert_string_equal(the_news.last, "two");
    assert_int_equal(the_news.told, 2);
    PQfinish(c);
}

static int make_server(void **state)
{
    (void)state;
    pg_server_make(&the_server);
    return 0;
}

static int remove_server(void **state)
{
    (void)state;
    pg_server_remove(&the_server);
    return 0;
}

#define EXAMPLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXAMPLE(test_values),
        EXAMPLE(test_binary_form),
        EXAMPLE(test_one_write_for_a_turn),
        EXAMPLE(test_failures_stand_alone),
        EXAMPLE(test_large),
        EXAMPLE(test_session),
        EXAMPLE(test_check),
        EXAMPLE(test_refused),
        EXAMPLE(test_passwords),
        EXAMPLE(test_password_without_a_value),
        EXAMPLE(test_tls),
        EXAMPLE(test_tls_without_a_home),
        EXAMPLE(test_terminated),
        EXAMPLE(test_restarted),
        EXAMPLE(test_statement_timeout),
        EXAMPLE(test_silent_server),
        EXAMPLE(test_stopped_server),
        EXAMPLE(test_freed_and_reset),
        EXAMPLE(test_freed_within),
        EXAMPLE(test_listen),
    };

    return cmocka_run_group_tests(tests, make_server, remove_server);
}
