/*
 * lua/heap: what Lua gives back is wiped, also what it moves. The memory is looked
 * at after it was given back, which LuaJIT's allocator keeps mapped.
 */
#include "lua/heap.h"
#include <lauxlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BYTES 4000

/* Lua has mapped it, not malloc: AddressSanitizer knows nothing of it. */
static size_t count(const char *p, char c)
{
    size_t n = 0;

    for (size_t i = 0; i < BYTES; i++)
        n += ((const volatile char *)p)[i] == c;
    return n;
}

/* But for a byte of the pointers that the allocator keeps in what is free. */
static bool is_wiped(const char *p)
{
    return count(p, 'S') < 4 * sizeof(void *);
}

static void test_strings(void **state)
{
    lua_State *L = luaL_newstate();
    char text[BYTES];
    const char *there;

    (void)state;
    heap_wipe(L);
    memset(text, 'S', BYTES);
    lua_pushlstring(L, text, BYTES);
    there = lua_tostring(L, -1);
    assert_int_equal(count(there, 'S'), BYTES);
    lua_pop(L, 1);
    lua_gc(L, LUA_GCCOLLECT, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    assert_true(is_wiped(there));
    heap_let_be(L);
    lua_close(L);
}

static void test_blocks_that_move(void **state)
{
    lua_State *L = luaL_newstate();
    lua_Alloc alloc;
    void *arg;
    char *first, *second;

    (void)state;
    heap_wipe(L);
    alloc = lua_getallocf(L, &arg);
    first = alloc(arg, NULL, 0, BYTES);
    memset(first, 'S', BYTES);
    second = alloc(arg, first, BYTES, 2 * BYTES);
    assert_int_equal(count(second, 'S'), BYTES);
    assert_true(first == second || is_wiped(first));
    first = alloc(arg, second, 2 * BYTES, 16);
    assert_memory_equal(first, "SSSSSSSSSSSSSSSS", 16);
    assert_null(alloc(arg, first, 16, 0));
    heap_let_be(L);
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_blocks_that_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
