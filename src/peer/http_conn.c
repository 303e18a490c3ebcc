/*
 * See http_conn.h. Knows sockets and events, nothing of HTTP. TLS will be
 * another filling of the same functions.
 */
#include "peer/http_conn.h"
#include "base/mem.h"
#include <errno.h>
#include <event2/event.h>
#include <linux/tcp.h> /* its struct tcp_info is the whole one */
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static void on_read_event(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *c = arg;

    (void)fd;
    (void)what;
    c->on->on_readable(c);
}

static void finish_connect(struct http_conn *c)
{
    int error = 0;
    socklen_t n = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
        error = errno;
    c->connecting = false;
    http_conn_want_write(c, false);
    if (error == 0)
        http_conn_want_read(c, true);
    c->on->on_connected(c, error);
}

static void on_write_event(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *c = arg;

    (void)fd;
    (void)what;
    if (c->connecting)
        finish_connect(c);
    else
        c->on->on_writable(c);
}

static int open_socket(const struct peer_addr *addr, bool *connecting)
{
    int fd = socket(addr->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -1;
    if (addr->u.any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    *connecting = false;
    if (connect(fd, &addr->u.any, addr->n) == 0)
        return fd;
    *connecting = errno == EINPROGRESS;
    if (*connecting)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct http_conn *http_conn_open(struct loop *loop, const struct peer_addr *addr,
                                 const struct http_conn_events *on, void *owner)
{
    struct http_conn *c;
    bool connecting;
    int fd = open_socket(addr, &connecting);

    if (fd < 0)
        return NULL;
    c = xcalloc(1, sizeof *c);
    c->on = on;
    c->owner = owner;
    c->loop = loop;
    c->fd = fd;
    c->connecting = connecting;
    event_assign(&c->read_event, loop_base(loop), fd, EV_READ | EV_PERSIST, on_read_event, c);
    event_assign(&c->write_event, loop_base(loop), fd, EV_WRITE | EV_PERSIST, on_write_event, c);
    if (connecting)
        http_conn_want_write(c, true);
    else
        http_conn_want_read(c, true);
    return c;
}

static void reap(struct dying *d)
{
    free(CONTAINER_OF(d, struct http_conn, dying));
}

void http_conn_close(struct http_conn *c)
{
    http_conn_set_deadline(c, NULL);
    http_conn_want_read(c, false);
    http_conn_want_write(c, false);
    close(c->fd);
    c->fd = -1;
    loop_bury(c->loop, &c->dying, reap);
}

/* EPIPE: it was closed in order before. */
static void note_reset(struct http_conn *c, ssize_t done)
{
    if (UNLIKELY(done < 0 && errno != EAGAIN && errno != EPIPE))
        c->was_reset = true;
}

ssize_t http_conn_write(struct http_conn *c, struct iovec *iov, size_t n)
{
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
    ssize_t done;

    do /* send is the cheaper one */
        done = n == 1 ? send(c->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                      : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    if (done > 0)
        c->sent_bytes += (size_t)done;
    note_reset(c, done);
    return done;
}

ssize_t http_conn_read(struct http_conn *c, char *p, size_t n)
{
    ssize_t done;

    do
        done = recv(c->fd, p, n, 0);
    while (done < 0 && errno == EINTR);
    note_reset(c, done);
    return done;
}

static void want(struct event *event, bool *is, bool wanted)
{
    if (*is == wanted)
        return;
    *is = wanted;
    must((wanted ? event_add(event, NULL) : event_del(event)) == 0);
}

void http_conn_want_write(struct http_conn *c, bool wanted)
{
    want(&c->write_event, &c->writing, wanted);
}

void http_conn_want_read(struct http_conn *c, bool wanted)
{
    want(&c->read_event, &c->reading, wanted);
}

void http_conn_set_deadline(struct http_conn *c, struct deadline_queue *q)
{
    if (q)
        deadline_set(q, &c->deadline);
    else if (c->deadline.queued)
        deadline_clear(c->deadline.queued, &c->deadline);
}

void http_conn_expired(struct deadline *d)
{
    struct http_conn *c = CONTAINER_OF(d, struct http_conn, deadline);

    c->on->on_expired(c);
}

void http_conn_begin(struct http_conn *c)
{
    c->requests++;
    c->sent_before_bytes = c->sent_bytes;
}

bool http_conn_is_quiet(const struct http_conn *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK) == -1 && errno == EAGAIN;
}

/*
 * Whoever closes in order acknowledges what has come until then. A reset says nothing: a server
 * that dies before it has read all sends one, too.
 */
bool http_conn_closed_before(struct http_conn *c)
{
    struct tcp_info info = { 0 };
    socklen_t n = sizeof info;

    if (c->was_reset || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0 ||
        n < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked)
        return false;
    return info.tcpi_bytes_acked <= c->sent_before_bytes + 1; /* the SYN counts */
}
