/*
 * The tables of the SQLite store; see migrations.h, whose MIGRATIONS_SQLITE
 * stands here too.
 */
#ifndef WEIR_STORE_SQLITE_MIGRATIONS_H
#define WEIR_STORE_SQLITE_MIGRATIONS_H

#include "base/err.h"
#include "base/weir.h"
#include <sys/types.h>

struct sqlite;

/*
 * Before the migrations, as root: makes the file's directory, if it is missing, and gives it to
 * the user that workers run as; those above it are root's. As root the migrations work as the
 * owner of that directory, so that the workers may write the file and what SQLite puts beside it.
 */
int sqlite_make_place(const char *path, uid_t uid, gid_t gid, struct err *e) MUST_CHECK;

/* Whether the open database is weir's, and has the tables that this program needs. */
int sqlite_check_tables(struct sqlite *s, struct err *e) MUST_CHECK;

#endif
