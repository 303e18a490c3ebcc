/*
 * peer/redis_replies: every kind of reply cut at every byte, and what a server
 * may announce without our believing it.
 */
#include "peer/redis_replies.h"
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static struct redis_replies the_replies;
static struct buf the_text; /* of the replies so far */

static int set_up(void **state)
{
    (void)state;
    redis_replies_init(&the_replies);
    the_text = (struct buf){ 0 };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    redis_replies_fini(&the_replies);
    buf_free(&the_text);
    return 0;
}

static void put(const char *fmt, ...) PRINTF(1, 2);

static void put(const char *fmt, ...)
{
    static char text[80000];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof text);
    assert_int_equal(buf_add(&the_text, text, (size_t)n), 0);
}

static void put_reply(const struct redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        put("%lld ", reply->integer);
        break;
    case REDIS_REPLY_NIL:
        put("nil ");
        break;
    case REDIS_REPLY_ARRAY:
        put("[ ");
        for (size_t i = 0; i < reply->elements; i++)
            put_reply(reply->element[i]);
        put("] ");
        break;
    default:
        assert_int_equal(strlen(reply->str), reply->len);
        put("%s%s ",
            reply->type == REDIS_REPLY_ERROR    ? "!"
            : reply->type == REDIS_REPLY_STATUS ? "+"
                                                : "$",
            reply->str);
    }
}

/* Feeds it in steps; 0, or what stopped it. */
static int feed(const char *p, size_t n, size_t step, struct err *e)
{
    const struct redisReply *reply;
    int rc = 0;

    for (size_t at = 0; at < n && rc == 0; at += step) {
        redis_replies_feed(&the_replies, p + at, n - at < step ? n - at : step);
        while ((rc = redis_replies_next(&the_replies, &reply, e)) > 0)
            put_reply(reply);
    }
    return rc;
}

static void assert_text(const char *expected)
{
    assert_int_equal(buf_add(&the_text, "", 1), 0);
    assert_string_equal(the_text.p, expected);
    the_text.n = 0;
}

static void test_kinds(void **state)
{
    static const char BYTES[] =
        "+OK\r\n-ERR "
        "no\r\n:-9223372036854775808\r\n:9223372036854775807\r\n$-1\r\n*-1\r\n$0\r\n\r\n"
        "$4\r\na\nbc\r\n*0\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n-BAD y\r\n$-1\r\n+\r\n"
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n";
    static const char TEXT[] =
        "+OK !ERR no -9223372036854775808 9223372036854775807 nil nil $ "
        "$a\nbc [ ] [ 1 [ $x !BAD y ] nil ] + [ [ [ [ [ [ [ 7 ] ] ] ] ] ] ] ";
    struct err e;

    (void)state;
    for (size_t step = 1; step <= sizeof BYTES; step++) {
        assert_int_equal(feed(BYTES, sizeof BYTES - 1, step, &e), 0);
        assert_text(TEXT);
    }
}

/* Room for the elements grows at 8, 16, 32... */
static void test_many_elements(void **state)
{
    struct buf bytes = { 0 }, expected = { 0 };
    char text[32];
    struct err e;

    (void)state;
    for (int count = 1; count < 70; count++) {
        bytes.n = expected.n = 0;
        snprintf(text, sizeof text, "*%d\r\n", count);
        assert_int_equal(buf_add(&bytes, text, strlen(text)), 0);
        assert_int_equal(buf_add(&expected, "[ ", 2), 0);
        for (int i = 0; i < count; i++) {
            snprintf(text, sizeof text, ":%d\r\n", i);
            assert_int_equal(buf_add(&bytes, text, strlen(text)), 0);
            snprintf(text, sizeof text, "%d ", i);
            assert_int_equal(buf_add(&expected, text, strlen(text)), 0);
        }
        assert_int_equal(buf_add(&expected, "] ", 3), 0);
        assert_int_equal(feed(bytes.p, bytes.n, 7, &e), 0);
        assert_text(expected.p);
    }
    buf_free(&bytes);
    buf_free(&expected);
}

static void test_refused(void **state)
{
    static const struct {
        const char *bytes;
        int code;
        const char *reason;
    } BAD[] = {
        { "HTTP/1.1 400 Bad Request\r\n", ERR_SYNTAX, "no reply of Redis: " },
        { "\r\n", ERR_SYNTAX, "" },
        { "+OK\r\nOK\r\n", ERR_SYNTAX, "" },
        { ":nan\r\n", ERR_SYNTAX, "" },
        { ":9223372036854775808\r\n", ERR_SYNTAX, "" },
        { "$x\r\n", ERR_SYNTAX, "" },
        { "$-2\r\n", ERR_SYNTAX, "" },
        { "$67108865\r\n", ERR_BOUND, "a string of more than 67108864 bytes" },
        { "$536870912\r\n", ERR_BOUND, "a string of more than 67108864 bytes" },
        { "$9223372036854775807\r\n", ERR_BOUND, "a string of more than" },
        { "$18446744073709551616\r\n", ERR_SYNTAX, "" },
        { "*2\r\n:1\r\n$67108865\r\nx", ERR_BOUND, "a string of more than" },
        { "*-2\r\n", ERR_SYNTAX, "" },
        { "*1048577\r\n", ERR_BOUND, "a reply that is too large" },
        { "*1\r\n*2147483647\r\n", ERR_BOUND, "a reply that is too large" },
        { "*4294967297\r\n", ERR_SYNTAX, "" },
        { "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n", ERR_BOUND, "too deep" },
        { "%1\r\n+a\r\n+b\r\n", ERR_SYNTAX, "" },
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        for (size_t step = 1; step < 40; step += 38) {
            int rc;

            redis_replies_reset(&the_replies);
            rc = feed(BAD[i].bytes, strlen(BAD[i].bytes), step, &e);
            if (rc != BAD[i].code || !strstr(e.text, BAD[i].reason))
                fail_msg("%s: %d %s", BAD[i].bytes, rc, rc ? e.text : "");
        }
    /* and good again on a new connection */
    redis_replies_reset(&the_replies);
    the_text.n = 0;
    assert_int_equal(feed("+OK\r\n", 5, 5, &e), 0);
    assert_text("+OK ");
}

static void test_nothing_is_allocated_before(void **state)
{
    static const char BYTES[] = "*1048576\r\n*1048576\r\n*1048576\r\n*1048576\r\n*1048576\r\n"
                                "*1048576\r\n*1048576\r\n$67108864\r\nx";
    struct err e;

    (void)state;
    assert_int_equal(feed(BYTES, sizeof BYTES - 1, SIZE_MAX, &e), 0);
    assert_true(the_replies.held_bytes < 4096);
    assert_true(arena_size_bytes(&the_replies.arena) < 16384);
    assert_true(the_replies.parser->len < 1024);
}

static void test_long_line(void **state)
{
    static char line[80000];
    struct err e;

    (void)state;
    memset(line, 'x', sizeof line);
    line[0] = '+';
    memcpy(line + 60000, STR_BYTES("\r\n"));
    assert_int_equal(feed(line, 60002, 16384, &e), 0);
    the_text.n = 0;
    memset(line + 60000, 'x', 2);
    assert_int_equal(feed(line, sizeof line, 16384, &e), ERR_BOUND);
    assert_string_equal(e.text, "a reply with a line of more than 65536 bytes");
    line[0] = '$'; /* no end of the length */
    redis_replies_reset(&the_replies);
    assert_int_equal(feed(line, sizeof line, 16384, &e), ERR_BOUND);
}

/* Small elements are larger as objects than as bytes: all of them together are bounded too. */
static void test_large_as_objects(void **state)
{
    static const char HEAD[] = "*1048576\r\n", ELEMENT[] = "*3\r\n:1\r\n:1\r\n:1\r\n";
    size_t n = sizeof ELEMENT - 1, peak = 0;
    const struct redisReply *reply;
    struct err e;
    int rc;

    (void)state;
    redis_replies_feed(&the_replies, HEAD, sizeof HEAD - 1);
    for (int i = 0; (rc = redis_replies_next(&the_replies, &reply, &e)) == 0; i++) {
        assert_true(i < REDIS_ARRAY_MAX - 1);
        redis_replies_feed(&the_replies, ELEMENT, n);
        if (i % 65536 == 0) /* it goes through all blocks */
            peak = arena_size_bytes(&the_replies.arena);
    }
    assert_int_equal(rc, ERR_BOUND);
    assert_string_equal(e.text, "a reply that is too large or too deep");
    assert_true(peak < (size_t)3 * REDIS_REPLY_MAX_BYTES);
}

static void test_memory_is_given_back(void **state)
{
    size_t n = (size_t)8 << 20;
    char *bytes = malloc(n + 16);
    const struct redisReply *reply;
    size_t head = (size_t)sprintf(bytes, "$%zu\r\n", n);
    struct err e;

    (void)state;
    memset(bytes + head, 'v', n);
    memcpy(bytes + head + n, STR_BYTES("\r\n"));
    redis_replies_feed(&the_replies, bytes, head + n + 2);
    free(bytes);
    assert_int_equal(redis_replies_next(&the_replies, &reply, &e), 1);
    assert_int_equal(reply->len, n);
    assert_true(arena_size_bytes(&the_replies.arena) > n);
    assert_int_equal(redis_replies_next(&the_replies, &reply, &e), 0);
    assert_true(arena_size_bytes(&the_replies.arena) < 65536);
    redis_replies_feed(&the_replies, STR_BYTES("+OK\r\n"));
    assert_int_equal(redis_replies_next(&the_replies, &reply, &e), 1);
    assert_string_equal(reply->str, "OK");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_kinds),
        T(test_many_elements),
        T(test_refused),
        T(test_nothing_is_allocated_before),
        T(test_long_line),
        T(test_large_as_objects),
        T(test_memory_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
