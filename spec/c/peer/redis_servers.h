/*
 * Several Redis servers that know each other: a master with replicas and
 * Sentinels, a Cluster. All in processes and directories of their own, gone
 * with servers_stop, and with the spec.
 */
#ifndef WEIR_SPEC_REDIS_SERVERS_H
#define WEIR_SPEC_REDIS_SERVERS_H

#include "base/mem.h"
#include "base/weir.h"
#include "redis_server.h"
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SERVERS_MAX 12

static struct redis_server *the_servers[SERVERS_MAX];
static unsigned the_server_count;

/* The answer of the server at this port, as text, integers too; valid until the next call. */
static inline const char *tell(unsigned port, const char *format, ...)
{
    static char text[65536];
    redisContext *c = redisConnectWithTimeout("127.0.0.1", (int)port, (struct timeval){ 5, 0 });
    redisReply *reply;
    va_list args;

    if (!c || c->err)
        fail_msg("port %u: %s", port, c ? c->errstr : "no memory");
    redisSetTimeout(c, (struct timeval){ 10, 0 });
    va_start(args, format);
    reply = redisvCommand(c, format, args);
    va_end(args);
    if (!reply)
        fail_msg("port %u: %s: %s", port, format, c->errstr);
    if (reply->type == REDIS_REPLY_INTEGER)
        snprintf(text, sizeof text, "%lld", reply->integer);
    else
        snprintf(text, sizeof text, "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
    redisFree(c);
    return text;
}

#define TELL_OK(...) assert_string_equal(tell(__VA_ARGS__), "OK")

/* Waits, for at most 20 seconds, until the answer holds this text. */
static inline void await_answer(unsigned port, const char *command, const char *text)
{
    for (int i = 0; i < 400 && !strstr(tell(port, command), text); i++)
        usleep(50000);
    if (!strstr(tell(port, command), text))
        fail_msg("port %u: %s: no %s in %s", port, command, text, tell(port, command));
}

static inline struct redis_server *server_prepare(void)
{
    struct redis_server *s = xcalloc(1, sizeof *s);

    redis_prepare(s);
    the_servers[the_server_count++] = s;
    return s;
}

static inline struct redis_server *server_add(const char *conf)
{
    struct redis_server *s = server_prepare();

    redis_launch(s, conf);
    return s;
}

static inline void servers_await(void)
{
    for (unsigned i = 0; i < the_server_count; i++)
        redis_await(the_servers[i], the_servers[i]->port);
}

/* It stays dead. */
static inline void server_kill(struct redis_server *s)
{
    redis_kill(s);
    s->pid = 0;
}

/* Stops those that were added last. */
static inline void servers_drop(unsigned count)
{
    while (count--) {
        struct redis_server *s = the_servers[--the_server_count];
        char command[128];

        if (s->pid)
            redis_kill(s);
        snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
        if (system(command) != 0)
            abort();
        free(s);
    }
}

static inline void servers_stop(void)
{
    servers_drop(the_server_count);
}

/* ---- Sentinel ---- */

/* Starts a Sentinel with these lines of sentinel.conf. */
static inline struct redis_server *sentinel_add(const char *conf)
{
    struct redis_server *s = server_prepare();
    char path[96];
    FILE *file;

    snprintf(path, sizeof path, "%s/sentinel.conf", s->dir);
    file = fopen(path, "w");
    fprintf(file, "port %u\nbind 127.0.0.1\ndir %s\n%s\n", s->port, s->dir, conf);
    if (fclose(file) != 0)
        abort();
    s->pid = fork();
    if (s->pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        execlp("redis-sentinel", "redis-sentinel", path, (char *)NULL);
        _exit(127);
    }
    return s;
}

/* "mymaster" with replicas and Sentinels that replace it within two seconds; waits until all is so.
 */
static inline void sentinels_start(struct redis_server **nodes, unsigned node_count,
                                   struct redis_server **sentinels, unsigned sentinel_count,
                                   const char *more)
{
    char conf[512];

    for (unsigned i = 0; i < node_count; i++) {
        snprintf(conf, sizeof conf, "repl-diskless-sync-delay 0\n");
        if (i > 0)
            snprintf(conf, sizeof conf, "repl-diskless-sync-delay 0\nreplicaof 127.0.0.1 %u\n",
                     nodes[0]->port);
        nodes[i] = server_add(conf);
    }
    servers_await();
    snprintf(conf, sizeof conf,
             "sentinel monitor mymaster 127.0.0.1 %u %u\n"
             "sentinel down-after-milliseconds mymaster 500\n"
             "sentinel failover-timeout mymaster 2000\n%s",
             nodes[0]->port, sentinel_count / 2 + 1, more);
    for (unsigned i = 0; i < sentinel_count; i++)
        sentinels[i] = sentinel_add(conf);
    servers_await();
}

/* ---- Cluster ---- */

#define CLUSTER_MASTERS 3

/* Masters with one replica each, the replicas behind the masters; waits until all is well. */
static inline void cluster_start(struct redis_server **nodes)
{
    char conf[256], ids[CLUSTER_MASTERS][64];
    unsigned bus[2 * CLUSTER_MASTERS];

    for (unsigned i = 0; i < 2 * CLUSTER_MASTERS; i++) {
        bus[i] = redis_free_port();
        snprintf(conf, sizeof conf,
                 "cluster-enabled yes\ncluster-port %u\ncluster-node-timeout 1000\n"
                 "cluster-replica-validity-factor 0\nrepl-diskless-sync-delay 0\n"
                 "cluster-allow-replica-migration no\n",
                 bus[i]);
        nodes[i] = server_add(conf);
    }
    servers_await();
    for (unsigned i = 1; i < 2 * CLUSTER_MASTERS; i++)
        TELL_OK(nodes[0]->port, "CLUSTER MEET 127.0.0.1 %u %u", nodes[i]->port, bus[i]);
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++) {
        TELL_OK(nodes[i]->port, "CLUSTER ADDSLOTSRANGE %u %u", i * 16384 / CLUSTER_MASTERS,
                (i + 1) * 16384 / CLUSTER_MASTERS - 1);
        snprintf(ids[i], sizeof ids[i], "%s", tell(nodes[i]->port, "CLUSTER MYID"));
    }
    for (unsigned i = 0; i < 2 * CLUSTER_MASTERS; i++) {
        await_answer(nodes[i]->port, "CLUSTER INFO", "cluster_state:ok");
        await_answer(nodes[i]->port, "CLUSTER INFO", "cluster_known_nodes:6");
    }
    for (unsigned i = 0; i < CLUSTER_MASTERS; i++)
        TELL_OK(nodes[CLUSTER_MASTERS + i]->port, "CLUSTER REPLICATE %s", ids[i]);
    for (unsigned i = CLUSTER_MASTERS; i < 2 * CLUSTER_MASTERS; i++)
        await_answer(nodes[i]->port, "INFO replication", "master_link_status:up");
}

#endif
