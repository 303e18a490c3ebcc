/*
 * Lua's memory: what is given back is wiped first, because secrets pass through
 * it. Strings that nobody refers to stay until they are collected, no longer.
 */
#ifndef WEIR_LUA_HEAP_H
#define WEIR_LUA_HEAP_H

#include <lua.h>

/* From now on. There is one state in a process at a time. */
void heap_wipe(lua_State *L);

/* No longer: right before lua_close, which unmaps the whole heap. */
void heap_let_be(lua_State *L);

#endif
