/*
 * See references.h. A key of kind LIST or PATHS may hold several references,
 * beside other items, and each may stand for several items.
 */
#include "conf/references.h"

#define OPENING "{vault://"
#define RESOLVED_MAX_BYTES 131072

static references_resolver *the_resolver;

void references_set_resolver(references_resolver *resolver)
{
    the_resolver = resolver;
}

size_t reference_bytes(struct str text)
{
    const char *end = str_starts(text, STR(OPENING)) ? memchr(text.p, '}', text.n) : NULL;

    return end ? (size_t)(end - text.p) + 1 : 0;
}

static bool is_list(int index)
{
    return CONF_TABLE[index].kind == CONF_LIST || CONF_TABLE[index].kind == CONF_PATHS;
}

/* Takes the first item off a value that is a list, or the value: commas in references are theirs.
 */
static struct str take_item(struct str *rest, bool list)
{
    struct str item = *rest;
    size_t n = 0;

    while (list && n < rest->n && rest->p[n] != ',') {
        size_t bytes = reference_bytes((struct str){ rest->p + n, rest->n - n });

        n += bytes ? bytes : 1;
    }
    item.n = list ? n : rest->n;
    n = item.n + (item.n < rest->n);
    *rest = (struct str){ rest->p + n, rest->n - n };
    return str_trim(item);
}

static bool is_reference(struct str item)
{
    return str_starts(item, STR(OPENING)) && item.p[item.n - 1] == '}';
}

bool references_are_in(const struct conf *c, int index)
{
    struct str rest = str_from(c->values[index].text);

    while (rest.n)
        if (is_reference(take_item(&rest, is_list(index))))
            return true;
    return false;
}

static struct conf_reference *find(const struct conf *c, int index, struct str text)
{
    struct conf_reference *r;

    STAILQ_FOREACH (r, &c->references, link)
        if (r->key == index && str_eq(r->text, text))
            return r;
    return NULL;
}

static void add(struct conf *c, int index, struct str text, struct str value)
{
    struct conf_reference *r = arena_alloc(&c->arena, sizeof *r);

    *r = (struct conf_reference){ .key = index,
                                  .is_list = is_list(index),
                                  .text = arena_str(&c->arena, text) };
    if (value.p)
        r->value = arena_str(&c->arena, value);
    STAILQ_INSERT_TAIL(&c->references, r, link);
}

/* Commands to a running instance need no others. */
static bool is_for_commands(int index)
{
    return index == CONF_KEY_prefix || index == CONF_KEY_pid_file ||
           index == CONF_KEY_drain_timeout;
}

size_t references_collect(struct conf *c, const struct conf *old)
{
    size_t n = 0;

    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        struct str rest = str_from(c->values[i].text);

        if (CONF_TABLE[i].kind == CONF_SECRET || (old && !CONF_TABLE[i].reload) ||
            (c->lenient && !is_for_commands(i)))
            continue;
        while (rest.n && n < REFERENCES_MAX) {
            struct str item = take_item(&rest, is_list(i));

            if (is_reference(item) && !find(c, i, item)) {
                add(c, i, item, STR_NULL);
                n++;
            }
        }
    }
    return n;
}

/* As in weir.conf itself, blanks around a value are no part of it; nor is a file's last newline. */
static struct str trim(struct str s)
{
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    while (s.n && strchr(" \t\r\n", *s.p))
        s = (struct str){ s.p + 1, s.n - 1 };
    return s;
}

int references_look_up(struct conf *c, const struct conf *rest, struct err *e)
{
    struct err reason;
    int rc;

    if (the_resolver)
        rc = the_resolver(rest, &c->references, &c->arena, &reason);
    else
        rc = err_set(&reason, ERR_LUA, "references cannot be used here");
    return references_looked_up(c, rc, &reason, e);
}

int references_looked_up(struct conf *c, int rc, const struct err *reason, struct err *e)
{
    struct conf_reference *r;

    STAILQ_FOREACH (r, &c->references, link) {
        r->value = trim(r->value);
        if (rc != 0)
            r->why = arena_str(&c->arena, str_from(reason->text)).p;
    }
    if (rc != ERR_CONFIG || c->lenient)
        return 0;
    *e = *reason;
    return rc;
}

void references_keep(struct conf *c, const struct conf *old, int index)
{
    const struct conf_reference *r;

    STAILQ_FOREACH (r, &old->references, link)
        if (r->key == index && !find(c, index, r->text))
            add(c, index, r->text, r->value);
}

static int check_value(const struct conf_reference *r, struct str item, struct err *e)
{
    if (!r || !r->value.p)
        return err_set(e, ERR_CONFIG, "%.*s: %s", STR_ARG(item),
                       !r       ? "too many references"
                       : r->why ? r->why
                                : "it was not looked up");
    if (memchr(r->value.p, 0, r->value.n))
        return err_set(e, ERR_CONFIG, "%.*s: its value holds a zero byte", STR_ARG(item));
    return 0;
}

static int fill_item(struct buf *out, const struct conf *c, int index, struct str item,
                     struct err *e)
{
    const struct conf_reference *r = is_reference(item) ? find(c, index, item) : NULL;

    if (is_reference(item)) {
        int rc = check_value(r, item, e);

        if (rc != 0)
            return rc;
        item = r->value;
    }
    if (buf_add(out, item.p, item.n) != 0 || buf_add(out, is_list(index) ? "," : "", 1) != 0)
        return err_set(e, ERR_CONFIG, "longer than %d bytes", RESOLVED_MAX_BYTES);
    return 0;
}

/* Such as one whose #version the parser took for a comment. */
static int check_ends(const struct conf *c, int index, struct err *e)
{
    struct str rest = str_from(c->values[index].text);

    while (rest.n) {
        struct str item = take_item(&rest, is_list(index));

        if (str_starts(item, STR(OPENING)) && !is_reference(item))
            return err_set(e, ERR_CONFIG, "a reference ends with }, and a # in it is written \\#");
    }
    return 0;
}

int references_fill(struct conf *c, int index, struct err *e)
{
    struct str rest = str_from(c->values[index].text);
    struct buf out = { .max_bytes = RESOLVED_MAX_BYTES };
    int rc = check_ends(c, index, e);

    if (rc != 0 || CONF_TABLE[index].kind == CONF_SECRET || !references_are_in(c, index))
        return rc;
    must(buf_reserve(&out, RESOLVED_MAX_BYTES)); /* so that it does not move: it is wiped */
    while (rc == 0 && rest.n)
        rc = fill_item(&out, c, index, take_item(&rest, is_list(index)), e);
    if (rc == 0)
        c->values[index].resolved = arena_str(&c->arena, (struct str){ out.p, out.n - 1 }).p;
    buf_wipe(&out);
    return rc;
}
