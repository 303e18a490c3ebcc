/*
 * The keys of weir.conf: ONE table, from which come struct conf, the parser,
 * the defaults, the environment's names and the documentation's check. The
 * members bear the keys' names; a time's member ends with _ms.
 */
#ifndef WEIR_CONF_KEYS_H
#define WEIR_CONF_KEYS_H

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"
#include <sys/queue.h>

/*
 * The kinds of value.
 *   TEXT   any text
 *   SECRET any text, which no message shows
 *   PATH   an absolute path, or a word such as off or stderr
 *   LIST   comma separated texts
 *   PATHS  comma separated absolute paths
 *   INT    a number
 *   COUNT  a number, or auto: one for each processor
 *   SIZE   bytes; suffix k, m, g
 *   TIME   suffix ms, s, m, h; a bare number is seconds
 *   MSEC   the same; a bare number is milliseconds, as in Kong
 *   BOOL   on, off
 *   OCTAL  permission bits
 *   LEVEL  a level of the log
 *   DENY   how an authorizer denies
 */
#define CONF_KINDS(X)                                                                              \
    X(TEXT)                                                                                        \
    X(SECRET)                                                                                      \
    X(PATH)                                                                                        \
    X(LIST) X(PATHS) X(INT) X(COUNT) X(SIZE) X(TIME) X(MSEC) X(BOOL) X(OCTAL) X(LEVEL) X(DENY)

/*
 * X(kind, name, default, least, most, reload, help); the bounds are in the
 * member's unit. reload 0: the key is read at a start only. In a value {prefix}
 * stands for the key prefix, {datadir} for weir's share directory, {sysconfdir}
 * for the directory of configuration that weir was built for, such as /etc, {localstatedir} for
 * that of data that stays, such as /var.
 */
/* clang-format off */
#define CONF_KEYS(X) \
    X(PATH, prefix, "/run/weir", 0, 0, 0, \
      "The directory of runtime files: the pid file and the default socket.") \
    X(PATH, pid_file, "{prefix}/weir.pid", 0, 0, 0, \
      "The file that holds the master's process id and is locked while it runs.") \
    X(TEXT, user, "www-data", 0, 0, 0, \
      "The identity of the workers when weir is started as root, as user or \"user group\"; empty keeps root.") \
    X(LIST, fastcgi_listen, "unix:{prefix}/weir.sock", 0, 0, 1, \
      "Where web servers reach weir: unix:/path, host:port or [v6]:port, several; stdin for a socket inherited on descriptor 0.") \
    X(OCTAL, fastcgi_socket_mode, "0660", 0, 0777, 1, \
      "The permission bits of unix sockets.") \
    X(TEXT, fastcgi_socket_owner, "", 0, 0, 1, \
      "The owner of unix sockets, as user or user:group; empty: the key user.") \
    X(INT, fastcgi_backlog, "4096", 1, 65535, 1, \
      "How many connections may wait to be accepted; at least 1024 is wise, a full backlog is an error page at once.") \
    X(COUNT, workers, "auto", 1, 256, 1, \
      "How many worker processes serve requests; auto: one for each processor.") \
    X(PATHS, plugin_dir, "{datadir}/plugins,{sysconfdir}/weir/plugins", 0, 0, 1, \
      "The directories that plugins are looked for in; the same name in two of them is an error.") \
    X(LIST, plugins, "all", 0, 0, 1, \
      "The plugins that may be used: all that are found, bundled (those that came with weir), names, or off.") \
    X(LIST, vaults, "all", 0, 0, 1, \
      "The vaults that references may name: all that are found, bundled (those that came with weir), names, or off.") \
    X(TEXT, lua_package_path, "", 0, 0, 1, \
      "Further patterns for Lua's require, in front of weir's own, separated by semicolons.") \
    X(PATH, declarative_config, "{sysconfdir}/weir/weir.yml", 0, 0, 1, \
      "The declarative configuration: services, routes and plugins; off for none.") \
    X(LEVEL, log_level, "notice", 0, 0, 1, \
      "The least level that is logged: emerg, alert, crit, error, warn, notice, info or debug.") \
    X(PATH, error_log, "stderr", 0, 0, 1, \
      "Where weir logs: a file, or stderr.") \
    X(PATH, access_log, "off", 0, 0, 1, \
      "A file that gets a line for each request, or off.") \
    X(SIZE, counter_memory, "32m", 1 << 18, INT64_C(1) << 40, 0, \
      "The memory of the counter table that all workers share, reserved at the start.") \
    X(PATH, counter_file, "", 0, 0, 0, \
      "A file to keep the counters in, so that they outlive a restart; empty: shared memory, kept over reload, upgrade and crash.") \
    X(LIST, trusted_ips, "", 0, 0, 1, \
      "Addresses and CIDR blocks of proxies whose X-Forwarded-* and real-IP headers are believed.") \
    X(TEXT, real_ip_header, "X-Real-IP", 0, 0, 1, \
      "The header that a trusted proxy names the client in.") \
    X(BOOL, real_ip_recursive, "off", 0, 0, 1, \
      "Whether the client is the last address of the header that is not trusted, not the last one.") \
    X(LIST, headers, "server_tokens,latency_tokens,X-Kong-Request-Id", 0, 0, 1, \
      "The headers that weir adds to responses of its own accord, or off.") \
    X(BOOL, error_request_id, "off", 0, 0, 1, \
      "Whether the bodies of weir's own error responses hold the request id.") \
    X(DENY, deny_style, "status", 0, 0, 1, \
      "How an authorizer's denial is told to the web server: status, nginx or variable; the FastCGI parameter WEIR_DENY_STYLE goes before it.") \
    X(SIZE, fastcgi_max_params_bytes, "64k", 1024, 16 << 20, 1, \
      "The size of all FastCGI parameters of a request; more is answered 431.") \
    X(INT, max_header_count, "100", 1, 10000, 1, \
      "The number of headers of a request; more are answered 431.") \
    X(SIZE, max_header_bytes, "32k", 256, 16 << 20, 1, \
      "The size of all header names and values of a request; more is answered 431.") \
    X(SIZE, client_max_body_size, "0", 0, INT64_C(1) << 50, 1, \
      "The size of a request's body; more is answered 413; 0 sets no bound.") \
    X(SIZE, client_body_buffer_size, "1m", 4096, 1 << 30, 1, \
      "How much of a body a plugin can read whole, and how much may wait for a slow upstream, for each request.") \
    X(INT, max_requests, "16384", 1, 1000000, 1, \
      "Requests at once, for each worker; further ones are answered 503.") \
    X(INT, max_connections, "20480", 1, 1000000, 1, \
      "FastCGI connections at once, for each worker; further ones are closed at once.") \
    X(TIME, request_timeout, "60s", 1, 86400000, 1, \
      "The time between two pieces of a request's parameters or body; a longer pause is answered 408.") \
    X(TIME, idle_timeout, "0", 0, 86400000, 1, \
      "How long a kept FastCGI connection without a request stays open, and one whose answer the web server does not read on; 0 sets no bound.") \
    X(INT, upstream_keepalive_pool_size, "512", 0, 100000, 1, \
      "Idle upstream connections that a worker keeps for each host and port; 0 keeps none.") \
    X(TIME, upstream_keepalive_idle_timeout, "60s", 0, 86400000, 1, \
      "How long an idle upstream connection is kept; 0 sets no bound.") \
    X(INT, upstream_keepalive_max_requests, "10000", 0, 1000000000, 1, \
      "Requests that one upstream connection may carry; 0 sets no bound.") \
    X(SIZE, upstream_max_head_bytes, "64k", 1024, 16 << 20, 1, \
      "The size of an upstream's response head; more is answered 502.") \
    X(TIME, drain_timeout, "30s", 0, 86400000, 1, \
      "How long requests in flight may take to end at a graceful stop or a reload.") \
    X(TIME, heartbeat_timeout, "10s", 100, 86400000, 1, \
      "A worker whose loop stands still that long is killed and started again.") \
    X(TEXT, database, "sqlite", 0, 0, 1, \
      "Where the policy cluster counts: sqlite (a file of this machine), postgres, or off.") \
    X(PATH, sqlite_file, "{localstatedir}/lib/weir/weir.db", 0, 0, 1, \
      "The SQLite database; weir migrations up makes it.") \
    X(TEXT, pg_host, "127.0.0.1", 0, 0, 1, \
      "The PostgreSQL server: a name, an address, or the directory of its unix socket.") \
    X(INT, pg_port, "5432", 1, 65535, 1, \
      "The port of the PostgreSQL server.") \
    X(TEXT, pg_user, "weir", 0, 0, 1, \
      "The user of the PostgreSQL database.") \
    X(SECRET, pg_password, "", 0, 0, 1, \
      "The password of that user; empty sends none.") \
    X(TEXT, pg_database, "weir", 0, 0, 1, \
      "The name of the PostgreSQL database.") \
    X(TEXT, pg_schema, "", 0, 0, 1, \
      "The schema of weir's tables; empty: the first of the user's search path.") \
    X(BOOL, pg_ssl, "off", 0, 0, 1, \
      "Whether PostgreSQL is spoken to by TLS.") \
    X(BOOL, pg_ssl_verify, "off", 0, 0, 1, \
      "Whether the certificate of the PostgreSQL server is verified.") \
    X(MSEC, pg_timeout, "5000", 1, 86400000, 1, \
      "How long PostgreSQL may take to connect, and to answer.") \
    X(TEXT, redis_host, "", 0, 0, 1, \
      "The Redis of plugins that name none of their own: a name, an address, or unix:/path.") \
    X(INT, redis_port, "6379", 1, 65535, 1, \
      "The port of that Redis.") \
    X(TEXT, redis_username, "", 0, 0, 1, \
      "The user of Redis; empty: the default user.") \
    X(SECRET, redis_password, "", 0, 0, 1, \
      "The password of that user; empty sends none.") \
    X(INT, redis_database, "0", 0, 65535, 1, \
      "The number of the Redis database.") \
    X(MSEC, redis_timeout, "2000", 1, 86400000, 1, \
      "How long Redis may take, for each of the three times below that is not set.") \
    X(MSEC, redis_connect_timeout, "0", 0, 86400000, 1, \
      "How long a connection to Redis may take; 0: redis_timeout.") \
    X(MSEC, redis_send_timeout, "0", 0, 86400000, 1, \
      "How long a command may take to leave; 0: redis_timeout.") \
    X(MSEC, redis_read_timeout, "0", 0, 86400000, 1, \
      "How long a reply may take; 0: redis_timeout.") \
    X(BOOL, redis_ssl, "off", 0, 0, 1, \
      "Whether Redis is spoken to by TLS.") \
    X(BOOL, redis_ssl_verify, "off", 0, 0, 1, \
      "Whether the certificate of the Redis server is verified.") \
    X(TEXT, redis_server_name, "", 0, 0, 1, \
      "The name that is asked for and verified in TLS; empty: the host.") \
    X(TEXT, redis_sentinel_master, "", 0, 0, 1, \
      "The name of the master that Sentinel is asked for; empty: no Sentinel.") \
    X(TEXT, redis_sentinel_role, "master", 0, 0, 1, \
      "Which server is read from: master, slave or any.") \
    X(LIST, redis_sentinel_addresses, "", 0, 0, 1, \
      "The Sentinels, as host:port.") \
    X(TEXT, redis_sentinel_username, "", 0, 0, 1, \
      "The user of the Sentinels.") \
    X(SECRET, redis_sentinel_password, "", 0, 0, 1, \
      "The password of that user.") \
    X(LIST, redis_cluster_addresses, "", 0, 0, 1, \
      "Some nodes of a Redis Cluster, as host:port; empty: no Cluster.") \
    X(INT, redis_cluster_max_redirections, "5", 1, 100, 1, \
      "How often one command may be sent on in a Cluster.") \
    X(PATH, lua_ssl_trusted_certificate, "system", 0, 0, 1, \
      "The PEM file of the authorities that servers are verified by; system: the system's own.")
/* clang-format on */

struct snapshot;

enum conf_kind {
#define X(kind) CONF_##kind,
    CONF_KINDS(X)
#undef X
};

enum conf_deny_style { DENY_STATUS, DENY_NGINX, DENY_VARIABLE };

struct conf_list {
    size_t n;
    const char **items; /* each ends with NUL and is not empty */
};

enum conf_key_index {
#define X(kind, name, ...) CONF_KEY_##name,
    CONF_KEYS(X)
#undef X
        CONF_KEY_COUNT
};

#define CONF_MEMBER_TEXT(name) const char *name;
#define CONF_MEMBER_SECRET(name) const char *name;
#define CONF_MEMBER_PATH(name) const char *name;
#define CONF_MEMBER_LIST(name) struct conf_list name;
#define CONF_MEMBER_PATHS(name) struct conf_list name;
#define CONF_MEMBER_INT(name) int64_t name;
#define CONF_MEMBER_COUNT(name) int64_t name;
#define CONF_MEMBER_SIZE(name) int64_t name;
#define CONF_MEMBER_TIME(name) int64_t name##_ms;
#define CONF_MEMBER_MSEC(name) int64_t name##_ms;
#define CONF_MEMBER_BOOL(name) bool name;
#define CONF_MEMBER_OCTAL(name) int64_t name;
#define CONF_MEMBER_LEVEL(name) enum log_level name;
#define CONF_MEMBER_DENY(name) enum conf_deny_style name;

/* One key's value as it was written, and where. */
struct conf_value {
    const char *text; /* {prefix} and the like are filled in; what may be shown, but for secrets */
    const char
        *origin; /* "/etc/weir/weir.conf:12", "WEIR_USER", "command line"; NULL: the default */
    /* The text with what its references stand for; NULL: it holds none, or is of kind SECRET. */
    const char *resolved;
};

/* What a reference in a value stood for when the configuration was loaded. */
struct conf_reference {
    STAILQ_ENTRY(conf_reference) link;
    int key;          /* index in CONF_TABLE */
    bool is_list;     /* what it stands for may be several items */
    struct str text;  /* "{vault://...}" */
    struct str value; /* no message shows it; p is NULL when there is none */
    const char *why;  /* there is none */
};

/* The config of a kind of vault, from a key vault_<type>_<field>: there may be any of those. */
struct conf_setting {
    STAILQ_ENTRY(conf_setting) link;
    const char *name;        /* "<type>_<field>" */
    struct conf_value value; /* may be a secret: no message shows it */
};

/* All of it is read-only once conf_load has returned it. */
struct conf {
#define X(kind, name, ...) CONF_MEMBER_##kind(name)
    CONF_KEYS(X)
#undef X
    const char *path; /* of weir.conf; NULL when there is no file */

    struct str declarative;       /* the text of declarative_config; n 0 when there is none */
    const char *declarative_path; /* NULL when it is off */
    struct snapshot *snapshot;    /* what else a generation is made of; NULL: files are read */
    bool declarative_missing;     /* the default file does not exist: worth a warning */
    bool lenient;                 /* made by conf_load_lenient */

    const char *kept_key; /* of a reload: a change of this key waits for a restart */

    struct conf_value values[CONF_KEY_COUNT];
    STAILQ_HEAD(conf_settings, conf_setting) vault_settings;
    STAILQ_HEAD(conf_references, conf_reference) references; /* but for those of kind SECRET */
    struct arena arena; /* wiped at the end: there may be secrets in it */
};

struct conf_key {
    const char *name;
    const char *default_text;
    const char *help;
    int64_t least, most;
    size_t offset; /* of the member in struct conf */
    enum conf_kind kind;
    bool reload;
};

extern const struct conf_key CONF_TABLE[CONF_KEY_COUNT];

/* The index in CONF_TABLE; -1 when there is no such key. */
int conf_key_find(struct str name) MUST_CHECK;

/* The key whose name is so close that it is likely meant; NULL when none is. */
const char *conf_key_suggest(struct str name);

/* Sets the key's member from text, which must live as long as c. The message has no origin in it.
 */
int conf_key_convert(struct conf *c, int index, const char *text, struct err *e) MUST_CHECK;

/*
 * Writes "where: key: message" for a value that a later check refuses. What references stand for
 * is not shown: they stand in the message in its place.
 */
int conf_refuse(const struct conf *c, enum conf_key_index key, struct err *e, const char *fmt, ...)
    PRINTF(4, 5);

#endif
