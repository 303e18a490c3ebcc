/*
 * Host names to addresses: "unix:/path", numeric addresses, /etc/hosts, then
 * the system's name servers. Remembers at most a thousand names for as long
 * as their TTL says, and asks once however many wait for the same name.
 */
#ifndef WEIR_PEER_RESOLVE_H
#define WEIR_PEER_RESOLVE_H

#include "base/str.h"
#include "base/weir.h"
#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RESOLVE_MAX_NAMES 1000
#define RESOLVE_MAX_ADDRS 8 /* of a name; the rest is not used */

struct peer_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
    socklen_t n;
};

/* Embedded in whoever waits for a name. Zero it first. */
struct resolve_wait {
    TAILQ_ENTRY(resolve_wait) link;
    struct resolve_name *name;            /* not NULL while it waits */
    void (*done)(struct resolve_wait *w); /* ask again; called once */
};

enum resolve_result {
    RESOLVE_FOUND,
    RESOLVE_WAITS,  /* w->done will be called */
    RESOLVE_FAILED, /* *reason says why, statically */
};

/* first: a number that differs from caller to caller, so that a name's addresses share the work. */
struct resolve_turn {
    unsigned first, nth;
};

struct resolver;

struct resolver *resolver_new(struct loop *loop) __attribute__((returns_nonnull));

/* Nobody may wait any more. */
void resolver_free(struct resolver *r);

/*
 * Address number turn.nth of the host, turning around behind the last; *count
 * is how many there are. IPv4 addresses come before IPv6 ones.
 */
enum resolve_result resolver_find(struct resolver *r, struct str host, unsigned port,
                                  struct resolve_turn turn, struct peer_addr *out, unsigned *count,
                                  const char **reason, struct resolve_wait *w) MUST_CHECK;

/* w waits no longer. Harmless if it did not. */
void resolver_forget(struct resolve_wait *w);

/* "127.0.0.1:80", "[::1]:80" or "unix:/path", for the log; returns to. */
const char *peer_addr_text(const struct peer_addr *a, char *to, size_t n);

/* Parses what needs no look-up: 0, or -1 when host is a name. */
int peer_addr_parse(struct str host, unsigned port, struct peer_addr *out) MUST_CHECK;

/* The addresses that a hosts file gives a name, at most max, and localhost always; their number. */
unsigned hosts_find(const char *path, struct str name, struct peer_addr *out, unsigned max);

#endif
