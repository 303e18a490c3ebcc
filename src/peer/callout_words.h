/*
 * What a call-out's failure is called: short, and without what was sent or received.
 */
#ifndef WEIR_PEER_CALLOUT_WORDS_H
#define WEIR_PEER_CALLOUT_WORDS_H

#include "base/err.h"
#include <curl/curl.h>

struct callout_place {
    const char *where;     /* "host:port", or "unix:/path" */
    const char *detail;    /* CURLOPT_ERRORBUFFER's */
    const char *ca_file;   /* NULL: the system's */
    const char *cert_file; /* NULL: none */
    bool has_proxy;
};

/* Fills e; returns its code. */
int callout_words(struct err *e, CURL *easy, CURLcode code, const struct callout_place *place);

#endif
