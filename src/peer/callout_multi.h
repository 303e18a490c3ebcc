/*
 * libcurl on a loop: its multi handle, whose sockets and timer are libevent's.
 * All memory of libcurl is wiped when it gives it back. One for each process.
 */
#ifndef WEIR_PEER_CALLOUT_MULTI_H
#define WEIR_PEER_CALLOUT_MULTI_H

#include "base/weir.h"
#include <curl/curl.h>

struct callout_multi;

/*
 * done(arg, easy, code) is called in the loop when a transfer has ended; easy is out of the
 * multi handle then, and may be cleaned up.
 */
struct callout_multi *callout_multi_new(struct loop *loop,
                                        void (*done)(void *arg, CURL *easy, CURLcode code),
                                        void *arg) __attribute__((returns_nonnull));

/* Closes the kept connections. All transfers have ended or were removed. */
void callout_multi_free(struct callout_multi *m);

/* Closes the kept connections, and forgets names, sessions and authorities. Nothing runs. */
void callout_multi_rest(struct callout_multi *m);

/* Begins the transfer, in the loop's next turn. */
void callout_multi_add(struct callout_multi *m, CURL *easy);

/* Breaks a transfer off; does not wait for a name that is being looked up. */
void callout_multi_remove(struct callout_multi *m, CURL *easy);

#endif
