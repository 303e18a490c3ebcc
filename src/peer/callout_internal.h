/*
 * One call-out, as the files of peer/callout share it.
 */
#ifndef WEIR_PEER_CALLOUT_INTERNAL_H
#define WEIR_PEER_CALLOUT_INTERNAL_H

#include "ev/op.h"
#include "peer/callout.h"
#include "peer/wiped.h"
#include <curl/curl.h>
#include <sys/queue.h>

struct event;

enum callout_state { MADE, WAITS, RUNS, OVER };

/* A field of the response: where its bytes lie in `head`. */
struct callout_field {
    unsigned name, name_n, value, value_n;
};

struct callout {
    TAILQ_ENTRY(callout) link;
    struct op op;
    struct callouts *home;
    enum callout_state state;
    CURL *easy;
    CURLU *url;
    struct event *timer;

    char *texts[CALLOUT_TEXTS];
    int64_t numbers[CALLOUT_NUMBERS];
    struct curl_slist *headers, *connect_to;
    unsigned header_count;
    size_t header_bytes;
    bool has_host, has_type, has_expect, has_body;
    struct wiped_buf request_body;

    int status;
    bool head_ended;
    struct wiped_buf head, body;
    struct callout_field *fields;
    unsigned field_count;
    size_t head_bytes; /* received: also of fields that were dropped */
    int refused;       /* an err_code: why a callback took no more */

    char where[300];
    char detail[CURL_ERROR_SIZE];
    struct err e;
};

/* In callout_ask.c: makes url and easy of what was set. Below: c->e says what cannot be so. */
int callout_prepare(struct callout *c) MUST_CHECK;

/* In callout_take.c: what libcurl has received; fewer bytes than n end the transfer. */
size_t callout_take_body(char *p, size_t one, size_t n, void *arg);
size_t callout_take_line(char *p, size_t one, size_t n, void *arg);

/* Forgets what was received. */
void callout_drop(struct callout *c);

#endif
