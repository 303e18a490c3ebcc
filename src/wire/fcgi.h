/*
 * FastCGI records: a bounded, incremental decoder of what web servers send, and
 * the encoder of what an application answers. Over <fastcgi.h>'s structs and
 * constants; slices point into the input, nothing is copied or kept.
 *
 * Reading order: enum fcgi_event, struct fcgi_record, fcgi_decode.
 */
#ifndef WEIR_WIRE_FCGI_H
#define WEIR_WIRE_FCGI_H

#include "base/str.h"
#include "base/weir.h"
#include <fastcgi.h>

/* The most content that one record of ours carries: a multiple of 8, as the specification advises.
 */
#define FCGI_CONTENT_MAX 65528

enum fcgi_event {
    FCGI_EV_NONE,       /* all of the input is consumed */
    FCGI_EV_BEGIN,      /* id, role, keep_conn */
    FCGI_EV_ABORT,      /* id */
    FCGI_EV_PARAMS,     /* id, content or end */
    FCGI_EV_STDIN,      /* id, content or end */
    FCGI_EV_DATA,       /* id, content or end */
    FCGI_EV_GET_VALUES, /* content; end comes with the last piece of the one record */
    FCGI_EV_UNKNOWN,    /* type: a management record to be answered with FCGI_UNKNOWN_TYPE */
    FCGI_EV_ERROR,      /* reason: not FastCGI; the connection is of no use any more */
};

struct fcgi_record {
    unsigned id, role, type;
    bool keep_conn;
    bool end;           /* of the stream: its empty record (content is empty then) */
    struct str content; /* a piece, within the input of this call */
    const char *reason;
};

/* Zeroed, it waits for the first record of a connection. */
struct fcgi_decoder {
    const char *reason;     /* set for ever by the first error */
    unsigned char fixed[8]; /* a header or a BEGIN_REQUEST body that has come in part */
    uint16_t id, content_left;
    uint8_t fixed_n, padding_left, type, state;
};

/*
 * Takes bytes off the front of *in and fills rec for the next event. To be
 * called until FCGI_EV_NONE; after FCGI_EV_ERROR it gives nothing else.
 * Application records of unknown type are skipped.
 */
enum fcgi_event fcgi_decode(struct fcgi_decoder *d, struct str *in, struct fcgi_record *rec);

/* fcgi_pair_next for lengths of any size. */
int fcgi_pair_long(struct str *in, struct str *name, struct str *value) MUST_CHECK;

/*
 * Takes one name-value pair off the front of *in: 1; 0 at the end. Negative if the
 * bytes end within a pair (*in stays as it was): malformed, if no more are to come.
 */
static inline MUST_CHECK int fcgi_pair_next(struct str *in, struct str *name, struct str *value)
{
    size_t name_n, value_n;

    if (UNLIKELY(in->n < 2 || ((in->p[0] | in->p[1]) & 0x80)))
        return fcgi_pair_long(in, name, value);
    name_n = (unsigned char)in->p[0];
    value_n = (unsigned char)in->p[1];
    if (UNLIKELY(2 + name_n + value_n > in->n)) /* the sum is at most 256 */
        return fcgi_pair_long(in, name, value);
    *name = (struct str){ in->p + 2, name_n };
    *value = (struct str){ in->p + 2 + name_n, value_n };
    in->p += 2 + name_n + value_n;
    in->n -= 2 + name_n + value_n;
    return 1;
}

/*
 * All of the encoders append to out; 0, or ERR_BOUND when out may not grow so far.
 */

/* n bytes of a stream in as many records as needed; none for n 0. */
int fcgi_put_stream(struct buf *out, unsigned type, unsigned id, const char *p,
                    size_t n) MUST_CHECK;

/* The empty record that ends a stream. */
int fcgi_put_stream_end(struct buf *out, unsigned type, unsigned id) MUST_CHECK;

/*
 * Opens a record: what is appended to out up to fcgi_close_record is its content.
 * *at is for fcgi_close_record; out must not lose bytes at its front meanwhile.
 */
int fcgi_open_record(struct buf *out, unsigned type, unsigned id, size_t *at) MUST_CHECK;

/* Writes the length; content over FCGI_CONTENT_MAX is split, an empty record is taken back. */
int fcgi_close_record(struct buf *out, size_t at) MUST_CHECK;

/* protocol_status: FCGI_REQUEST_COMPLETE and its like. */
int fcgi_put_end_request(struct buf *out, unsigned id, uint32_t app_status,
                         unsigned protocol_status) MUST_CHECK;

int fcgi_put_unknown_type(struct buf *out, unsigned type) MUST_CHECK;

/* What FCGI_GET_VALUES may ask for. */
struct fcgi_values {
    unsigned max_conns, max_reqs;
    bool mpxs_conns;
};

/* Answers the names in asked (a whole FCGI_GET_VALUES content), each once; foreign ones are left
 * out. */
int fcgi_put_values_result(struct buf *out, struct str asked,
                           const struct fcgi_values *values) MUST_CHECK;

#endif
