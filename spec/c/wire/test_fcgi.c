/*
 * The FastCGI decoder on well-formed and broken records, cut at every byte;
 * name-value pairs; the encoder, read back by the decoder's own rules.
 */
#include "base/err.h"
#include "base/mem.h"
#include "wire/fcgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <cmocka.h>

/* A record as a web server writes it. */
static void put(struct buf *b, unsigned type, unsigned id, const char *p, size_t n,
                unsigned padding)
{
    static const char zeros[255];
    FCGI_Header h = {
        .version = 1,
        .type = (unsigned char)type,
        .requestIdB1 = (unsigned char)(id >> 8),
        .requestIdB0 = (unsigned char)id,
        .contentLengthB1 = (unsigned char)(n >> 8),
        .contentLengthB0 = (unsigned char)n,
        .paddingLength = (unsigned char)padding,
    };

    assert_int_equal(buf_add(b, &h, sizeof h), 0);
    if (n)
        assert_int_equal(buf_add(b, p, n), 0);
    if (padding)
        assert_int_equal(buf_add(b, zeros, padding), 0);
}

static void put_begin(struct buf *b, unsigned id, unsigned role, unsigned flags)
{
    char body[8] = { (char)(role >> 8), (char)role, (char)flags };

    put(b, FCGI_BEGIN_REQUEST, id, body, sizeof body, 0);
}

/* What a series of events comes to: pieces of one stream are joined. */
struct trace {
    struct buf text;
    enum fcgi_event last;
    unsigned last_id;
};

static void say(struct trace *t, const char *text, size_t n)
{
    if (n)
        assert_int_equal(buf_add(&t->text, text, n), 0);
}

static void trace_event(struct trace *t, enum fcgi_event event, const struct fcgi_record *rec)
{
    static const char *const names[] = { "none", "begin",      "abort",   "params", "stdin",
                                         "data", "get_values", "unknown", "error" };
    char line[80];
    int n;

    if (event != t->last || rec->id != t->last_id || rec->content.n == 0) {
        n = snprintf(line, sizeof line, "|%s %u %u %d ", names[event], rec->id, rec->role,
                     rec->keep_conn);
        say(t, line, (size_t)n);
    }
    say(t, rec->content.p, rec->content.n);
    if (rec->end)
        say(t, ".", 1);
    if (event == FCGI_EV_UNKNOWN)
        say(t, line, (size_t)snprintf(line, sizeof line, "type %u", rec->type));
    if (event == FCGI_EV_ERROR)
        say(t, rec->reason, strlen(rec->reason));
    t->last = rec->end ? FCGI_EV_NONE : event;
    t->last_id = rec->id;
}

/* Feeds n bytes, copied so that reading one more is seen by the sanitizer. */
static void feed(struct fcgi_decoder *d, struct trace *t, const char *p, size_t n)
{
    char *copy = n ? memcpy(xmalloc(n), p, n) : NULL;
    struct str in = { copy, n };
    struct fcgi_record rec;
    enum fcgi_event event;

    while ((event = fcgi_decode(d, &in, &rec)) != FCGI_EV_NONE) {
        if (rec.content.n)
            assert_true(rec.content.p >= copy && rec.content.p + rec.content.n <= copy + n);
        trace_event(t, event, &rec);
        if (event == FCGI_EV_ERROR)
            break;
    }
    if (event == FCGI_EV_NONE)
        assert_int_equal(in.n, 0);
    free(copy);
}

static struct trace run(const struct buf *b, size_t cut, size_t step)
{
    struct fcgi_decoder d = { 0 };
    struct trace t = { .text.n = 0 };
    size_t at = cut;

    feed(&d, &t, b->p, cut);
    while (at < b->n) {
        size_t n = b->n - at < step ? b->n - at : step;

        feed(&d, &t, b->p + at, n);
        at += n;
    }
    assert_int_equal(buf_add(&t.text, "", 1), 0);
    return t;
}

/* The same events, cut in two at every byte, and byte by byte. */
static void assert_events(struct buf *b, const char *want)
{
    for (size_t cut = 0; cut <= b->n; cut++) {
        struct trace t = run(b, cut, SIZE_MAX);

        assert_string_equal(t.text.p, want);
        buf_free(&t.text);
    }
    struct trace t = run(b, 0, 1);

    assert_string_equal(t.text.p, want);
    buf_free(&t.text);
    buf_free(b);
}

static void a_responder_request(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put_begin(&b, 1, FCGI_RESPONDER, 0);
    put(&b, FCGI_PARAMS, 1, "\1\2ABC", 5, 3);
    put(&b, FCGI_PARAMS, 1, "", 0, 0);
    put(&b, FCGI_STDIN, 1, "hello", 5, 3);
    put(&b, FCGI_STDIN, 1, " world", 6, 2);
    put(&b, FCGI_STDIN, 1, "", 0, 0);
    assert_events(&b, "|begin 1 1 0 |params 1 0 0 \1\2ABC|params 1 0 0 .|stdin 1 0 0 hello world"
                      "|stdin 1 0 0 .");
}

static void an_authorizer_without_stdin(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put_begin(&b, 1, FCGI_AUTHORIZER, FCGI_KEEP_CONN);
    put(&b, FCGI_PARAMS, 1, "x", 1, 0);
    put(&b, FCGI_PARAMS, 1, "", 0, 0);
    assert_events(&b, "|begin 1 2 1 |params 1 0 0 x|params 1 0 0 .");
}

static void only_the_keep_conn_flag_counts(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put_begin(&b, 1, 3, 0xfe);
    put_begin(&b, 2, 0x1234, 0xff);
    assert_events(&b, "|begin 1 3 0 |begin 2 4660 1 ");
}

static void interleaved_requests(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put_begin(&b, 1, 1, 1);
    put_begin(&b, 65535, 1, 1);
    put(&b, FCGI_PARAMS, 65535, "a", 1, 7);
    put(&b, FCGI_PARAMS, 1, "b", 1, 1);
    put(&b, FCGI_PARAMS, 65535, "", 0, 255);
    put(&b, FCGI_ABORT_REQUEST, 1, "", 0, 0);
    put(&b, FCGI_STDIN, 65535, "", 0, 0);
    assert_events(&b, "|begin 1 1 1 |begin 65535 1 1 |params 65535 0 0 a|params 1 0 0 b"
                      "|params 65535 0 0 .|abort 1 0 0 |stdin 65535 0 0 .");
}

static void contents_nobody_wants_are_skipped(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put(&b, FCGI_ABORT_REQUEST, 3, "content", 7, 5);
    put(&b, 77, 3, "application record of unknown type", 34, 2);
    put(&b, FCGI_DATA, 3, "data", 4, 0);
    put(&b, FCGI_DATA, 3, "", 0, 9);
    assert_events(&b, "|abort 3 0 0 |data 3 0 0 data|data 3 0 0 .");
}

static void get_values_ends_with_its_record(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put(&b, FCGI_GET_VALUES, 0, "FCGI_MAX_CONNS", 14, 8);
    put(&b, FCGI_GET_VALUES, 0, "X", 1, 0);
    assert_events(&b, "|get_values 0 0 0 FCGI_MAX_CONNS.|get_values 0 0 0 X.");
}

static void unknown_management_types(void **state)
{
    struct buf b = { 0 };

    (void)state;
    put(&b, FCGI_GET_VALUES, 0, "", 0, 3);
    put(&b, 12, 0, "what", 4, 4);
    put(&b, 255, 0, "", 0, 0);
    put_begin(&b, 1, 1, 0);
    assert_events(&b, "|get_values 0 0 0 .|unknown 0 0 0 type 12|unknown 0 0 0 type 255"
                      "|begin 1 1 0 ");
}

static void refused(const char *reason, unsigned type, unsigned id, size_t n)
{
    struct buf b = { 0 };
    char want[100];

    put(&b, type, id, "xxxxxxxxxxxxxxxx", n, 0);
    put_begin(&b, 9, 1, 0);
    snprintf(want, sizeof want, "|error %u 0 0 %s", id, reason);
    for (size_t cut = 8; cut <= b.n; cut++) {
        struct trace t = run(&b, cut, SIZE_MAX);

        assert_memory_equal(t.text.p, want, strlen(want));
        buf_free(&t.text);
    }
    buf_free(&b);
}

static void refuses_what_is_not_fastcgi(void **state)
{
    struct fcgi_decoder d = { 0 };
    struct fcgi_record rec;
    struct str in = STR("GET / HTTP/1.1\r\n\r\n");

    (void)state;
    assert_int_equal(fcgi_decode(&d, &in, &rec), FCGI_EV_ERROR);
    assert_string_equal(rec.reason, "not FastCGI version 1");
    /* and nothing else from then on */
    in = STR("\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0");
    assert_int_equal(fcgi_decode(&d, &in, &rec), FCGI_EV_ERROR);
    assert_string_equal(rec.reason, "not FastCGI version 1");
    assert_int_equal(in.n, 16);

    refused("a BEGIN_REQUEST record is not 8 bytes long", FCGI_BEGIN_REQUEST, 1, 7);
    refused("a BEGIN_REQUEST record is not 8 bytes long", FCGI_BEGIN_REQUEST, 1, 0);
    refused("a BEGIN_REQUEST record is not 8 bytes long", FCGI_BEGIN_REQUEST, 1, 9);
    refused("a record of a request has the id 0", FCGI_BEGIN_REQUEST, 0, 8);
    refused("a record of a request has the id 0", FCGI_PARAMS, 0, 0);
    refused("a record that only applications send", FCGI_STDOUT, 1, 3);
    refused("a record that only applications send", FCGI_END_REQUEST, 1, 8);
    refused("a management record has the id of a request", FCGI_GET_VALUES, 1, 3);
}

/* 65,535 bytes and 255 of padding, in pieces of several sizes. */
static void the_longest_record(void **state)
{
    static char content[65535];
    const size_t steps[] = { 1, 7, 8, 4096, 65536 };
    struct buf b = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)('a' + i % 23);
    put(&b, FCGI_STDIN, 5, content, sizeof content, 255);
    put(&b, FCGI_STDIN, 5, "", 0, 255);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct trace t = run(&b, 0, steps[i]);

        assert_int_equal(t.text.n - 1, sizeof content + 2 * strlen("|stdin 5 0 0 ") + 1);
        assert_memory_equal(t.text.p + strlen("|stdin 5 0 0 "), content, sizeof content);
        buf_free(&t.text);
    }
    buf_free(&b);
}

static void reads_pairs(void **state)
{
    struct buf b = { 0 };
    char big[300];
    struct str in, name, value;

    (void)state;
    memset(big, 'v', sizeof big);
    assert_int_equal(buf_add(&b, "\1\2ABC\0\0\2\0XY\3\x80\0\1\54key", 19), 0);
    assert_int_equal(buf_add(&b, big, sizeof big), 0);
    in = (struct str){ b.p, b.n };
    assert_int_equal(fcgi_pair_next(&in, &name, &value), 1);
    assert_true(str_eq(name, STR("A")) && str_eq(value, STR("BC")));
    assert_int_equal(fcgi_pair_next(&in, &name, &value), 1);
    assert_true(name.n == 0 && value.n == 0);
    assert_int_equal(fcgi_pair_next(&in, &name, &value), 1);
    assert_true(str_eq(name, STR("XY")) && value.n == 0);
    assert_int_equal(fcgi_pair_next(&in, &name, &value), 1);
    assert_true(str_eq(name, STR("key")) && value.n == 300 && value.p[299] == 'v');
    assert_int_equal(fcgi_pair_next(&in, &name, &value), 0);
    buf_free(&b);
}

static void a_pair_cut_anywhere_is_seen(void **state)
{
    const char pair[] = "\x80\0\0\3\x80\0\0\2keyvv";

    (void)state;
    for (size_t n = 1; n < sizeof pair - 1; n++) {
        char *copy = memcpy(xmalloc(n), pair, n);
        struct str in = { copy, n }, name, value;

        assert_true(fcgi_pair_next(&in, &name, &value) < 0);
        assert_ptr_equal(in.p, copy);
        assert_int_equal(in.n, n);
        free(copy);
    }
}

static void lengths_near_the_end_of_numbers(void **state)
{
    struct str name, value;
    struct str in = STR("\xff\xff\xff\xff\xff\xff\xff\xff"
                        "abc");

    (void)state;
    assert_true(fcgi_pair_next(&in, &name, &value) < 0);
    in = STR("\3\xff\xff\xff\xff"
             "abcdef");
    assert_true(fcgi_pair_next(&in, &name, &value) < 0);
    in = STR("\xff\xff\xff\xff\1"
             "abcdef");
    assert_true(fcgi_pair_next(&in, &name, &value) < 0);
}

/* Reads what we write: the records' contents joined, their number counted. */
static unsigned records(const struct buf *b, struct buf *content)
{
    unsigned n = 0;
    size_t at = 0;

    while (at < b->n) {
        const unsigned char *h = (unsigned char *)b->p + at;
        size_t len = (size_t)h[4] << 8 | h[5];

        assert_int_equal(h[0], 1);
        assert_int_equal(h[1], FCGI_STDOUT);
        assert_int_equal(h[2] << 8 | h[3], 0x0102);
        assert_int_equal(h[6], 0);
        assert_true(len <= FCGI_CONTENT_MAX);
        assert_true(at + 8 + len <= b->n);
        if (len)
            assert_int_equal(buf_add(content, h + 8, len), 0);
        at += 8 + len;
        n++;
    }
    return n;
}

static void check_stream(size_t n, unsigned want, bool by_hand)
{
    struct buf out = { 0 }, content = { 0 };
    char *p = xmalloc(n);
    size_t at;

    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 31 >> 3);
    if (by_hand) {
        assert_int_equal(fcgi_open_record(&out, FCGI_STDOUT, 0x0102, &at), 0);
        if (n)
            assert_int_equal(buf_add(&out, p, n), 0);
        assert_int_equal(fcgi_close_record(&out, at), 0);
    } else {
        assert_int_equal(fcgi_put_stream(&out, FCGI_STDOUT, 0x0102, p, n), 0);
    }
    assert_int_equal(records(&out, &content), want);
    assert_int_equal(content.n, n);
    if (n)
        assert_memory_equal(content.p, p, n);
    buf_free(&out);
    buf_free(&content);
    free(p);
}

static void streams_are_cut_into_records(void **state)
{
    const size_t max = FCGI_CONTENT_MAX;

    (void)state;
    for (int by_hand = 0; by_hand < 2; by_hand++) {
        check_stream(0, 0, by_hand);
        check_stream(1, 1, by_hand);
        check_stream(max, 1, by_hand);
        check_stream(max + 1, 2, by_hand);
        check_stream(2 * max, 2, by_hand);
        check_stream(2 * max + 1, 3, by_hand);
        check_stream(5 * max - 1, 5, by_hand);
    }
}

static void a_small_response_is_one_piece(void **state)
{
    struct buf out = { 0 };
    size_t at;

    (void)state;
    assert_int_equal(fcgi_open_record(&out, FCGI_STDOUT, 1, &at), 0);
    assert_int_equal(buf_add(&out, "hi", 2), 0);
    assert_int_equal(fcgi_close_record(&out, at), 0);
    assert_int_equal(fcgi_put_stream_end(&out, FCGI_STDOUT, 1), 0);
    assert_int_equal(fcgi_put_end_request(&out, 1, 0x01020304, FCGI_OVERLOADED), 0);
    assert_int_equal(out.n, 8 + 2 + 8 + 16);
    assert_memory_equal(out.p,
                        "\1\6\0\1\0\2\0\0hi"
                        "\1\6\0\1\0\0\0\0"
                        "\1\3\0\1\0\10\0\0\1\2\3\4\2\0\0\0",
                        out.n);
    buf_free(&out);
}

static void the_bound_of_the_buffer_holds(void **state)
{
    struct buf out = { .max_bytes = 10 };

    (void)state;
    assert_int_equal(fcgi_put_stream(&out, FCGI_STDOUT, 1, "abc", 3), ERR_BOUND);
    assert_int_equal(out.n, 0);
    assert_int_equal(fcgi_put_stream(&out, FCGI_STDOUT, 1, "ab", 2), 0);
    assert_int_equal(fcgi_put_stream_end(&out, FCGI_STDOUT, 1), ERR_BOUND);
    assert_int_equal(out.n, 10);
    buf_free(&out);
}

static void unknown_type_is_told(void **state)
{
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(fcgi_put_unknown_type(&out, 200), 0);
    assert_int_equal(out.n, 16);
    assert_memory_equal(out.p, "\1\13\0\0\0\10\0\0\310\0\0\0\0\0\0\0", 16);
    buf_free(&out);
}

static void values_are_answered_once_each(void **state)
{
    const struct fcgi_values values = { 20480, 4294967295u, true };
    const char all[] = "\17\0FCGI_MPXS_CONNS\16\0FCGI_MAX_CONNS\5\0OTHER\15\0FCGI_MAX_REQS"
                       "\16\0FCGI_MAX_CONNS";
    const char answer[] = "\1\12\0\0\0\100\0\0"
                          "\16\5FCGI_MAX_CONNS20480\15\12FCGI_MAX_REQS4294967295"
                          "\17\1FCGI_MPXS_CONNS1";
    struct buf out = { 0 };

    (void)state;
    assert_int_equal(fcgi_put_values_result(&out, (struct str){ all, sizeof all - 1 }, &values), 0);
    assert_int_equal(out.n, sizeof answer - 1);
    assert_memory_equal(out.p, answer, out.n);
    out.n = 0;
    assert_int_equal(fcgi_put_values_result(&out, STR("\5\0OTHER"), &values), 0);
    assert_int_equal(out.n, 8);
    out.n = 0;
    assert_int_equal(fcgi_put_values_result(&out, STR("\17\0FCGI_MPXS"), &values), 0);
    assert_int_equal(out.n, 8);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_responder_request),
        cmocka_unit_test(an_authorizer_without_stdin),
        cmocka_unit_test(only_the_keep_conn_flag_counts),
        cmocka_unit_test(interleaved_requests),
        cmocka_unit_test(contents_nobody_wants_are_skipped),
        cmocka_unit_test(get_values_ends_with_its_record),
        cmocka_unit_test(unknown_management_types),
        cmocka_unit_test(refuses_what_is_not_fastcgi),
        cmocka_unit_test(the_longest_record),
        cmocka_unit_test(reads_pairs),
        cmocka_unit_test(a_pair_cut_anywhere_is_seen),
        cmocka_unit_test(lengths_near_the_end_of_numbers),
        cmocka_unit_test(streams_are_cut_into_records),
        cmocka_unit_test(a_small_response_is_one_piece),
        cmocka_unit_test(the_bound_of_the_buffer_holds),
        cmocka_unit_test(unknown_type_is_told),
        cmocka_unit_test(values_are_answered_once_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
