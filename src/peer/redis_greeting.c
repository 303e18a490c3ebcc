/*
 * See redis_greeting.h. No command may follow before all of this is answered
 * well: it would be carried out as somebody else, or in another database.
 */
#include "peer/redis_greeting.h"
#include "peer/redis_format.h"
#include <hiredis/hiredis.h>
#include <stdio.h>

#define ERROR_TEXT_BYTES 200

static void put(struct redis_greeting *g, struct buf *out, int argc, const char *const *argv)
{
    must(redis_format(out, argc, argv, NULL) == 0);
    g->steps[g->count++] = argv[0];
}

static void put_auth(struct redis_greeting *g, struct buf *out, const char *username,
                     const char *password)
{
    const char *argv[3] = { "AUTH" };
    int argc = 1;

    if (!password)
        return;
    if (username)
        argv[argc++] = username;
    argv[argc++] = password;
    put(g, out, argc, argv);
}

void redis_greeting_put(struct redis_greeting *g, struct buf *out,
                        const struct redis_settings *settings, enum redis_link_kind kind)
{
    char number[16];

    *g = (struct redis_greeting){ 0 };
    if (kind == REDIS_LINK_SENTINEL) {
        put_auth(g, out, settings->sentinel_username, settings->sentinel_password);
        return;
    }
    put_auth(g, out, settings->username, settings->password);
    if (settings->database) {
        snprintf(number, sizeof number, "%u", settings->database);
        put(g, out, 2, (const char *const[]){ "SELECT", number });
    }
}

static bool begins(const struct redisReply *reply, struct str with)
{
    return reply->type == REDIS_REPLY_ERROR &&
           str_starts((struct str){ reply->str, reply->len }, with);
}

int redis_greeting_take(struct redis_greeting *g, const struct redisReply *reply, struct err *e)
{
    const char *step = g->steps[g->done++];
    char text[ERROR_TEXT_BYTES], *args;

    if (reply->type == REDIS_REPLY_STATUS)
        return 0;
    if (reply->type != REDIS_REPLY_ERROR)
        return err_set(e, ERR_SYNTAX, "%s: an answer that is none", step);
    redis_error_text(reply, text, sizeof text);
    /* "unknown command 'AUTH', with args beginning with: 'secret'" */
    args = strstr(text, ", with args");
    if (args)
        *args = '\0';
    return err_set(e, ERR_CONFIG, "%s: %s", step, text);
}

bool redis_refuses_clients(const struct redisReply *reply)
{
    return begins(reply, STR("ERR max number of clients")) ||
           begins(reply, STR("DENIED Redis is running in protected mode"));
}

void redis_error_text(const struct redisReply *reply, char *to, size_t n)
{
    size_t i;

    for (i = 0; i + 1 < n && i < reply->len; i++)
        to[i] = (char)((unsigned char)reply->str[i] < ' ' || reply->str[i] == 127 ? '?'
                                                                                  : reply->str[i]);
    to[i] = '\0';
}
