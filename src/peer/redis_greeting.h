/*
 * What a new connection to Redis says before any command: AUTH and SELECT,
 * as settings and kind want it; and what its replies mean.
 */
#ifndef WEIR_PEER_REDIS_GREETING_H
#define WEIR_PEER_REDIS_GREETING_H

#include "base/err.h"
#include "peer/redis_login.h"

struct redis_greeting {
    const char *steps[2]; /* names of the commands */
    unsigned count, done; /* done have been answered */
    bool refused;         /* the server does not know what was logged in with */
};

/* Appends the commands; out holds secrets then. Check the login first. */
void redis_greeting_put(struct redis_greeting *g, struct buf *out, struct redis_login *login,
                        unsigned database);

/* Takes the reply to the next step: 0, or ERR_CONFIG and words without secrets. */
int redis_greeting_take(struct redis_greeting *g, const struct redisReply *reply,
                        struct err *e) MUST_CHECK;

/* True of the error that Redis sends, asked or not, to whom it does not serve at all. */
bool redis_refuses_clients(const struct redisReply *reply);

/* The words of an error reply that may be shown: one line, no control characters, no arguments. */
void redis_error_text(const struct redisReply *reply, char *to, size_t n);

#endif
