/*
 * See redis.h. One script call decides all windows of an identity: their keys
 * share a hash tag. Where one server has all keys, a call decides many identities:
 * most of what a call costs Redis it costs once. Redis's own clock decides whether the windows are
 * the present ones; a key ends with its window (a sliding one's with the next), and is given that
 * end by the call that makes it.
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
 * then what is the verb's own. The answer: the time in milliseconds, 0, then the counts of KEYS
 * before the call. A second element of -1: a window is not the present one.
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

/*
 * KEYS of several identities, all of the same windows. Its own first: how many identities; then for
 * each of them: how many requests, the cost of each, the windows' limits. In the answer how many
 * are granted stands before each one's counts.
 */
static const char ADMIT[] =
    SCRIPT_HEAD "local counts = call('MGET', unpack(KEYS))\n"
                "local reply, size = {now, 0}, 2\n"
                "local arg, key = 4 + 2 * n, 0\n"
                "for _ = 1, tonumber(ARGV[3]) do\n"
                "  local granted, cost = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])\n"
                "  for i = 1, n do\n"
                "    local used = tonumber(counts[key + i] or 0)\n"
                "    reply[size + 1 + i] = used\n"
                "    if sliding then\n"
                "      local first, last = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])\n"
                "      local previous = tonumber(counts[key + n + i] or 0)\n"
                "      reply[size + 1 + n + i] = previous\n"
                "      used = used + previous * (last - now) / (last - first)\n"
                "    end\n"
                "    local room = math.floor((tonumber(ARGV[arg + 2 + i]) - used) / cost)\n"
                "    if room < granted then granted = room end\n"
                "  end\n"
                "  if granted < 0 then granted = 0 end\n"
                "  reply[size + 1] = granted\n"
                "  local amount = granted * cost\n"
                "  for i = 1, granted > 0 and n or 0 do\n"
                "    if call('INCRBY', KEYS[key + i], amount) == amount then\n"
                "      call('PEXPIREAT', KEYS[key + i], ending(i))\n"
                "    end\n"
                "  end\n"
                "  arg = arg + 2 + n\n"
                "  key = key + (sliding and 2 * n or n)\n"
                "  size = size + 1 + (sliding and 2 * n or n)\n"
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
#define ARGS_MAX REDIS_ARGS_MAX
#define PACK_MAX 64 /* identities that one call decides */
#define PACK_BYTES 32768

struct backend {
    struct store_backend head;
    struct redis *redis;
    struct redis_script scripts[STORE_SHARE + 1];
    bool packs; /* all keys are on one server, as far as is known */
    struct call *pool;
};

/* The arguments of a script; their bytes lie one behind the other. */
struct args {
    const char *v[ARGS_MAX];
    size_t n[ARGS_MAX];
    int count;
    char *next;
    char bytes[PACK_BYTES];
};

/* Asks on their way. */
struct call {
    struct redis_call redis;
    struct backend *backend;
    struct store_ask *asks[PACK_MAX];
    unsigned count;
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

static void add_spans(struct args *a, const struct store_ask *ask)
{
    for (unsigned i = 0; i < ask->n; i++) {
        add_integer(a, ask->w[i].start_ms);
        add_integer(a, ask->w[i].end_ms);
    }
}

static void add_own(struct args *a, const struct store_ask *ask)
{
    if (ask->verb == STORE_ADMIT) {
        add_integer(a, ask->count);
        add_integer(a, ask->cost);
    }
    for (unsigned i = 0; i < ask->n && ask->verb == STORE_ADMIT; i++)
        add_limit(a, ask->w[i].limit);
    for (unsigned i = 0; i < ask->n && ask->verb == STORE_SHARE; i++)
        add_integer(a, ask->own[i]);
}

static void add_values(struct args *a, const struct call *call)
{
    const struct store_ask *first = call->asks[0];

    add_integer(a, first->n);
    add_integer(a, first->sliding);
    if (first->verb == STORE_SHARE)
        add(a, first->node, STORE_NODE_BYTES);
    else
        add_integer(a, first->verb == STORE_ADMIT ? call->count : first->cost);
    add_integer(a, 0);
    add_spans(a, first);
    for (unsigned i = 0; i < call->count; i++)
        add_own(a, call->asks[i]);
}

/* ---- the answer ---- */

static bool is_integer(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_INTEGER;
}

static size_t count_of_keys(const struct store_ask *ask)
{
    return ask->n * (ask->sliding && ask->verb != STORE_CHARGE ? 2U : 1U);
}

/* How many numbers of an answer are about one ask. */
static size_t count_of_numbers(const struct store_ask *ask)
{
    if (ask->verb == STORE_CHARGE)
        return 0;
    return count_of_keys(ask) + (ask->verb == STORE_ADMIT);
}

/* Whether it has the form of an answer to this call. */
static bool is_answer(const struct call *call, const struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return false;
    for (size_t i = 0; i < reply->elements; i++)
        if (!is_integer(reply->element[i]))
            return false;
    if (reply->element[0]->integer <= 0)
        return false;
    return reply->element[1]->integer == -1 ||
           reply->elements == 2 + call->count * count_of_numbers(call->asks[0]);
}

/* The numbers about one ask: 0, or ERR_SYNTAX. */
static int take(struct store_ask *ask, struct redisReply **numbers)
{
    ask->granted = 0;
    if (ask->verb == STORE_ADMIT) {
        ask->granted = numbers[0]->integer;
        if (ask->granted < 0 || ask->granted > ask->count)
            return ERR_SYNTAX;
        numbers++;
    }
    for (unsigned i = 0; i < ask->n && ask->verb != STORE_CHARGE; i++) {
        ask->used[i] = numbers[i]->integer;
        ask->previous[i] = ask->sliding ? numbers[ask->n + i]->integer : 0;
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

static void answer(struct call *call, const struct redisReply *reply)
{
    size_t numbers = count_of_numbers(call->asks[0]);
    bool stale = reply->element[1]->integer == -1;

    for (unsigned i = 0; i < call->count; i++) {
        struct store_ask *ask = call->asks[i];
        int code = stale ? STORE_STALE : take(ask, reply->element + 2 + i * numbers);

        ask->now_ms = reply->element[0]->integer;
        ask->answered(ask, code, "the reply is none of the script's");
    }
}

static void fail(struct call *call, int code, const char *reason)
{
    for (unsigned i = 0; i < call->count; i++)
        call->asks[i]->answered(call->asks[i], code, reason);
}

static void on_done(struct redis_call *rc, int code, const struct redisReply *reply,
                    const char *reason)
{
    struct call *call = CONTAINER_OF(rc, struct call, redis);
    struct backend *b = call->backend;
    char text[200];

    b->head.round_trips = redis_write_count(b->redis);
    if (code < 0) {
        fail(call, code, reason);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(text, sizeof text, "%s", error_words(reply));
        if (strncmp(text, "CROSSSLOT", 9) == 0)
            b->packs = false; /* a node of a Cluster, or a proxy before one */
        fail(call, ERR_SYSTEM, text);
    } else if (is_answer(call, reply)) {
        answer(call, reply);
    } else {
        fail(call, ERR_SYNTAX, "the reply is none of the script's");
    }
    call->next_free = b->pool;
    b->pool = call;
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
    call->count = 0;
    return call;
}

/* Of the same windows, so that a call says them once. */
static bool is_alike(const struct store_ask *a, const struct store_ask *b)
{
    if (a->verb != b->verb || a->n != b->n || a->sliding != b->sliding)
        return false;
    for (unsigned i = 0; i < a->n; i++)
        if (a->w[i].what != b->w[i].what || a->w[i].start_ms != b->w[i].start_ms)
            return false;
    return true;
}

/* Whether the call can decide about this one, too. */
static bool has_room(const struct call *call, const struct store_ask *ask)
{
    const struct store_ask *first = call->asks[0];
    size_t count = call->count + 1, keys = count_of_keys(ask), own = 2 + ask->n;

    if (!call->backend->packs || ask->verb != STORE_ADMIT || count > PACK_MAX ||
        !is_alike(first, ask) || count * (keys + own) + 4 + 2 * ask->n > ARGS_MAX ||
        count * (keys * KEY_MAX_BYTES + own * NUMBER_MAX_BYTES) + 1024 > PACK_BYTES)
        return false;
    /* the counts are read before any is changed: of an identity that comes twice the second waits
     */
    for (unsigned i = 0; i < call->count; i++)
        if (str_eq(call->asks[i]->identity, ask->identity))
            return false;
    return true;
}

static void send_call(struct call *call)
{
    struct backend *b = call->backend;
    struct args *args = &call->args;
    enum store_verb verb = call->asks[0]->verb;
    int keys;

    args->count = 0;
    args->next = args->bytes;
    for (unsigned i = 0; i < call->count; i++)
        add_keys(args, call->asks[i]);
    keys = args->count;
    add_values(args, call);
    call->redis.read_only = verb == STORE_PEEK;
    redis_eval(b->redis, &call->redis, &b->scripts[verb], keys, args->count, args->v, args->n);
}

static void send_asks(struct store_backend *head, struct store_asks *asks)
{
    struct backend *b = CONTAINER_OF(head, struct backend, head);
    struct store_ask *ask;

    while ((ask = TAILQ_FIRST(asks))) {
        struct call *call = new_call(b);

        do {
            TAILQ_REMOVE(asks, ask, link);
            call->asks[call->count++] = ask;
        } while ((ask = TAILQ_FIRST(asks)) && has_room(call, ask));
        send_call(call);
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
    b->packs = settings->cluster_count == 0 && !settings->is_proxied;
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
