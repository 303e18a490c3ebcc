/*
 * Which Redis, and how: one server, a master found by Sentinel, or a Cluster.
 * Made by whoever opens it; texts and secrets live as long as the client does.
 */
#ifndef WEIR_PEER_REDIS_SETTINGS_H
#define WEIR_PEER_REDIS_SETTINGS_H

#include "base/weir.h"

#define REDIS_NODES_MAX 64

struct secret;

struct redis_node {
    const char *host; /* a name, an address, or unix:/path */
    unsigned port;
};

enum redis_role { REDIS_ROLE_MASTER, REDIS_ROLE_SLAVE, REDIS_ROLE_ANY };

struct redis_settings {
    struct redis_node server; /* host NULL: Sentinel or Cluster */
    struct secret *username;  /* NULL: the default user */
    struct secret *password;  /* NULL: no AUTH is sent */
    unsigned database;        /* SELECT is sent unless it is 0; Cluster has 0 only */
    int64_t connect_ms, send_ms, read_ms;
    bool ssl, ssl_verify;
    const char *server_name; /* for SNI and verification; NULL: the host */
    const char *ca_file;     /* PEM; NULL: the system's */

    bool is_proxied; /* behind the address may stand many servers */

    const char *sentinel_master; /* not NULL: Sentinel */
    enum redis_role
        sentinel_role; /* where reads go; what changes counts always goes to the master */
    struct secret *sentinel_username, *sentinel_password; /* as those above */
    struct redis_node sentinels[REDIS_NODES_MAX];
    unsigned sentinel_count;

    struct redis_node cluster[REDIS_NODES_MAX];
    unsigned cluster_count; /* not 0: Cluster */
    unsigned cluster_max_redirections;
};

#endif
