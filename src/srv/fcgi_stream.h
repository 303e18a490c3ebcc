/*
 * A stream: one request on a FastCGI connection, from FCGI_BEGIN_REQUEST to
 * FCGI_END_REQUEST. It is the transport of a struct req and lies in its arena.
 */
#ifndef WEIR_SRV_FCGI_STREAM_H
#define WEIR_SRV_FCGI_STREAM_H

#include "base/weir.h"
#include "ev/loop.h"
#include "wire/fcgi.h"
#include <sys/queue.h>

struct fcgi_conn;
struct fcgi_server;
struct req;

/* Goes one way. */
enum fcgi_stream_state {
    FCGI_STREAM_PARAMS,  /* parameters are arriving */
    FCGI_STREAM_BODY,    /* the request is known, not yet run; its body may be arriving */
    FCGI_STREAM_RUNNING, /* the phases have it */
    FCGI_STREAM_ENDED,   /* answered; the log phase may still have it */
};

struct fcgi_stream {
    LIST_ENTRY(fcgi_stream) link;
    struct fcgi_conn *conn; /* NULL when the connection has gone */
    struct req *req;
    unsigned id;
    enum fcgi_stream_state state;
    bool keep_conn;
    bool input_done; /* the empty FCGI_STDIN has come */
    bool blocked;    /* its body is not welcome now */
    char *params;    /* in the arena */
    size_t params_n, params_cap;
    size_t head_at, head_end; /* the record with the head, in the connection's out */
    unsigned head_flush;      /* as long as flush_count is this */
    struct deadline deadline;
};

/* Begins a request; one that weir cannot take is answered at once. */
void fcgi_stream_begin(struct fcgi_conn *c, const struct fcgi_record *rec);

/* FCGI_PARAMS, FCGI_STDIN and FCGI_ABORT_REQUEST of a stream. */
void fcgi_stream_params(struct fcgi_stream *st, const struct fcgi_record *rec);
void fcgi_stream_stdin(struct fcgi_stream *st, const struct fcgi_record *rec);
void fcgi_stream_abort(struct fcgi_stream *st);

/* Ends it without an answer; its id is free for another request. */
void fcgi_stream_drop(struct fcgi_stream *st);

/* All that one read brought is decoded: runs what can run. */
void fcgi_stream_fed(struct fcgi_stream *st);

/* The connection's queue has become short. */
void fcgi_stream_drained(struct fcgi_stream *st);

/* The connection is gone: what runs is cancelled. */
void fcgi_stream_lost(struct fcgi_stream *st);

/* Its deadline has passed: 408. */
void fcgi_stream_expired(struct deadline *d);

#endif
