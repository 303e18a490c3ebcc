/*
 * What one decision costs in C: nanoseconds of CPU per counter_admit, hashing
 * included, on one hot key and over a million keys, in one process and in
 * two at once, and the memory that a key takes. Prints one table. Makes its
 * own region and removes it.
 *
 * usage: bench-admit [counter memory in MiB, default 64]
 */
#define _GNU_SOURCE /* sched_setaffinity */
#include "base/clock.h"
#include "shm/counter.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS 5
#define KEYS 1000000u
#define HOT_CALLS 4000000u
#define COLD_CALLS 2000000u

static struct region the_region;
static volatile uint64_t *the_board; /* [0]: how many are ready; [1..2]: picoseconds per call */

struct workload {
    const char *name;
    unsigned keys, calls, windows;
    bool sliding;
};

static const struct counter_window WINDOWS[] = { { PERIOD_MINUTE, 1e12 }, { PERIOD_HOUR, 1e12 } };

static uint64_t cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* 49 bytes, as the plugin builds them: ids of route and service, and the identity. */
static void write_key(char key[49], uint32_t number)
{
    for (unsigned i = 0; i < 8; i++)
        key[41 + i] = "0123456789abcdef"[number >> (4 * i) & 15];
}

static void call_all(struct counter_table *t, const struct workload *w, unsigned seed)
{
    char key[49];
    const int64_t now_ms = clock_now_ms();
    struct counter_use use[COUNTER_WINDOWS_MAX];
    uint32_t random = seed;
    unsigned denied = 0;

    memcpy(key, "rl:4a1b7c9e-0d2f-4c55-9b1e-77aa01cd33ef:ip:xxxxxxxx", sizeof key);
    for (unsigned i = 0; i < w->calls; i++) {
        random = random * 1664525u + 1013904223u;
        write_key(key, (uint32_t)((uint64_t)random * w->keys >> 32));
        denied += !counter_admit(t, (struct str){ key, sizeof key }, WINDOWS, w->windows,
                                 w->sliding, 1, now_ms, use);
    }
    if (denied)
        fprintf(stderr, "denied %u times\n", denied);
}

static void fill(const struct workload *w)
{
    struct counter_table *t = counter_open(&the_region);
    char key[49];

    memcpy(key, "rl:4a1b7c9e-0d2f-4c55-9b1e-77aa01cd33ef:ip:xxxxxxxx", sizeof key);
    for (uint32_t i = 0; i < w->keys; i++) {
        write_key(key, i);
        counter_charge(t, (struct str){ key, sizeof key }, WINDOWS, w->windows, w->sliding, 1,
                       clock_now_ms());
    }
    counter_close(t);
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static void child(const struct workload *w, int number, int processes)
{
    struct counter_table *t = counter_open(&the_region);
    uint64_t start_us;

    pin(number);
    __atomic_fetch_add(&the_board[0], 1, __ATOMIC_SEQ_CST);
    while (the_board[0] < (uint64_t)processes)
        sched_yield();
    start_us = cpu_us();
    call_all(t, w, (unsigned)number * 77 + 1);
    the_board[1 + number] = (cpu_us() - start_us) * 1000000 / w->calls;
    _exit(0);
}

/* Picoseconds per call, of the mean process. */
static uint64_t run_once(const struct workload *w, int processes)
{
    uint64_t sum = 0;

    the_board[0] = 0;
    for (int i = 0; i < processes; i++)
        if (fork() == 0)
            child(w, i, processes);
    for (int i = 0; i < processes; i++)
        wait(NULL);
    for (int i = 0; i < processes; i++)
        sum += the_board[1 + i];
    return sum / (uint64_t)processes;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double median_ns(const struct workload *w, int processes)
{
    uint64_t all[RUNS];

    for (int i = 0; i < RUNS; i++)
        all[i] = run_once(w, processes);
    qsort(all, RUNS, sizeof all[0], by_size);
    return (double)all[RUNS / 2] / 1000;
}

static double region_kib(const char *name)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof path, "/dev/shm/weir-%s", name);
    return stat(path, &st) == 0 ? (double)st.st_blocks / 2 : 0;
}

static void measure(const struct workload *w, size_t bytes)
{
    char name[64];
    struct region_options o = { .name = name, .bytes = bytes, .mode = 0600 };
    struct counter_gauges gauges;
    struct counter_table *t;
    struct err e;
    double one_ns, two_ns, before_kib;

    o.uid = (uid_t)-1;
    o.gid = (gid_t)-1;
    snprintf(name, sizeof name, "bench-%d", (int)getpid());
    if (region_open(&the_region, &o, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    before_kib = region_kib(name);
    fill(w);
    t = counter_open(&the_region);
    gauges = counter_get_gauges(t);
    counter_close(t);
    one_ns = median_ns(w, 1);
    two_ns = median_ns(w, 2);
    printf("%-30s %8.0f %8.0f", w->name, one_ns, two_ns);
    if (w->keys > 1)
        printf(" %14.1f %8.2f%%", (region_kib(name) - before_kib) * 1024 / w->keys / w->windows,
               100.0 * (double)gauges.evicted / w->keys / w->windows);
    printf("\n");
    fflush(stdout);
    region_close(&the_region);
    if (region_unlink(name, NULL, &e))
        fprintf(stderr, "%s\n", e.text);
}

int main(int argc, char **argv)
{
    static const struct workload LOADS[] = {
        { "hot key, 1 window", 1, HOT_CALLS, 1, false },
        { "hot key, 2 windows", 1, HOT_CALLS, 2, false },
        { "hot key, 2 windows, sliding", 1, HOT_CALLS, 2, true },
        { "1,000,000 keys, 1 window", KEYS, COLD_CALLS, 1, false },
        { "500,000 keys, 2 windows", KEYS / 2, COLD_CALLS, 2, false },
    };
    size_t mib = argc > 1 ? (size_t)atoi(argv[1]) : 64;

    the_board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("CPU ns per admit, median of %d, identity of 49 bytes, counter_memory %zu MiB\n", RUNS,
           mib);
    printf("%-30s %8s %8s %14s %9s\n", "", "1 proc", "2, each", "bytes/window", "evicted");
    for (size_t i = 0; i < ARRAY_LEN(LOADS); i++)
        measure(&LOADS[i], mib << 20);
    return 0;
}
