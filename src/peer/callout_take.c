/*
 * What a call-out receives: head and body, kept in memory that is wiped, as
 * much as was allowed.
 */
#include "base/mem.h"
#include "peer/callout_internal.h"
#include "wire/headers.h"

size_t callout_take_body(char *p, size_t one, size_t n, void *arg)
{
    struct callout *c = arg;

    (void)one;
    if (c->body.n + n > (size_t)c->numbers[CALLOUT_MAX_BYTES]) {
        c->refused = ERR_BOUND;
        return 0;
    }
    wiped_buf_add(&c->body, p, n);
    return n;
}

/* "HTTP/1.1 200 OK": what an interim response said is forgotten. */
static int take_status(struct callout *c, struct str line)
{
    const char *blank = memchr(line.p, ' ', line.n);
    uint64_t status;

    if (!blank || line.p + line.n - blank < 4)
        return ERR_SYNTAX;
    if (str_to_u64(str_trim((struct str){ blank + 1, 3 }), 999, &status) != 0 || status < 100)
        return ERR_SYNTAX;
    c->status = (int)status;
    wiped_buf_free(&c->head);
    c->field_count = 0;
    return 0;
}

static int take_field(struct callout *c, struct str line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct str name, value;

    if (!colon)
        return ERR_SYNTAX;
    name = (struct str){ line.p, (size_t)(colon - line.p) };
    value = str_trim((struct str){ colon + 1, line.n - name.n - 1 });
    if (!header_name_valid(name) || !header_value_valid(value))
        return ERR_SYNTAX;
    if (c->field_count == CALLOUT_HEADERS_MAX)
        return ERR_BOUND;
    if (!c->fields)
        c->fields = xcalloc(CALLOUT_HEADERS_MAX, sizeof *c->fields);
    c->fields[c->field_count++] =
        (struct callout_field){ (unsigned)c->head.n, (unsigned)name.n,
                                (unsigned)(c->head.n + name.n), (unsigned)value.n };
    wiped_buf_add(&c->head, name.p, name.n);
    wiped_buf_add(&c->head, value.p, value.n);
    return 0;
}

/* One line of the head. Lines behind the head are a trailer's: nobody asks for them. */
static int take_line(struct callout *c, struct str line)
{
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    if (c->head_ended)
        return 0;
    if (line.n == 0) {
        c->head_ended = c->status >= 200;
        return 0;
    }
    return str_starts(line, STR("HTTP/")) ? take_status(c, line) : take_field(c, line);
}

size_t callout_take_line(char *p, size_t one, size_t n, void *arg)
{
    struct callout *c = arg;

    (void)one;
    c->head_bytes += n;
    if (c->head_bytes > CALLOUT_HEAD_BYTES_MAX)
        c->refused = ERR_BOUND;
    else
        c->refused = take_line(c, (struct str){ p, n });
    return c->refused ? 0 : n;
}

void callout_drop(struct callout *c)
{
    wiped_buf_free(&c->body);
    wiped_buf_free(&c->head);
    c->field_count = 0;
}

int callout_status(const struct callout *c)
{
    return c->e.code < 0 ? c->e.code : c->status;
}

const char *callout_error(const struct callout *c)
{
    return c->e.text;
}

struct str callout_body(const struct callout *c)
{
    return (struct str){ c->body.p, c->body.n };
}

int callout_header_at(const struct callout *c, unsigned i, struct str *name, struct str *value)
{
    if (i >= c->field_count)
        return -1;
    *name = (struct str){ c->head.p + c->fields[i].name, c->fields[i].name_n };
    *value = (struct str){ c->head.p + c->fields[i].value, c->fields[i].value_n };
    return 0;
}
