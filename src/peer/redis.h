/*
 * A Redis as the settings name it: one server, the master that Sentinel
 * names, or a Cluster. Commands of one turn leave in one write per server;
 * MOVED, ASK, TRYAGAIN and a failover are followed here, so that who asks sees
 * a reply or a failure.
 */
#ifndef WEIR_PEER_REDIS_H
#define WEIR_PEER_REDIS_H

#include "ev/loop.h"
#include "peer/redis_link.h"

#define REDIS_ARGS_MAX 256 /* of a call, without the words that redis_eval adds */

struct redis;
struct redis_target; /* redis's own */

/* A Lua script: EVALSHA, and EVAL where the server does not know it. */
struct redis_script {
    const char *text;
    char sha1[41]; /* by redis_script_init */
};

/* Embedded in whoever asks; stays where it is until done was called. Zero it first. */
struct redis_call {
    /* the caller's */
    void *arg;
    /*
     * Called once, never from within redis_send and redis_eval. code 0: the reply is there, which
     * may be an error of Redis that concerns this command only (REDIS_REPLY_ERROR), and is valid
     * during the call. Otherwise an err_code and the reason in words, and reply is NULL: no
     * connection, no answer in time, no node, or a server that answers, with an error that says
     * it serves nobody: READONLY, LOADING, MASTERDOWN, NOREPLICAS, NOAUTH, WRONGPASS, NOPERM,
     * DENIED, OOM, BUSY, MISCONF; CLUSTERDOWN, TRYAGAIN, MOVED, ASK when following them led nowhere
     * (ERR_CLOSED, the reason is the server's). What failed may have been carried out or not.
     */
    void (*done)(struct redis_call *call, int code, const struct redisReply *reply,
                 const char *reason);
    bool read_only; /* a replica may answer */
    bool args_stay; /* argv, lens and all bytes stay as they are until done: nothing is copied */

    /* redis's own, from the sending until done */
    struct redis_cmd cmd;
    TAILQ_ENTRY(redis_call) link;
    struct deadline deadline;
    struct redis *redis;
    struct redis_target *server;       /* that was sent to last */
    const struct redis_script *script; /* NULL: a plain command */
    const char *const *argv;
    const size_t *lens;
    int argc, key_count;
    void *copy; /* of argv, lens and the bytes, where they may be needed again */
    int64_t until_ms;
    uint16_t slot;
    unsigned redirections;
    bool sent_text, ask;
};

/* settings and resolver must outlive it. Connects when something is sent. */
struct redis *redis_new(struct loop *loop, struct resolver *resolver,
                        const struct redis_settings *settings) __attribute__((returns_nonnull));

/*
 * Calls in flight are answered ERR_CANCELLED, from within; nothing may be sent from there. May be
 * called from within a done. The memory goes at the end of the turn.
 */
void redis_free(struct redis *r);

/* The text must outlive the script, and the script its calls. */
void redis_script_init(struct redis_script *s, const char *text);

/*
 * Sends a command about one key (it decides the server; "" for none) of at most REDIS_ARGS_MAX
 * arguments. lens NULL: they end with NUL. The bytes are copied unless call->args_stay.
 */
void redis_send(struct redis *r, struct redis_call *call, struct str key, int argc,
                const char *const *argv, const size_t *lens);

/*
 * EVALSHA script key_count keys... args...; argv holds keys and arguments, all keys of one slot.
 * Copies once more than redis_send does for the sake of NOSCRIPT, unless call->args_stay.
 */
void redis_eval(struct redis *r, struct redis_call *call, const struct redis_script *script,
                int key_count, int argc, const char *const *argv, const size_t *lens);

/* Writes of commands so far, all servers together: round trips. */
uint64_t redis_write_count(const struct redis *r);

/*
 * "redis 127.0.0.1:6379", "redis user@127.0.0.1:6379/2" (a user who is no secret, a
 * database but 0), "redis master mymaster", for the log; valid as long as r.
 */
const char *redis_name(const struct redis *r);

#endif
