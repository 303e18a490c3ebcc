/*
 * What a store of counters must be able to do: the contract between the core
 * (store.h), which merges, remembers and gives up, and the file of each store
 * (redis.c, pg.c, sqlite.c), which asks it and holds no other logic.
 */
#ifndef WEIR_STORE_BACKEND_H
#define WEIR_STORE_BACKEND_H

#include "base/str.h"
#include "base/weir.h"
#include "shm/counter.h"
#include <sys/queue.h>

#define STORE_IDENTITY_MAX                                                                         \
    256                     /* bytes; the core puts a digest in the place of a longer one's end */
#define STORE_NODE_BYTES 16 /* of a node's name, in hexadecimal digits */

enum store_verb {
    /*
     * count requests of cost units each: as many as find room in all windows, where used, with
     * what weighs of the previous window if sliding, plus cost is at most the limit
     */
    STORE_ADMIT,
    STORE_CHARGE, /* cost units whatever the limits are; a count never falls below 0 */
    STORE_PEEK,   /* nothing is changed */
    STORE_SHARE,  /* the node's own counts are put in the place of those it gave before */
};

struct store_window {
    int64_t what;             /* as in counter.h: a period, or minus the size in milliseconds */
    double limit;             /* ADMIT only */
    int64_t start_ms, end_ms; /* the window that the core believes it is now */
};

/* One question about one identity. The memory is the core's. */
struct store_ask {
    TAILQ_ENTRY(store_ask) link; /* the backend's, from send until it has answered */
    enum store_verb verb;
    bool sliding;
    unsigned n; /* of windows: 1 to COUNTER_WINDOWS_MAX */
    struct store_window w[COUNTER_WINDOWS_MAX];
    struct str identity;
    int64_t cost;  /* ADMIT: of one request, at least 1; CHARGE: may be negative, or 0: all is done
                      but the count stays */
    int64_t count; /* ADMIT: of requests, at least 1 */
    int64_t own[COUNTER_WINDOWS_MAX]; /* SHARE: this node's count in each window */
    char node[STORE_NODE_BYTES + 1];  /* SHARE: its name */

    /* the answer, valid in answered */
    int64_t granted; /* ADMIT: 0 to count; granted * cost units were counted in all windows */
    int64_t used[COUNTER_WINDOWS_MAX]; /* in each window before this question; SHARE: by all other
                                          nodes together */
    int64_t previous[COUNTER_WINDOWS_MAX]; /* sliding: in the window before, which weighs
                                              (end_ms - now_ms) / (end_ms - start_ms) */
    int64_t now_ms;                        /* the store's clock, 0: unknown */
    void (*answered)(struct store_ask *ask, int code, const char *reason);
};

/*
 * The codes of answered: 0; STORE_STALE: by the store's clock (now_ms) one of the windows is not
 * the present one, and nothing was done; or an err_code with the reason in words, no secret in it
 * (ERR_CANCELLED when the backend is freed). What failed may have been counted or not.
 */
enum { STORE_STALE = -50 };

TAILQ_HEAD(store_asks, store_ask);

struct store_backend;

struct store_backend_type {
    /*
     * Takes over all that was asked in one turn of the loop (the list is empty afterwards).
     * Identities differ, but one may stand there with several verbs: in that order. Each ask is
     * answered once, never from within send, and in any case before the settings' timeout is
     * long over.
     */
    void (*send)(struct store_backend *b, struct store_asks *asks);
    /* Answers what is in flight with ERR_CANCELLED, and frees b. */
    void (*free)(struct store_backend *b);
    /* What is asked meanwhile waits for the answers to the last send: it makes larger batches. */
    bool one_batch_at_a_time;
};

/* The head of each backend's own struct. */
struct store_backend {
    const struct store_backend_type *type;
    uint64_t round_trips; /* counted by the backend */
};

#endif
