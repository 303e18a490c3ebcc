/*
 * The stores of counters beyond this machine's memory, as Lua sees them: by
 * number. A call that a front makes a second time about one client request
 * counts nothing: it is told what the first one was told.
 */
#include "lua/co.h"
#include "lua/internal.h"
#include "req/req.h"
#include "store/store.h"

#define STORES_MAX 1024 /* each a set of settings in some plugin's config */

static struct {
    struct store *all[STORES_MAX];
    int count;
} the_stores;

/* What could not be opened: it answers nobody. */
#define NOWHERE (-1)

static struct store *store_of(int number)
{
    must(number >= 1 && number <= the_stores.count);
    return the_stores.all[number - 1];
}

static int number_of(struct store *s)
{
    for (int i = 0; i < the_stores.count; i++)
        if (the_stores.all[i] == s)
            return i + 1;
    if (the_stores.count == STORES_MAX)
        return ERR_BOUND;
    the_stores.all[the_stores.count++] = s;
    return the_stores.count;
}

int weir_store_open(const char *kind, size_t kind_n, const char *settings, size_t n, double sync_s,
                    weir_str *out)
{
    static struct err e;
    struct store *s;
    int rc;

    if (!the_vm->args.stores) {
        *out = ffi_str(STR("stores of counters are there for running workers only"));
        return ERR_CONFIG;
    }
    rc = stores_open(the_vm->args.stores, str_of(kind, kind_n), str_of(settings, n),
                     (int64_t)(sync_s * 1000), &s, &e);
    if (rc == 0)
        rc = number_of(s);
    *out = rc == ERR_BOUND ? ffi_str(STR("too many different stores")) : ffi_str(str_from(e.text));
    return rc;
}

void weir_store_name(int store, weir_str *out)
{
    *out = store == NOWHERE ? ffi_str(STR("the store that could not be opened"))
                            : ffi_str(str_from(store_name(store_of(store))));
}

int weir_store_failure(int store, weir_str *out)
{
    const char *why = store == NOWHERE ? "see the log" : store_failure(store_of(store));

    *out = ffi_str(str_from(why ? why : ""));
    return why != NULL;
}

/* 0, or negative: what no store can count. */
static int make(struct store_question *q, struct counter_window *w, struct str id, int count,
                const int64_t *what, const double *limit, int sliding)
{
    if (count < 1 || count > COUNTER_WINDOWS_MAX)
        return ERR_SYNTAX;
    for (int i = 0; i < count; i++) {
        if (!counter_what_is_good(what[i]) || (sliding && what[i] > 0))
            return ERR_SYNTAX;
        w[i] = (struct counter_window){ what[i], limit ? limit[i] : 0 };
    }
    *q = (struct store_question){ id, w, (unsigned)count, sliding != 0 };
    return 0;
}

/* The state before the question; before the first of them, if it was asked twice. */
static int give(const struct store_waiter *w, int code, int count, double *used, double *previous,
                int64_t *reset_ms)
{
    double less = (double)w->counted_before;

    if (code < 0)
        return code;
    for (int i = 0; i < count; i++) {
        used[i] = w->use[i].used >= less ? w->use[i].used - less : 0;
        previous[i] = w->use[i].previous;
        reset_ms[i] = w->use[i].reset_ms;
    }
    return less > 0 ? 1 : code;
}

int weir_store_admit(int store, int slot, const char *id, size_t n, int count, const int64_t *what,
                     const double *limit, int sliding, int64_t cost, double *used, double *previous,
                     int64_t *reset_ms)
{
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    struct store_waiter *w = co_store_waiter((unsigned)slot);
    const struct req *req = co_current_req();
    struct store_question q;
    bool repeated = req && req->repeated;
    int code;

    if (store == NOWHERE)
        return ERR_CLOSED;
    if (cost < 1 || make(&q, windows, str_of(id, n), count, what, limit, sliding) < 0)
        return ERR_SYNTAX;
    w->counted_before = repeated ? cost : 0;
    code =
        repeated ? store_peek(store_of(store), w, &q) : store_admit(store_of(store), w, &q, cost);
    return give(w, code, count, used, previous, reset_ms);
}

int weir_store_peek(int store, int slot, const char *id, size_t n, int count, const int64_t *what,
                    int sliding, double *used, double *previous, int64_t *reset_ms)
{
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    struct store_waiter *w = co_store_waiter((unsigned)slot);
    struct store_question q;

    if (store == NOWHERE)
        return ERR_CLOSED;
    if (make(&q, windows, str_of(id, n), count, what, NULL, sliding) < 0)
        return ERR_SYNTAX;
    w->counted_before = 0;
    return give(w, store_peek(store_of(store), w, &q), count, used, previous, reset_ms);
}

int weir_store_await(int slot, int count, double *used, double *previous, int64_t *reset_ms)
{
    struct store_waiter *w = co_store_waiter((unsigned)slot);

    if (w->op.state == OP_PENDING) {
        co_wait(&w->op);
        return WEIR_WAIT;
    }
    return give(w, w->op.code < 0 ? w->op.code : w->code, count, used, previous, reset_ms);
}

void weir_store_charge(int store, const char *id, size_t n, int count, const int64_t *what,
                       int sliding, int64_t amount)
{
    struct counter_window windows[COUNTER_WINDOWS_MAX];
    const struct req *req = co_current_req();
    struct store_question q;

    if (store != NOWHERE && make(&q, windows, str_of(id, n), count, what, NULL, sliding) == 0 &&
        !(req && req->repeated))
        store_charge(store_of(store), &q, amount);
}
