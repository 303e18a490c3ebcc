/*
 * A request, from the first byte that a transport decoded to its line in the
 * access log. Everything that it owns lies in its arena. It knows nothing of
 * Lua, of sockets or of the transport: those hang on the pointers at the end.
 *
 * Reading order: enum req_state, struct req, then the verbs.
 */
#ifndef WEIR_REQ_REQ_H
#define WEIR_REQ_REQ_H

#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"
#include "ev/loop.h"
#include "ev/op.h"
#include "wire/cgi.h"
#include "wire/headers.h"

enum req_role {
    REQ_RESPONDER,
    REQ_AUTHORIZER,
};

/* Only req_advance writes it, and only forward. */
enum req_state {
    REQ_DECODING,   /* parameters are arriving */
    REQ_RUNNING,    /* rewrite, access, upstream: the phases have it */
    REQ_RESPONDING, /* the response's head has been committed */
    REQ_ANSWERED,   /* the response's last byte has been handed to the transport */
    REQ_LOGGED,     /* the log phase and the access log are done */
    REQ_DEAD,       /* on the loop's dying list */
};

/* Who wrote the response (kong.response.get_source). */
enum req_source {
    SOURCE_NONE,
    SOURCE_EXIT,    /* a plugin */
    SOURCE_ERROR,   /* weir itself */
    SOURCE_SERVICE, /* the upstream */
};

/* Bytes queued towards the client: above the first whoever produces them waits until the second. */
#define REQ_QUEUE_HIGH_BYTES (256 * 1024)
#define REQ_QUEUE_LOW_BYTES (64 * 1024)

/* What a transport must do for a request. */
struct req_transport {
    /* The head is committed (status and headers are final): encode it. Called once. */
    void (*on_head)(struct req *req);
    /* Body bytes, borrowed for the call; n is never 0. Not called in reply to HEAD, 204, 304. */
    void (*on_body)(struct req *req, const char *p, size_t n);
    /* The response is complete. Nothing follows. */
    void (*on_end)(struct req *req);
    /* More request body is welcome again, or (resume false) not now. */
    void (*on_flow)(struct req *req, bool resume);
    /* The request is over and logged: let go of it, then bury it. */
    void (*on_done)(struct req *req);
};

struct req {
    struct arena arena;
    struct loop *loop;
    enum req_state state;
    enum req_role role;
    enum cgi_deny_style deny_style;
    bool broken;   /* the response ends before it is complete: the transport must show it */
    bool repeated; /* the front asks a second time about one client request: count nothing */
    bool aborted;  /* the client or the web server went away */
    bool is_head;  /* the client asked HEAD, whatever plugins make of the method */

    /* the request, as it arrived; plugins may change method, query and headers */
    struct str method, protocol /* "HTTP/1.1" */, scheme /* "http", "https" */;
    struct str uri;      /* REQUEST_URI as it came: undecoded, with the query */
    struct str raw_path; /* uri up to '?' */
    struct str path;     /* decoded and normalised: what rules match */
    struct str query;    /* behind '?', undecoded; empty if there is none */
    struct str host;     /* Host, or SERVER_NAME when there is none; with port as it came */
    struct str remote_addr, server_addr, server_name;
    unsigned remote_port, server_port;
    struct str fcgi_id; /* WEIR_REQUEST_ID: the front's own id, or empty */
    struct headers headers;

    /* the request's body: what arrived and nobody has taken yet */
    int64_t content_length;          /* -1 when it was not announced */
    uint64_t body_bytes;             /* arrived so far */
    struct buf body;                 /* its bound is client_body_buffer_size */
    bool body_complete, body_paused; /* paused: body is full */
    struct op body_op;               /* somebody waits for the whole body */
    struct str own_body;             /* a plugin's, for the upstream, instead */
    bool has_own_body;

    char id[33]; /* 32 lower-case hex digits, X-Kong-Request-Id; empty before req_id */

    /* the response */
    unsigned status; /* 0 until somebody sets it */
    enum req_source source;
    struct headers resp_headers;
    int64_t resp_content_length; /* -1: not known */
    uint64_t resp_bytes;         /* body bytes handed to the transport */
    struct op drain_op;          /* somebody waits until the client has taken what is queued */
    unsigned upstream_status;    /* 0 when no upstream answered */

    /* times, clock_mono_us_exact; 0 when it did not happen */
    int64_t start_us, upstream_start_us, upstream_head_us, upstream_end_us;
    int64_t start_now_ms; /* the wall clock at the start */

    /* what hangs on it */
    const struct req_transport *transport;
    void *conn;                /* the transport's */
    struct co *co;             /* the coroutine that runs the phases */
    struct exchange *exchange; /* with an upstream */
    size_t *queued_bytes;      /* towards the client: the transport's number */
    struct dying dying;
};

/* A new one in state REQ_DECODING, from the worker's pool. */
struct req *req_new(struct loop *loop, const struct req_transport *transport, void *conn)
    __attribute__((returns_nonnull));

/* Frees it at the end of the turn; state becomes REQ_DEAD. */
void req_bury(struct req *req);

/* The only writer of the state; dies unless next > state. */
void req_advance(struct req *req, enum req_state next);

/* True from REQ_RESPONDING on. */
static inline bool req_head_sent(const struct req *req)
{
    return req->state >= REQ_RESPONDING;
}

/*
 * The three steps of a response. head: status and resp_headers are final; body
 * bytes: as often as there are some; end: once. head without a status is a 200.
 */
void req_send_head(struct req *req);
void req_send_body(struct req *req, const char *p, size_t n);
void req_send_end(struct req *req);

/* True if the response to this request has no body (HEAD, 204, 304). */
bool req_bodyless(const struct req *req);

/* Makes body_op pending: it is done when the body is complete, or will not fit, or the client left.
 */
void req_wait_body(struct req *req);

/* For the transport: bytes were appended to body, or one of its flags has changed. */
void req_body_arrived(struct req *req);

/* Makes drain_op pending: it is done when the client has taken most of what is queued. */
void req_wait_drain(struct req *req);

/* For the transport: queued_bytes fell below REQ_QUEUE_LOW_BYTES. */
void req_drained(struct req *req);

/* Its id, made at the first call. */
struct str req_id(struct req *req);

/* Requests alive in this process. */
unsigned req_count(void);

#endif
