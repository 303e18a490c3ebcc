/*
 * peer/redis_link against servers that do what redis-server does not: garbage,
 * replies cut and broken off, silence, words that must not be shown.
 */
#include "links.h"
#include "scripted.h"

#define PING "*1\r\n$4\r\nPING\r\n"

/* ---- scripts ---- */

/* Takes the bytes of so many PINGs, or what the number says. */
static bool take(struct scripted *s, int fd)
{
    size_t n = s->number ? s->number : sizeof PING - 1, had = 0;

    while (had < n) {
        ssize_t more = scripted_read(fd, s->got + had, sizeof s->got - 1 - had);

        if (more <= 0)
            return false;
        had += (size_t)more;
        s->got[had] = '\0';
    }
    s->got_n = had;
    return true;
}

/* One connection: takes, answers with the text, and closes. */
static void answer_and_close(struct scripted *s)
{
    int fd = scripted_accept(s);

    take(s, fd);
    scripted_say(fd, s->text);
    shutdown(fd, SHUT_WR);
    scripted_closed(fd);
    close(fd);
}

/* The same, but waits for the other side to close. */
static void answer_and_wait(struct scripted *s)
{
    int fd = scripted_accept(s);

    take(s, fd);
    scripted_say(fd, s->text);
    scripted_closed(fd);
    close(fd);
}

static void answer_bytewise(struct scripted *s)
{
    int fd = scripted_accept(s);

    take(s, fd);
    for (size_t i = 0; i < s->text_n; i++) {
        scripted_write(fd, s->text + i, 1);
        usleep(300);
    }
    scripted_closed(fd);
    close(fd);
}

/* Says the text before it is asked anything, on one connection after the other. */
static void say_first(struct scripted *s)
{
    for (size_t i = 0; i < s->number; i++) {
        int fd = scripted_accept(s);

        scripted_say(fd, s->text);
        shutdown(fd, SHUT_WR);
        scripted_closed(fd);
        close(fd);
    }
}

static struct scripted *the_server;
static bool is_joined;

static void serve(void (*script)(struct scripted *s), const char *text, size_t number)
{
    int fd;

    if (is_joined) /* a failed example leaves its thread, which goes on reading it */
        free(the_server);
    is_joined = false;
    the_server = calloc(1, sizeof *the_server);
    fd = scripted_listener(64, &the_server->port);
    the_server->text = text;
    the_server->text_n = text ? strlen(text) : 0;
    the_server->number = number;
    scripted_start_on(the_server, fd, script);
    link_open("127.0.0.1", the_server->port, REDIS_LINK_DATA);
}

/* What it saw may be looked at until the next one. */
static void served(void)
{
    if (the_link)
        redis_link_free(the_link);
    the_link = NULL;
    loop_turn(the_loop, false);
    scripted_join(the_server);
    is_joined = true;
    close(the_server->listener);
}

/* ---- replies ---- */

static void test_bytewise(void **state)
{
    struct question q[4] = { 0 };

    (void)state;
    serve(answer_bytewise, "*2\r\n*1\r\n$4\r\na\r\nb\r\n$-1\r\n-ERR x\r\n:12\r\n$0\r\n\r\n",
          4 * (sizeof PING - 1));
    for (unsigned i = 0; i < 4; i++)
        ask(&q[i], "PING");
    assert_reply(&q[0], REDIS_REPLY_ARRAY, "");
    assert_int_equal(q[0].n, 2);
    assert_reply(&q[1], REDIS_REPLY_ERROR, "ERR x");
    assert_reply(&q[2], REDIS_REPLY_INTEGER, "");
    assert_int_equal(q[2].integer, 12);
    assert_reply(&q[3], REDIS_REPLY_STRING, "");
    served();
    assert_int_equal(the_server->connected, 1);
}

/* The first is answered; the others fail with the reason. */
static void assert_broken_off(void (*script)(struct scripted *s), const char *text, int code,
                              const char *reason)
{
    struct question q[3] = { 0 };
    char bytes[256], whole[300];

    snprintf(bytes, sizeof bytes, "+FIRST\r\n%s", text);
    serve(script, bytes, 3 * (sizeof PING - 1));
    snprintf(whole, sizeof whole, "127.0.0.1:%u: %s", the_server->port, reason);
    for (unsigned i = 0; i < 3; i++)
        ask(&q[i], "PING");
    assert_reply(&q[0], REDIS_REPLY_STATUS, "FIRST");
    assert_failure(&q[1], code, whole);
    assert_failure(&q[2], code, whole);
    served();
}

static void test_broken_off(void **state)
{
    (void)state;
    assert_broken_off(answer_and_close, "", ERR_CLOSED, "the server has closed the connection");
    assert_broken_off(answer_and_close, "$5\r\nhel", ERR_CLOSED, "the server has closed");
    assert_broken_off(answer_and_close, "*2\r\n+x\r\n", ERR_CLOSED, "the server has closed");
    assert_broken_off(answer_and_wait, "garbage", ERR_SYNTAX, "no reply of Redis: ");
    assert_broken_off(answer_and_wait, "HTTP/1.1 400 Bad Request\r\n\r\n", ERR_SYNTAX, "no reply");
    assert_broken_off(answer_and_wait, ":NaN\r\n", ERR_SYNTAX, "no reply of Redis: ");
    assert_broken_off(answer_and_wait, "$536870912\r\n", ERR_BOUND, "a reply with a string of");
    assert_broken_off(answer_and_wait, "*1048577\r\n", ERR_BOUND, "a reply that is too large");
    assert_broken_off(answer_and_wait, "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n",
                      ERR_BOUND, "a reply that is too large or too deep");
}

static void test_silence(void **state)
{
    (void)state;
    the_settings.read_ms = 100;
    assert_broken_off(answer_and_wait, "$5\r\nhel", ERR_TIMEOUT, "it does not answer in time");
}

/* Each write has a deadline of its own: later ones do not put it off. */
static void test_steady_but_late(void **state)
{
    struct question q[60] = { 0 };
    unsigned sent = 0;

    (void)state;
    the_settings.read_ms = 600;
    serve(answer_and_wait, "+1\r\n+2\r\n", 2 * (sizeof PING - 1));
    while (sent < ARRAY_LEN(q) && !q[2].answers) {
        ask(&q[sent++], "PING");
        turn_for(25);
    }
    assert_true(sent < ARRAY_LEN(q));
    assert_reply(&q[1], REDIS_REPLY_STATUS, "2");
    for (unsigned i = 2; i < sent; i++)
        assert_failure(&q[i], ERR_TIMEOUT, "it does not answer in time");
    served();
}

/* A listener whose backlog is full takes no connection. */
static void test_not_taken(void **state)
{
    struct question q = { 0 };
    unsigned port;
    int listener = scripted_listener(0, &port), fillers[4];
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)port) };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(connect(fillers[i], (struct sockaddr *)&in, sizeof in) != 0);
    }
    the_settings.connect_ms = 150;
    link_open("127.0.0.1", port, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_TIMEOUT, ": it does not take the connection in time");
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++)
        close(fillers[i]);
    close(listener);
}

static void test_no_name(void **state)
{
    struct question q = { 0 };

    (void)state;
    link_open("", 6379, REDIS_LINK_DATA);
    ask(&q, "PING");
    assert_failure(&q, ERR_SYSTEM, ":6379: this is not a name");
}

/* Reads a part, waits, reads the rest and answers all commands. */
#define QUEUED 60
#define QUEUED_LATER 30
#define COMMAND_BYTES ((size_t)1 << 20)

static bool drain(int fd, size_t n)
{
    static char sink[1 << 18];

    while (n) {
        ssize_t done = scripted_read(fd, sink, n < sizeof sink ? n : sizeof sink);

        if (done <= 0)
            return false;
        n -= (size_t)done;
    }
    return true;
}

static void read_slowly(struct scripted *s)
{
    int fd = scripted_accept(s);
    size_t each = sizeof "*2\r\n$4\r\nECHO\r\n$1048576\r\n\r\n" - 1 + COMMAND_BYTES;
    size_t first = 45 * each;

    drain(fd, first);
    s->number = 1;
    usleep(300000);
    drain(fd, (QUEUED + QUEUED_LATER) * each - first);
    for (int i = 0; i < QUEUED + QUEUED_LATER; i++)
        scripted_say(fd, "+OK\r\n");
    scripted_closed(fd);
    close(fd);
}

/* What waits is bounded, not what has passed while some waited. */
static void test_slow_reader(void **state)
{
    static struct question q[QUEUED + QUEUED_LATER];
    size_t lens[] = { 4, COMMAND_BYTES };
    char *value = calloc(1, COMMAND_BYTES);
    const char *argv[] = { "ECHO", value };

    (void)state;
    serve(read_slowly, NULL, 0);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
        q[i] = (struct question){ .cmd.done = question_done };
        redis_link_send(the_link, &q[i].cmd, 2, argv, lens);
        while (i == QUEUED - 1 && the_server->number == 0)
            turn_for(5);
    }
    free(value);
    for (unsigned i = 0; i < ARRAY_LEN(q); i++)
        assert_reply(&q[i], REDIS_REPLY_STATUS, "OK");
    served();
}

/* ---- replies that answer nothing ---- */

static void test_refused_first(void **state)
{
    struct question q[3] = { 0 };

    (void)state;
    serve(say_first, "-ERR max number of clients reached\r\n", 2);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3; i++)
            ask(&q[i], "PING");
        for (unsigned i = 0; i < 3; i++)
            assert_failure(&q[i], ERR_CLOSED, ": ERR max number of clients reached");
    }
    served();
    assert_int_equal(the_server->connected, 2);
}

static void test_unasked(void **state)
{
    struct question q = { 0 };

    (void)state;
    serve(answer_and_wait, "+PONG\r\n+PONG\r\n", 0);
    ask(&q, "PING");
    assert_reply(&q, REDIS_REPLY_STATUS, "PONG");
    /* the second ended the connection: it will not be taken for an answer */
    served();
    assert_int_equal(the_server->connected, 1);
}

/* A reply to what has not left whole yet; the rest must not go to the next connection. */
static void answer_early(struct scripted *s)
{
    int fd = scripted_accept(s);

    take(s, fd);
    scripted_say(fd, "+EARLY\r\n");
    usleep(100000);
    shutdown(fd, SHUT_WR);
    usleep(20000);
    close(fd);
    s->number = 0;
    fd = scripted_accept(s);
    take(s, fd);
    scripted_say(fd, "+PONG\r\n");
    scripted_closed(fd);
    close(fd);
}

static void test_early_reply(void **state)
{
    size_t n = (size_t)40 << 20, lens[] = { 4, n };
    char *value = calloc(1, n);
    const char *argv[] = { "ECHO", value };
    struct question large = { .cmd.done = question_done }, behind = { 0 };

    (void)state;
    serve(answer_early, NULL, 100);
    redis_link_send(the_link, &large.cmd, 2, argv, lens);
    free(value);
    assert_reply(&large, REDIS_REPLY_STATUS, "EARLY");
    turn_for(20); /* the socket is full again: the next one waits behind the rest */
    ask(&behind, "PING");
    assert_failure(&behind, ERR_CLOSED, ": ");
    ASSERT_STATUS("PING", "PONG");
    served();
    assert_string_equal(the_server->got, PING);
}

/* ---- the greeting ---- */

#define AUTH "*2\r\n$4\r\nAUTH\r\n$6\r\ntop^se\r\n"
#define SELECT "*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n"

static void assert_greeted(const char *text, int code, const char *reason)
{
    struct question q = { 0 };

    the_settings.password = secret_of("top^se");
    the_settings.database = 4;
    serve(answer_and_wait, text, sizeof AUTH SELECT - 1);
    ask(&q, "PING");
    assert_failure(&q, code, reason);
    assert_null(strstr(q.reason, "top^se"));
    served();
    /* the command has not left */
    assert_string_equal(the_server->got, AUTH SELECT);
}

static void test_greeting(void **state)
{
    (void)state;
    the_settings.read_ms = 100;
    assert_greeted("-ERR unknown command `AUTH`, with args beginning with: `top^se`, \r\n+OK\r\n",
                   ERR_CONFIG, ": AUTH: ERR unknown command `AUTH`");
    assert_greeted("-ERR \x1b[31m\tbad\r\n", ERR_CONFIG, ": AUTH: ERR ?[31m?bad");
    assert_greeted("+OK\r\n-ERR DB index is out of range\r\n", ERR_CONFIG,
                   ": SELECT: ERR DB index is out of range");
    assert_greeted("+OK\r\n:1\r\n", ERR_SYNTAX, ": SELECT: ");
    assert_greeted("+OK\r\n", ERR_TIMEOUT, ": it does not answer in time");
    assert_greeted("-ERR max number of clients reached\r\n", ERR_CLOSED,
                   ": ERR max number of clients reached");
}

/* ---- subscriptions ---- */

static unsigned the_messages;

static void on_push(void *arg, const struct redisReply *reply)
{
    (void)arg;
    the_messages += reply != NULL;
}

static void test_message_before_answer(void **state)
{
    struct question q = { 0 };

    (void)state;
    the_messages = 0;
    serve(answer_and_wait,
          "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n:3\r\n", 0);
    redis_link_on_push(the_link, on_push, NULL);
    ask(&q, "PING");
    assert_reply(&q, REDIS_REPLY_ARRAY, "");
    assert_int_equal(q.n, 2);
    turn_for(20);
    assert_int_equal(the_messages, 2);
    served();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_bytewise),    T(test_broken_off),  T(test_silence),  T(test_steady_but_late),
        T(test_slow_reader), T(test_not_taken),   T(test_no_name),  T(test_refused_first),
        T(test_unasked),     T(test_early_reply), T(test_greeting), T(test_message_before_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
