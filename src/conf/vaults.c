/*
 * See vaults.h. Names are kept in lower case, as in weir.conf. Refuses what can
 * be no type and field, and names that are too long.
 */
#define _GNU_SOURCE /* environ */
#include "conf/vaults.h"
#include <ctype.h>
#include <unistd.h>

#define PREFIX "vault_"
#define ENV_PREFIX "WEIR_VAULT_"
#define KEY_MAX_BYTES 128

bool vaults_is_key(struct str key)
{
    return str_starts(key, STR(PREFIX));
}

static bool is_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    const char *bar = strchr(name, '_');

    return !name[n] && bar && bar > name && bar[1];
}

static struct conf_setting *find(const struct conf *c, const char *name)
{
    struct conf_setting *s;

    STAILQ_FOREACH (s, &c->vault_settings, link)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

static int refuse(const char *origin, struct err *e)
{
    return err_set(e, ERR_CONFIG,
                   "%s: expected the config of a vault as " PREFIX "<type>_<field>, such as " PREFIX
                   "env_prefix",
                   origin);
}

static void set(struct conf *c, struct conf_setting *s, const char *name, const char *origin,
                struct str value)
{
    if (!s) {
        s = arena_alloc(&c->arena, sizeof *s);
        s->name = arena_str(&c->arena, str_from(name)).p;
        STAILQ_INSERT_TAIL(&c->vault_settings, s, link);
    }
    s->value = (struct conf_value){ .text = arena_str(&c->arena, value).p, .origin = origin };
}

/* What stands behind the prefix, in lower case; false when it can be no name. */
static bool take_name(char out[KEY_MAX_BYTES], struct str name)
{
    if (name.n >= KEY_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.n; i++)
        out[i] = (char)tolower((unsigned char)name.p[i]);
    out[name.n] = '\0';
    return is_name(out);
}

int vaults_add(struct conf *c, const char *origin, struct str key, struct str value, struct err *e)
{
    const size_t skip = sizeof PREFIX - 1;
    char name[KEY_MAX_BYTES];
    struct conf_setting *s;

    if (!take_name(name, (struct str){ key.p + skip, key.n - skip }))
        return refuse(origin, e);
    s = find(c, name);
    if (s)
        return err_set(e, ERR_CONFIG, "%s: " PREFIX "%s is set already at %s", origin, name,
                       s->value.origin);
    set(c, NULL, name, origin, value);
    return 0;
}

int vaults_add_environment(struct conf *c, struct err *e)
{
    for (char **p = environ; *p; p++) {
        struct str entry = str_from(*p), key;
        const char *equals = strchr(*p, '='), *origin;
        char name[KEY_MAX_BYTES];

        if (!equals || !str_starts(entry, STR(ENV_PREFIX)))
            continue;
        key = (struct str){ *p, (size_t)(equals - *p) };
        origin = arena_str(&c->arena, key).p;
        key.p += sizeof ENV_PREFIX - 1;
        key.n -= sizeof ENV_PREFIX - 1;
        if (take_name(name, key))
            set(c, find(c, name), name, origin, str_trim(str_from(equals + 1)));
        else if (!c->lenient)
            return refuse(origin, e);
    }
    return 0;
}
