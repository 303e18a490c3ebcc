/*
 * A subscription to what Sentinels tell of their own accord: that a master has
 * been replaced. One connection to one of them, kept up as long as this lives.
 */
#ifndef WEIR_PEER_REDIS_WATCH_H
#define WEIR_PEER_REDIS_WATCH_H

#include "peer/redis_link.h"

struct redis_watch;

/*
 * on_switch is called when Sentinel tells that the settings' master was replaced, and when that
 * may have been missed, because the connection had been lost for a while. Begins at once.
 */
struct redis_watch *redis_watch_new(struct loop *loop, struct resolver *resolver,
                                    const struct redis_settings *settings,
                                    void (*on_switch)(void *arg), void *arg)
    __attribute__((returns_nonnull));
void redis_watch_free(struct redis_watch *w);

#endif
