/*
 * The tables of PostgreSQL, and the functions that count in them: they are
 * part of the schema, so that all nodes agree on them. Connects on its own and
 * waits: nothing of this runs while requests are served.
 */
#include "conf/keys.h"
#include "peer/pg_params.h"
#include "store/migrations.h"
#include "store/pg.h"
#include "store/settings.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* any number that no other program takes: it is the lock of those who migrate */
#define LOCK_SQL "SELECT pg_advisory_lock(8387794113)"

/* clang-format off */
static const char COUNTERS[] =
    "-- state: code, the clock in ms, granted, when the row is worth nothing; then for each window:\n"
    "-- what, start, end, count, the count of the window before (sliding), the count before the last\n"
    "-- question. An ask has the same form: minus 1 minus the verb, cost, count, 0; and for each window\n"
    "-- what, start, end, limit in thousandths (or the node's own count), 0, 0.\n"
    "CREATE TABLE weir_counters (\n"
    "  identity bytea NOT NULL,\n"
    "  sliding boolean NOT NULL,\n"
    "  node text NOT NULL, -- empty: counted here; else what that node says it has counted\n"
    "  state bigint[] NOT NULL,\n"
    "  PRIMARY KEY (identity, sliding, node)\n"
    ") WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);\n"
    "CREATE TABLE weir_sweeps (page bigint NOT NULL, next_ms bigint NOT NULL);\n"
    "INSERT INTO weir_sweeps VALUES (0, 0);\n"
    "\n"
    "CREATE FUNCTION weir_now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS\n"
    "'SELECT floor(date_part(''epoch'', clock_timestamp()) * 1000)::bigint'; -- extract is slower\n"
    "\n"
    "-- Where in a state the window is; behind its end when it is not there.\n"
    "CREATE FUNCTION weir_find(state bigint[], what bigint) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$\n"
    "DECLARE\n"
    "  q int := 5;\n"
    "BEGIN\n"
    "  WHILE state[q] <> what LOOP\n"
    "    q := q + 6;\n"
    "  END LOOP;\n"
    "  RETURN q;\n"
    "END $$;\n"
    "\n"
    "-- What becomes of a row's state by an ask, whatever it is. The row is locked by then, so that\n"
    "-- what the clock says here holds.\n"
    "CREATE FUNCTION weir_step_any(old bigint[], ask bigint[], sliding boolean) RETURNS bigint[]\n"
    "LANGUAGE plpgsql VOLATILE AS $$\n"
    "DECLARE\n"
    "  size int := cardinality(ask);\n"
    "  now_ms bigint := weir_now_ms();\n"
    "  verb bigint := -1 - ask[1];\n"
    "  cost bigint := ask[2];\n"
    "  granted bigint := ask[3];\n"
    "  others boolean := cardinality(old) > size;\n"
    "  expires_ms bigint := 0;\n"
    "  until_ms bigint;\n"
    "  used float8;\n"
    "  p int := 5;\n"
    "  q int;\n"
    "BEGIN\n"
    "  WHILE p < size LOOP\n"
    "    IF now_ms < ask[p + 1] OR now_ms >= ask[p + 2] THEN -- stale: as if nothing had been asked\n"
    "      old[1] := 1;\n"
    "      old[2] := now_ms;\n"
    "      old[3] := 0;\n"
    "      old[4] := coalesce(old[4], 0);\n"
    "      RETURN old;\n"
    "    END IF;\n"
    "    q := p;\n"
    "    IF old[q] IS DISTINCT FROM ask[p] THEN\n"
    "      q := weir_find(old, ask[p]);\n"
    "      others := true;\n"
    "    END IF;\n"
    "    IF old[q + 1] = ask[p + 1] THEN\n"
    "      ask[p + 4] := old[q + 4];\n"
    "      ask[p + 5] := old[q + 3];\n"
    "    ELSIF old[q + 1] > ask[p + 1] AND old[q + 1] <= now_ms + 10000 THEN\n"
    "      -- the clock was set back a little: the row's window is the present one\n"
    "      ask[p + 1] := old[q + 1];\n"
    "      ask[p + 2] := old[q + 2];\n"
    "      ask[p + 4] := old[q + 4];\n"
    "      ask[p + 5] := old[q + 3];\n"
    "    ELSIF sliding AND old[q + 2] = ask[p + 1] THEN\n"
    "      ask[p + 4] := old[q + 3];\n"
    "    END IF;\n"
    "    until_ms := ask[p + 2];\n"
    "    IF sliding THEN -- the next month may be longer\n"
    "      until_ms := until_ms + (until_ms - ask[p + 1]) * 9 / 8;\n"
    "    END IF;\n"
    "    expires_ms := greatest(expires_ms, until_ms);\n"
    "    IF verb = 0 THEN\n"
    "      used := ask[p + 5];\n"
    "      IF ask[p + 4] <> 0 THEN\n"
    "        used := used + ask[p + 4]\n"
    "          * least((ask[p + 2] - now_ms)::float8 / (ask[p + 2] - ask[p + 1])::float8, 1);\n"
    "      END IF;\n"
    "      granted := least(granted::float8, floor((ask[p + 3] / 1000::float8 - used) / cost))::bigint;\n"
    "    END IF;\n"
    "    p := p + 6;\n"
    "  END LOOP;\n"
    "\n"
    "  IF verb = 0 THEN\n"
    "    granted := greatest(granted, 0);\n"
    "    cost := cost * granted;\n"
    "  END IF;\n"
    "  p := 5;\n"
    "  WHILE verb <> 3 AND p < size LOOP\n"
    "    ask[p + 3] := least(greatest(ask[p + 5] + cost, 0), 4398046511103);\n"
    "    p := p + 6;\n"
    "  END LOOP;\n"
    "\n"
    "  q := 5;\n"
    "  WHILE others AND q < cardinality(old) LOOP -- windows that others ask for stay\n"
    "    until_ms := old[q + 2];\n"
    "    IF sliding THEN\n"
    "      until_ms := until_ms + (until_ms - old[q + 1]) * 9 / 8;\n"
    "    END IF;\n"
    "    IF until_ms > now_ms AND weir_find(ask, old[q]) > cardinality(ask) THEN\n"
    "      ask := ask || old[q:q + 5];\n"
    "      expires_ms := greatest(expires_ms, until_ms);\n"
    "    END IF;\n"
    "    q := q + 6;\n"
    "  END LOOP;\n"
    "  ask[1] := 0;\n"
    "  ask[2] := now_ms;\n"
    "  ask[3] := granted;\n"
    "  ask[4] := expires_ms;\n"
    "  RETURN ask;\n"
    "END $$;\n"
    "\n"
    "-- The same; what is asked most, room in one fixed window that was counted in before, is decided\n"
    "-- by this expression alone, and costs half as much so.\n"
    "CREATE FUNCTION weir_granted(count bigint, room bigint, cost bigint) RETURNS bigint\n"
    "LANGUAGE sql IMMUTABLE AS 'SELECT least(count, greatest(room / cost, 0))';\n"
    "CREATE FUNCTION weir_step(old bigint[], ask bigint[], sliding boolean) RETURNS bigint[]\n"
    "LANGUAGE sql VOLATILE AS $$\n"
    "  SELECT CASE\n"
    "    WHEN ask[1] = -1 AND NOT sliding AND cardinality(ask) = 10 AND cardinality(old) = 10\n"
    "      AND old[5] = ask[5] AND old[6] = ask[6]\n"
    "      AND weir_now_ms() >= ask[6] AND weir_now_ms() < ask[7]\n"
    "    THEN ARRAY[0, weir_now_ms(), weir_granted(ask[3], ask[8] / 1000 - old[8], ask[2]), ask[7],\n"
    "      ask[5], ask[6], ask[7],\n"
    "      least(old[8] + ask[2] * weir_granted(ask[3], ask[8] / 1000 - old[8], ask[2]),\n"
    "        4398046511103),\n"
    "      0, old[8]]\n"
    "    ELSE weir_step_any(old, ask, sliding)\n"
    "  END\n"
    "$$;\n"
    "\n"
    "-- The state of a node's row with what all other nodes have counted in the place of its own\n"
    "-- counts before.\n"
    "CREATE FUNCTION weir_others(whose bytea, slides boolean, mine text, said bigint[])\n"
    "RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $$\n"
    "DECLARE\n"
    "  o bigint[];\n"
    "  p int := 5;\n"
    "  q int;\n"
    "BEGIN\n"
    "  WHILE p < cardinality(said) LOOP\n"
    "    said[p + 4] := 0;\n"
    "    said[p + 5] := 0;\n"
    "    p := p + 6;\n"
    "  END LOOP;\n"
    "  FOR o IN\n"
    "    SELECT c.state FROM weir_counters c\n"
    "    WHERE c.identity = whose AND c.sliding = slides AND c.node NOT IN ('', mine)\n"
    "  LOOP\n"
    "    p := 5;\n"
    "    WHILE p < cardinality(said) LOOP\n"
    "      q := weir_find(o, said[p]);\n"
    "      IF o[q + 1] = said[p + 1] THEN\n"
    "        said[p + 4] := said[p + 4] + o[q + 4];\n"
    "        said[p + 5] := said[p + 5] + o[q + 3];\n"
    "      ELSIF slides AND o[q + 2] = said[p + 1] THEN\n"
    "        said[p + 4] := said[p + 4] + o[q + 3];\n"
    "      END IF;\n"
    "      p := p + 6;\n"
    "    END LOOP;\n"
    "  END LOOP;\n"
    "  RETURN said;\n"
    "END $$;\n"
    "\n"
    "-- All that changes counts: one row for each ask, in their order, which must be that of the\n"
    "-- primary key: so no two callers wait for each other. The numbers of all asks lie one behind the\n"
    "-- other; firsts and lasts tell each one's. A new row holds the ask itself at first.\n"
    "CREATE FUNCTION weir_ask(identities bytea[], slidings boolean[], nodes text[], asks bigint[],\n"
    "  firsts int[], lasts int[]) RETURNS SETOF bigint[]\n"
    "LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$\n"
    "DECLARE\n"
    "  r record;\n"
    "BEGIN\n"
    "  FOR r IN\n"
    "    INSERT INTO weir_counters AS c (identity, sliding, node, state)\n"
    "    SELECT a.identity, a.sliding, a.node, asks[a.first:a.last]\n"
    "    FROM unnest(identities, slidings, nodes, firsts, lasts)\n"
    "      WITH ORDINALITY AS a(identity, sliding, node, first, last, i)\n"
    "    ORDER BY a.i\n"
    "    ON CONFLICT (identity, sliding, node)\n"
    "    DO UPDATE SET state = weir_step(c.state, excluded.state, c.sliding)\n"
    "    RETURNING c.ctid, c.identity, c.sliding, c.node, c.state\n"
    "  LOOP\n"
    "    IF r.state[1] < 0 THEN\n"
    "      r.state := weir_step('{}', r.state, r.sliding);\n"
    "      UPDATE weir_counters c SET state = r.state WHERE c.ctid = r.ctid;\n"
    "    END IF;\n"
    "    IF r.node <> '' AND r.state[1] = 0 THEN\n"
    "      r.state := weir_others(r.identity, r.sliding, r.node, r.state);\n"
    "    END IF;\n"
    "    RETURN NEXT r.state;\n"
    "  END LOOP;\n"
    "END $$;\n"
    "\n"
    "-- The same for asks that change nothing: no row is locked or made.\n"
    "CREATE FUNCTION weir_peek(identities bytea[], slidings boolean[], nodes text[], asks bigint[],\n"
    "  firsts int[], lasts int[]) RETURNS SETOF bigint[]\n"
    "LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$\n"
    "BEGIN\n"
    "  RETURN QUERY\n"
    "    SELECT weir_step(coalesce((SELECT c.state FROM weir_counters c WHERE c.identity = a.identity\n"
    "        AND c.sliding = a.sliding AND c.node = a.node), '{}'), asks[a.first:a.last], a.sliding)\n"
    "    FROM unnest(identities, slidings, nodes, firsts, lasts)\n"
    "      WITH ORDINALITY AS a(identity, sliding, node, first, last, i)\n"
    "    ORDER BY a.i;\n"
    "END $$;\n"
    "\n"
    "-- Deletes rows that are worth nothing for a minute from the next few pages, if nobody does, and\n"
    "-- never waits. Returns how many; NULL when it was not yet time.\n"
    "CREATE FUNCTION weir_sweep() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$\n"
    "DECLARE\n"
    "  now_ms bigint := weir_now_ms();\n"
    "  at bigint;\n"
    "  first tid;\n"
    "  behind tid;\n"
    "  n bigint;\n"
    "BEGIN\n"
    "  SELECT s.page INTO at FROM weir_sweeps s WHERE s.next_ms <= now_ms FOR UPDATE SKIP LOCKED;\n"
    "  IF NOT FOUND THEN\n"
    "    RETURN NULL;\n"
    "  END IF;\n"
    "  IF at >= pg_relation_size('weir_counters') / current_setting('block_size')::bigint THEN\n"
    "    at := 0;\n"
    "  END IF;\n"
    "  first := format('(%s,0)', at)::tid;\n"
    "  behind := format('(%s,0)', at + 32)::tid;\n"
    "  DELETE FROM weir_counters WHERE ctid = ANY (ARRAY(\n"
    "    SELECT c.ctid FROM weir_counters c\n"
    "    WHERE c.ctid >= first AND c.ctid < behind AND c.state[4] < now_ms - 60000\n"
    "    FOR UPDATE SKIP LOCKED));\n"
    "  GET DIAGNOSTICS n = ROW_COUNT;\n"
    "  UPDATE weir_sweeps SET page = at + 32, next_ms = now_ms + CASE WHEN n > 0 THEN 20 ELSE 1000 END;\n"
    "  RETURN n;\n"
    "END $$;\n";
/* clang-format on */

static const struct migration STEPS[] = {
    { "counters", COUNTERS },
};

static int refuse(struct err *e, const char *what, const char *said)
{
    char line[400];

    return err_set(e, ERR_SYSTEM, "%s: %s", what, pg_one_line(said, line, sizeof line));
}

/* 0 and the result, if out is not NULL. */
static int ask(PGconn *c, const char *sql, int n, const char *const *params, PGresult **out,
               struct err *e)
{
    PGresult *r = n ? PQexecParams(c, sql, n, NULL, params, NULL, NULL, 0) : PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    int rc = 0;

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        rc = refuse(e, "PostgreSQL refuses", r ? PQresultErrorMessage(r) : PQerrorMessage(c));
    if (rc == 0 && out)
        *out = r;
    else
        PQclear(r);
    return rc;
}

static void on_notice(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

static int connect_to(const struct pg_settings *settings, PGconn **out, struct err *e)
{
    struct pg_params params;
    char name[PG_NAME_BYTES], wait[24];
    struct err why;
    PGconn *c;
    int rc;

    if (pg_params_fill(&params, settings, NULL, &why) != 0)
        return refuse(e, pg_name(settings, name), why.text);
    snprintf(wait, sizeof wait, "%lld", (long long)(settings->timeout_ms + 999) / 1000);
    pg_params_add(&params, "connect_timeout", wait);
    c = PQconnectdbParams(params.keywords, params.values, 0);
    if (PQstatus(c) == CONNECTION_OK) {
        *out = c;
        return 0;
    }
    rc = refuse(e, pg_name(settings, name), PQerrorMessage(c));
    PQfinish(c);
    return rc;
}

static int begin_session(const struct pg_settings *settings, PGconn **out, struct err *e)
{
    struct pg_session session;
    PGconn *c;
    int rc = connect_to(settings, &c, e);

    if (rc != 0)
        return rc;
    pg_session_fill(&session, settings);
    session.params[0] = "0"; /* tables may be large */
    session.params[1] = "on";
    PQsetNoticeProcessor(c, on_notice, NULL);
    PQsetErrorVerbosity(c, PQERRORS_TERSE);
    rc = ask(c, PG_SESSION_SQL, ARRAY_LEN(session.params), session.params, NULL, e);
    if (rc == 0)
        *out = c;
    else
        PQfinish(c);
    return rc;
}

static int open_session(const struct conf *conf, PGconn **out, struct err *e)
{
    struct arena arena;
    struct pg_settings settings;
    int rc;

    arena_init(&arena, 64);
    settings = settings_pg(&arena, STR(""), conf);
    rc = begin_session(&settings, out, e);
    arena_fini(&arena);
    return rc;
}

/* The last step done; 0 when there is no table of them. */
static int read_version(PGconn *c, unsigned *version, struct err *e)
{
    PGresult *r;
    bool exists;
    int rc = ask(c, "SELECT to_regclass('weir_migrations') IS NOT NULL", 0, NULL, &r, e);

    *version = 0;
    if (rc != 0)
        return rc;
    exists = *PQgetvalue(r, 0, 0) == 't';
    PQclear(r);
    if (!exists)
        return 0;
    rc = ask(c, STORE_PG_VERSION_SQL, 0, NULL, &r, e);
    if (rc == 0) {
        *version = (unsigned)strtoul(PQgetvalue(r, 0, 0), NULL, 10);
        PQclear(r);
    }
    return rc;
}

static int version(const struct conf *conf, unsigned *out, struct err *e)
{
    PGconn *c;
    int rc = open_session(conf, &c, e);

    if (rc != 0)
        return rc;
    rc = read_version(c, out, e);
    PQfinish(c);
    return rc;
}

static int prepare(PGconn *c, const struct conf *conf, struct err *e)
{
    char *quoted, sql[300];
    int rc = 0;

    if (*conf->pg_schema) {
        quoted = PQescapeIdentifier(c, conf->pg_schema, strlen(conf->pg_schema));
        snprintf(sql, sizeof sql, "CREATE SCHEMA IF NOT EXISTS %s", quoted);
        PQfreemem(quoted);
        rc = ask(c, sql, 0, NULL, NULL, e);
    }
    if (rc == 0)
        rc = ask(c,
                 "CREATE TABLE IF NOT EXISTS weir_migrations (version int PRIMARY KEY,"
                 " name text NOT NULL, done_at timestamptz NOT NULL DEFAULT now())",
                 0, NULL, NULL, e);
    return rc;
}

static int do_step(PGconn *c, unsigned number, struct err *e)
{
    const struct migration *step = &STEPS[number - 1];
    char digits[16];
    const char *params[] = { digits, step->name };
    int rc = ask(c, "BEGIN", 0, NULL, NULL, e);

    snprintf(digits, sizeof digits, "%u", number);
    if (rc == 0)
        rc = ask(c, step->sql, 0, NULL, NULL, e);
    if (rc == 0)
        rc = ask(c, "INSERT INTO weir_migrations (version, name) VALUES ($1, $2)", 2, params, NULL,
                 e);
    return rc == 0 ? ask(c, "COMMIT", 0, NULL, NULL, e) : rc;
}

/* Under the lock: whoever migrated meanwhile is done. */
static int do_steps(PGconn *c, void (*on_step)(unsigned number, const struct migration *step),
                    struct err *e)
{
    unsigned done;
    int rc = read_version(c, &done, e);

    while (rc == 0 && done < ARRAY_LEN(STEPS)) {
        rc = do_step(c, ++done, e);
        if (rc == 0)
            on_step(done, &STEPS[done - 1]);
    }
    return rc;
}

static int up(const struct conf *conf, bool unlogged,
              void (*on_step)(unsigned number, const struct migration *step), struct err *e)
{
    unsigned done = 0;
    PGconn *c;
    int rc = open_session(conf, &c, e);

    if (rc != 0)
        return rc;
    rc = ask(c, LOCK_SQL, 0, NULL, NULL, e);
    if (rc == 0)
        rc = read_version(c, &done, e);
    if (rc == 0 && done < ARRAY_LEN(STEPS)) /* else it asks for no right to make anything */
        rc = prepare(c, conf, e);
    if (rc == 0)
        rc = do_steps(c, on_step, e);
    if (rc == 0 && unlogged)
        rc = ask(c, "ALTER TABLE weir_counters SET UNLOGGED", 0, NULL, NULL, e);
    PQfinish(c); /* the lock and what was not committed end with it */
    return rc;
}

const struct migrations MIGRATIONS_PG = { STEPS, ARRAY_LEN(STEPS), version, up };
