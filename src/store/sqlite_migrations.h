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
 * Before the migrations, as root: makes the file and, if it is missing, its directory, and gives
 * them to the user that workers run as, as it does with one of root's in which there is nothing
 * else; directories above are root's. As root the migrations work
 * as the owner of the file, so that the workers may write it and what SQLite puts beside it.
 */
int sqlite_make_place(const char *path, uid_t uid, gid_t gid, struct err *e) MUST_CHECK;

/* Whether the open database is weir's, and has the tables that this program needs. */
int sqlite_check_tables(struct sqlite *s, struct err *e) MUST_CHECK;

#endif
