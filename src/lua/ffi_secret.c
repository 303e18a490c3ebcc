/*
 * Secrets as the Lua half sees them, which is their keeper: by number. Owns a
 * reference to each that Lua has named, or that somebody asked for, until the
 * state is closed.
 */
#include "base/mem.h"
#include "base/secret.h"
#include "ev/loop.h"
#include "lua/co.h"
#include "lua/internal.h"
#include "shm/keepsake.h"
#include <stdlib.h>

#define SECRETS_MAX 4096

static struct {
    struct secret *all[SECRETS_MAX];
    bool is_asked[SECRETS_MAX];
    unsigned char *keys[SECRETS_MAX]; /* NULL: it ends with this process */
    int count;
    struct deferred asking;
} the_secrets;

/* Something that waits for news of a secret. */
struct news {
    struct op op;
    struct secret_watch watch;
};

static struct secret *secret_of(int number)
{
    must(number >= 0 && number < the_secrets.count);
    return the_secrets.all[number];
}

/* Takes the reference. */
static int number_of(struct secret *s)
{
    for (int i = 0; i < the_secrets.count; i++) {
        if (the_secrets.all[i] == s) {
            secret_release(s);
            return i;
        }
    }
    if (the_secrets.count == SECRETS_MAX) {
        secret_release(s);
        return ERR_BOUND;
    }
    the_secrets.all[the_secrets.count] = s;
    return the_secrets.count++;
}

int weir_secret_get(int number, weir_str *out)
{
    const struct secret *s = secret_of(number);
    struct str value = secret_value(s);

    *out = ffi_str(value.p ? value : str_from(secret_why(s)));
    return value.p ? 0 : WEIR_NONE;
}

void weir_secret_why(int number, weir_str *out)
{
    *out = ffi_str(str_from(secret_why(secret_of(number))));
}

/* 1 if it is another one than before, 0, or an error. */
static int put(struct secret *s, struct str value)
{
    unsigned before = secret_version(s);

    return secret_put(s, value) == 0 ? secret_version(s) != before : ERR_BOUND;
}

int weir_secret_put(int number, const char *p, size_t n, double ttl_s)
{
    const struct keepsake_mark mark = { weir_mono_us() / 1e6, ttl_s, the_vm->args.generation };
    int rc = put(secret_of(number), str_of(p, n));

    if (rc >= 0 && the_secrets.keys[number])
        keepsake_put(the_vm->args.keepsake, the_secrets.keys[number], str_of(p, n), &mark);
    return rc;
}

void weir_secret_fail(int number, const char *why, size_t n, int drop)
{
    secret_fail(secret_of(number), str_of(why, n), drop != 0);
    if (drop && the_secrets.keys[number])
        keepsake_forget(the_vm->args.keepsake, the_secrets.keys[number]);
}

/* ---- what other workers know ---- */

void weir_secret_share(int number, const char *key)
{
    must(number >= 0 && number < the_secrets.count);
    if (!the_vm->args.keepsake || the_secrets.keys[number])
        return;
    the_secrets.keys[number] = xmalloc(KEEPSAKE_KEY_BYTES);
    memcpy(the_secrets.keys[number], key, KEEPSAKE_KEY_BYTES);
}

static bool is_wanted(const struct keepsake_mark *mark, int kind, struct str value, struct str now)
{
    if (kind != WEIR_OF_ANYBODY && mark->generation != the_vm->args.generation)
        return false; /* it may be configured otherwise */
    if (value.n == 0 && now.n > 0)
        return false;
    return kind != WEIR_OTHER_OF_SIBLINGS || !now.p || !str_eq(value, now);
}

int weir_secret_take(int number, double after_s, int kind, double found[2])
{
    struct secret *s = secret_of(number);
    struct buf value = { 0 };
    struct keepsake_mark mark;
    int rc = WEIR_NONE;

    if (the_secrets.keys[number] &&
        keepsake_get(the_vm->args.keepsake, the_secrets.keys[number], &value, &mark) &&
        mark.found_s > after_s &&
        is_wanted(&mark, kind, (struct str){ value.p, value.n }, secret_value(s))) {
        found[0] = mark.found_s;
        found[1] = mark.ttl_s;
        rc = put(s, (struct str){ value.p, value.n });
    }
    buf_wipe(&value);
    return rc;
}

/* ---- waiting for news ---- */

static void free_news(struct news *n)
{
    secret_unwatch(&n->watch);
    free(n);
}

static void on_news(struct secret_watch *w, enum secret_news news)
{
    struct news *n = CONTAINER_OF(w, struct news, watch);

    (void)news;
    op_finish(&n->op, 0);
    free_news(n);
}

static void cancel_news(struct op *op)
{
    free_news(CONTAINER_OF(op, struct news, op));
}

int weir_secret_wait(int number)
{
    struct news *n = xcalloc(1, sizeof *n);

    op_init(&n->op, cancel_news);
    op_start(&n->op);
    n->watch.on_news = on_news;
    secret_watch(&n->watch, secret_of(number));
    co_wait(&n->op);
    return WEIR_WAIT;
}

/* ---- being asked ---- */

static void on_asking(struct deferred *d)
{
    (void)d;
    for (int i = 0; i < the_secrets.count; i++) {
        if (the_secrets.is_asked[i]) {
            the_secrets.is_asked[i] = false;
            co_run(the_vm, the_vm->ref_look_up, i, NULL);
        }
    }
}

static void ask(void *arg, struct secret *s)
{
    int number = number_of(secret_keep(s));

    (void)arg;
    if (number < 0)
        return;
    the_secrets.is_asked[number] = true;
    loop_defer(the_vm->args.loop, &the_secrets.asking, on_asking);
}

static void let_go(void)
{
    secret_set_keeper(NULL, NULL);
    if (the_vm->args.loop)
        loop_undefer(the_vm->args.loop, &the_secrets.asking);
    while (the_secrets.count > 0) {
        int i = --the_secrets.count;

        secret_release(the_secrets.all[i]);
        free(the_secrets.keys[i]);
        the_secrets.keys[i] = NULL;
    }
}

/* From the first one on the Lua half is the keeper. */
int weir_secret_open(const char *name, size_t n)
{
    must(secret_is_name(str_of(name, n)));
    if (the_secrets.count == 0) {
        if (the_vm->args.loop)
            secret_set_keeper(ask, NULL);
        vm_at_end(let_go);
    }
    return number_of(secret_from_text(str_of(name, n)));
}

void weir_secrets_ready(void)
{
    the_vm->is_ready = true;
}
