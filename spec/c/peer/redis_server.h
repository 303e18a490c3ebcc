/*
 * A real redis-server in a directory of its own, on a loopback port and a unix
 * socket; gone with redis_stop, and with the spec.
 */
#ifndef WEIR_SPEC_REDIS_SERVER_H
#define WEIR_SPEC_REDIS_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct redis_server {
    char dir[64];
    char socket[96]; /* "unix:..." */
    unsigned port;
    pid_t pid;
};

static inline unsigned redis_free_port(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (struct sockaddr *)&in, n) != 0 ||
        getsockname(fd, (struct sockaddr *)&in, &n) != 0)
        abort();
    close(fd);
    return ntohs(in.sin_port);
}

static inline bool redis_is_up(unsigned port)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool up = connect(fd, (struct sockaddr *)&in, sizeof in) == 0;

    close(fd);
    return up;
}

/* Starts it, again if it was stopped, with these lines of redis.conf besides. */
static inline void redis_launch(struct redis_server *s, const char *conf)
{
    char path[96];
    FILE *file;

    snprintf(path, sizeof path, "%s/redis.conf", s->dir);
    file = fopen(path, "w");
    fprintf(file, "port %u\nbind 127.0.0.1\nunixsocket %s\ndir %s\nsave \"\"\n%s\n", s->port,
            s->socket + strlen("unix:"), s->dir, conf);
    if (fclose(file) != 0)
        abort();
    s->pid = fork();
    if (s->pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        execlp("redis-server", "redis-server", path, (char *)NULL);
        _exit(127);
    }
}

static inline void redis_await(const struct redis_server *s, unsigned port)
{
    for (int i = 0; i < 300 && !redis_is_up(port); i++)
        usleep(20000);
    if (!redis_is_up(port) || kill(s->pid, 0) != 0)
        abort();
}

/* The directory; files may be put there before redis_launch. */
static inline void redis_prepare(struct redis_server *s)
{
    strcpy(s->dir, "/tmp/weir-redis-XXXXXX");
    if (!mkdtemp(s->dir))
        abort();
    chmod(s->dir, 0755);
    snprintf(s->socket, sizeof s->socket, "unix:%s/s", s->dir);
    s->port = redis_free_port();
}

static inline void redis_start(struct redis_server *s, const char *conf)
{
    redis_prepare(s);
    redis_launch(s, conf);
    redis_await(s, s->port);
}

static inline void redis_kill(struct redis_server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}

static inline void redis_stop(struct redis_server *s)
{
    char command[128];

    redis_kill(s);
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    if (system(command) != 0)
        abort();
}

#endif
