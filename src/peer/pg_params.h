/*
 * What libpq and a new session are told, made of the settings; for those who
 * connect without a loop too.
 */
#ifndef WEIR_PEER_PG_PARAMS_H
#define WEIR_PEER_PG_PARAMS_H

#include "peer/pg.h"

#define PG_KEYWORDS_MAX 16

/* For PQconnectStartParams: both lists end with NULL. */
struct pg_params {
    const char *keywords[PG_KEYWORDS_MAX], *values[PG_KEYWORDS_MAX];
    unsigned n;
    char port[8];
};

/*
 * hostaddr NULL: libpq looks the name up, and waits for it. settings must outlive p, which is good
 * until the loop turns. ERR_CONFIG: the password has no value.
 */
int pg_params_fill(struct pg_params *p, const struct pg_settings *settings, const char *hostaddr,
                   struct err *e) MUST_CHECK;

/* One more; both must outlive p. */
void pg_params_add(struct pg_params *p, const char *keyword, const char *value);

/*
 * The statement that a session begins with: the server gives a statement up by itself before its
 * time is over, commits as the settings say, finds weir's tables.
 */
extern const char PG_SESSION_SQL[];

struct pg_session {
    const char *params[3]; /* of PG_SESSION_SQL */
    char timeout[24];
};

void pg_session_fill(struct pg_session *s, const struct pg_settings *settings);

/* libpq's words in one line; returns to. */
const char *pg_one_line(const char *text, char *to, size_t n);

#endif
