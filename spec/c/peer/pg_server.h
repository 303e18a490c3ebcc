/*
 * A PostgreSQL of a spec's own: a new cluster below PG_SERVER_PARENT, a unix socket and a
 * free port, with TLS and passwords on the port and without on the socket. It
 * dies with the spec. Run by the user postgres when the spec is root.
 */
#ifndef WEIR_SPEC_PG_SERVER_H
#define WEIR_SPEC_PG_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PG_SERVER_PARENT
#define PG_SERVER_PARENT "/tmp"
#endif

struct pg_server {
    char dir[64]; /* the socket's directory; the cluster is below it */
    char port[8];
    pid_t pid;
};

static inline void pg_server_check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "pg_server: %s failed\n", what);
    exit(1);
}

static inline void pg_server_become_postgres(void)
{
    struct passwd *user = getpwnam("postgres");

    if (geteuid() != 0)
        return;
    pg_server_check(user && initgroups("postgres", user->pw_gid) == 0 &&
                        setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0,
                    "to become postgres");
}

/* Runs a command as the server's user; its output is kept in DIR/out. */
static inline void pg_server_run(const struct pg_server *s, const char *command)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        pg_server_become_postgres();
        pg_server_check(chdir(s->dir) == 0, "chdir");
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    pg_server_check(waitpid(pid, &status, 0) == pid && status == 0, command);
}

static inline void pg_server_program(const char *name, char out[200])
{
    glob_t found;

    snprintf(out, 200, "/usr/lib/postgresql/*/bin/%s", name);
    pg_server_check(glob(out, 0, NULL, &found) == 0, "to find PostgreSQL");
    snprintf(out, 200, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
}

static inline void pg_server_find_port(struct pg_server *s)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pg_server_check(bind(fd, (struct sockaddr *)&a, n) == 0 &&
                        getsockname(fd, (struct sockaddr *)&a, &n) == 0,
                    "to find a port");
    close(fd);
    snprintf(s->port, sizeof s->port, "%u", ntohs(a.sin_port));
}

static inline PGconn *pg_server_try(const struct pg_server *s, const char *database)
{
    const char *keys[] = { "host", "port", "user", "dbname", NULL };
    const char *values[] = { s->dir, s->port, "postgres", database, NULL };

    return PQconnectdbParams(keys, values, 0);
}

static inline void pg_server_ignore(void *arg, const char *notice)
{
    (void)arg;
    (void)notice;
}

/* A superuser's connection. */
static inline PGconn *pg_server_connect(const struct pg_server *s, const char *database)
{
    PGconn *c = pg_server_try(s, database);

    if (PQstatus(c) != CONNECTION_OK)
        fprintf(stderr, "%s\n", PQerrorMessage(c));
    pg_server_check(PQstatus(c) == CONNECTION_OK, "to connect");
    PQsetErrorVerbosity(c, PQERRORS_TERSE);
    PQsetNoticeProcessor(c, pg_server_ignore, NULL);
    return c;
}

/* The number in the first field of the result, 0 if there is none. */
static inline long long pg_server_ask(PGconn *c, const char *sql)
{
    PGresult *r = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    long long n = 0;

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fprintf(stderr, "%s: %s", sql, PQerrorMessage(c));
    pg_server_check(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "a statement");
    if (status == PGRES_TUPLES_OK && PQntuples(r) > 0)
        n = atoll(PQgetvalue(r, 0, 0));
    PQclear(r);
    return n;
}

/* fsync stays on. */
static inline void pg_server_start(struct pg_server *s)
{
    char program[200], data[80];
    PGconn *c;
    bool up = false;

    pg_server_program("postgres", program);
    snprintf(data, sizeof data, "%s/data", s->dir);
    s->pid = fork();
    if (s->pid == 0) {
        pg_server_become_postgres();
        prctl(PR_SET_PDEATHSIG, SIGQUIT);
        pg_server_check(chdir(s->dir) == 0 && freopen("log", "a", stderr) &&
                            freopen("log", "a", stdout),
                        "the log");
        execl(program, "postgres", "-D", data, "-k", s->dir, "-p", s->port, "-c",
              "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", "ssl_cert_file=../cert.pem", "-c",
              "ssl_key_file=../key.pem", "-c", "max_connections=60", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 200 && !up; i++) {
        usleep(50000);
        c = pg_server_try(s, "postgres");
        up = PQstatus(c) == CONNECTION_OK;
        PQfinish(c);
    }
    pg_server_check(up, "the start of PostgreSQL");
}

static inline void pg_server_stop(struct pg_server *s, int with)
{
    kill(s->pid, with);
    waitpid(s->pid, NULL, 0);
}

/* A cluster with the user weir, whose password is "secret word", and the database weir. */
static inline void pg_server_make(struct pg_server *s)
{
    struct passwd *user = getpwnam("postgres");
    char program[200], command[1000];
    PGconn *c;

    snprintf(s->dir, sizeof s->dir, PG_SERVER_PARENT "/weir-pg-XXXXXX");
    pg_server_check(mkdtemp(s->dir) != NULL, "mkdtemp");
    if (geteuid() == 0)
        pg_server_check(chown(s->dir, user->pw_uid, user->pw_gid) == 0, "chown");
    pg_server_check(chmod(s->dir, 0755) == 0, "chmod");
    pg_server_find_port(s);
    pg_server_program("initdb", program);
    snprintf(command, sizeof command,
             "%s -N -U postgres --auth=trust -E UTF8 --locale=C -D data >out 2>&1 &&"
             " printf 'local all all trust\\nhost all all 127.0.0.1/32 scram-sha-256\\n'"
             " >data/pg_hba.conf &&"
             " openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
             " -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem"
             " -out cert.pem >>out 2>&1 && chmod 600 key.pem && chmod 644 cert.pem",
             program);
    pg_server_run(s, command);
    pg_server_start(s);
    c = pg_server_connect(s, "postgres");
    pg_server_ask(c, "CREATE ROLE weir LOGIN PASSWORD 'secret word'");
    pg_server_ask(c, "CREATE DATABASE weir OWNER weir");
    PQfinish(c);
}

static inline void pg_server_remove(struct pg_server *s)
{
    char command[100];

    pg_server_stop(s, SIGQUIT);
    snprintf(command, sizeof command, "rm -rf %s", s->dir);
    pg_server_check(system(command) == 0, command);
}

#endif
