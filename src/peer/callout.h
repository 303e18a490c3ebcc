/*
 * Calling out over HTTP: what plugins and vaults ask of servers elsewhere, by
 * libcurl on the loop. Not the way to upstreams (that is peer/http.h). One
 * exchange follows no redirect, knows no cookies and no .netrc, and asks no
 * proxy that it was not told of. What it holds is wiped; no error text has a
 * URL's query, a header or a body in it.
 */
#ifndef WEIR_PEER_CALLOUT_H
#define WEIR_PEER_CALLOUT_H

#include "base/err.h"
#include "base/str.h"
#include "base/weir.h"

struct callout;  /* one exchange */
struct callouts; /* all of them; one for each process */

#define CALLOUTS_AT_ONCE 64   /* the others wait, the first first */
#define CALLOUTS_WAITING 1024 /* more are refused */
#define CALLOUTS_REST_S 60

#define CALLOUT_URL_MAX 16384
#define CALLOUT_TEXT_MAX 4096 /* paths and names */
#define CALLOUT_HEADERS_MAX 256
#define CALLOUT_HEAD_BYTES_MAX 65536 /* all header fields, of the request and of the response */
#define CALLOUT_BODY_BYTES_MAX (16 << 20)
#define CALLOUT_TIMEOUT_MAX_MS 3600000

/* A text, the system's authorities or none where it is not set. */
enum callout_text {
    CALLOUT_URL, /* http or https, without user and password */
    CALLOUT_METHOD,
    CALLOUT_CA_FILE, /* PEM, as the next two */
    CALLOUT_CERT_FILE,
    CALLOUT_KEY_FILE,    /* may be left out when it is in the same file */
    CALLOUT_SERVER_NAME, /* of TLS: asked for and verified in the place of the URL's host */
    CALLOUT_UNIX_SOCKET,
    CALLOUT_PROXY, /* a URL; "" is the environment's */
    CALLOUT_TEXTS
};

enum callout_number {
    CALLOUT_TIMEOUT_MS,         /* of everything, also of the time before it begins: 5000 */
    CALLOUT_CONNECT_TIMEOUT_MS, /* name, connection and TLS: 2000 */
    CALLOUT_MAX_BYTES,          /* of the response's body: 1 MiB */
    CALLOUT_SSL_VERIFY,         /* 1 */
    CALLOUT_NUMBERS
};

struct callouts *callouts_new(struct loop *loop) __attribute__((returns_nonnull));

/* Also what was made and not freed; nobody hears of it. */
void callouts_free(struct callouts *cs);

/*
 * Closes the connections that are kept for the next exchange, unless one is under way. Called by
 * itself when there was none for CALLOUTS_REST_S.
 */
void callouts_rest(struct callouts *cs);

struct callout *callout_new(struct callouts *cs) __attribute__((returns_nonnull));

/* ERR_BOUND: too long. ERR_SYNTAX: what cannot stand there. The bytes are copied. */
int callout_set_text(struct callout *c, enum callout_text what, struct str text) MUST_CHECK;

/* ERR_BOUND: out of range. */
int callout_set_number(struct callout *c, enum callout_number what, int64_t value) MUST_CHECK;

/* ERR_SYNTAX: no valid name or value, or a field that the framing needs for itself. */
int callout_add_header(struct callout *c, struct str name, struct str value) MUST_CHECK;

int callout_set_body(struct callout *c, struct str body) MUST_CHECK;

/*
 * Begins. 0: the op is pending, and done when the whole response is there, or none will come.
 * Below: callout_error says why not. Called once.
 */
int callout_start(struct callout *c) MUST_CHECK;

/* Cancelled, it only remains to be freed. */
struct op *callout_op(struct callout *c) __attribute__((returns_nonnull));

/* After the end. The status, or below zero: callout_error. */
int callout_status(const struct callout *c);
const char *callout_error(const struct callout *c);
struct str callout_body(const struct callout *c);

/* The i-th field of the response, from 0, as it was sent; WEIR's fields live as long as c. -1:
 * none. */
int callout_header_at(const struct callout *c, unsigned i, struct str *name,
                      struct str *value) MUST_CHECK;

/* In any state; breaks it off. */
void callout_free(struct callout *c);

#endif
