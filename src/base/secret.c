/*
 * See secret.h. Owns the list of named secrets of this process and the pages
 * that values lie in: each value has pages of its own, so that they can be kept
 * out of core dumps and, as far as the limit of locked memory lets, out of swap.
 */
#define _DEFAULT_SOURCE /* explicit_bzero, MADV_DONTDUMP */
#include "base/secret.h"
#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WHY_BYTES 400

struct secret {
    LIST_ENTRY(secret) link; /* of named ones */
    LIST_HEAD(, secret_watch) watches;
    struct secret_watch *next_told; /* while news are told */
    char *name;                     /* "": fixed */
    char *value;                    /* NULL: none */
    size_t value_n, mapped_bytes;
    unsigned version, refs;
    char why[WHY_BYTES];
};

static LIST_HEAD(, secret) the_named = LIST_HEAD_INITIALIZER(the_named);

static struct {
    void (*ask)(void *arg, struct secret *s);
    void *arg;
} the_keeper;

bool secret_is_name(struct str text)
{
    return (str_starts(text, STR("{vault://")) || str_starts(text, STR("{cloud://"))) &&
           text.p[text.n - 1] == '}';
}

/* ---- values ---- */

static void wipe(struct secret *s)
{
    if (!s->value)
        return;
    explicit_bzero(s->value, s->mapped_bytes);
    must(munmap(s->value, s->mapped_bytes) == 0);
    s->value = NULL;
    s->value_n = 0;
}

static void set(struct secret *s, struct str value)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = (value.n + 1 + page - 1) / page * page;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must(p != MAP_FAILED);
    (void)madvise(p, bytes, MADV_DONTDUMP);
    (void)mlock(p, bytes);
    memcpy(p, value.p, value.n);
    wipe(s);
    s->value = p;
    s->value_n = value.n;
    s->mapped_bytes = bytes;
    s->version++;
}

struct str secret_value(const struct secret *s)
{
    return (struct str){ s->value, s->value_n };
}

unsigned secret_version(const struct secret *s)
{
    return s->version;
}

const char *secret_why(const struct secret *s)
{
    return s->why;
}

const char *secret_name(const struct secret *s)
{
    return s->name;
}

/* ---- the secrets ---- */

static struct secret *make(struct str name)
{
    struct secret *s = xcalloc(1, sizeof *s);

    s->name = xmalloc(name.n + 1);
    memcpy(s->name, name.p, name.n);
    s->name[name.n] = '\0';
    s->refs = 1;
    return s;
}

static struct secret *find(struct str name)
{
    struct secret *s;

    LIST_FOREACH (s, &the_named, link)
        if (str_eq(str_from(s->name), name))
            return s;
    return NULL;
}

struct secret *secret_from_text(struct str text)
{
    struct secret *s;

    if (!secret_is_name(text)) {
        s = make(STR(""));
        set(s, text.p ? text : STR(""));
        return s;
    }
    s = find(text);
    if (s)
        return secret_keep(s);
    s = make(text);
    snprintf(s->why, sizeof s->why, "it was not looked up yet");
    LIST_INSERT_HEAD(&the_named, s, link);
    return s;
}

struct secret *secret_keep(struct secret *s)
{
    s->refs++;
    return s;
}

void secret_release(struct secret *s)
{
    if (!s || --s->refs > 0)
        return;
    must(LIST_EMPTY(&s->watches));
    if (*s->name)
        LIST_REMOVE(s, link);
    wipe(s);
    free(s->name);
    free(s);
}

/* ---- news ---- */

void secret_watch(struct secret_watch *w, struct secret *s)
{
    must(!w->secret);
    w->secret = s;
    LIST_INSERT_HEAD(&s->watches, w, link);
}

void secret_unwatch(struct secret_watch *w)
{
    if (!w->secret)
        return;
    if (w->secret->next_told == w)
        w->secret->next_told = LIST_NEXT(w, link);
    LIST_REMOVE(w, link);
    w->secret = NULL;
}

/* A watcher may leave, or take others along, while it is told. */
static void tell(struct secret *s, enum secret_news news)
{
    struct secret_watch *w;

    secret_keep(s);
    for (w = LIST_FIRST(&s->watches); w; w = s->next_told) {
        s->next_told = LIST_NEXT(w, link);
        w->on_news(w, news);
    }
    secret_release(s);
}

bool secret_ask(struct secret *s)
{
    if (!*s->name || !the_keeper.ask)
        return false;
    the_keeper.ask(the_keeper.arg, s);
    return true;
}

void secret_set_keeper(void (*ask)(void *arg, struct secret *s), void *arg)
{
    the_keeper.ask = ask;
    the_keeper.arg = arg;
}

int secret_put(struct secret *s, struct str value)
{
    if (value.n > SECRET_VALUE_MAX)
        return -1;
    if (value.n == 0 && s->value_n > 0) {
        secret_fail(s, STR("it is empty now"), false);
        return 0;
    }
    s->why[0] = '\0';
    if (s->value && str_eq(secret_value(s), value)) {
        tell(s, SECRET_SAME);
        return 0;
    }
    set(s, value.p ? value : STR(""));
    tell(s, SECRET_CHANGED);
    return 0;
}

void secret_fail(struct secret *s, struct str why, bool drop)
{
    snprintf(s->why, sizeof s->why, "%.*s", (int)(why.n < WHY_BYTES ? why.n : WHY_BYTES), why.p);
    if (drop)
        wipe(s);
    tell(s, SECRET_FAILED);
}
