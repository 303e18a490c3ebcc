/*
 * See pg.h. Owns the queue: queries wait until the session is set up, fly in
 * order, and each is followed by a sync of its own, so that one that fails
 * leaves its neighbours alone. Nothing is asked twice: whether a query that
 * got no answer was carried out, only who asked can judge.
 */
#include "peer/pg.h"
#include "base/mem.h"
#include "base/secret.h"
#include "peer/pg_dial.h"
#include "peer/pg_params.h"
#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENTS_MAX 16 /* that are prepared on one connection */
#define REASON_BYTES 300
#define LONG_REASON_BYTES (3 * REASON_BYTES) /* with what came of a look-up */
#define LISTEN_AGAIN_MIN_MS 500
#define LISTEN_AGAIN_MAX_MS 30000

TAILQ_HEAD(pg_queries, pg_query);

enum state {
    CLOSED,
    CONNECTING,
    LOOKING_UP, /* the password was refused, and there may be another one soon */
    TOLD,       /* there are news of it */
    SETTING_UP,
    READY
};

struct pg {
    struct loop *loop;
    const struct pg_settings *settings;
    const struct pg_check *check;
    enum state state;
    struct pg_dial dial;
    bool asked;                 /* for a look-up, for the sake of what waits */
    struct secret_watch news;   /* while it is LOOKING_UP */
    char refusal[REASON_BYTES]; /* before that */
    PGconn *conn;
    struct event *readable, *writable;
    struct pg_queries waiting, flying, failing;
    struct deadline_queue deadlines, set_up_deadlines;
    struct deadline set_up; /* from the start of a connection until it is ready */
    struct deferred pump;
    struct dying dying;
    bool freed;

    const struct pg_statement *prepared[STATEMENTS_MAX];
    unsigned prepared_count;

    /* what each session begins with */
    struct pg_session session;
    struct pg_statement check_statement, listen_statement;
    struct pg_query session_query, check_query, listen_query;

    const char *channel; /* NULL: does not listen */
    void (*on_notify)(void *arg, const char *payload);
    void *notify_arg;
    struct event *listen_again;
    int64_t again_ms;
    char listen_sql[200];

    uint64_t writes;
};

static const struct pg_statement SESSION = { NULL, PG_SESSION_SQL, 3 };

static void pump_soon(struct pg *pg);

/* ---- the end of queries and connections ---- */

static bool is_own(const struct pg *pg, const struct pg_query *q)
{
    return q == &pg->session_query || q == &pg->check_query || q == &pg->listen_query;
}

static void finish(struct pg *pg, struct pg_queries *from, struct pg_query *q, int code,
                   const char *reason)
{
    PGresult *result = q->result;

    TAILQ_REMOVE(from, q, link);
    deadline_clear(&pg->deadlines, &q->deadline);
    q->result = NULL;
    if (code != 0 && code != ERR_SYSTEM) {
        PQclear(result);
        result = NULL;
    }
    q->done(q, code, result, reason);
    PQclear(result);
}

static void close_connection(struct pg *pg)
{
    pg_dial_stop(&pg->dial);
    secret_unwatch(&pg->news);
    if (pg->readable) {
        event_free(pg->readable);
        event_free(pg->writable);
        pg->readable = pg->writable = NULL;
    }
    if (pg->conn)
        PQfinish(pg->conn);
    pg->conn = NULL;
    pg->prepared_count = 0;
    pg->state = CLOSED;
    deadline_clear(&pg->set_up_deadlines, &pg->set_up);
}

static void listen_later(struct pg *pg)
{
    struct timeval tv = { .tv_sec = pg->again_ms / 1000, .tv_usec = pg->again_ms % 1000 * 1000 };

    if (!pg->channel || pg->freed)
        return;
    event_add(pg->listen_again, &tv);
    pg->again_ms = pg->again_ms * 2 < LISTEN_AGAIN_MAX_MS ? pg->again_ms * 2 : LISTEN_AGAIN_MAX_MS;
}

/* They fly first, if at all. */
static void drop_own(struct pg *pg)
{
    struct pg_query *q;

    while ((q = TAILQ_FIRST(&pg->flying)) && is_own(pg, q)) {
        TAILQ_REMOVE(&pg->flying, q, link);
        PQclear(q->result);
        q->result = NULL;
    }
}

/* The connection is gone, whatever the reason; reason may lie in it. */
static void lose(struct pg *pg, int code, const char *reason)
{
    char copy[LONG_REASON_BYTES];
    struct pg_query *q;

    snprintf(copy, sizeof copy, "%s", reason);
    close_connection(pg);
    drop_own(pg);
    TAILQ_CONCAT(&pg->failing, &pg->flying, link);
    TAILQ_CONCAT(&pg->failing, &pg->waiting, link);
    listen_later(pg);
    while (!pg->freed && (q = TAILQ_FIRST(&pg->failing)))
        finish(pg, &pg->failing, q, code, copy);
}

/* libpq has given the connection up: with what the server said, if it did. */
static void lose_as_libpq_says(struct pg *pg)
{
    const struct pg_query *head = TAILQ_FIRST(&pg->flying);
    const char *said = head && head->result ? PQresultErrorMessage(head->result) : "";
    char reason[REASON_BYTES];

    pg_one_line(*said ? said : PQerrorMessage(pg->conn), reason, sizeof reason);
    lose(pg, ERR_CLOSED, *reason ? reason : "the server closed the connection");
}

static void give_up(struct pg *pg)
{
    char reason[LONG_REASON_BYTES];

    if (pg->asked)
        snprintf(reason, sizeof reason, "%s; it takes too long to try another value", pg->refusal);
    else
        snprintf(reason, sizeof reason, "it does not take the connection in time");
    lose(pg, ERR_TIMEOUT, reason);
}

static void on_expired(struct deadline *d)
{
    struct pg *pg = CONTAINER_OF(d, struct pg_query, deadline)->pg;

    if (pg->state == READY)
        lose(pg, ERR_TIMEOUT, "it does not answer in time");
    else
        give_up(pg);
}

static void on_set_up_expired(struct deadline *d)
{
    give_up(CONTAINER_OF(d, struct pg, set_up));
}

/* ---- what comes ---- */

static void forget_prepared(struct pg *pg, const struct pg_statement *s)
{
    for (unsigned i = 0; i < pg->prepared_count; i++)
        if (pg->prepared[i] == s)
            pg->prepared[i--] = pg->prepared[--pg->prepared_count];
}

static bool is_error(const PGresult *r)
{
    ExecStatusType status = PQresultStatus(r);

    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
}

/* The first failure of a query is what has come of it, else its last result. */
static void keep_result(struct pg *pg, struct pg_query *q, PGresult *r)
{
    if (q->preparing) {
        q->preparing = false;
        if (is_error(r))
            forget_prepared(pg, q->statement);
    }
    if (q->result && is_error(q->result)) {
        PQclear(r);
        return;
    }
    PQclear(q->result);
    q->result = r;
}

static void answer(struct pg *pg, struct pg_query *q)
{
    char reason[REASON_BYTES];

    if (q->result && !is_error(q->result)) {
        finish(pg, &pg->flying, q, 0, NULL);
        return;
    }
    pg_one_line(q->result ? PQresultErrorMessage(q->result) : "", reason, sizeof reason);
    finish(pg, &pg->flying, q, ERR_SYSTEM, *reason ? reason : "an answer without a result");
}

static void take_notifications(struct pg *pg)
{
    PGnotify *n;

    while (!pg->freed && pg->conn && (n = PQnotifies(pg->conn))) {
        if (pg->on_notify)
            pg->on_notify(pg->notify_arg, n->extra);
        PQfreemem(n);
    }
}

/* Each statement's result, then NULL; after the query's last one the sync that is its own. */
static void take_results(struct pg *pg)
{
    struct pg_query *head;
    PGresult *r;
    unsigned nulls = 0; /* one after the other: libpq has nothing in flight */

    while (!pg->freed && pg->conn && (head = TAILQ_FIRST(&pg->flying)) && nulls < 2 &&
           !PQisBusy(pg->conn)) {
        r = PQgetResult(pg->conn);
        nulls = r ? 0 : nulls + 1;
        if (r && PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
            PQclear(r);
            answer(pg, head);
        } else if (r) {
            keep_result(pg, head, r);
        }
    }
}

static void flush(struct pg *pg)
{
    int left = PQflush(pg->conn);

    if (left == 1)
        event_add(pg->writable, NULL);
    else if (left < 0)
        lose_as_libpq_says(pg);
}

/* What OpenSSL holds already makes no socket readable again. */
static bool is_pending(PGconn *conn)
{
    SSL *ssl = PQsslStruct(conn, "OpenSSL");

    return ssl && SSL_pending(ssl) > 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pg *pg = arg;
    bool good;

    do
        good = PQconsumeInput(pg->conn);
    while (good && is_pending(pg->conn));
    (void)fd;
    (void)what;
    take_results(pg);
    take_notifications(pg);
    if (pg->freed || !pg->conn)
        return;
    if (!good || PQstatus(pg->conn) == CONNECTION_BAD)
        lose_as_libpq_says(pg);
    else
        flush(pg); /* what stopped at a full socket may go on when something was read */
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
}

/* ---- what goes ---- */

static bool is_prepared(const struct pg *pg, const struct pg_statement *s)
{
    for (unsigned i = 0; i < pg->prepared_count; i++)
        if (pg->prepared[i] == s)
            return true;
    return false;
}

static bool send_prepared(struct pg *pg, struct pg_query *q)
{
    static const int BINARY[PG_PARAMS_MAX] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    const struct pg_statement *s = q->statement;

    if (!is_prepared(pg, s)) {
        must(pg->prepared_count < STATEMENTS_MAX);
        if (!PQsendPrepare(pg->conn, s->name, s->sql, s->param_count, NULL))
            return false;
        pg->prepared[pg->prepared_count++] = s;
        q->preparing = true;
    }
    return PQsendQueryPrepared(pg->conn, s->name, s->param_count, q->params, q->lengths,
                               q->lengths ? BINARY : NULL, q->lengths != NULL);
}

static bool send_one(struct pg *pg, struct pg_query *q)
{
    const struct pg_statement *s = q->statement;

    TAILQ_INSERT_TAIL(&pg->flying, q, link);
    if (s->name
            ? !send_prepared(pg, q)
            : !PQsendQueryParams(pg->conn, s->sql, s->param_count, NULL, q->params, NULL, NULL, 0))
        return false;
    return PQpipelineSync(pg->conn);
}

/* ---- a new connection ---- */

static void on_set_up(struct pg *pg)
{
    pg->state = READY;
    deadline_clear(&pg->set_up_deadlines, &pg->set_up);
    if (pg->channel) {
        pg->again_ms = LISTEN_AGAIN_MIN_MS;
        pg->on_notify(pg->notify_arg, NULL);
    }
    if (!pg->freed)
        pump_soon(pg);
}

static void on_session(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct pg *pg = CONTAINER_OF(q, struct pg, session_query);

    (void)result;
    if (code != 0)
        lose(pg, ERR_CONFIG, reason);
    else if (!pg->check && !pg->channel)
        on_set_up(pg);
}

static void on_checked(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct pg *pg = CONTAINER_OF(q, struct pg, check_query);
    char why[REASON_BYTES];

    (void)code;
    snprintf(why, sizeof why, "%s", reason ? reason : "");
    if (!pg->check->judge(result, why, sizeof why))
        lose(pg, ERR_CONFIG, why);
    else if (!pg->channel)
        on_set_up(pg);
}

static void on_listening(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct pg *pg = CONTAINER_OF(q, struct pg, listen_query);

    (void)result;
    if (code != 0)
        lose(pg, ERR_CONFIG, reason);
    else
        on_set_up(pg);
}

static bool send_own(struct pg *pg, struct pg_query *q, const struct pg_statement *s,
                     void (*done)(struct pg_query *q, int code, const PGresult *result,
                                  const char *reason))
{
    q->statement = s;
    q->done = done;
    return send_one(pg, q);
}

static bool begin_session(struct pg *pg)
{
    pg_session_fill(&pg->session, pg->settings);
    pg->session_query.params = pg->session.params;
    return PQsetnonblocking(pg->conn, 1) == 0 && PQenterPipelineMode(pg->conn) &&
           send_own(pg, &pg->session_query, &SESSION, on_session) &&
           (!pg->check || send_own(pg, &pg->check_query, &pg->check_statement, on_checked)) &&
           (!pg->channel || send_own(pg, &pg->listen_query, &pg->listen_statement, on_listening));
}

/* What comes of the look-up is looked at in pump: these news come at any time. */
static void on_news(struct secret_watch *w, enum secret_news news)
{
    struct pg *pg = CONTAINER_OF(w, struct pg, news);

    (void)news;
    secret_unwatch(w);
    pg->state = TOLD;
    pump_soon(pg);
}

/* Another password than the one that the server has refused. False: there will be none. */
static bool try_another(struct pg *pg, const char *refusal)
{
    struct secret *password = pg->settings->password;

    if (!pg->dial.refused || !password || pg->asked)
        return false;
    pg->news.on_news = on_news;
    secret_watch(&pg->news, password);
    if (secret_version(password) != pg->dial.version) {
        on_news(&pg->news, SECRET_CHANGED);
    } else if (!secret_ask(password)) {
        secret_unwatch(&pg->news);
        return false;
    } else {
        pg->state = LOOKING_UP;
    }
    pg->asked = true;
    snprintf(pg->refusal, sizeof pg->refusal, "%s", refusal);
    return true;
}

static void go_on_after_look_up(struct pg *pg)
{
    const struct secret *password = pg->settings->password;
    char reason[LONG_REASON_BYTES];

    if (secret_version(password) != pg->dial.version) {
        pg->state = CONNECTING;
        pg_dial_start(&pg->dial);
        return;
    }
    if (*secret_why(password))
        snprintf(reason, sizeof reason, "%s; %s: %s", pg->refusal, secret_name(password),
                 secret_why(password));
    else
        snprintf(reason, sizeof reason, "%s; %s has no other value", pg->refusal,
                 secret_name(password));
    lose(pg, ERR_CLOSED, reason);
}

static void on_dialled(struct pg_dial *d, PGconn *conn, const char *reason)
{
    struct pg *pg = CONTAINER_OF(d, struct pg, dial);

    if (!conn) {
        if (!try_another(pg, reason))
            lose(pg, ERR_CLOSED, reason);
        return;
    }
    pg->conn = conn;
    pg->state = SETTING_UP;
    pg->readable =
        event_new(loop_base(pg->loop), PQsocket(conn), EV_READ | EV_PERSIST, on_readable, pg);
    pg->writable = event_new(loop_base(pg->loop), PQsocket(conn), EV_WRITE, on_writable, pg);
    must(pg->readable && pg->writable);
    event_add(pg->readable, NULL);
    if (begin_session(pg))
        flush(pg);
    else
        lose_as_libpq_says(pg);
}

static void connect_now(struct pg *pg)
{
    pg->state = CONNECTING;
    pg->asked = false;
    if (pg->channel)
        event_del(pg->listen_again);
    deadline_set(&pg->set_up_deadlines, &pg->set_up);
    pg_dial_start(&pg->dial);
}

static void send_waiting(struct pg *pg)
{
    struct pg_query *q;

    if (TAILQ_EMPTY(&pg->waiting))
        return;
    while ((q = TAILQ_FIRST(&pg->waiting))) {
        TAILQ_REMOVE(&pg->waiting, q, link);
        if (!send_one(pg, q)) {
            lose_as_libpq_says(pg);
            return;
        }
    }
    pg->writes++;
    flush(pg);
}

static void on_pump(struct deferred *d)
{
    struct pg *pg = CONTAINER_OF(d, struct pg, pump);

    if (pg->state == READY)
        send_waiting(pg);
    else if (pg->state == TOLD)
        go_on_after_look_up(pg);
    else if (pg->state == CLOSED && (pg->channel || !TAILQ_EMPTY(&pg->waiting)))
        connect_now(pg);
}

static void pump_soon(struct pg *pg)
{
    loop_defer(pg->loop, &pg->pump, on_pump);
}

/* ---- the face ---- */

struct pg *pg_new(struct loop *loop, struct resolver *resolver, const struct pg_settings *settings,
                  const struct pg_check *check)
{
    struct pg *pg = xcalloc(1, sizeof *pg);

    pg->loop = loop;
    pg->settings = settings;
    pg->check = check;
    if (check)
        pg->check_statement.sql = check->sql;
    pg->dial = (struct pg_dial){
        .loop = loop, .resolver = resolver, .settings = settings, .done = on_dialled
    };
    TAILQ_INIT(&pg->waiting);
    TAILQ_INIT(&pg->flying);
    TAILQ_INIT(&pg->failing);
    deadline_queue_init(&pg->deadlines, loop, settings->timeout_ms, on_expired);
    deadline_queue_init(&pg->set_up_deadlines, loop, settings->timeout_ms, on_set_up_expired);
    return pg;
}

static void reap(struct dying *d)
{
    free(CONTAINER_OF(d, struct pg, dying));
}

void pg_free(struct pg *pg)
{
    pg->freed = true;
    lose(pg, ERR_CANCELLED, "cancelled");
    for (struct pg_query *q; (q = TAILQ_FIRST(&pg->failing));)
        finish(pg, &pg->failing, q, ERR_CANCELLED, "cancelled");
    loop_undefer(pg->loop, &pg->pump);
    deadline_queue_fini(&pg->deadlines);
    deadline_queue_fini(&pg->set_up_deadlines);
    if (pg->listen_again)
        event_free(pg->listen_again);
    loop_bury(pg->loop, &pg->dying, reap);
}

void pg_send(struct pg *pg, struct pg_query *q)
{
    must(!pg->freed);
    q->pg = pg;
    q->result = NULL;
    q->preparing = false;
    TAILQ_INSERT_TAIL(&pg->waiting, q, link);
    deadline_set(&pg->deadlines, &q->deadline);
    pump_soon(pg);
}

void pg_reset(struct pg *pg, int code, const char *reason)
{
    lose(pg, code, reason);
}

static void on_listen_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pump_soon(arg);
}

void pg_listen(struct pg *pg, const char *channel,
               void (*on_notify)(void *arg, const char *payload), void *arg)
{
    must(!pg->channel && pg->state == CLOSED && strlen(channel) < 64 && !strchr(channel, '"'));
    pg->channel = channel;
    pg->on_notify = on_notify;
    pg->notify_arg = arg;
    pg->again_ms = LISTEN_AGAIN_MIN_MS;
    pg->listen_again = event_new(loop_base(pg->loop), -1, 0, on_listen_again, pg);
    must(pg->listen_again);
    snprintf(pg->listen_sql, sizeof pg->listen_sql, "LISTEN \"%s\"", channel);
    pg->listen_statement.sql = pg->listen_sql;
    pump_soon(pg);
}

uint64_t pg_write_count(const struct pg *pg)
{
    return pg->writes;
}
