/*
 * The secrets of an example: passwords and users that settings name.
 */
#ifndef WEIR_SPEC_SECRETS_H
#define WEIR_SPEC_SECRETS_H

#include "base/secret.h"

#define SECRETS_MAX 16

static struct secret *the_secrets[SECRETS_MAX];
static unsigned the_secret_count;

/* A password, or the name of one; valid until secrets_release. */
static inline struct secret *secret_of(const char *text)
{
    struct secret *s = secret_from_text(str_from(text));

    must(the_secret_count < SECRETS_MAX);
    return the_secrets[the_secret_count++] = s;
}

/* When nobody uses them any more. */
static inline void secrets_release(void)
{
    while (the_secret_count > 0)
        secret_release(the_secrets[--the_secret_count]);
}

#endif
