/*
 * What an upstream is told of the client beside the client's own headers:
 * X-Forwarded-*, X-Real-IP, Via, X-Kong-Request-Id. Pure: a list in, a list out.
 */
#ifndef WEIR_LUA_FORWARDED_H
#define WEIR_LUA_FORWARDED_H

#include "base/str.h"
#include "base/weir.h"
#include "wire/headers.h"

struct forwarded {
    bool trusted;         /* the peer is: its own X-Forwarded-* but -For stay as they are */
    struct str client_ip; /* after real-ip processing */
    struct str prefix;    /* of the path, that the route strips; empty if it strips none */
};

/*
 * The headers that go upstream, as a new list in the request's arena: the client's, without those
 * that its Connection names, then weir's. The request's own list stays as it is. The
 * texts of f are copied.
 */
struct headers forwarded_headers(struct req *req, const struct forwarded *f);

#endif
