/*
 * Whether a function was the last act of a handler. kong.response.exit is nearly
 * always: `return kong.response.exit(...)`. It may then simply return; an error that
 * leaves the handler costs more than all the rest of a request.
 */
#include "lua/internal.h"
#include <lauxlib.h>

/* Upvalue 1 is xpcall, which the host calls all handlers with. */
static int is_last_call(lua_State *L)
{
    lua_Debug ar;
    bool last = false;

    /* 0 is this function, 1 its caller; tail calls have left nothing between that and xpcall */
    if (lua_getstack(L, 2, &ar) && lua_getinfo(L, "f", &ar))
        last = lua_rawequal(L, -1, lua_upvalueindex(1));
    lua_pushboolean(L, last);
    return 1;
}

void push_is_last_call(lua_State *L)
{
    lua_getglobal(L, "xpcall");
    lua_pushcclosure(L, is_last_call, 1);
}
