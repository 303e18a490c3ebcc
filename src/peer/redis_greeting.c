/*
 * See redis_greeting.h. No command may follow before all of this is answered
 * well: it would be carried out as somebody else, or in another database.
 */
#include "peer/redis_greeting.h"
#include "peer/redis_format.h"
#include <hiredis/hiredis.h>
#include <stdio.h>

#define ERROR_TEXT_BYTES 200

void redis_greeting_put(struct redis_greeting *g, struct buf *out, struct redis_login *login,
                        unsigned database)
{
    char number[16];
    const char *argv[] = { "SELECT", number };

    *g = (struct redis_greeting){ 0 };
    if (login->password) {
        redis_login_put(login, out, false);
        g->steps[g->count++] = "AUTH";
    }
    if (database) {
        snprintf(number, sizeof number, "%u", database);
        must(redis_format(out, 2, argv, NULL) == 0);
        g->steps[g->count++] = argv[0];
    }
}

static bool begins(const struct redisReply *reply, struct str with)
{
    return reply->type == REDIS_REPLY_ERROR &&
           str_starts((struct str){ reply->str, reply->len }, with);
}

/* The words of Redis from version 6 on, those before, and those of services that are like it. */
static bool refuses_login(const struct redisReply *reply)
{
    return begins(reply, STR("WRONGPASS")) || begins(reply, STR("NOAUTH")) ||
           begins(reply, STR("ERR invalid password")) ||
           begins(reply, STR("ERR invalid username-password")) ||
           begins(reply, STR("ERR operation not permitted"));
}

int redis_greeting_take(struct redis_greeting *g, const struct redisReply *reply, struct err *e)
{
    const char *step = g->steps[g->done++];
    char text[ERROR_TEXT_BYTES];

    if (reply->type == REDIS_REPLY_STATUS)
        return 0;
    if (reply->type != REDIS_REPLY_ERROR)
        return err_set(e, ERR_SYNTAX, "%s: an answer that is none", step);
    g->refused = strcmp(step, "AUTH") == 0 && refuses_login(reply);
    redis_error_text(reply, text, sizeof text);
    return err_set(e, ERR_CONFIG, "%s: %s", step, text);
}

bool redis_refuses_clients(const struct redisReply *reply)
{
    return begins(reply, STR("ERR max number of clients")) ||
           begins(reply, STR("DENIED Redis is running in protected mode"));
}

void redis_error_text(const struct redisReply *reply, char *to, size_t n)
{
    char *args;
    size_t i;

    for (i = 0; i + 1 < n && i < reply->len; i++)
        to[i] = (char)((unsigned char)reply->str[i] < ' ' || reply->str[i] == 127 ? '?'
                                                                                  : reply->str[i]);
    to[i] = '\0';
    /* "unknown command 'AUTH', with args beginning with: 'secret'" */
    args = strstr(to, ", with args");
    if (args)
        *args = '\0';
}
