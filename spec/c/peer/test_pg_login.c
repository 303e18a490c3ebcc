/*
 * peer/pg against a real server whose password changes: on the server first,
 * in the vault first, nowhere else; connections that stand go on.
 */
#include "base/clock.h"
#include "keeper.h"
#include "peer/pg.h"
#include "peer/resolve.h"
#include "pg_server.h"

#define REFUSED "password authentication failed for user \"weir\""

static struct pg_server the_server;
static PGconn *the_admin;
static struct loop *the_loop;
static struct resolver *the_resolver;
static struct pg_settings the_settings;
static struct pg *the_pg;

struct asked {
    struct pg_query q;
    bool done;
    int code;
    char value[200], reason[800];
};

static void on_done(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct asked *a = CONTAINER_OF(q, struct asked, q);

    assert_false(a->done);
    a->done = true;
    a->code = code;
    snprintf(a->reason, sizeof a->reason, "%s", reason ? reason : "");
    assert_null(strstr(a->reason, "first"));
    assert_null(strstr(a->reason, "second"));
    assert_null(strchr(a->reason, '\n'));
    if (code == 0)
        snprintf(a->value, sizeof a->value, "%s", PQgetvalue(result, 0, 0));
}

static void ask(struct asked *a)
{
    static const struct pg_statement BACKEND = { "backend", "SELECT pg_backend_pid()", 0 };

    *a = (struct asked){ .q = { .statement = &BACKEND, .done = on_done } };
    pg_send(the_pg, &a->q);
}

static void await(const struct asked *a)
{
    int64_t until = clock_mono_ms() + 10000;

    while (!a->done) {
        assert_true(clock_mono_ms() < until);
        loop_turn(the_loop, true);
    }
}

/* The number of the process that answers. */
static int backend(void)
{
    struct asked a;

    ask(&a);
    await(&a);
    if (a.code)
        fail_msg("%d: %s", a.code, a.reason);
    return atoi(a.value);
}

static void assert_refused(int code, const char *because)
{
    struct asked a[2];

    ask(&a[0]);
    ask(&a[1]);
    for (int i = 0; i < 2; i++) {
        await(&a[i]);
        assert_int_equal(a[i].code, code);
        if (!strstr(a[i].reason, REFUSED) ||
            strcmp(strstr(a[i].reason, REFUSED) + strlen(REFUSED), because) != 0)
            fail_msg("%s", a[i].reason);
    }
}

static void change_password(const char *to)
{
    char sql[100];

    snprintf(sql, sizeof sql, "ALTER ROLE weir PASSWORD '%s'", to);
    pg_server_ask(the_admin, sql);
}

static void cut(void)
{
    pg_server_ask(the_admin, "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
                             " WHERE usename = 'weir'");
    for (int i = 0; i < 20; i++, usleep(2000))
        loop_turn(the_loop, false);
}

static int start_server(void **state)
{
    (void)state;
    pg_server_make(&the_server);
    the_admin = pg_server_connect(&the_server, "postgres");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    PQfinish(the_admin);
    pg_server_remove(&the_server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    the_loop = loop_new();
    the_resolver = resolver_new(the_loop);
    keeper_open(the_loop);
    change_password("first");
    the_settings = (struct pg_settings){
        .host = "127.0.0.1",
        .port = (unsigned)atoi(the_server.port),
        .user = "weir",
        .database = "weir",
        .password = kept("{vault://fs/pg}", "first"),
        .timeout_ms = 5000,
    };
    the_pg = pg_new(the_loop, the_resolver, &the_settings, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (the_pg)
        pg_free(the_pg);
    the_pg = NULL;
    loop_turn(the_loop, false);
    keeper_close();
    secrets_release();
    resolver_free(the_resolver);
    loop_free(the_loop);
    return 0;
}

static void test_the_server_is_ahead(void **state)
{
    int first = backend();

    (void)state;
    change_password("second");
    assert_int_equal(backend(), first);
    cut();
    the_keeper.value = "second";
    assert_int_not_equal(backend(), first);
    assert_int_equal(the_keeper.asked, 1);
}

static void test_the_vault_is_ahead(void **state)
{
    int first = backend();

    (void)state;
    renew(the_settings.password, "second");
    assert_int_equal(backend(), first);
    change_password("second");
    assert_int_equal(backend(), first);
    cut();
    assert_int_not_equal(backend(), first);
    assert_int_equal(the_keeper.asked, 0);
}

static void test_a_vault_without_another_value(void **state)
{
    (void)state;
    change_password("second");
    the_keeper.value = "first";
    assert_refused(ERR_CLOSED, "; {vault://fs/pg} has no other value");
    assert_int_equal(the_keeper.asked, 1);
    the_keeper.value = NULL;
    assert_refused(ERR_CLOSED, "; {vault://fs/pg}: the vault is asleep");
    the_keeper.value = "third";
    assert_refused(ERR_CLOSED, "");
    assert_int_equal(the_keeper.asked, 3);
    the_keeper.value = "second";
    assert_true(backend() > 0);
    assert_int_equal(the_keeper.asked, 4);
}

static void test_a_vault_that_is_slow(void **state)
{
    (void)state;
    pg_free(the_pg);
    the_settings.timeout_ms = 1000;
    the_pg = pg_new(the_loop, the_resolver, &the_settings, NULL);
    change_password("second");
    the_keeper.wait_ms = -1;
    assert_refused(ERR_TIMEOUT, "; it takes too long to try another value");
    renew(the_settings.password, "second");
    assert_true(backend() > 0);
}

/* A user that there is not is refused in other words, with another state. */
static void test_a_user_that_may_not(void **state)
{
    struct asked a;

    (void)state;
    pg_server_ask(the_admin, "ALTER ROLE weir NOLOGIN");
    the_keeper.value = "first";
    ask(&a);
    await(&a);
    pg_server_ask(the_admin, "ALTER ROLE weir LOGIN");
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "FATAL: role \"weir\" is not permitted to log in; {vault://"));
    assert_int_equal(the_keeper.asked, 1);
}

/* What is no matter of passwords asks for nothing. */
static void test_other_failures(void **state)
{
    struct asked a;

    (void)state;
    the_settings.database = "nothing";
    the_keeper.value = "first";
    ask(&a);
    await(&a);
    assert_int_equal(a.code, ERR_CLOSED);
    assert_non_null(strstr(a.reason, "FATAL: database \"nothing\" does not exist"));
    assert_null(strstr(a.reason, "LOCATION"));
    assert_int_equal(the_keeper.asked, 0);
}

static void test_forgotten_while_it_is_looked_up(void **state)
{
    struct asked a;

    (void)state;
    change_password("second");
    the_keeper.wait_ms = 100;
    the_keeper.value = "second";
    ask(&a);
    while (the_keeper.asked == 0)
        loop_turn(the_loop, true);
    pg_free(the_pg);
    the_pg = NULL;
    assert_int_equal(a.code, ERR_CANCELLED);
    while (the_keeper.due > 0)
        loop_turn(the_loop, true);
}

int main(void)
{
#define EXAMPLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EXAMPLE(test_the_server_is_ahead),
        EXAMPLE(test_the_vault_is_ahead),
        EXAMPLE(test_a_vault_without_another_value),
        EXAMPLE(test_a_vault_that_is_slow),
        EXAMPLE(test_a_user_that_may_not),
        EXAMPLE(test_other_failures),
        EXAMPLE(test_forgotten_while_it_is_looked_up),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
