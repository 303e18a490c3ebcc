/*
 * See status.h. Reads the shared region beside the running processes; never
 * makes one, and looks for it by what the master said at its start, since
 * weir.conf may have changed.
 */
#include "srv/status.h"
#include "base/clock.h"
#include "shm/owner.h"
#include "srv/shared.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#define WORKERS_SHOWN_MAX STATS_WORKERS_MAX

static void print_span(const char *label, int64_t ms)
{
    int64_t s = ms / 1000;

    printf("%s", label);
    if (s >= 86400)
        printf("%lldd ", (long long)(s / 86400));
    if (s >= 3600)
        printf("%lldh ", (long long)(s / 3600 % 24));
    if (s >= 60)
        printf("%lldm ", (long long)(s / 60 % 60));
    printf("%llds\n", (long long)(s % 60));
}

static void print_state(const struct state *s)
{
    printf("master         pid %d, generation %u", (int)s->pid, s->generation);
    print_span(", up ", clock_now_ms() - s->started_ms);
    printf("configuration  %s\n", *s->conf_path ? s->conf_path : "defaults (no weir.conf)");
    printf("listening on   %s\n", s->listeners);
    if (s->reloads_done)
        printf("last reload    %s: %s\n", s->reload_good ? "good" : "failed", s->reload_text);
}

static int by_number(const void *left, const void *right)
{
    const struct stats_worker *a = left, *b = right;

    if (a->generation != b->generation)
        return a->generation > b->generation ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void print_worker(const struct stats_worker *w, const struct state *s)
{
    double beat_s = (double)(clock_mono_ms() - w->beat_mono_ms) / 1000;

    printf("%6u %8d %10u  %-8s %12llu %9u %11u %8.1f s\n", w->number, (int)owner_pid(w->owner),
           w->generation, w->generation < s->generation ? "draining" : "serving",
           (unsigned long long)w->requests, w->in_flight, w->connections, beat_s > 0 ? beat_s : 0);
}

static void print_workers(const struct stats *stats, const struct state *s)
{
    static struct stats_worker workers[WORKERS_SHOWN_MAX];
    const struct stats_worker *w;
    unsigned at = 0;
    size_t n = 0;

    while (n < WORKERS_SHOWN_MAX && (w = stats_next(stats, &at)) != NULL)
        workers[n++] = *w;
    qsort(workers, n, sizeof *workers, by_number);
    printf(
        "\nworker      pid generation  state        requests in flight connections  last beat\n");
    for (size_t i = 0; i < n; i++)
        print_worker(&workers[i], s);
}

static void print_counters(const struct shared *shared)
{
    struct counter_gauges g = counter_get_gauges(shared->counters);

    printf("requests       %llu\n", (unsigned long long)stats_requests(shared->stats));
    printf("counters       %llu of %llu slots used (%.1f %%) in %.1f MiB, %llu evicted\n",
           (unsigned long long)g.slots_used, (unsigned long long)g.slots,
           g.slots ? 100.0 * (double)g.slots_used / (double)g.slots : 0.0,
           (double)shared->region.bytes / (1 << 20), (unsigned long long)g.evicted);
}

/* Workers ask one that does not answer each second: if they do not, it is of no use any more. */
#define SILENCE_MS 60000

/* A host may come from a vault: what a terminal would take for orders is not shown. */
static void show_name(char *to, size_t n, const char *name)
{
    snprintf(to, n, "%s", name);
    for (; *to; to++)
        if (iscntrl((unsigned char)*to))
            *to = '?';
}

static void print_store(const struct stats_store *s)
{
    char state[40] = "ok", name[sizeof s->name];
    int64_t now_ms = clock_now_ms();

    show_name(name, sizeof name, s->name);
    if (s->open && s->bad_ms == 0) /* see breaker_leave */
        snprintf(state, sizeof state, "not asked since a reload");
    else if (s->open && now_ms - s->bad_ms > SILENCE_MS)
        snprintf(state, sizeof state, "not asked for %lld s",
                 (long long)(now_ms - s->bad_ms) / 1000);
    else if (s->open)
        snprintf(state, sizeof state, "not answering for %lld s",
                 (long long)(now_ms - s->since_ms) / 1000);
    printf("%-40s  %-27s %12llu %10llu %12llu %12llu %9llu\n", name, state,
           (unsigned long long)s->asked, (unsigned long long)s->merged,
           (unsigned long long)s->round_trips, (unsigned long long)s->remembered,
           (unsigned long long)s->failed);
}

/* Of all workers since the region was made; nothing where no store was asked. */
static void print_stores(const struct stats *stats)
{
    const struct stats_store *row;
    unsigned at = 0;

    while ((row = stats_store_next(stats, &at)) != NULL) {
        const struct stats_store copy = *row;

        if (at == 1)
            printf("\nstore                                     state                     "
                   "     requests     merged  round trips   remembered    failed\n");
        print_store(&copy);
    }
}

int status_print(const struct state *s, struct err *e)
{
    const struct shared_options options = { s->prefix, s->counter_file, s->counter_memory };
    const struct identity workers = { .set = s->workers_uid >= 0,
                                      .uid = (uid_t)s->workers_uid,
                                      .gid = (gid_t)-1 };
    struct shared shared = { 0 };
    int rc;

    print_state(s);
    fflush(stdout);
    rc = shared_open(&shared, &options, &workers, e);
    if (rc != 0)
        return rc;
    if (shared.region.how == REGION_CREATED) { /* it has just stopped */
        shared_unlink(&shared);
    } else {
        print_counters(&shared);
        print_workers(shared.stats, s);
        print_stores(shared.stats);
    }
    shared_close(&shared);
    return 0;
}
