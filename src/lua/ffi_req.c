/*
 * The request as Lua sees it: texts, numbers, headers, body, and the answer.
 * Accessors only; what happens when is decided in Lua.
 */
#include "base/mem.h"
#include "lua/co.h"
#include "lua/exchange.h"
#include "lua/internal.h"
#include "req/req.h"
#include <inttypes.h>

static struct req *req_of(weir_req *r)
{
    return (struct req *)r;
}

static const struct req *creq_of(const weir_req *r)
{
    return (const struct req *)r;
}

weir_req *weir_current(void)
{
    return (weir_req *)co_current_req();
}

void weir_req_get(const weir_req *r, int what, weir_str *out)
{
    const struct req *req = creq_of(r);

    switch (what) {
    case WEIR_REQ_METHOD:
        *out = ffi_str(req->method);
        return;
    case WEIR_REQ_URI:
        *out = ffi_str(req->uri);
        return;
    case WEIR_REQ_RAW_PATH:
        *out = ffi_str(req->raw_path);
        return;
    case WEIR_REQ_PATH:
        *out = ffi_str(req->path);
        return;
    case WEIR_REQ_QUERY:
        *out = ffi_str(req->query);
        return;
    case WEIR_REQ_SCHEME:
        *out = ffi_str(req->scheme);
        return;
    case WEIR_REQ_PROTOCOL:
        *out = ffi_str(req->protocol);
        return;
    case WEIR_REQ_HOST:
        *out = ffi_str(req->host);
        return;
    case WEIR_REQ_REMOTE_ADDR:
        *out = ffi_str(req->remote_addr);
        return;
    case WEIR_REQ_SERVER_ADDR:
        *out = ffi_str(req->server_addr);
        return;
    case WEIR_REQ_SERVER_NAME:
        *out = ffi_str(req->server_name);
        return;
    case WEIR_REQ_FRONT_ID:
        *out = ffi_str(req->fcgi_id);
        return;
    case WEIR_REQ_ID:
        *out = ffi_str(req_id((struct req *)(uintptr_t)req));
        return;
    default:
        *out = ffi_str(STR_NULL);
    }
}

void weir_req_set(weir_req *r, int what, const char *p, size_t n)
{
    struct req *req = req_of(r);

    if (what == WEIR_REQ_METHOD)
        req->method = arena_str(&req->arena, str_of(p, n));
    else if (what == WEIR_REQ_QUERY)
        req->query = arena_str(&req->arena, str_of(p, n));
}

double weir_req_number(const weir_req *r, int what)
{
    const struct req *req = creq_of(r);

    switch (what) {
    case WEIR_REQ_REMOTE_PORT:
        return req->remote_port;
    case WEIR_REQ_SERVER_PORT:
        return req->server_port;
    case WEIR_REQ_IS_AUTHORIZER:
        return req->role == REQ_AUTHORIZER;
    case WEIR_REQ_IS_REPEATED:
        return req->repeated;
    case WEIR_REQ_IS_HEAD:
        return req->is_head;
    case WEIR_REQ_CONTENT_LENGTH:
        return (double)req->content_length;
    case WEIR_REQ_BODY_BYTES:
        return (double)req->body_bytes;
    case WEIR_REQ_ABORTED:
        return req->aborted;
    case WEIR_REQ_HEAD_SENT:
        return req_head_sent(req);
    case WEIR_REQ_ANSWERED:
        return req->state >= REQ_ANSWERED;
    case WEIR_REQ_STATUS:
        return req->status;
    case WEIR_REQ_SOURCE:
        return req->source;
    case WEIR_REQ_UPSTREAM_STATUS:
        return req->upstream_status;
    case WEIR_REQ_RESP_BYTES:
        return (double)req->resp_bytes;
    case WEIR_REQ_START_MS:
        return (double)req->start_now_ms;
    case WEIR_REQ_START_US:
        return (double)req->start_us;
    case WEIR_REQ_UPSTREAM_START_US:
        return (double)req->upstream_start_us;
    case WEIR_REQ_UPSTREAM_HEAD_US:
        return (double)req->upstream_head_us;
    case WEIR_REQ_UPSTREAM_END_US:
        return (double)req->upstream_end_us;
    case WEIR_REQ_DENY_STYLE:
        return req->deny_style;
    default:
        return 0;
    }
}

static struct headers *list_of(struct req *req, int list)
{
    return list == WEIR_HEADERS_REQUEST ? &req->headers : &req->resp_headers;
}

static const struct headers *readable_list(const weir_req *r, int list)
{
    const struct req *req = creq_of(r);

    switch (list) {
    case WEIR_HEADERS_REQUEST:
        return &req->headers;
    case WEIR_HEADERS_RESPONSE:
        return &req->resp_headers;
    default:
        return exchange_headers(req);
    }
}

/* The response's Content-Length is a number of its own, not one of its headers. */
static bool is_length(int list, struct str name)
{
    return list == WEIR_HEADERS_RESPONSE && name.n == 14 &&
           str_eq_nocase(name, STR("Content-Length"));
}

static int get_length(const weir_req *r, weir_str *value)
{
    struct req *req = (struct req *)(uintptr_t)r;

    if (req->resp_content_length < 0)
        return WEIR_NONE;
    *value = ffi_str(arena_printf(&req->arena, "%" PRId64, req->resp_content_length));
    return 0;
}

static int set_length(struct req *req, struct str value)
{
    uint64_t n;

    if (str_to_u64(value, INT64_MAX, &n) < 0)
        return ERR_SYNTAX;
    req->resp_content_length = (int64_t)n;
    return 0;
}

int weir_header_get(const weir_req *r, int list, const char *name, size_t n, weir_str *value)
{
    const struct headers *h = readable_list(r, list);
    const struct str *found;

    if (is_length(list, str_of(name, n)))
        return get_length(r, value);
    found = h ? headers_get(h, str_of(name, n)) : NULL;
    if (!found)
        return WEIR_NONE;
    *value = ffi_str(*found);
    return 0;
}

int weir_header_at(const weir_req *r, int list, int i, weir_str *name, weir_str *value)
{
    const struct headers *h = readable_list(r, list);

    if (h && list == WEIR_HEADERS_RESPONSE && i == (int)h->n) {
        *name = ffi_str(STR("Content-Length"));
        return get_length(r, value);
    }
    if (!h || i < 0 || (unsigned)i >= h->n)
        return WEIR_NONE;
    *name = ffi_str(h->v[i].name);
    *value = ffi_str(h->v[i].value);
    return 0;
}

/* Both texts in one piece of the arena. */
static int copy_field(struct req *req, struct str *name, struct str *value)
{
    char *p;

    if (!header_name_valid(*name) || !header_value_valid(*value))
        return ERR_SYNTAX;
    p = arena_alloc(&req->arena, name->n + value->n);
    memcpy(p, name->p, name->n);
    if (value->n)
        memcpy(p + name->n, value->p, value->n);
    name->p = p;
    value->p = p + name->n;
    return 0;
}

int weir_header_set(weir_req *r, int list, const char *name, size_t name_n, const char *value,
                    size_t value_n)
{
    struct req *req = req_of(r);
    struct str k = str_of(name, name_n), v = str_of(value, value_n);
    int rc;

    if (is_length(list, k))
        return set_length(req, v);
    rc = copy_field(req, &k, &v);

    if (rc == 0)
        headers_set(list_of(req, list), &req->arena, k, v);
    return rc;
}

int weir_header_set_number(weir_req *r, int list, const char *name, size_t name_n, double value)
{
    uint64_t whole =
        value >= 1 ? value < 1e18 ? (uint64_t)value : UINT64_C(1000000000000000000) : 0;
    char room[U64_DIGITS];
    struct str digits = str_from_u64(whole, room);

    return weir_header_set(r, list, name, name_n, digits.p, digits.n);
}

int weir_header_add(weir_req *r, int list, const char *name, size_t name_n, const char *value,
                    size_t value_n)
{
    struct req *req = req_of(r);
    struct str k = str_of(name, name_n), v = str_of(value, value_n);
    int rc;

    if (is_length(list, k))
        return set_length(req, v);
    rc = copy_field(req, &k, &v);

    if (rc == 0)
        headers_add(list_of(req, list), &req->arena, k, v);
    return rc;
}

void weir_header_clear(weir_req *r, int list, const char *name, size_t n)
{
    if (is_length(list, str_of(name, n)))
        req_of(r)->resp_content_length = -1;
    else
        headers_remove(list_of(req_of(r), list), str_of(name, n));
}

/* ---- the request's body ---- */

int weir_req_body(weir_req *r, weir_str *out)
{
    struct req *req = req_of(r);

    if (req->aborted)
        return ERR_CLOSED;
    if (req->has_own_body) {
        *out = ffi_str(req->own_body);
        return 0;
    }
    if (req->body_complete && req->body.n == req->body_bytes) {
        *out = ffi_str(str_of(req->body.p, req->body.n));
        return 0;
    }
    /* paused: the buffer is full; taken: some of it went upstream already */
    if (req->body_paused || req->body.n != req->body_bytes)
        return ERR_BOUND;
    req_wait_body(req);
    co_wait(&req->body_op);
    return WEIR_WAIT;
}

void weir_req_set_body(weir_req *r, const char *p, size_t n)
{
    struct req *req = req_of(r);

    req->own_body = arena_str(&req->arena, str_of(p, n));
    req->has_own_body = true;
}

/* ---- the response ---- */

void weir_resp_set_status(weir_req *r, int status)
{
    req_of(r)->status = (unsigned)status;
}

void weir_resp_set_source(weir_req *r, int source)
{
    req_of(r)->source = (enum req_source)source;
}

void weir_resp_set_length(weir_req *r, double bytes)
{
    /* what was read in reply to HEAD says nothing of the body that GET would have */
    req_of(r)->resp_content_length = req_bodyless(req_of(r)) ? -1 : (int64_t)bytes;
}

void weir_resp_break(weir_req *r)
{
    req_of(r)->broken = true;
}

void weir_resp_head(weir_req *r)
{
    req_send_head(req_of(r));
}

int weir_resp_body(weir_req *r, const char *p, size_t n)
{
    struct req *req = req_of(r);

    req_send_body(req, p, n);
    if (req->aborted || *req->queued_bytes <= REQ_QUEUE_HIGH_BYTES)
        return 0;
    req_wait_drain(req);
    co_wait(&req->drain_op);
    return WEIR_WAIT;
}

void weir_resp_end(weir_req *r)
{
    req_send_end(req_of(r));
}

void weir_resp_all(weir_req *r, int status, const char *p, size_t n)
{
    struct req *req = req_of(r);

    req->status = (unsigned)status;
    /* what an authorizer lets through has a body of its own */
    if (status == 204 || status == 304 || (req->role == REQ_AUTHORIZER && status == 200))
        req->resp_content_length = -1;
    else
        req->resp_content_length = (int64_t)n;
    req_send_head(req);
    req_send_body(req, p, n);
    req_send_end(req);
}

void weir_req_done(weir_req *r)
{
    struct req *req = req_of(r);

    req_advance(req, REQ_LOGGED);
    req->co = NULL;
    req->transport->on_done(req);
}
