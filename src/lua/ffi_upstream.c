/*
 * The weir_upstream_* functions of weir_ffi.h: exchange.h in Lua's terms, with
 * the waits of the running coroutine.
 */
#include "ev/op.h"
#include "lua/co.h"
#include "lua/exchange.h"
#include "lua/forwarded.h"
#include "lua/internal.h"

static struct req *req_of(weir_req *r)
{
    return (struct req *)r;
}

static int wait_for(struct op *op)
{
    co_wait(op);
    return WEIR_WAIT;
}

void weir_upstream_describe(weir_req *r, const char *host, size_t host_n, int trusted,
                            const char *client, size_t client_n, const char *prefix,
                            size_t prefix_n)
{
    struct forwarded f = { .trusted = trusted,
                           .client_ip = str_of(client, client_n),
                           .prefix = str_of(prefix, prefix_n) };

    exchange_describe(req_of(r), str_of(host, host_n), &f);
}

int weir_upstream_start(weir_req *r, const char *host, size_t host_n, int port, const char *target,
                        size_t target_n, int retries, int connect_ms, int write_ms, int read_ms,
                        int whole_body)
{
    struct exchange_params p = {
        .host = str_of(host, host_n),
        .target = str_of(target, target_n),
        .port = (unsigned)port,
        .retries = retries > 0 ? (unsigned)retries : 0,
        .connect_ms = connect_ms,
        .write_ms = write_ms,
        .read_ms = read_ms,
        .whole_body = whole_body,
    };

    return wait_for(exchange_start(req_of(r), &p));
}

int weir_upstream_result(weir_req *r)
{
    return exchange_result(req_of(r));
}

const char *weir_upstream_reason(const weir_req *r)
{
    return exchange_reason((const struct req *)r);
}

void weir_upstream_accept(weir_req *r)
{
    exchange_accept(req_of(r));
}

void weir_upstream_head(weir_req *r, int filtered)
{
    exchange_send_head(req_of(r), filtered);
}

int weir_upstream_forward(weir_req *r)
{
    struct op *op;
    int step = exchange_forward(req_of(r), &op);

    if (step == EXCHANGE_WAITS)
        return wait_for(op);
    return step == EXCHANGE_END ? 1 : step;
}

int weir_upstream_read(weir_req *r, weir_str *out)
{
    struct str piece = STR_NULL;
    struct op *op;
    int step = exchange_read(req_of(r), &piece, &op);

    *out = ffi_str(piece);
    if (step == EXCHANGE_WAITS)
        return wait_for(op);
    if (step == EXCHANGE_PIECE)
        return 0;
    return step == EXCHANGE_END ? 1 : step;
}
