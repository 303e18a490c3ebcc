/*
 * See vm.h. Owns the Lua state. The Lua half is entered through a handful of
 * functions that lua/weir/boot.lua returns; their registry references are kept
 * here. Memory policy is decided in this file alone.
 */
#include "lua/vm.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/keys.h"
#include "conf/snapshot.h"
#include "ev/loop.h"
#include "lua/co.h"
#include "lua/heap.h"
#include "lua/internal.h"
#include "req/req.h"
#include <lauxlib.h>
#include <limits.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text of weir_ffi.h, for ffi.cdef: what C compiled is what Lua declares. */
__asm__(".pushsection .rodata\n"
        "weir_cdef_text:\n"
        ".incbin \"" WEIR_FFI_H "\"\n"
        "weir_cdef_text_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char weir_cdef_text[], weir_cdef_text_end[];

struct vm *the_vm;

/* Where lua/ and plugins/ lie: the source tree in tests, the installed tree otherwise. */
static const char *data_dir(void)
{
    const char *dir = getenv("WEIR_DATA_DIR");

    return dir && *dir ? dir : PKGDATADIR;
}

static int traceback(lua_State *L)
{
    const char *text = lua_tostring(L, 1);

    luaL_traceback(L, L, text ? text : "(error is not a string)", 1);
    return 1;
}

/* Calls the function below its nargs arguments; its results stay on the stack. */
static int call(lua_State *L, int nargs, int nresults, struct err *e)
{
    int base = lua_gettop(L) - nargs;
    int status;

    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    status = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    if (status == 0)
        return 0;
    err_set(e, ERR_LUA, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    return ERR_LUA;
}

static void set_paths(lua_State *L, const struct conf *conf)
{
    const char *dir = data_dir();

    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s/lua/compat/?.lua;%s%s%s", dir, dir, dir,
                    conf->lua_package_path, *conf->lua_package_path ? ";" : "",
                    lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);

    lua_newtable(L);
    lua_pushlstring(L, weir_cdef_text, (size_t)(weir_cdef_text_end - weir_cdef_text));
    lua_setfield(L, -2, "cdef");
    lua_pushstring(L, dir);
    lua_setfield(L, -2, "data_dir");
    lua_pushstring(L, PACKAGE_VERSION);
    lua_setfield(L, -2, "version");
    push_is_last_call(L);
    lua_setfield(L, -2, "is_last_call");
    lua_setglobal(L, "weir_host"); /* taken away by weir.ffi */
}

static int ref_field(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    must(lua_isfunction(L, -1));
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* What Lua says of a file that it cannot read would not help anybody. */
static int find_lua_half(struct err *e)
{
    char path[PATH_MAX];
    weir_str text;
    int n = snprintf(path, sizeof path, "%s/lua/weir/boot.lua", data_dir());
    int rc = n < PATH_MAX ? weir_source(path, (size_t)n, &text) : ERR_BOUND;

    if (rc == 0)
        return 0;
    return err_set(e, ERR_LUA,
                   "cannot read %s: %s; weir's own files must be installed, or named by "
                   "WEIR_DATA_DIR, where the user of the workers may read them",
                   path,
                   rc == WEIR_NONE ? "it is not there"
                   : n < PATH_MAX  ? text.p
                                   : "too long");
}

static int load_boot(struct vm *vm, struct err *e)
{
    lua_State *L = vm->L;

    if (find_lua_half(e) < 0)
        return e->code;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "weir.boot");
    if (call(L, 1, 1, e) < 0)
        return e->code;
    vm->ref_request = ref_field(L, "request");
    vm->ref_timer = ref_field(L, "timer");
    vm->ref_load = ref_field(L, "load");
    vm->ref_start = ref_field(L, "start");
    vm->ref_check = ref_field(L, "check");
    vm->ref_command = ref_field(L, "command");
    vm->ref_task = ref_field(L, "task");
    vm->ref_look_up = ref_field(L, "look_up");
    lua_pop(L, 1);
    whereabouts_use(L);
    return 0;
}

/*
 * A function of boot that returns nil, or the text of what went wrong; and, if there is room for
 * it, another text.
 */
static int call_ref(struct vm *vm, int ref, struct buf *more, struct err *e)
{
    int rc;

    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, ref);
    rc = call(vm->L, 0, 2, e);
    if (rc < 0)
        return rc;
    if (!lua_isnil(vm->L, -2))
        rc = err_set(e, ERR_CONFIG, "%s", lua_tostring(vm->L, -2));
    else if (more && lua_isstring(vm->L, -1))
        rc = buf_add(more, lua_tostring(vm->L, -1), lua_objlen(vm->L, -1) + 1);
    lua_pop(vm->L, 2);
    return rc;
}

static void on_request_failed(struct req *req)
{
    if (!req_head_sent(req)) {
        req->status = 500;
        req->source = SOURCE_ERROR;
        req_send_head(req);
    } else {
        req->broken = true;
    }
    if (req->state < REQ_ANSWERED)
        req_send_end(req);
    weir_req_done((weir_req *)req);
}

static int open_state(struct vm **out, const struct vm_args *args, struct err *e)
{
    const char *jit = getenv("WEIR_TEST_JIT");
    struct vm *vm = xcalloc(1, sizeof *vm);
    int rc;

    must(!the_vm);
    vm->args = *args;
    vm->on_request_failed = on_request_failed;
    vm->L = luaL_newstate();
    if (!vm->L) {
        free(vm);
        return err_set(e, ERR_LUA, "cannot open a Lua state: out of memory");
    }
    the_vm = vm;
    heap_wipe(vm->L);
    luaL_openlibs(vm->L);
    if (jit && strcmp(jit, "off") == 0)
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    source_use(args->conf->snapshot);
    set_paths(vm->L, args->conf);
    searcher_install(vm->L);
    rc = load_boot(vm, e);
    if (rc < 0) {
        vm_close(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

int vm_open(struct vm **out, const struct vm_args *args, struct err *e)
{
    int rc = open_state(out, args, e);

    if (rc < 0)
        return rc;
    rc = call_ref(*out, (*out)->ref_load, NULL, e);
    if (rc < 0) {
        vm_close(*out);
        *out = NULL;
    }
    return rc;
}

void vm_stop(struct vm *vm)
{
    co_end_all(vm);
}

void vm_close(struct vm *vm)
{
    vm_stop(vm);
    whereabouts_use(NULL);
    heap_let_be(vm->L);
    lua_close(vm->L);
    while (vm->end_count > 0)
        vm->ends[--vm->end_count]();
    co_free_all();
    source_use(NULL);
    the_vm = NULL;
    free(vm);
}

void vm_at_end(void (*fn)(void))
{
    must(the_vm->end_count < VM_ENDS_MAX);
    the_vm->ends[the_vm->end_count++] = fn;
}

void vm_start(struct vm *vm)
{
    co_run(vm, vm->ref_start, 0, NULL);
}

bool vm_is_ready(const struct vm *vm)
{
    return vm->is_ready;
}

void vm_run_request(struct vm *vm, struct req *req)
{
    req_advance(req, REQ_RUNNING);
    co_run(vm, vm->ref_request, 0, req);
}

int vm_take_snapshot(const struct conf *conf, struct err *e)
{
    char path[PATH_MAX];
    int rc;

    snprintf(path, sizeof path, "%s/lua", data_dir());
    rc = snapshot_add_tree(conf->snapshot, path, e);
    for (size_t i = 0; rc == 0 && i < conf->plugin_dir.n; i++)
        rc = snapshot_add_tree(conf->snapshot, conf->plugin_dir.items[i], e);
    return rc;
}

int vm_check(const struct conf *conf, struct buf *found, struct err *e)
{
    struct vm_args args = { .conf = conf };
    struct vm *vm;
    int rc = open_state(&vm, &args, e);

    if (rc < 0)
        return rc;
    rc = call_ref(vm, vm->ref_check, found, e);
    vm_close(vm);
    return rc;
}

static void push_words(lua_State *L, int argc, char **argv)
{
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

static int take_answer(lua_State *L, struct buf *answer, struct err *e)
{
    size_t n;
    const char *p;
    int rc = 0;

    lua_getfield(L, -1, "answer");
    p = lua_tolstring(L, -1, &n);
    if (p && answer && buf_add(answer, p, n) != 0)
        rc = err_set(e, ERR_BOUND, "more than %zu bytes", answer->max_bytes);
    lua_pop(L, 1);
    return rc;
}

/*
 * The function below its argument gives what to run in a coroutine, and the table that will hold
 * its exit status, and its answer.
 */
static int run_waiting(struct vm *vm, struct err *e)
{
    lua_State *L = vm->L;
    int ref, status, rc = call(L, 1, 2, e);
    bool is_over = false;

    if (rc < 0)
        return rc;
    lua_insert(L, -2);
    ref = luaL_ref(L, LUA_REGISTRYINDEX);
    co_run(vm, ref, 0, NULL);
    while (!is_over) {
        lua_getfield(L, -1, "status");
        is_over = !lua_isnil(L, -1);
        status = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (!is_over)
            loop_turn(vm->args.loop, true);
    }
    rc = take_answer(L, vm->args.answer, e);
    return rc < 0 ? rc : status;
}

int lua_command(const struct vm_args *args, int argc, char **argv, struct err *e)
{
    struct vm *vm;
    int rc = open_state(&vm, args, e);

    if (rc < 0)
        return rc;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, args->loop ? vm->ref_task : vm->ref_command);
    push_words(vm->L, argc, argv);
    if (args->loop) {
        rc = run_waiting(vm, e);
    } else {
        rc = call(vm->L, 1, 1, e);
        if (rc == 0)
            rc = (int)lua_tointeger(vm->L, -1);
    }
    vm_close(vm);
    return rc;
}
