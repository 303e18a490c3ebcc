/*
 * The listening sockets of the master: opened, kept over a reload, handed to a
 * new binary. Owns their descriptors, and the names of unix sockets.
 */
#ifndef WEIR_SRV_LISTEN_H
#define WEIR_SRV_LISTEN_H

#include "base/err.h"
#include "base/weir.h"
#include "srv/identity.h"
#include <sys/types.h>

struct listener {
    char *spec; /* as in fastcgi_listen */
    int fd;
    dev_t dev; /* of the unix socket's name, so that another's is never removed */
    ino_t ino;
};

/* Zero it first. */
struct listeners {
    struct listener *items;
    size_t n;
};

/*
 * Opens what fastcgi_listen names; what old (may be NULL) has already is shared with it. On failure
 * nothing new stays open. Sockets are non-blocking and close on exec.
 */
int listeners_open(struct listeners *out, const struct listeners *old, const struct conf *conf,
                   const struct identity *workers, struct err *e) MUST_CHECK;

/* Closes those of set that kept (may be NULL) does not share; unlinks their names too if told to.
 */
void listeners_drop(struct listeners *set, const struct listeners *kept, bool unlink_names);

/* Takes those out of set that kept shares, and leaves them open. */
void listeners_forget(struct listeners *set, const struct listeners *kept);

/* "unix:/a=5,127.0.0.1:9000=6" for LISTENERS_ENV; the caller frees it. */
char *listeners_to_text(const struct listeners *set);

/* What a process of this binary's former version hands over; empty text: none. */
int listeners_from_text(struct listeners *out, const char *text, struct err *e) MUST_CHECK;

/* Lets all descriptors pass through an exec, or not. */
void listeners_set_inherit(const struct listeners *set, bool inherit);

/* Whether descriptor 0 is a listening socket: weir was spawned by a web server. */
bool listen_is_inherited(void);

#define LISTENERS_ENV "WEIR_LISTEN_FDS"

#endif
