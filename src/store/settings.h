/*
 * From texts, a plugin's or those of weir.conf, to the settings of a Redis or a PostgreSQL.
 */
#ifndef WEIR_STORE_SETTINGS_H
#define WEIR_STORE_SETTINGS_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "peer/redis_settings.h"

struct conf;
struct pg_settings;
struct secret;

/* What a text stands for, a value or a reference to one, until the arena ends; NULL: it is empty.
 */
struct secret *settings_secret(struct arena *a, const char *text);

/*
 * texts: "name=value", each with a NUL behind it, in the names of a plugin's config.redis; lists
 * are "host:port,host:port". Where they name no server, it is weir.conf's, and what else they hold
 * goes before its keys. Where they name one, weir.conf says nothing of it: what it knows (a
 * password above all) never goes to a server that a plugin names. The texts of out lie in the
 * arena, and its secrets are released with it.
 */
int settings_redis(struct redis_settings *out, struct arena *a, struct str texts,
                   const struct conf *conf, struct err *e) MUST_CHECK;

/*
 * The same for PostgreSQL, in the names of weir.conf's pg_* without pg_; "" is weir.conf's own.
 * What is missing lies in conf.
 */
struct pg_settings settings_pg(struct arena *a, struct str texts, const struct conf *conf);

/* Whether weir.conf's own Redis, if it names one, and the authorities of TLS are good. */
int settings_check(const struct conf *conf, struct err *e) MUST_CHECK;

#endif
