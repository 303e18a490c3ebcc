/*
 * See pg.h: what weir.conf says of PostgreSQL.
 */
#include "conf/keys.h"
#include "store/pg.h"
#include "store/settings.h"
#include <string.h>

struct pg_settings store_pg_settings(const struct conf *conf, struct arena *a)
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
