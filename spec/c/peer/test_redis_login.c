/*
 * peer/redis_link against a real redis-server whose passwords change: in the
 * vault first, on the server first, under way; and a server of old that minds.
 */
#include "links.h"
#include "keeper.h"
#include "redis_servers.h"
#include "scripted.h"
#include "base/log.h"

#define ACL                                                                                        \
    "user default on nopass sanitize-payload ~* &* +@all\n"                                        \
    "user ann on >first ~* &* +@all\n"                                                             \
    "user bob on >bobs ~* &* +@all\n"
#define REFUSED "AUTH: WRONGPASS invalid username-password pair or user is disabled."

static struct redis_server the_server;
static char the_log[] = "/tmp/weir-login-XXXXXX";
static struct secret *the_password;

static int start_server(void **state)
{
    struct err e;

    (void)state;
    close(mkstemp(the_log));
    assert_int_equal(0, log_open(the_log, LOG_NOTICE, &e));
    redis_start(&the_server, ACL);
    return 0;
}

static int stop_server(void **state)
{
    struct err e;

    (void)state;
    redis_stop(&the_server);
    (void)!log_open("stderr", LOG_NOTICE, &e);
    unlink(the_log);
    return 0;
}

static int set_up(void **state)
{
    links_set_up(state);
    keeper_open(the_loop);
    (void)!truncate(the_log, 0);
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >first");
    the_settings.username = secret_of("ann");
    the_settings.password = the_password = kept("{vault://fs/redis}", "first");
    return 0;
}

static int tear_down(void **state)
{
    keeper_close();
    return links_tear_down(state);
}

static void open_link(void)
{
    link_open("127.0.0.1", the_server.port, REDIS_LINK_DATA);
}

static long long client_id(void)
{
    struct question q = { 0 };

    ask(&q, "CLIENT ID");
    assert_reply(&q, REDIS_REPLY_INTEGER, "");
    return q.integer;
}

/* The server ends all connections of ann's. */
static void cut(void)
{
    tell(the_server.port, "CLIENT KILL USER ann");
}

static unsigned lines_with(const char *text)
{
    static char line[4096];
    FILE *f = fopen(the_log, "r");
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        assert_null(strstr(line, "second"));
        n += strstr(line, text) != NULL;
    }
    fclose(f);
    return n;
}

/* ---- the server is ahead ---- */

static void test_a_refused_password_is_looked_up(void **state)
{
    struct question q[3] = { 0 };
    long long id;

    (void)state;
    open_link();
    id = client_id();
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    assert_int_equal(client_id(), id); /* who is logged in stays it */
    cut();
    turn_for(20);
    the_keeper.value = "second";
    for (unsigned i = 0; i < 3; i++)
        ask(&q[i], "PING");
    for (unsigned i = 0; i < 3; i++)
        assert_reply(&q[i], REDIS_REPLY_STATUS, "PONG");
    assert_int_equal(the_keeper.asked, 1);
    assert_true(client_id() > id);
    assert_int_equal(lines_with(""), 0);
}

/* One look-up for each opening that fails, and all that waits fails with it. */
static void test_a_vault_without_another_value(void **state)
{
    struct question q[2] = { 0 };

    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    open_link();
    the_keeper.value = "first";
    for (unsigned i = 0; i < 2; i++)
        ask(&q[i], "SET trespass 1");
    for (unsigned i = 0; i < 2; i++)
        assert_failure(&q[i], ERR_CONFIG, REFUSED "; {vault://fs/redis} has no other value");
    assert_int_equal(the_keeper.asked, 1);
    the_keeper.value = NULL;
    ask(&q[0], "PING");
    assert_failure(&q[0], ERR_CONFIG, REFUSED "; {vault://fs/redis}: the vault is asleep");
    assert_int_equal(the_keeper.asked, 2);
    the_keeper.value = "third";
    ask(&q[0], "PING");
    assert_failure(&q[0], ERR_CONFIG, REFUSED);
    assert_int_equal(the_keeper.asked, 3);
    the_keeper.value = "second";
    ASSERT_STATUS("PING", "PONG");
    assert_string_equal(tell(the_server.port, "EXISTS trespass"), "0");
}

static void test_a_vault_that_is_slow(void **state)
{
    struct question q = { 0 };

    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    the_settings.connect_ms = 300;
    open_link();
    the_keeper.wait_ms = -1;
    ask(&q, "PING");
    assert_failure(&q, ERR_TIMEOUT, REFUSED "; it takes too long to try another value");
    assert_int_equal(the_keeper.asked, 1);
    renew(the_password, "second");
    ASSERT_STATUS("PING", "PONG");
}

/* It is known already when the server refuses the one before it. */
static void test_a_value_that_comes_while_the_old_one_is_refused(void **state)
{
    struct question q = { 0 };

    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    link_open(the_server.socket, 0, REDIS_LINK_DATA);
    ask(&q, "PING");
    loop_turn(the_loop, false); /* AUTH has left */
    renew(the_password, "second");
    assert_reply(&q, REDIS_REPLY_STATUS, "PONG");
    assert_int_equal(the_keeper.asked, 0);
}

static void test_a_fixed_password_is_not_looked_up(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_settings.password = secret_of("wrong");
    open_link();
    ask(&q, "PING");
    assert_failure(&q, ERR_CONFIG, REFUSED);
    assert_int_equal(the_keeper.asked, 0);
}

/* A user and a password that change together, as a vault's dynamic ones do. */
static void test_user_and_password_are_looked_up(void **state)
{
    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER twin resetpass >twin on ~* &* +@all");
    the_settings.username = kept("{vault://hcv/redis/user}", "gone");
    open_link();
    the_keeper.value = "twin";
    ASSERT_STRING("ACL WHOAMI", "twin");
    assert_int_equal(the_keeper.asked, 2);
}

static void test_forgotten_while_it_is_looked_up(void **state)
{
    struct question q = { 0 };

    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    open_link();
    the_keeper.value = "second";
    the_keeper.wait_ms = 200;
    ask(&q, "PING");
    while (the_keeper.asked == 0)
        turn_for(5);
    redis_link_free(the_link);
    the_link = NULL;
    assert_failure(&q, ERR_CANCELLED, "");
    turn_for(250);
    assert_string_equal(secret_value(the_password).p, "second");
}

/* requirepass, as before Redis 6: no user is named. */
static void test_requirepass(void **state)
{
    struct redis_server s;
    redisContext *boss;
    long long id;

    (void)state;
    redis_start(&s, "requirepass first");
    boss = redisConnect("127.0.0.1", (int)s.port);
    freeReplyObject(redisCommand(boss, "AUTH first"));
    the_settings.username = NULL;
    the_settings.database = 3;
    link_open("127.0.0.1", s.port, REDIS_LINK_DATA);
    id = client_id();
    freeReplyObject(redisCommand(boss, "CONFIG SET requirepass second"));
    renew(the_password, "second"); /* logs in again in place */
    assert_int_equal(client_id(), id);
    freeReplyObject(redisCommand(boss, "CONFIG SET requirepass third"));
    freeReplyObject(redisCommand(boss, "CLIENT KILL TYPE normal SKIPME yes"));
    turn_for(20);
    the_keeper.value = "third";
    ASSERT_STATUS("SET here 1", "OK");
    assert_int_equal(the_keeper.asked, 1);
    assert_int_equal(lines_with(""), 0);
    redisFree(boss);
    redis_stop(&s);
}

/* ---- the vault is ahead, or at the same time ---- */

static void test_logs_in_again_in_place(void **state)
{
    struct secret *user = kept("{vault://fs/user}", "ann");
    long long id;

    (void)state;
    the_settings.username = user;
    the_settings.database = 5;
    open_link();
    id = client_id();
    ASSERT_STATUS("SET in-five 1", "OK");
    renew(user, "bob");
    renew(the_password, "bobs");
    ASSERT_STRING("ACL WHOAMI", "bob");
    ASSERT_STRING("GET in-five", "1"); /* the database is the same */
    assert_int_equal(client_id(), id);
    assert_int_equal(lines_with(""), 0);
}

static void test_a_refusal_leaves_the_connection_as_it_was(void **state)
{
    long long id;

    (void)state;
    open_link();
    id = client_id();
    renew(the_password, "second");
    ASSERT_STRING("ACL WHOAMI", "ann");
    assert_int_equal(client_id(), id);
    assert_int_equal(the_keeper.asked, 0);
    assert_int_equal(lines_with("it refuses the new value of {vault://fs/redis}: WRONGPASS"), 1);
    TELL_OK(the_server.port, "ACL SETUSER ann resetpass >second");
    ASSERT_STRING("ACL WHOAMI", "ann");
    assert_int_equal(client_id(), id);
    cut();
    turn_for(20);
    ASSERT_STRING("ACL WHOAMI", "ann");
    assert_true(client_id() > id);
    assert_int_equal(the_keeper.asked, 0);
    assert_int_equal(lines_with(""), 1);
}

/* The same value, and news of failures, are no reason to do anything. */
static void test_other_news_change_nothing(void **state)
{
    uint64_t auths;

    (void)state;
    open_link();
    ASSERT_STATUS("PING", "PONG");
    auths = strtoull(strstr(tell(the_server.port, "INFO commandstats"), "cmdstat_auth:calls=") + 19,
                     NULL, 10);
    renew(the_password, "first");
    secret_fail(the_password, STR("the vault is asleep"), false);
    secret_fail(the_password, STR("it is gone"), true);
    ASSERT_STATUS("PING", "PONG");
    assert_int_equal(
        strtoull(strstr(tell(the_server.port, "INFO commandstats"), "cmdstat_auth:calls=") + 19,
                 NULL, 10),
        auths);
    assert_null(secret_value(the_password).p);
}

/* A new value every now and then; each command has its answer, in order, once. */
static void test_under_way(void **state)
{
    static struct question q[2000];
    char text[64];

    (void)state;
    TELL_OK(the_server.port, "ACL SETUSER ann >second");
    open_link();
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, "ECHO %u", i);
        ask(&q[i], text);
        if (i % 100 == 50)
            renew(the_password, i % 200 == 50 ? "second" : "first");
        if (i % 7 == 0)
            loop_turn(the_loop, false);
    }
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        snprintf(text, sizeof text, "%u", i);
        assert_reply(&q[i], REDIS_REPLY_STRING, text);
        assert_int_equal(q[i].order, i + 1);
    }
    assert_int_equal(lines_with(""), 0);
}

/* Half of a command has left: AUTH must not come between. */
static void test_while_the_socket_is_full(void **state)
{
    size_t n = (size_t)20 << 20, lens[] = { 3, 1, n };
    char *value = malloc(n);
    const char *argv[] = { "SET", "k", value };
    struct question set = { .cmd.done = question_done }, small = { 0 };

    (void)state;
    the_settings.send_ms = the_settings.read_ms = 15000;
    TELL_OK(the_server.port, "ACL SETUSER ann >second");
    open_link();
    ASSERT_STATUS("PING", "PONG");
    memset(value, 'v', n);
    redis_link_send(the_link, &set.cmd, 3, argv, lens);
    free(value);
    loop_turn(the_loop, false);
    renew(the_password, "second");
    ask(&small, "ECHO behind");
    assert_reply(&set, REDIS_REPLY_STATUS, "OK");
    assert_reply(&small, REDIS_REPLY_STRING, "behind");
    turn_for(20);
    ASSERT_STRING("ACL WHOAMI", "ann");
    TELL_OK(the_server.port, "FLUSHALL");
    assert_int_equal(lines_with(""), 0);
}

/* ---- servers of other kinds ---- */

#define AUTH_AGAIN "*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$6\r\nsecond\r\n"
#define AUTH_OLD "*2\r\n$4\r\nAUTH\r\n$5\r\nfirst\r\n"
#define PING "*1\r\n$4\r\nPING\r\n"

/* Reads what is expected of it, and fails to answer where it is something else. */
static bool expects(struct scripted *s, int fd, const char *bytes)
{
    size_t n = strlen(bytes), had = 0;

    while (had < n) {
        ssize_t more = scripted_read(fd, s->got + had, n - had);

        if (more <= 0)
            return false;
        had += (size_t)more;
    }
    s->got[had] = '\0';
    return strcmp(s->got, bytes) == 0;
}

/* It would take the connection's rights away for a wrong password, and knows no users. */
static void old_server(struct scripted *s)
{
    int fd = scripted_accept(s);

    if (expects(s, fd, AUTH_OLD) && scripted_say(fd, "+OK\r\n") && expects(s, fd, PING) &&
        scripted_say(fd, "+PONG\r\n") && expects(s, fd, AUTH_AGAIN PING))
        scripted_say(fd, "-ERR wrong number of arguments for 'auth' command\r\n+PONG\r\n");
    scripted_closed(fd);
    close(fd);
}

/* Knows AUTH no more, and says what it was given. */
static void talkative_server(struct scripted *s)
{
    int fd = scripted_accept(s);

    if (expects(s, fd, AUTH_OLD) && scripted_say(fd, "+OK\r\n") && expects(s, fd, PING) &&
        scripted_say(fd, "+PONG\r\n") && expects(s, fd, AUTH_AGAIN PING))
        scripted_say(fd, "-ERR unknown command 'AUTH', with args beginning with: 'default' "
                         "'second' \r\n+PONG\r\n");
    scripted_closed(fd);
    close(fd);
}

/* Ends the connection instead of an answer to the second AUTH; the next one is good. */
static void forgetful_server(struct scripted *s)
{
    int fd = scripted_accept(s);

    if (expects(s, fd, AUTH_OLD) && scripted_say(fd, "+OK\r\n") && expects(s, fd, PING) &&
        scripted_say(fd, "+PONG\r\n") && expects(s, fd, AUTH_AGAIN))
        close(fd);
    fd = scripted_accept(s);
    if (expects(s, fd, "*2\r\n$4\r\nAUTH\r\n$6\r\nsecond\r\n") && scripted_say(fd, "+OK\r\n") &&
        expects(s, fd, PING))
        scripted_say(fd, "+PONG\r\n");
    scripted_closed(fd);
    close(fd);
}

static struct scripted *serve(void (*script)(struct scripted *s))
{
    struct scripted *s = calloc(1, sizeof *s);
    int fd = scripted_listener(8, &s->port);

    scripted_start_on(s, fd, script);
    the_settings.username = NULL;
    link_open("127.0.0.1", s->port, REDIS_LINK_DATA);
    return s;
}

static void served(struct scripted *s)
{
    redis_link_free(the_link);
    the_link = NULL;
    loop_turn(the_loop, false);
    scripted_join(s);
    close(s->listener);
    free(s);
}

static void test_a_server_that_minds_a_second_auth(void **state)
{
    struct scripted *s = serve(old_server);

    (void)state;
    ASSERT_STATUS("PING", "PONG");
    renew(the_password, "second");
    ASSERT_STATUS("PING", "PONG");
    assert_int_equal(lines_with(""), 0);
    served(s);
}

static void test_what_a_server_repeats_is_not_shown(void **state)
{
    struct scripted *s = serve(talkative_server);

    (void)state;
    ASSERT_STATUS("PING", "PONG");
    renew(the_password, "second");
    ASSERT_STATUS("PING", "PONG");
    assert_int_equal(lines_with("{vault://fs/redis}: ERR unknown command 'AUTH'; the"), 1);
    assert_int_equal(lines_with("second"), 0);
    served(s);
}

static void test_lost_with_nothing_but_auth_in_flight(void **state)
{
    struct scripted *s = serve(forgetful_server);

    (void)state;
    ASSERT_STATUS("PING", "PONG");
    renew(the_password, "second");
    turn_for(50);
    ASSERT_STATUS("PING", "PONG");
    served(s);
}

int main(void)
{
#define EXAMPLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EXAMPLE(test_a_refused_password_is_looked_up),
        EXAMPLE(test_a_vault_without_another_value),
        EXAMPLE(test_a_vault_that_is_slow),
        EXAMPLE(test_a_value_that_comes_while_the_old_one_is_refused),
        EXAMPLE(test_a_fixed_password_is_not_looked_up),
        EXAMPLE(test_user_and_password_are_looked_up),
        EXAMPLE(test_forgotten_while_it_is_looked_up),
        EXAMPLE(test_requirepass),
        EXAMPLE(test_logs_in_again_in_place),
        EXAMPLE(test_a_refusal_leaves_the_connection_as_it_was),
        EXAMPLE(test_other_news_change_nothing),
        EXAMPLE(test_under_way),
        EXAMPLE(test_while_the_socket_is_full),
        EXAMPLE(test_a_server_that_minds_a_second_auth),
        EXAMPLE(test_what_a_server_repeats_is_not_shown),
        EXAMPLE(test_lost_with_nothing_but_auth_in_flight),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
