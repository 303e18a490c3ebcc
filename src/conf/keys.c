/*
 * See keys.h. From a key's text to its member: the units, the bounds, and how a
 * value is refused.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "conf/keys.h"
#include "conf/hide.h"
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 64
#define LIST_MAX_ITEMS 4096
#define GOT_BYTES 80 /* of a wrong value in a message */

#define CONF_OFFSET_TEXT(name) offsetof(struct conf, name)
#define CONF_OFFSET_SECRET(name) offsetof(struct conf, name)
#define CONF_OFFSET_PATH(name) offsetof(struct conf, name)
#define CONF_OFFSET_LIST(name) offsetof(struct conf, name)
#define CONF_OFFSET_PATHS(name) offsetof(struct conf, name)
#define CONF_OFFSET_INT(name) offsetof(struct conf, name)
#define CONF_OFFSET_COUNT(name) offsetof(struct conf, name)
#define CONF_OFFSET_SIZE(name) offsetof(struct conf, name)
#define CONF_OFFSET_TIME(name) offsetof(struct conf, name##_ms)
#define CONF_OFFSET_MSEC(name) offsetof(struct conf, name##_ms)
#define CONF_OFFSET_BOOL(name) offsetof(struct conf, name)
#define CONF_OFFSET_OCTAL(name) offsetof(struct conf, name)
#define CONF_OFFSET_LEVEL(name) offsetof(struct conf, name)
#define CONF_OFFSET_DENY(name) offsetof(struct conf, name)

const struct conf_key CONF_TABLE[CONF_KEY_COUNT] = {
#define X(kind_, name_, default_, least_, most_, reload_, help_)                                   \
    { .name = #name_,                                                                              \
      .default_text = default_,                                                                    \
      .help = help_,                                                                               \
      .least = least_,                                                                             \
      .most = most_,                                                                               \
      .offset = CONF_OFFSET_##kind_(name_),                                                        \
      .kind = CONF_##kind_,                                                                        \
      .reload = reload_ },
    CONF_KEYS(X)
#undef X
};

struct unit {
    const char *suffix;
    int64_t factor;
};

static const struct unit SIZE_UNITS[] = {
    { "", 1 }, { "k", 1 << 10 }, { "m", 1 << 20 }, { "g", 1 << 30 }, { NULL, 0 },
};
static const struct unit TIME_UNITS[] = {
    { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { NULL, 0 },
};
static const struct unit MSEC_UNITS[] = {
    { "", 1 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { NULL, 0 },
};
static const struct unit NO_UNITS[] = { { "", 1 }, { NULL, 0 } };

int conf_key_find(struct str name)
{
    for (int i = 0; i < CONF_KEY_COUNT; i++)
        if (str_eq(name, str_from(CONF_TABLE[i].name)))
            return i;
    return -1;
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* How many characters must be put in, taken out or changed (Levenshtein). */
static size_t distance(struct str a, struct str b)
{
    size_t row[NAME_MAX_BYTES + 1];

    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t above = row[j];

            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a.p[i - 1] != b.p[j - 1]));
            diagonal = above;
        }
    }
    return row[b.n];
}

const char *conf_key_suggest(struct str name)
{
    const char *best = NULL;
    size_t best_distance = name.n / 4 + 2;

    if (name.n > NAME_MAX_BYTES)
        return NULL;
    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        size_t d = distance(name, str_from(CONF_TABLE[i].name));

        if (d < best_distance) {
            best_distance = d;
            best = CONF_TABLE[i].name;
        }
    }
    return best;
}

static int wrong(struct err *e, const char *expected, const char *text)
{
    return err_set(e, ERR_CONFIG, "expected %s, got \"%.*s%s\"", expected, GOT_BYTES, text,
                   strlen(text) > GOT_BYTES ? "..." : "");
}

/* The largest unit that a bound can be written in without a rest. */
static void bound_text(char *out, size_t size, int64_t bound, const struct unit *units)
{
    const struct unit *best = NULL;

    for (const struct unit *u = units; u->suffix; u++)
        if (bound % u->factor == 0 && (*u->suffix || u->factor == 1) &&
            (!best || (bound != 0 && u->factor > best->factor)))
            best = u;
    if (!best || bound == 0)
        snprintf(out, size, "%lld", (long long)bound);
    else
        snprintf(out, size, "%lld%s", (long long)(bound / best->factor), best->suffix);
}

static int out_of_bounds(const struct conf_key *key, const struct unit *units, const char *what,
                         const char *text, struct err *e)
{
    char least[32], most[32], expected[160];

    bound_text(least, sizeof least, key->least, units);
    bound_text(most, sizeof most, key->most, units);
    snprintf(expected, sizeof expected, "%s from %s to %s", what, least, most);
    return wrong(e, expected, text);
}

static int to_number(const struct conf_key *key, const struct unit *units, const char *what,
                     const char *text, int64_t *out, struct err *e)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t value;

    for (const struct unit *u = units; u->suffix; u++) {
        if (strcmp(text + digits, u->suffix) != 0)
            continue;
        if (str_to_u64((struct str){ text, digits }, (uint64_t)(INT64_MAX / u->factor), &value) !=
            0)
            break;
        *out = (int64_t)value * u->factor;
        if (*out >= key->least && *out <= key->most)
            return 0;
        break;
    }
    return out_of_bounds(key, units, what, text, e);
}

static int to_octal(const struct conf_key *key, const char *text, int64_t *out, struct err *e)
{
    char *end;
    long value = strtol(text, &end, 8);

    if (*text < '0' || *text > '7' || *end || value < key->least || value > key->most)
        return wrong(e, "permission bits in octal, such as 0660", text);
    *out = value;
    return 0;
}

static int64_t processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static int to_count(const struct conf_key *key, const char *text, int64_t *out, struct err *e)
{
    int64_t n;

    if (strcmp(text, "auto") != 0)
        return to_number(key, NO_UNITS, "auto or a number", text, out, e);
    n = processors();
    *out = n < key->least ? key->least : n > key->most ? key->most : n;
    return 0;
}

static int to_bool(const char *text, bool *out, struct err *e)
{
    *out = strcmp(text, "on") == 0;
    return *out || strcmp(text, "off") == 0 ? 0 : wrong(e, "on or off", text);
}

static int to_level(const char *text, enum log_level *out, struct err *e)
{
    int level = log_level_from(text);

    if (level < 0)
        return wrong(e, "one of: emerg, alert, crit, error, warn, notice, info, debug", text);
    *out = (enum log_level)level;
    return 0;
}

static int to_deny_style(const char *text, enum conf_deny_style *out, struct err *e)
{
    static const char *const NAMES[] = { "status", "nginx", "variable" };

    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        if (strcmp(text, NAMES[i]) == 0) {
            *out = (enum conf_deny_style)i;
            return 0;
        }
    }
    return wrong(e, "one of: status, nginx, variable", text);
}

/* Which words each path may be instead of a path. */
static bool is_path_word(int index, const char *text)
{
    switch (index) {
    case CONF_KEY_error_log:
        return strcmp(text, "stderr") == 0;
    case CONF_KEY_access_log:
    case CONF_KEY_declarative_config:
        return strcmp(text, "off") == 0;
    case CONF_KEY_counter_file:
        return !*text;
    case CONF_KEY_lua_ssl_trusted_certificate:
        return strcmp(text, "system") == 0;
    default:
        return false;
    }
}

/* A path may go into lists, messages and file names: no commas, no control characters. */
static int check_path(const char *text, struct err *e)
{
    if (*text != '/')
        return wrong(e, "an absolute path", text);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f || *p == ',')
            return wrong(e, "a path without commas and control characters", text);
    return 0;
}

static size_t count_items(const char *text)
{
    size_t n = 1;

    for (; *text; text++)
        n += *text == ',';
    return n;
}

static int to_list(struct arena *a, const char *text, struct conf_list *out, struct err *e)
{
    size_t most = count_items(text);

    if (most > LIST_MAX_ITEMS)
        return err_set(e, ERR_CONFIG, "more than %d items in a list", LIST_MAX_ITEMS);
    out->items = arena_alloc(a, most * sizeof *out->items);
    out->n = 0;
    for (;;) {
        size_t n = strcspn(text, ",");
        struct str item = str_trim((struct str){ text, n });

        if (item.n)
            out->items[out->n++] = arena_str(a, item).p;
        if (!text[n])
            return 0;
        text += n + 1;
    }
}

static int to_paths(struct arena *a, const char *text, struct conf_list *out, struct err *e)
{
    int rc = to_list(a, text, out, e);

    for (size_t i = 0; rc == 0 && i < out->n; i++)
        rc = check_path(out->items[i], e);
    return rc;
}

int conf_key_convert(struct conf *c, int index, const char *text, struct err *e)
{
    const struct conf_key *key = &CONF_TABLE[index];
    void *member = (char *)c + key->offset;

    switch (key->kind) {
    case CONF_PATH:
        if (!is_path_word(index, text) && check_path(text, e) != 0)
            return ERR_CONFIG;
        /* fall through */
    case CONF_TEXT:
    case CONF_SECRET:
        *(const char **)member = text;
        return 0;
    case CONF_LIST:
        return to_list(&c->arena, text, member, e);
    case CONF_PATHS:
        return to_paths(&c->arena, text, member, e);
    case CONF_INT:
        return to_number(key, NO_UNITS, "a number", text, member, e);
    case CONF_COUNT:
        return to_count(key, text, member, e);
    case CONF_SIZE:
        return to_number(key, SIZE_UNITS, "a size", text, member, e);
    case CONF_TIME:
        return to_number(key, TIME_UNITS, "a time", text, member, e);
    case CONF_MSEC:
        return to_number(key, MSEC_UNITS, "a time", text, member, e);
    case CONF_BOOL:
        return to_bool(text, member, e);
    case CONF_OCTAL:
        return to_octal(key, text, member, e);
    case CONF_LEVEL:
        return to_level(text, member, e);
    case CONF_DENY:
        return to_deny_style(text, member, e);
    }
    must(!"a kind without a conversion");
    return ERR_CONFIG;
}

int conf_refuse(const struct conf *c, enum conf_key_index key, struct err *e, const char *fmt, ...)
{
    const char *origin = c->values[key].origin;
    char text[sizeof e->text];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    hide_values(c, (int)key, text, sizeof text);
    return err_set(e, ERR_CONFIG, "%s: %s: %s", origin ? origin : "default", CONF_TABLE[key].name,
                   text);
}
