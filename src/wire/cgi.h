/*
 * CGI: what a web server says of a request in variables, and the head of the
 * response that goes back to it. Knows the quirks of lighttpd, Apache and nginx
 * as far as they show in variables and heads.
 *
 * Reading order: struct cgi_request, its three verbs, then the heads.
 */
#ifndef WEIR_WIRE_CGI_H
#define WEIR_WIRE_CGI_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"
#include "wire/headers.h"

/* How an authorizer call is told "no": web servers understand different things. */
enum cgi_deny_style {
    CGI_DENY_STATUS,   /* the status itself: lighttpd, mod_authnz_fcgi */
    CGI_DENY_NGINX,    /* 403 and X-Weir-Status: auth_request knows only 401 and 403 */
    CGI_DENY_VARIABLE, /* 200 and Variable-WEIR_STATUS: mod_fcgid makes a 401 of all else */
};

/* 0 means no bound. */
struct cgi_bounds {
    unsigned max_header_count;
    size_t max_header_bytes; /* names and values of all headers together */
};

/* Zero it before the first pair. What is not given is empty, unless said otherwise. */
struct cgi_request {
    struct str method;
    struct str uri;      /* as it came, undecoded, with the query; begins with '/' or is "*" */
    struct str protocol; /* "HTTP/1.1" if it is not known */
    struct str scheme;   /* "http" or "https" */
    struct str host;     /* Host, else SERVER_NAME; with the port as it came */
    struct str remote_addr, server_addr, server_name;
    unsigned remote_port, server_port; /* 0: not known */
    int64_t content_length;            /* -1: not known; says nothing in an authorizer call */
    struct headers headers;
    bool authorizer;     /* WEIR_ROLE=authorizer: nginx cannot say it in the record */
    bool has_deny_style; /* WEIR_DENY_STYLE was given */
    enum cgi_deny_style deny_style;
    struct str request_id; /* WEIR_REQUEST_ID: nginx's id, the same in both of a double call */
    struct str authorized; /* WEIR_AUTHORIZED: the marker of cgi_put_allow, come back */
    bool included;         /* SERVER_PROTOCOL=INCLUDED: a call within Apache's own request */

    /* until cgi_request_finish */
    struct str script_name, path_info, query_string, content_type;
    struct str length_text, header_length, header_type;
    size_t header_bytes;
    uint64_t names_seen; /* one bit for each hash of a header's name */
    bool https, names_repeat, connection_names;
};

/*
 * Takes one variable; name and value are borrowed and must live as long as the
 * arena. 0, ERR_SYNTAX or ERR_BOUND; see cgi_error_status.
 */
int cgi_request_add(struct cgi_request *r, struct arena *a, const struct cgi_bounds *bounds,
                    struct str name, struct str value, struct err *e) MUST_CHECK;

/* After the last pair: joins repeated headers, fills in what follows from others, checks the rest.
 */
int cgi_request_finish(struct cgi_request *r, struct arena *a, struct err *e) MUST_CHECK;

/* The status to answer with: 431 for ERR_BOUND, 400 for all other failures of the two above. */
unsigned cgi_error_status(int code);

/* True for the second call that Apache makes for one client's request (DirectoryIndex). */
static inline bool cgi_request_repeated(const struct cgi_request *r)
{
    return r->included && r->authorized.n > 0;
}

/* "status", "nginx", "variable": 0; anything else: -1. */
int cgi_deny_style_from(struct str name, enum cgi_deny_style *style) MUST_CHECK;

/* "Too Many Requests" for 429; "Unknown" for what has no name. */
const char *http_reason(unsigned status);

/*
 * The heads. Status always comes first. Left out: hop-by-hop fields, what commands the
 * web server (X-Accel-*, X-Sendfile*, X-LIGHTTPD-*, Status), and h's own Content-Length:
 * content_length says it, -1 leaves it out. A status outside of 200..999 goes out as 500.
 * 0, or ERR_BOUND when out may not grow so far.
 */

/* Of a Responder's answer. */
int cgi_put_head(struct buf *out, unsigned status, const struct headers *h,
                 int64_t content_length) MUST_CHECK;

/*
 * An Authorizer's yes. h goes out as plain fields, which Apache hands to the client and
 * nginx can read; the fields of twins (may be NULL) once more as Variable-WEIR_HEADER_X_NAME, all
 * that lighttpd sees (mod_fcgid lets them through to the client). marker, if not empty, comes back
 * as cgi_request.authorized in Apache's second call.
 */
int cgi_put_allow(struct buf *out, const struct headers *h, const struct headers *twins,
                  struct str marker) MUST_CHECK;

/* An Authorizer's no; 200 goes out as 403, and 5xx as it is in all styles but nginx's. Variable-*
 * fields of h stay behind: web servers pass them to the client. */
int cgi_put_deny(struct buf *out, enum cgi_deny_style style, unsigned status,
                 const struct headers *h, int64_t content_length) MUST_CHECK;

#endif
