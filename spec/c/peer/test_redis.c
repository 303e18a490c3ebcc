/*
 * peer/redis with one real server: scripts and servers that do not know them,
 * errors between good replies, servers that answer and serve nobody, the end
 * of a client with calls in flight.
 */
#include "redis_calls.h"
#include "peer/redis_internal.h"

static const char COUNT[] = "return redis.call('INCRBY', KEYS[1], ARGV[1] or 1)";
static struct redis_script the_script;
static struct redis_server *the_server;

static int start_server(void **state)
{
    (void)state;
    redis_script_init(&the_script, COUNT);
    the_server = server_add("");
    servers_await();
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    servers_stop();
    return 0;
}

static void open_it(void)
{
    tell(the_server->port, "FLUSHALL");
    tell(the_server->port, "SCRIPT FLUSH");
    the_settings.server = (struct redis_node){ "127.0.0.1", the_server->port };
    client_open();
}

static void test_names(void **state)
{
    struct redis_settings unix_path = { .server = { "unix:/tmp/s", 0 } },
                          other = { .server = { "a.example", 7000 } };
    struct redis *r = redis_new(the_loop, the_resolver, &unix_path);
    char name[64];

    (void)state;
    open_it();
    snprintf(name, sizeof name, "redis 127.0.0.1:%u", the_server->port);
    assert_string_equal(redis_name(the_redis), name);
    assert_string_equal(redis_name(r), "redis unix:/tmp/s");
    redis_free(r);
    other.username = secret_of("ann"); /* an own line in the log and the figures */
    other.database = 3;
    r = redis_new(the_loop, the_resolver, &other);
    assert_string_equal(redis_name(r), "redis ann@a.example:7000/3");
    redis_free(r);
    other.username = secret_of("{vault://fs/user}");
    assert_int_equal(secret_put(other.username, STR("bob")), 0);
    r = redis_new(the_loop, the_resolver, &other);
    assert_string_equal(redis_name(r), "redis a.example:7000/3");
    redis_free(r);
    other = (struct redis_settings){ .server = { "::1", 7000 } };
    r = redis_new(the_loop, the_resolver, &other);
    assert_string_equal(redis_name(r), "redis [::1]:7000");
    redis_free(r);
}

static void test_sha1(void **state)
{
    struct redis_script s;

    (void)state;
    redis_script_init(&s, "return 1");
    assert_string_equal(s.sha1, tell(the_server->port, "SCRIPT LOAD %s", "return 1"));
}

static void test_errors_between(void **state)
{
    struct question q[5] = { 0 };

    (void)state;
    open_it();
    ask(&q[0], "SET a word");
    ask(&q[1], "INCR a");
    ask(&q[2], "NONSENSE a");
    ask(&q[3], "INCR b");
    ask(&q[4], "GET a");
    assert_reply(&q[0], REDIS_REPLY_STATUS, "OK");
    assert_reply(&q[1], REDIS_REPLY_ERROR, "ERR value is not an integer or out of range");
    await(&q[2]);
    assert_int_equal(q[2].type, REDIS_REPLY_ERROR);
    assert_integer(&q[3], 1);
    assert_reply(&q[4], REDIS_REPLY_STRING, "word");
    assert_int_equal(redis_write_count(the_redis), 1);
}

/* A thousand of one turn do not know that the server has forgotten the script. */
static void test_noscript(void **state)
{
    static struct question q[1000];
    long long sum = 0;

    (void)state;
    open_it();
    for (int round = 0; round < 2; round++) {
        memset(q, 0, sizeof q);
        for (unsigned i = 0; i < ARRAY_LEN(q); i++)
            ask_script(&q[i], &the_script, "counter 2");
        for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
            assert_reply(&q[i], REDIS_REPLY_INTEGER, "");
            sum += 2;
            assert_int_equal(q[i].integer, sum);
        }
        tell(the_server->port, "SCRIPT FLUSH");
    }
}

/* The server gets the text once, and the digest each time. */
static void test_digest(void **state)
{
    struct question q = { 0 };

    (void)state;
    open_it();
    tell(the_server->port, "CONFIG RESETSTAT");
    for (int i = 1; i <= 3; i++) {
        ask_script(&q, &the_script, "counter");
        assert_integer(&q, i);
    }
    assert_non_null(strstr(tell(the_server->port, "INFO commandstats"), "cmdstat_eval:calls=1,"));
    assert_non_null(
        strstr(tell(the_server->port, "INFO commandstats"), "cmdstat_evalsha:calls=3,"));
}

static void test_args_that_stay(void **state)
{
    static const char *const argv[] = { "counter", "5tail" };
    static const size_t lens[] = { 7, 1 };
    struct question q = { .call = { .args_stay = true, .done = question_done } };

    (void)state;
    open_it();
    redis_eval(the_redis, &q.call, &the_script, 1, 2, argv, lens);
    assert_null(q.call.copy);
    assert_integer(&q, 5);
}

static void test_script_error(void **state)
{
    struct redis_script s;
    struct question q = { 0 };

    (void)state;
    redis_script_init(&s, "return redis.error_reply('LIMIT reached')");
    open_it();
    ask_script(&q, &s, "counter");
    assert_reply(&q, REDIS_REPLY_ERROR, "LIMIT reached");
}

/* ---- servers that answer and serve nobody ---- */

static void test_readonly(void **state)
{
    struct question q[3] = { 0 };

    (void)state;
    open_it();
    tell(the_server->port, "REPLICAOF 127.0.0.1 1");
    ask(&q[0], "INCR a");
    ask_script(&q[1], &the_script, "a");
    ask(&q[2], "GET a");
    assert_failure(&q[0], ERR_CLOSED, "READONLY You can't write against a read only replica.");
    assert_failure(&q[1], ERR_CLOSED, "READONLY");
    assert_reply(&q[2], REDIS_REPLY_NIL, "");
    tell(the_server->port, "REPLICAOF NO ONE");
    ask(&q[0], "INCR a");
    assert_integer(&q[0], 1);
}

static void test_oom(void **state)
{
    struct question q[2] = { 0 };

    (void)state;
    open_it();
    TELL_OK(the_server->port, "CONFIG SET maxmemory 1");
    ask(&q[0], "INCR a");
    ask_script(&q[1], &the_script, "a");
    await(&q[0]);
    await(&q[1]);
    TELL_OK(the_server->port, "CONFIG SET maxmemory 0");
    assert_failure(&q[0], ERR_CLOSED, "OOM command not allowed");
    assert_failure(&q[1], ERR_CLOSED, "OOM");
}

static void test_noperm(void **state)
{
    struct question q = { 0 };

    (void)state;
    TELL_OK(the_server->port, "ACL SETUSER reader on >word ~* +@read");
    the_settings.username = secret_of("reader");
    the_settings.password = secret_of("word");
    open_it();
    ask(&q, "INCR a");
    assert_failure(&q, ERR_CLOSED, "NOPERM");
}

static void assert_verdict(bool fails, const char *text)
{
    char words[256];
    struct redisReply reply = { .type = REDIS_REPLY_ERROR, .str = words };

    snprintf(words, sizeof words, "%s", text);
    reply.len = strlen(words);
    if (redis_is_failure(&reply) != fails)
        fail_msg("%s", text);
    reply.type = REDIS_REPLY_STRING;
    assert_false(redis_is_failure(&reply));
}

static void test_verdicts(void **state)
{
    (void)state;
    assert_verdict(true, "LOADING Redis is loading the dataset in memory");
    assert_verdict(true, "MASTERDOWN Link with MASTER is down");
    assert_verdict(true, "NOAUTH Authentication required.");
    assert_verdict(true, "WRONGPASS invalid username-password pair or user is disabled.");
    assert_verdict(true, "BUSY Redis is busy running a script.");
    assert_verdict(true, "MISCONF Redis is configured to save RDB snapshots");
    assert_verdict(true, "NOREPLICAS Not enough good replicas to write.");
    assert_verdict(true, "CLUSTERDOWN The cluster is down");
    assert_verdict(true, "MOVED 1 127.0.0.1:1");
    assert_verdict(true, "OOM");
    /* as Redis 6 says it of a command in a script */
    assert_verdict(true, "ERR Error running script (call to f_00): @user_script:1: "
                         "-READONLY You can't write against a read only replica.");
    assert_verdict(false,
                   "ERR Error running script (call to f_00): @user_script:1: "
                   "user_script:1: Script attempted to access nonexistent global variable 'OOM'");
    assert_verdict(false, "BUSYKEY Target key name already exists.");
    assert_verdict(false, "ERR OOM");
    assert_verdict(false, "WRONGTYPE Operation against a key");
    assert_verdict(false, "NOSCRIPT No matching script.");
    assert_verdict(false, "");
}

/* ---- the end ---- */

static void assert_cancelled(const struct question *q)
{
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->code, ERR_CANCELLED);
}

static void test_free_in_flight(void **state)
{
    struct question q[3] = { 0 };

    (void)state;
    open_it();
    ask(&q[0], "INCR a");
    await(&q[0]);
    ask(&q[0], "INCR a");
    ask_script(&q[1], &the_script, "a");
    turn();
    ask(&q[2], "INCR a"); /* has not left */
    client_close();
    for (int i = 0; i < 3; i++)
        assert_int_equal(q[i].answers, 1);
    assert_cancelled(&q[2]);
}

static void free_it(struct question *q)
{
    (void)q;
    client_close();
}

static void test_free_within(void **state)
{
    struct question q[4] = { { .then = NULL }, { .then = free_it } };

    (void)state;
    open_it();
    for (int i = 0; i < 4; i++)
        ask(&q[i], "INCR a");
    await(&q[1]);
    assert_integer(&q[0], 1);
    assert_integer(&q[1], 2);
    assert_cancelled(&q[2]);
    assert_cancelled(&q[3]);
    turn_for(20);
}

static void test_free_within_failure(void **state)
{
    struct question q[3] = { { .then = free_it } };

    (void)state;
    the_settings.server = (struct redis_node){ "127.0.0.1", redis_free_port() };
    client_open();
    for (int i = 0; i < 3; i++)
        ask(&q[i], "INCR a");
    await(&q[0]);
    assert_int_not_equal(q[0].code, 0);
    assert_int_equal(q[1].answers, 1);
    assert_int_equal(q[2].answers, 1);
    turn_for(20);
}

/* Asks once more from within an answer. */
static void ask_again(struct question *q)
{
    q->then = NULL;
    ask(q, "GET a");
}

static void test_ask_within(void **state)
{
    struct question q = { .then = ask_again };

    (void)state;
    open_it();
    ask(&q, "SET a b");
    turn_for(100);
    assert_reply(&q, REDIS_REPLY_STRING, "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_names),
        T(test_sha1),
        T(test_errors_between),
        T(test_noscript),
        T(test_digest),
        T(test_args_that_stay),
        T(test_script_error),
        T(test_readonly),
        T(test_oom),
        T(test_noperm),
        T(test_verdicts),
        T(test_free_in_flight),
        T(test_free_within),
        T(test_free_within_failure),
        T(test_ask_within),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
