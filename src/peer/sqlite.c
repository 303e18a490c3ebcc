/*
 * See sqlite.h. A lock that another process holds is asked for again and again,
 * with short pauses: SQLite's own handler sleeps up to 100 ms between two
 * looks, which is long beside a transaction of one.
 */
#define _GNU_SOURCE /* O_TMPFILE */
#include "peer/sqlite.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAUSE_MIN_US 50
#define PAUSE_MAX_US 2000
#define CACHE_KIB 8192
#define CHECKPOINT_PAGES 8192
#define WAL_KEPT_BYTES (64 << 20) /* of the log's file, after it grew for once */
#define ROOM_BYTES (256 << 10)
#define MIGRATE "run: weir migrations up"

static int on_busy(void *arg, int tries)
{
    const struct sqlite *s = arg;
    int64_t pause_us = (int64_t)PAUSE_MIN_US << (tries / 8 < 6 ? tries / 8 : 6);

    if (s->stop && __atomic_load_n(s->stop, __ATOMIC_ACQUIRE))
        return 0;
    if (clock_mono_us_exact() >= s->until_us)
        return 0;
    usleep((useconds_t)(pause_us < PAUSE_MAX_US ? pause_us : PAUSE_MAX_US));
    return 1;
}

static int on_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
    struct sqlite *s = arg;

    (void)handle;
    (void)name;
    s->wal_pages = pages;
    if (pages < s->wal_settled) /* it was begun anew */
        s->wal_settled = 0;
    return SQLITE_OK;
}

static bool is_no_room(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* SQLite does not keep it for each failure: what errno still says will do where it fits. */
static int errno_of(const struct sqlite *s)
{
    int error = errno, kept = s->handle ? sqlite3_system_errno(s->handle) : ENOENT;

    return kept == 0 && is_no_room(error) ? error : kept;
}

static int fail_errno(const struct sqlite *s, int error, struct err *e)
{
    if (error == ENOENT)
        return err_set(e, ERR_SYSTEM, "sqlite %s: there is no such file; " MIGRATE, s->path);
    if (is_no_room(error))
        return err_set(e, ERR_SYSTEM, "sqlite %s: no room for it or its -wal and -shm files: %s",
                       s->path, strerror(error));
    return err_set(e, ERR_SYSTEM, "sqlite %s: cannot use it and its -wal and -shm files: %s",
                   s->path, error ? strerror(error) : sqlite3_errmsg(s->handle));
}

int sqlite_fail(const struct sqlite *s, int rc, struct err *e)
{
    /* Beside a new file lay the log of an old one; two processes removed it, and this came last. */
    if (rc == SQLITE_IOERR_DELETE_NOENT)
        rc = SQLITE_BUSY;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_PROTOCOL:
        if (s->stop && __atomic_load_n(s->stop, __ATOMIC_ACQUIRE))
            return err_set(e, ERR_CANCELLED, "sqlite %s: given up", s->path);
        return err_set(e, ERR_TIMEOUT, "sqlite %s: another process keeps it locked", s->path);
    case SQLITE_FULL:
        return fail_errno(s, ENOSPC, e);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return fail_errno(s, errno_of(s), e);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return err_set(e, ERR_SYSTEM,
                       "sqlite %s: the user of this process may not write it, or its -wal and "
                       "-shm files",
                       s->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(e, ERR_SYNTAX, "sqlite %s: %s; put it away and " MIGRATE, s->path,
                       sqlite3_errstr(rc & 0xff));
    case SQLITE_ERROR:
    case SQLITE_SCHEMA:
        return err_set(e, ERR_CONFIG, "sqlite %s: %s; " MIGRATE, s->path,
                       sqlite3_errmsg(s->handle));
    default:
        return err_set(e, ERR_SYSTEM, "sqlite %s: %s", s->path,
                       s->handle ? sqlite3_errmsg(s->handle) : sqlite3_errstr(rc));
    }
}

bool sqlite_lacked_room(const struct sqlite *s, int rc)
{
    int kind = rc & 0xff;

    return kind == SQLITE_FULL ||
           ((kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN) && is_no_room(errno_of(s)));
}

int sqlite_find_room(const struct sqlite *s, struct err *e)
{
    const char *end = strrchr(s->path, '/');
    char dir[PATH_MAX];
    int fd, error;

    snprintf(dir, sizeof dir, "%.*s", end ? (int)(end - s->path) + 1 : 2, end ? s->path : "./");
    fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd == -1)
        return is_no_room(errno) ? fail_errno(s, errno, e) : 0; /* not every file system can */
    error = posix_fallocate(fd, 0, ROOM_BYTES);
    close(fd);
    return is_no_room(error) ? fail_errno(s, error, e) : 0;
}

bool sqlite_may_stay(int rc)
{
    return rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_FULL;
}

/* What a power failure takes is the last moments' counts: not worth an fsync for each commit. */
static int set_up(struct sqlite *s, struct err *e)
{
    char sql[200];
    int rc;

    sqlite3_extended_result_codes(s->handle, 1);
    sqlite3_busy_handler(s->handle, on_busy, s);
    if (sqlite3_db_readonly(s->handle, "main") == 1)
        return sqlite_fail(s, SQLITE_READONLY, e);
    sqlite3_snprintf(sizeof sql, sql,
                     "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-%d;"
                     "PRAGMA journal_size_limit=%d; PRAGMA trusted_schema=OFF",
                     CACHE_KIB, WAL_KEPT_BYTES);
    rc = sqlite_exec(s, sql);
    if (rc != SQLITE_OK)
        return sqlite_fail(s, rc, e);
    sqlite3_wal_hook(s->handle, on_commit, s); /* in the place of SQLite's checkpoints */
    return 0;
}

static int remember_file(struct sqlite *s, struct err *e)
{
    struct stat st;

    if (stat(s->path, &st) == -1)
        return fail_errno(s, errno, e);
    s->device = st.st_dev;
    s->inode = st.st_ino;
    return 0;
}

int sqlite_open(struct sqlite *s, bool create, struct err *e)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc;

    s->wal_pages = s->wal_settled = 0;
    if (!create && access(s->path, F_OK) == -1)
        return fail_errno(s, errno, e);
    rc = sqlite3_open_v2(s->path, &s->handle, flags, NULL);
    rc = rc == SQLITE_OK ? remember_file(s, e) : sqlite_fail(s, rc, e);
    if (rc == 0)
        rc = set_up(s, e);
    if (rc != 0)
        sqlite_close(s);
    return rc;
}

void sqlite_close(struct sqlite *s)
{
    if (s->handle)
        must(sqlite3_close(s->handle) == SQLITE_OK);
    s->handle = NULL;
}

bool sqlite_is_there(const struct sqlite *s)
{
    struct stat st;

    return stat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode;
}

int sqlite_exec(struct sqlite *s, const char *sql)
{
    return sqlite3_exec(s->handle, sql, NULL, NULL, NULL);
}

int sqlite_integer(struct sqlite *s, const char *sql, int64_t *out)
{
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(s->handle, sql, -1, &stmt, NULL);

    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(stmt);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    rc = sqlite3_finalize(stmt);
    return rc;
}

int sqlite_prepare(struct sqlite *s, const char *sql, sqlite3_stmt **out)
{
    return sqlite3_prepare_v3(s->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
}

void sqlite_checkpoint(struct sqlite *s)
{
    if (s->wal_pages - s->wal_settled < CHECKPOINT_PAGES)
        return;
    s->wal_settled = s->wal_pages;
    /* what fails here fails again, and is told of, at a commit */
    (void)sqlite3_wal_checkpoint_v2(s->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}
