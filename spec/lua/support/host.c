/*
 * What the specs' shared object needs of src/lua/ffi_base.c, which stands on
 * the event loop: random bytes, a log that goes to standard error, and the
 * keys of weir.conf, read from WEIR_<KEY> of the environment as the program does.
 */
#include "conf/keys.h"
#include "lua/internal.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int weir_random(char *out, size_t n)
{
    return getrandom(out, n, 0) == (ssize_t)n ? 0 : -1;
}

void weir_log(int level, const char *p, size_t n)
{
    fprintf(stderr, "[%d] %.*s\n", level, (int)n, p);
}

int weir_log_enabled(int level)
{
    return level <= 5;
}

int weir_worker_id(void)
{
    return 0;
}

static const char *from_environment(const char *key, size_t n)
{
    char name[64];

    snprintf(name, sizeof name, "WEIR_%.*s", (int)n, key);
    for (char *c = name; *c; c++)
        *c = (char)toupper(*c);
    return getenv(name);
}

int weir_conf_get(const char *key, size_t n, weir_str *out)
{
    static const struct {
        const char *name, *value;
    } defaults[] = {
#define X(kind, name, value, ...) { #name, value },
        CONF_KEYS(X)
#undef X
    };

    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        const char *value = defaults[i].value;

        if (strlen(defaults[i].name) != n || memcmp(defaults[i].name, key, n) != 0)
            continue;
        if (from_environment(key, n))
            value = from_environment(key, n);
        *out = (weir_str){ value, strlen(value) };
        return 0;
    }
    return WEIR_NONE;
}

int weir_conf_list(const char *key, size_t n, int i, weir_str *out)
{
    const char *p = from_environment(key, n);

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

int weir_conf_vault(int i, weir_str *name, weir_str *text, weir_str *origin)
{
    (void)i;
    (void)name;
    (void)text;
    (void)origin;
    return WEIR_NONE;
}

int weir_conf_origin(const char *key, size_t n, weir_str *out)
{
    (void)key;
    (void)n;
    (void)out;
    return WEIR_NONE;
}
