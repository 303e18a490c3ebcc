/*
 * The one function of src/lua/ffi_base.c that the specs' shared object needs:
 * that file stands on the event loop, which they do without.
 */
#include "lua/internal.h"
#include <sys/random.h>

int weir_random(char *out, size_t n)
{
    return getrandom(out, n, 0) == (ssize_t)n ? 0 : -1;
}
