/*
 * See pg.h. Makes statements of questions and answers of rows; what becomes of
 * a count is decided by the functions that the migrations have made. Each
 * statement names a row once, rows in the order of the primary key: so no two
 * nodes wait for each other. Now and then sweeps up rows that are over.
 */
#include "store/pg.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/migrations.h"
#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH_MAX 256 /* asks of a statement: rows are locked no longer than a few milliseconds */
#define COUNT_MAX (1 << 20) /* of requests at once, so that count times cost stays a number */
#define LIMIT_MAX 9e12      /* larger ones are none */
#define SWEEP_MS 1000       /* between two sweeps of this process, while it counts */
#define SWEEP_AGAIN_MS 50   /* after one that found something */

enum { IDENTITIES, SLIDINGS, NODES, ASKS, FIRSTS, LASTS, PARAMS };

/* Of their elements: bytea, boolean, text, bigint, int, int; these numbers never change. */
static const uint32_t TYPES[PARAMS] = { 17, 16, 25, 20, 23, 23 };

/* The head of a state, and each window, in numbers; pg_migrations.c tells of them. */
enum { HEAD_NUMBERS = 4, WINDOW_NUMBERS = 6 };

struct batch {
    SLIST_ENTRY(batch) link; /* in the pool */
    struct pg_query query;
    struct backend *backend;
    unsigned n;
    struct store_ask *asks[BATCH_MAX];
    struct buf bytes[PARAMS];
    const char *params[PARAMS];
    int lengths[PARAMS];
};

/* An ask among those of one send. */
struct place {
    struct store_ask *ask;
    unsigned nth;   /* as it came */
    unsigned round; /* how many for the same row came before it */
};

struct backend {
    struct store_backend head;
    struct pg *pg;
    struct place *places;
    size_t places_max;
    SLIST_HEAD(, batch) pool;
    struct pg_query sweep;
    bool sweeping;
    bool read_only; /* the session is: the next question goes by another one */
    int64_t sweep_at_mono_ms;
};

static const struct pg_statement ASK = { "weir_ask", "SELECT weir_ask($1, $2, $3, $4, $5, $6)",
                                         PARAMS };
static const struct pg_statement PEEK = { "weir_peek", "SELECT weir_peek($1, $2, $3, $4, $5, $6)",
                                          PARAMS };
static const struct pg_statement SWEEP = { "weir_sweep", "SELECT weir_sweep()", 0 };

/* ---- a statement's parameters: arrays, in PostgreSQL's binary form */

static void append(struct buf *b, const void *p, size_t n)
{
    must(buf_add(b, p, n) == 0); /* it has no bound */
}

static void append_int(struct buf *b, uint32_t number)
{
    number = htobe32(number);
    append(b, &number, sizeof number);
}

static void append_element(struct buf *b, const void *p, size_t n)
{
    append_int(b, (uint32_t)n);
    append(b, p, n);
}

static void append_number(struct buf *b, int64_t number)
{
    uint64_t bytes = htobe64((uint64_t)number);

    append_element(b, &bytes, sizeof bytes);
}

static void append_place(struct buf *b, unsigned place)
{
    append_int(b, sizeof place);
    append_int(b, place);
}

/* One dimension, no NULL in it, the first element is number 1. */
static void begin_array(struct buf *b, uint32_t type, unsigned n)
{
    const uint32_t head[] = { 1, 0, type, n, 1 };

    b->n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(head); i++)
        append_int(b, head[i]);
}

static int64_t bounded(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static int64_t thousandths(double limit)
{
    if (!(limit >= 0))
        return -1;
    return limit < LIMIT_MAX ? (int64_t)floor(limit * 1000) : (int64_t)LIMIT_MAX * 1000;
}

static void append_ask(struct buf *b, const struct store_ask *ask)
{
    append_number(b, -1 - (int64_t)ask->verb);
    append_number(b, bounded(ask->cost, -COUNTER_COUNT_MAX, COUNTER_COUNT_MAX));
    append_number(b, ask->verb == STORE_ADMIT ? bounded(ask->count, 0, COUNT_MAX) : 0);
    append_number(b, 0);
    for (unsigned i = 0; i < ask->n; i++) {
        const struct store_window *w = &ask->w[i];
        int64_t value = ask->verb == STORE_ADMIT   ? thousandths(w->limit)
                        : ask->verb == STORE_SHARE ? bounded(ask->own[i], 0, COUNTER_COUNT_MAX)
                                                   : 0;

        append_number(b, w->what);
        append_number(b, w->start_ms);
        append_number(b, w->end_ms);
        append_number(b, value);
        append_number(b, 0);
        append_number(b, 0);
    }
}

static unsigned numbers_of(const struct store_ask *ask)
{
    return HEAD_NUMBERS + ask->n * WINDOW_NUMBERS;
}

static void write_params(struct batch *batch)
{
    struct buf *b = batch->bytes;
    unsigned numbers = 0;

    for (unsigned i = 0; i < batch->n; i++)
        numbers += numbers_of(batch->asks[i]);
    for (unsigned k = 0; k < PARAMS; k++)
        begin_array(&b[k], TYPES[k], k == ASKS ? numbers : batch->n);
    numbers = 0;
    for (unsigned i = 0; i < batch->n; i++) {
        const struct store_ask *ask = batch->asks[i];
        const char *node = ask->verb == STORE_SHARE ? ask->node : "";

        append_element(&b[IDENTITIES], ask->identity.p, ask->identity.n);
        append_element(&b[SLIDINGS], ask->sliding ? "\1" : "\0", 1);
        append_element(&b[NODES], node, strlen(node));
        append_ask(&b[ASKS], ask);
        append_place(&b[FIRSTS], numbers + 1);
        numbers += numbers_of(ask);
        append_place(&b[LASTS], numbers);
    }
    for (unsigned k = 0; k < PARAMS; k++) {
        batch->params[k] = b[k].p;
        batch->lengths[k] = (int)b[k].n;
    }
}

/* ---- its answer ---- */

#define ARRAY_HEAD_BYTES 20
#define NUMBER_BYTES 12

/* Number i of an array of numbers in binary form; false when there is none. */
static bool get_number(struct str row, size_t i, int64_t *out)
{
    const char *at = row.p + ARRAY_HEAD_BYTES + i * NUMBER_BYTES;
    uint32_t length;
    uint64_t bytes;

    if (row.n < ARRAY_HEAD_BYTES + (i + 1) * NUMBER_BYTES)
        return false;
    memcpy(&length, at, sizeof length);
    memcpy(&bytes, at + sizeof length, sizeof bytes);
    *out = (int64_t)be64toh(bytes);
    return be32toh(length) == sizeof bytes;
}

/* 0, STORE_STALE, or ERR_SYNTAX: these are no numbers of ours. */
static int take_row(struct store_ask *ask, struct str row)
{
    int64_t code;

    if (!get_number(row, 0, &code) || !get_number(row, 1, &ask->now_ms))
        return ERR_SYNTAX;
    ask->granted = 0;
    if (code == 1)
        return STORE_STALE;
    if (ask->verb == STORE_ADMIT && !get_number(row, 2, &ask->granted))
        return ERR_SYNTAX;
    for (unsigned i = 0; i < ask->n; i++) {
        size_t window = HEAD_NUMBERS + i * WINDOW_NUMBERS;

        if (!get_number(row, window + 4, &ask->previous[i]) ||
            !get_number(row, window + 5, &ask->used[i]))
            return ERR_SYNTAX;
    }
    return 0;
}

static void sweep_now_and_then(struct backend *b);

static void answer_all(struct batch *batch, int code, const PGresult *result, const char *reason)
{
    for (unsigned i = 0; i < batch->n; i++) {
        struct store_ask *ask = batch->asks[i];
        int rc = code;

        if (code == 0)
            rc = take_row(ask, (struct str){ PQgetvalue(result, (int)i, 0),
                                             (size_t)PQgetlength(result, (int)i, 0) });
        if (rc == ERR_SYNTAX)
            reason = "an answer in another form than weir's";
        ask->answered(ask, rc, rc == 0 || rc == STORE_STALE ? NULL : reason);
    }
}

/* A statement that was refused, as the contract of backend.h has it. */
static int refusal(const PGresult *result, const char **reason, char room[400])
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

    if (!state)
        return ERR_SYSTEM;
    if (strcmp(state, "57014") == 0) /* query_canceled: statement_timeout */
        return ERR_TIMEOUT;
    /* undefined_function, undefined_table, invalid_schema_name */
    if (strcmp(state, "42883") == 0 || strcmp(state, "42P01") == 0 || strcmp(state, "3F000") == 0) {
        snprintf(room, 400, "%s; run: weir migrations up", *reason);
        *reason = room;
    }
    return ERR_SYSTEM;
}

/*
 * By default_transaction_read_only, which administrators set while a disk is full: sessions that
 * began then keep it.
 */
static bool is_read_only(const PGresult *result)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

    return state && strcmp(state, "25006") == 0;
}

static void on_answer(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct batch *batch = CONTAINER_OF(q, struct batch, query);
    struct backend *b = batch->backend;
    char room[400];

    b->head.round_trips = pg_write_count(b->pg);
    b->read_only = is_read_only(result);
    if (code == ERR_SYSTEM)
        code = refusal(result, &reason, room);
    if (code == 0 && PQntuples(result) != (int)batch->n) {
        code = ERR_SYNTAX;
        reason = "an answer with another number of rows than asked for";
    }
    answer_all(batch, code, result, reason);
    SLIST_INSERT_HEAD(&b->pool, batch, link);
    if (code == 0)
        sweep_now_and_then(b);
}

/* ---- sweeping ---- */

/* Who comes too early or at the same time as another is told so by the function, at once. */
static void on_swept(struct pg_query *q, int code, const PGresult *result, const char *reason)
{
    struct backend *b = CONTAINER_OF(q, struct backend, sweep);
    int64_t wait_ms = SWEEP_MS;

    b->sweeping = false;
    if (code == ERR_SYSTEM)
        log_info("postgres: cannot sweep: %s", reason);
    else if (code == 0 && PQntuples(result) == 1 && atoll(PQgetvalue(result, 0, 0)) > 0)
        wait_ms = SWEEP_AGAIN_MS;
    b->sweep_at_mono_ms = clock_mono_ms() + wait_ms;
}

static void sweep_now_and_then(struct backend *b)
{
    if (b->sweeping || clock_mono_ms() < b->sweep_at_mono_ms)
        return;
    b->sweeping = true;
    b->sweep.statement = &SWEEP;
    b->sweep.done = on_swept;
    pg_send(b->pg, &b->sweep);
}

/* ---- what is sent ---- */

static struct batch *get_batch(struct backend *b)
{
    struct batch *batch = SLIST_FIRST(&b->pool);

    if (batch) {
        SLIST_REMOVE_HEAD(&b->pool, link);
    } else {
        batch = xcalloc(1, sizeof *batch);
        batch->backend = b;
        batch->query.params = batch->params;
        batch->query.lengths = batch->lengths;
        batch->query.done = on_answer;
    }
    batch->n = 0;
    return batch;
}

static void send_batch(struct backend *b, struct batch *batch, bool peeks)
{
    if (batch->n == 0) {
        SLIST_INSERT_HEAD(&b->pool, batch, link);
        return;
    }
    write_params(batch);
    batch->query.statement = peeks ? &PEEK : &ASK;
    pg_send(b->pg, &batch->query);
}

/* All of one round that change counts, or that do not. */
static void send_round(struct backend *b, size_t n, unsigned round, bool peeks)
{
    struct batch *batch = get_batch(b);

    for (size_t i = 0; i < n; i++) {
        struct store_ask *ask = b->places[i].ask;

        if (b->places[i].round != round || (ask->verb == STORE_PEEK) != peeks)
            continue;
        if (batch->n == BATCH_MAX) {
            send_batch(b, batch, peeks);
            batch = get_batch(b);
        }
        batch->asks[batch->n++] = ask;
    }
    send_batch(b, batch, peeks);
}

static int order_of_rows(const struct store_ask *x, const struct store_ask *y)
{
    size_t n = x->identity.n < y->identity.n ? x->identity.n : y->identity.n;
    int order = n ? memcmp(x->identity.p, y->identity.p, n) : 0;

    if (order == 0)
        order = (x->identity.n > y->identity.n) - (x->identity.n < y->identity.n);
    if (order == 0)
        order = x->sliding - y->sliding;
    if (order == 0)
        order =
            strcmp(x->verb == STORE_SHARE ? x->node : "", y->verb == STORE_SHARE ? y->node : "");
    return order;
}

static int order_of_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = order_of_rows(x->ask, y->ask);

    return order ? order : (x->nth > y->nth) - (x->nth < y->nth);
}

/* Sorted, and each ask's round known; returns how many rounds there are. */
static unsigned sort_into_rounds(struct place *places, size_t n)
{
    unsigned rounds = 1;

    qsort(places, n, sizeof *places, order_of_places);
    for (size_t i = 1; i < n; i++) {
        if (order_of_rows(places[i - 1].ask, places[i].ask) == 0)
            places[i].round = places[i - 1].round + 1;
        if (places[i].round >= rounds)
            rounds = places[i].round + 1;
    }
    return rounds;
}

static size_t take_over(struct backend *b, struct store_asks *asks)
{
    struct store_ask *ask;
    size_t n = 0;

    while ((ask = TAILQ_FIRST(asks))) {
        TAILQ_REMOVE(asks, ask, link);
        if (n == b->places_max) {
            b->places_max = n ? 2 * n : 64;
            b->places = xrealloc(b->places, b->places_max * sizeof *b->places);
        }
        b->places[n] = (struct place){ .ask = ask, .nth = (unsigned)n };
        n++;
    }
    return n;
}

/* The statements leave together, and are carried out one after the other. */
static void send_asks(struct store_backend *head, struct store_asks *asks)
{
    struct backend *b = CONTAINER_OF(head, struct backend, head);
    size_t n = take_over(b, asks);
    unsigned rounds = sort_into_rounds(b->places, n);

    if (b->read_only)
        pg_reset(b->pg, ERR_CLOSED, "the session is read-only");
    b->read_only = false;
    for (unsigned round = 0; round < rounds; round++) {
        send_round(b, n, round, false);
        send_round(b, n, round, true);
    }
}

/* ---- making and freeing ---- */

/* The tables' version decides whether a connection is used. */
static bool judge(const PGresult *result, char *why, size_t n)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    struct err e;
    unsigned version = 0;

    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
        version = (unsigned)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
    else if (!state || (strcmp(state, "42P01") != 0 && strcmp(state, "3F000") != 0))
        return false;
    if (migrations_judge(&MIGRATIONS_PG, version, &e) == 0)
        return true;
    snprintf(why, n, "%s", e.text);
    return false;
}

static void free_backend(struct store_backend *head)
{
    struct backend *b = CONTAINER_OF(head, struct backend, head);
    struct batch *batch;

    pg_free(b->pg);
    while ((batch = SLIST_FIRST(&b->pool))) {
        SLIST_REMOVE_HEAD(&b->pool, link);
        for (unsigned k = 0; k < PARAMS; k++)
            buf_free(&batch->bytes[k]);
        free(batch);
    }
    free(b->places);
    free(b);
}

static const struct store_backend_type TYPE = { send_asks, free_backend, true };
static const struct pg_check CHECK = { STORE_PG_VERSION_SQL, judge };

struct store_backend *store_pg_new(struct loop *loop, struct resolver *resolver,
                                   const struct pg_settings *settings)
{
    struct backend *b = xcalloc(1, sizeof *b);

    b->head.type = &TYPE;
    b->pg = pg_new(loop, resolver, settings, &CHECK);
    SLIST_INIT(&b->pool);
    b->sweep_at_mono_ms = clock_mono_ms() + SWEEP_MS;
    return &b->head;
}
