/*
 * What a link to Redis logs in with: a password and maybe a user, either of
 * which may change at any time. Tells the link of a new value, and asks for
 * one where the server refuses what there is.
 */
#ifndef WEIR_PEER_REDIS_LOGIN_H
#define WEIR_PEER_REDIS_LOGIN_H

#include "base/err.h"
#include "base/secret.h"
#include "peer/redis_link.h"

struct redis_login;

struct redis_login_watch {
    struct secret_watch watch;
    struct redis_login *login;
    bool asked; /* for a look-up, of which there are no news yet */
};

struct redis_login {
    struct secret *username, *password; /* NULL: none */
    /* There is another value. Not called between redis_login_ask and on_told. */
    void (*on_changed)(struct redis_login *login);
    void (*on_told)(struct redis_login *login); /* there are news of all that was asked */

    struct redis_login_watch watches[2];
    unsigned versions; /* of what was put last, all together */
};

/* The two functions are set before. The settings' secrets must outlive it. */
void redis_login_init(struct redis_login *login, const struct redis_settings *settings,
                      enum redis_link_kind kind);
void redis_login_fini(struct redis_login *login);

/* Whether what is needed has a value: 0, or ERR_CONFIG and words without secrets. */
int redis_login_check(const struct redis_login *login, struct err *e) MUST_CHECK;

/*
 * Appends AUTH, checked before, to out, which holds secrets then. again: the connection is logged
 * in already.
 */
void redis_login_put(struct redis_login *login, struct buf *out, bool again);

/* Whether a value is another one than that which was put last. */
bool redis_login_is_outdated(const struct redis_login *login);

/* Asks for a look-up: on_told will be called, unless redis_login_forget is. False: nobody can. */
bool redis_login_ask(struct redis_login *login) MUST_CHECK;
void redis_login_forget(struct redis_login *login);

/* Why there is no other value than the one that was refused, in words: "" when that goes unsaid. */
void redis_login_why(const struct redis_login *login, char *to, size_t n);

#endif
