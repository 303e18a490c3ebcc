/*
 * See fcgi_stream.h. Trouble is always told by a response with a status, never
 * by FCGI_END_REQUEST alone: lighttpd takes an authorizer's bare end for a yes.
 */
#include "srv/fcgi_stream.h"
#include "base/clock.h"
#include "base/log.h"
#include "lua/co.h"
#include "lua/exchange.h"
#include "lua/vm.h"
#include "req/req.h"
#include "shm/counter.h"
#include "shm/stats.h"
#include "srv/accesslog.h"
#include "srv/fcgi_conn.h"
#include "srv/fcgi_server.h"
#include "wire/cgi.h"
#include "wire/uri.h"
#include <stdio.h>

/* A front's two calls for one client request lie closer together than this. */
#define REPEAT_WINDOW_MS 10000

static const struct req_transport TRANSPORT;

static struct fcgi_stream *stream_of(struct req *req)
{
    return req->conn;
}

/* The stream's records end: its id is free for another request. */
static void detach(struct fcgi_stream *st)
{
    struct fcgi_conn *c = st->conn;

    deadline_clear(&c->server->request_deadlines, &st->deadline);
    LIST_REMOVE(st, link);
    c->stream_count--;
    if (!st->keep_conn && c->state == FCGI_CONN_OPEN)
        c->state = FCGI_CONN_LAST;
    if (!st->input_done && st->req->role == REQ_RESPONDER)
        c->input_owed = true;
    st->req->queued_bytes = NULL;
    st->conn = NULL;
    fcgi_conn_update(c);
}

/* ---- the response ---- */

/* {"message":"..."}; the message may name a parameter, and hold what JSON may not. */
static int make_body(char *body, size_t room, const char *message)
{
    int n = snprintf(body, room, "{\"message\":\"%.*s\"}", (int)room - 20, message);

    for (char *p = body + 12; p < body + n - 2; p++)
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
            *p = '?';
    return n;
}

/* A whole response of the server's own: status and a short JSON body. */
static void put_plain(struct fcgi_conn *c, unsigned id, unsigned status, const char *message,
                      unsigned protocol_status)
{
    struct buf *out = fcgi_conn_out(c);
    struct headers none = { 0 };
    char body[220];
    int n = make_body(body, sizeof body, message);
    size_t at;

    if (fcgi_open_record(out, FCGI_STDOUT, id, &at) < 0 || cgi_put_head(out, status, &none, n) < 0)
        return;
    /* the type stands before the empty line that ends the head */
    buf_drop_end(out, 2);
    if (buf_add(out, STR_BYTES("Content-Type: application/json; charset=utf-8\r\n\r\n")) < 0 ||
        buf_add(out, body, (size_t)n) < 0 || fcgi_close_record(out, at) < 0 ||
        fcgi_put_stream_end(out, FCGI_STDOUT, id) < 0 ||
        fcgi_put_end_request(out, id, 0, protocol_status) < 0)
        return;
    fcgi_conn_wrote(c);
}

/*
 * By what each web server makes of a yes. lighttpd sees nothing but variables,
 * and mod_authnz_fcgi, of the same style, keeps those to itself. mod_fcgid shows
 * all fields to the client, variables too, so that it gets none but the marker
 * that comes back in its second call. nginx reads the fields, has no use for
 * variables, and takes 4 KB of both.
 */
static int put_allow(struct buf *out, struct req *req)
{
    const struct headers *h = &req->resp_headers;

    switch (req->deny_style) {
    case CGI_DENY_NGINX:
        return cgi_put_allow(out, h, NULL, STR_NULL);
    case CGI_DENY_VARIABLE:
        return cgi_put_allow(out, h, NULL, req_id(req));
    default:
        return cgi_put_allow(out, h, h, req_id(req));
    }
}

static void on_head(struct req *req)
{
    struct fcgi_stream *st = stream_of(req);
    struct buf *out = fcgi_conn_out(st->conn);
    size_t at;
    int rc = fcgi_open_record(out, FCGI_STDOUT, st->id, &at);

    if (rc == 0) {
        if (req->role == REQ_RESPONDER)
            rc = cgi_put_head(out, req->status, &req->resp_headers, req->resp_content_length);
        else if (req->status == 200)
            rc = put_allow(out, req);
        else
            rc = cgi_put_deny(out, req->deny_style, req->status, &req->resp_headers,
                              req->resp_content_length);
    }
    /* the output buffer has no bound of its own: back-pressure bounds it */
    must(rc == 0 && fcgi_close_record(out, at) == 0);
    st->head_at = at;
    st->head_end = out->n;
    st->head_flush = st->conn->flush_count;
    fcgi_conn_wrote(st->conn);
}

static void on_body(struct req *req, const char *p, size_t n)
{
    struct fcgi_stream *st = stream_of(req);
    struct buf *out = fcgi_conn_out(st->conn);

    /* mod_authnz_fcgi drops a refusal's body that is not in the head's own record */
    if (st->head_flush == st->conn->flush_count && out->n == st->head_end &&
        st->head_end - st->head_at + n <= FCGI_CONTENT_MAX)
        must(buf_add(out, p, n) == 0 && fcgi_close_record(out, st->head_at) == 0);
    else
        must(fcgi_put_stream(out, FCGI_STDOUT, st->id, p, n) == 0);
    fcgi_conn_wrote(st->conn);
}

static void on_end(struct req *req)
{
    struct fcgi_stream *st = stream_of(req);
    struct fcgi_conn *c = st->conn;
    struct buf *out = fcgi_conn_out(c);

    c->server->stats->requests++;
    st->state = FCGI_STREAM_ENDED;
    if (req->broken && c->stream_count == 1) {
        /* the one sign of a cut response that all fronts pass on */
        detach(st);
        c->input_owed = false;
        fcgi_conn_finish(c);
        return;
    }
    must(fcgi_put_stream_end(out, FCGI_STDOUT, st->id) == 0 &&
         fcgi_put_end_request(out, st->id, req->broken, FCGI_REQUEST_COMPLETE) == 0);
    fcgi_conn_wrote(c);
    detach(st);
}

static void on_flow(struct req *req, bool resume)
{
    struct fcgi_stream *st = stream_of(req);

    if (!st->conn || st->blocked == !resume)
        return;
    st->blocked = !resume;
    req->body_paused = !resume;
    fcgi_conn_update(st->conn);
}

static void on_done(struct req *req)
{
    struct fcgi_stream *st = stream_of(req);

    if (st->conn)
        detach(st);
    accesslog_write(req);
    req_bury(req);
}

static const struct req_transport TRANSPORT = { on_head, on_body, on_end, on_flow, on_done };

/* Answers in the place of the phases, which may be running: they learn that it is over. */
static void reject(struct fcgi_stream *st, unsigned status, const char *why)
{
    struct req *req = st->req;
    enum fcgi_stream_state was = st->state;

    if (was == FCGI_STREAM_ENDED)
        return;
    if (req->method.n == 0) /* its parameters are the reason */
        log_warn("fastcgi: a request is answered %u: %s", status, why);
    else
        log_warn("fastcgi: request %.*s %.*s is answered %u: %s", (int)req->method.n, req->method.p,
                 req->uri.n < 200 ? (int)req->uri.n : 200, req->uri.p ? req->uri.p : "", status,
                 why);
    if (req_head_sent(req)) {
        /* too late for a status: the answer breaks off */
        req->broken = true;
        on_end(req);
    } else {
        st->state = FCGI_STREAM_ENDED;
        req->status = status;
        req->source = SOURCE_ERROR;
        put_plain(st->conn, st->id, status, why, FCGI_REQUEST_COMPLETE);
        st->conn->server->stats->requests++;
        detach(st);
    }
    req->aborted = true;
    if (was == FCGI_STREAM_RUNNING) {
        req_body_arrived(req);
        co_cancel(req->co);
    } else {
        accesslog_write(req);
        req_bury(req);
    }
}

/* ---- the request ---- */

static void refuse_begin(struct fcgi_conn *c, const struct fcgi_record *rec, unsigned status,
                         const char *message, unsigned protocol_status)
{
    log_warn("fastcgi: a request is answered %u: %s", status, message);
    put_plain(c, rec->id, status, message, protocol_status);
    c->input_owed = rec->role != FCGI_AUTHORIZER;
    if (!rec->keep_conn)
        fcgi_conn_finish(c);
}

void fcgi_stream_begin(struct fcgi_conn *c, const struct fcgi_record *rec)
{
    struct fcgi_server *s = c->server;
    struct fcgi_stream *st;
    struct req *req;

    c->used = true;
    if (rec->role != FCGI_RESPONDER && rec->role != FCGI_AUTHORIZER) {
        refuse_begin(c, rec, 500, "this FastCGI role is not supported", FCGI_UNKNOWN_ROLE);
        return;
    }
    if (req_count() >= (size_t)s->conf->max_requests) {
        refuse_begin(c, rec, 503, "max_requests reached", FCGI_OVERLOADED);
        return;
    }
    req = req_new(s->loop, &TRANSPORT, NULL);
    st = arena_alloc(&req->arena, sizeof *st);
    *st = (struct fcgi_stream){
        .conn = c,
        .req = req,
        .id = rec->id,
        .keep_conn = rec->keep_conn,
    };
    req->conn = st;
    req->role = rec->role == FCGI_AUTHORIZER ? REQ_AUTHORIZER : REQ_RESPONDER;
    req->queued_bytes = &c->queued_bytes;
    LIST_INSERT_HEAD(&c->streams, st, link);
    c->stream_count++;
}

/* Copies a piece behind the others; the whole lies in one place in the arena. */
static void keep_params(struct fcgi_stream *st, struct str piece)
{
    size_t n = st->params_n + piece.n;

    if (n > st->params_cap) {
        size_t cap = st->params_cap ? n * 2 : n;
        char *p = arena_alloc(&st->req->arena, cap);

        if (st->params_n)
            memcpy(p, st->params, st->params_n);
        st->params = p;
        st->params_cap = cap;
    }
    memcpy(st->params + st->params_n, piece.p, piece.n);
    st->params_n = n;
}

static void take_over(struct req *req, const struct cgi_request *r)
{
    req->method = r->method;
    req->is_head = str_eq(r->method, STR("HEAD"));
    req->protocol = r->protocol;
    req->scheme = r->scheme;
    req->uri = r->uri;
    uri_split(r->uri, &req->raw_path, &req->query);
    req->path = uri_normalise(&req->arena, req->raw_path);
    req->host = r->host;
    req->remote_addr = r->remote_addr;
    req->server_addr = r->server_addr;
    req->server_name = r->server_name;
    req->remote_port = r->remote_port;
    req->server_port = r->server_port;
    req->fcgi_id = r->request_id;
    req->headers = r->headers;
    req->content_length = r->content_length;
}

/*
 * nginx and Apache may ask twice about one client request. Apache says so; of
 * nginx's calls the second is the one whose id is known already.
 */
static bool is_repeated(struct fcgi_server *s, const struct cgi_request *r)
{
    struct counter_window once = { .what = -REPEAT_WINDOW_MS, .limit = 1 };
    struct counter_use use;
    char name[128];
    int n;

    if (cgi_request_repeated(r))
        return true;
    if (r->request_id.n == 0 || r->request_id.n > 64)
        return false;
    n = snprintf(name, sizeof name, "authorized:%.*s", STR_ARG(r->request_id));
    return counter_admit(s->counters, (struct str){ name, (size_t)n }, &once, 1, true, 1,
                         clock_now_ms(), &use) == 0;
}

static void set_role(struct fcgi_server *s, struct req *req, const struct cgi_request *r)
{
    bool by_param = r->authorizer && req->role == REQ_RESPONDER;

    if (r->authorizer)
        req->role = REQ_AUTHORIZER;
    if (req->role != REQ_AUTHORIZER)
        return;
    if (r->has_deny_style)
        req->deny_style = r->deny_style;
    else if (by_param)
        req->deny_style = CGI_DENY_NGINX;
    else
        req->deny_style = (enum cgi_deny_style)s->conf->deny_style;
    req->content_length = -1;
    req->body_complete = true;
    /* what is let through the web server looks up itself: no spelling may lead past a rule */
    req->path = uri_served(&req->arena, req->raw_path);
    req->repeated = is_repeated(s, r);
}

/* 0, or the status to answer with. */
static unsigned parse_params(struct fcgi_stream *st, struct err *e)
{
    struct fcgi_server *s = st->conn->server;
    struct req *req = st->req;
    struct str in = { st->params, st->params_n }, name, value;
    struct cgi_request r = { 0 };
    struct cgi_bounds bounds = {
        .max_header_count = (unsigned)s->conf->max_header_count,
        .max_header_bytes = (size_t)s->conf->max_header_bytes,
    };
    int rc, more;

    while ((more = fcgi_pair_next(&in, &name, &value)) > 0) {
        rc = cgi_request_add(&r, &req->arena, &bounds, name, value, e);
        if (rc < 0)
            return cgi_error_status(rc);
    }
    if (more < 0) {
        err_set(e, ERR_SYNTAX, "malformed FastCGI parameters");
        return 400;
    }
    rc = cgi_request_finish(&r, &req->arena, e);
    take_over(req, &r);
    if (rc < 0)
        return cgi_error_status(rc);
    set_role(s, req, &r);
    if (s->conf->client_max_body_size && req->content_length > s->conf->client_max_body_size) {
        err_set(e, ERR_BOUND, "the body is larger than client_max_body_size");
        return 413;
    }
    return 0;
}

static void params_end(struct fcgi_stream *st)
{
    struct fcgi_server *s = st->conn->server;
    struct err e = { 0 };
    unsigned status = parse_params(st, &e);

    st->state = FCGI_STREAM_BODY;
    if (status) {
        reject(st, status, e.text);
        return;
    }
    /* a read's worth may come before the pause that the bound asks for takes hold */
    st->req->body.max_bytes = (size_t)s->conf->client_body_buffer_size + FCGI_SCRATCH_BYTES;
}

/* A piece has come: fcgi_stream_fed waits anew for the next one. */
static void stop_waiting(struct fcgi_stream *st)
{
    deadline_clear(&st->conn->server->request_deadlines, &st->deadline);
}

void fcgi_stream_params(struct fcgi_stream *st, const struct fcgi_record *rec)
{
    stop_waiting(st);
    if (st->state != FCGI_STREAM_PARAMS)
        return;
    if (rec->end)
        params_end(st);
    else if (st->params_n + rec->content.n >
             (size_t)st->conn->server->conf->fastcgi_max_params_bytes)
        reject(st, 431, "the request's parameters are larger than fastcgi_max_params_bytes");
    else
        keep_params(st, rec->content);
}

/* 0, or the status that a piece of the body is refused with. */
static unsigned keep_body(struct fcgi_stream *st, struct str piece, const char **why)
{
    const struct conf *conf = st->conn->server->conf;
    struct req *req = st->req;

    req->body_bytes += piece.n;
    if (conf->client_max_body_size && req->body_bytes > (uint64_t)conf->client_max_body_size) {
        *why = "the body is larger than client_max_body_size";
        return 413;
    }
    if (req->has_own_body)
        return 0; /* a plugin has replaced it: nobody wants this one */
    if (buf_add(&req->body, piece.p, piece.n) < 0) {
        *why = "the upstream is too slow for a body on a multiplexed connection "
               "(client_body_buffer_size)";
        return 503;
    }
    if (req->body.n >= (size_t)conf->client_body_buffer_size)
        on_flow(req, false);
    return 0;
}

void fcgi_stream_stdin(struct fcgi_stream *st, const struct fcgi_record *rec)
{
    struct req *req = st->req;
    const char *why = NULL;
    unsigned status = 0;

    stop_waiting(st);
    if (rec->end)
        st->input_done = true;
    if (req->role == REQ_AUTHORIZER || st->state == FCGI_STREAM_PARAMS || req->body_complete)
        return;
    if (rec->end)
        req->body_complete = true;
    else
        status = keep_body(st, rec->content, &why);
    if (status) {
        reject(st, status, why);
        return;
    }
    if (st->state == FCGI_STREAM_RUNNING) {
        req_body_arrived(req);
        exchange_on_request_body(req);
    }
}

/* Whether a body is on its way, so that the phases need not wait for the end of the stream. */
static bool body_announced(const struct req *req)
{
    return req->content_length > 0 || headers_get(&req->headers, STR("Transfer-Encoding"));
}

void fcgi_stream_fed(struct fcgi_stream *st)
{
    struct fcgi_server *s = st->conn->server;
    struct req *req = st->req;

    if (st->state == FCGI_STREAM_BODY &&
        (req->body_complete || st->blocked || body_announced(req))) {
        st->state = FCGI_STREAM_RUNNING;
        vm_run_request(s->vm, req);
        if (st->state == FCGI_STREAM_ENDED)
            return;
    }
    if (st->state >= FCGI_STREAM_RUNNING && (req->body_complete || st->blocked))
        deadline_clear(&s->request_deadlines, &st->deadline);
    else if (!st->deadline.queued) /* else the read was of its neighbours */
        deadline_set(&s->request_deadlines, &st->deadline);
}

void fcgi_stream_expired(struct deadline *d)
{
    struct fcgi_stream *st = CONTAINER_OF(d, struct fcgi_stream, deadline);

    reject(st, 408, "the request did not arrive within request_timeout");
}

void fcgi_stream_lost(struct fcgi_stream *st)
{
    struct req *req = st->req;
    bool running = st->state == FCGI_STREAM_RUNNING;

    deadline_clear(&st->conn->server->request_deadlines, &st->deadline);
    st->conn = NULL;
    if (st->state == FCGI_STREAM_ENDED)
        return;
    st->state = FCGI_STREAM_ENDED;
    req->aborted = true;
    req->queued_bytes = NULL;
    if (running) {
        req_body_arrived(req);
        req_drained(req);
        co_cancel(req->co);
    } else {
        req_bury(req);
    }
}

void fcgi_stream_drop(struct fcgi_stream *st)
{
    LIST_REMOVE(st, link);
    st->conn->stream_count--;
    fcgi_stream_lost(st);
}

void fcgi_stream_abort(struct fcgi_stream *st)
{
    struct fcgi_conn *c = st->conn;
    unsigned id = st->id;
    bool keep_conn = st->keep_conn;

    fcgi_stream_drop(st);
    if (fcgi_put_stream_end(fcgi_conn_out(c), FCGI_STDOUT, id) == 0 &&
        fcgi_put_end_request(fcgi_conn_out(c), id, 1, FCGI_REQUEST_COMPLETE) == 0)
        fcgi_conn_wrote(c);
    fcgi_conn_update(c);
    if (!keep_conn)
        fcgi_conn_finish(c);
}

void fcgi_stream_drained(struct fcgi_stream *st)
{
    if (st->state != FCGI_STREAM_RUNNING)
        return;
    req_drained(st->req);
    exchange_on_drained(st->req);
}
