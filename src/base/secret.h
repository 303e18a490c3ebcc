/*
 * Secrets: passwords and the like that may change while weir runs. A value
 * lies in memory that is wiped when the value is replaced and that core dumps
 * leave out. Who uses a secret keeps the struct and asks for the value at each
 * use; who has to act on a new one watches. Where the values of named secrets
 * come from is the keeper's business (the lua floor).
 */
#ifndef WEIR_BASE_SECRET_H
#define WEIR_BASE_SECRET_H

#include "base/str.h"
#include "base/weir.h"
#include <sys/queue.h>

#define SECRET_VALUE_MAX (1 << 20)

struct secret;

/* How a look-up went. */
enum secret_news {
    SECRET_CHANGED, /* there is another value now */
    SECRET_SAME,
    SECRET_FAILED, /* the value, if there is one, stays */
};

/* Embedded in whoever wants to know. Zero it first. */
struct secret_watch {
    LIST_ENTRY(secret_watch) link;
    struct secret *secret; /* NULL: watches nothing */
    /* May watch, unwatch and release; may not put. */
    void (*on_news)(struct secret_watch *w, enum secret_news news);
};

/* "{vault://...}", or "{cloud://...}": a name, not a value. */
bool secret_is_name(struct str text);

/*
 * What a configuration's text stands for: the secret of that name, one for all who ask, or a secret
 * that is this text for good. Each call is a reference, given back by secret_release.
 */
struct secret *secret_from_text(struct str text) __attribute__((returns_nonnull));

struct secret *secret_keep(struct secret *s) __attribute__((returns_nonnull));

/* s may be NULL. The last one wipes it. */
void secret_release(struct secret *s);

/* The name; of a fixed one "", never its text. Ends with NUL. */
const char *secret_name(const struct secret *s);

/* The value, with a NUL behind it, valid until the loop turns; p is NULL when there is none. */
struct str secret_value(const struct secret *s);

/* Why there is no value, or why the last look-up failed: "" if it did not. No secret in it. */
const char *secret_why(const struct secret *s);

/* Changes with each new value. */
unsigned secret_version(const struct secret *s);

void secret_watch(struct secret_watch *w, struct secret *s);
void secret_unwatch(struct secret_watch *w);

/*
 * Asks for a look-up now: somebody refuses the value. News will follow, never from within. False:
 * nobody can, because the secret is fixed or has no keeper.
 */
bool secret_ask(struct secret *s) MUST_CHECK;

/* ---- for the keeper ---- */

/* ask(arg, s) is called for secret_ask; it must see to it that put or fail follows, later. */
void secret_set_keeper(void (*ask)(void *arg, struct secret *s), void *arg);

/* A look-up gave this value. An empty one does not replace a value. -1: longer than
 * SECRET_VALUE_MAX. */
int secret_put(struct secret *s, struct str value) MUST_CHECK;

/* A look-up failed. drop: the value has outlived its time and is wiped. */
void secret_fail(struct secret *s, struct str why, bool drop);

#endif
