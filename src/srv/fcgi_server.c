/*
 * See fcgi_server.h. lighttpd opens a connection for each request, so that
 * accept is a hot path: a connection whose whole request came with it is read,
 * answered and closed without ever being registered with the loop.
 */
#define _GNU_SOURCE /* accept4 */
#include "srv/fcgi_server.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "srv/fcgi_conn.h"
#include "srv/fcgi_stream.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections taken at one wakeup: more would let the others wait too long. */
#define ACCEPT_MAX 16
#define LINGER_MS 2000
/*
 * How long a connection on which nothing has ever been asked may be silent in a
 * drain. A web server sends its request as soon as it learns that it is
 * connected, but it may be busy, and it takes the loss of a fresh connection for
 * an error of weir's (that of a kept one it expects, and asks again). So such a
 * connection is not closed at once; but one that is silent for so long is a
 * health check's or was opened in advance, and a drain need not wait for it.
 */
#define SILENCE_MS 1000

static void on_lingered(struct deadline *d)
{
    fcgi_conn_close(CONTAINER_OF(d, struct fcgi_conn, deadline));
}

static void on_silence(struct deadline *d)
{
    struct fcgi_conn *c = CONTAINER_OF(d, struct fcgi_conn, deadline);

    if (!c->used)
        fcgi_conn_close(c);
}

void fcgi_server_init(struct fcgi_server *s, struct loop *loop, struct vm *vm,
                      const struct conf *conf, struct counter_table *counters,
                      struct stats_worker *stats)
{
    *s = (struct fcgi_server){
        .loop = loop,
        .vm = vm,
        .conf = conf,
        .counters = counters,
        .stats = stats,
    };
    LIST_INIT(&s->conns);
    s->scratch = xmalloc(FCGI_SCRATCH_BYTES);
    deadline_queue_init(&s->request_deadlines, loop, conf->request_timeout_ms, fcgi_stream_expired);
    deadline_queue_init(&s->idle_deadlines, loop, conf->idle_timeout_ms, fcgi_conn_idled);
    deadline_queue_init(&s->linger_deadlines, loop, LINGER_MS, on_lingered);
    deadline_queue_init(&s->silent_deadlines, loop, SILENCE_MS, on_silence);
}

void fcgi_server_fini(struct fcgi_server *s)
{
    deadline_queue_fini(&s->request_deadlines);
    deadline_queue_fini(&s->idle_deadlines);
    deadline_queue_fini(&s->linger_deadlines);
    deadline_queue_fini(&s->silent_deadlines);
    buf_free(&s->spare_out);
    free(s->scratch);
}

/* Once a second at the most: a full table must not fill the log too. */
static void complain(const char *what, int code)
{
    static int64_t last_ms;

    if (clock_mono_ms() - last_ms < 1000)
        return;
    last_ms = clock_mono_ms();
    log_error("accept: %s%s%s", what, code ? ": " : "", code ? strerror(code) : "");
}

static void take(struct fcgi_server *s, int fd, bool is_tcp)
{
    int on = 1;

    if (s->conn_count >= (size_t)s->conf->max_connections) {
        complain("max_connections reached, the connection is closed", 0);
        close(fd);
        return;
    }
    if (is_tcp && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == -1)
        log_debug("accept: cannot set TCP_NODELAY: %s", strerror(errno));
    fcgi_conn_new(s, fd);
}

enum accepted {
    ACCEPT_ONE,
    ACCEPT_NONE,   /* waits */
    ACCEPT_CANNOT, /* be had */
};

static enum accepted accept_one(struct fcgi_server *s, int listen_fd)
{
    struct sockaddr_storage peer;
    socklen_t n = sizeof peer;
    int fd = accept4(listen_fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd != -1) {
        take(s, fd, peer.ss_family != AF_UNIX);
        return ACCEPT_ONE;
    }
    if (errno == EINTR || errno == ECONNABORTED)
        return ACCEPT_ONE;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return ACCEPT_NONE;
    complain("cannot take a connection", errno);
    return ACCEPT_CANNOT;
}

bool fcgi_server_accept(struct fcgi_server *s, int listen_fd)
{
    enum accepted got = ACCEPT_ONE;

    for (int i = 0; i < ACCEPT_MAX && got == ACCEPT_ONE; i++)
        got = accept_one(s, listen_fd);
    return got != ACCEPT_CANNOT;
}

void fcgi_server_accept_rest(struct fcgi_server *s, int listen_fd)
{
    /* others may go on to connect, if others go on to accept: there is an end nevertheless */
    for (int64_t i = 0; i < s->conf->fastcgi_backlog; i++)
        if (s->conn_count >= (size_t)s->conf->max_connections ||
            accept_one(s, listen_fd) != ACCEPT_ONE)
            return;
}

void fcgi_server_drain(struct fcgi_server *s, void (*on_idle)(struct fcgi_server *s))
{
    struct fcgi_conn *c, *next;

    s->draining = true;
    s->on_idle = on_idle;
    for (c = LIST_FIRST(&s->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (c->used)
            fcgi_conn_finish(c);
        else
            deadline_set(&s->silent_deadlines, &c->deadline);
    }
    if (s->conn_count == 0)
        on_idle(s);
}

void fcgi_server_abort(struct fcgi_server *s)
{
    struct fcgi_conn *c;

    while ((c = LIST_FIRST(&s->conns)))
        fcgi_conn_close(c);
}
