/*
 * What the specs' shared object needs of src/lua/ffi_base.c, which stands on
 * the event loop: random bytes, and lists of weir.conf, read from WEIR_<KEY>
 * of the environment as the program does.
 */
#include "lua/internal.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int weir_random(char *out, size_t n)
{
    return getrandom(out, n, 0) == (ssize_t)n ? 0 : -1;
}

int weir_conf_list(const char *key, size_t n, int i, weir_str *out)
{
    char name[64];
    const char *p;

    snprintf(name, sizeof name, "WEIR_%.*s", (int)n, key);
    for (char *c = name; *c; c++)
        *c = (char)toupper(*c);
    p = getenv(name);
    while (p && i-- > 0) {
        p = strchr(p, ',');
        p = p ? p + 1 : NULL;
    }
    if (!p || !*p)
        return WEIR_NONE;
    out->p = p;
    out->n = strcspn(p, ",");
    return 0;
}
