/*
 * See check.h. Errors carry the origin of the value.
 */
#include "conf/check.h"
#include "conf/address.h"
#include <strings.h>

#define TOKEN_CHARS "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int check_listen(const struct conf *c, struct err *e)
{
    const struct conf_list *list = &c->fastcgi_listen;
    struct address address;
    struct err reason;

    if (list->n == 0)
        return conf_refuse(c, CONF_KEY_fastcgi_listen, e,
                           "expected at least one of unix:/path, host:port or stdin");
    for (size_t i = 0; i < list->n; i++) {
        if (address_parse(list->items[i], &address, &reason) != 0)
            return conf_refuse(c, CONF_KEY_fastcgi_listen, e, "%s", reason.text);
        for (size_t j = 0; j < i; j++)
            if (strcmp(list->items[i], list->items[j]) == 0)
                return conf_refuse(c, CONF_KEY_fastcgi_listen, e, "%s is there twice",
                                   list->items[i]);
    }
    return 0;
}

static int check_trusted_ips(const struct conf *c, struct err *e)
{
    for (size_t i = 0; i < c->trusted_ips.n; i++)
        if (!address_is_block(c->trusted_ips.items[i]))
            return conf_refuse(c, CONF_KEY_trusted_ips, e,
                               "expected an address or a block such as 10.0.0.0/8, got \"%.80s\"",
                               c->trusted_ips.items[i]);
    return 0;
}

/* COMPAT(kong): the names that its key headers knows. */
static const char *const HEADER_NAMES[] = {
    "server_tokens",
    "latency_tokens",
    "Server",
    "Via",
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Upstream-Latency",
    "X-Kong-Upstream-Status",
    "X-Kong-Request-Id",
};

static bool is_header_name(const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(HEADER_NAMES); i++)
        if (strcasecmp(text, HEADER_NAMES[i]) == 0)
            return true;
    return false;
}

static int check_headers(const struct conf *c, struct err *e)
{
    const struct conf_list *list = &c->headers;

    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i], "off") == 0 && list->n > 1)
            return conf_refuse(c, CONF_KEY_headers, e, "off cannot stand beside other items");
        if (strcmp(list->items[i], "off") != 0 && !is_header_name(list->items[i]))
            return conf_refuse(c, CONF_KEY_headers, e,
                               "unknown header \"%.80s\", expected off, server_tokens, "
                               "latency_tokens, Server, Via, X-Kong-Proxy-Latency, "
                               "X-Kong-Response-Latency, X-Kong-Upstream-Latency, "
                               "X-Kong-Upstream-Status or X-Kong-Request-Id",
                               list->items[i]);
    }
    return 0;
}

static int check_names(const struct conf *c, enum conf_key_index key, const struct conf_list *list,
                       const char *what, struct err *e)
{
    static const char NAME_CHARS[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    for (size_t i = 0; i < list->n; i++)
        if (list->items[i][strspn(list->items[i], NAME_CHARS)])
            return conf_refuse(c, key, e, "\"%.80s\" is no %s's name (letters, digits, - and _)",
                               list->items[i], what);
    return 0;
}

static int check_plugins(const struct conf *c, struct err *e)
{
    int rc = check_names(c, CONF_KEY_plugins, &c->plugins, "plugin", e);

    return rc != 0 ? rc : check_names(c, CONF_KEY_vaults, &c->vaults, "vault", e);
}

static int check_header_name(const struct conf *c, struct err *e)
{
    const char *name = c->real_ip_header;

    if (!*name || name[strspn(name, TOKEN_CHARS)])
        return conf_refuse(c, CONF_KEY_real_ip_header, e, "expected a header's name, got \"%.80s\"",
                           name);
    return 0;
}

static int check_word(const struct conf *c, enum conf_key_index key, const char *text,
                      const char *const words[3], struct err *e)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(text, words[i]) == 0)
            return 0;
    return conf_refuse(c, key, e, "expected %s, %s or %s, got \"%.80s\"", words[0], words[1],
                       words[2], text);
}

static int check_words(const struct conf *c, struct err *e)
{
    static const char *const DATABASES[] = { "sqlite", "postgres", "off" };
    static const char *const ROLES[] = { "master", "slave", "any" };
    int rc = check_word(c, CONF_KEY_database, c->database, DATABASES, e);

    return rc != 0 ? rc
                   : check_word(c, CONF_KEY_redis_sentinel_role, c->redis_sentinel_role, ROLES, e);
}

int conf_check(const struct conf *c, struct err *e)
{
    int (*const checks[])(const struct conf *, struct err *) = {
        check_listen,  check_trusted_ips, check_headers,
        check_plugins, check_header_name, check_words,
    };

    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        int rc = checks[i](c, e);

        if (rc != 0)
            return rc;
    }
    return 0;
}
