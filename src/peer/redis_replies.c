/*
 * See redis_replies.h. Bounds each line, each bulk string as soon as its length
 * is announced, each array, their depth, and what all of a reply takes as objects.
 * Knows no sockets. hiredis 0.14 and 1.x differ in the types of their callbacks.
 */
#define _GNU_SOURCE /* memmem */
#include "peer/redis_replies.h"
#include <hiredis/hiredis.h>

#define LINE_MAX_BYTES 65536 /* of a status, an error or a number */
#define HELD_MAX_BYTES ((size_t)2 * REDIS_REPLY_MAX_BYTES)
#define ARENA_FIRST_BYTES 4096
#define ARENA_KEPT_BYTES 65536 /* one that has grown larger is not kept */
#define DEPTH_MAX 7            /* of arrays; no hiredis allows less, and later ones have no bound */
#define FIRST_ELEMENTS 8       /* a power of two */

#if HIREDIS_MAJOR > 0
typedef size_t element_count;
#define CURRENT_TASK(parser) ((parser)->task[(parser)->ridx])
#else
typedef int element_count;
#define CURRENT_TASK(parser) (&(parser)->rstack[(parser)->ridx])
#endif

/* NULL where the reply would take too much; hiredis gives up then. */
static void *take(const redisReadTask *task, size_t n)
{
    struct redis_replies *r = task->privdata;

    if (n > HELD_MAX_BYTES - r->held_bytes) {
        r->is_large = true;
        return NULL;
    }
    r->held_bytes += n;
    return arena_alloc(&r->arena, n);
}

/* An array has room for a power of two of elements, or for all: it grows as they come. */
static bool add_element(const redisReadTask *task, redisReply *element)
{
    redisReply *array = task->parent ? task->parent->obj : NULL;
    size_t i = (size_t)task->idx, room = i ? 2 * i : FIRST_ELEMENTS;
    redisReply **grown;

    if (!array)
        return true;
    must(i < array->elements);
    if (i == 0 || (i >= FIRST_ELEMENTS && (i & (i - 1)) == 0)) {
        if (room > array->elements)
            room = array->elements;
        grown = take(task, room * sizeof *grown);
        if (!grown)
            return false;
        if (i)
            memcpy(grown, array->element, i * sizeof *grown);
        array->element = grown;
    }
    array->element[i] = element;
    return true;
}

/* A reply with so many bytes behind it, in its array if it stands in one. */
static redisReply *make(const redisReadTask *task, size_t extra_bytes)
{
    redisReply *reply = take(task, sizeof *reply + extra_bytes);

    if (!reply)
        return NULL;
    *reply = (redisReply){ .type = task->type };
    return add_element(task, reply) ? reply : NULL;
}

static void *make_string(const redisReadTask *task, char *p, size_t n)
{
    redisReply *reply = make(task, n + 1);

    if (!reply)
        return NULL;
    reply->str = (char *)(reply + 1);
    reply->len = n;
    memcpy(reply->str, p, n);
    reply->str[n] = '\0';
    return reply;
}

static void *make_array(const redisReadTask *task, element_count count)
{
    struct redis_replies *r = task->privdata;
    redisReply *reply;
    int depth = 0;

    for (const redisReadTask *t = task; t && depth <= DEPTH_MAX; t = t->parent)
        depth++;
    if (count > REDIS_ARRAY_MAX || depth > DEPTH_MAX) {
        r->is_large = true;
        return NULL;
    }
    reply = make(task, 0);
    if (reply)
        reply->elements = (size_t)count;
    return reply;
}

static void *make_integer(const redisReadTask *task, long long value)
{
    redisReply *reply = make(task, 0);

    if (reply)
        reply->integer = value;
    return reply;
}

static void *make_nil(const redisReadTask *task)
{
    redisReply *reply = make(task, 0);

    if (reply)
        reply->type = REDIS_REPLY_NIL; /* the task is still called a string or an array */
    return reply;
}

/* The arena frees. */
static void free_nothing(void *reply)
{
    (void)reply;
}

#if HIREDIS_MAJOR > 0
/* Of protocol 3, which nobody has asked for. */
static void *refuse_double(const redisReadTask *task, double value, char *p, size_t n)
{
    (void)task, (void)value, (void)p, (void)n;
    return NULL;
}

static void *refuse_bool(const redisReadTask *task, int value)
{
    (void)task, (void)value;
    return NULL;
}
#endif

static redisReplyObjectFunctions the_makers = {
    .createString = make_string,
    .createArray = make_array,
    .createInteger = make_integer,
    .createNil = make_nil,
    .freeObject = free_nothing,
#if HIREDIS_MAJOR > 0
    .createDouble = refuse_double,
    .createBool = refuse_bool,
#endif
};

static void forget_reply(struct redis_replies *r)
{
    arena_reset(&r->arena);
    if (arena_size_bytes(&r->arena) > ARENA_KEPT_BYTES) {
        arena_fini(&r->arena);
        arena_init(&r->arena, ARENA_FIRST_BYTES);
    }
    r->held_bytes = 0;
    r->given_out = false;
}

static void new_parser(struct redis_replies *r)
{
    r->parser = redisReaderCreateWithFunctions(&the_makers);
    must(r->parser);
    r->parser->privdata = r;
    r->parser->maxbuf = (size_t)4 * REDIS_READER_MAX_BUF; /* kept while nothing is in it */
}

void redis_replies_init(struct redis_replies *r)
{
    *r = (struct redis_replies){ 0 };
    arena_init(&r->arena, ARENA_FIRST_BYTES);
    new_parser(r);
}

void redis_replies_fini(struct redis_replies *r)
{
    redisReaderFree(r->parser);
    r->parser = NULL;
    arena_fini(&r->arena);
}

void redis_replies_reset(struct redis_replies *r)
{
    redisReaderFree(r->parser);
    new_parser(r);
    forget_reply(r);
    r->is_large = false;
}

void redis_replies_feed(struct redis_replies *r, const char *p, size_t n)
{
    must(redisReaderFeed(r->parser, p, n) == REDIS_OK); /* there is memory, and no error yet */
}

/* Whether what has begun to come may come: the length of a bulk string, or of a line. */
static int check_announced(const struct redis_replies *r, struct err *e)
{
    const redisReader *parser = r->parser;
    struct str rest = { parser->buf + parser->pos, parser->len - parser->pos };
    const char *end;
    uint64_t announced;

    if (parser->ridx < 0 || rest.n == 0)
        return 0;
    end = memmem(rest.p, rest.n < LINE_MAX_BYTES ? rest.n : LINE_MAX_BYTES, STR_BYTES("\r\n"));
    if (!end && rest.n >= LINE_MAX_BYTES)
        return err_set(e, ERR_BOUND, "a reply with a line of more than %d bytes", LINE_MAX_BYTES);
    if (end && CURRENT_TASK(parser)->type == REDIS_REPLY_STRING) {
        rest.n = (size_t)(end - rest.p);
        if (str_to_u64(rest, REDIS_REPLY_MAX_BYTES, &announced) != 0)
            return err_set(e, ERR_BOUND, "a reply with a string of more than %d bytes",
                           REDIS_REPLY_MAX_BYTES);
    }
    return 0;
}

int redis_replies_next(struct redis_replies *r, const struct redisReply **reply, struct err *e)
{
    void *object = NULL;

    if (r->given_out)
        forget_reply(r);
    if (redisReaderGetReply(r->parser, &object) != REDIS_OK) {
        if (r->is_large)
            return err_set(e, ERR_BOUND, "a reply that is too large or too deep");
        return err_set(e, ERR_SYNTAX, "no reply of Redis: %s", r->parser->errstr);
    }
    if (!object)
        return check_announced(r, e);
    r->given_out = true;
    *reply = object;
    return 1;
}
