/*
 * What the kinds of Redis (one server, Sentinel, Cluster) have in common: the
 * targets with their links, calls on their way, and calls that wait until it
 * is known where to send them. redis.c stands above the kinds; they know it not.
 */
#ifndef WEIR_PEER_REDIS_INTERNAL_H
#define WEIR_PEER_REDIS_INTERNAL_H

#include "base/err.h"
#include "peer/redis.h"

#define REDIS_TARGETS_MAX 1000 /* that a Cluster or a Sentinel may name at a time */
#define REDIS_HOST_MAX 255
#define REDIS_REASON_MAX 800

/* Where calls are sent. Freed at the end of a turn. */
struct redis_target {
    TAILQ_ENTRY(redis_target) link; /* in redis.targets */
    struct redis *redis;
    struct redis_link *conn; /* NULL when it is about to be freed */
    struct redis_node node;
    enum redis_link_kind kind;
    unsigned in_flight; /* calls */
    bool retired;       /* no call is sent any more: goes with the last answer */
    bool listed, asked; /* the kind's own */
    bool failed;        /* since the last reply */
    struct dying dying;
    char host[];
};

TAILQ_HEAD(redis_targets, redis_target);
TAILQ_HEAD(redis_calls, redis_call);

struct redis_type {
    /* Sends the call, or lets it wait. key decides the server of a Cluster. */
    void (*send)(struct redis *r, struct redis_call *call, struct str key);
    /* What came of a call that was sent: redis_call_finish, or send again. */
    void (*on_reply)(struct redis_call *call, int code, const struct redisReply *reply,
                     const char *reason);
    /* At the end of a turn in which a call began to wait. */
    void (*on_waiting)(struct redis *r);
    /*
     * Nothing is begun any more, what is the kind's own is freed; calls that it keeps in lists of
     * its own go to r->failing. The targets are none of its business.
     */
    void (*close)(struct redis *r);
};

/* The head of each kind's struct. */
struct redis {
    const struct redis_type *type;
    struct loop *loop;
    struct resolver *resolver;
    const struct redis_settings *settings;
    struct redis_targets targets;
    struct redis_calls waiting, failing;
    struct deadline_queue bound; /* of waiting */
    struct deferred deferred;    /* on_waiting */
    uint64_t past_writes;        /* of links that are gone */
    bool closing;
    struct dying dying;
    char said[REDIS_REASON_MAX]; /* what the last look-up learned of each node that failed it */
    char name[REDIS_HOST_MAX + 32];
};

/* size: of the kind's struct, zeroed but for its head. */
struct redis *redis_make(size_t size, const struct redis_type *type, struct loop *loop,
                         struct resolver *resolver, const struct redis_settings *settings)
    __attribute__((returns_nonnull));

/* The server of that address; NULL when the host is too long or there are too many. */
struct redis_target *redis_target_get(struct redis *r, struct str host, unsigned port,
                                      enum redis_link_kind kind);

/* No call goes there any more. */
void redis_target_retire(struct redis_target *s);

/* Sends the call there: its arguments must still be where they were. */
void redis_call_put(struct redis_call *call, struct redis_target *s);

/* Copies the arguments, unless they stay. */
void redis_call_keep(struct redis_call *call);

/* Answers the call; decides whether an error reply is a failure. */
void redis_call_finish(struct redis_call *call, int code, const struct redisReply *reply,
                       const char *reason);

/* Keeps the call until redis_wait_next or redis_wait_fail, at most connect_ms + read_ms. */
void redis_wait(struct redis_call *call);

/* Takes the call that waits the longest; NULL: none does. */
struct redis_call *redis_wait_next(struct redis *r);

/* Answers all that wait with this failure. */
void redis_wait_fail(struct redis *r, const struct err *e);

/* Is it an error reply that begins with this word? */
bool redis_says(const struct redisReply *reply, const char *word);

/* Is it an error reply that says that the server serves nobody (see redis.h, done)? */
bool redis_is_failure(const struct redisReply *reply);

/* The text of a reply, or the reason; for said. */
const char *redis_answer_text(int code, const struct redisReply *reply, const char *reason);

/* A link's reason begins with the name of its node: what stands behind that. */
const char *redis_without_node(const struct redis_node *node, const char *reason);

/* Adds "host:port: text" to r->said; the text may be a link's reason. */
void redis_said(struct redis *r, const struct redis_node *node, const char *text);

struct redis *redis_sentinel_new(struct loop *loop, struct resolver *resolver,
                                 const struct redis_settings *settings)
    __attribute__((returns_nonnull));
struct redis *redis_cluster_new(struct loop *loop, struct resolver *resolver,
                                const struct redis_settings *settings)
    __attribute__((returns_nonnull));

#endif
