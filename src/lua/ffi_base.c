/*
 * Time, timers, log and configuration as Lua sees them.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "conf/parse.h"
#include "ev/loop.h"
#include "lua/co.h"
#include "lua/internal.h"
#include <event2/event.h>
#include <math.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>

#define DELAY_MAX_S 1e8 /* three years: what a struct timeval holds anywhere */

/* A timer of Lua's, or a sleep: freed when it has fired, or with the state. */
struct timer {
    LIST_ENTRY(timer) link;
    struct op op; /* a sleep's */
    struct event *event;
    int id; /* a timer's */
};

static struct {
    LIST_HEAD(, timer) all;
    bool is_open; /* let_go follows */
} the_timers;

const char *weir_strerror(int code)
{
    switch (code) {
    case ERR_SYSTEM:
        return "system error";
    case ERR_SYNTAX:
        return "invalid bytes";
    case ERR_BOUND:
        return "too large";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_CLOSED:
        return "closed";
    case ERR_CANCELLED:
        return "cancelled";
    case WEIR_NONE:
        return "not found";
    default:
        return "error";
    }
}

double weir_now(void)
{
    return (double)clock_now_ms() / 1000;
}

double weir_mono_us(void)
{
    return (double)clock_mono_us_exact();
}

static void free_timer(struct timer *t)
{
    LIST_REMOVE(t, link);
    event_free(t->event);
    free(t);
}

static void let_go(void)
{
    struct timer *t;

    while ((t = LIST_FIRST(&the_timers.all)))
        free_timer(t);
    the_timers.is_open = false;
}

static struct timer *start_timer(double delay_s, void (*fn)(int fd, short what, void *arg))
{
    struct timer *t = xcalloc(1, sizeof *t);
    struct timeval tv;

    if (!(delay_s > 0))
        delay_s = 0;
    if (delay_s > DELAY_MAX_S)
        delay_s = DELAY_MAX_S;
    tv.tv_sec = (time_t)delay_s;
    tv.tv_usec = (suseconds_t)((delay_s - floor(delay_s)) * 1e6);
    t->event = event_new(loop_base(the_vm->args.loop), -1, 0, fn, t);
    must(t->event && event_add(t->event, &tv) == 0);
    if (!the_timers.is_open)
        vm_at_end(let_go);
    the_timers.is_open = true;
    LIST_INSERT_HEAD(&the_timers.all, t, link);
    return t;
}

static void on_slept(int fd, short what, void *arg)
{
    struct timer *t = arg;

    (void)fd;
    (void)what;
    op_finish(&t->op, 0);
    free_timer(t);
}

static void cancel_sleep(struct op *op)
{
    free_timer(CONTAINER_OF(op, struct timer, op));
}

int weir_sleep(double seconds)
{
    struct timer *t = start_timer(seconds, on_slept);

    op_init(&t->op, cancel_sleep);
    op_start(&t->op);
    co_wait(&t->op);
    return WEIR_WAIT;
}

static void on_timer(int fd, short what, void *arg)
{
    struct timer *t = arg;
    int id = t->id;

    (void)fd;
    (void)what;
    free_timer(t);
    co_run(the_vm, the_vm->ref_timer, id, NULL);
}

void weir_timer_start(int id, double delay_s)
{
    start_timer(delay_s, on_timer)->id = id;
}

void weir_log(int level, const char *p, size_t n)
{
    log_bytes((enum log_level)level, p, n);
}

int weir_log_enabled(int level)
{
    return log_enabled((enum log_level)level);
}

int weir_conf_get(const char *key, size_t n, weir_str *out)
{
    struct str text;

    if (conf_get_text(the_vm->args.conf, str_of(key, n), &text) < 0)
        return WEIR_NONE;
    *out = ffi_str(text);
    return 0;
}

int weir_conf_list(const char *key, size_t n, int i, weir_str *out)
{
    struct str text;

    if (i < 0 || conf_get_list(the_vm->args.conf, str_of(key, n), (unsigned)i, &text) < 0)
        return WEIR_NONE;
    *out = ffi_str(text);
    return 0;
}

int weir_conf_key(int i, weir_str *name, weir_str *text)
{
    struct str value;
    bool is_secret;

    if (i < 0 || i >= CONF_KEY_COUNT)
        return WEIR_NONE;
    value = str_from(the_vm->args.conf->values[i].text);
    is_secret = CONF_TABLE[i].kind == CONF_SECRET && value.n > 0 && !secret_is_name(value);
    *name = ffi_str(str_from(CONF_TABLE[i].name));
    *text = ffi_str(is_secret ? STR("") : value);
    return is_secret;
}

int weir_conf_origin(const char *key, size_t n, weir_str *out)
{
    int index = conf_key_find(str_of(key, n));
    const char *origin = index < 0 ? NULL : the_vm->args.conf->values[index].origin;

    if (!origin)
        return WEIR_NONE;
    *out = ffi_str(str_from(origin));
    return 0;
}

int weir_conf_vault(int i, weir_str *name, weir_str *text, weir_str *origin)
{
    const struct conf_setting *s = STAILQ_FIRST(&the_vm->args.conf->vault_settings);

    while (s && i-- > 0)
        s = STAILQ_NEXT(s, link);
    if (!s)
        return WEIR_NONE;
    *name = ffi_str(str_from(s->name));
    *text = ffi_str(str_from(s->value.text));
    *origin = ffi_str(str_from(s->value.origin));
    return 0;
}

int weir_conf_declarative(weir_str *path, weir_str *text)
{
    const struct conf *conf = the_vm->args.conf;

    if (!conf->declarative.p)
        return WEIR_NONE;
    *path = ffi_str(str_from(conf->declarative_config));
    *text = ffi_str(conf->declarative);
    return 0;
}

int weir_worker_id(void)
{
    return (int)the_vm->args.worker_id;
}

int weir_random(char *out, size_t n)
{
    while (n > 0) {
        ssize_t got = getrandom(out, n, 0);

        if (got > 0) {
            out += got;
            n -= (size_t)got;
        }
    }
    return 0;
}
