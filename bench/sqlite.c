/*
 * How many decisions a second the SQLite store makes: 64 questions in a batch,
 * one batch at a time as the core sends them, over a hot key and 10,000 keys,
 * in one process and in two at once; and beside it a transaction for each
 * decision. Prints one table. Makes its own database and removes it.
 *
 * usage: bench-sqlite [directory on a real disk, default /var/tmp] [seconds, default 3]
 */
#include "base/calendar.h"
#include "base/clock.h"
#include "conf/keys.h"
#include "ev/loop.h"
#include "peer/sqlite.h"
#include "store/migrations.h"
#include "store/sqlite.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 64
#define PROCESSES_MAX 4

struct workload {
    const char *name;
    unsigned keys, windows, batch, processes;
};

/* What a process has done. */
struct tally_line {
    uint64_t decisions, cpu_us, longest_us;
};

static struct tally_line *the_board;
static char path[300];
static unsigned the_seconds = 3;

static struct store_ask asks[BATCH];
static char names[BATCH][49];
static unsigned waiting;

static uint64_t cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void on_answer(struct store_ask *ask, int code, const char *reason)
{
    (void)ask;
    if (code) {
        fprintf(stderr, "%d: %s\n", code, reason ? reason : "the clock moved");
        exit(1);
    }
    waiting--;
}

/* Of the key with this number, as the plugins build them. */
static void fill_ask(struct store_ask *a, char name[49], unsigned number, unsigned windows)
{
    static const int64_t WHAT[] = { PERIOD_MONTH, PERIOD_YEAR };

    snprintf(name, 49, "ratelimit:4a1b7c9e-0d2f-4c55-9b1e-77aa01cd:%04x", number & 0xffff);
    *a = (struct store_ask){ .verb = STORE_ADMIT, .n = windows, .cost = 1, .count = 1 };
    a->identity = (struct str){ name, 48 };
    a->answered = on_answer;
    for (unsigned i = 0; i < windows; i++) {
        struct calendar_span span =
            calendar_period_span((enum calendar_period)WHAT[i], clock_now_ms());

        a->w[i] = (struct store_window){ WHAT[i], 1e12, span.start_ms, span.end_ms };
    }
}

static void ask_once(struct loop *loop, struct store_backend *store, const struct workload *w,
                     uint32_t *random)
{
    struct store_asks list = TAILQ_HEAD_INITIALIZER(list);

    for (unsigned i = 0; i < w->batch; i++) {
        *random = *random * 1664525u + 1013904223u;
        fill_ask(&asks[i], names[i], (unsigned)((uint64_t)*random * w->keys >> 32), w->windows);
        TAILQ_INSERT_TAIL(&list, &asks[i], link);
    }
    waiting = w->batch;
    store->type->send(store, &list);
    while (waiting)
        loop_turn(loop, true);
}

static void child(const struct workload *w, unsigned number)
{
    struct loop *loop = loop_new();
    struct store_backend *store = store_sqlite_new(loop, path, 30000);
    uint32_t random = number * 77 + 1;
    struct tally_line *line = &the_board[number];
    uint64_t cpu_before_us;
    int64_t end_us;

    ask_once(loop, store, w, &random);
    cpu_before_us = cpu_us();
    end_us = clock_mono_us_exact() + (int64_t)the_seconds * 1000000;
    for (int64_t now_us = clock_mono_us_exact(), next_us; now_us < end_us; now_us = next_us) {
        ask_once(loop, store, w, &random);
        next_us = clock_mono_us_exact();
        line->decisions += w->batch;
        if ((uint64_t)(next_us - now_us) > line->longest_us)
            line->longest_us = (uint64_t)(next_us - now_us);
    }
    line->cpu_us = cpu_us() - cpu_before_us;
    store->type->free(store);
    loop_free(loop);
    _exit(0);
}

static void make_database(void)
{
    struct conf conf = { .sqlite_file = path };
    struct err e;

    if (MIGRATIONS_SQLITE.up(&conf, false, NULL, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
}

static void measure(const struct workload *w)
{
    struct tally_line sum = { 0 };
    int status;

    make_database();
    for (unsigned i = 0; i < w->processes; i++) {
        the_board[i] = (struct tally_line){ 0 };
        if (fork() == 0)
            child(w, i);
    }
    while (wait(&status) > 0)
        if (status != 0)
            exit(1);
    for (unsigned i = 0; i < w->processes; i++) {
        sum.decisions += the_board[i].decisions;
        sum.cpu_us += the_board[i].cpu_us;
        if (the_board[i].longest_us > sum.longest_us)
            sum.longest_us = the_board[i].longest_us;
    }
    printf("| %s | %.0f | %.1f | %.1f |\n", w->name, (double)sum.decisions / the_seconds,
           (double)sum.cpu_us / (double)sum.decisions, (double)sum.longest_us / 1000);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct workload LOADS[] = {
        { "a transaction each, hot key", 1, 1, 1, 1 },
        { "a transaction each, 10,000 keys", 10000, 1, 1, 1 },
        { "64 in a batch, hot key", 1, 1, BATCH, 1 },
        { "64 in a batch, 10,000 keys", 10000, 1, BATCH, 1 },
        { "64 in a batch, 10,000 keys, 2 windows", 10000, 2, BATCH, 1 },
        { "64 in a batch, 10,000 keys, 2 processes", 10000, 1, BATCH, 2 },
    };
    char dir[200], command[300];

    snprintf(dir, sizeof dir, "%s/weir-bench-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
    if (argc > 2)
        the_seconds = (unsigned)atoi(argv[2]);
    if (!mkdtemp(dir) || the_seconds == 0) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/weir.db", dir);
    the_board = mmap(NULL, PROCESSES_MAX * sizeof *the_board, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("| SQLite store | decisions/s | CPU us each | slowest batch, ms |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(LOADS); i++)
        measure(&LOADS[i]);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0;
}
