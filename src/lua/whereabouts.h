/*
 * What a process is at in Lua, for the last words of one that stands still.
 */
#ifndef WEIR_LUA_WHEREABOUTS_H
#define WEIR_LUA_WHEREABOUTS_H

#include <stddef.h>

/*
 * In words: plugin, phase, route and request, or, where no plugin runs, the last file of Lua that
 * was read. For the handler of a signal; no query and no headers are in it.
 */
void whereabouts_tell(char *out, size_t size);

#endif
