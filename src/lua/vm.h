/*
 * The Lua state of this process: libraries, paths, memory policy, and the
 * entry points of the Lua half. One per process.
 */
#ifndef WEIR_LUA_VM_H
#define WEIR_LUA_VM_H

#include "base/err.h"
#include "base/weir.h"

struct buf;
struct conf;
struct counter_table;
struct vm;

struct vm_args {
    struct loop *loop; /* NULL: nothing may wait then */
    const struct conf *conf;
    struct counter_table *counters; /* NULL: nothing may count, here and in stores */
    struct stores *stores;
    struct keepsake *keepsake; /* NULL: secrets end with this process */
    unsigned worker_id;        /* 0 for commands */
    uint64_t generation;       /* of workers with the same configuration and environment */
    struct buf *answer;        /* of a command that may wait: what it says to C; may be NULL */
};

/*
 * Opens the state and runs lua/weir/boot.lua, which loads configuration and
 * plugins. The error text holds file:line. Blocks (reads files).
 */
int vm_open(struct vm **out, const struct vm_args *args, struct err *e) MUST_CHECK;
void vm_close(struct vm *vm);

/* Ends what waits in Lua. Before vm_close where what it waits for is freed earlier. */
void vm_stop(struct vm *vm);

/*
 * In a coroutine: looks up the secrets that the configuration names, for a bounded time, and runs
 * the init_worker and configure phases; a failure is logged.
 */
void vm_start(struct vm *vm);

/* Whether vm_start is so far that requests may come: turn the loop until then. */
bool vm_is_ready(const struct vm *vm);

/* Runs the phases of a request whose head is decoded; returns when it waits or is logged. */
void vm_run_request(struct vm *vm, struct req *req);

/* Puts the plugins and the Lua half of weir into conf->snapshot, for all who load later. */
int vm_take_snapshot(const struct conf *conf, struct err *e) MUST_CHECK;

/*
 * Loads everything as a worker would and reports, for `weir check` and reloads. found (may be
 * NULL) gets a line on what there is, with a NUL behind it.
 */
int vm_check(const struct conf *conf, struct buf *found, struct err *e) MUST_CHECK;

/*
 * A command of lua/weir/cli (`weir plugins list`); the exit status, or negative with e set. With a
 * loop in args it may wait: the loop turns until it has ended.
 */
int lua_command(const struct vm_args *args, int argc, char **argv, struct err *e) MUST_CHECK;

#endif
