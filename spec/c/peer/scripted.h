/*
 * An upstream that does exactly what a spec tells it: a thread with a
 * listening socket that runs a script of blocking calls. Every wait ends after
 * five seconds.
 */
#ifndef WEIR_SPEC_SCRIPTED_H
#define WEIR_SPEC_SCRIPTED_H

#include "base/str.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct scripted {
    int listener;
    unsigned port;
    pthread_t thread;
    void (*script)(struct scripted *s);
    const char *text; /* for scripts that send one */
    size_t text_n;
    size_t number;      /* for scripts that need one, or tell one */
    unsigned connected; /* connections accepted */
    char got[1 << 16];  /* the last request head, and what came in the same reads */
    size_t got_n;
    char body[1 << 16];
    size_t body_n;
};

static inline bool scripted_ready(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, 5000) == 1;
}

static inline int scripted_accept(struct scripted *s)
{
    int fd = scripted_ready(s->listener) ? accept(s->listener, NULL, NULL) : -1;

    if (fd >= 0) {
        s->connected++;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    }
    return fd;
}

static inline ssize_t scripted_read(int fd, char *p, size_t n)
{
    return scripted_ready(fd) ? recv(fd, p, n, 0) : -1;
}

/* Reads one request head. False if the connection ended instead: the one before is kept then. */
static inline bool scripted_head(struct scripted *s, int fd)
{
    size_t had = 0;
    char *end = NULL;

    while (!end) {
        ssize_t n = scripted_read(fd, s->got + had, sizeof s->got - 1 - had);

        if (n <= 0)
            return false;
        had += (size_t)n;
        s->got[had] = '\0';
        end = strstr(s->got, "\r\n\r\n");
    }
    s->got_n = had;
    s->body_n = (size_t)(s->got + s->got_n - (end + 4));
    memcpy(s->body, end + 4, s->body_n);
    s->body[s->body_n] = '\0';
    return true;
}

/* Reads until the body holds n bytes. */
static inline bool scripted_body(struct scripted *s, int fd, size_t n)
{
    while (s->body_n < n) {
        ssize_t more = scripted_read(fd, s->body + s->body_n, sizeof s->body - 1 - s->body_n);

        if (more <= 0)
            return false;
        s->body_n += (size_t)more;
    }
    s->body[s->body_n] = '\0';
    return true;
}

/* Reads until the other side closes; true if it did, in order or not. */
static inline bool scripted_closed(int fd)
{
    char sink[4096];

    while (scripted_ready(fd))
        if (recv(fd, sink, sizeof sink, 0) <= 0)
            return true;
    return false;
}

static inline bool scripted_write(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static inline bool scripted_say(int fd, const char *text)
{
    return scripted_write(fd, text, strlen(text));
}

static inline void scripted_reset(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
    close(fd);
}

static inline void *scripted_main(void *arg)
{
    struct scripted *s = arg;

    s->script(s);
    return NULL;
}

static inline int scripted_listener(int backlog, unsigned *port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&in, n) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&in, &n) != 0)
        abort();
    *port = ntohs(in.sin_port);
    return fd;
}

static inline void scripted_start_on(struct scripted *s, int listener,
                                     void (*script)(struct scripted *s))
{
    s->listener = listener;
    s->script = script;
    if (pthread_create(&s->thread, NULL, scripted_main, s) != 0)
        abort();
}

static inline struct scripted *scripted_start(void (*script)(struct scripted *s), const char *text)
{
    struct scripted *s = calloc(1, sizeof *s);
    int fd = scripted_listener(64, &s->port);

    s->text = text;
    s->text_n = text ? strlen(text) : 0;
    scripted_start_on(s, fd, script);
    return s;
}

/* Waits until the script has ended; the answers in s may be looked at then. */
static inline void scripted_join(struct scripted *s)
{
    pthread_join(s->thread, NULL);
}

static inline void scripted_free(struct scripted *s)
{
    close(s->listener);
    free(s);
}

#endif
