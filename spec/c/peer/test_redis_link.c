/*
 * peer/redis_link against a real redis-server: order and batches, credentials
 * and databases, what happens to commands when the server goes away.
 */
#include "links.h"
#include "redis_server.h"

static struct redis_server the_server, the_guarded;

#define ACL                                                                                        \
    "user default on >first sanitize-payload ~* &* +@all\n"                                        \
    "user ann on >secret ~* &* +@all\n"                                                            \
    "user bob on >word ~* &* +@all -select\n"

static int start_servers(void **state)
{
    (void)state;
    redis_start(&the_server, "");
    redis_start(&the_guarded, ACL);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    redis_stop(&the_server);
    redis_stop(&the_guarded);
    return 0;
}

static void open_plain(void)
{
    link_open("127.0.0.1", the_server.port, REDIS_LINK_DATA);
}

/* ---- commands and replies ---- */

static void test_types(void **state)
{
    struct question q = { 0 };

    (void)state;
    open_plain();
    ASSERT_STATUS("SET k v", "OK");
    ASSERT_STRING("GET k", "v");
    assert_ask("GET none", REDIS_REPLY_NIL, "");
    assert_ask("GETS k", REDIS_REPLY_ERROR,
               "ERR unknown command 'GETS', with args beginning with: 'k' ");
    ask(&q, "INCRBY n 9007199254740993");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
    assert_int_equal(q.integer, 9007199254740993);
    ask(&q, "LRANGE none 0 -1");
    assert_reply(&q, REDIS_REPLY_ARRAY, "");
    assert_int_equal(q.n, 0);
    ASSERT_STATUS("FLUSHALL", "OK");
}

static void test_unix(void **state)
{
    (void)state;
    link_open(the_server.socket, 0, REDIS_LINK_DATA);
    ASSERT_STATUS("PING", "PONG");
}

static void test_name(void **state)
{
    (void)state;
    link_open("localhost", the_server.port, REDIS_LINK_DATA);
    ASSERT_STATUS("PING", "PONG");
}

static void test_binary(void **state)
{
    char value[512];
    const char *set[] = { "SET", "b\r\n\0x", value }, *get[] = { "GETRANGE", "b\r\n\0x", "1", "3" };
    size_t set_lens[] = { 3, 5, sizeof value }, get_lens[] = { 8, 5, 1, 1 };
    struct question a = { .cmd.done = question_done }, b = { .cmd.done = question_done };

    (void)state;
    open_plain();
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (char)i;
    redis_link_send(the_link, &a.cmd, 3, set, set_lens);
    redis_link_send(the_link, &b.cmd, 4, get, get_lens);
    memset(value, 'x', sizeof value); /* the bytes were copied */
    assert_reply(&a, REDIS_REPLY_STATUS, "OK");
    assert_reply(&b, REDIS_REPLY_STRING, "\1\2\3");
}

static void test_batch(void **state)
{
    static struct question q[1000];
    char text[64];
    uint64_t writes;

    (void)state;
    open_plain();
    ASSERT_STATUS("SET a 1", "OK");
    writes = redis_link_write_count(the_link);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, i % 3 ? "ECHO %u" : "WRONG %u", i);
        ask(&q[i], text);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        await(&q[i]);
        assert_int_equal(q[i].order, i + 2);
        assert_int_equal(q[i].type, i % 3 ? REDIS_REPLY_STRING : REDIS_REPLY_ERROR);
        if (i % 3)
            assert_int_equal(strtoul(q[i].text, NULL, 10), i);
    }
    assert_int_equal(redis_link_write_count(the_link) - writes, 1);
}

static void test_large(void **state)
{
    size_t n = (size_t)20 << 20, lens[] = { 3, 1, n };
    char *value = malloc(n);
    const char *argv[] = { "SET", "k", value };
    struct question set = { .cmd.done = question_done }, get = { 0 }, small = { 0 };

    (void)state;
    the_settings.send_ms = the_settings.read_ms = 15000; /* slow under sanitizers */
    open_plain();
    memset(value, 'v', n);
    redis_link_send(the_link, &set.cmd, 3, argv, lens);
    free(value);
    ask(&get, "GET k");
    loop_turn(the_loop, false);
    ask(&small, "ECHO behind");
    assert_reply(&set, REDIS_REPLY_STATUS, "OK");
    await(&get);
    assert_int_equal(get.n, n);
    assert_reply(&small, REDIS_REPLY_STRING, "behind");
    ASSERT_STATUS("FLUSHALL", "OK");
}

/* ---- who and where ---- */

static void test_password(void **state)
{
    (void)state;
    the_settings.password = secret_of("first");
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ASSERT_STRING("ACL WHOAMI", "default");
}

static void test_user_and_database(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_settings.username = secret_of("ann");
    the_settings.password = secret_of("secret");
    the_settings.database = 7;
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ASSERT_STRING("ACL WHOAMI", "ann");
    ASSERT_STATUS("SET in-seven 1", "OK");
    ASSERT_STATUS("SELECT 0", "OK");
    ask(&q, "EXISTS in-seven");
    await(&q);
    assert_int_equal(q.integer, 0);
}

/* All fails with the reason, and nothing was carried out as somebody else or elsewhere. */
static void assert_not_let_in(const char *reason)
{
    struct question q[3] = { 0 };

    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    for (unsigned i = 0; i < 3; i++)
        ask(&q[i], "SET trespass 1");
    for (unsigned i = 0; i < 3; i++) {
        assert_failure(&q[i], ERR_CONFIG, reason);
        assert_null(strstr(q[i].reason, "secret"));
    }
    assert_int_equal(redis_link_write_count(the_link), 0);
}

static void assert_no_trespass(unsigned database)
{
    struct question q = { 0 };

    the_settings.username = secret_of("ann");
    the_settings.password = secret_of("secret");
    the_settings.database = database;
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ask(&q, "EXISTS trespass");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
    assert_int_equal(q.integer, 0);
}

static void test_not_let_in(void **state)
{
    (void)state;
    the_settings.password = secret_of("secret-but-wrong");
    assert_not_let_in(": AUTH: WRONGPASS invalid username-password pair");
    the_settings.username = secret_of("nobody");
    assert_not_let_in(": AUTH: WRONGPASS invalid username-password pair");
    the_settings.username = secret_of("bob");
    the_settings.password = secret_of("word");
    the_settings.database = 3;
    assert_not_let_in(": SELECT: NOPERM");
    the_settings.username = secret_of("ann");
    the_settings.password = secret_of("secret");
    the_settings.database = 99;
    assert_not_let_in(": SELECT: ERR DB index is out of range");
    assert_no_trespass(0);
    assert_no_trespass(3);
}

static void test_no_password(void **state)
{
    (void)state;
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    assert_ask("GET k", REDIS_REPLY_ERROR, "NOAUTH Authentication required.");
    assert_ask("GET k", REDIS_REPLY_ERROR, "NOAUTH Authentication required.");
}

/* Before a socket is opened: the server is not even asked. */
static void test_password_without_a_value(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_settings.password = secret_of("{vault://fs/redis}");
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_CONFIG, ": no password: {vault://fs/redis}: it was not looked up yet");
    secret_fail(the_settings.password, STR("no such file"), false);
    ask(&q, "PING");
    assert_failure(&q, ERR_CONFIG, ": no password: {vault://fs/redis}: no such file");
    assert_int_equal(secret_put(the_settings.password, STR("first")), 0);
    ASSERT_STRING("ACL WHOAMI", "default");
    the_settings.username = secret_of("{vault://fs/user}");
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_CONFIG, ": no username: {vault://fs/user}: it was not looked up yet");
}

/* Any bytes, and as many as Redis takes of who is not logged in. */
static void test_strange_password(void **state)
{
    static char value[16385];
    const char *argv[] = { "ACL", "SETUSER", "eve", "on", value, "+@all" };
    size_t lens[] = { 3, 7, 3, 2, sizeof value, 5 };
    struct question q = { .cmd.done = question_done };

    (void)state;
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (char)(i * 7);
    value[0] = '>';
    the_settings.password = secret_of("first");
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    redis_link_send(the_link, &q.cmd, 6, argv, lens);
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
    the_settings.username = secret_of("eve");
    the_settings.password = secret_of("{vault://fs/eve}");
    assert_int_equal(secret_put(the_settings.password, (struct str){ value + 1, sizeof value - 1 }),
                     0);
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_DATA);
    ASSERT_STRING("ACL WHOAMI", "eve");
}

static void test_sentinel_credentials(void **state)
{
    (void)state;
    the_settings.username = secret_of("nobody");
    the_settings.password = secret_of("nothing");
    the_settings.database = 3;
    the_settings.sentinel_username = secret_of("bob");
    the_settings.sentinel_password = secret_of("word");
    link_open("127.0.0.1", the_guarded.port, REDIS_LINK_SENTINEL);
    ASSERT_STRING("ACL WHOAMI", "bob");
}

static void test_refused_client(void **state)
{
    struct redis_server s;
    struct question q[3] = { 0 };
    struct redis_link *first;

    (void)state;
    redis_start(&s, "maxclients 1");
    usleep(50000); /* until it has closed the connection that looked whether it is up */
    link_open(s.socket, 0, REDIS_LINK_DATA);
    ASSERT_STATUS("PING", "PONG");
    first = the_link;
    the_link = NULL;
    the_settings.password = secret_of("secret");
    for (int guarded = 0; guarded < 2; guarded++) {
        link_open(guarded ? "127.0.0.1" : s.socket, s.port, REDIS_LINK_DATA);
        for (unsigned i = 0; i < 3; i++)
            ask(&q[i], "PING");
        for (unsigned i = 0; i < 3; i++)
            assert_failure(&q[i], ERR_CLOSED, ": ERR max number of clients reached");
        the_settings.password = NULL;
    }
    redis_link_free(first);
    redis_stop(&s);
}

/* ---- losses ---- */

static void test_refused_connection(void **state)
{
    struct question q = { 0 };
    char reason[64];
    unsigned port = redis_free_port();

    (void)state;
    snprintf(reason, sizeof reason, "127.0.0.1:%u: Connection refused", port);
    link_open("127.0.0.1", port, REDIS_LINK_DATA);
    for (int i = 0; i < 2; i++) {
        ask(&q, "PING");
        assert_failure(&q, ERR_CLOSED, reason);
        assert_string_equal(q.reason, reason);
    }
    link_open("unix:/tmp/weir-no-such-socket", 0, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_CLOSED, "unix:/tmp/weir-no-such-socket: No such file or directory");
}

static void test_killed_and_back(void **state)
{
    struct redis_server s;
    struct question q[3] = { 0 };

    (void)state;
    redis_start(&s, "");
    link_open("127.0.0.1", s.port, REDIS_LINK_DATA);
    ASSERT_STATUS("PING", "PONG");
    kill(s.pid, SIGSTOP);
    for (unsigned i = 0; i < 3; i++)
        ask(&q[i], "PING");
    turn_for(50);
    redis_kill(&s);
    for (unsigned i = 0; i < 3; i++)
        assert_failure(&q[i], ERR_CLOSED, "127.0.0.1:");
    redis_launch(&s, "");
    redis_await(&s, s.port);
    ASSERT_STATUS("PING", "PONG");
    redis_stop(&s);
}

/* What is idle may be closed: nobody hears of it. */
static void test_idle_close(void **state)
{
    struct redis_server s;
    struct question q = { 0 };

    (void)state;
    redis_start(&s, "");
    link_open("127.0.0.1", s.port, REDIS_LINK_DATA);
    ASSERT_STATUS("PING", "PONG");
    redis_kill(&s);
    redis_launch(&s, "");
    redis_await(&s, s.port);
    turn_for(20);
    ASSERT_STATUS("PING", "PONG");
    /* and what was not sent yet when the end came is sent on a new connection */
    redis_kill(&s);
    redis_launch(&s, "");
    redis_await(&s, s.port);
    ask(&q, "PING");
    assert_reply(&q, REDIS_REPLY_STATUS, "PONG");
    redis_stop(&s);
}

static void test_stopped(void **state)
{
    struct question q[3] = { 0 };
    int64_t from_us;

    (void)state;
    the_settings.read_ms = 200;
    open_plain();
    ASSERT_STATUS("PING", "PONG");
    kill(the_server.pid, SIGSTOP);
    from_us = clock_mono_us_exact();
    ask(&q[0], "ECHO late");
    turn_for(100);
    ask(&q[1], "ECHO later");
    assert_failure(&q[0], ERR_TIMEOUT, ": it does not answer in time");
    assert_failure(&q[1], ERR_TIMEOUT, ": it does not answer in time");
    assert_true(clock_mono_us_exact() - from_us < 2000000);
    ask(&q[2], "ECHO new");
    kill(the_server.pid, SIGCONT);
    assert_reply(&q[2], REDIS_REPLY_STRING, "new"); /* no late reply of the others */
}

static void test_not_read(void **state)
{
    size_t n = (size_t)30 << 20, lens[] = { 4, n };
    char *value = calloc(1, n);
    const char *argv[] = { "ECHO", value };
    struct question q = { .cmd.done = question_done }, small = { 0 };

    (void)state;
    the_settings.send_ms = 200;
    open_plain();
    ASSERT_STATUS("PING", "PONG");
    kill(the_server.pid, SIGSTOP);
    redis_link_send(the_link, &q.cmd, 2, argv, lens);
    turn_for(50);
    ask(&small, "PING");
    assert_failure(&q, ERR_TIMEOUT, ": it does not read in time");
    assert_failure(&small, ERR_TIMEOUT, ": it does not read in time");
    kill(the_server.pid, SIGCONT);
    free(value);
    ASSERT_STATUS("PING", "PONG");
}

static void test_queue_is_bounded(void **state)
{
    size_t n = (size_t)30 << 20, lens[] = { 4, n };
    char *value = calloc(1, n);
    const char *argv[] = { "ECHO", value };
    struct question q[3] = { 0 };

    (void)state;
    open_plain();
    for (unsigned i = 0; i < 3; i++) {
        q[i].cmd.done = question_done;
        redis_link_send(the_link, &q[i].cmd, 2, argv, lens);
    }
    free(value);
    assert_failure(&q[2], ERR_BOUND, "too much waits to be sent");
    redis_link_reset(the_link, ERR_CLOSED, "enough");
    assert_int_equal(q[0].answers, 0); /* at the end of the turn */
    assert_failure(&q[0], ERR_CLOSED, "enough");
    assert_failure(&q[1], ERR_CLOSED, "enough");
    ASSERT_STATUS("PING", "PONG");
}

/* Deadlines of what was given up do not end the connection that comes next. */
static void test_no_stale_deadline(void **state)
{
    struct question q = { 0 };
    long long id;

    (void)state;
    the_settings.read_ms = 150;
    open_plain();
    ask(&q, "BLPOP none 0");
    turn_for(20);
    redis_link_reset(the_link, ERR_CLOSED, "given up");
    assert_failure(&q, ERR_CLOSED, "given up");
    ask(&q, "CLIENT ID");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
    id = q.integer;
    turn_for(250);
    ask(&q, "CLIENT ID");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
    assert_int_equal(q.integer, id);
}

/* ---- what a callback may do ---- */

static struct question the_others[3];

static void send_again(struct question *q)
{
    q->then = NULL;
    ask(&the_others[0], "ECHO again");
}

static void reset_then_send(struct question *q)
{
    redis_link_reset(the_link, ERR_CLOSED, "reset from within");
    send_again(q);
}

static void free_link(struct question *q)
{
    (void)q;
    redis_link_free(the_link);
    the_link = NULL;
}

static void run_then(void (*then)(struct question *q), const char *words)
{
    struct question q = { .then = then };

    memset(the_others, 0, sizeof the_others);
    open_plain();
    ask(&q, words);
    ask(&the_others[1], "ECHO 1");
    ask(&the_others[2], "ECHO 2");
    await(&q);
}

static void test_from_within(void **state)
{
    (void)state;
    run_then(send_again, "PING");
    assert_reply(&the_others[0], REDIS_REPLY_STRING, "again");
    assert_reply(&the_others[2], REDIS_REPLY_STRING, "2");
    run_then(reset_then_send, "PING");
    assert_failure(&the_others[1], ERR_CLOSED, "reset from within");
    assert_failure(&the_others[2], ERR_CLOSED, "reset from within");
    assert_reply(&the_others[0], REDIS_REPLY_STRING, "again");
    run_then(free_link, "PING");
    assert_failure(&the_others[1], ERR_CANCELLED, "");
    assert_failure(&the_others[2], ERR_CANCELLED, "");
}

static void test_from_within_a_failure(void **state)
{
    (void)state;
    the_settings.read_ms = 100;
    run_then(send_again, "BLPOP none 0");
    assert_failure(&the_others[2], ERR_TIMEOUT, "in time");
    assert_reply(&the_others[0], REDIS_REPLY_STRING, "again");
    run_then(reset_then_send, "BLPOP none 0");
    assert_reply(&the_others[0], REDIS_REPLY_STRING, "again");
    run_then(free_link, "BLPOP none 0");
    assert_failure(&the_others[1], ERR_CANCELLED, "");
    assert_failure(&the_others[2], ERR_CANCELLED, "");
}

static void test_free_at_any_time(void **state)
{
    struct question q = { 0 };

    (void)state;
    open_plain();
    ask(&q, "PING");
    free_link(&q);
    assert_failure(&q, ERR_CANCELLED, "");
    for (int turns = 1; turns < 4; turns++) {
        open_plain();
        ask(&q, "BLPOP none 0");
        for (int i = 0; i < turns; i++)
            loop_turn(the_loop, false);
        free_link(&q);
        assert_failure(&q, ERR_CANCELLED, "");
    }
}

/* ---- subscriptions ---- */

static unsigned the_messages, the_losses;
static char the_message[64];

static void on_push(void *arg, const struct redisReply *reply)
{
    assert_ptr_equal(arg, &the_messages);
    if (!reply) {
        the_losses++;
        return;
    }
    the_messages++;
    assert_int_equal(reply->elements, 3);
    snprintf(the_message, sizeof the_message, "%s", reply->element[2]->str);
}

static void test_push(void **state)
{
    struct redis_link *listener;
    struct question subscribe = { 0 }, ping = { 0 };

    (void)state;
    the_messages = the_losses = 0;
    open_plain();
    listener = the_link;
    redis_link_on_push(listener, on_push, &the_messages);
    ask(&subscribe, "SUBSCRIBE +switch-master");
    assert_reply(&subscribe, REDIS_REPLY_ARRAY, "");
    the_link = NULL;
    open_plain();
    assert_ask("PUBLISH +switch-master hello", REDIS_REPLY_INTEGER, "");
    turn_for(20);
    assert_int_equal(the_messages, 1);
    assert_string_equal(the_message, "hello");
    redis_link_free(the_link);
    the_link = listener;
    ask(&ping, "PING");
    assert_reply(&ping, REDIS_REPLY_ARRAY, "");
    assert_int_equal(ping.n, 2);
    the_link = NULL;
    open_plain();
    assert_ask("CLIENT KILL TYPE pubsub", REDIS_REPLY_INTEGER, "");
    turn_for(20);
    assert_int_equal(the_messages, 1);
    assert_int_equal(the_losses, 1);
    redis_link_free(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_types),
        T(test_unix),
        T(test_name),
        T(test_binary),
        T(test_batch),
        T(test_large),
        T(test_password),
        T(test_user_and_database),
        T(test_not_let_in),
        T(test_no_password),
        T(test_password_without_a_value),
        T(test_strange_password),
        T(test_sentinel_credentials),
        T(test_refused_client),
        T(test_refused_connection),
        T(test_killed_and_back),
        T(test_idle_close),
        T(test_stopped),
        T(test_not_read),
        T(test_queue_is_bounded),
        T(test_no_stale_deadline),
        T(test_from_within),
        T(test_from_within_a_failure),
        T(test_free_at_any_time),
        T(test_push),
    };

    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
