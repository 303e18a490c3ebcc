/*
 * Counters in Redis: see backend.h.
 */
#ifndef WEIR_STORE_REDIS_H
#define WEIR_STORE_REDIS_H

#include "peer/redis_settings.h"
#include "store/backend.h"

struct resolver;

/* settings and resolver must outlive it. */
struct store_backend *store_redis_new(struct loop *loop, struct resolver *resolver,
                                      const struct redis_settings *settings)
    __attribute__((returns_nonnull));

/* "redis 127.0.0.1:6379" and the like, for the log; valid as long as b. */
const char *store_redis_name(const struct store_backend *b);

#endif
