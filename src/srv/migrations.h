/*
 * `weir migrations`: makes and upgrades the tables of the database that
 * weir.conf names, and says which there are.
 */
#ifndef WEIR_SRV_MIGRATIONS_H
#define WEIR_SRV_MIGRATIONS_H

#include "base/err.h"
#include "base/weir.h"

struct conf;

/*
 * argv: "migrations", then "up", with --unlogged or without, or "list". The exit status, or
 * negative with e set.
 */
int migrations_command(const struct conf *conf, int argc, char **argv, struct err *e) MUST_CHECK;

#endif
