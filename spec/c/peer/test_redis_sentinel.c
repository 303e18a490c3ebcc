/*
 * peer/redis with Sentinels: three of them over a master and two replicas. The
 * master is killed and moved under a stream of INCR; Sentinels are dead, silent,
 * behind a password, or name a server that is no master.
 */
#include "redis_calls.h"

#define NODES 3
#define SENTINELS 3

static struct redis_server *the_nodes[NODES], *the_sentinels[SENTINELS];

static int start_all(void **state)
{
    (void)state;
    sentinels_start(the_nodes, NODES, the_sentinels, SENTINELS, "");
    for (unsigned i = 0; i < SENTINELS; i++)
        await_answer(the_sentinels[i]->port, "INFO sentinel", "slaves=2,sentinels=3");
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    servers_stop();
    return 0;
}

static void add_sentinel(unsigned port)
{
    the_settings.sentinels[the_settings.sentinel_count++] =
        (struct redis_node){ "127.0.0.1", port };
}

static void use_sentinels(void)
{
    the_settings.sentinel_master = "mymaster";
    for (unsigned i = 0; i < SENTINELS; i++)
        add_sentinel(the_sentinels[i]->port);
}

static unsigned master_at(const struct redis_server *sentinel)
{
    const char *at = strstr(tell(sentinel->port, "INFO sentinel"), "address=127.0.0.1:");

    return at ? (unsigned)atoi(at + strlen("address=127.0.0.1:")) : 0;
}

static unsigned master_now(void)
{
    return master_at(the_sentinels[0]);
}

/* Waits until all Sentinels name another one. */
static void await_other_master(unsigned old)
{
    for (unsigned i = 0; i < SENTINELS; i++) {
        for (int n = 0; n < 200 && master_at(the_sentinels[i]) == old; n++)
            usleep(50000);
        assert_int_not_equal(master_at(the_sentinels[i]), old);
    }
}

static void test_finds_the_master(void **state)
{
    struct question q[3] = { 0 };

    (void)state;
    use_sentinels();
    client_open();
    assert_string_equal(redis_name(the_redis), "redis master mymaster");
    ask(&q[0], "SET a b");
    ask(&q[1], "GET a");
    ask(&q[2], "CONFIG GET port");
    assert_reply(&q[0], REDIS_REPLY_STATUS, "OK");
    assert_reply(&q[1], REDIS_REPLY_STRING, "b");
    assert_string_equal(tell(the_nodes[0]->port, "GET a"), "b");
}

static void test_first_is_dead(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_settings.sentinel_master = "mymaster";
    add_sentinel(redis_free_port());
    add_sentinel(the_sentinels[1]->port);
    client_open();
    ask(&q, "SET a c");
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
}

static void test_first_is_silent(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_settings.sentinel_master = "mymaster";
    the_settings.read_ms = 300;
    add_sentinel(the_sentinels[0]->port);
    add_sentinel(the_sentinels[1]->port);
    client_open();
    kill(the_sentinels[0]->pid, SIGSTOP);
    ask(&q, "SET a c");
    await(&q);
    kill(the_sentinels[0]->pid, SIGCONT);
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
}

/* Who waits does so for connect_ms + read_ms, however long the look-up takes. */
static void test_all_are_silent(void **state)
{
    struct question q = { 0 };
    int64_t begun_us, took_us;

    (void)state;
    use_sentinels();
    the_settings.connect_ms = 200;
    the_settings.read_ms = 300;
    client_open();
    for (unsigned i = 0; i < SENTINELS; i++)
        kill(the_sentinels[i]->pid, SIGSTOP);
    begun_us = clock_mono_us_exact();
    ask(&q, "SET a c");
    await(&q);
    took_us = clock_mono_us_exact() - begun_us;
    for (unsigned i = 0; i < SENTINELS; i++)
        kill(the_sentinels[i]->pid, SIGCONT);
    assert_failure(&q, ERR_TIMEOUT, "redis master mymaster: the look-up takes too long");
    assert_true(took_us >= 400000 && took_us < 900000);
}

static void test_unknown_master(void **state)
{
    struct question q[3] = { 0 };
    char dead[80], alive[64];

    (void)state;
    the_settings.sentinel_master = "another";
    add_sentinel(redis_free_port());
    add_sentinel(the_sentinels[1]->port);
    snprintf(dead, sizeof dead, "not found: 127.0.0.1:%u: Connection refused;",
             the_settings.sentinels[0].port);
    snprintf(alive, sizeof alive, "127.0.0.1:%u: does not know this master",
             the_sentinels[1]->port);
    client_open();
    ask(&q[0], "SET a c");
    ask(&q[1], "GET a");
    assert_failure(&q[0], ERR_CLOSED, "redis master another is not found: 127.0.0.1:");
    assert_failure(&q[0], ERR_CLOSED, dead);
    assert_failure(&q[0], ERR_CLOSED, alive);
    assert_failure(&q[1], ERR_CLOSED, alive);
    /* for a while the answer is known */
    ask(&q[2], "GET a");
    turn();
    turn();
    assert_failure(&q[2], ERR_CLOSED, alive);
}

/* ---- passwords ---- */

static void test_passwords(void **state)
{
    struct redis_server *s;
    struct question q = { 0 };
    char conf[200];

    (void)state;
    snprintf(conf, sizeof conf, "requirepass secret\nsentinel monitor locked 127.0.0.1 %u 1\n",
             the_nodes[0]->port);
    s = sentinel_add(conf);
    servers_await();
    the_settings.sentinel_master = "locked";
    add_sentinel(s->port);
    client_open();
    ask(&q, "SET a c");
    assert_failure(&q, ERR_CLOSED, "NOAUTH");
    client_close();
    the_settings.sentinel_password = secret_of("secret");
    client_open();
    ask(&q, "SET a c");
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
    client_close();
    the_settings.sentinel_username = secret_of("nobody");
    client_open();
    ask(&q, "SET a c");
    await(&q);
    assert_int_not_equal(q.code, 0);
    if (!strstr(q.reason, "WRONGPASS"))
        fail_msg("%s", q.reason);
    servers_drop(1);
}

/* ---- roles ---- */

/* Two Sentinels name a replica. Once it has said what it is, it is not asked again. */
static void test_wrong_role(void **state)
{
    struct redis_server *s[2];
    struct question q = { 0 };
    char conf[200], reason[200];

    (void)state;
    snprintf(conf, sizeof conf,
             "sentinel monitor wrong 127.0.0.1 %u 1\n"
             "sentinel down-after-milliseconds wrong 60000\n",
             the_nodes[1]->port);
    the_settings.sentinel_master = "wrong";
    for (int i = 0; i < 2; i++) {
        s[i] = sentinel_add(conf);
        add_sentinel(s[i]->port);
    }
    servers_await();
    TELL_OK(the_nodes[1]->port, "CONFIG RESETSTAT");
    snprintf(reason, sizeof reason,
             "127.0.0.1:%u: names 127.0.0.1:%u: it is a replica; 127.0.0.1:%u: names it, too",
             s[0]->port, the_nodes[1]->port, s[1]->port);
    client_open();
    ask(&q, "SET a c");
    assert_failure(&q, ERR_CLOSED, reason);
    assert_non_null(strstr(tell(the_nodes[1]->port, "INFO commandstats"), "cmdstat_role:calls=1,"));
    servers_drop(2);
}

static long long port_of_reads(void)
{
    struct redis_script s;
    struct question q = { .call = { .read_only = true } };

    redis_script_init(&s, "return redis.call('GET', KEYS[1])");
    ask_script(&q, &s, "where");
    await(&q);
    if (q.code)
        fail_msg("%s", q.reason);
    return atoll(q.text);
}

/* The replicas are told apart from the master by a key that only they have. */
static void test_reads_of_replicas(void **state)
{
    struct question q = { 0 };

    (void)state;
    tell(the_nodes[0]->port, "SET where 1");
    await_answer(the_nodes[1]->port, "GET where", "1");
    await_answer(the_nodes[2]->port, "GET where", "1");
    for (unsigned i = 1; i < NODES; i++) {
        TELL_OK(the_nodes[i]->port, "CONFIG SET replica-read-only no");
        TELL_OK(the_nodes[i]->port, "SET where 2");
    }
    use_sentinels();
    for (int role = REDIS_ROLE_MASTER; role <= REDIS_ROLE_ANY; role++) {
        the_settings.sentinel_role = (enum redis_role)role;
        client_open();
        assert_int_equal(port_of_reads(), role == REDIS_ROLE_MASTER ? 1 : 2);
        ask(&q, "INCRBY where 0");
        assert_integer(&q, 1);
        client_close();
    }
    for (unsigned i = 1; i < NODES; i++)
        TELL_OK(the_nodes[i]->port, "CONFIG SET replica-read-only yes");
}

/* A master without replicas: "any" reads from it, "slave" says that there is none. */
static void test_no_replica(void **state)
{
    struct redis_server *alone = server_add(""), *s;
    struct question q = { .call = { .read_only = true } }, w = { 0 };
    char conf[200];

    (void)state;
    servers_await();
    snprintf(conf, sizeof conf, "sentinel monitor alone 127.0.0.1 %u 1\n", alone->port);
    s = sentinel_add(conf);
    servers_await();
    the_settings.sentinel_master = "alone";
    add_sentinel(s->port);
    the_settings.sentinel_role = REDIS_ROLE_ANY;
    client_open();
    ask(&q, "GET a");
    assert_reply(&q, REDIS_REPLY_NIL, "");
    client_close();
    the_settings.sentinel_role = REDIS_ROLE_SLAVE;
    client_open();
    ask(&q, "GET a");
    ask(&w, "INCR a");
    assert_failure(&q, ERR_CLOSED, "redis master alone has no replica that answers");
    assert_integer(&w, 1);
    servers_drop(2);
}

static bool is_read_of_replica(void)
{
    struct redis_script s;
    struct question q = { .call = { .read_only = true } };

    redis_script_init(&s, "return redis.call('INFO', 'replication'):match('role:(%w+)')");
    ask_script(&q, &s, "a");
    await(&q);
    if (q.code)
        fail_msg("%s", q.reason);
    assert_true(strcmp(q.text, "slave") == 0 || strcmp(q.text, "master") == 0);
    return strcmp(q.text, "slave") == 0;
}

/* Replicas that die under reads: the master takes over until they are back. */
static void test_replicas_die(void **state)
{
    struct question q = { .call = { .read_only = true } };
    bool is_back = false;

    (void)state;
    use_sentinels();
    the_settings.sentinel_role = REDIS_ROLE_ANY;
    the_settings.read_ms = 600;
    client_open();
    assert_true(is_read_of_replica());
    kill(the_nodes[1]->pid, SIGSTOP);
    kill(the_nodes[2]->pid, SIGSTOP);
    ask(&q, "GET a");
    await(&q);
    for (int i = 0; i < 5; i++) {
        assert_false(is_read_of_replica());
        turn_for(100);
    }
    kill(the_nodes[1]->pid, SIGCONT);
    kill(the_nodes[2]->pid, SIGCONT);
    for (int i = 0; i < 60 && !is_back; i++) {
        is_back = is_read_of_replica();
        turn_for(100);
    }
    assert_true(is_back);
}

/* ---- failover ---- */

/* READONLY fails that call; the next one waits for the look-up, which finds nothing better. */
static void test_demoted(void **state)
{
    struct question q = { 0 };
    unsigned port = master_now();
    char reason[64];

    (void)state;
    use_sentinels();
    client_open();
    ask(&q, "SET a 1");
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
    TELL_OK(port, "REPLICAOF 127.0.0.1 1");
    ask(&q, "INCR a");
    assert_failure(&q, ERR_CLOSED, "READONLY");
    snprintf(reason, sizeof reason, "names 127.0.0.1:%u: it is a replica", port);
    ask(&q, "INCR a");
    assert_failure(&q, ERR_CLOSED, reason);
    TELL_OK(port, "REPLICAOF NO ONE");
    turn_for(150);
    ask(&q, "INCR a");
    assert_integer(&q, 2);
}

/*
 * While nobody asks anything: the old master stays one for eight seconds, so that nothing but
 * +switch-master tells of the new one. The first subscription has been lost by then.
 */
static void test_switch_master(void **state)
{
    struct question q = { 0 };
    unsigned old = master_now();

    (void)state;
    use_sentinels();
    client_open();
    ask(&q, "SET switched 1");
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
    for (unsigned i = 1; i < NODES; i++)
        await_answer(the_nodes[i]->port, "GET switched", "1");
    turn_for(100);
    assert_string_equal(tell(the_sentinels[0]->port, "CLIENT KILL TYPE pubsub"), "1");
    turn_for(300);
    TELL_OK(the_sentinels[0]->port, "SENTINEL FAILOVER mymaster");
    await_other_master(old);
    turn_for(100);
    ask(&q, "INCR switched");
    assert_integer(&q, 2);
    assert_string_equal(tell(master_now(), "GET switched"), "2");
    assert_string_equal(tell(old, "GET switched"), "1");
}

static void test_master_is_killed(void **state)
{
    unsigned old = master_now(), i;

    (void)state;
    use_sentinels();
    client_open();
    stream_start("killed", NULL);
    stream_for(300);
    if (the_stream.bad)
        fail_msg("%s", the_stream.reason);
    for (i = 0; the_nodes[i]->port != old; i++)
        ;
    server_kill(the_nodes[i]);
    stream_until_good(20000);
    stream_end();
    await_other_master(old); /* not each Sentinel learns it as soon as the client */
    assert_true(the_stream.bad > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_finds_the_master), T(test_first_is_dead),     T(test_first_is_silent),
        T(test_all_are_silent),   T(test_unknown_master),    T(test_passwords),
        T(test_wrong_role),       T(test_reads_of_replicas), T(test_no_replica),
        T(test_replicas_die),     T(test_demoted),           T(test_switch_master),
        T(test_master_is_killed),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
