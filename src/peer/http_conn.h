/*
 * One socket to an HTTP upstream. It is registered for reading from the moment
 * it is connected until it is closed, in use or idle, so that an exchange costs no
 * epoll_ctl. Its owner (the pool or an exchange) gets its events.
 */
#ifndef WEIR_PEER_HTTP_CONN_H
#define WEIR_PEER_HTTP_CONN_H

#include "base/weir.h"
#include "ev/loop.h"
#include "peer/resolve.h"
#include <event2/event_struct.h>
#include <sys/types.h>
#include <sys/uio.h>

struct http_conn;

/* Whoever owns the connection gives one of these to it. */
struct http_conn_events {
    void (*on_connected)(struct http_conn *c, int error); /* an errno, 0 good */
    void (*on_readable)(struct http_conn *c);
    void (*on_writable)(struct http_conn *c); /* after http_conn_want_write */
    void (*on_expired)(struct http_conn *c);  /* after http_conn_set_deadline */
};

struct http_conn {
    const struct http_conn_events *on;
    void *owner;
    struct loop *loop;
    TAILQ_ENTRY(http_conn) link; /* while idle */
    struct deadline deadline;
    struct dying dying;
    struct event read_event, write_event;
    int fd;
    unsigned requests;          /* carried so far */
    uint64_t sent_bytes;        /* by all of them */
    uint64_t sent_before_bytes; /* ... but the last */
    bool connecting, reading, writing;
    bool was_reset; /* closed, and not in order */
};

/*
 * Begins to connect. NULL and errno if that failed at once. connecting is
 * false if it is connected already; otherwise on_connected follows.
 */
struct http_conn *http_conn_open(struct loop *loop, const struct peer_addr *addr,
                                 const struct http_conn_events *on, void *owner) MUST_CHECK;

/* Closes now, frees at the end of the turn. */
void http_conn_close(struct http_conn *c);

/* As sendmsg and recv: bytes, or -1 and errno; EAGAIN when nothing can be done now. */
ssize_t http_conn_write(struct http_conn *c, struct iovec *iov, size_t n) MUST_CHECK;
ssize_t http_conn_read(struct http_conn *c, char *p, size_t n) MUST_CHECK;

void http_conn_want_write(struct http_conn *c, bool want);
void http_conn_want_read(struct http_conn *c, bool want);

/* Moves the connection's one deadline to that queue; NULL: it has none. */
void http_conn_set_deadline(struct http_conn *c, struct deadline_queue *q);

/* For timeouts_new. */
void http_conn_expired(struct deadline *d);

/* The next request goes out on it. */
void http_conn_begin(struct http_conn *c);

/* False if something has come that nobody has read, be it the end. */
bool http_conn_is_quiet(const struct http_conn *c);

/*
 * The other side has closed: true if nothing of the last request had come to it before. False for
 * those that are not TCP.
 */
bool http_conn_closed_before(struct http_conn *c);

#endif
