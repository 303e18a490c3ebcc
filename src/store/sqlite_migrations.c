/*
 * See sqlite_migrations.h. The version is the file's user_version; its
 * application_id says that it is weir's. Both change in the transaction of the
 * step. Refuses databases of others.
 */
#include "store/sqlite_migrations.h"
#include "base/clock.h"
#include "conf/keys.h"
#include "peer/sqlite.h"
#include "store/migrations.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x77656972 /* "weir" */
#define PATIENCE_MS 10000         /* with others that hold the lock */
#define PAUSE_US 5000

static const struct migration STEPS[] = {
    /*
     * A row for each window of an identity, and for each node that shares its own counts; node is
     * empty for what is counted here. identity comes first, so that all windows of one lie
     * together. A row is of no worth after end_ms.
     */
    { "counters", "CREATE TABLE counters ("
                  " identity BLOB NOT NULL, what INTEGER NOT NULL, sliding INTEGER NOT NULL,"
                  " start_ms INTEGER NOT NULL, node TEXT NOT NULL,"
                  " count INTEGER NOT NULL, end_ms INTEGER NOT NULL,"
                  " PRIMARY KEY (identity, what, sliding, start_ms, node)) WITHOUT ROWID" },
};

/* 0 for an empty database. */
static int get_version(struct sqlite *s, unsigned *version, struct err *e)
{
    int64_t application, number, tables;
    int rc = sqlite_integer(s, "PRAGMA application_id", &application);

    if (rc == SQLITE_OK)
        rc = sqlite_integer(s, "PRAGMA user_version", &number);
    if (rc == SQLITE_OK)
        rc = sqlite_integer(s, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return sqlite_fail(s, rc, e);
    if (application != APPLICATION_ID && (application || number || tables))
        return err_set(e, ERR_CONFIG,
                       "sqlite %s: is a database of something else than weir; name another file",
                       s->path);
    *version = (unsigned)number;
    return 0;
}

int sqlite_check_tables(struct sqlite *s, struct err *e)
{
    struct err reason;
    unsigned number;
    int rc = get_version(s, &number, e);

    if (rc == 0 && (rc = migrations_judge(&MIGRATIONS_SQLITE, number, &reason)) != 0)
        err_set(e, rc, "sqlite %s: %s", s->path, reason.text);
    return rc;
}

/* ---- the steps */

static int run_step(struct sqlite *s, unsigned number)
{
    char sql[100];
    int rc = sqlite_exec(s, STEPS[number - 1].sql);

    if (rc != SQLITE_OK)
        return rc;
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%u", APPLICATION_ID,
             number);
    return sqlite_exec(s, sql);
}

/* 1: a step was done, which *number says; 0: there is none left. */
static int next_step(struct sqlite *s, unsigned *number, struct err *e)
{
    unsigned version;
    int rc = sqlite_exec(s, "BEGIN IMMEDIATE"), code;

    if (rc != SQLITE_OK)
        return sqlite_fail(s, rc, e);
    code = get_version(s, &version, e);
    if (code == 0 && version < ARRAY_LEN(STEPS)) {
        *number = version + 1;
        code = 1;
        rc = run_step(s, *number);
    }
    if (rc == SQLITE_OK && code >= 0)
        rc = sqlite_exec(s, "COMMIT");
    if (rc != SQLITE_OK)
        code = sqlite_fail(s, rc, e);
    return code; /* if it failed, the transaction ends when s is closed */
}

static int do_steps(struct sqlite *s, void (*on_step)(unsigned, const struct migration *),
                    struct err *e)
{
    unsigned number;
    int rc;

    while ((rc = next_step(s, &number, e)) == 1)
        if (on_step)
            on_step(number, &STEPS[number - 1]);
    return rc;
}

/*
 * Small pages: the rows of a batch lie all over the table, and each page that one of them changes
 * goes to the log whole.
 */
static int prepare(struct sqlite *s, struct err *e)
{
    int rc = sqlite_exec(s, "PRAGMA page_size=1024; PRAGMA journal_mode=WAL");

    return rc == SQLITE_OK ? 0 : sqlite_fail(s, rc, e);
}

/* SQLite does not wait for each lock of a database that becomes a WAL one: so ask again. */
static int do_all(struct sqlite *s, void (*on_step)(unsigned, const struct migration *),
                  struct err *e)
{
    for (;;) {
        int rc = sqlite_open(s, true, e);

        if (rc == 0)
            rc = prepare(s, e);
        if (rc == 0)
            rc = do_steps(s, on_step, e);
        sqlite_close(s);
        if (rc != ERR_TIMEOUT || clock_mono_us_exact() >= s->until_us)
            return rc;
        usleep(PAUSE_US);
    }
}

/* ---- whose the file is */

/* The directory's name; false when the path has none. */
static bool dir_of(const char *path, char dir[PATH_MAX])
{
    const char *end = strrchr(path, '/');

    if (!end || end == path || end - path >= PATH_MAX)
        return false;
    memcpy(dir, path, (size_t)(end - path));
    dir[end - path] = '\0';
    return true;
}

static int make_dir(const char *path, mode_t mode, struct err *e)
{
    if (mkdir(path, mode) == -1)
        return errno == EEXIST ? 0 : err_set_errno(e, "sqlite: cannot make the directory %s", path);
    if (chmod(path, mode) == -1) /* whatever the umask */
        return err_set_errno(e, "sqlite: cannot open the directory %s", path);
    return 0;
}

static int make_dirs(char *dir, uid_t uid, gid_t gid, struct err *e)
{
    int rc = 0;

    for (char *p = strchr(dir + 1, '/'); p && rc == 0; p = strchr(p + 1, '/')) {
        *p = '\0';
        rc = make_dir(dir, 0755, e);
        *p = '/';
    }
    if (rc == 0)
        rc = make_dir(dir, 0750, e);
    if (rc == 0 && geteuid() == 0 && chown(dir, uid, gid) == -1)
        rc = err_set_errno(e, "sqlite: cannot give the directory %s to its user", dir);
    return rc;
}

/* Whether the directory holds nothing but what begins with the file's name. */
static bool holds_only(int fd, const char *name)
{
    DIR *dir = fdopendir(dup(fd));
    struct dirent *entry;
    bool only = dir != NULL;

    while (only && (entry = readdir(dir)) != NULL)
        only = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
               strncmp(entry->d_name, name, strlen(name)) == 0;
    if (dir)
        closedir(dir);
    return only;
}

/* systemd makes the directory that weir.service names, and makes it root's. */
static int take_dir(const char *dir, const char *name, uid_t uid, gid_t gid, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    int rc = 0;

    if (fd == -1)
        return 0;
    if (geteuid() == 0 && fstat(fd, &st) == 0 && st.st_uid == 0 && holds_only(fd, name) &&
        fchown(fd, uid, gid) == -1)
        rc = err_set_errno(e, "sqlite: cannot give the directory %s to its user", dir);
    close(fd);
    return rc;
}

/* An empty file is an empty database. */
static int make_file(const char *path, uid_t uid, gid_t gid, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    int rc = 0;

    if (fd == -1)
        return errno == EEXIST ? 0 : err_set_errno(e, "sqlite: cannot make %s", path);
    if (geteuid() == 0 && fchown(fd, uid, gid) == -1)
        rc = err_set_errno(e, "sqlite: cannot give %s to its user", path);
    close(fd);
    return rc;
}

int sqlite_make_place(const char *path, uid_t uid, gid_t gid, struct err *e)
{
    char dir[PATH_MAX];
    int rc = 0;

    if (dir_of(path, dir)) {
        const char *name = path + strlen(dir) + 1;

        rc = access(dir, F_OK) == -1 ? make_dirs(dir, uid, gid, e)
                                     : take_dir(dir, name, uid, gid, e);
    }
    return rc == 0 ? make_file(path, uid, gid, e) : rc;
}

static int become_owner(const char *path, struct err *e)
{
    struct stat st;

    if (geteuid() != 0)
        return 0;
    if (lstat(path, &st) == -1)
        return err_set_errno(e, "sqlite: cannot examine %s", path);
    if (setegid(st.st_gid) == -1 || seteuid(st.st_uid) == -1)
        return err_set_errno(e, "sqlite: cannot become the owner of %s", path);
    return 0;
}

static int up(const struct conf *conf, bool unlogged,
              void (*on_step)(unsigned, const struct migration *), struct err *e)
{
    struct sqlite s = { .path = conf->sqlite_file };
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    mode_t mask = umask(0027);
    int rc;

    s.until_us = clock_mono_us_exact() + PATIENCE_MS * 1000;
    rc = unlogged ? err_set(e, ERR_CONFIG, "SQLite has no unlogged tables") : 0;
    if (rc == 0)
        rc = sqlite_make_place(s.path, uid, gid, e);
    if (rc == 0)
        rc = become_owner(s.path, e);
    if (rc == 0)
        rc = do_all(&s, on_step, e);
    must(seteuid(uid) == 0 && setegid(gid) == 0);
    umask(mask);
    return rc;
}

static int version(const struct conf *conf, unsigned *number, struct err *e)
{
    struct sqlite s = { .path = conf->sqlite_file };
    int rc;

    *number = 0;
    if (access(s.path, F_OK) == -1 && errno == ENOENT)
        return 0;
    s.until_us = clock_mono_us_exact() + PATIENCE_MS * 1000;
    rc = sqlite_open(&s, false, e);
    if (rc == 0)
        rc = get_version(&s, number, e);
    sqlite_close(&s);
    return rc;
}

const struct migrations MIGRATIONS_SQLITE = { STEPS, ARRAY_LEN(STEPS), version, up };
