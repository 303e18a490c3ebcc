/*
 * See redis_greeting.h. No command may follow before all of this is answered
 * well: it would be carried out as somebody else, or in another database.
 */
#include "peer/redis_greeting.h"
#include "base/secret.h"
#include "peer/redis_format.h"
#include <hiredis/hiredis.h>
#include <stdio.h>

#define ERROR_TEXT_BYTES 200
#define OTHER_BYTES 256 /* of a greeting, without the secrets */

struct redis_login redis_login_of(const struct redis_settings *s, enum redis_link_kind kind)
{
    if (kind == REDIS_LINK_SENTINEL)
        return (struct redis_login){ s->sentinel_username, s->sentinel_password };
    return (struct redis_login){ s->username, s->password };
}

static int check(const struct secret *s, const char *what, struct err *e)
{
    if (!s || secret_value(s).p)
        return 0;
    return err_set(e, ERR_CONFIG, "no %s: %s: %s", what, secret_name(s), secret_why(s));
}

int redis_login_check(const struct redis_login *login, struct err *e)
{
    int rc = check(login->password, "password", e);

    return rc == 0 && login->password ? check(login->username, "username", e) : rc;
}

static void put(struct redis_greeting *g, struct buf *out, int argc, const struct str *words)
{
    const char *argv[3];
    size_t lens[3];

    for (int i = 0; i < argc; i++) {
        argv[i] = words[i].p;
        lens[i] = words[i].n;
    }
    must(redis_format(out, argc, argv, lens) == 0);
    g->steps[g->count++] = argv[0];
}

static void put_auth(struct redis_greeting *g, struct buf *out, const struct redis_login *login)
{
    struct str words[3] = { STR("AUTH") };
    int n = 1;

    if (!login->password)
        return;
    if (login->username)
        words[n++] = secret_value(login->username);
    words[n++] = secret_value(login->password);
    /* all at once: a buffer that grows leaves its bytes behind */
    must(buf_reserve(out, words[1].n + words[n - 1].n + OTHER_BYTES));
    put(g, out, n, words);
}

void redis_greeting_put(struct redis_greeting *g, struct buf *out,
                        const struct redis_settings *settings, enum redis_link_kind kind)
{
    struct redis_login login = redis_login_of(settings, kind);
    char digits[U64_DIGITS];

    *g = (struct redis_greeting){ 0 };
    put_auth(g, out, &login);
    if (kind == REDIS_LINK_DATA && settings->database)
        put(g, out, 2,
            (const struct str[]){ STR("SELECT"), str_from_u64(settings->database, digits) });
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
