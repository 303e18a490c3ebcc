/*
 * See co.h. A finished coroutine goes back to the pool and is used again; one
 * that failed is dropped, because its stack is no longer known. An op carries
 * the number and the generation of its coroutine, never a pointer: a late
 * completion finds another generation, is dropped and counted.
 */
#include "lua/co.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "lua/internal.h"
#include "req/req.h"
#include "store/store.h"
#include <lauxlib.h>
#include <stdlib.h>

#define GENERATION_BITS 40

enum co_state {
    CO_FREE,
    CO_RUNNING,
    CO_WAITING,
    CO_READY, /* its op is done; goes on at the end of the turn */
};

struct co {
    lua_State *L;
    struct vm *vm;
    struct op *op; /* while waiting */
    struct req *req;
    struct store_waiter *waiters; /* made when first needed */
    struct co *next_free;
    struct deferred deferred;
    uint64_t generation;
    uint32_t number;
    int ref;
    enum co_state state;
};

static struct {
    struct co **all;
    struct co *free;
    struct co *current;
    uint32_t count, cap;
    unsigned waiting;
    bool has_ended;
    uint64_t dropped;
} the_pool;

struct co *co_current(void)
{
    return the_pool.current;
}

struct req *co_current_req(void)
{
    return the_pool.current ? the_pool.current->req : NULL;
}

uint64_t co_dropped_count(void)
{
    return the_pool.dropped;
}

unsigned co_waiting_count(void)
{
    return the_pool.waiting;
}

static void new_thread(struct co *co)
{
    co->L = lua_newthread(co->vm->L);
    co->ref = luaL_ref(co->vm->L, LUA_REGISTRYINDEX);
}

static struct co *take(struct vm *vm)
{
    struct co *co = the_pool.free;

    if (co) {
        the_pool.free = co->next_free;
        return co;
    }
    if (the_pool.count == the_pool.cap) {
        the_pool.cap = the_pool.cap ? the_pool.cap * 2 : 64;
        the_pool.all = xrealloc(the_pool.all, the_pool.cap * sizeof(struct co *));
    }
    co = xcalloc(1, sizeof *co);
    co->vm = vm;
    co->number = the_pool.count;
    the_pool.all[the_pool.count++] = co;
    new_thread(co);
    return co;
}

/*
 * What co armed, and could not yield for: table.sort or string.gsub was in between, and Lua has
 * raised an error instead. What is done already may be freed.
 */
static void abandon(struct co *co)
{
    if (LIKELY(!co->op))
        return;
    if (co->state != CO_READY)
        op_cancel(co->op);
    co->op = NULL;
    co->state = CO_RUNNING;
}

static void release(struct co *co)
{
    abandon(co);
    co->state = CO_FREE;
    co->generation++;
    co->req = NULL;
    co->next_free = the_pool.free;
    the_pool.free = co;
}

static void *token_of(const struct co *co)
{
    return (void *)(uintptr_t)(((uint64_t)co->number << GENERATION_BITS) |
                               (co->generation & ((UINT64_C(1) << GENERATION_BITS) - 1)));
}

static struct co *from_token(void *token)
{
    uint32_t number = (uint32_t)((uintptr_t)token >> GENERATION_BITS);
    struct co *co = number < the_pool.count ? the_pool.all[number] : NULL;

    return co && token_of(co) == token ? co : NULL;
}

/*
 * The error handler of the Lua half has caught everything that plugins do:
 * what arrives here is a failure of the half itself.
 */
static void fail(struct co *co)
{
    const char *text = lua_tostring(co->L, -1);
    struct req *req = co->req;

    log_error("a coroutine of weir itself failed: %s", text ? text : "(no message)");
    luaL_unref(co->vm->L, LUA_REGISTRYINDEX, co->ref);
    new_thread(co);
    release(co);
    if (req)
        co->vm->on_request_failed(req);
}

static void on_turn_end(struct deferred *d);

static void make_ready(struct co *co)
{
    the_pool.waiting--;
    co->state = CO_READY;
    loop_defer(co->vm->args.loop, &co->deferred, on_turn_end);
}

/* The only caller of lua_resume. */
static void co_step(struct co *co, int nargs)
{
    struct co *outer = the_pool.current;
    int status;

    the_pool.current = co;
    co->state = CO_RUNNING;
    status = lua_resume(co->L, nargs);
    the_pool.current = outer;
    if (LIKELY(status == 0)) {
        lua_settop(co->L, 0);
        release(co);
    } else if (status == LUA_YIELD && co->op) {
        lua_settop(co->L, 0);
        the_pool.waiting++;
        if (co->state == CO_READY)
            make_ready(co);
        else
            co->state = CO_WAITING;
    } else if (status == LUA_YIELD) {
        /* a plugin's own yield that no resume of its own takes */
        lua_settop(co->L, 0);
        lua_pushliteral(co->L, "coroutine.yield outside of a coroutine of the plugin's own");
        fail(co);
    } else {
        fail(co);
    }
}

static void on_turn_end(struct deferred *d)
{
    struct co *co = CONTAINER_OF(d, struct co, deferred);

    co->op = NULL;
    co_step(co, 0);
}

static void on_op_done(struct op *op, void *token)
{
    struct co *co = from_token(token);

    if (!co || co->op != op) {
        the_pool.dropped++;
        return;
    }
    if (co->state == CO_WAITING)
        make_ready(co);
    else
        co->state = CO_READY; /* done before Lua has yielded */
}

void co_wait(struct op *op)
{
    struct co *co = the_pool.current;

    must(co && op->state == OP_PENDING && !op->done);
    abandon(co);
    co->op = op;
    op->arg = token_of(co);
    op->done = on_op_done;
}

void co_unwait(struct op *op)
{
    struct co *co = the_pool.current;

    if (co && co->op == op)
        abandon(co);
}

struct store_waiter *co_store_waiter(unsigned i)
{
    struct co *co = the_pool.current;

    must(co && i < CO_STORE_WAITERS);
    if (!co->waiters)
        co->waiters = xcalloc(CO_STORE_WAITERS, sizeof *co->waiters);
    return &co->waiters[i];
}

void co_cancel(struct co *co)
{
    if (co->state != CO_WAITING)
        return;
    op_cancel(co->op);
    make_ready(co);
}

void co_end_all(struct vm *vm)
{
    for (uint32_t i = 0; i < the_pool.count; i++) {
        struct co *co = the_pool.all[i];

        loop_undefer(vm->args.loop, &co->deferred);
        abandon(co);
        co->state = CO_FREE;
        co->generation++;
        if (co->req)
            vm->on_request_failed(co->req);
        co->req = NULL;
    }
    the_pool.waiting = 0;
    the_pool.has_ended = true;
}

void co_free_all(void)
{
    for (uint32_t i = 0; i < the_pool.count; i++) {
        free(the_pool.all[i]->waiters);
        free(the_pool.all[i]);
    }
    free(the_pool.all);
    the_pool.all = NULL;
    the_pool.free = NULL;
    the_pool.count = the_pool.cap = 0;
    the_pool.has_ended = false;
}

void co_run(struct vm *vm, int fn_ref, int arg, struct req *req)
{
    struct co *co;

    if (the_pool.has_ended)
        return;
    co = take(vm);
    co->req = req;
    if (req)
        req->co = co;
    lua_rawgeti(co->L, LUA_REGISTRYINDEX, fn_ref);
    lua_pushinteger(co->L, arg);
    co_step(co, 1);
}
