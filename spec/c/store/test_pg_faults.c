/*
 * store/pg where its server is not as it should be: tables that are missing or of
 * another version, rights, migrations, and faults with asks in flight.
 */
#include "pg_spec.h"

static void test_missing_tables(void **state)
{
    struct conf *conf = conf_of("pg_user = weir\n");
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);
    unsigned version = 9;
    struct err e;

    (void)state;
    assert_int_equal(admit("a", 5, 1, 1), 1);
    drop_tables();
    run(&a, 1); /* on a connection that was good */
    assert_int_equal(a.code, ERR_SYSTEM);
    assert_non_null(strstr(a.reason, "; run: weir migrations up"));
    steps_done = 0;
    migrate("pg_user = weir\n", false);
    assert_int_equal(admit("a", 5, 1, 1), 1); /* on the same one */
    drop_tables();
    close_store();
    open_store();
    run(&a, 1);
    assert_int_equal(a.code, ERR_CONFIG);
    assert_string_equal(a.reason, "weir's tables are missing; run: weir migrations up");
    assert_int_equal(MIGRATIONS_PG.version(conf, &version, &e), 0);
    assert_int_equal(version, 0);
    steps_done = 0;
    migrate("pg_user = weir\n", false);
    assert_int_equal(steps_done, MIGRATIONS_PG.count);
    assert_int_equal(admit("a", 5, 1, 1), 1); /* by itself */
    migrate("pg_user = weir\n", false);
    assert_int_equal(steps_done, MIGRATIONS_PG.count);
    conf_free(conf);
}

static void test_other_version(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);

    (void)state;
    pg_server_ask(the_admin, "INSERT INTO weir_migrations VALUES (1000, 'of tomorrow')");
    run(&a, 1);
    assert_int_equal(a.code, ERR_CONFIG);
    assert_string_equal(
        a.reason,
        "weir's tables are of version 1000, this weir knows only 1; upgrade weir here too");
    pg_server_ask(the_admin, "DELETE FROM weir_migrations WHERE version = 1000");
    assert_int_equal(admit("a", 5, 1, 1), 1);
}

static void test_schema_and_unlogged(void **state)
{
    static const char UNLOGGED[] = "SELECT count(*) FROM pg_class WHERE relname = 'weir_counters' "
                                   "AND relpersistence = 'u'";

    (void)state;
    pg_server_ask(the_admin, "GRANT CREATE ON DATABASE weir TO weir");
    the_settings.schema = "Of weir";
    assert_int_equal(pg_server_ask(the_admin, UNLOGGED), 0);
    steps_done = 0;
    migrate("pg_user = weir\npg_schema = Of weir\n", true);
    assert_int_equal(pg_server_ask(the_admin, UNLOGGED), 1);
    assert_int_equal(admit("a", 5, 1, 3), 3);
    assert_int_equal(pg_server_ask(the_admin, "SELECT count(*) FROM \"Of weir\".weir_counters"), 1);
    assert_int_equal(pg_server_ask(the_admin, "SELECT count(*) FROM weir_counters"), 0);
    pg_server_ask(the_admin, "DROP SCHEMA \"Of weir\" CASCADE");
}

static void test_two_migrate_at_once(void **state)
{
    int status, good = 0;

    (void)state;
    close_store();
    drop_tables();
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            struct conf *conf = conf_of("pg_user = weir\n");
            struct err e;

            _exit(MIGRATIONS_PG.up(conf, false, ignore_step, &e) == 0 ? 0 : 1);
        }
    }
    while (good < 4) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        good++;
    }
    assert_int_equal(pg_server_ask(the_admin, "SELECT count(*) FROM weir_migrations"),
                     MIGRATIONS_PG.count);
    open_store();
    assert_int_equal(admit("a", 5, 1, 1), 1);
}

/* The tables are another one's: what the guide says is granted. */
static void test_a_user_who_may_only_count(void **state)
{
    struct asked refused = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);

    (void)state;
    close_store();
    pg_server_ask(the_admin, "CREATE ROLE counts LOGIN");
    the_settings.user = "counts";
    open_store();
    run(&refused, 1);
    assert_true(refused.code < 0);
    pg_server_ask(the_admin, "GRANT USAGE ON SCHEMA public TO counts");
    pg_server_ask(the_admin, "GRANT SELECT ON weir_migrations TO counts");
    pg_server_ask(the_admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON weir_counters TO counts");
    pg_server_ask(the_admin, "GRANT SELECT, UPDATE ON weir_sweeps TO counts");
    migrate("pg_user = counts\n", false); /* there is nothing to do */
    assert_int_equal(admit("a", 5, 1, 3), 3);
    close_store();
    pg_server_ask(the_admin, "DROP OWNED BY counts");
    pg_server_ask(the_admin, "DROP ROLE counts");
    the_settings.user = "weir";
    open_store();
}

/* What the administrator sets is for new sessions: the old one is given up. */
static void test_read_only_for_a_while(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);

    (void)state;
    close_store();
    pg_server_ask(the_admin, "ALTER ROLE weir SET default_transaction_read_only = on");
    open_store();
    run(&a, 1);
    assert_non_null(strstr(a.reason, "in a read-only transaction"));
    pg_server_ask(the_admin, "ALTER ROLE weir RESET default_transaction_read_only");
    assert_int_equal(admit("a", 5, 1, 3), 3);
}

static void test_migrations_say_what_is_wrong(void **state)
{
    struct conf *conf = conf_of("pg_user = nobody\n");
    unsigned version;
    struct err e;

    (void)state;
    assert_int_equal(MIGRATIONS_PG.version(conf, &version, &e), ERR_SYSTEM);
    assert_non_null(strstr(e.text, "role \"nobody\" does not exist"));
    assert_null(strchr(e.text, '\n'));
    conf_free(conf);
}

/* ---- faults ---- */

static void test_locked_by_another(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);

    (void)state;
    the_settings.timeout_ms = 400;
    charge("a", 1);
    pg_server_ask(the_admin, "BEGIN; SELECT 1 FROM weir_counters FOR UPDATE");
    run(&a, 1);
    pg_server_ask(the_admin, "ROLLBACK");
    assert_int_equal(a.code, ERR_TIMEOUT);
    assert_string_equal(a.reason, "ERROR: canceling statement due to statement timeout");
    assert_int_equal(peek("a", PERIOD_YEAR), 1);
}

static void test_terminated_in_flight(void **state)
{
    struct asked a[] = { make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1),
                         make(STORE_PEEK, "b", PERIOD_YEAR, 5, 1, 1) };

    (void)state;
    charge("a", 1);
    pg_server_ask(the_admin, "BEGIN; SELECT 1 FROM weir_counters FOR UPDATE");
    send_all(a, 2);
    for (int i = 0; i < 50; i++, usleep(2000))
        loop_turn(the_loop, false);
    pg_server_ask(the_admin,
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir'");
    await(a, 2);
    pg_server_ask(the_admin, "ROLLBACK");
    assert_int_equal(a[0].code, ERR_CLOSED);
    assert_int_equal(a[1].code, ERR_CLOSED);
    assert_int_equal(peek("a", PERIOD_YEAR), 1);
}

static void test_freed_in_flight(void **state)
{
    struct asked a[] = { make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1),
                         make(STORE_PEEK, "b", PERIOD_YEAR, 5, 1, 1) };

    (void)state;
    send_all(a, 2);
    close_store();
    assert_int_equal(a[0].code, ERR_CANCELLED);
    assert_int_equal(a[1].code, ERR_CANCELLED);
}

static void test_restarted(void **state)
{
    struct asked a = make(STORE_ADMIT, "a", PERIOD_YEAR, 5, 1, 1);

    (void)state;
    assert_int_equal(admit("a", 5, 1, 2), 2);
    PQfinish(the_admin);
    pg_server_stop(&the_server, SIGINT); /* fast, and nothing is lost */
    run(&a, 1);
    assert_int_equal(a.code, ERR_CLOSED);
    pg_server_start(&the_server);
    the_admin = pg_server_connect(&the_server, "weir");
    assert_int_equal(admit("a", 5, 1, 9), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXAMPLE(test_missing_tables),
        EXAMPLE(test_other_version),
        EXAMPLE(test_schema_and_unlogged),
        EXAMPLE(test_two_migrate_at_once),
        EXAMPLE(test_a_user_who_may_only_count),
        EXAMPLE(test_read_only_for_a_while),
        EXAMPLE(test_migrations_say_what_is_wrong),
        EXAMPLE(test_locked_by_another),
        EXAMPLE(test_terminated_in_flight),
        EXAMPLE(test_freed_in_flight),
        EXAMPLE(test_restarted),
    };

    return cmocka_run_group_tests(tests, make_server, remove_server);
}
