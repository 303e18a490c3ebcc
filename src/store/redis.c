/*
 * See redis.h. One script call decides all windows of an identity: their keys
 * share a hash tag. Redis's own clock decides whether the windows are the
 * present ones; a key ends with its window (a sliding one's with the next),
 * and is given that end by the call that makes it.
 */
#include "store/redis.h"
#include "base/mem.h"
#include "peer/redis.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * KEYS: one for each window, then, if they are sliding, one for each window before.
 * ARGV: the number of windows, 1 if sliding, verb's own two, then start and end of each window,
 * then each window's own value. The answer: the time in milliseconds, how many are granted, then
 * the counts of KEYS before the call. A second element of -1: a window is not the present one.
 */
#define SCRIPT_TIME                                                                                \
    "local call = redis.call\n"                                                                    \
    "local t = call('TIME')\n"                                                                     \
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"                                          \
    "local n, sliding = tonumber(ARGV[1]), ARGV[2] == '1'\n"

#define SCRIPT_HEAD                                                                                \
    SCRIPT_TIME                                                                                    \
    "for i = 1, n do\n"                                                                            \
    "  if now < tonumber(ARGV[3 + 2 * i]) or now >= tonumber(ARGV[4 + 2 * i]) then\n"              \
    "    return {now, -1}\n"                                                                       \
    "  end\n"                                                                                      \
    "end\n"                                                                                        \
    "local function ending(i)\n"                                                                   \
    "  local first, last = ARGV[3 + 2 * i], ARGV[4 + 2 * i]\n"                                     \
    "  return sliding and string.format('%.0f', 2 * last - first) or last\n"                       \
    "end\n"

#define SCRIPT_READ                                                                                \
    "local counts = call('MGET', unpack(KEYS))\n"                                                  \
    "local reply = {now, 0}\n"                                                                     \
    "for i = 1, #KEYS do\n"                                                                        \
    "  counts[i] = tonumber(counts[i] or 0)\n"                                                     \
    "  reply[2 + i] = counts[i]\n"                                                                 \
    "end\n"

/* Its own two: how many, and the cost of each. The windows' own values: their limits. */
static const char ADMIT[] = SCRIPT_TIME
    "local granted, cost = tonumber(ARGV[3]), tonumber(ARGV[4])\n"
    "local counts = call('MGET', unpack(KEYS))\n"
    "local reply = {now, 0}\n"
    "for i = 1, n do\n"
    "  local first, last = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])\n"
    "  if now < first or now >= last then return {now, -1} end\n"
    "  local used = tonumber(counts[i] or 0)\n"
    "  reply[2 + i] = used\n"
    "  if sliding then\n"
    "    local previous = tonumber(counts[n + i] or 0)\n"
    "    reply[2 + n + i] = previous\n"
    "    used = used + previous * (last - now) / (last - first)\n"
    "  end\n"
    "  local room = math.floor((tonumber(ARGV[4 + 2 * n + i]) - used) / cost)\n"
    "  if room < granted then granted = room end\n"
    "end\n"
    "if granted <= 0 then return reply end\n"
    "reply[2] = granted\n"
    "local amount = granted * cost\n"
    "for i = 1, n do\n"
    "  if call('INCRBY', KEYS[i], amount) == amount then\n"
    "    local first, last = ARGV[3 + 2 * i], ARGV[4 + 2 * i]\n"
    "    call('PEXPIREAT', KEYS[i], sliding and string.format('%.0f', 2 * last - first) or last)\n"
    "  end\n"
    "end\n"
    "return reply\n";

/* Its own first: the amount. */
static const char CHARGE[] = SCRIPT_HEAD "for i = 1, n do\n"
                                         "  local count = call('INCRBY', KEYS[i], ARGV[3])\n"
                                         "  if count <= 0 then\n"
                                         "    call('DEL', KEYS[i])\n"
                                         "  elseif count == tonumber(ARGV[3]) then\n"
                                         "    call('PEXPIREAT', KEYS[i], ending(i))\n"
                                         "  end\n"
                                         "end\n"
                                         "return {now, 0}\n";

static const char PEEK[] = SCRIPT_HEAD SCRIPT_READ "return reply\n";

/* KEYS are hashes, a field for each node. Its own first: the node. The windows' values: its counts.
 */
static const char SHARE[] =
    SCRIPT_HEAD "local reply = {now, 0}\n"
                "local node = ARGV[3]\n"
                "for i = 1, n do\n"
                "  call('HSET', KEYS[i], node, ARGV[4 + 2 * n + i])\n"
                "  call('PEXPIREAT', KEYS[i], ending(i))\n"
                "end\n"
                "for i = 1, #KEYS do\n"
                "  local all, sum = call('HGETALL', KEYS[i]), 0\n"
                "  for j = 1, #all, 2 do\n"
                "    if all[j] ~= node then sum = sum + tonumber(all[j + 1]) end\n"
                "  end\n"
                "  reply[2 + i] = sum\n"
                "end\n"
                "return reply\n";

#define KEY_MAX_BYTES (STORE_IDENTITY_MAX + 80)
#define NUMBER_MAX_BYTES 32
#define KEYS_MAX (2 * COUNTER_WINDOWS_MAX)
#define ARGS_MAX (KEYS_MAX + 4 + 3 * COUNTER_WINDOWS_MAX)

struct backend {
    struct store_backend head;
    struct redis *redis;
    struct redis_script scripts[STORE_SHARE + 1];
    struct call *pool;
};

/* The arguments of a script; their bytes lie one behind the other. */
struct args {
    const char *v[ARGS_MAX];
    size_t n[ARGS_MAX];
    int count;
    char *next;
    char bytes[KEYS_MAX * KEY_MAX_BYTES + ARGS_MAX * NUMBER_MAX_BYTES];
};

/* An ask on its way. */
struct call {
    struct redis_call redis;
    struct backend *backend;
    struct store_ask *ask;
    struct call *next_free;
    struct args args; /* stay until it is answered */
};

/* ---- the question ---- */

static void add(struct args *a, const char *p, size_t n)
{
    a->v[a->count] = p;
    a->n[a->count++] = n;
}

/* The n bytes that were put at a->next. */
static void add_made(struct args *a, size_t n)
{
    add(a, a->next, n);
    a->next += n;
}

static char *put(char *to, const char *p, size_t n)
{
    memcpy(to, p, n);
    return to + n;
}

static char *put_integer(char *to, int64_t value)
{
    char digits[U64_DIGITS];
    struct str s = str_from_u64(value < 0 ? -(uint64_t)value : (uint64_t)value, digits);

    if (value < 0)
        *to++ = '-';
    return put(to, s.p, s.n);
}

static void add_integer(struct args *a, int64_t value)
{
    add_made(a, (size_t)(put_integer(a->next, value) - a->next));
}

static void add_limit(struct args *a, double limit)
{
    if (limit < 1e15 && limit == (double)(int64_t)limit)
        add_integer(a, (int64_t)limit);
    else
        add_made(a, (size_t)snprintf(a->next, NUMBER_MAX_BYTES, "%.17g", limit));
}

/* "second" to "year", "30s", "1500ms". */
static char *put_what(char *to, int64_t what)
{
    static const struct str PERIODS[] = { STR(""),    STR("second"), STR("minute"), STR("hour"),
                                          STR("day"), STR("month"),  STR("year") };

    if (what > 0)
        return put(to, PERIODS[what].p, PERIODS[what].n);
    if (-what % 1000)
        return put(put_integer(to, -what), STR_BYTES("ms"));
    return put(put_integer(to, -what / 1000), STR_BYTES("s"));
}

/*
 * {w1:identity}:start:what, "1" being the version of this format. The tag ends at the first "}",
 * which an identity may hold: all of its windows have the same tag all the same.
 */
static void add_key(struct args *a, const struct store_ask *ask, unsigned i, int64_t start_ms)
{
    char *to = put(a->next, STR_BYTES("{w1:"));

    to = put(to, ask->identity.p, ask->identity.n);
    to = put(to, STR_BYTES("}:"));
    to = put(put_integer(to, start_ms), STR_BYTES(":"));
    to = put_what(to, ask->w[i].what);
    if (ask->sliding)
        to = put(to, STR_BYTES(":sliding"));
    if (ask->verb == STORE_SHARE)
        to = put(to, STR_BYTES(":nodes"));
    add_made(a, (size_t)(to - a->next));
}

static void add_keys(struct args *a, const struct store_ask *ask)
{
    for (unsigned i = 0; i < ask->n; i++)
        add_key(a, ask, i, ask->w[i].start_ms);
    if (!ask->sliding || ask->verb == STORE_CHARGE)
        return;
    for (unsigned i = 0; i < ask->n; i++)
        add_key(a, ask, i, 2 * ask->w[i].start_ms - ask->w[i].end_ms);
}

static void add_values(struct args *a, const struct store_ask *ask)
{
    add_integer(a, ask->n);
    add_integer(a, ask->sliding);
    if (ask->verb == STORE_SHARE)
        add(a, ask->node, STORE_NODE_BYTES);
    else
        add_integer(a, ask->verb == STORE_ADMIT ? ask->count : ask->cost);
    add_integer(a, ask->cost);
    for (unsigned i = 0; i < ask->n; i++) {
        add_integer(a, ask->w[i].start_ms);
        add_integer(a, ask->w[i].end_ms);
    }
    for (unsigned i = 0; i < ask->n && ask->verb == STORE_ADMIT; i++)
        add_limit(a, ask->w[i].limit);
    for (unsigned i = 0; i < ask->n && ask->verb == STORE_SHARE; i++)
        add_integer(a, ask->own[i]);
}

/* ---- the answer ---- */

static bool is_integer(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_INTEGER;
}

/* 0, STORE_STALE, or ERR_SYNTAX: this is no answer of our scripts. */
static int take(struct store_ask *ask, const struct redisReply *reply)
{
    size_t counts = ask->verb == STORE_CHARGE ? 0 : ask->n * (ask->sliding ? 2U : 1U);

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return ERR_SYNTAX;
    for (size_t i = 0; i < reply->elements; i++)
        if (!is_integer(reply->element[i]))
            return ERR_SYNTAX;
    ask->now_ms = reply->element[0]->integer;
    if (reply->element[1]->integer == -1)
        return STORE_STALE;
    ask->granted = reply->element[1]->integer;
    if (reply->elements != 2 + counts || ask->now_ms <= 0 || ask->granted < 0 ||
        (ask->verb == STORE_ADMIT && ask->granted > ask->count))
        return ERR_SYNTAX;
    for (unsigned i = 0; i < ask->n && counts; i++) {
        ask->used[i] = reply->element[2 + i]->integer;
        ask->previous[i] = ask->sliding ? reply->element[2 + ask->n + i]->integer : 0;
    }
    return 0;
}

/* Redis says so of a command with many arguments where of others it says NOAUTH. */
static const char *error_words(const struct redisReply *reply)
{
    static const char NOAUTH[] = "ERR Protocol error: unauthenticated";

    if (strncmp(reply->str, NOAUTH, sizeof NOAUTH - 1) == 0)
        return "NOAUTH Authentication required.";
    return reply->str;
}

static void on_done(struct redis_call *rc, int code, const struct redisReply *reply,
                    const char *reason)
{
    struct call *call = CONTAINER_OF(rc, struct call, redis);
    struct backend *b = call->backend;
    struct store_ask *ask = call->ask;
    char text[200];

    call->next_free = b->pool;
    b->pool = call;
    if (code == 0 && reply->type == REDIS_REPLY_ERROR) {
        snprintf(text, sizeof text, "%s", error_words(reply));
        code = ERR_SYSTEM;
        reason = text;
    } else if (code == 0) {
        code = take(ask, reply);
        reason = "the reply is none of the script's";
    }
    b->head.round_trips = redis_write_count(b->redis);
    ask->answered(ask, code, reason);
}

static struct call *new_call(struct backend *b)
{
    struct call *call = b->pool;

    if (call)
        b->pool = call->next_free;
    else
        call = xmalloc(sizeof *call);
    call->redis = (struct redis_call){ .done = on_done, .args_stay = true };
    call->backend = b;
    call->args.count = 0;
    call->args.next = call->args.bytes;
    return call;
}

static void send_asks(struct store_backend *head, struct store_asks *asks)
{
    struct backend *b = CONTAINER_OF(head, struct backend, head);
    struct store_ask *ask;

    while ((ask = TAILQ_FIRST(asks))) {
        struct call *call = new_call(b);
        struct args *args = &call->args;
        int keys;

        TAILQ_REMOVE(asks, ask, link);
        call->ask = ask;
        call->redis.read_only = ask->verb == STORE_PEEK;
        add_keys(args, ask);
        keys = args->count;
        add_values(args, ask);
        redis_eval(b->redis, &call->redis, &b->scripts[ask->verb], keys, args->count, args->v,
                   args->n);
    }
}

static void free_backend(struct store_backend *head)
{
    struct backend *b = CONTAINER_OF(head, struct backend, head);
    struct call *call;

    redis_free(b->redis);
    while ((call = b->pool)) {
        b->pool = call->next_free;
        free(call);
    }
    free(b);
}

struct store_backend *store_redis_new(struct loop *loop, struct resolver *resolver,
                                      const struct redis_settings *settings)
{
    static const struct store_backend_type TYPE = { .send = send_asks, .free = free_backend };
    struct backend *b = xcalloc(1, sizeof *b);

    b->head.type = &TYPE;
    b->redis = redis_new(loop, resolver, settings);
    redis_script_init(&b->scripts[STORE_ADMIT], ADMIT);
    redis_script_init(&b->scripts[STORE_CHARGE], CHARGE);
    redis_script_init(&b->scripts[STORE_PEEK], PEEK);
    redis_script_init(&b->scripts[STORE_SHARE], SHARE);
    return &b->head;
}

const char *store_redis_name(const struct store_backend *b)
{
    return redis_name(CONTAINER_OF(b, const struct backend, head)->redis);
}
