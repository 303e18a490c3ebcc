/*
 * See sqlite_tally.h. The clock is read when the transaction holds the lock: no
 * other process counts by a later one before this batch. Rows whose worth has
 * ended go a few at a time, more of them the more rows are new, so that the
 * table stays about as large as what it counts.
 */
#include "store/sqlite_tally.h"
#include "base/calendar.h"
#include "base/clock.h"
#include "base/mem.h"
#include "peer/sqlite.h"
#include "store/sqlite_migrations.h"
#include <stdlib.h>
#include <string.h>

#define SWEEP_PER_NEW 4 /* rows looked at for each that is new */
#define SWEEP_MAX 4096

enum statement {
    BEGIN_TO_READ,
    BEGIN_TO_WRITE,
    COMMIT,
    ROLLBACK,
    GET,
    ADD,
    PUT,
    SWEEP_TO,
    SWEEP,
    STATEMENTS,
};

#define KEY "identity=?1 AND what=?2 AND sliding=?3 AND start_ms=?4"
#define INSERT                                                                                     \
    "INSERT INTO counters(identity,what,sliding,start_ms,node,count,end_ms)"                       \
    " VALUES(?1,?2,?3,?4,?5,?6,?7) ON CONFLICT DO UPDATE SET count="

static const char *const SQL[STATEMENTS] = {
    [BEGIN_TO_READ] = "BEGIN",
    [BEGIN_TO_WRITE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [GET] = "SELECT sum(count) FROM counters WHERE " KEY " AND node IS NOT ?5",
    [ADD] = INSERT "count+excluded.count",
    [PUT] = INSERT "excluded.count",
    [SWEEP_TO] = "SELECT identity FROM counters WHERE identity>?1 ORDER BY identity"
                 " LIMIT 1 OFFSET ?2",
    [SWEEP] = "DELETE FROM counters WHERE identity>?1 AND (?2 IS NULL OR identity<=?2)"
              " AND end_ms<=?3",
};

struct tally {
    struct sqlite db;
    char *path;
    sqlite3_stmt *statements[STATEMENTS];
    bool lacked_room; /* at the last batch that wrote */
    unsigned fresh;   /* rows that this batch makes */
    char swept_to[STORE_IDENTITY_MAX];
    size_t swept_to_n;
};

struct tally *tally_new(const char *path)
{
    struct tally *t = xcalloc(1, sizeof *t);

    t->path = xstrdup(path);
    t->db.path = t->path;
    return t;
}

static void close_db(struct tally *t)
{
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(t->statements[i]);
        t->statements[i] = NULL;
    }
    sqlite_close(&t->db);
}

void tally_free(struct tally *t)
{
    close_db(t);
    free(t->path);
    free(t);
}

static int open_db(struct tally *t, struct err *e)
{
    int rc;

    if (t->db.handle && sqlite_is_there(&t->db))
        return 0;
    close_db(t);
    rc = sqlite_open(&t->db, false, e);
    if (rc == 0)
        rc = sqlite_check_tables(&t->db, e);
    for (int i = 0; i < STATEMENTS && rc == 0; i++) {
        rc = sqlite_prepare(&t->db, SQL[i], &t->statements[i]);
        if (rc != SQLITE_OK)
            rc = sqlite_fail(&t->db, rc, e);
    }
    if (rc != 0)
        close_db(t);
    return rc;
}

/* Runs a statement that gives no rows. */
static int run(struct tally *t, enum statement which)
{
    int rc = sqlite3_step(t->statements[which]);

    sqlite3_reset(t->statements[which]);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static struct calendar_span span_before(const struct store_window *w)
{
    return w->what < 0 ? calendar_size_span(-w->what, w->start_ms - 1)
                       : calendar_period_span((enum calendar_period)w->what, w->start_ms - 1);
}

static void bind_key(sqlite3_stmt *stmt, const struct store_ask *a, int64_t what, int64_t start_ms)
{
    sqlite3_bind_blob(stmt, 1, a->identity.p ? a->identity.p : "", (int)a->identity.n,
                      SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, what);
    sqlite3_bind_int(stmt, 3, a->sliding);
    sqlite3_bind_int64(stmt, 4, start_ms);
}

/* The node's name; what is counted here directly has the empty one. NULL: none at all. */
static void bind_node(sqlite3_stmt *stmt, const char *node)
{
    sqlite3_bind_text(stmt, 5, node, -1, SQLITE_STATIC); /* of NULL: NULL */
}

/* The count of all nodes, but for the one that shares its own. */
static int get(struct tally *t, const struct store_ask *a, int64_t what, int64_t start_ms,
               int64_t *count)
{
    sqlite3_stmt *stmt = t->statements[GET];
    int rc;

    bind_key(stmt, a, what, start_ms);
    bind_node(stmt, a->verb == STORE_SHARE ? a->node : NULL);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        t->fresh += sqlite3_column_type(stmt, 0) == SQLITE_NULL;
        *count = sqlite3_column_int64(stmt, 0);
        rc = SQLITE_OK;
    }
    sqlite3_reset(stmt);
    return rc;
}

static int get_all(struct tally *t, struct store_ask *a)
{
    int rc = SQLITE_OK;

    for (unsigned i = 0; i < a->n && rc == SQLITE_OK; i++) {
        const struct store_window *w = &a->w[i];

        rc = get(t, a, w->what, w->start_ms, &a->used[i]);
        a->previous[i] = 0;
        if (rc == SQLITE_OK && a->sliding)
            rc = get(t, a, w->what, span_before(w).start_ms, &a->previous[i]);
    }
    return rc;
}

/* A window that is given twice is counted in once. */
static bool is_again(const struct store_ask *a, unsigned i)
{
    for (unsigned j = 0; j < i; j++)
        if (a->w[j].what == a->w[i].what)
            return true;
    return false;
}

static int put(struct tally *t, enum statement which, const struct store_ask *a, unsigned i,
               int64_t count)
{
    sqlite3_stmt *stmt = t->statements[which];
    const struct store_window *w = &a->w[i];

    bind_key(stmt, a, w->what, w->start_ms);
    bind_node(stmt, which == PUT ? a->node : "");
    sqlite3_bind_int64(stmt, 6, count);
    /* a sliding window is looked at for as long again */
    sqlite3_bind_int64(stmt, 7, a->sliding ? 2 * w->end_ms - w->start_ms : w->end_ms);
    return run(t, which);
}

/*
 * The sum of all nodes stays from 0 to the bound of counts, though this row may fall below. What is
 * asked to add 0 writes all the same: it finds out whether the disk takes it.
 */
static int charge(struct tally *t, const struct store_ask *a, int64_t amount)
{
    int rc = SQLITE_OK;

    for (unsigned i = 0; i < a->n && rc == SQLITE_OK; i++) {
        int64_t change = amount;

        if (change > COUNTER_COUNT_MAX - a->used[i])
            change = COUNTER_COUNT_MAX - a->used[i];
        if (change < -a->used[i])
            change = -a->used[i];
        if ((change != 0 || amount == 0) && !is_again(a, i))
            rc = put(t, ADD, a, i, change);
    }
    return rc;
}

/* How many requests find room in window i. */
static int64_t room(const struct store_ask *a, unsigned i)
{
    const struct store_window *w = &a->w[i];
    double left = (double)(w->end_ms - a->now_ms) / (double)(w->end_ms - w->start_ms);
    double used = (double)a->used[i] + (double)a->previous[i] * left;
    double many = (w->limit - used) / (double)a->cost;
    int64_t n;

    if (!(many > 0))
        return 0;
    if (many >= (double)a->count)
        many = (double)a->count;
    n = (int64_t)many + 1; /* the division may have been rounded either way */
    while (n > 0 && !(used + (double)n * (double)a->cost <= w->limit))
        n--;
    return n < a->count ? n : a->count;
}

static int admit(struct tally *t, struct store_ask *a)
{
    a->granted = a->count;
    for (unsigned i = 0; i < a->n; i++) {
        int64_t n = room(a, i);

        if (n < a->granted)
            a->granted = n;
    }
    return a->granted > 0 ? charge(t, a, a->granted * a->cost) : SQLITE_OK;
}

static int share(struct tally *t, const struct store_ask *a)
{
    int rc = SQLITE_OK;

    for (unsigned i = 0; i < a->n && rc == SQLITE_OK; i++)
        if (!is_again(a, i))
            rc = put(t, PUT, a, i, a->own[i]);
    return rc;
}

static bool is_stale(const struct store_ask *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->now_ms < a->w[i].start_ms || a->now_ms >= a->w[i].end_ms)
            return true;
    return false;
}

static int answer(struct tally *t, struct tally_item *item, int64_t now_ms)
{
    struct store_ask *a = &item->ask;
    int rc;

    a->now_ms = now_ms;
    item->code = is_stale(a) ? STORE_STALE : 0;
    if (item->code)
        return SQLITE_OK;
    rc = get_all(t, a);
    if (rc != SQLITE_OK)
        return rc;
    switch (a->verb) {
    case STORE_ADMIT:
        return admit(t, a);
    case STORE_CHARGE:
        return charge(t, a, a->cost);
    case STORE_SHARE:
        return share(t, a);
    case STORE_PEEK:
        break;
    }
    return SQLITE_OK;
}

/* ---- rows that are over */

/* Where a step from swept_to ends; false at the table's end. */
static int find_end(struct tally *t, int rows, char *to, size_t *to_n, bool *found)
{
    sqlite3_stmt *stmt = t->statements[SWEEP_TO];
    int rc;

    sqlite3_bind_blob(stmt, 1, t->swept_to, (int)t->swept_to_n, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, rows);
    rc = sqlite3_step(stmt);
    *found = rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 0) <= STORE_IDENTITY_MAX;
    if (*found) {
        *to_n = (size_t)sqlite3_column_bytes(stmt, 0);
        memcpy(to, sqlite3_column_blob(stmt, 0), *to_n);
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sweep(struct tally *t, int64_t now_ms)
{
    sqlite3_stmt *stmt = t->statements[SWEEP];
    unsigned rows = t->fresh * SWEEP_PER_NEW;
    char to[STORE_IDENTITY_MAX];
    size_t to_n = 0;
    bool found;
    int rc;

    if (rows == 0)
        return SQLITE_OK;
    rc = find_end(t, (int)(rows < SWEEP_MAX ? rows : SWEEP_MAX), to, &to_n, &found);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_blob(stmt, 1, t->swept_to, (int)t->swept_to_n, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 2, found ? to : NULL, (int)to_n, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, now_ms);
    rc = run(t, SWEEP);
    memcpy(t->swept_to, to, to_n);
    t->swept_to_n = found ? to_n : 0;
    return rc;
}

/* ---- the batch */

static bool only_reads(const struct tally_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (items[i].ask.verb != STORE_PEEK)
            return false;
    return true;
}

/* 0 or SQLite's code; then the transaction may be open. */
static int run_batch(struct tally *t, struct tally_item *items, size_t n)
{
    bool reads = only_reads(items, n);
    int rc = run(t, reads ? BEGIN_TO_READ : BEGIN_TO_WRITE);

    if (rc != SQLITE_OK)
        return rc;
    clock_stale();
    t->fresh = 0;
    for (size_t i = 0; i < n && rc == SQLITE_OK; i++)
        rc = answer(t, &items[i], clock_now_ms());
    if (rc == SQLITE_OK && !reads)
        rc = sweep(t, clock_now_ms());
    return rc == SQLITE_OK ? run(t, COMMIT) : rc;
}

int tally_run(struct tally *t, struct tally_item *items, size_t n,
              const struct tally_patience *patience, struct err *e)
{
    bool reads = only_reads(items, n);
    int rc, code;

    t->db.until_us = patience->until_us;
    t->db.stop = patience->stop;
    code = t->lacked_room && !reads ? sqlite_find_room(&t->db, e) : 0;
    if (code == 0)
        code = open_db(t, e);
    if (code != 0)
        return code;
    rc = run_batch(t, items, n);
    t->lacked_room = sqlite_lacked_room(&t->db, rc) || (reads && t->lacked_room);
    if (rc == SQLITE_OK)
        return 0;
    code = sqlite_fail(&t->db, rc, e); /* before another call changes the message */
    if (!sqlite3_get_autocommit(t->db.handle))
        (void)run(t, ROLLBACK);
    if (!sqlite_may_stay(rc))
        close_db(t);
    return code;
}

void tally_rest(struct tally *t)
{
    if (t->db.handle)
        sqlite_checkpoint(&t->db);
}
