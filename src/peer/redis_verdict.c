/*
 * What replies say to all kinds of Redis: which errors concern the command and
 * which the server, and how a failed look-up is told to people.
 */
#define _GNU_SOURCE /* memmem */
#include "peer/redis_internal.h"
#include <hiredis/hiredis.h>
#include <stdio.h>

/* The first words of errors after which asking this server again is of no use for a while. */
static const char *const FAILURES[] = {
    "READONLY",  "LOADING", "MASTERDOWN", "NOREPLICAS",  "NOAUTH",
    "WRONGPASS", "NOPERM",  "DENIED",     "OOM",         "BUSY",
    "MISCONF",   "MOVED",   "TRYAGAIN",   "CLUSTERDOWN", "ASK",
};

static bool begins_with_word(struct str text, const char *word)
{
    size_t n = strlen(word);

    return text.n >= n && memcmp(text.p, word, n) == 0 && (text.n == n || text.p[n] == ' ');
}

/*
 * Redis before version 7 wraps what a command of a script says:
 * "ERR Error running script (call to f_...): @user_script:1: -READONLY You can't ...".
 */
static struct str error_text(const struct redisReply *reply)
{
    static const char WRAPPED[] = "ERR Error running script";
    struct str text = { reply->str, reply->len };
    const char *inner = NULL;

    if (text.n >= sizeof WRAPPED - 1 && memcmp(text.p, WRAPPED, sizeof WRAPPED - 1) == 0)
        inner = memmem(text.p, text.n, STR_BYTES(": -"));
    return inner ? (struct str){ inner + 3, text.n - (size_t)(inner + 3 - text.p) } : text;
}

bool redis_says(const struct redisReply *reply, const char *word)
{
    return reply && reply->type == REDIS_REPLY_ERROR && begins_with_word(error_text(reply), word);
}

bool redis_is_failure(const struct redisReply *reply)
{
    if (!reply || reply->type != REDIS_REPLY_ERROR)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(FAILURES); i++)
        if (begins_with_word(error_text(reply), FAILURES[i]))
            return true;
    return false;
}

const char *redis_answer_text(int code, const struct redisReply *reply, const char *reason)
{
    if (code)
        return reason;
    if (reply->type == REDIS_REPLY_ERROR)
        return reply->str;
    return "an answer of a form that Redis does not have";
}

static const char *node_text(const struct redis_node *node, char *to, size_t n)
{
    if (strncmp(node->host, "unix:", 5) == 0)
        snprintf(to, n, "%s: ", node->host);
    else
        snprintf(to, n, "%s:%u: ", node->host, node->port);
    return to;
}

const char *redis_without_node(const struct redis_node *node, const char *reason)
{
    char name[REDIS_HOST_MAX + 32];
    struct str prefix = str_from(node_text(node, name, sizeof name));

    return str_starts(str_from(reason), prefix) ? reason + prefix.n : reason;
}

void redis_said(struct redis *r, const struct redis_node *node, const char *text)
{
    char name[REDIS_HOST_MAX + 32];
    size_t n = strlen(r->said);

    snprintf(r->said + n, sizeof r->said - n, "%s%s%s", n ? "; " : "",
             node_text(node, name, sizeof name), redis_without_node(node, text));
}
