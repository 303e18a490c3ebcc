/*
 * HTTP/1.1, the client's side: request heads and chunks out, response heads and
 * bodies in. Refuses every response of which two readers could disagree where it ends.
 *
 * Reading order: http1_put_request, http1_head_parse, http1_body_decode.
 */
#ifndef WEIR_WIRE_HTTP1_H
#define WEIR_WIRE_HTTP1_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"
#include "wire/headers.h"

#define HTTP1_MAX_HEAD_BYTES 65536 /* unless max_bytes says otherwise */
#define HTTP1_MAX_HEADER_COUNT 1000

enum http1_framing {
    HTTP1_BODY_NONE,
    HTTP1_BODY_LENGTH,
    HTTP1_BODY_CHUNKED,
    HTTP1_BODY_UNTIL_CLOSE, /* responses only */
};

struct http1_request {
    struct str method, target, host; /* host goes out as Host, with its port if there is one */
    const struct headers *headers;   /* Host, Content-Length, Expect, Proxy, hop-by-hop: left out */
    enum http1_framing framing;      /* NONE, LENGTH (content_length says it) or CHUNKED */
    uint64_t content_length;
};

/*
 * Appends a request's head. ERR_SYNTAX if method, target or host holds what HTTP forbids;
 * ERR_BOUND if out may not grow so far; out is unchanged then.
 */
int http1_put_request(struct buf *out, const struct http1_request *r, struct err *e) MUST_CHECK;

/* Appends one chunk of a request's body; nothing for n 0, which would end the body. */
int http1_put_chunk(struct buf *out, const char *p, size_t n) MUST_CHECK;

int http1_put_last_chunk(struct buf *out) MUST_CHECK;

/* Zero it for each response; the first two are set by the caller. */
struct http1_head {
    bool to_head;     /* the response is one to HEAD */
    size_t max_bytes; /* of the head, with interim (1xx) heads before it; 0: HTTP1_MAX_HEAD_BYTES */
    unsigned status, minor_version;
    struct headers headers;
    enum http1_framing framing;
    uint64_t content_length; /* as announced, also in reply to HEAD; see has_length */
    bool has_length;
    bool keep_alive; /* the connection is good for another exchange once the body is read */

    size_t start, scanned; /* of the final head within the input; how far its end was looked for */
};

/*
 * Looks at the bytes received since the request was sent, always from the first one. Their number
 * up to the end of the head, interim responses included; 0: more are needed; ERR_SYNTAX,
 * ERR_BOUND: not a response to be relayed. The fields are copied to the arena.
 */
int http1_head_parse(struct str in, struct http1_head *h, struct arena *a,
                     struct err *e) MUST_CHECK;

enum http1_event {
    HTTP1_MORE,  /* all of the input is consumed, more is to come */
    HTTP1_PIECE, /* *piece holds body bytes */
    HTTP1_END,   /* the body is complete; the rest of the input is not of it */
    HTTP1_ERROR, /* malformed */
};

struct http1_body {
    uint64_t left; /* of the body, or of the chunk */
    uint16_t skipped;
    uint8_t framing, state, digits;
};

void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t content_length);

/* Takes bytes off the front of *in; to be called until it is not HTTP1_PIECE. */
enum http1_event http1_body_decode(struct http1_body *b, struct str *in, struct str *piece);

/* True if the body is complete when the connection is closed now. */
bool http1_body_ends_here(const struct http1_body *b);

#endif
