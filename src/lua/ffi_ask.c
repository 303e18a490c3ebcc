/*
 * One question to a Redis or a PostgreSQL, on a connection of its own, which
 * ends with it: for what is asked rarely, such as secrets. The answer is one
 * text, or none. An answer belongs to Lua, which frees it; what is left when the
 * Lua state is closed is freed then.
 */
#include "base/mem.h"
#include "lua/co.h"
#include "lua/internal.h"
#include "peer/pg.h"
#include "peer/redis.h"
#include "peer/redis_greeting.h"
#include "peer/resolve.h"
#include "store/settings.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define ANSWER_MAX_BYTES (1 << 20) /* as of call-outs */

struct answer {
    LIST_ENTRY(answer) link;
    struct op op;
    struct arena arena; /* the settings' and the question's texts */
    struct redis *redis;
    struct redis_settings redis_settings;
    struct redis_call call;
    struct pg *pg;
    struct pg_settings pg_settings;
    struct pg_statement statement;
    struct pg_query query;
    struct buf text;
    int code; /* 0: text is the answer; WEIR_NONE: there is none; below: text says why */
};

static LIST_HEAD(, answer) the_answers = LIST_HEAD_INITIALIZER(the_answers);
static struct resolver *the_resolver; /* NULL before the first question */

/* ---- what comes back ---- */

static void settle(struct answer *a, int code, struct str text)
{
    if (code == 0 && text.n > ANSWER_MAX_BYTES) {
        code = ERR_BOUND;
        text = STR("the answer is longer than 1 MiB");
    }
    a->code = code;
    if (text.n)
        must(buf_add(&a->text, text.p, text.n) == 0);
    if (a->op.state == OP_PENDING)
        op_finish(&a->op, 0);
}

static void on_reply(struct redis_call *call, int code, const struct redisReply *reply,
                     const char *reason)
{
    struct answer *a = call->arg;
    char text[200];

    if (code != 0) {
        settle(a, code, str_from(reason));
        return;
    }
    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        settle(a, 0, (struct str){ reply->str, reply->len });
        break;
    case REDIS_REPLY_INTEGER:
        snprintf(text, sizeof text, "%lld", reply->integer);
        settle(a, 0, str_from(text));
        break;
    case REDIS_REPLY_NIL:
        settle(a, WEIR_NONE, STR(""));
        break;
    case REDIS_REPLY_ERROR:
        redis_error_text(reply, text, sizeof text);
        settle(a, ERR_SYSTEM, str_from(text));
        break;
    default:
        settle(a, ERR_SYNTAX, STR("the answer is a list"));
    }
}

static void on_rows(struct pg_query *q, int code, const PGresult *rows, const char *reason)
{
    struct answer *a = CONTAINER_OF(q, struct answer, query);
    const char *state = code != 0 && rows ? PQresultErrorField(rows, PG_DIAG_SQLSTATE) : NULL;
    char text[64];

    if (state && strncmp(state, "22", 2) == 0) { /* a data exception: its words quote the data */
        snprintf(text, sizeof text, "the statement fails with SQLSTATE %s", state);
        settle(a, code, str_from(text));
    } else if (code != 0)
        settle(a, code, str_from(reason));
    else if (PQntuples(rows) == 0 || PQnfields(rows) == 0 || PQgetisnull(rows, 0, 0))
        settle(a, WEIR_NONE, STR(""));
    else
        settle(a, 0, (struct str){ PQgetvalue(rows, 0, 0), (size_t)PQgetlength(rows, 0, 0) });
}

/* ---- questions ---- */

static void free_answer(struct answer *a)
{
    LIST_REMOVE(a, link);
    if (a->redis)
        redis_free(a->redis);
    if (a->pg)
        pg_free(a->pg);
    buf_wipe(&a->text);
    arena_fini(&a->arena);
    free(a);
}

static void let_go(void)
{
    while (!LIST_EMPTY(&the_answers))
        free_answer(LIST_FIRST(&the_answers));
    resolver_free(the_resolver);
    the_resolver = NULL;
}

static struct answer *new_answer(void)
{
    struct answer *a;

    if (!the_vm->args.loop || !co_current())
        return NULL;
    if (!the_resolver) {
        the_resolver = resolver_new(the_vm->args.loop);
        vm_at_end(let_go);
    }
    a = xcalloc(1, sizeof *a);
    arena_init(&a->arena, 512);
    op_init(&a->op, NULL);
    op_start(&a->op);
    LIST_INSERT_HEAD(&the_answers, a, link);
    return a;
}

weir_answer *weir_redis_ask(const char *settings, size_t n, int argc, const char *const *argv,
                            const size_t *lens)
{
    struct answer *a = new_answer();
    struct err e;

    if (!a)
        return NULL;
    if (settings_redis(&a->redis_settings, &a->arena, str_of(settings, n), the_vm->args.conf, &e) <
        0) {
        settle(a, e.code, str_from(e.text));
        return (weir_answer *)a;
    }
    must(argc >= 1 && argc <= REDIS_ARGS_MAX);
    a->redis = redis_new(the_vm->args.loop, the_resolver, &a->redis_settings);
    a->call.arg = a;
    a->call.done = on_reply;
    a->call.read_only = true;
    redis_send(a->redis, &a->call, argc > 1 ? str_of(argv[1], lens[1]) : STR(""), argc, argv, lens);
    return (weir_answer *)a;
}

weir_answer *weir_pg_ask(const char *settings, size_t n, const char *sql, size_t sql_n,
                         const char *param, size_t param_n)
{
    struct answer *a = new_answer();
    const char **params;

    if (!a)
        return NULL;
    a->pg_settings = settings_pg(&a->arena, str_of(settings, n), the_vm->args.conf);
    params = arena_alloc(&a->arena, sizeof *params);
    params[0] = arena_str(&a->arena, str_of(param, param_n)).p;
    a->statement =
        (struct pg_statement){ "weir_ask", arena_str(&a->arena, str_of(sql, sql_n)).p, 1 };
    a->pg = pg_new(the_vm->args.loop, the_resolver, &a->pg_settings, NULL);
    a->query.statement = &a->statement;
    a->query.params = params;
    a->query.done = on_rows;
    pg_send(a->pg, &a->query);
    return (weir_answer *)a;
}

int weir_answer_get(weir_answer *answer, weir_str *out)
{
    struct answer *a = (struct answer *)answer;

    if (a->op.state == OP_PENDING) {
        co_wait(&a->op);
        return WEIR_WAIT;
    }
    *out = (weir_str){ a->text.p, a->text.n };
    return a->op.code < 0 ? a->op.code : a->code;
}

void weir_answer_free(weir_answer *answer)
{
    co_unwait(&((struct answer *)answer)->op);
    free_answer((struct answer *)answer);
}
