/*
 * Replies of Redis: the same replies and the same verdict whether they come whole or in pieces,
 * no more memory than is bounded; and a link that gets them, over a real socket: each
 * command is answered once, whatever comes. The first byte: how they are cut; whether there
 * is a greeting, and a subscription.
 */
#include "base/secret.h"
#include "ev/loop.h"
#include "peer/redis_replies.h"
#include "peer/resolve.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define COMMANDS 4
#define LINK_MAX_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* ---- replies ---- */

static void add(struct buf *b, const void *p, size_t n)
{
    must(buf_add(b, p, n) == 0);
}

/* hiredis bounds the depth. */
static void add_reply(struct buf *b, const struct redisReply *reply, int depth)
{
    must(depth < 9);
    add(b, &reply->type, sizeof reply->type);
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        add(b, &reply->integer, sizeof reply->integer);
        break;
    case REDIS_REPLY_NIL:
        break;
    case REDIS_REPLY_ARRAY:
        must(reply->elements <= REDIS_ARRAY_MAX);
        add(b, &reply->elements, sizeof reply->elements);
        for (size_t i = 0; i < reply->elements; i++)
            add_reply(b, reply->element[i], depth + 1);
        break;
    default:
        must(reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ||
             reply->type == REDIS_REPLY_ERROR);
        must(reply->str[reply->len] == '\0');
        add(b, &reply->len, sizeof reply->len);
        add(b, reply->str, reply->len);
    }
}

static int read_all(const char *p, size_t n, size_t step, struct buf *b)
{
    const struct redisReply *reply;
    struct redis_replies replies;
    struct err e = { 0 };
    size_t bound = 16384 + 64 * n;
    int rc = 0;

    redis_replies_init(&replies);
    for (size_t at = 0; at < n && rc == 0; at += step) {
        redis_replies_feed(&replies, p + at, n - at < step ? n - at : step);
        while ((rc = redis_replies_next(&replies, &reply, &e)) > 0)
            add_reply(b, reply, 0);
        must(replies.held_bytes <= bound && arena_size_bytes(&replies.arena) <= bound);
    }
    must(rc == 0 || ((rc == ERR_SYNTAX || rc == ERR_BOUND) && e.code == rc && e.text[0]));
    redis_replies_fini(&replies);
    return rc;
}

static void check_replies(const char *p, size_t n, size_t step)
{
    struct buf whole = { 0 }, cut = { 0 };
    int rc = read_all(p, n, SIZE_MAX / 2, &whole);

    must(read_all(p, n, step, &cut) == rc);
    must(whole.n == cut.n && (whole.n == 0 || memcmp(whole.p, cut.p, whole.n) == 0));
    buf_free(&whole);
    buf_free(&cut);
}

/* ---- a link ---- */

struct question {
    struct redis_cmd cmd;
    unsigned answers;
};

static struct {
    struct loop *loop;
    struct resolver *resolver;
    struct redis_settings settings;
    struct secret *password;
    struct redis_node node;
    char path[64];
    int listener;
} it;

static void remove_socket(void)
{
    unlink(it.path);
}

static void set_up(void)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    if (it.loop)
        return;
    it.loop = loop_new();
    it.resolver = resolver_new(it.loop);
    it.password = secret_from_text(STR("secret"));
    snprintf(it.path, sizeof it.path, "/tmp/weir-fuzz-redis-%ld", (long)getpid());
    snprintf(un.sun_path, sizeof un.sun_path, "%s", it.path);
    remove_socket();
    it.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    must(bind(it.listener, (struct sockaddr *)&un, sizeof un) == 0 && listen(it.listener, 8) == 0);
    atexit(remove_socket);
}

static void on_done(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                    const char *reason)
{
    struct question *q = CONTAINER_OF(cmd, struct question, cmd);

    must((code == 0) == (reply != NULL) && (code < 0) == (reason != NULL));
    q->answers++;
}

static void on_push(void *arg, const struct redisReply *reply)
{
    (void)reply;
    must(arg == &it);
}

static void turn(void)
{
    loop_turn(it.loop, false);
    loop_turn(it.loop, false);
}

static void send_pieces(int fd, const char *p, size_t n, size_t step)
{
    for (size_t at = 0; at < n; at += step) {
        if (send(fd, p + at, n - at < step ? n - at : step, MSG_NOSIGNAL) < 0)
            return;
        turn();
    }
}

static void check_link(const char *p, size_t n, unsigned kind, size_t step)
{
    static const char *const ARGV[] = { "GET", "key" };
    struct question q[COMMANDS] = { 0 };
    struct redis_link *l;
    char name[80];
    int fd;

    set_up();
    snprintf(name, sizeof name, "unix:%s", it.path);
    it.node = (struct redis_node){ .host = name };
    it.settings =
        (struct redis_settings){ .password = kind & 1 ? it.password : NULL, .database = kind & 1 };
    l = redis_link_new(it.loop, it.resolver, &it.settings, &it.node, REDIS_LINK_DATA);
    if (kind & 2)
        redis_link_on_push(l, on_push, &it);
    for (unsigned i = 0; i < COMMANDS; i++) {
        q[i].cmd.done = on_done;
        redis_link_send(l, &q[i].cmd, 2, ARGV, NULL);
    }
    turn();
    fd = accept(it.listener, NULL, NULL);
    must(fd >= 0);
    send_pieces(fd, p, n, step < 64 ? 64 : step);
    close(fd);
    turn();
    redis_link_free(l);
    turn();
    while ((fd = accept(it.listener, NULL, NULL)) >= 0)
        close(fd);
    for (unsigned i = 0; i < COMMANDS; i++)
        must(q[i].answers == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data + 1;
    size_t step;

    if (n < 2)
        return 0;
    n--;
    step = (data[0] >> 2) + 1u;
    check_replies(p, n, step);
    if (n <= LINK_MAX_BYTES)
        check_link(p, n, data[0] & 3, step);
    return 0;
}
