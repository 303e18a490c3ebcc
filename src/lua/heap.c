/*
 * See heap.h. Stands in front of LuaJIT's own allocator. Where that would move a
 * block it leaves the old bytes behind, so moving is done here.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "lua/heap.h"
#include <string.h>

static struct {
    lua_Alloc alloc;
    void *arg;
} the_own;

static void *move(void *p, size_t old_bytes, size_t new_bytes)
{
    void *to = the_own.alloc(the_own.arg, NULL, 0, new_bytes);

    if (!to)
        return NULL;
    memcpy(to, p, old_bytes < new_bytes ? old_bytes : new_bytes);
    explicit_bzero(p, old_bytes);
    the_own.alloc(the_own.arg, p, old_bytes, 0);
    return to;
}

static void *alloc_wiping(void *arg, void *p, size_t old_bytes, size_t new_bytes)
{
    (void)arg;
    if (!p)
        return the_own.alloc(the_own.arg, NULL, 0, new_bytes);
    if (new_bytes > 0)
        return move(p, old_bytes, new_bytes);
    explicit_bzero(p, old_bytes);
    return the_own.alloc(the_own.arg, p, old_bytes, 0);
}

void heap_wipe(lua_State *L)
{
    the_own.alloc = lua_getallocf(L, &the_own.arg);
    lua_setallocf(L, alloc_wiping, NULL);
}

void heap_let_be(lua_State *L)
{
    lua_setallocf(L, the_own.alloc, the_own.arg);
}
