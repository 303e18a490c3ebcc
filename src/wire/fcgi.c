/*
 * See fcgi.h. The decoder owns eight bytes, for a header or a BEGIN_REQUEST body
 * that is cut in two; contents go through as they come. It refuses a wrong
 * version, records that only applications send, and ids where there must be
 * none or one.
 */
#include "wire/fcgi.h"
#include "base/err.h"

/* The structs are laid over bytes: they must have no gaps of their own. */
_Static_assert(sizeof(FCGI_Header) == FCGI_HEADER_LEN, "a header is 8 bytes");
_Static_assert(sizeof(FCGI_BeginRequestBody) == 8, "it fits struct fcgi_decoder.fixed");
_Static_assert(sizeof(struct fcgi_decoder) <= 32, "there is one for each idle connection");

enum state {
    ST_HEADER, /* in a record header */
    ST_BEGIN,  /* in a BEGIN_REQUEST body */
    ST_STREAM, /* in content that is given on */
    ST_SKIP,   /* in content that is not */
    ST_ERROR,
};

static enum fcgi_event fail(struct fcgi_decoder *d, struct fcgi_record *rec, const char *reason)
{
    d->state = ST_ERROR;
    d->reason = rec->reason = reason;
    return FCGI_EV_ERROR;
}

static void take(struct str *in, size_t n)
{
    if (n == 0) /* in->p may be NULL then */
        return;
    in->p += n;
    in->n -= n;
}

/* Gathers eight bytes over as many calls as it takes; true once they are there. */
static bool gather(struct fcgi_decoder *d, struct str *in)
{
    size_t want = sizeof d->fixed - d->fixed_n;
    size_t n = in->n < want ? in->n : want;

    if (n == 0)
        return false;
    memcpy(d->fixed + d->fixed_n, in->p, n);
    d->fixed_n = (uint8_t)(d->fixed_n + n);
    take(in, n);
    if (d->fixed_n < sizeof d->fixed)
        return false;
    d->fixed_n = 0;
    return true;
}

static enum fcgi_event event_of(unsigned type)
{
    switch (type) {
    case FCGI_PARAMS:
        return FCGI_EV_PARAMS;
    case FCGI_STDIN:
        return FCGI_EV_STDIN;
    case FCGI_DATA:
        return FCGI_EV_DATA;
    default:
        return FCGI_EV_GET_VALUES;
    }
}

/* A record with id 0 concerns the connection. */
static enum fcgi_event start_management(struct fcgi_decoder *d, struct fcgi_record *rec)
{
    if (d->type == FCGI_GET_VALUES) {
        d->state = ST_STREAM;
        if (d->content_left > 0)
            return FCGI_EV_NONE;
        rec->end = true;
        return FCGI_EV_GET_VALUES;
    }
    if (d->type >= FCGI_BEGIN_REQUEST && d->type <= FCGI_DATA)
        return fail(d, rec, "a record of a request has the id 0");
    d->state = ST_SKIP;
    return FCGI_EV_UNKNOWN;
}

static enum fcgi_event start_application(struct fcgi_decoder *d, struct fcgi_record *rec)
{
    switch (d->type) {
    case FCGI_BEGIN_REQUEST:
        if (d->content_left != sizeof(FCGI_BeginRequestBody))
            return fail(d, rec, "a BEGIN_REQUEST record is not 8 bytes long");
        d->state = ST_BEGIN;
        return FCGI_EV_NONE;
    case FCGI_ABORT_REQUEST:
        d->state = ST_SKIP;
        return FCGI_EV_ABORT;
    case FCGI_PARAMS:
    case FCGI_STDIN:
    case FCGI_DATA:
        d->state = ST_STREAM;
        if (d->content_left > 0)
            return FCGI_EV_NONE;
        rec->end = true;
        return event_of(d->type);
    case FCGI_END_REQUEST:
    case FCGI_STDOUT:
    case FCGI_STDERR:
        return fail(d, rec, "a record that only applications send");
    case FCGI_GET_VALUES:
    case FCGI_GET_VALUES_RESULT:
    case FCGI_UNKNOWN_TYPE:
        return fail(d, rec, "a management record has the id of a request");
    default:
        d->state = ST_SKIP;
        return FCGI_EV_NONE;
    }
}

/* Looks at the header in d->fixed. FCGI_EV_NONE: go on with the content. */
static enum fcgi_event start_record(struct fcgi_decoder *d, struct fcgi_record *rec)
{
    FCGI_Header header;

    memcpy(&header, d->fixed, sizeof header);
    if (UNLIKELY(header.version != FCGI_VERSION_1)) {
        rec->id = rec->type = 0; /* a record skipped before this one has left its own */
        return fail(d, rec, "not FastCGI version 1");
    }
    d->type = header.type;
    d->id = (uint16_t)(header.requestIdB1 << 8 | header.requestIdB0);
    d->content_left = (uint16_t)(header.contentLengthB1 << 8 | header.contentLengthB0);
    d->padding_left = header.paddingLength;
    rec->id = d->id;
    rec->type = d->type;
    return d->id == FCGI_NULL_REQUEST_ID ? start_management(d, rec) : start_application(d, rec);
}

static enum fcgi_event finish_begin(struct fcgi_decoder *d, struct fcgi_record *rec)
{
    FCGI_BeginRequestBody body;

    memcpy(&body, d->fixed, sizeof body);
    d->content_left = 0;
    d->state = ST_SKIP;
    rec->id = d->id;
    rec->type = d->type;
    rec->role = (unsigned)(body.roleB1 << 8 | body.roleB0);
    rec->keep_conn = (body.flags & FCGI_KEEP_CONN) != 0;
    return FCGI_EV_BEGIN;
}

/* The next piece of content; there is input and content left. */
static enum fcgi_event give_piece(struct fcgi_decoder *d, struct str *in, struct fcgi_record *rec)
{
    size_t n = in->n < d->content_left ? in->n : d->content_left;

    rec->id = d->id;
    rec->type = d->type;
    rec->content = (struct str){ in->p, n };
    take(in, n);
    d->content_left = (uint16_t)(d->content_left - n);
    /* GET_VALUES is no stream: its one record is all there is. */
    rec->end = d->type == FCGI_GET_VALUES && d->content_left == 0;
    return event_of(d->type);
}

/* Passes over content nobody wants and padding; true when the record is over. */
static bool skip(struct fcgi_decoder *d, struct str *in)
{
    size_t n = in->n < d->content_left ? in->n : d->content_left;

    take(in, n);
    d->content_left = (uint16_t)(d->content_left - n);
    n = in->n < d->padding_left ? in->n : d->padding_left;
    take(in, n);
    d->padding_left = (uint8_t)(d->padding_left - n);
    if (d->content_left > 0 || d->padding_left > 0)
        return false;
    d->state = ST_HEADER;
    return true;
}

enum fcgi_event fcgi_decode(struct fcgi_decoder *d, struct str *in, struct fcgi_record *rec)
{
    enum fcgi_event event;

    *rec = (struct fcgi_record){ 0 };
    for (;;) {
        switch ((enum state)d->state) {
        case ST_HEADER:
            if (!gather(d, in))
                return FCGI_EV_NONE;
            event = start_record(d, rec);
            if (event != FCGI_EV_NONE)
                return event;
            break;
        case ST_BEGIN:
            if (!gather(d, in))
                return FCGI_EV_NONE;
            return finish_begin(d, rec);
        case ST_STREAM:
            if (d->content_left > 0 && in->n > 0)
                return give_piece(d, in, rec);
            if (d->content_left > 0 || !skip(d, in))
                return FCGI_EV_NONE;
            break;
        case ST_SKIP:
            if (!skip(d, in))
                return FCGI_EV_NONE;
            break;
        case ST_ERROR:
            rec->reason = d->reason;
            return FCGI_EV_ERROR;
        }
    }
}

/* One length at *at: a byte, or four with the highest bit set. False if they are not all there. */
static bool pair_length(struct str in, size_t *at, size_t *n)
{
    const unsigned char *p = (const unsigned char *)in.p + *at;
    size_t left = in.n - *at;

    if (left == 0)
        return false;
    if (p[0] < 0x80) {
        *n = p[0];
        *at += 1;
        return true;
    }
    if (left < 4)
        return false;
    *n = (size_t)(p[0] & 0x7f) << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    *at += 4;
    return true;
}

int fcgi_pair_long(struct str *in, struct str *name, struct str *value)
{
    size_t name_n, value_n, at = 0, left;

    if (in->n == 0)
        return 0;
    if (!pair_length(*in, &at, &name_n) || !pair_length(*in, &at, &value_n))
        return ERR_SYNTAX;
    left = in->n - at;
    if (name_n > left || value_n > left - name_n)
        return ERR_SYNTAX;
    *name = (struct str){ in->p + at, name_n };
    *value = (struct str){ name->p + name_n, value_n };
    in->p = value->p + value_n;
    in->n = left - name_n - value_n;
    return 1;
}

static FCGI_Header make_header(unsigned type, unsigned id, size_t n)
{
    return (FCGI_Header){
        .version = FCGI_VERSION_1,
        .type = (unsigned char)type,
        .requestIdB1 = (unsigned char)(id >> 8),
        .requestIdB0 = (unsigned char)id,
        .contentLengthB1 = (unsigned char)(n >> 8),
        .contentLengthB0 = (unsigned char)n,
    };
}

/* A whole record of fixed size. */
static int put_record(struct buf *out, unsigned type, unsigned id, const void *body, size_t n)
{
    FCGI_Header header = make_header(type, id, n);
    char *to = buf_reserve(out, sizeof header + n);

    if (!to)
        return ERR_BOUND;
    memcpy(to, &header, sizeof header);
    if (n)
        memcpy(to + sizeof header, body, n);
    out->n += sizeof header + n;
    return 0;
}

int fcgi_put_stream(struct buf *out, unsigned type, unsigned id, const char *p, size_t n)
{
    size_t records = n / FCGI_CONTENT_MAX + 1;

    if (n == 0)
        return 0;
    if (!buf_reserve(out, n + records * FCGI_HEADER_LEN))
        return ERR_BOUND;
    while (n > 0) {
        size_t part = n < FCGI_CONTENT_MAX ? n : FCGI_CONTENT_MAX;
        int rc = put_record(out, type, id, p, part);

        if (rc)
            return rc;
        p += part;
        n -= part;
    }
    return 0;
}

int fcgi_put_stream_end(struct buf *out, unsigned type, unsigned id)
{
    return put_record(out, type, id, NULL, 0);
}

int fcgi_open_record(struct buf *out, unsigned type, unsigned id, size_t *at)
{
    *at = out->n;
    return put_record(out, type, id, NULL, 0);
}

/* Makes room for the headers of the second and further records, from the back. */
static int split_record(struct buf *out, size_t at, size_t n)
{
    size_t more = (n - 1) / FCGI_CONTENT_MAX;
    FCGI_Header header;
    char *content;

    if (!buf_reserve(out, more * FCGI_HEADER_LEN))
        return ERR_BOUND;
    memcpy(&header, out->p + at, sizeof header);
    content = out->p + at + FCGI_HEADER_LEN;
    for (size_t i = more; i > 0; i--) {
        size_t from = i * FCGI_CONTENT_MAX;
        size_t part = i == more ? n - from : FCGI_CONTENT_MAX;
        char *to = content + from + (i - 1) * FCGI_HEADER_LEN;
        FCGI_Header next = make_header(
            header.type, (unsigned)(header.requestIdB1 << 8 | header.requestIdB0), part);

        memmove(to + FCGI_HEADER_LEN, content + from, part);
        memcpy(to, &next, sizeof next);
    }
    out->n += more * FCGI_HEADER_LEN;
    return 0;
}

int fcgi_close_record(struct buf *out, size_t at)
{
    size_t n, first;

    must(out->n >= FCGI_HEADER_LEN && at <= out->n - FCGI_HEADER_LEN);
    n = out->n - at - FCGI_HEADER_LEN;
    first = n < FCGI_CONTENT_MAX ? n : FCGI_CONTENT_MAX;
    if (n == 0) {
        out->n = at;
        return 0;
    }
    if (n > FCGI_CONTENT_MAX) {
        int rc = split_record(out, at, n);

        if (rc)
            return rc;
    }
    out->p[at + offsetof(FCGI_Header, contentLengthB1)] = (char)(first >> 8);
    out->p[at + offsetof(FCGI_Header, contentLengthB0)] = (char)first;
    return 0;
}

int fcgi_put_end_request(struct buf *out, unsigned id, uint32_t app_status,
                         unsigned protocol_status)
{
    FCGI_EndRequestBody body = {
        .appStatusB3 = (unsigned char)(app_status >> 24),
        .appStatusB2 = (unsigned char)(app_status >> 16),
        .appStatusB1 = (unsigned char)(app_status >> 8),
        .appStatusB0 = (unsigned char)app_status,
        .protocolStatus = (unsigned char)protocol_status,
    };

    return put_record(out, FCGI_END_REQUEST, id, &body, sizeof body);
}

int fcgi_put_unknown_type(struct buf *out, unsigned type)
{
    FCGI_UnknownTypeBody body = { .type = (unsigned char)type };

    return put_record(out, FCGI_UNKNOWN_TYPE, FCGI_NULL_REQUEST_ID, &body, sizeof body);
}

/* Both lengths are below 128. */
static size_t write_pair(char *to, struct str name, unsigned value)
{
    char room[U64_DIGITS];
    struct str digits = str_from_u64(value, room);

    to[0] = (char)name.n;
    to[1] = (char)digits.n;
    memcpy(to + 2, name.p, name.n);
    memcpy(to + 2 + name.n, digits.p, digits.n);
    return 2 + name.n + digits.n;
}

int fcgi_put_values_result(struct buf *out, struct str asked, const struct fcgi_values *values)
{
    const struct {
        struct str name;
        unsigned value;
    } known[] = {
        { STR(FCGI_MAX_CONNS), values->max_conns },
        { STR(FCGI_MAX_REQS), values->max_reqs },
        { STR(FCGI_MPXS_CONNS), values->mpxs_conns },
    };
    bool wanted[ARRAY_LEN(known)] = { false };
    char content[ARRAY_LEN(known) * 32];
    struct str name, value;
    size_t n = 0;

    while (fcgi_pair_next(&asked, &name, &value) > 0)
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            wanted[i] |= str_eq(name, known[i].name);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (wanted[i])
            n += write_pair(content + n, known[i].name, known[i].value);
    return put_record(out, FCGI_GET_VALUES_RESULT, FCGI_NULL_REQUEST_ID, content, n);
}
