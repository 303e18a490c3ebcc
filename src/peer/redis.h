/*
 * A Redis as the settings name it: one server, the master that Sentinel
 * names, or a Cluster. Commands of one turn leave in one write per server;
 * MOVED, ASK, TRYAGAIN and a failover are followed here, so that who asks sees
 * a reply or a failure.
 */
#ifndef WEIR_PEER_REDIS_H
#define WEIR_PEER_REDIS_H

#include "peer/redis_link.h"

struct redis;

/* A Lua script: EVALSHA, and EVAL where the server does not know it. */
struct redis_script {
    const char *text;
    char sha1[41]; /* by redis_script_init */
};

/* What redis_send copies is kept here until the command is done; redirections need it. */
struct redis_call {
    struct redis_cmd cmd;
    TAILQ_ENTRY(redis_call) link; /* redis's own */
    struct redis *redis;
    const struct redis_script *script; /* NULL: a plain command */
    struct str wire; /* the formatted command, where it must be kept; redis's own */
    uint16_t slot;
    uint8_t attempts;
    bool read_only, sent_text;
    /* as redis_cmd's; the caller's */
    void (*done)(struct redis_call *call, int code, const struct redisReply *reply,
                 const char *reason);
};

/* settings must outlive it. Connects when something is sent. */
struct redis *redis_new(struct loop *loop, struct resolver *resolver,
                        const struct redis_settings *settings) __attribute__((returns_nonnull));

/* Calls in flight are answered ERR_CANCELLED. */
void redis_free(struct redis *r);

void redis_script_init(struct redis_script *s, const char *text);

/*
 * Sends a command about one key (it decides the server; "" for none). The bytes are copied.
 * call->done is the caller's to set, and call->read_only, if a replica may answer; done is never
 * called from within. The call must stay where it is until then.
 */
void redis_send(struct redis *r, struct redis_call *call, struct str key, int argc,
                const char *const *argv, const size_t *lens);

/* EVALSHA script key_count keys... args...; argv holds keys and arguments, all keys of one slot. */
void redis_eval(struct redis *r, struct redis_call *call, const struct redis_script *script,
                int key_count, int argc, const char *const *argv, const size_t *lens);

/* Writes of commands so far, all servers together: round trips. */
uint64_t redis_write_count(const struct redis *r);

/* "redis 127.0.0.1:6379", "redis master mymaster", for the log; valid as long as r. */
const char *redis_name(const struct redis *r);

#endif
