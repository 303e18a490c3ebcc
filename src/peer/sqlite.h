/*
 * A connection to a SQLite database, for one thread that may block: opening,
 * statements, how long a lock of other processes is waited for, and what went
 * wrong in words that name the file.
 */
#ifndef WEIR_PEER_SQLITE_H
#define WEIR_PEER_SQLITE_H

#include "base/err.h"
#include "base/weir.h"
#include <sqlite3.h>
#include <sys/types.h>

/* Zero it, set path. */
struct sqlite {
    const char *path; /* borrowed */
    int64_t until_us; /* of clock_mono_us_exact: so long locks are waited for */
    const bool *stop; /* NULL, or set from elsewhere: locks are waited for no longer */

    sqlite3 *handle; /* NULL: closed */
    dev_t device;
    ino_t inode;
    int wal_pages, wal_settled; /* in the write-ahead log: now, and at the last checkpoint */
};

/*
 * Opens the database for reading and writing; a missing file is made only if create. It is left
 * to sqlite_checkpoint to empty the write-ahead log.
 */
int sqlite_open(struct sqlite *s, bool create, struct err *e) MUST_CHECK;

/* Statements must be finalized before. */
void sqlite_close(struct sqlite *s);

/* Whether the path still leads to the file that is open. */
bool sqlite_is_there(const struct sqlite *s);

/* What rc, which a call of SQLite on s has just returned, means; returns an err_code. */
int sqlite_fail(const struct sqlite *s, int rc, struct err *e);

/*
 * Whether its directory takes another quarter of a megabyte; else fails with words. For after a
 * failure for want of room: the log has a corner left for one small change all the time.
 */
int sqlite_find_room(const struct sqlite *s, struct err *e) MUST_CHECK;

/* Whether rc was for want of room. Right behind the call that returned it. */
bool sqlite_lacked_room(const struct sqlite *s, int rc);

/* Whether the connection is of use after such an rc: the disk is full, or others hold the lock. */
bool sqlite_may_stay(int rc);

/* Runs statements that give no rows; 0 or SQLite's code. */
int sqlite_exec(struct sqlite *s, const char *sql) MUST_CHECK;

/* The integer that a statement gives first; 0 or SQLite's code. */
int sqlite_integer(struct sqlite *s, const char *sql, int64_t *out) MUST_CHECK;

/* A statement for many uses; 0 or SQLite's code. */
int sqlite_prepare(struct sqlite *s, const char *sql, sqlite3_stmt **out) MUST_CHECK;

/* Writes the log back into the database when it has grown enough, as far as nobody reads it. */
void sqlite_checkpoint(struct sqlite *s);

#endif
