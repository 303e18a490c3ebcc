/*
 * See settings.h. The texts were checked by a plugin's schema; what is wrong in
 * them all the same is told with its name.
 */
#define _GNU_SOURCE /* memrchr */
#include "store/settings.h"
#include "base/secret.h"
#include "conf/keys.h"
#include "peer/pg.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PORT 6379
#define DEFAULT_PG_PORT 5432
#define DEFAULT_TIMEOUT_MS 2000

static const char *get(struct str texts, const char *name)
{
    const char *p = texts.p, *end = texts.p + texts.n;
    size_t n = strlen(name);

    while (p < end) {
        if (strncmp(p, name, n) == 0 && p[n] == '=')
            return p[n + 1] ? p + n + 1 : NULL;
        p += strlen(p) + 1;
    }
    return NULL;
}

static const char *copy(struct arena *a, const char *text)
{
    return text && *text ? arena_str(a, str_from(text)).p : NULL;
}

static void release(void *secret)
{
    secret_release(secret);
}

struct secret *settings_secret(struct arena *a, const char *text)
{
    struct secret *s;

    if (!text || !*text)
        return NULL;
    s = secret_from_text(str_from(text));
    arena_on_reset(a, release, s);
    return s;
}

static void take_secret(struct secret **out, struct arena *a, struct str texts, const char *name)
{
    const char *text = get(texts, name);

    if (text)
        *out = settings_secret(a, text);
}

static void take_text(const char **out, struct arena *a, struct str texts, const char *name)
{
    const char *text = get(texts, name);

    if (text)
        *out = copy(a, text);
}

static int64_t number(struct str texts, const char *name, int64_t otherwise)
{
    const char *text = get(texts, name);

    return text ? strtoll(text, NULL, 10) : otherwise;
}

/* Milliseconds; 0, which would set no bound, is as if nothing was said. */
static int64_t bound_of(struct str texts, const char *name, int64_t otherwise)
{
    int64_t ms = number(texts, name, 0);

    return ms > 0 ? ms : otherwise;
}

static bool is_true(struct str texts, const char *name, bool otherwise)
{
    const char *text = get(texts, name);

    return text ? strcmp(text, "true") == 0 : otherwise;
}

/* "host:port", "[v6]:port", a host alone, or "unix:/path". */
static int to_node(struct redis_node *out, struct arena *a, struct str text, struct err *e)
{
    struct str host = str_trim(text), digits;
    const char *bracket = host.n ? memchr(host.p, ']', host.n) : NULL;
    const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;
    uint64_t port = DEFAULT_PORT;

    if (str_starts(host, STR("unix:")) || (bracket && colon < bracket))
        colon = NULL;
    if (colon) {
        digits = (struct str){ colon + 1, (size_t)(host.p + host.n - colon - 1) };
        if (str_to_u64(digits, 65535, &port) != 0)
            return err_set(e, ERR_CONFIG, "redis: \"%.*s\" is no host:port", STR_ARG(text));
        host.n = (size_t)(colon - host.p);
    }
    if (bracket && host.p[0] == '[')
        host = (struct str){ host.p + 1, (size_t)(bracket - host.p) - 1 };
    if (host.n == 0)
        return err_set(e, ERR_CONFIG, "redis: \"%.*s\" names no host", STR_ARG(text));
    *out = (struct redis_node){ arena_str(a, host).p, (unsigned)port };
    return 0;
}

static int add_node(struct redis_node *nodes, unsigned *count, struct arena *a, struct str text,
                    struct err *e)
{
    if (*count == REDIS_NODES_MAX)
        return err_set(e, ERR_CONFIG, "redis: more than %d nodes", REDIS_NODES_MAX);
    return to_node(&nodes[(*count)++], a, text, e);
}

static int split_nodes(struct redis_node *nodes, unsigned *count, struct arena *a, const char *text,
                       struct err *e)
{
    for (int rc = 0; text && *text;) {
        size_t n = strcspn(text, ",");

        rc = add_node(nodes, count, a, (struct str){ text, n }, e);
        if (rc < 0)
            return rc;
        text += n + (text[n] == ',');
    }
    return 0;
}

static int list_nodes(struct redis_node *nodes, unsigned *count, struct arena *a,
                      const struct conf_list *list, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < list->n; i++)
        rc = add_node(nodes, count, a, str_from(list->items[i]), e);
    return rc;
}

static enum redis_role to_role(const char *text)
{
    if (text && strcmp(text, "slave") == 0)
        return REDIS_ROLE_SLAVE;
    return text && strcmp(text, "any") == 0 ? REDIS_ROLE_ANY : REDIS_ROLE_MASTER;
}

static const char *ca_file(const struct conf *conf)
{
    const char *path = conf->lua_ssl_trusted_certificate;

    return strcmp(path, "system") == 0 ? NULL : path;
}

/* Kong's defaults. */
static void set_defaults(struct redis_settings *s)
{
    s->server.port = DEFAULT_PORT;
    s->connect_ms = s->send_ms = s->read_ms = DEFAULT_TIMEOUT_MS;
    s->sentinel_role = REDIS_ROLE_MASTER;
    s->cluster_max_redirections = 5;
}

/* What the texts say goes before what s holds. */
static int from_texts(struct redis_settings *s, struct arena *a, struct str t, struct err *e)
{
    int rc;

    take_text(&s->server.host, a, t, "host");
    s->server.port = (unsigned)number(t, "port", s->server.port);
    take_secret(&s->username, a, t, "username");
    take_secret(&s->password, a, t, "password");
    s->database = (unsigned)number(t, "database", s->database);
    s->connect_ms = bound_of(t, "connect_timeout", bound_of(t, "timeout", s->connect_ms));
    s->send_ms = bound_of(t, "send_timeout", bound_of(t, "timeout", s->send_ms));
    s->read_ms = bound_of(t, "read_timeout", bound_of(t, "timeout", s->read_ms));
    s->ssl = is_true(t, "ssl", s->ssl);
    s->ssl_verify = is_true(t, "ssl_verify", s->ssl_verify);
    s->is_proxied = is_true(t, "connection_is_proxied", s->is_proxied);
    take_text(&s->server_name, a, t, "server_name");
    take_text(&s->sentinel_master, a, t, "sentinel_master");
    if (get(t, "sentinel_role"))
        s->sentinel_role = to_role(get(t, "sentinel_role"));
    take_secret(&s->sentinel_username, a, t, "sentinel_username");
    take_secret(&s->sentinel_password, a, t, "sentinel_password");
    s->cluster_max_redirections =
        (unsigned)number(t, "cluster_max_redirections", s->cluster_max_redirections);
    rc = split_nodes(s->sentinels, &s->sentinel_count, a, get(t, "sentinel_nodes"), e);
    if (rc == 0)
        rc = split_nodes(s->cluster, &s->cluster_count, a, get(t, "cluster_nodes"), e);
    return rc;
}

static int from_conf(struct redis_settings *s, struct arena *a, const struct conf *c, struct err *e)
{
    int64_t timeout_ms = c->redis_timeout_ms;
    int rc;

    s->server.host = copy(a, c->redis_host);
    s->server.port = (unsigned)c->redis_port;
    s->username = settings_secret(a, c->redis_username);
    s->password = settings_secret(a, c->redis_password);
    s->database = (unsigned)c->redis_database;
    s->connect_ms = c->redis_connect_timeout_ms ? c->redis_connect_timeout_ms : timeout_ms;
    s->send_ms = c->redis_send_timeout_ms ? c->redis_send_timeout_ms : timeout_ms;
    s->read_ms = c->redis_read_timeout_ms ? c->redis_read_timeout_ms : timeout_ms;
    s->ssl = c->redis_ssl;
    s->ssl_verify = c->redis_ssl_verify;
    s->server_name = copy(a, c->redis_server_name);
    s->sentinel_master = copy(a, c->redis_sentinel_master);
    s->sentinel_role = to_role(c->redis_sentinel_role);
    s->sentinel_username = settings_secret(a, c->redis_sentinel_username);
    s->sentinel_password = settings_secret(a, c->redis_sentinel_password);
    s->cluster_max_redirections = (unsigned)c->redis_cluster_max_redirections;
    rc = list_nodes(s->sentinels, &s->sentinel_count, a, &c->redis_sentinel_addresses, e);
    if (rc == 0)
        rc = list_nodes(s->cluster, &s->cluster_count, a, &c->redis_cluster_addresses, e);
    return rc;
}

static struct pg_settings pg_from_conf(struct arena *a, const struct conf *conf)
{
    const char *host = conf->pg_host;

    if (strncmp(host, "unix:", 5) == 0)
        host += 5;
    return (struct pg_settings){
        .host = host,
        .port = (unsigned)conf->pg_port,
        .user = conf->pg_user,
        .database = conf->pg_database,
        .password = settings_secret(a, conf->pg_password),
        .schema = conf->pg_schema,
        .ssl = conf->pg_ssl,
        .ssl_verify = conf->pg_ssl_verify,
        .ca_file = conf->lua_ssl_trusted_certificate,
        .timeout_ms = conf->pg_timeout_ms,
        /* what a crash of the server takes is the counts of its last half second */
        .synchronous_commit = false,
    };
}

struct pg_settings settings_pg(struct arena *a, struct str t, const struct conf *conf)
{
    struct pg_settings s = pg_from_conf(a, conf);

    if (get(t, "host")) { /* another server than weir.conf's */
        s.port = DEFAULT_PG_PORT;
        s.password = NULL;
        s.schema = NULL;
        s.ssl = s.ssl_verify = false;
    }
    take_text(&s.host, a, t, "host");
    s.port = (unsigned)number(t, "port", s.port);
    take_text(&s.user, a, t, "user");
    take_secret(&s.password, a, t, "password");
    take_text(&s.database, a, t, "database");
    take_text(&s.schema, a, t, "schema");
    s.ssl = is_true(t, "ssl", s.ssl);
    s.ssl_verify = is_true(t, "ssl_verify", s.ssl_verify);
    s.timeout_ms = bound_of(t, "timeout", s.timeout_ms);
    return s;
}

/* "[::1]" is ::1. */
static const char *bare(struct arena *a, const char *host)
{
    size_t n = host ? strlen(host) : 0;

    if (n < 3 || host[0] != '[' || host[n - 1] != ']')
        return host;
    return arena_str(a, (struct str){ host + 1, n - 2 }).p;
}

/* Cluster goes before Sentinel, and that before a single server. */
static int choose_target(struct redis_settings *s, struct err *e)
{
    if (s->cluster_count) {
        s->sentinel_master = NULL;
        s->server.host = NULL;
        s->database = 0; /* a Cluster has no other */
    } else if (s->sentinel_master) {
        s->server.host = NULL;
        if (s->sentinel_count == 0)
            return err_set(e, ERR_CONFIG,
                           "redis: sentinel_master %s needs the addresses of Sentinels",
                           s->sentinel_master);
    } else if (!s->server.host) {
        return err_set(e, ERR_CONFIG,
                       "no Redis is named, neither by the plugin's config.redis.host nor by "
                       "redis_host in weir.conf");
    }
    return 0;
}

int settings_redis(struct redis_settings *out, struct arena *a, struct str texts,
                   const struct conf *conf, struct err *e)
{
    bool names_one =
        get(texts, "host") || get(texts, "sentinel_master") || get(texts, "cluster_nodes");
    int rc = 0;

    *out = (struct redis_settings){ .ca_file = ca_file(conf) };
    if (names_one)
        set_defaults(out);
    else
        rc = from_conf(out, a, conf, e);
    if (rc == 0)
        rc = from_texts(out, a, texts, e);
    out->server.host = bare(a, out->server.host);
    return rc == 0 ? choose_target(out, e) : rc;
}

static bool names_redis(const struct conf *c)
{
    return *c->redis_host || *c->redis_sentinel_master || c->redis_cluster_addresses.n > 0;
}

int settings_check(const struct conf *conf, struct err *e)
{
    const char *authorities = ca_file(conf);
    struct redis_settings settings;
    struct arena arena;
    struct err why;
    int rc = 0;

    if (authorities && access(authorities, R_OK) == -1)
        return conf_refuse(conf, CONF_KEY_lua_ssl_trusted_certificate, e, "cannot read %s: %s",
                           authorities, strerror(errno));
    if (!names_redis(conf))
        return 0;
    arena_init(&arena, 512);
    if (settings_redis(&settings, &arena, STR(""), conf, &why) < 0)
        rc = err_set(e, ERR_CONFIG, "weir.conf: %s", why.text);
    arena_fini(&arena);
    return rc;
}
