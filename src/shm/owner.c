/*
 * See owner.h. The birth is a hash of the start time in /proc/<pid>/stat and of
 * the kernel's boot id; 0 where /proc cannot be read, and then only the pid
 * speaks.
 */
#include "shm/owner.h"
#include "shm/siphash.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PID_BITS 22 /* Linux: PID_MAX_LIMIT is 4194304 */
#define PID_MASK ((UINT64_C(1) << PID_BITS) - 1)

static uint64_t the_self; /* 0: not known yet in this process */

static void forget_self(void)
{
    the_self = 0;
}

/* The file's beginning as text; -1 when it cannot be read. */
static ssize_t read_text(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd == -1)
        return -1;
    do
        n = read(fd, out, cap - 1);
    while (n == -1 && errno == EINTR);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n;
}

/*
 * state and start time (fields 3 and 22) of /proc/<pid>/stat. The name, field
 * 2, may hold anything: the fields are counted from its last parenthesis.
 */
static int read_stat(pid_t pid, char *state, uint64_t *start)
{
    char path[64], text[1024];
    char *p;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_text(path, text, sizeof text) <= 0)
        return -1;
    p = strrchr(text, ')');
    if (!p || p[1] != ' ' || !p[2])
        return -1;
    p += 2;
    *state = *p;
    for (int field = 3; field < 22; field++) {
        p = strchr(p, ' ');
        if (!p)
            return -1;
        p++;
    }
    *start = strtoull(p, NULL, 10);
    return 0;
}

static uint64_t birth_of(uint64_t start)
{
    static char boot[64];
    struct siphash_sum sum;

    if (!boot[0] && read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot) <= 0)
        return 0;
    sum = siphash_1_3_128((struct siphash_key){ start, 0 }, str_from(boot));
    return (sum.h0 >> PID_BITS) | 1;
}

uint64_t owner_self(void)
{
    static bool watching_forks;
    uint64_t start, birth = 0;
    char state;

    if (LIKELY(the_self))
        return the_self;
    if (!watching_forks)
        must(pthread_atfork(NULL, NULL, forget_self) == 0);
    watching_forks = true;
    if (read_stat(getpid(), &state, &start) == 0)
        birth = birth_of(start);
    the_self = birth << PID_BITS | (uint64_t)getpid();
    return the_self;
}

pid_t owner_pid(uint64_t owner)
{
    return (pid_t)(owner & PID_MASK);
}

bool owner_is_dead(uint64_t owner)
{
    uint64_t start, birth, claimed = owner >> PID_BITS;
    char state;

    if (owner_pid(owner) == 0 || (kill(owner_pid(owner), 0) == -1 && errno == ESRCH))
        return true;
    if (read_stat(owner_pid(owner), &state, &start) != 0)
        return false;
    if (state == 'Z' || state == 'X')
        return true;
    birth = birth_of(start);
    return birth && claimed && birth != claimed;
}
