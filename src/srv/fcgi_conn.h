/*
 * A connection from a web server: reading, writing, and the order of its end.
 * It knows records only as far as it must; requests are fcgi_stream's business.
 */
#ifndef WEIR_SRV_FCGI_CONN_H
#define WEIR_SRV_FCGI_CONN_H

#include "base/str.h"
#include "base/weir.h"
#include "ev/loop.h"
#include "wire/fcgi.h"
#include <event2/event_struct.h>
#include <sys/queue.h>

struct fcgi_server;
struct fcgi_stream;

LIST_HEAD(fcgi_stream_list, fcgi_stream);

/* Goes one way. */
enum fcgi_conn_state {
    FCGI_CONN_OPEN,
    FCGI_CONN_LAST,   /* closes when its streams have ended and all is written */
    FCGI_CONN_LINGER, /* all is written; reads what the front still sends, and drops it */
    FCGI_CONN_CLOSED,
};

struct fcgi_conn {
    LIST_ENTRY(fcgi_conn) link;
    struct fcgi_server *server;
    struct fcgi_stream_list streams;
    unsigned stream_count;
    enum fcgi_conn_state state;
    int fd;
    bool used;         /* a request has begun on it */
    bool watched;      /* read_event is initialised and was added once */
    bool reading;      /* read_event is added */
    bool write_wanted; /* write_event is added */
    bool input_owed;   /* the front still has a body to send for a request that has ended */
    struct fcgi_decoder decoder;
    struct buf values; /* names of an FCGI_GET_VALUES that comes in pieces */
    struct buf out;    /* from out_sent on: still to be written */
    size_t out_sent;
    size_t queued_bytes;  /* out.n - out_sent */
    int unread_bytes;     /* of those that were written, when more could not be */
    unsigned flush_count; /* places in out are good until the next flush */
    struct event read_event, write_event;
    struct deadline deadline; /* idle, linger or silent, see fcgi_server.h */
    struct deferred flush;
    struct dying dying;
};

/* Takes fd over, and reads at once. */
void fcgi_conn_new(struct fcgi_server *s, int fd);

/* Where output is appended; fcgi_conn_wrote follows. */
struct buf *fcgi_conn_out(struct fcgi_conn *c);

/* Bytes were appended to out: they are written before the loop's turn ends. */
void fcgi_conn_wrote(struct fcgi_conn *c);

/* A stream has ended or changed its mind about reading. */
void fcgi_conn_update(struct fcgi_conn *c);

/* Now, whatever is in flight: its requests are aborted. */
void fcgi_conn_close(struct fcgi_conn *c);

/* For deadlines: idle_timeout is over. */
void fcgi_conn_idled(struct deadline *d);

/* Closes it as soon as it may; see enum fcgi_conn_state. */
void fcgi_conn_finish(struct fcgi_conn *c);

#endif
