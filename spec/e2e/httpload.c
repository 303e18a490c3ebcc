/*
 * An HTTP/1.1 load generator for the end-to-end specs that counts exactly: one
 * thread, epoll, some connections in parallel, one request at a time on each.
 * It never retries: a request that fails is counted as what it was. An answer
 * counts under its status only if it came whole.
 *
 *   httpload [-c parallel] [-n requests] [-t seconds] [-k] [-s source]
 *            [-H header]... host port path
 *
 * It prints "status N count" lines, "error WHAT count" lines (FAILURES names
 * them), "sent count", "p50_ms milliseconds" (the median), "p99_ms" and "max_ms".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PARALLEL_MAX 4096
#define ANSWER_BYTES (128 * 1024)
#define REQUEST_MS 60000
#define SPAN_US 10 /* of one place of the table of times; what takes longer stands in the last */
#define SPANS 100000

enum failure { F_CONNECT, F_WRITE, F_READ, F_CLOSED, F_SHORT, F_GARBAGE, F_TIMEOUT, F_COUNT };
static const char *const FAILURES[] = { "connect", "write",   "read",   "closed",
                                        "short",   "garbage", "timeout" };

enum answer { A_MORE, A_WHOLE, A_SHORT, A_GARBAGE };

struct client {
    int fd;
    size_t sent, got;
    int64_t since_us;
    char *answer;
};

static struct {
    int parallel, seconds;
    long requests;
    bool keep;
    struct sockaddr_in to, from;
    char request[16384];
    size_t request_n;
    int epoll_fd;
    long sent, done, status[1000], failed[F_COUNT];
    int64_t start_us, max_us;
    long took[SPANS];
} the = { .parallel = 1, .requests = 1 };

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static bool may_start(void)
{
    if (the.sent >= the.requests)
        return false;
    return the.seconds == 0 || now_us() - the.start_us < (int64_t)the.seconds * 1000000;
}

static void hang_up(struct client *c)
{
    if (c->fd != -1)
        close(c->fd);
    c->fd = -1;
}

static void fail(struct client *c, enum failure why)
{
    the.failed[why]++;
    the.done++;
    hang_up(c);
}

static int open_socket(struct client *c)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd == -1)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (the.from.sin_family) {
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&the.from, sizeof the.from) == -1)
            die("bind");
    }
    if (epoll_ctl(the.epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) == -1)
        die("epoll_ctl");
    if (connect(c->fd, (struct sockaddr *)&the.to, sizeof the.to) == -1 && errno != EINPROGRESS)
        return -1;
    return 0;
}

/* The value of a header in the head, or NULL. */
static const char *header_of(const char *head, const char *end, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = head; p < end; p++) {
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p)
            return NULL;
        if ((size_t)(end - p) > n + 1 && strncasecmp(p + 1, name, n) == 0 && p[n + 1] == ':')
            return p + n + 2;
    }
    return NULL;
}

/* Judges what arrived; at_end: the server has closed. */
static enum answer judge(struct client *c, bool at_end)
{
    const char *body, *length, *coding;
    size_t body_n;

    c->answer[c->got] = '\0';
    if (c->got >= 12 && strncmp(c->answer, "HTTP/1.", 7) != 0)
        return A_GARBAGE;
    body = strstr(c->answer, "\r\n\r\n");
    if (!body)
        return at_end ? A_SHORT : A_MORE;
    body += 4;
    body_n = c->got - (size_t)(body - c->answer);
    length = header_of(c->answer, body, "Content-Length");
    coding = header_of(c->answer, body, "Transfer-Encoding");
    if (length && body_n >= strtoul(length, NULL, 10))
        return A_WHOLE;
    if (coding && body_n >= 5 && memcmp(c->answer + c->got - 5, "0\r\n\r\n", 5) == 0)
        return A_WHOLE;
    if (!at_end)
        return A_MORE;
    return length || coding ? A_SHORT : A_WHOLE;
}

static void finish(struct client *c)
{
    int64_t took_us = now_us() - c->since_us;
    int status = atoi(c->answer + 9);

    if (took_us > the.max_us)
        the.max_us = took_us;
    the.took[took_us / SPAN_US < SPANS ? took_us / SPAN_US : SPANS - 1]++;
    if (status < 100 || status > 999) {
        fail(c, F_GARBAGE);
        return;
    }
    the.status[status]++;
    the.done++;
    if (!the.keep || header_of(c->answer, c->answer + c->got, "Connection"))
        hang_up(c);
}

static void do_write(struct client *c)
{
    while (c->sent < the.request_n) {
        ssize_t n = send(c->fd, the.request + c->sent, the.request_n - c->sent, MSG_NOSIGNAL);

        if (n == -1 && errno == EAGAIN)
            return;
        if (n == -1) {
            fail(c, c->sent == 0 ? F_CONNECT : F_WRITE);
            return;
        }
        c->sent += (size_t)n;
    }
}

/* Whole requests and failures leave the client idle: c->sent is 0 then. */
static void do_read(struct client *c)
{
    while (c->fd != -1) {
        ssize_t n = recv(c->fd, c->answer + c->got, ANSWER_BYTES - 1 - c->got, 0);
        enum answer found;

        if (n == -1 && errno == EAGAIN)
            return;
        if (n == -1) {
            fail(c, c->sent == 0 ? F_CONNECT : F_READ);
            break;
        }
        c->got += (size_t)n;
        found = judge(c, n == 0);
        if (found == A_MORE && c->got < ANSWER_BYTES - 1)
            continue;
        if (found == A_WHOLE)
            finish(c);
        else
            fail(c, c->got == 0 ? F_CLOSED : found == A_SHORT ? F_SHORT : F_GARBAGE);
        break;
    }
    c->sent = c->got = 0;
    c->since_us = 0;
}

static void start(struct client *c)
{
    c->sent = c->got = 0;
    c->since_us = now_us();
    the.sent++;
    if (c->fd == -1 && open_socket(c) == -1)
        fail(c, F_CONNECT);
    else
        do_write(c);
    if (c->fd == -1)
        c->since_us = 0;
}

static void on_event(struct client *c, uint32_t events)
{
    if (c->fd == -1)
        return;
    if (c->since_us == 0) { /* idle and kept: the server closed it */
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            hang_up(c);
        return;
    }
    if (events & EPOLLOUT)
        do_write(c);
    if (c->fd != -1 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        do_read(c);
    if (c->fd == -1)
        c->since_us = 0;
}

static void expire(struct client *clients)
{
    int64_t old_us = now_us() - REQUEST_MS * INT64_C(1000);

    for (int i = 0; i < the.parallel; i++)
        if (clients[i].since_us && clients[i].since_us < old_us) {
            fail(&clients[i], F_TIMEOUT);
            clients[i].since_us = 0;
        }
}

static void run(struct client *clients)
{
    struct epoll_event events[256];

    for (;;) {
        int n;

        for (int i = 0; i < the.parallel && may_start(); i++)
            if (clients[i].since_us == 0)
                start(&clients[i]);
        if (the.done >= the.sent && !may_start())
            return;
        n = epoll_wait(the.epoll_fd, events, 256, 1000);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
        if (n == 0)
            expire(clients);
    }
}

/* The milliseconds within which that part of the answers came. */
static double quantile_ms(double part)
{
    long answers = 0, seen = 0;
    int i = 0;

    for (int status = 0; status < 1000; status++)
        answers += the.status[status];
    while (i < SPANS - 1 && seen + the.took[i] < (double)answers * part)
        seen += the.took[i++];
    return (double)(i + 1) * SPAN_US / 1000;
}

static void report(void)
{
    for (int i = 0; i < 1000; i++)
        if (the.status[i])
            printf("status %d %ld\n", i, the.status[i]);
    for (int i = 0; i < F_COUNT; i++)
        if (the.failed[i])
            printf("error %s %ld\n", FAILURES[i], the.failed[i]);
    printf("sent %ld\np50_ms %.2f\np99_ms %.2f\nmax_ms %.1f\n", the.sent, quantile_ms(0.5),
           quantile_ms(0.99), (double)the.max_us / 1000);
}

static void usage(void)
{
    fputs("usage: httpload [-c parallel] [-n requests] [-t seconds] [-k] [-s source]"
          " [-H header]... host port path\n",
          stderr);
    exit(2);
}

static void add(const char *text)
{
    size_t n = strlen(text);

    if (the.request_n + n >= sizeof the.request)
        usage();
    memcpy(the.request + the.request_n, text, n);
    the.request_n += n;
}

static void build_request(char **args, char **headers, int headers_n)
{
    add("GET ");
    add(args[2]);
    add(" HTTP/1.1\r\nHost: localhost\r\n");
    if (!the.keep)
        add("Connection: close\r\n");
    for (int i = 0; i < headers_n; i++) {
        add(headers[i]);
        add("\r\n");
    }
    add("\r\n");
    the.to.sin_family = AF_INET;
    the.to.sin_port = htons((uint16_t)atoi(args[1]));
    if (inet_pton(AF_INET, args[0], &the.to.sin_addr) != 1)
        usage();
}

static int options(int argc, char **argv, char **headers)
{
    int c, n = 0;

    while ((c = getopt(argc, argv, "c:n:t:ks:H:")) != -1) {
        if (c == 'c')
            the.parallel = atoi(optarg);
        else if (c == 'n')
            the.requests = atol(optarg);
        else if (c == 't')
            the.seconds = atoi(optarg);
        else if (c == 'k')
            the.keep = true;
        else if (c == 'H' && n < 16)
            headers[n++] = optarg;
        else if (c == 's' && inet_pton(AF_INET, optarg, &the.from.sin_addr) == 1)
            the.from.sin_family = AF_INET;
        else
            usage();
    }
    if (argc - optind != 3 || the.parallel < 1 || the.parallel > PARALLEL_MAX)
        usage();
    return n;
}

int main(int argc, char **argv)
{
    char *headers[16];
    int headers_n = options(argc, argv, headers);
    struct client *clients;

    build_request(argv + optind, headers, headers_n);
    the.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)the.parallel, sizeof *clients);
    if (the.epoll_fd == -1 || !clients)
        die("httpload");
    for (int i = 0; i < the.parallel; i++) {
        clients[i].fd = -1;
        clients[i].answer = malloc(ANSWER_BYTES);
        if (!clients[i].answer)
            die("malloc");
    }
    the.start_us = now_us();
    run(clients);
    report();
    return 0;
}
