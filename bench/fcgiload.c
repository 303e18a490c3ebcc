/*
 * A FastCGI load generator: keeps a number of requests in flight over a unix
 * socket or a TCP port, on kept connections or one for each request, and
 * counts what comes back. Speaks FastCGI by itself, so that it is also a peer
 * that shares no code with weir. Stops by itself.
 */
#define _GNU_SOURCE /* memmem */
#include <arpa/inet.h>
#include <errno.h>
#include <fastcgi.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define INPUT_BYTES 65536

struct conn {
    int fd;
    size_t sent;
    int status; /* of the response that is arriving; 0: not seen yet */
    unsigned char header[8];
    unsigned header_n, content_left, padding_left;
    int type;
    int64_t began_us;
};

static struct options {
    const char *path, *uri, *addr, *dump;
    int port, conns, keep, role, seconds;
    long requests, clients;
} opt = {
    .conns = 64,
    .role = FCGI_RESPONDER,
    .requests = 100000,
    .uri = "/echo",
    .addr = "10.0.0.1",
};

static struct {
    long done, ok, limited, other, failed;
    int64_t latency_us;
} count;

static int epoll_fd;
static char request[8192];
static size_t request_n;
static char *address; /* of the client, in request, when there are many */

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void put(const void *p, size_t n)
{
    if (request_n + n > sizeof request) {
        fprintf(stderr, "fcgiload: the request is too long\n");
        exit(1);
    }
    memcpy(request + request_n, p, n);
    request_n += n;
}

static void put_header(int type, size_t n)
{
    unsigned char h[8] = { FCGI_VERSION_1,          (unsigned char)type, 0, 1,
                           (unsigned char)(n >> 8), (unsigned char)n,    0, 0 };

    put(h, sizeof h);
}

static void put_pair(char *to, size_t *at, const char *name, const char *value)
{
    to[(*at)++] = (char)strlen(name);
    to[(*at)++] = (char)strlen(value);
    memcpy(to + *at, name, strlen(name));
    *at += strlen(name);
    memcpy(to + *at, value, strlen(value));
    *at += strlen(value);
}

/* What lighttpd sends for a request of a browser: about 25 parameters, 0.9 KB. */
static void make_request(void)
{
    unsigned char begin[8] = { 0, (unsigned char)opt.role, (unsigned char)opt.keep };
    const char *const pairs[][2] = {
        { "CONTENT_LENGTH", "0" },
        { "QUERY_STRING", "" },
        { "REQUEST_URI", opt.uri },
        { "REDIRECT_STATUS", "200" },
        { "SCRIPT_NAME", opt.uri },
        { "SCRIPT_FILENAME", "/var/www/html/index.html" },
        { "DOCUMENT_ROOT", "/var/www/html" },
        { "REQUEST_METHOD", "GET" },
        { "SERVER_PROTOCOL", "HTTP/1.1" },
        { "SERVER_SOFTWARE", "lighttpd/1.4.69" },
        { "GATEWAY_INTERFACE", "CGI/1.1" },
        { "REQUEST_SCHEME", "http" },
        { "SERVER_PORT", "80" },
        { "SERVER_ADDR", "10.0.0.2" },
        { "SERVER_NAME", "www.example.org" },
        { "REMOTE_ADDR", opt.addr },
        { "REMOTE_PORT", "51234" },
        { "HTTP_HOST", "www.example.org" },
        { "HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101" },
        { "HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" },
        { "HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5" },
        { "HTTP_ACCEPT_ENCODING", "gzip, deflate, br" },
        { "HTTP_CONNECTION", "keep-alive" },
        { "HTTP_COOKIE", "session=0123456789abcdef0123456789abcdef" },
        { "HTTP_UPGRADE_INSECURE_REQUESTS", "1" },
    };
    char params[4096];
    size_t n = 0;

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        put_pair(params, &n, pairs[i][0], pairs[i][1]);
    put_header(FCGI_BEGIN_REQUEST, sizeof begin);
    put(begin, sizeof begin);
    put_header(FCGI_PARAMS, n);
    put(params, n);
    put_header(FCGI_PARAMS, 0);
    put_header(FCGI_STDIN, 0);
}

static int dial(void)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET };
    int fd = socket(opt.path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    int on = 1, rc;

    if (opt.path) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s", opt.path);
        rc = connect(fd, (struct sockaddr *)&un, sizeof un);
    } else {
        in.sin_port = htons((uint16_t)opt.port);
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        rc = connect(fd, (struct sockaddr *)&in, sizeof in);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (rc == -1) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The next of many clients; what is still being sent of another one's request changes with it. */
static void next_client(void)
{
    static const int DIGITS[] = { 13, 12, 9, 8, 5, 4 }; /* in 10.100.100.100 */
    static long at;
    long n = at++;

    if (!address)
        return;
    n %= opt.clients;
    for (size_t i = 0; i < sizeof DIGITS / sizeof *DIGITS; i++, n /= 10)
        address[DIGITS[i]] = (char)('0' + n % 10);
}

static void begin(struct conn *c)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
    ssize_t n;

    c->status = 0;
    c->header_n = 0;
    c->content_left = c->padding_left = 0;
    c->type = 0;
    c->began_us = now_us();
    if (c->fd == -1) {
        c->fd = dial();
        if (c->fd == -1) {
            fprintf(stderr, "fcgiload: cannot connect: %s\n", strerror(errno));
            exit(1);
        }
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
    }
    next_client();
    n = send(c->fd, request, request_n, MSG_NOSIGNAL);
    if (n != (ssize_t)request_n)
        count.failed++;
}

static void finished(struct conn *c, int good)
{
    count.done++;
    count.latency_us += now_us() - c->began_us;
    if (!good)
        count.failed++;
    else if (c->status == 200)
        count.ok++;
    else if (c->status == 429)
        count.limited++;
    else
        count.other++;
    if (!good || !opt.keep) {
        close(c->fd);
        c->fd = -1;
    }
}

static void on_content(struct conn *c, const unsigned char *p, size_t n)
{
    if (opt.dump && c->type == FCGI_STDOUT && count.done == 0) {
        FILE *f = fopen(opt.dump, "a");

        if (f) {
            fwrite(p, 1, n, f);
            fclose(f);
        }
    }
    /* the first record begins with "Status: NNN" */
    if (c->type == FCGI_STDOUT && c->status == 0 && n >= 11)
        c->status = memcmp(p, "Status: ", 8) == 0 ? atoi((const char *)p + 8) : 200;
}

/* 1 when the request has ended. */
static int parse(struct conn *c, const unsigned char *p, size_t n)
{
    while (n > 0) {
        size_t take;

        if (c->content_left) {
            take = n < c->content_left ? n : c->content_left;
            on_content(c, p, take);
            c->content_left -= (unsigned)take;
        } else if (c->padding_left) {
            take = n < c->padding_left ? n : c->padding_left;
            c->padding_left -= (unsigned)take;
        } else {
            take = n < 8 - c->header_n ? n : 8 - c->header_n;
            memcpy(c->header + c->header_n, p, take);
            c->header_n += (unsigned)take;
            if (c->header_n == 8) {
                c->header_n = 0;
                c->type = c->header[1];
                c->content_left = (unsigned)c->header[4] << 8 | c->header[5];
                c->padding_left = c->header[6];
            }
        }
        p += take;
        n -= take;
        if (c->type == FCGI_END_REQUEST && !c->content_left && !c->padding_left && !c->header_n)
            return 1;
    }
    return 0;
}

/* 1 when the request has ended one way or the other. */
static int on_readable(struct conn *c)
{
    static unsigned char input[INPUT_BYTES];
    ssize_t n = recv(c->fd, input, sizeof input, 0);

    if (n <= 0) {
        finished(c, 0);
        return 1;
    }
    if (!parse(c, input, (size_t)n))
        return 0;
    finished(c, 1);
    return 1;
}

static void run(void)
{
    struct conn *conns = calloc((size_t)opt.conns, sizeof *conns);
    int64_t end_us = opt.seconds ? now_us() + (int64_t)opt.seconds * 1000000 : 0;
    struct epoll_event events[256];
    long begun = 0;

    epoll_fd = epoll_create1(0);
    for (int i = 0; i < opt.conns && begun < opt.requests; i++, begun++) {
        conns[i].fd = -1;
        begin(&conns[i]);
    }
    while (count.done < begun) {
        int n = epoll_wait(epoll_fd, events, 256, 10000);

        if (n == 0) {
            fprintf(stderr, "fcgiload: no answer for ten seconds\n");
            count.failed += begun - count.done;
            break;
        }
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (!on_readable(c))
                continue;
            if (begun < opt.requests && !(end_us && now_us() > end_us)) {
                begun++;
                begin(c);
            }
        }
    }
    free(conns);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: fcgiload -s SOCKET | -p PORT [-c in flight] [-n requests] [-d seconds] [-k]\n"
            "                [-r 1 responder | 2 authorizer] [-u uri] [-a remote address]\n"
            "                [-A how many remote addresses, in turn]\n"
            "                [-o file: the first answer's FCGI_STDOUT]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    int64_t began_us;
    double took_s;
    int o;

    while ((o = getopt(argc, argv, "s:p:c:n:d:kr:u:a:A:o:")) != -1) {
        switch (o) {
        case 's':
            opt.path = optarg;
            break;
        case 'p':
            opt.port = atoi(optarg);
            break;
        case 'c':
            opt.conns = atoi(optarg);
            break;
        case 'n':
            opt.requests = atol(optarg);
            break;
        case 'd':
            opt.seconds = atoi(optarg);
            break;
        case 'k':
            opt.keep = 1;
            break;
        case 'r':
            opt.role = atoi(optarg);
            break;
        case 'u':
            opt.uri = optarg;
            break;
        case 'a':
            opt.addr = optarg;
            break;
        case 'A':
            opt.clients = atol(optarg);
            opt.addr = "10.100.100.100";
            break;
        case 'o':
            opt.dump = optarg;
            break;
        default:
            usage();
        }
    }
    if ((!opt.path && !opt.port) || opt.conns < 1)
        usage();
    make_request();
    if (opt.clients)
        address = memmem(request, request_n, opt.addr, strlen(opt.addr));
    began_us = now_us();
    run();
    took_s = (double)(now_us() - began_us) / 1e6;
    printf("requests %ld ok %ld limited %ld other %ld failed %ld seconds %.3f per_second %.0f "
           "mean_us %.0f\n",
           count.done, count.ok, count.limited, count.other, count.failed, took_s,
           (double)count.done / took_s,
           count.done ? (double)count.latency_us / (double)count.done : 0);
    return count.failed ? 1 : 0;
}
