/*
 * A Redis client that waits for each reply, as a plugin with a pool of
 * connections does: how many decisions a second it makes. Its arguments are a
 * port, a number, and the command.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    long n = argc > 3 ? atol(argv[2]) : 0;
    redisContext *c = n > 0 ? redisConnect("127.0.0.1", atoi(argv[1])) : NULL;
    double began_s = now_s();

    if (!c || c->err) {
        fprintf(stderr, "usage: redis_wait PORT NUMBER COMMAND...\n");
        return 2;
    }
    for (long i = 0; i < n; i++) {
        redisReply *r = redisCommandArgv(c, argc - 3, (const char **)argv + 3, NULL);

        if (!r || r->type == REDIS_REPLY_ERROR) {
            fprintf(stderr, "redis_wait: %s\n", r ? r->str : c->errstr);
            return 1;
        }
        freeReplyObject(r);
    }
    printf("per_second %.0f\n", (double)n / (now_s() - began_s));
    return 0;
}
