/*
 * What the files of the lua floor share among themselves.
 */
#ifndef WEIR_LUA_INTERNAL_H
#define WEIR_LUA_INTERNAL_H

#include "base/str.h"
#include "base/weir.h"
#include "lua/vm.h"
#include <lua.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "lua/weir_ffi.h"
#pragma GCC visibility pop

#define VM_ENDS_MAX 8

struct vm {
    lua_State *L;
    struct vm_args args;
    /* The Lua half itself broke on a request: answers 500 if nothing was sent, and ends it. */
    void (*on_request_failed)(struct req *req);
    int ref_request, ref_timer, ref_load, ref_start, ref_check, ref_command, ref_task, ref_look_up;
    bool is_ready; /* requests may come */
    void (*ends[VM_ENDS_MAX])(void);
    unsigned end_count;
};

/* The one state of this process; NULL before vm_open. */
extern struct vm *the_vm;

/*
 * Pushes the function is_last_call(): true when its caller was called by the host itself,
 * or has, by tail calls, taken the place of the function that was. May say false wrongly.
 */
void push_is_last_call(lua_State *L);

/* Runs fn when the state has been closed. At most VM_ENDS_MAX in all. */
void vm_at_end(void (*fn)(void));

struct snapshot;

/* Where weir_source and weir_dir_names look; NULL: at the files themselves. */
void source_use(struct snapshot *s);

/* The path of the last file that weir_source gave; empty: none yet. Cut at its end. */
const char *source_last(void);

/* Lets whereabouts_tell read the state, when the Lua half is loaded; NULL: none any more. */
void whereabouts_use(lua_State *L);

/* Makes require read modules by weir_source. */
void searcher_install(lua_State *L);

static inline struct str str_of(const char *p, size_t n)
{
    return (struct str){ p, n };
}

static inline weir_str ffi_str(struct str s)
{
    return (weir_str){ s.p, s.n };
}

#endif
