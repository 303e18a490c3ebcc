/*
 * Replies out of the bytes of one connection, by hiredis's parser, whose
 * objects are made here: in an arena that lasts until the next reply. Nothing that a
 * server announces is allocated before it has come.
 */
#ifndef WEIR_PEER_REDIS_REPLIES_H
#define WEIR_PEER_REDIS_REPLIES_H

#include "base/err.h"
#include "base/mem.h"
#include "base/weir.h"
#include "peer/redis_link.h"

struct redisReader;

struct redis_replies {
    struct redisReader *parser;
    struct arena arena;       /* of the reply that is being read, or was given out last */
    size_t held_bytes;        /* of it */
    bool given_out, is_large; /* it passes a bound */
};

void redis_replies_init(struct redis_replies *r);
void redis_replies_fini(struct redis_replies *r);

/* Forgets everything: a new connection begins. */
void redis_replies_reset(struct redis_replies *r);

/* The bytes are copied. After each, redis_replies_next until it has no more. */
void redis_replies_feed(struct redis_replies *r, const char *p, size_t n);

/*
 * 1: *reply is there, until the next call; 0: more bytes are needed. Otherwise ERR_SYNTAX or
 * ERR_BOUND, and nothing more can be read.
 */
int redis_replies_next(struct redis_replies *r, const struct redisReply **reply,
                       struct err *e) MUST_CHECK;

#endif
