/*
 * See whereabouts.h. What the Lua half is at stands in its tables (weir.wait's
 * ctx), and is read there when somebody asks, so that a request pays nothing for
 * it. Who asks is a handler of signals, in the middle of whatever runs: it reads
 * by a Lua thread of its own, with keys that were made before, and allocates nothing.
 */
#include "lua/whereabouts.h"
#include "lua/co.h"
#include "lua/internal.h"
#include "req/req.h"
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>

/* What lies on the thread's stack. */
enum {
    WAIT = 1, /* the module */
    PHASES,   /* names by bit */
    CTX,      /* from here on keys */
    PLUGIN,
    PHASE,
    SECRET,
    ROUTE,
    NAME,
    ID,
    SLOTS = ID,
};

static const char *const KEYS[] = { "ctx", "plugin", "phase", "secret", "route", "name", "id" };

static void push_module(lua_State *L, const char *name)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

static lua_State *the_thread;

void whereabouts_use(lua_State *main)
{
    lua_State *L = main ? lua_newthread(main) : NULL;

    the_thread = NULL;
    if (!main)
        return;
    luaL_ref(main, LUA_REGISTRYINDEX); /* as long as the state */
    luaL_checkstack(L, SLOTS + LUA_MINSTACK, "whereabouts");
    push_module(L, "weir.wait");
    push_module(L, "weir.phases");
    lua_getfield(L, PHASES, "names");
    lua_replace(L, PHASES);
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        lua_pushstring(L, KEYS[i]);
    the_thread = L;
}

struct text {
    char *p;
    size_t n, size;
};

PRINTF(2, 3) static void add(struct text *t, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(t->p + t->n, t->size - t->n, fmt, args);
    va_end(args);
    if (n > 0)
        t->n = t->n + (size_t)n < t->size ? t->n + (size_t)n : t->size - 1;
}

/* Pushes a field of the table at the top, or nil where there is no table. */
static void push(lua_State *L, int key)
{
    if (!lua_istable(L, -1)) {
        lua_pushnil(L);
        return;
    }
    lua_pushvalue(L, key);
    lua_rawget(L, -2);
}

/* The same; the text that it is, or NULL. */
static const char *push_text(lua_State *L, int key)
{
    push(L, key);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

static const char *push_phase(lua_State *L)
{
    push(L, PHASE);
    lua_rawgeti(L, PHASES, (int)lua_tointeger(L, -1));
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

static void tell_route(struct text *t, lua_State *L)
{
    const char *name;

    push(L, ROUTE);
    name = push_text(L, NAME);
    if (!name) {
        lua_pop(L, 1);
        name = push_text(L, ID);
    }
    if (name)
        add(t, ", route %.200s", name);
    lua_pop(L, 2);
}

/* The context is at the top. */
static void tell_context(struct text *t, lua_State *L)
{
    const char *plugin = push_text(L, PLUGIN), *phase, *secret;

    lua_pop(L, 1);
    phase = push_phase(L);
    lua_pop(L, 2);
    if (plugin)
        add(t, "[%.100s] ", plugin);
    add(t, "%s phase", phase ? phase : "no");
    secret = push_text(L, SECRET);
    lua_pop(L, 1);
    if (secret)
        add(t, ", looking up %.300s", secret);
    tell_route(t, L);
}

static void tell_request(struct text *t, struct req *req)
{
    struct str id = req_id(req);

    add(t, ", request %.*s, %.*s %.*s", STR_ARG(id), (int)(req->method.n < 32 ? req->method.n : 32),
        req->method.p, (int)(req->raw_path.n < 500 ? req->raw_path.n : 500), req->raw_path.p);
}

void whereabouts_tell(char *out, size_t size)
{
    struct text t = { out, 0, size };
    lua_State *L = the_thread;
    struct req *req = co_current_req();

    *out = '\0';
    if (L && co_current()) { /* else ctx is what ran before */
        lua_pushvalue(L, WAIT);
        push(L, CTX);
    }
    if (L && lua_gettop(L) > SLOTS && lua_istable(L, -1))
        tell_context(&t, L);
    else
        add(&t, "no plugin's phase; the last file that it has loaded is %s", source_last());
    if (req)
        tell_request(&t, req);
    if (L)
        lua_settop(L, SLOTS);
}
