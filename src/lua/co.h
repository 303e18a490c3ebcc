/*
 * Pooled coroutines and the stepper, the one place where C enters Lua on the
 * request path. A coroutine that yields waits for exactly one op; when that is
 * done, the coroutine goes on at the end of the loop's turn, and asks C for
 * the result itself.
 */
#ifndef WEIR_LUA_CO_H
#define WEIR_LUA_CO_H

#include "base/weir.h"
#include "ev/op.h"

struct co;
struct store_waiter;
struct vm;

/* The running coroutine; NULL outside of Lua. */
struct co *co_current(void);

/* The request that it belongs to; NULL in a timer and outside of Lua. */
struct req *co_current_req(void);

/*
 * The running coroutine will wait for op, which must be pending and whose
 * `done` is free. The caller returns WEIR_WAIT to Lua, which yields at once.
 */
void co_wait(struct op *op);

/* Takes that back and cancels op: Lua could not yield, because a C function called it. */
void co_unwait(struct op *op);

#define CO_STORE_WAITERS 8

/*
 * The i-th of the running coroutine's own, zeroed when they are made. It asks up to so many
 * questions of stores at once, and waits for the answers to all of them before it ends.
 */
struct store_waiter *co_store_waiter(unsigned i);

/*
 * Calls the Lua function of registry reference fn_ref, in a coroutine of its
 * own, with the number arg. req may be NULL. Returns when it has finished or waits.
 */
void co_run(struct vm *vm, int fn_ref, int arg, struct req *req);

/*
 * The client or the time is gone: cancels what co waits for and lets it go on
 * at the end of the turn; the Lua half learns of it by weir_req_number(ABORTED).
 * Harmless if it waits for nothing.
 */
void co_cancel(struct co *co);

/*
 * None begins or goes on from here on: what they wait for is cancelled, and must be there still;
 * their requests are over.
 */
void co_end_all(struct vm *vm);

/* When the state has been closed. */
void co_free_all(void);

/* Completions that came for a coroutine which had gone on without them. */
uint64_t co_dropped_count(void);

/* Coroutines that wait now. */
unsigned co_waiting_count(void);

#endif
