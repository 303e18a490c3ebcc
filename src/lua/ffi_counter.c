/*
 * The counters in shared memory as Lua sees them. A call that a front makes a
 * second time about one client request counts nothing: it is told what the
 * first one was told.
 */
#include "base/clock.h"
#include "lua/co.h"
#include "lua/internal.h"
#include "req/req.h"
#include "shm/counter.h"

static int fill(struct counter_window *w, int count, const int64_t *what, const double *limit)
{
    if (count < 1 || count > COUNTER_WINDOWS_MAX)
        return -1;
    for (int i = 0; i < count; i++) {
        if (!counter_what_is_good(what[i]))
            return -1;
        w[i] = (struct counter_window){ what[i], limit ? limit[i] : 0 };
    }
    return 0;
}

static int64_t longest_ms(int64_t what)
{
    static const int64_t DAY = 86400000;
    static const int64_t PERIODS[] = { 0, 1000, 60000, 3600000, DAY, 31 * DAY, 366 * DAY };

    return what < 0 ? -what : PERIODS[what];
}

/* The end of a window that has begun by another worker's clock, but not by ours, is too far. */
static void give(const struct counter_use *use, int count, const int64_t *what, double less,
                 double *used, double *previous, int64_t *reset_ms)
{
    for (int i = 0; i < count; i++) {
        int64_t most_ms = longest_ms(what[i]);

        used[i] = use[i].used >= less ? use[i].used - less : 0;
        previous[i] = use[i].previous;
        reset_ms[i] = use[i].reset_ms < most_ms ? use[i].reset_ms : most_ms;
    }
}

int weir_counter_admit(const char *id, size_t n, int count, const int64_t *what,
                       const double *limit, int sliding, int64_t cost, double *used,
                       double *previous, int64_t *reset_ms)
{
    struct counter_window w[COUNTER_WINDOWS_MAX];
    struct counter_use use[COUNTER_WINDOWS_MAX];
    struct counter_table *t = the_vm->args.counters;
    const struct req *req = co_current_req();
    int granted;

    if (fill(w, count, what, limit) < 0)
        return ERR_SYNTAX;
    if (UNLIKELY(req && req->repeated)) {
        counter_peek(t, str_of(id, n), w, (unsigned)count, sliding != 0, clock_now_ms(), use);
        give(use, count, what, (double)cost, used, previous, reset_ms);
        return 1;
    }
    granted = counter_admit(t, str_of(id, n), w, (unsigned)count, sliding != 0, cost,
                            clock_now_ms(), use);
    give(use, count, what, 0, used, previous, reset_ms);
    return granted;
}

void weir_counter_charge(const char *id, size_t n, int count, const int64_t *what, int sliding,
                         int64_t amount)
{
    struct counter_window w[COUNTER_WINDOWS_MAX];
    const struct req *req = co_current_req();

    if (fill(w, count, what, NULL) < 0 || (req && req->repeated))
        return;
    counter_charge(the_vm->args.counters, str_of(id, n), w, (unsigned)count, sliding != 0, amount,
                   clock_now_ms());
}

void weir_counter_peek(const char *id, size_t n, int count, const int64_t *what, int sliding,
                       double *used, double *previous, int64_t *reset_ms)
{
    struct counter_window w[COUNTER_WINDOWS_MAX];
    struct counter_use use[COUNTER_WINDOWS_MAX];

    if (fill(w, count, what, NULL) < 0)
        return;
    counter_peek(the_vm->args.counters, str_of(id, n), w, (unsigned)count, sliding != 0,
                 clock_now_ms(), use);
    give(use, count, what, 0, used, previous, reset_ms);
}
