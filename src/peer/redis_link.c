/*
 * See redis_link.h. A command waits until the end of the turn, or until the connection is made;
 * then it is in flight, in the order of its bytes, until its reply or the end of the connection.
 * Each write is a batch with a deadline of its own for the last of its replies. What fails is
 * told at the end of the turn, so that no callback comes unexpected. A second AUTH is a command of
 * the link's own, between those of others, in bytes that are wiped. Owns the connection.
 */
#include "base/log.h"
#include "base/mem.h"
#include "peer/redis_conn.h"
#include "peer/redis_format.h"
#include "peer/redis_greeting.h"
#include "peer/redis_login.h"
#include "peer/redis_replies.h"
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#define OUT_MAX_BYTES ((size_t)64 << 20)
#define OUT_KEPT_BYTES ((size_t)1 << 20) /* a buffer that has grown larger is not kept */
#define READ_BYTES 16384
#define READS_MAX 16 /* of an event, so that others have their turn */
#define LAST_READS_MAX 1024

TAILQ_HEAD(redis_cmds, redis_cmd);
TAILQ_HEAD(batches, batch);

/* Commands that left in one write. */
struct batch {
    TAILQ_ENTRY(batch) link;
    struct redis_link *owner;
    struct deadline deadline; /* once all of it has left */
    unsigned count;           /* not answered yet */
};

enum state {
    CLOSED,
    LOOKING_UP, /* closed: AUTH was refused, and there may be another value soon */
    OPENING,
    GREETING,
    READY
};

struct redis_link {
    struct redis_conn conn;
    enum state state;
    bool blocked;   /* the socket takes no more; what is in flight has not all left */
    bool heard;     /* a reply came on this connection */
    bool dead;      /* freed at the end of the turn */
    unsigned epoch; /* of the connection: counts its ends */
    enum redis_link_kind kind;
    struct loop *loop;
    const struct redis_settings *settings;
    char *name; /* "host:port" */

    struct redis_cmds waiting; /* their bytes are in out, at its end, and none has left */
    struct redis_cmds flying;
    struct redis_cmds failing, telling; /* with failure; what is being told now */
    struct redis_cmds refused;          /* there was no room for them */
    unsigned waiting_count;
    struct batches batches; /* of flying */
    struct err failure;

    struct buf out, hello; /* hello: the greeting, or AUTH, with secrets; leaves before out */
    size_t sent_bytes;     /* of hello while there is one, else of out */
    struct redis_greeting greeting;
    struct batch greeting_batch;
    struct redis_login login;
    bool outdated;           /* AUTH is to be sent again */
    bool asked;              /* for a look-up, for the sake of what waits */
    struct err refusal;      /* of AUTH, before that */
    struct deadline another; /* from a refusal until the next greeting is answered */
    struct deadline_queue anothers;
    struct redis_cmd auth; /* in flying if auth_flies */
    bool auth_flies;
    struct redis_replies replies;
    struct deadline_queue reads, sends;
    struct deadline send_deadline;
    struct deferred flush, tell;
    struct dying dying;
    uint64_t writes;
    void (*on_push)(void *arg, const struct redisReply *reply);
    void *push_arg;
};

/* ---- the end of a connection ---- */

static void drop_batches(struct redis_link *l)
{
    struct batch *b;

    while ((b = TAILQ_FIRST(&l->batches))) {
        TAILQ_REMOVE(&l->batches, b, link);
        deadline_clear(&l->reads, &b->deadline);
        free(b);
    }
}

/* The AUTH of a connection that is logged in: nobody waits for its answer. */
static void drop_auth(struct redis_link *l)
{
    if (l->auth_flies)
        TAILQ_REMOVE(&l->flying, &l->auth, link);
    l->auth_flies = l->outdated = false;
}

static void close_connection(struct redis_link *l)
{
    redis_conn_close(&l->conn);
    drop_auth(l);
    l->state = CLOSED;
    l->blocked = false;
    l->epoch++;
    l->sent_bytes = 0;
    buf_wipe(&l->hello);
    drop_batches(l);
    deadline_clear(&l->reads, &l->greeting_batch.deadline);
    deadline_clear(&l->sends, &l->send_deadline);
}

static void reset_out(struct redis_link *l)
{
    l->out.n = l->sent_bytes = 0;
    if (l->out.cap_bytes > OUT_KEPT_BYTES)
        buf_free(&l->out);
}

static void tell_refused(struct redis_link *l)
{
    struct redis_cmd *cmd;

    while ((cmd = TAILQ_FIRST(&l->refused))) {
        TAILQ_REMOVE(&l->refused, cmd, link);
        cmd->done(cmd, ERR_BOUND, NULL, "too much waits to be sent to Redis");
    }
}

/* Whatever begins to fail meanwhile is told in a call of its own. */
static void on_tell(struct deferred *d)
{
    struct redis_link *l = CONTAINER_OF(d, struct redis_link, tell);
    struct err e = l->failure;
    struct redis_cmd *cmd;

    TAILQ_CONCAT(&l->telling, &l->failing, link);
    while ((cmd = TAILQ_FIRST(&l->telling))) {
        TAILQ_REMOVE(&l->telling, cmd, link);
        cmd->done(cmd, e.code, NULL, e.text);
    }
    tell_refused(l);
}

/* Everything that waits or is in flight fails. */
static void fail_all(struct redis_link *l, const struct err *e)
{
    close_connection(l);
    deadline_clear(&l->anothers, &l->another);
    redis_login_forget(&l->login);
    reset_out(l);
    TAILQ_CONCAT(&l->failing, &l->flying, link);
    TAILQ_CONCAT(&l->failing, &l->waiting, link);
    l->waiting_count = 0;
    if (TAILQ_EMPTY(&l->failing))
        return;
    l->failure = *e;
    loop_defer(l->loop, &l->tell, on_tell);
}

static void break_off(struct redis_link *l, int code, const char *words)
{
    struct err e;

    err_set(&e, code, "%s: %s", l->name, words);
    fail_all(l, &e);
}

/* ---- out ---- */

static void flush(struct redis_link *l);
static void receive(struct redis_link *l, int reads_max);

static void on_flush(struct deferred *d)
{
    flush(CONTAINER_OF(d, struct redis_link, flush));
}

/* The connection ended. What was not sent yet goes to the next one, if no reply is missing. */
static void lose(struct redis_link *l, int code, const char *words)
{
    bool is_idle;

    drop_auth(l);
    is_idle = TAILQ_EMPTY(&l->flying) && TAILQ_EMPTY(&l->waiting);
    if (l->state != READY || l->blocked || !TAILQ_EMPTY(&l->flying)) {
        break_off(l, code, words);
    } else {
        close_connection(l);
        if (l->waiting_count)
            loop_defer(l->loop, &l->flush, on_flush);
    }
    if (is_idle && l->on_push)
        l->on_push(l->push_arg, NULL);
}

static void add_batch(struct redis_link *l, unsigned count)
{
    struct batch *b = xcalloc(1, sizeof *b);

    b->owner = l;
    b->count = count;
    TAILQ_INSERT_TAIL(&l->batches, b, link);
}

static void put_in_flight(struct redis_link *l)
{
    if (!l->waiting_count)
        return;
    add_batch(l, l->waiting_count);
    TAILQ_CONCAT(&l->flying, &l->waiting, link);
    l->waiting_count = 0;
}

static bool wants_auth(const struct redis_link *l)
{
    return l->outdated && !l->auth_flies;
}

static void on_logged_in_again(struct redis_cmd *cmd, int code, const struct redisReply *reply,
                               const char *reason)
{
    struct redis_link *l = CONTAINER_OF(cmd, struct redis_link, auth);
    char text[200];

    (void)code;
    (void)reason;
    l->auth_flies = false;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_error_text(reply, text, sizeof text);
        /* before version 6, where nothing needs to be done */
        if (!str_starts(str_from(text), STR("ERR wrong number of arguments")))
            log_warn("redis %s: it refuses the new value of %s: %s; the connection stays logged in "
                     "as it was",
                     l->name, secret_name(l->login.password), text);
    }
    if (wants_auth(l))
        loop_defer(l->loop, &l->flush, on_flush);
}

/* All commands before it have left whole, and none of those behind it has. */
static void log_in_again(struct redis_link *l)
{
    struct err e;

    if (!wants_auth(l))
        return;
    l->outdated = false;
    if (redis_login_check(&l->login, &e) != 0) /* it has outlived its time already */
        return;
    redis_login_put(&l->login, &l->hello, true);
    l->auth.done = on_logged_in_again;
    l->auth_flies = true;
    add_batch(l, 1);
    TAILQ_INSERT_TAIL(&l->flying, &l->auth, link);
}

static void on_all_left(struct redis_link *l)
{
    struct batch *b;

    if (l->blocked) {
        l->blocked = false;
        redis_conn_want_write(&l->conn, false);
        deadline_clear(&l->sends, &l->send_deadline);
    }
    if (l->state == GREETING) {
        deadline_set(&l->reads, &l->greeting_batch.deadline);
        return;
    }
    reset_out(l);
    if (wants_auth(l))
        loop_defer(l->loop, &l->flush, on_flush);
    TAILQ_FOREACH_REVERSE(b, &l->batches, batches, link)
    {
        if (b->deadline.queued)
            break;
        deadline_set(&l->reads, &b->deadline);
    }
}

/* While the socket takes less than comes, what has left must not count as waiting for ever. */
static void drop_sent(struct redis_link *l)
{
    if (l->state != READY || l->hello.n || l->sent_bytes < l->out.n / 2)
        return;
    buf_drop(&l->out, l->sent_bytes);
    l->sent_bytes = 0;
}

static void on_write_error(struct redis_link *l, int error)
{
    unsigned epoch = l->epoch;
    struct err e;

    if (error == EAGAIN || error == EWOULDBLOCK) {
        drop_sent(l);
        l->blocked = true;
        redis_conn_want_write(&l->conn, true);
        deadline_set(&l->sends, &l->send_deadline);
        return;
    }
    err_set(&e, ERR_CLOSED, "%s", redis_conn_words(&l->conn, error));
    receive(l, LAST_READS_MAX); /* it may have said why */
    if (epoch == l->epoch)
        lose(l, e.code, e.text);
}

/* False: not all of it can leave now. */
static bool write_buf(struct redis_link *l, struct buf *b)
{
    while (l->sent_bytes < b->n) {
        ssize_t n = redis_conn_write(&l->conn, b->p + l->sent_bytes, b->n - l->sent_bytes);

        if (n < 0) {
            on_write_error(l, errno);
            return false;
        }
        l->sent_bytes += (size_t)n;
        l->writes += b == &l->out;
    }
    return true;
}

static void write_out(struct redis_link *l)
{
    if (l->hello.n) {
        if (!write_buf(l, &l->hello))
            return;
        l->sent_bytes = 0;
        buf_wipe(&l->hello);
    }
    if (l->state == GREETING || write_buf(l, &l->out))
        on_all_left(l);
}

static void open_connection(struct redis_link *l)
{
    struct err e;

    if (redis_login_check(&l->login, &e) != 0) {
        break_off(l, e.code, e.text);
        return;
    }
    l->state = OPENING;
    l->heard = false;
    redis_replies_reset(&l->replies);
    redis_conn_open(&l->conn);
}

static void flush(struct redis_link *l)
{
    if (l->blocked || (!l->waiting_count && !wants_auth(l)))
        return;
    if (l->state == CLOSED) {
        l->asked = false;
        open_connection(l);
    } else if (l->state == READY) {
        log_in_again(l);
        put_in_flight(l);
        write_out(l);
    }
}

/* ---- logging in ---- */

/* Another value of what the server does not know; once for what waits. False: there is none. */
static bool try_another(struct redis_link *l, const struct err *refusal)
{
    bool known = redis_login_is_outdated(&l->login);

    if (l->asked || (!known && !redis_login_ask(&l->login)))
        return false;
    l->asked = true;
    l->refusal = *refusal;
    close_connection(l);
    deadline_set(&l->anothers, &l->another);
    l->state = LOOKING_UP;
    if (known)
        open_connection(l);
    return true;
}

static void on_told(struct redis_login *login)
{
    struct redis_link *l = CONTAINER_OF(login, struct redis_link, login);
    struct err e = l->refusal;
    char why[300];

    if (redis_login_is_outdated(login)) {
        open_connection(l);
        return;
    }
    redis_login_why(login, why, sizeof why);
    err_set(&e, ERR_CONFIG, "%s%s", l->refusal.text, why);
    break_off(l, e.code, e.text);
}

static void on_another_expired(struct deadline *d)
{
    struct redis_link *l = CONTAINER_OF(d, struct redis_link, another);
    struct err e;

    err_set(&e, ERR_TIMEOUT, "%s; it takes too long to try another value", l->refusal.text);
    break_off(l, e.code, e.text);
}

/* A subscription takes no AUTH; what it was let in for stays good. */
static void on_changed(struct redis_login *login)
{
    struct redis_link *l = CONTAINER_OF(login, struct redis_link, login);

    if (l->state != READY || l->on_push)
        return;
    l->outdated = true;
    loop_defer(l->loop, &l->flush, on_flush);
}

static void take_greeting(struct redis_link *l, const struct redisReply *reply)
{
    struct err e;

    if (redis_greeting_take(&l->greeting, reply, &e) != 0) {
        if (!l->greeting.refused || !try_another(l, &e))
            break_off(l, e.code, e.text);
        return;
    }
    if (l->greeting.done < l->greeting.count)
        return;
    deadline_clear(&l->reads, &l->greeting_batch.deadline);
    deadline_clear(&l->anothers, &l->another);
    l->state = READY;
    if (redis_login_is_outdated(&l->login))
        on_changed(&l->login);
    loop_defer(l->loop, &l->flush, on_flush);
}

/* ---- in ---- */

/* A message of a subscription; these come between the replies to commands. */
static bool is_message(const struct redisReply *reply)
{
    struct str kind;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return false;
    kind = (struct str){ reply->element[0]->str, reply->element[0]->len };
    return str_eq(kind, STR("message")) || str_eq(kind, STR("pmessage"));
}

static void answer_first(struct redis_link *l, const struct redisReply *reply)
{
    struct redis_cmd *cmd = TAILQ_FIRST(&l->flying);
    struct batch *b = TAILQ_FIRST(&l->batches);

    TAILQ_REMOVE(&l->flying, cmd, link);
    if (--b->count == 0) {
        TAILQ_REMOVE(&l->batches, b, link);
        deadline_clear(&l->reads, &b->deadline);
        free(b);
    }
    cmd->done(cmd, 0, reply, NULL);
}

/* An error that answers nothing: the server sends it to whom it does not serve. */
static bool is_refusal(const struct redis_link *l, const struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR)
        return false;
    return (!l->heard && redis_refuses_clients(reply)) ||
           (l->state == READY && TAILQ_EMPTY(&l->flying));
}

static void take_reply(struct redis_link *l, const struct redisReply *reply)
{
    bool refused = is_refusal(l, reply);
    char text[200];

    l->heard = true;
    if (refused) {
        redis_error_text(reply, text, sizeof text);
        lose(l, ERR_CLOSED, text);
    } else if (l->state == GREETING) {
        take_greeting(l, reply);
    } else if (l->on_push && (TAILQ_EMPTY(&l->flying) || is_message(reply))) {
        l->on_push(l->push_arg, reply);
    } else if (TAILQ_EMPTY(&l->flying)) {
        lose(l, ERR_SYNTAX, "a reply that nobody asked for");
    } else {
        answer_first(l, reply);
    }
}

/* False if the connection is not there any more. */
static bool take_bytes(struct redis_link *l, const char *p, size_t n)
{
    const struct redisReply *reply;
    unsigned epoch = l->epoch;
    struct err e;
    int rc;

    redis_replies_feed(&l->replies, p, n);
    while ((rc = redis_replies_next(&l->replies, &reply, &e)) > 0) {
        take_reply(l, reply);
        if (l->epoch != epoch)
            return false;
    }
    if (rc < 0)
        lose(l, e.code, e.text);
    return rc == 0;
}

static void on_nothing_read(struct redis_link *l, ssize_t n, int error)
{
    if (n == 0)
        lose(l, ERR_CLOSED, "the server has closed the connection");
    else if (error != EAGAIN && error != EWOULDBLOCK)
        lose(l, ERR_CLOSED, redis_conn_words(&l->conn, error));
}

/* With READS_MAX, less than was asked for means that there is no more now. */
static void receive(struct redis_link *l, int reads_max)
{
    char bytes[READ_BYTES];

    for (int reads = 0; reads < reads_max; reads++) {
        ssize_t n = redis_conn_read(&l->conn, bytes, sizeof bytes);

        if (n <= 0) {
            on_nothing_read(l, n, errno);
            return;
        }
        if (!take_bytes(l, bytes, (size_t)n))
            return;
        if (reads_max == READS_MAX && n < (ssize_t)sizeof bytes && !redis_conn_has_more(&l->conn))
            return;
    }
    redis_conn_read_later(&l->conn);
}

/* ---- events ---- */

static void on_open(struct redis_conn *c)
{
    struct redis_link *l = CONTAINER_OF(c, struct redis_link, conn);
    struct err e;

    if (redis_login_check(&l->login, &e) != 0) { /* a value may have outlived its time meanwhile */
        break_off(l, e.code, e.text);
        return;
    }
    redis_greeting_put(&l->greeting, &l->hello, &l->login,
                       l->kind == REDIS_LINK_DATA ? l->settings->database : 0);
    if (l->greeting.count) {
        l->state = GREETING;
        write_out(l);
    } else {
        l->state = READY;
        flush(l);
    }
}

static void on_open_failed(struct redis_conn *c, const struct err *e)
{
    break_off(CONTAINER_OF(c, struct redis_link, conn), e->code, e->text);
}

static void on_readable(struct redis_conn *c)
{
    receive(CONTAINER_OF(c, struct redis_link, conn), READS_MAX);
}

static void on_writable(struct redis_conn *c)
{
    struct redis_link *l = CONTAINER_OF(c, struct redis_link, conn);

    if (l->state == READY)
        put_in_flight(l); /* it leaves with the rest */
    write_out(l);
}

static const struct redis_conn_events CONN_EVENTS = {
    .on_open = on_open,
    .on_failed = on_open_failed,
    .on_readable = on_readable,
    .on_writable = on_writable,
};

static void on_read_expired(struct deadline *d)
{
    break_off(CONTAINER_OF(d, struct batch, deadline)->owner, ERR_TIMEOUT,
              "it does not answer in time");
}

static void on_send_expired(struct deadline *d)
{
    break_off(CONTAINER_OF(d, struct redis_link, send_deadline), ERR_TIMEOUT,
              "it does not read in time");
}

/* ---- the face ---- */

static char *make_name(const struct redis_node *node)
{
    size_t n = strlen(node->host) + 16;
    char *name = xmalloc(n);

    if (str_starts(str_from(node->host), STR("unix:")))
        snprintf(name, n, "%s", node->host);
    else
        snprintf(name, n, strchr(node->host, ':') ? "[%s]:%u" : "%s:%u", node->host, node->port);
    return name;
}

struct redis_link *redis_link_new(struct loop *loop, struct resolver *resolver,
                                  const struct redis_settings *settings,
                                  const struct redis_node *node, enum redis_link_kind kind)
{
    struct redis_link *l = xcalloc(1, sizeof *l);

    l->loop = loop;
    l->settings = settings;
    l->kind = kind;
    l->name = make_name(node);
    l->out.max_bytes = OUT_MAX_BYTES;
    l->greeting_batch.owner = l;
    l->conn.on = &CONN_EVENTS;
    l->conn.resolver = resolver;
    l->conn.settings = settings;
    l->conn.node = node;
    TAILQ_INIT(&l->waiting);
    TAILQ_INIT(&l->flying);
    TAILQ_INIT(&l->failing);
    TAILQ_INIT(&l->telling);
    TAILQ_INIT(&l->refused);
    TAILQ_INIT(&l->batches);
    redis_replies_init(&l->replies);
    deadline_queue_init(&l->reads, loop, settings->read_ms, on_read_expired);
    deadline_queue_init(&l->sends, loop, settings->send_ms, on_send_expired);
    deadline_queue_init(&l->anothers, loop, settings->connect_ms, on_another_expired);
    redis_conn_init(&l->conn, loop);
    l->login.on_changed = on_changed;
    l->login.on_told = on_told;
    redis_login_init(&l->login, settings, kind);
    return l;
}

static void reap(struct dying *d)
{
    struct redis_link *l = CONTAINER_OF(d, struct redis_link, dying);

    redis_conn_fini(&l->conn);
    deadline_queue_fini(&l->reads);
    deadline_queue_fini(&l->sends);
    deadline_queue_fini(&l->anothers);
    redis_replies_fini(&l->replies);
    free(l->name);
    free(l);
}

void redis_link_free(struct redis_link *l)
{
    struct redis_cmds all = TAILQ_HEAD_INITIALIZER(all);
    struct redis_cmd *cmd;

    must(!l->dead);
    l->dead = true;
    l->on_push = NULL;
    close_connection(l);
    deadline_clear(&l->anothers, &l->another);
    redis_login_fini(&l->login);
    buf_free(&l->out);
    loop_undefer(l->loop, &l->flush);
    loop_undefer(l->loop, &l->tell);
    TAILQ_CONCAT(&all, &l->telling, link);
    TAILQ_CONCAT(&all, &l->failing, link);
    TAILQ_CONCAT(&all, &l->flying, link);
    TAILQ_CONCAT(&all, &l->waiting, link);
    TAILQ_CONCAT(&all, &l->refused, link);
    while ((cmd = TAILQ_FIRST(&all))) {
        TAILQ_REMOVE(&all, cmd, link);
        cmd->done(cmd, ERR_CANCELLED, NULL, "the connection is not needed any more");
    }
    loop_bury(l->loop, &l->dying, reap);
}

void redis_link_send(struct redis_link *l, struct redis_cmd *cmd, int argc, const char *const *argv,
                     const size_t *lens)
{
    must(!l->dead);
    if (redis_format(&l->out, argc, argv, lens) != 0) {
        TAILQ_INSERT_TAIL(&l->refused, cmd, link);
        loop_defer(l->loop, &l->tell, on_tell);
        return;
    }
    TAILQ_INSERT_TAIL(&l->waiting, cmd, link);
    l->waiting_count++;
    loop_defer(l->loop, &l->flush, on_flush);
}

void redis_link_reset(struct redis_link *l, int code, const char *reason)
{
    struct err e;

    err_set(&e, code, "%s", reason);
    fail_all(l, &e);
}

uint64_t redis_link_write_count(const struct redis_link *l)
{
    return l->writes;
}

void redis_link_on_push(struct redis_link *l,
                        void (*on_push)(void *arg, const struct redisReply *reply), void *arg)
{
    l->on_push = on_push;
    l->push_arg = arg;
}
