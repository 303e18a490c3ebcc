/*
 * Calling out over HTTP, as Lua sees it: lua/weir/http.lua makes an exchange,
 * fills it, waits for it, reads it and frees it. What runs such exchanges is
 * made with the first one, and ends with the Lua state.
 */
#include "lua/co.h"
#include "lua/internal.h"
#include "peer/callout.h"
#include <math.h>

_Static_assert((int)WEIR_CALLOUT_URL == (int)CALLOUT_URL &&
                   (int)WEIR_CALLOUT_PROXY == (int)CALLOUT_PROXY &&
                   CALLOUT_TEXTS == CALLOUT_PROXY + 1 &&
                   (int)WEIR_CALLOUT_TIMEOUT_MS == (int)CALLOUT_TIMEOUT_MS &&
                   (int)WEIR_CALLOUT_SSL_VERIFY == (int)CALLOUT_SSL_VERIFY &&
                   CALLOUT_NUMBERS == CALLOUT_SSL_VERIFY + 1,
               "Lua's numbers are C's");

static struct callouts *the_callouts; /* NULL before the first */

static struct callout *callout_of(weir_callout *c)
{
    return (struct callout *)c;
}

/* What runs is broken off; no coroutine hears of it. */
static void let_go(void)
{
    callouts_free(the_callouts);
    the_callouts = NULL;
}

weir_callout *weir_callout_new(void)
{
    if (!the_vm->args.loop || !co_current())
        return NULL;
    if (!the_callouts) {
        the_callouts = callouts_new(the_vm->args.loop);
        vm_at_end(let_go);
    }
    return (weir_callout *)callout_new(the_callouts);
}

int weir_callout_text(weir_callout *c, int what, const char *p, size_t n)
{
    must(what >= 0 && what < (int)CALLOUT_TEXTS);
    return callout_set_text(callout_of(c), (enum callout_text)what, str_of(p, n));
}

int weir_callout_number(weir_callout *c, int what, double value)
{
    must(what >= 0 && what < (int)CALLOUT_NUMBERS);
    if (!(value >= 0) || value > 1e12)
        return ERR_BOUND;
    return callout_set_number(callout_of(c), (enum callout_number)what, (int64_t)ceil(value));
}

int weir_callout_header(weir_callout *c, const char *name, size_t name_n, const char *value,
                        size_t value_n)
{
    return callout_add_header(callout_of(c), str_of(name, name_n), str_of(value, value_n));
}

int weir_callout_body(weir_callout *c, const char *p, size_t n)
{
    return callout_set_body(callout_of(c), str_of(p, n));
}

int weir_callout_start(weir_callout *c)
{
    int rc = callout_start(callout_of(c));

    if (rc < 0)
        return rc;
    co_wait(callout_op(callout_of(c)));
    return WEIR_WAIT;
}

int weir_callout_result(const weir_callout *c, weir_str *out)
{
    const struct callout *callout = (const struct callout *)c;
    int status = callout_status(callout);

    *out = ffi_str(status < 0 ? str_from(callout_error(callout)) : callout_body(callout));
    return status;
}

int weir_callout_header_at(const weir_callout *c, int i, weir_str *name, weir_str *value)
{
    struct str n, v;

    if (i < 0 || callout_header_at((const struct callout *)c, (unsigned)i, &n, &v) < 0)
        return WEIR_NONE;
    *name = ffi_str(n);
    *value = ffi_str(v);
    return 0;
}

void weir_callout_free(weir_callout *c)
{
    co_unwait(callout_op(callout_of(c)));
    callout_free(callout_of(c));
}
