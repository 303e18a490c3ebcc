/*
 * How require finds modules along package.path: in the generation's snapshot
 * first. Stands in for Lua's own searcher of Lua files, and speaks like it.
 */
#include "lua/internal.h"
#include <lauxlib.h>
#include <string.h>

/* Pushes the file that a template names for a module; name has slashes for its dots. */
static const char *push_path(lua_State *L, const char *template, size_t n, const char *name)
{
    const char *file;

    lua_pushlstring(L, template, n);
    file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
    lua_remove(L, -2);
    return file;
}

/* 1 and the loaded chunk on the stack, or 0. Raises an error for a file that does not parse. */
static int load_file(lua_State *L, const char *module, const char *file)
{
    weir_str text;

    if (weir_source(file, strlen(file), &text) != 0)
        return 0;
    lua_pushfstring(L, "@%s", file);
    if (luaL_loadbuffer(L, text.p, text.n, lua_tostring(L, -1)) == 0)
        return 1;
    return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", module, file,
                      lua_tostring(L, -1));
}

static int search(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1), *name, *p;
    luaL_Buffer tried;

    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    p = luaL_checkstring(L, -1);
    name = luaL_gsub(L, module, ".", "/");
    while (*p) {
        size_t n = strcspn(p, ";");

        if (n) {
            if (load_file(L, module, push_path(L, p, n, name)))
                return 1;
            lua_pop(L, 1);
        }
        p += n + (p[n] == ';');
    }
    luaL_buffinit(L, &tried);
    for (p = lua_tostring(L, 3); *p;) {
        size_t n = strcspn(p, ";");

        if (n) {
            luaL_addstring(&tried, "\n\tno file '");
            push_path(L, p, n, name);
            luaL_addvalue(&tried);
            luaL_addstring(&tried, "'");
        }
        p += n + (p[n] == ';');
    }
    luaL_pushresult(&tried);
    return 1;
}

void searcher_install(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}
