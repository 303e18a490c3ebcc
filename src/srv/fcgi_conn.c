/*
 * See fcgi_conn.h. What a request costs here: one recv, one send. A read fills
 * the server's scratch buffer and is decoded at once, so that an idle
 * connection holds no buffer. Output is collected and leaves in one write at
 * the end of the loop's turn: a front that has been woken once stays awake for
 * the answers to all the others.
 */
#include "srv/fcgi_conn.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/stats.h"
#include "srv/fcgi_server.h"
#include "srv/fcgi_stream.h"
#include "req/req.h"
#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* An output buffer that has grown above this is given back to the system. */
#define OUT_KEEP_BYTES (64 * 1024)
/*
 * Who does not read what was answered is asked nothing more: above what back-pressure leaves to
 * the answers in the queue lies only what short requests add to it.
 */
#define QUEUE_MAX_BYTES (1024 * 1024)
/* A small response with all of its records fits. */
#define OUT_FIRST_BYTES 1024
/* What is longer may arrive in two pieces: one packet of a network holds about so much. */
#define WHOLE_BYTES 1400
#define END_REQUEST_BYTES (FCGI_HEADER_LEN + sizeof(FCGI_EndRequestBody))
/* Names asked by FCGI_GET_VALUES: there are three. */
#define VALUES_MAX_BYTES 1024

static void flush(struct fcgi_conn *c);

static void reap(struct dying *d)
{
    struct fcgi_conn *c = CONTAINER_OF(d, struct fcgi_conn, dying);

    buf_free(&c->values);
    free(c);
}

static void release_out(struct fcgi_conn *c)
{
    struct fcgi_server *s = c->server;

    c->out.n = c->out_sent = c->queued_bytes = 0;
    if (c->out.cap_bytes > OUT_KEEP_BYTES || s->spare_out.p) {
        buf_free(&c->out);
        return;
    }
    s->spare_out = c->out;
    c->out = (struct buf){ 0 };
}

struct buf *fcgi_conn_out(struct fcgi_conn *c)
{
    struct fcgi_server *s = c->server;

    if (!c->out.p) {
        c->out = s->spare_out;
        s->spare_out = (struct buf){ 0 };
        must(buf_reserve(&c->out, OUT_FIRST_BYTES));
    }
    return &c->out;
}

void fcgi_conn_close(struct fcgi_conn *c)
{
    struct fcgi_server *s = c->server;
    struct fcgi_stream *st;

    if (c->state == FCGI_CONN_CLOSED)
        return;
    c->state = FCGI_CONN_CLOSED;
    while ((st = LIST_FIRST(&c->streams))) {
        LIST_REMOVE(st, link);
        fcgi_stream_lost(st);
    }
    c->stream_count = 0;
    if (c->watched)
        event_del(&c->read_event);
    if (c->write_wanted)
        event_del(&c->write_event);
    deadline_clear(&s->idle_deadlines, &c->deadline);
    deadline_clear(&s->linger_deadlines, &c->deadline);
    deadline_clear(&s->silent_deadlines, &c->deadline);
    loop_undefer(s->loop, &c->flush);
    release_out(c);
    close(c->fd);
    LIST_REMOVE(c, link);
    s->conn_count--;
    s->stats->connections = s->conn_count;
    loop_bury(s->loop, &c->dying, reap);
    if (s->draining && s->conn_count == 0)
        s->on_idle(s);
}

static struct fcgi_stream *find_stream(struct fcgi_conn *c, unsigned id)
{
    struct fcgi_stream *st;

    LIST_FOREACH (st, &c->streams, link)
        if (st->id == id)
            return st;
    return NULL;
}

static void get_values(struct fcgi_conn *c, const struct fcgi_record *rec)
{
    const struct conf *conf = c->server->conf;
    struct fcgi_values values = {
        .max_conns = (unsigned)conf->max_connections,
        .max_reqs = (unsigned)conf->max_requests,
        .mpxs_conns = true,
    };
    struct str asked = rec->content;

    c->values.max_bytes = VALUES_MAX_BYTES;
    if (!rec->end || c->values.n) {
        if (buf_add(&c->values, rec->content.p, rec->content.n) < 0)
            log_info("fastcgi: FCGI_GET_VALUES asks for more than there is; the rest is left out");
        asked = (struct str){ c->values.p, c->values.n };
    }
    if (!rec->end)
        return;
    if (fcgi_put_values_result(fcgi_conn_out(c), asked, &values) == 0)
        fcgi_conn_wrote(c);
    buf_free(&c->values);
}

/*
 * An id that is in use begins again. lighttpd (gw_reconnect of 1.4.69) does so when a worker died
 * between its connect and its first write: what it could not send follows its request sent anew.
 */
static void begin_again(struct fcgi_conn *c, struct fcgi_stream *st, const struct fcgi_record *rec)
{
    if (st->state == FCGI_STREAM_BODY) {
        log_debug("fastcgi: request id %u begins again before it is run", rec->id);
        fcgi_stream_drop(st);
        fcgi_stream_begin(c, rec);
    } else {
        log_warn("fastcgi: request id %u begins while it is in use; closing the connection",
                 rec->id);
        fcgi_conn_close(c);
    }
}

static void on_record(struct fcgi_conn *c, enum fcgi_event ev, const struct fcgi_record *rec)
{
    struct fcgi_stream *st;

    if (ev == FCGI_EV_GET_VALUES) {
        get_values(c, rec);
        return;
    }
    if (ev == FCGI_EV_UNKNOWN) {
        if (fcgi_put_unknown_type(fcgi_conn_out(c), rec->type) == 0)
            fcgi_conn_wrote(c);
        return;
    }
    st = find_stream(c, rec->id);
    if (ev == FCGI_EV_BEGIN) {
        if (st)
            begin_again(c, st, rec);
        else
            fcgi_stream_begin(c, rec);
    } else if (!st) {
        /* the rest of a request that has been answered */
        if (ev == FCGI_EV_STDIN && rec->end)
            c->input_owed = false;
    } else if (ev == FCGI_EV_PARAMS) {
        fcgi_stream_params(st, rec);
    } else if (ev == FCGI_EV_STDIN) {
        fcgi_stream_stdin(st, rec);
    } else if (ev == FCGI_EV_ABORT) {
        fcgi_stream_abort(st);
    }
}

/* Decodes what was read, then runs the requests that can run. */
static void feed(struct fcgi_conn *c, struct str in)
{
    struct fcgi_stream *st, *next;
    struct fcgi_record rec;
    enum fcgi_event ev;

    while ((ev = fcgi_decode(&c->decoder, &in, &rec)) != FCGI_EV_NONE) {
        if (ev == FCGI_EV_ERROR) {
            log_warn("fastcgi: %s; closing the connection", rec.reason);
            fcgi_conn_close(c);
            return;
        }
        on_record(c, ev, &rec);
        if (c->state == FCGI_CONN_CLOSED)
            return;
    }
    for (st = LIST_FIRST(&c->streams); st && c->state != FCGI_CONN_CLOSED; st = next) {
        next = LIST_NEXT(st, link);
        fcgi_stream_fed(st);
    }
}

/* False when there was nothing to read, or the connection is closed now. */
static bool read_some(struct fcgi_conn *c)
{
    struct fcgi_server *s = c->server;
    ssize_t n = recv(c->fd, s->scratch, FCGI_SCRATCH_BYTES, 0);

    if (n > 0) {
        feed(c, (struct str){ s->scratch, (size_t)n });
        return c->state != FCGI_CONN_CLOSED;
    }
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        fcgi_conn_close(c);
    return false;
}

static void on_readable(int fd, short what, void *arg)
{
    struct fcgi_conn *c = arg;

    (void)fd;
    (void)what;
    if (read_some(c)) {
        fcgi_conn_update(c);
        fcgi_conn_wrote(c);
    }
}

static void on_writable(int fd, short what, void *arg)
{
    struct fcgi_conn *c = arg;

    (void)fd;
    (void)what;
    c->write_wanted = false;
    flush(c);
}

static void watch(struct fcgi_conn *c)
{
    struct event_base *base = loop_base(c->server->loop);

    must(event_assign(&c->read_event, base, c->fd, EV_READ | EV_PERSIST, on_readable, c) == 0);
    must(event_assign(&c->write_event, base, c->fd, EV_WRITE, on_writable, c) == 0);
    c->watched = true;
}

/* Reads unless the only request on the connection asks for a pause, or too many answers wait. */
static void set_reading(struct fcgi_conn *c)
{
    const struct fcgi_stream *st = LIST_FIRST(&c->streams);
    bool reading = !(c->stream_count == 1 && st->blocked) && c->queued_bytes < QUEUE_MAX_BYTES;

    if (reading == c->reading)
        return;
    if (!c->watched)
        watch(c);
    c->reading = reading;
    if (reading)
        event_add(&c->read_event, NULL);
    else
        event_del(&c->read_event);
}

static void on_deferred_flush(struct deferred *d)
{
    flush(CONTAINER_OF(d, struct fcgi_conn, flush));
}

void fcgi_conn_wrote(struct fcgi_conn *c)
{
    c->queued_bytes = c->out.n - c->out_sent;
    loop_defer(c->server->loop, &c->flush, on_deferred_flush);
}

static int unread_bytes(const struct fcgi_conn *c)
{
    int n = 0;

    (void)ioctl(c->fd, SIOCOUTQ, &n);
    return n;
}

/* Who reads nothing for so long will not read the rest. */
static void wait_for_reader(struct fcgi_conn *c)
{
    if (c->server->conf->idle_timeout_ms == 0)
        return;
    c->unread_bytes = unread_bytes(c);
    deadline_set(&c->server->idle_deadlines, &c->deadline);
}

void fcgi_conn_idled(struct deadline *d)
{
    struct fcgi_conn *c = CONTAINER_OF(d, struct fcgi_conn, deadline);

    /* much must be read before the socket takes more: that is too slow a sign */
    if (c->queued_bytes && unread_bytes(c) < c->unread_bytes)
        wait_for_reader(c);
    else
        fcgi_conn_close(c);
}

/* What becomes of a connection that has been written to, as far as it goes. */
static void settle(struct fcgi_conn *c)
{
    struct fcgi_server *s = c->server;

    if (c->state == FCGI_CONN_CLOSED)
        return;
    if (c->queued_bytes) {
        wait_for_reader(c);
        return;
    }
    if (c->stream_count > 0) {
        deadline_clear(&s->idle_deadlines, &c->deadline);
        deadline_clear(&s->silent_deadlines, &c->deadline);
        return;
    }
    /* what was accepted is served: the front has sent, or is about to send, its request */
    if (c->state == FCGI_CONN_OPEN && s->draining && !c->used) {
        deadline_set(&s->silent_deadlines, &c->deadline);
        return;
    }
    if (c->state == FCGI_CONN_OPEN && s->draining)
        c->state = FCGI_CONN_LAST;
    if (c->state == FCGI_CONN_OPEN) {
        deadline_set(&s->idle_deadlines, &c->deadline);
    } else if (c->input_owed) {
        /* closed now, Apache would cut off the response while it still sends the body */
        if (c->state != FCGI_CONN_LINGER)
            deadline_set(&s->linger_deadlines, &c->deadline);
        c->state = FCGI_CONN_LINGER;
    } else {
        fcgi_conn_close(c);
    }
}

static void drained(struct fcgi_conn *c)
{
    struct fcgi_stream *st, *next;

    for (st = LIST_FIRST(&c->streams); st; st = next) {
        next = LIST_NEXT(st, link);
        fcgi_stream_drained(st);
    }
}

/*
 * mod_proxy_fcgi takes what one read gives of FCGI_END_REQUEST's content for all of it, and the
 * rest for the beginning of the next response: behind much else the record goes alone.
 */
static size_t next_bytes(const struct fcgi_conn *c)
{
    const char end[] = { FCGI_VERSION_1, FCGI_END_REQUEST };

    if (c->queued_bytes > WHOLE_BYTES &&
        memcmp(c->out.p + c->out.n - END_REQUEST_BYTES, end, sizeof end) == 0)
        return c->queued_bytes - END_REQUEST_BYTES;
    return c->queued_bytes;
}

/* Until all is written, or the socket takes no more; -1 and errno when it is closed. */
static int write_queued(struct fcgi_conn *c)
{
    while (c->queued_bytes) {
        size_t want = next_bytes(c);
        ssize_t n = send(c->fd, c->out.p + c->out_sent, want, MSG_NOSIGNAL);

        if (n == -1)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
        c->out_sent += (size_t)n;
        c->queued_bytes -= (size_t)n;
        if ((size_t)n < want)
            break;
    }
    return 0;
}

/* Writes what is queued: one system call as a rule. */
static void flush(struct fcgi_conn *c)
{
    if (c->state == FCGI_CONN_CLOSED || c->write_wanted)
        return;
    loop_undefer(c->server->loop, &c->flush);
    c->flush_count++;
    if (write_queued(c) == -1) {
        /* fronts close as soon as they have what they need: no news */
        log_debug("fastcgi: the web server closed before it had read all: %s", strerror(errno));
        fcgi_conn_close(c);
        return;
    }
    if (c->queued_bytes == 0) {
        release_out(c);
    } else {
        if (c->out_sent > OUT_KEEP_BYTES) {
            buf_drop(&c->out, c->out_sent);
            c->out_sent = 0;
        }
        if (!c->watched)
            watch(c);
        c->write_wanted = true;
        event_add(&c->write_event, NULL);
    }
    if (!c->reading)
        fcgi_conn_update(c);
    if (c->queued_bytes < REQ_QUEUE_LOW_BYTES && c->stream_count)
        drained(c);
    settle(c);
}

void fcgi_conn_update(struct fcgi_conn *c)
{
    /* before its first read is over a connection may well end: it is not watched yet */
    if (c->watched && c->state != FCGI_CONN_CLOSED)
        set_reading(c);
}

void fcgi_conn_finish(struct fcgi_conn *c)
{
    if (c->state == FCGI_CONN_OPEN)
        c->state = FCGI_CONN_LAST;
    if (c->queued_bytes == 0)
        settle(c);
}

void fcgi_conn_new(struct fcgi_server *s, int fd)
{
    struct fcgi_conn *c = xcalloc(1, sizeof *c);

    c->server = s;
    c->fd = fd;
    LIST_INIT(&c->streams);
    LIST_INSERT_HEAD(&s->conns, c, link);
    s->conn_count++;
    s->stats->connections = s->conn_count;
    read_some(c);
    if (c->state != FCGI_CONN_CLOSED)
        flush(c);
    if (c->state != FCGI_CONN_CLOSED)
        set_reading(c);
}
