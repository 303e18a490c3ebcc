/*
 * See migrations.h. What the steps are and how they are done is the stores'
 * business; this chooses the database and prints.
 */
#include "srv/migrations.h"
#include "conf/keys.h"
#include "srv/identity.h"
#include "srv/references.h"
#include "store/migrations.h"
#include "store/pg.h"
#include "store/settings.h"
#include "store/sqlite_migrations.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { GOOD = 0, USAGE = 2 };

static bool is_postgres(const struct conf *conf)
{
    return strcmp(conf->database, "postgres") == 0;
}

static void print_where(const struct conf *conf)
{
    struct pg_settings settings;
    char name[PG_NAME_BYTES];
    struct arena arena;

    if (!is_postgres(conf)) {
        printf("sqlite %s", conf->sqlite_file);
        return;
    }
    arena_init(&arena, 64);
    settings = settings_pg(&arena, STR(""), conf);
    printf("%s", pg_name(&settings, name));
    arena_fini(&arena);
}

static void print_step(unsigned number, const struct migration *step)
{
    printf("%u %s: done\n", number, step->name);
    fflush(stdout);
}

/* Whoever runs it, it is the workers who write the file. */
static int make_place(const struct conf *conf, struct err *e)
{
    struct identity workers;
    int rc;

    if (is_postgres(conf) || geteuid() != 0)
        return 0;
    rc = identity_of_workers(conf, &workers, e);
    if (rc == 0 && workers.set)
        rc = sqlite_make_place(conf->sqlite_file, workers.uid, workers.gid, e);
    return rc;
}

static int up(const struct conf *conf, const struct migrations *m, bool unlogged, struct err *e)
{
    int rc = make_place(conf, e);

    if (rc == 0)
        rc = m->up(conf, unlogged, print_step, e);
    if (rc != 0)
        return rc;
    print_where(conf);
    printf(" is up to date, version %u\n", m->count);
    return GOOD;
}

/* Exit status 1 when something is to be done: for scripts. */
static int list(const struct conf *conf, const struct migrations *m, struct err *e)
{
    unsigned version;
    int rc = m->version(conf, &version, e);

    if (rc != 0)
        return rc;
    print_where(conf);
    printf("\n");
    for (unsigned i = 0; i < m->count; i++)
        printf("%u %s: %s\n", i + 1, m->steps[i].name, i < version ? "done" : "to do");
    fflush(stdout);
    return migrations_judge(m, version, e) == 0 ? GOOD : e->code;
}

int migrations_command(const struct conf *conf, int argc, char **argv, struct err *e)
{
    const struct migrations *m = is_postgres(conf) ? &MIGRATIONS_PG : &MIGRATIONS_SQLITE;
    bool unlogged = argc == 3 && strcmp(argv[2], "--unlogged") == 0;

    if (is_postgres(conf) && references_put_secret(conf, CONF_KEY_pg_password, e) != 0)
        return e->code;
    if (strcmp(conf->database, "off") == 0)
        return err_set(e, ERR_CONFIG, "there is no database: weir.conf says database = off");
    if (argc >= 2 && strcmp(argv[1], "up") == 0 && (argc == 2 || unlogged))
        return up(conf, m, unlogged, e);
    if (argc == 2 && strcmp(argv[1], "list") == 0)
        return list(conf, m, e);
    fprintf(stderr, "weir: expected \"weir migrations up [--unlogged]\" or \"weir migrations "
                    "list\"\n");
    return USAGE;
}
