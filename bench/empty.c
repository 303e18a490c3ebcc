/*
 * The floor: a FastCGI application that does nothing but answer. One thread,
 * epoll, reads right after accept, one write for a response; no parameters are
 * looked at. It answers the bytes of a file, so that it sends what weir sends.
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <fastcgi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct conn {
    int fd, watched, keep, role, ready;
    unsigned char header[8];
    unsigned header_n, content_left, padding_left, begin_n;
};

static unsigned char answer[16384];
static size_t answer_n;
static int epoll_fd;

static void make_answer(const char *path)
{
    unsigned char *at = answer;
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f) {
        perror(path);
        exit(1);
    }
    n = fread(answer + 8, 1, sizeof answer - 64, f);
    fclose(f);
    memcpy(
        at,
        (unsigned char[]){ 1, FCGI_STDOUT, 0, 1, (unsigned char)(n >> 8), (unsigned char)n, 0, 0 },
        8);
    at += 8 + n;
    memcpy(at, (unsigned char[]){ 1, FCGI_STDOUT, 0, 1, 0, 0, 0, 0 }, 8);
    at += 8;
    memcpy(at,
           (unsigned char[]){ 1, FCGI_END_REQUEST, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0,
                              FCGI_REQUEST_COMPLETE, 0, 0, 0 },
           16);
    at += 16;
    answer_n = (size_t)(at - answer);
}

static void end(struct conn *c)
{
    close(c->fd);
    free(c);
}

static void on_header(struct conn *c)
{
    const unsigned char *h = c->header;

    c->header_n = 0;
    c->content_left = (unsigned)h[4] << 8 | h[5];
    c->padding_left = h[6];
    if (h[1] == FCGI_BEGIN_REQUEST)
        c->begin_n = 0;
    /* a responder's request ends with the empty STDIN, an authorizer's with the empty PARAMS */
    if (c->content_left == 0 && h[1] == (c->role == FCGI_AUTHORIZER ? FCGI_PARAMS : FCGI_STDIN))
        c->ready = 1;
}

static void decode(struct conn *c, const unsigned char *p, size_t n)
{
    while (n > 0) {
        size_t take;

        if (c->content_left) {
            take = n < c->content_left ? n : c->content_left;
            for (size_t i = 0; c->header[1] == FCGI_BEGIN_REQUEST && i < take; i++, c->begin_n++) {
                if (c->begin_n == 1)
                    c->role = p[i];
                else if (c->begin_n == 2)
                    c->keep = p[i] & FCGI_KEEP_CONN;
            }
            c->content_left -= (unsigned)take;
        } else if (c->padding_left) {
            take = n < c->padding_left ? n : c->padding_left;
            c->padding_left -= (unsigned)take;
        } else {
            take = n < 8 - c->header_n ? n : 8 - c->header_n;
            memcpy(c->header + c->header_n, p, take);
            c->header_n += (unsigned)take;
            if (c->header_n == 8)
                on_header(c);
        }
        p += take;
        n -= take;
    }
}

/* 0 when the connection is gone. */
static int serve(struct conn *c)
{
    static unsigned char input[65536];
    ssize_t n = recv(c->fd, input, sizeof input, 0);

    if (n <= 0) {
        if (n == -1 && errno == EAGAIN)
            return 1;
        end(c);
        return 0;
    }
    decode(c, input, (size_t)n);
    if (!c->ready)
        return 1;
    c->ready = 0;
    if (send(c->fd, answer, answer_n, MSG_NOSIGNAL) != (ssize_t)answer_n || !c->keep) {
        end(c);
        return 0;
    }
    return 1;
}

static void take(int listen_fd)
{
    for (int i = 0; i < 16; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct epoll_event ev = { .events = EPOLLIN };
        struct conn *c;

        if (fd == -1)
            return;
        c = calloc(1, sizeof *c);
        c->fd = fd;
        if (!serve(c))
            continue;
        ev.data.ptr = c;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct epoll_event events[256], ev = { .events = EPOLLIN };
    int listen_fd;

    if (argc != 3) {
        fprintf(stderr, "usage: empty SOCKET FILE\n");
        return 2;
    }
    make_answer(argv[2]);
    snprintf(un.sun_path, sizeof un.sun_path, "%s", argv[1]);
    unlink(argv[1]);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listen_fd, (struct sockaddr *)&un, sizeof un) == -1 || listen(listen_fd, 4096) == -1) {
        perror(argv[1]);
        return 1;
    }
    epoll_fd = epoll_create1(0);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &ev);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr);
            else
                take(listen_fd);
        }
    }
}
