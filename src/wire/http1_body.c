/*
 * The bodies of http1.h. Chunk-size lines, extensions and trailers are bounded; their lines end
 * with CR LF and nothing else: a reader that takes a lone LF for an end sees other chunks.
 */
#include "base/err.h"
#include "wire/http1.h"

#define MAX_SIZE_DIGITS 16
#define MAX_EXTENSION_BYTES 4096 /* in one line */
#define MAX_TRAILER_BYTES 8192   /* in all */

enum state {
    ST_SIZE,      /* in the digits of a chunk's size */
    ST_EXTENSION, /* behind them, up to CR */
    ST_SIZE_LF,   /* LF of that line */
    ST_DATA,      /* left bytes of the body */
    ST_DATA_CR,   /* behind a chunk */
    ST_DATA_LF,
    ST_TRAILER,    /* at the beginning of a line behind the last chunk */
    ST_TRAILER_IN, /* in such a line */
    ST_TRAILER_LF, /* LF of such a line */
    ST_LAST_LF,    /* LF of the empty line */
    ST_END,
    ST_ERROR,
};

void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t content_length)
{
    *b = (struct http1_body){ .framing = (uint8_t)framing };
    if (framing == HTTP1_BODY_CHUNKED)
        return;
    b->left = framing == HTTP1_BODY_LENGTH ? content_length : UINT64_MAX;
    b->state = framing == HTTP1_BODY_NONE || b->left == 0 ? ST_END : ST_DATA;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum state at_size(struct http1_body *b, char c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        if (b->digits == MAX_SIZE_DIGITS)
            return ST_ERROR;
        b->digits++;
        b->left = b->left << 4 | (unsigned)digit;
        return ST_SIZE;
    }
    if (b->digits == 0)
        return ST_ERROR;
    b->skipped = 0;
    if (c == '\r')
        return ST_SIZE_LF;
    return c == ';' || c == ' ' || c == '\t' ? ST_EXTENSION : ST_ERROR;
}

/* A byte nobody wants, in a line that ends with CR. */
static enum state at_skipped(struct http1_body *b, char c, unsigned max, enum state same,
                             enum state cr)
{
    if (c == '\r')
        return cr;
    if (((unsigned char)c < ' ' && c != '\t') || c == 0x7f || ++b->skipped > max)
        return ST_ERROR;
    return same;
}

static enum state at_size_lf(struct http1_body *b, char c)
{
    if (c != '\n')
        return ST_ERROR;
    b->digits = 0;
    b->skipped = 0;
    return b->left ? ST_DATA : ST_TRAILER;
}

/* One byte between the pieces of a chunked body. */
static enum state step(struct http1_body *b, char c)
{
    switch ((enum state)b->state) {
    case ST_SIZE:
        return at_size(b, c);
    case ST_EXTENSION:
        return at_skipped(b, c, MAX_EXTENSION_BYTES, ST_EXTENSION, ST_SIZE_LF);
    case ST_SIZE_LF:
        return at_size_lf(b, c);
    case ST_DATA_CR:
        return c == '\r' ? ST_DATA_LF : ST_ERROR;
    case ST_DATA_LF:
        return c == '\n' ? ST_SIZE : ST_ERROR;
    case ST_TRAILER:
        return at_skipped(b, c, MAX_TRAILER_BYTES, ST_TRAILER_IN, ST_LAST_LF);
    case ST_TRAILER_IN:
        return at_skipped(b, c, MAX_TRAILER_BYTES, ST_TRAILER_IN, ST_TRAILER_LF);
    case ST_TRAILER_LF:
        return c == '\n' ? ST_TRAILER : ST_ERROR;
    case ST_LAST_LF:
        return c == '\n' ? ST_END : ST_ERROR;
    case ST_DATA:
    case ST_END:
    case ST_ERROR:
        break;
    }
    return ST_ERROR;
}

static enum http1_event give_piece(struct http1_body *b, struct str *in, struct str *piece)
{
    size_t n = in->n < b->left ? in->n : (size_t)b->left;

    *piece = (struct str){ in->p, n };
    in->p += n;
    in->n -= n;
    if (b->framing == HTTP1_BODY_UNTIL_CLOSE)
        return HTTP1_PIECE;
    b->left -= n;
    if (b->left == 0)
        b->state = b->framing == HTTP1_BODY_CHUNKED ? ST_DATA_CR : ST_END;
    return HTTP1_PIECE;
}

enum http1_event http1_body_decode(struct http1_body *b, struct str *in, struct str *piece)
{
    for (;;) {
        if (b->state == ST_END)
            return HTTP1_END;
        if (b->state == ST_ERROR)
            return HTTP1_ERROR;
        if (in->n == 0)
            return HTTP1_MORE;
        if (b->state == ST_DATA)
            return give_piece(b, in, piece);
        b->state = (uint8_t)step(b, *in->p);
        in->p++;
        in->n--;
    }
}

bool http1_body_ends_here(const struct http1_body *b)
{
    return b->state == ST_END || b->framing == HTTP1_BODY_UNTIL_CLOSE;
}

int http1_put_chunk(struct buf *out, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    char line[MAX_SIZE_DIGITS + 2], *at = line + sizeof line;
    size_t left = n, line_n;
    char *to;

    if (n == 0)
        return 0;
    *--at = '\n';
    *--at = '\r';
    for (; left; left >>= 4)
        *--at = hex[left & 15];
    line_n = (size_t)(line + sizeof line - at);
    to = buf_reserve(out, line_n + n + 2);
    if (!to)
        return ERR_BOUND;
    memcpy(to, at, line_n);
    memcpy(to + line_n, p, n);
    memcpy(to + line_n + n, "\r\n", 2);
    out->n += line_n + n + 2;
    return 0;
}

int http1_put_last_chunk(struct buf *out)
{
    return buf_add(out, "0\r\n\r\n", 5) ? ERR_BOUND : 0;
}
