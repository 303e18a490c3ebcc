/*
 * peer/redis with a Cluster of three masters with a replica each: keys
 * everywhere, a slot that moves and a master that dies under a stream of INCR,
 * nodes that do not say who they are, and one that redirects to itself forever.
 */
#include "redis_calls.h"
#include "peer/redis_slot.h"
#include <poll.h>
#include <pthread.h>

#define NODES (2 * CLUSTER_MASTERS)

static struct redis_server *the_nodes[NODES];
static struct redis_script the_script; /* INCR */

static int start_all(void **state)
{
    (void)state;
    redis_script_init(&the_script, "return redis.call('INCR', KEYS[1])");
    cluster_start(the_nodes);
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    servers_stop();
    return 0;
}

static void add_node(unsigned port)
{
    the_settings.cluster[the_settings.cluster_count++] = (struct redis_node){ "127.0.0.1", port };
}

static void open_it(void)
{
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++) {
        tell(the_nodes[i]->port, "FLUSHALL");
        tell(the_nodes[i]->port, "SCRIPT FLUSH");
        tell(the_nodes[i]->port, "CONFIG RESETSTAT");
    }
    add_node(the_nodes[1]->port);
    client_open();
}

static unsigned number_behind(unsigned port, const char *section, const char *text)
{
    const char *at = strstr(tell(port, "INFO %s", section), text);

    return at ? (unsigned)atoi(at + strlen(text)) : 0;
}

static unsigned calls_of(unsigned port, const char *command)
{
    char text[64];

    snprintf(text, sizeof text, "cmdstat_%s:calls=", command);
    return number_behind(port, "commandstats", text);
}

static unsigned moved_by(unsigned port)
{
    return number_behind(port, "errorstats", "errorstat_MOVED:count=");
}

/* ---- keys ---- */

static void test_keys_everywhere(void **state)
{
    static struct question q[300];
    char text[64];

    (void)state;
    open_it();
    memset(q, 0, sizeof q);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, "key:%u", i);
        ask_script(&q[i], &the_script, text);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        assert_integer(&q[i], 1);
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++)
        assert_true(atoi(tell(the_nodes[i]->port, "DBSIZE")) > 50);
    /* the map was asked for once, and all of a node left together; so did the texts */
    assert_int_equal(calls_of(the_nodes[1]->port, "cluster|slots"), 1);
    assert_in_range(redis_write_count(the_redis), 4, 7);
}

static void test_noscript(void **state)
{
    struct question q[3] = { 0 };
    static const char *const KEYS[] = { "a", "b", "c" };

    (void)state;
    open_it();
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 3; i++)
            ask_script(&q[i], &the_script, KEYS[i]);
        for (int i = 0; i < 3; i++)
            assert_integer(&q[i], round);
        for (int i = 0; round == 2 && i < CLUSTER_MASTERS; i++)
            tell(the_nodes[i]->port, "SCRIPT FLUSH");
    }
}

static void test_other_errors(void **state)
{
    struct question q[3] = { 0 };

    (void)state;
    open_it();
    ask(&q[0], "SET a word");
    ask(&q[1], "INCR a");
    ask(&q[2], "PING");
    assert_reply(&q[0], REDIS_REPLY_STATUS, "OK");
    assert_reply(&q[1], REDIS_REPLY_ERROR, "ERR value is not an integer or out of range");
    assert_reply(&q[2], REDIS_REPLY_STATUS, "PONG");
}

static void test_args_that_stay(void **state)
{
    static const char *const argv[] = { "INCRBY", "stays", "7" };
    struct question q = { .call = { .args_stay = true, .done = question_done } };

    (void)state;
    open_it();
    redis_send(the_redis, &q.call, STR("stays"), 3, argv, NULL);
    assert_null(q.call.copy);
    assert_integer(&q, 7);
}

/* ---- nodes ---- */

static void test_first_is_dead(void **state)
{
    struct question q = { 0 };

    (void)state;
    add_node(redis_free_port());
    open_it();
    ask(&q, "INCR a");
    assert_integer(&q, 1);
}

static void test_no_node(void **state)
{
    struct question q[2] = { 0 };
    struct redis_server *alone = server_add("");
    char dead[120], other[100];

    (void)state;
    servers_await();
    add_node(redis_free_port());
    add_node(alone->port);
    snprintf(
        dead, sizeof dead,
        "redis cluster 127.0.0.1:%u: no node tells the slots: 127.0.0.1:%u: Connection refused;",
        the_settings.cluster[0].port, the_settings.cluster[0].port);
    snprintf(other, sizeof other, "127.0.0.1:%u: ERR This instance has cluster support disabled",
             alone->port);
    client_open();
    ask(&q[0], "INCR a");
    ask(&q[1], "INCR b");
    for (int i = 0; i < 2; i++) {
        assert_failure(&q[i], ERR_CLOSED, dead);
        assert_failure(&q[i], ERR_CLOSED, other);
    }
    ask(&q[0], "INCR a");
    assert_failure(&q[0], ERR_CLOSED, dead);
    servers_drop(1);
}

/* They announce no host at all: they are where they were asked. */
static void test_empty_host(void **state)
{
    static struct question q[50];
    char text[64];

    (void)state;
    for (unsigned i = 0; i < NODES; i++)
        TELL_OK(the_nodes[i]->port, "CONFIG SET cluster-preferred-endpoint-type unknown-endpoint");
    open_it();
    memset(q, 0, sizeof q);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, "INCR key:%u", i);
        ask(&q[i], text);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        await(&q[i]);
    for (unsigned i = 0; i < NODES; i++)
        TELL_OK(the_nodes[i]->port, "CONFIG SET cluster-preferred-endpoint-type ip");
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        assert_integer(&q[i], 1);
}

/* TLS and the password are every node's: half of the slots are with one that was never named. */
static void test_tls_and_password(void **state)
{
    static struct question q[40];
    struct redis_server *s[2];
    char dir[] = "/tmp/weir-redis-tls-XXXXXX", command[512], conf[512], ca[64];
    unsigned tls_ports[2], bus[2];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(ca, sizeof ca, "%s/c.crt", dir);
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
             "-days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1 -keyout c.key -out c.crt "
             "2>/dev/null",
             dir);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 2; i++) {
        tls_ports[i] = redis_free_port();
        bus[i] = redis_free_port();
        snprintf(
            conf, sizeof conf,
            "cluster-enabled yes\ntls-cluster yes\ncluster-port %u\ntls-port %u\ntls-cert-file %s\n"
            "tls-key-file %s/c.key\ntls-ca-cert-file %s\ntls-auth-clients no\n",
            bus[i], tls_ports[i], ca, dir, ca);
        s[i] = server_add(conf);
    }
    servers_await();
    TELL_OK(s[1]->port, "CLUSTER MEET 127.0.0.1 %u %u", tls_ports[0], bus[0]);
    TELL_OK(s[0]->port, "CLUSTER ADDSLOTSRANGE 0 8191");
    TELL_OK(s[1]->port, "CLUSTER ADDSLOTSRANGE 8192 16383");
    for (int i = 0; i < 2; i++)
        await_answer(s[i]->port, "CLUSTER INFO", "cluster_state:ok");
    for (int i = 0; i < 2; i++)
        TELL_OK(s[i]->port, "CONFIG SET requirepass secret");
    the_settings.ssl = the_settings.ssl_verify = true;
    the_settings.ca_file = ca;
    the_settings.password = secret_of("secret");
    add_node(tls_ports[0]);
    client_open();
    memset(q, 0, sizeof q);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(command, sizeof command, "INCR key:%u", i);
        ask(&q[i], command);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        assert_integer(&q[i], 1);
    client_close();
    servers_drop(2);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* ---- a slot that moves ---- */

static char the_ids[CLUSTER_MASTERS][64];

static void learn_ids(void)
{
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++)
        snprintf(the_ids[i], sizeof the_ids[i], "%s", tell(the_nodes[i]->port, "CLUSTER MYID"));
}

static void begin_move(unsigned slot, unsigned from, unsigned to)
{
    TELL_OK(the_nodes[to]->port, "CLUSTER SETSLOT %u IMPORTING %s", slot, the_ids[from]);
    TELL_OK(the_nodes[from]->port, "CLUSTER SETSLOT %u MIGRATING %s", slot, the_ids[to]);
}

static void move_key(const char *key, unsigned from, unsigned to)
{
    const char *answer =
        tell(the_nodes[from]->port, "MIGRATE 127.0.0.1 %u %s 0 5000", the_nodes[to]->port, key);

    assert_true(strcmp(answer, "OK") == 0 || strcmp(answer, "NOKEY") == 0);
}

static void end_move(unsigned slot, unsigned to)
{
    TELL_OK(the_nodes[to]->port, "CLUSTER SETSLOT %u NODE %s", slot, the_ids[to]);
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++)
        TELL_OK(the_nodes[i]->port, "CLUSTER SETSLOT %u NODE %s", slot, the_ids[to]);
}

static unsigned owner_of(unsigned slot)
{
    return slot * CLUSTER_MASTERS / REDIS_SLOTS;
}

/* Every key's count is the number of its good answers: nothing twice, nothing lost. */
static void assert_stream_counts(void)
{
    struct question q = { 0 };
    char text[64];

    for (unsigned i = 0; i < STREAM_KEYS; i++) {
        snprintf(text, sizeof text, "INCRBY %s:%u 0", the_stream.key, i);
        ask(&q, text);
        assert_integer(&q, the_stream.good_of[i]);
    }
}

static void move_under_load(const struct redis_script *script)
{
    unsigned slot = redis_slot(STR("moving")), from = owner_of(slot), to = (from + 1) % 3;
    unsigned maps = 0;
    char key[64];

    open_it();
    learn_ids();
    stream_start("{moving}", script);
    stream_for(100);
    begin_move(slot, from, to);
    stream_for(100);
    for (unsigned i = 0; i < STREAM_KEYS; i++) {
        snprintf(key, sizeof key, "{moving}:%u", i);
        move_key(key, from, to);
        stream_for(2);
    }
    assert_true(calls_of(the_nodes[to]->port, "asking") > STREAM_KEYS);
    assert_int_equal(moved_by(the_nodes[to]->port), 0);
    end_move(slot, to);
    stream_for(200);
    stream_end();
    if (the_stream.bad)
        fail_msg("%s", the_stream.reason);
    assert_stream_counts();
    for (unsigned i = 0; i < NODES; i++)
        maps += calls_of(the_nodes[i]->port, "cluster|slots");
    assert_in_range(maps, 1, 4);
    /* and back, at rest; the client hears of it by MOVED */
    begin_move(slot, to, from);
    for (unsigned i = 0; i < STREAM_KEYS; i++) {
        snprintf(key, sizeof key, "{moving}:%u", i);
        move_key(key, to, from);
    }
    end_move(slot, from);
    assert_stream_counts();
}

static void test_slot_moves(void **state)
{
    (void)state;
    move_under_load(NULL);
}

/* The new node does not know the script: EVAL needs ASKING, too. */
static void test_slot_moves_under_scripts(void **state)
{
    (void)state;
    the_settings.cluster_max_redirections = 2;
    move_under_load(&the_script);
}

/* The second time within a second, when the whole map is not asked for again. */
static void test_moved_slot_is_remembered(void **state)
{
    unsigned slot = redis_slot(STR("there")), from = owner_of(slot), to = (from + 1) % 3;
    struct question q = { 0 };

    (void)state;
    open_it();
    learn_ids();
    for (unsigned way = 0; way < 2; way++) {
        ask(&q, "INCR {there}");
        await(&q);
        begin_move(slot, way ? to : from, way ? from : to);
        move_key("{there}", way ? to : from, way ? from : to);
        end_move(slot, way ? from : to);
    }
    for (int i = 3; i < 23; i++) {
        ask(&q, "INCR {there}");
        assert_integer(&q, i);
    }
    assert_int_equal(moved_by(the_nodes[from]->port), 1);
    assert_int_equal(moved_by(the_nodes[to]->port), 1);
}

/* Two keys, of which one has gone: TRYAGAIN, until the slot has moved or the time is over. */
static void test_try_again(void **state)
{
    unsigned slot = redis_slot(STR("again")), from = owner_of(slot), to = (from + 1) % 3;
    struct question q = { 0 };
    int64_t begun_us;

    (void)state;
    the_settings.read_ms = 1200;
    open_it();
    learn_ids();
    ask(&q, "MSET {again}:1 a {again}:2 b");
    assert_reply(&q, REDIS_REPLY_STATUS, "OK");
    begin_move(slot, from, to);
    move_key("{again}:1", from, to);
    begun_us = clock_mono_us_exact();
    ask(&q, "EXISTS {again}:1 {again}:2");
    assert_failure(&q, ERR_CLOSED, "TRYAGAIN");
    assert_in_range(clock_mono_us_exact() - begun_us, 800000, 2500000);
    ask(&q, "EXISTS {again}:1 {again}:2");
    turn_for(100);
    assert_int_equal(q.answers, 0);
    move_key("{again}:2", from, to);
    end_move(slot, to);
    assert_integer(&q, 2);
    begin_move(slot, to, from);
    move_key("{again}:1", to, from);
    move_key("{again}:2", to, from);
    end_move(slot, from);
}

/* A slot that nobody has: its calls wait for somebody who takes it. */
static void test_slot_of_nobody(void **state)
{
    unsigned slot = redis_slot(STR("nobody's")), owner = owner_of(slot);
    struct question q[2] = { 0 };

    (void)state;
    add_node(the_nodes[owner]->port);
    open_it();
    TELL_OK(the_nodes[owner]->port, "CLUSTER DELSLOTS %u", slot);
    ask(&q[0], "INCR nobody's");
    turn_for(200);
    assert_int_equal(q[0].answers, 0);
    TELL_OK(the_nodes[owner]->port, "CLUSTER ADDSLOTS %u", slot);
    assert_integer(&q[0], 1);
    /* once more; the client ends meanwhile */
    TELL_OK(the_nodes[owner]->port, "CLUSTER DELSLOTS %u", slot);
    ask(&q[1], "INCR nobody's");
    turn_for(100);
    assert_int_equal(q[1].answers, 0);
    client_close();
    TELL_OK(the_nodes[owner]->port, "CLUSTER ADDSLOTS %u", slot);
    assert_int_equal(q[1].answers, 1);
    assert_int_equal(q[1].code, ERR_CANCELLED);
    turn_for(50);
}

/* ---- one that redirects to itself ---- */

struct liar {
    int listener, end[2];
    const char *host; /* that it names; "": none */
    unsigned port, maps, commands;
    pthread_t thread;
};

static void answer(struct liar *l, int fd, const char *request)
{
    char text[200];

    for (const char *at = request; (at = strstr(at, "*")); at++) {
        if (strstr(at, "SLOTS") && strstr(at, "SLOTS") < at + 40) {
            l->maps++;
            snprintf(text, sizeof text,
                     "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n", l->port);
        } else {
            l->commands++;
            snprintf(text, sizeof text, "-MOVED 1 %s:%u\r\n", l->host, l->port);
        }
        if (write(fd, text, strlen(text)) < 0)
            return;
    }
}

static void *lie(void *arg)
{
    struct liar *l = arg;
    struct pollfd fds[2] = { { .fd = l->end[0], .events = POLLIN },
                             { .fd = l->listener, .events = POLLIN } };
    int fd = -1;

    while (poll(fds, 2, -1) > 0 && !fds[0].revents) {
        char request[65536];
        ssize_t n;

        if (fd < 0) {
            fd = accept(l->listener, NULL, NULL);
            fds[1].fd = fd;
            continue;
        }
        n = read(fd, request, sizeof request - 1);
        if (n <= 0)
            break;
        request[n] = '\0';
        answer(l, fd, request);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void ask_liar(const char *host)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    static struct liar l; /* its thread goes on when the example fails */
    static struct question q[20];

    l = (struct liar){ .listener = socket(AF_INET, SOCK_STREAM, 0),
                       .port = redis_free_port(),
                       .host = host };
    in.sin_port = htons((uint16_t)l.port);
    assert_int_equal(bind(l.listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(l.listener, 5), 0);
    assert_int_equal(pipe(l.end), 0);
    pthread_create(&l.thread, NULL, lie, &l);
    add_node(l.port);
    the_settings.cluster_max_redirections = 3;
    the_settings.read_ms = 5000;
    client_open();
    for (int round = 0; round < 15; round++) {
        memset(q, 0, sizeof q);
        for (unsigned i = 0; i < ARRAY_LEN(q); i++)
            ask(&q[i], "INCR a");
        for (unsigned i = 0; i < ARRAY_LEN(q); i++)
            assert_failure(&q[i], ERR_CLOSED, "more than 3 redirections: MOVED 1 ");
        turn_for(100);
    }
    if (write(l.end[1], "", 1) != 1)
        fail();
    pthread_join(l.thread, NULL);
    close(l.end[0]);
    close(l.end[1]);
    close(l.listener);
    assert_int_equal(l.commands, 15 * 20 * 4);
    assert_in_range(l.maps, 2, 3);
}

static void test_moved_forever(void **state)
{
    (void)state;
    ask_liar("127.0.0.1");
}

static void test_moved_without_host(void **state)
{
    (void)state;
    ask_liar("");
}

/* ---- the end ---- */

static void free_it(struct question *q)
{
    (void)q;
    client_close();
}

static void test_free_within(void **state)
{
    struct question q[4] = { { .then = free_it } };

    (void)state;
    open_it();
    ask(&q[3], "INCR a");
    assert_integer(&q[3], 1);
    ask(&q[0], "INCR a");
    ask(&q[1], "INCR b");
    ask(&q[2], "INCR c");
    await(&q[0]);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(q[i].answers, 1);
        assert_true(q[i].code == 0 || q[i].code == ERR_CANCELLED);
    }
    turn_for(50);
}

/* With calls that wait for the map, and with some that pause. */
static void test_free_waiting(void **state)
{
    struct question q[2] = { 0 };

    (void)state;
    open_it();
    ask(&q[0], "INCR a");
    client_close();
    assert_int_equal(q[0].code, ERR_CANCELLED);
    client_open();
    ask(&q[0], "INCR a");
    turn();
    client_close();
    assert_int_equal(q[0].answers, 1);
    turn_for(50);
}

/* ---- failover ---- */

static void test_master_is_killed(void **state)
{
    struct question q = { 0 };
    char tag[16];

    (void)state;
    /* no other node hears of it, and could say that the cluster is down */
    for (unsigned i = 0; i == 0 || owner_of(redis_slot(str_from(tag))) != 0; i++)
        snprintf(tag, sizeof tag, "{%u}", i);
    open_it();
    stream_start(tag, &the_script);
    stream_for(200);
    if (the_stream.bad)
        fail_msg("%s", the_stream.reason);
    server_kill(the_nodes[0]);
    stream_until_good(20000);
    stream_end();
    assert_true(the_stream.bad > 0);
    /* the replica has become the master */
    assert_non_null(
        strstr(tell(the_nodes[CLUSTER_MASTERS]->port, "INFO replication"), "role:master"));
    ask(&q, "INCR any");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_keys_everywhere),
        T(test_noscript),
        T(test_other_errors),
        T(test_args_that_stay),
        T(test_first_is_dead),
        T(test_no_node),
        T(test_empty_host),
        T(test_tls_and_password),
        T(test_slot_moves),
        T(test_slot_moves_under_scripts),
        T(test_moved_slot_is_remembered),
        T(test_try_again),
        T(test_slot_of_nobody),
        T(test_moved_forever),
        T(test_moved_without_host),
        T(test_free_within),
        T(test_free_waiting),
        T(test_master_is_killed),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
