/*
 * The FastCGI server of a worker: what all of its connections share. Files:
 * fcgi_server.c accepts and drains, fcgi_conn.c moves bytes, fcgi_stream.c
 * makes requests of records and records of responses.
 */
#ifndef WEIR_SRV_FCGI_SERVER_H
#define WEIR_SRV_FCGI_SERVER_H

#include "base/weir.h"
#include "conf/keys.h"
#include "ev/loop.h"
#include <sys/queue.h>

struct counter_table;
struct fcgi_conn;
struct stats_worker;
struct vm;

LIST_HEAD(fcgi_conn_list, fcgi_conn);

struct fcgi_server {
    struct loop *loop;
    struct vm *vm;
    const struct conf *conf;
    struct counter_table *counters;
    struct stats_worker *stats;
    struct fcgi_conn_list conns;
    unsigned conn_count;
    struct deadline_queue request_deadlines; /* of streams: the next piece of a request */
    struct deadline_queue idle_deadlines;    /* of connections without a request */
    struct deadline_queue linger_deadlines;  /* of connections that read what nobody wants */
    struct deadline_queue silent_deadlines;  /* draining: of connections that have sent nothing */
    struct buf spare_out;                    /* an output buffer that no connection needs now */
    bool draining;
    void (*on_idle)(struct fcgi_server *s); /* draining, and the last connection has gone */
    char *scratch;                          /* what a read fills; used up before the next one */
};

enum { FCGI_SCRATCH_BYTES = 64 * 1024 };

void fcgi_server_init(struct fcgi_server *s, struct loop *loop, struct vm *vm,
                      const struct conf *conf, struct counter_table *counters,
                      struct stats_worker *stats);
void fcgi_server_fini(struct fcgi_server *s);

/*
 * Accepts what waits at the listening socket, a few at a time, and serves what has come with it.
 * False if nothing can be accepted now, for want of descriptors as a rule.
 */
bool fcgi_server_accept(struct fcgi_server *s, int listen_fd);

/*
 * Accepts all that waits, before a drain: what the last process to close a listening socket
 * leaves in its queue is reset. Leaves it there when max_connections is reached.
 */
void fcgi_server_accept_rest(struct fcgi_server *s, int listen_fd);

/*
 * Connections close as soon as they have no request, those that have never had one after a short
 * grace; then on_idle is called.
 */
void fcgi_server_drain(struct fcgi_server *s, void (*on_idle)(struct fcgi_server *s));

/* Closes what is left. */
void fcgi_server_abort(struct fcgi_server *s);

#endif
