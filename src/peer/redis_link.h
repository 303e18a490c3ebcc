/*
 * A connection to one Redis server: commands of one turn of the loop leave in
 * one write, replies come back in order. Connects when something is sent, with
 * TLS, AUTH and SELECT before the first command; after a failure everything in
 * flight fails, and the next command connects anew. Logs in again, on the same
 * connection, when the password changes; where the server refuses it, asks once
 * for another one before what waits fails. Bounds replies.
 */
#ifndef WEIR_PEER_REDIS_LINK_H
#define WEIR_PEER_REDIS_LINK_H

#include "base/str.h"
#include "base/weir.h"
#include "peer/redis_settings.h"
#include <sys/queue.h>

#define REDIS_REPLY_MAX_BYTES                                                                      \
    (64 << 20)                    /* unparsed; a reply that announces more ends the connection */
#define REDIS_ARRAY_MAX (1 << 20) /* elements */

struct loop;
struct redisReply; /* hiredis */
struct redis_link;
struct resolver;

/* Embedded in whoever asks; stays where it is until done was called. Zero it first. */
struct redis_cmd {
    TAILQ_ENTRY(redis_cmd) link; /* the link's */
    /*
     * Called once, never from within a call that sends. code 0: reply is there, which may be an
     * error of Redis (REDIS_REPLY_ERROR), and is valid during the call. Otherwise an err_code and
     * the reason in words; the command may have been carried out or not.
     */
    void (*done)(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                 const char *reason);
};

enum redis_link_kind {
    REDIS_LINK_DATA,     /* the settings' user, password and database */
    REDIS_LINK_SENTINEL, /* sentinel_username and sentinel_password, no database */
};

/* settings, node->host and resolver must outlive it. Does not connect yet. */
struct redis_link *redis_link_new(struct loop *loop, struct resolver *resolver,
                                  const struct redis_settings *settings,
                                  const struct redis_node *node, enum redis_link_kind kind)
    __attribute__((returns_nonnull));

/* What is in flight is answered ERR_CANCELLED. May be called from within a done. */
void redis_link_free(struct redis_link *l);

/* Queues a command; the bytes are copied. lens NULL: the args end with NUL. */
void redis_link_send(struct redis_link *l, struct redis_cmd *cmd, int argc, const char *const *argv,
                     const size_t *lens);

/* Closes the connection: what is in flight fails with this reason, the next command connects anew.
 */
void redis_link_reset(struct redis_link *l, int code, const char *reason);

/* Writes to sockets so far that held commands: round trips. */
uint64_t redis_link_write_count(const struct redis_link *l);

/*
 * For SUBSCRIBE: replies that no command waits for go to on_push (as hiredis parsed them). A
 * link that has one is kept connected by its owner: on_push is called with NULL when an idle
 * connection is lost; what was in flight is told by done as ever.
 */
void redis_link_on_push(struct redis_link *l,
                        void (*on_push)(void *arg, const struct redisReply *reply), void *arg);

#endif
