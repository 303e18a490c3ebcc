/*
 * The tables of the database that the key `database` names: an ordered list of
 * steps, the number of the last one done kept in the database itself. A step
 * and its number are one transaction, so that what is cut off is done again.
 */
#ifndef WEIR_STORE_MIGRATIONS_H
#define WEIR_STORE_MIGRATIONS_H

#include "base/err.h"
#include "base/weir.h"

struct conf;

/* Steps are numbered from 1, in the order of the list; one that was released never changes. */
struct migration {
    const char *name; /* "counters" */
    const char *sql;  /* statements, separated by semicolons */
};

/* What one kind of database does; each call connects anew, and may wait. */
struct migrations {
    const struct migration *steps;
    unsigned count;
    /* The number of the last step done, 0: none. */
    int (*version)(const struct conf *conf, unsigned *version, struct err *e);
    /*
     * Does the steps that are missing, whoever else does so at the same time: on_step is called
     * after each that was done here. unlogged: of PostgreSQL, else refused with a reason.
     */
    int (*up)(const struct conf *conf, bool unlogged,
              void (*on_step)(unsigned number, const struct migration *step), struct err *e);
};

extern const struct migrations MIGRATIONS_PG;     /* pg_migrations.c */
extern const struct migrations MIGRATIONS_SQLITE; /* sqlite_migrations.c */

/*
 * 0 when the tables are of the version that this program needs; else why not, with the command to
 * run if that helps: "the tables of weir are missing; run: weir migrations up".
 */
int migrations_judge(const struct migrations *m, unsigned version, struct err *e) MUST_CHECK;

#endif
