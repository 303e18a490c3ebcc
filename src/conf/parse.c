/*
 * See parse.h. Collects each key's text with its origin, has references looked
 * up, then converts all in the table's order: prefix comes first, so that
 * {prefix} is known. Refuses unknown and repeated keys, long lines and large
 * files.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "conf/parse.h"
#include "conf/check.h"
#include "conf/file.h"
#include "conf/references.h"
#include "conf/snapshot.h"
#include "conf/vaults.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1 << 20)
#define LINE_MAX_BYTES 65536
#define VALUE_MAX_BYTES 131072 /* with {prefix} filled in */
#define DECLARATIVE_MAX_BYTES (64 << 20)
#define NAME_SHOWN_BYTES 80

static struct conf *conf_new(void)
{
    struct conf *c = xcalloc(1, sizeof *c);

    arena_init(&c->arena, 8192);
    STAILQ_INIT(&c->vault_settings);
    STAILQ_INIT(&c->references);
    for (int i = 0; i < CONF_KEY_COUNT; i++)
        c->values[i].text = CONF_TABLE[i].default_text;
    return c;
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    if (c->declarative.p)
        explicit_bzero((char *)c->declarative.p, c->declarative.n);
    free((char *)c->declarative.p);
    snapshot_free(c->snapshot);
    arena_wipe(&c->arena);
    arena_fini(&c->arena);
    free(c);
}

/* Whether it may be shown: what stands in a wrong line may be part of a secret. */
static bool is_like_a_key(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!memchr("abcdefghijklmnopqrstuvwxyz0123456789_-", name.p[i], 38))
            return false;
    return name.n > 0 && name.n <= NAME_SHOWN_BYTES;
}

static int refuse_name(const char *origin, struct str name, struct err *e)
{
    const char *near = conf_key_suggest(name);

    if (near)
        return err_set(e, ERR_CONFIG, "%s: unknown key \"%.*s\", did you mean \"%s\"?", origin,
                       STR_ARG(name), near);
    if (is_like_a_key(name))
        return err_set(e, ERR_CONFIG, "%s: unknown key \"%.*s\"", origin, STR_ARG(name));
    return err_set(e, ERR_CONFIG, "%s: what stands before the = is no key", origin);
}

static int refuse_line(const char *origin, struct str line, struct err *e)
{
    struct str word = { line.p, 0 };

    while (word.n < line.n && !isspace((unsigned char)line.p[word.n]))
        word.n++;
    if (is_like_a_key(word))
        return err_set(e, ERR_CONFIG, "%s: expected \"key = value\", got \"%.*s%s\"", origin,
                       STR_ARG(word), word.n < line.n ? " ..." : "");
    return err_set(e, ERR_CONFIG, "%s: expected \"key = value\"", origin);
}

/* Cuts a comment off in place; "\#" becomes "#". Returns the new length. */
static size_t strip_comment(char *line, size_t n)
{
    size_t to = 0;

    for (size_t i = 0; i < n && line[i] != '#'; i++) {
        if (line[i] == '\\' && i + 1 < n && line[i + 1] == '#')
            i++;
        line[to++] = line[i];
    }
    return to;
}

static int parse_line(struct conf *c, const char *origin, struct str line, struct err *e)
{
    const char *equals = memchr(line.p, '=', line.n);
    struct str name, value;
    int index;

    if (!equals)
        return refuse_line(origin, line, e);
    name = str_trim((struct str){ line.p, (size_t)(equals - line.p) });
    value = str_trim((struct str){ equals + 1, (size_t)(line.p + line.n - equals - 1) });
    index = conf_key_find(name);
    if (index < 0 && vaults_is_key(name))
        return vaults_add(c, origin, name, value, e);
    if (index < 0)
        return refuse_name(origin, name, e);
    if (c->values[index].origin)
        return err_set(e, ERR_CONFIG, "%s: %s is set already at %s", origin, CONF_TABLE[index].name,
                       c->values[index].origin);
    c->values[index].text = arena_str(&c->arena, value).p;
    c->values[index].origin = origin;
    return 0;
}

static int parse_text(struct conf *c, const char *name, struct str text, struct err *e)
{
    if (memchr(text.p ? text.p : "", 0, text.n))
        return err_set(e, ERR_CONFIG, "%s: holds a zero byte: this is no text file", name);
    for (unsigned number = 1; text.n; number++) {
        const char *newline = memchr(text.p, '\n', text.n);
        size_t n = newline ? (size_t)(newline - text.p) : text.n;
        struct str line;
        int rc;

        if (n > LINE_MAX_BYTES)
            return err_set(e, ERR_CONFIG, "%s:%u: the line is longer than %d bytes", name, number,
                           LINE_MAX_BYTES);
        line = arena_str(&c->arena, (struct str){ text.p, n });
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        line.n = strip_comment((char *)line.p, line.n);
        line = str_trim(line);
        if (line.n) {
            rc = parse_line(c, arena_printf(&c->arena, "%s:%u", name, number).p, line, e);
            if (rc != 0 && !c->lenient)
                return rc;
        }
        text.p += n + (newline != NULL);
        text.n -= n + (newline != NULL);
    }
    return 0;
}

static void apply_environment(struct conf *c)
{
    char name[80];

    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        const char *value;
        size_t n = (size_t)snprintf(name, sizeof name, CONF_ENV_PREFIX "%s", CONF_TABLE[i].name);

        for (size_t j = 0; j < n; j++)
            name[j] = (char)toupper((unsigned char)name[j]);
        value = getenv(name);
        if (!value)
            continue;
        c->values[i].text = arena_str(&c->arena, str_trim(str_from(value))).p;
        c->values[i].origin = arena_str(&c->arena, str_from(name)).p;
    }
}

static int apply_overrides(struct conf *c, const struct conf_override *o, struct err *e)
{
    for (; o && o->key; o++) {
        int index = conf_key_find(str_from(o->key));

        if (index < 0)
            return refuse_name("command line", str_from(o->key), e);
        c->values[index].text = arena_str(&c->arena, str_from(o->value)).p;
        c->values[index].origin = "command line";
    }
    return 0;
}

/* Fills {prefix} and the like in. */
static int expand(struct conf *c, enum conf_key_index index, const char **text, struct err *e)
{
    const struct {
        struct str name, value;
    } known[] = {
        { STR("{prefix}"), str_from(c->prefix) },
        { STR("{datadir}"), STR(PKGDATADIR) },
        { STR("{sysconfdir}"), STR(SYSCONFDIR) },
        { STR("{localstatedir}"), STR(LOCALSTATEDIR) },
    };
    struct str rest = str_from(*text);
    struct buf out = { .max_bytes = VALUE_MAX_BYTES };
    int bad = 0;

    if (!memchr(rest.p, '{', rest.n))
        return 0;
    while (rest.n && !bad) {
        size_t taken = reference_bytes(rest) ? reference_bytes(rest) : 1;
        struct str piece = { rest.p, taken };

        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
            if (known[i].value.p && str_starts(rest, known[i].name)) {
                piece = known[i].value;
                taken = known[i].name.n;
            }
        }
        bad = buf_add(&out, piece.p, piece.n);
        rest.p += taken;
        rest.n -= taken;
    }
    *text = arena_str(&c->arena, (struct str){ out.p, out.n }).p;
    buf_free(&out);
    return bad ? conf_refuse(c, index, e, "longer than %d bytes", VALUE_MAX_BYTES) : 0;
}

/* Keys that are read at a start only keep their value over a reload. */
static void keep_old(struct conf *c, const struct conf *old, int index)
{
    const char *kept = old->values[index].text;

    if (CONF_TABLE[index].reload)
        return;
    references_keep(c, old, index);
    if (strcmp(c->values[index].text, kept) == 0)
        return;
    if (!c->kept_key)
        c->kept_key = CONF_TABLE[index].name;
    c->values[index].text = arena_str(&c->arena, str_from(kept)).p;
}

static int convert(struct conf *c, int index, struct err *e)
{
    struct conf_value *v = &c->values[index];
    int rc = references_fill(c, index, e);

    if (rc != 0 && c->lenient) { /* the reference stays to be shown */
        v->resolved = CONF_TABLE[index].default_text;
        rc = expand(c, index, &v->resolved, e);
    }
    return rc == 0 ? conf_key_convert(c, index, v->resolved ? v->resolved : v->text, e) : rc;
}

static int convert_all(struct conf *c, const struct conf *old, struct err *e)
{
    struct err reason;

    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        if (expand(c, i, &c->values[i].text, e) != 0)
            return ERR_CONFIG;
        if (old)
            keep_old(c, old, i);
        if (convert(c, i, &reason) == 0)
            continue;
        if (!c->lenient || c->values[i].text == CONF_TABLE[i].default_text)
            return conf_refuse(c, i, e, "%s", reason.text);
        c->values[i].text = CONF_TABLE[i].default_text;
        c->values[i].resolved = NULL;
        i--; /* once more */
    }
    return 0;
}

int conf_without_references(const struct conf *c, struct conf **out, const struct conf *old,
                            struct err *e)
{
    struct conf *rest = conf_new();
    int rc;

    rest->lenient = true;
    rest->path = c->path;
    rest->vault_settings = c->vault_settings;
    for (int i = 0; i < CONF_KEY_COUNT; i++)
        if (CONF_TABLE[i].kind == CONF_SECRET || !references_are_in(c, i))
            rest->values[i] = c->values[i];
    rc = convert_all(rest, old, e);
    if (rc == 0)
        *out = rest;
    else
        conf_free(rest);
    return rc;
}

int conf_look_up(struct conf *c, struct err *e)
{
    struct conf *rest;
    int rc = conf_without_references(c, &rest, NULL, e);

    if (rc == 0) {
        rc = references_look_up(c, rest, e);
        conf_free(rest);
    }
    return rc;
}

static int settle(struct conf *c, const struct conf *old, struct err *e)
{
    int rc = convert_all(c, old, e);

    return rc == 0 && !c->lenient ? conf_check(c, e) : rc;
}

static int read_declarative(struct conf *c, struct err *e)
{
    const char *path = c->declarative_config;
    struct err reason;
    int rc;

    if (strcmp(path, "off") == 0)
        return 0;
    c->declarative_path = path;
    rc = file_read(path, DECLARATIVE_MAX_BYTES, &c->declarative, &reason);
    if (rc == 0)
        return 0;
    if (errno == ENOENT && rc == ERR_SYSTEM && !c->values[CONF_KEY_declarative_config].origin) {
        c->declarative_missing = true;
        return 0;
    }
    return conf_refuse(c, CONF_KEY_declarative_config, e, "%s", reason.text);
}

static int load_file(struct conf *c, const char *path, struct err *e)
{
    struct str text = STR_NULL;
    int rc;

    if (!path && access(CONF_DEFAULT_PATH, F_OK) == 0)
        path = CONF_DEFAULT_PATH;
    if (!path)
        return 0;
    rc = file_read(path, FILE_MAX_BYTES, &text, e);
    if (rc != 0)
        return rc;
    c->path = arena_str(&c->arena, str_from(path)).p;
    rc = parse_text(c, c->path, text, e);
    explicit_bzero((char *)text.p, text.n);
    free((char *)text.p);
    return rc;
}

/* All that there is to be read before references are looked up. */
static int read_sources(struct conf *c, const char *path, const struct conf_override *overrides,
                        struct err *e)
{
    int rc = load_file(c, path, e);

    if (rc == 0) {
        apply_environment(c);
        rc = vaults_add_environment(c, e);
    }
    return rc == 0 ? apply_overrides(c, overrides, e) : rc;
}

int conf_read(struct conf **out, const struct conf *old, const char *path,
              const struct conf_override *overrides, struct err *e)
{
    struct conf *c = conf_new();
    int rc = read_sources(c, path, overrides, e);

    if (rc != 0) {
        conf_free(c);
        return rc;
    }
    *out = c;
    return (int)references_collect(c, old);
}

int conf_finish(struct conf *c, const struct conf *old, struct err *e)
{
    int rc = settle(c, old, e);

    return rc == 0 && !c->lenient ? read_declarative(c, e) : rc;
}

/* Takes c. */
static int load(struct conf *c, struct conf **out, const char *path,
                const struct conf_override *overrides, struct err *e)
{
    int rc = read_sources(c, path, overrides, e);

    if (rc == 0 && references_collect(c, NULL) > 0)
        rc = conf_look_up(c, e);
    if (rc == 0)
        rc = conf_finish(c, NULL, e);
    if (rc != 0) {
        conf_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

int conf_load(struct conf **out, const char *path, const struct conf_override *overrides,
              struct err *e)
{
    return load(conf_new(), out, path, overrides, e);
}

int conf_load_lenient(struct conf **out, const char *path, const struct conf_override *overrides,
                      struct err *e)
{
    struct conf *c = conf_new();

    c->lenient = true;
    return load(c, out, path, overrides, e);
}

int conf_load_text(struct conf **out, const char *name, struct str text, struct err *e)
{
    struct conf *c = conf_new();
    int rc = ERR_CONFIG;

    if (text.n > FILE_MAX_BYTES)
        err_set(e, rc, "%s: larger than %d bytes", name, FILE_MAX_BYTES);
    else
        rc = parse_text(c, arena_str(&c->arena, str_from(name)).p, text, e);
    if (rc == 0 && references_collect(c, NULL) > 0)
        rc = conf_look_up(c, e);
    if (rc == 0)
        rc = settle(c, NULL, e);
    if (rc != 0) {
        conf_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

int conf_get_text(const struct conf *c, struct str key, struct str *out)
{
    int index = conf_key_find(key);
    const struct conf_value *v = &c->values[index < 0 ? 0 : index];

    if (index < 0)
        return -1;
    *out = str_from(v->resolved ? v->resolved : v->text);
    return 0;
}

int conf_get_list(const struct conf *c, struct str key, size_t i, struct str *out)
{
    int index = conf_key_find(key);
    const struct conf_list *list;

    if (index < 0 || (CONF_TABLE[index].kind != CONF_LIST && CONF_TABLE[index].kind != CONF_PATHS))
        return -1;
    list = (const void *)((const char *)c + CONF_TABLE[index].offset);
    if (i >= list->n)
        return -1;
    *out = str_from(list->items[i]);
    return 0;
}
