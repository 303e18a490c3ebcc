/*
 * A secret that a spec looks for in the memory of its own process.
 */
#ifndef WEIR_SPEC_NEEDLE_H
#define WEIR_SPEC_NEEDLE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECRET_BYTES 40
#define MASK 0x5a

/* The secret, masked: else a search would find itself. */
static char the_needle[SECRET_BYTES];

static inline void put_secret(char *out)
{
    for (int i = 0; i < SECRET_BYTES; i++)
        out[i] = (char)(the_needle[i] ^ MASK);
}

static inline bool holds_secret(const char *p)
{
    for (int i = 0; i < SECRET_BYTES; i++)
        if ((char)(p[i] ^ MASK) != the_needle[i])
            return false;
    return true;
}

/* How often it lies in what this process may write to. */
__attribute__((no_sanitize("address"))) static inline unsigned count_in_memory(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    static char page[2 * 4096];
    unsigned long from, to;
    unsigned count = 0;
    char line[512], access[8];

    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s", &from, &to, access) != 3 || access[1] != 'w' ||
            to - from > (1UL << 30))
            continue;
        memset(page, 0, sizeof page);
        for (unsigned long at = from; at < to; at += 4096) {
            /* the page before it stays in front: it may lie across */
            memcpy(page, page + 4096, 4096);
            if (pread(mem, page + 4096, 4096, (off_t)at) != 4096)
                break;
            if (at <= (unsigned long)page && (unsigned long)page < at + 3 * 4096)
                continue;
            for (int i = 4096 - SECRET_BYTES + 1; i <= 2 * 4096 - SECRET_BYTES; i++)
                count += page[i] == (char)(the_needle[0] ^ MASK) && holds_secret(page + i);
        }
    }
    close(mem);
    fclose(maps);
    return count;
}

static inline void make_needle(void)
{
    for (int i = 0; i < SECRET_BYTES; i++)
        the_needle[i] = (char)(('a' + (i * 7 + i / 9) % 26) ^ MASK);
}

#endif
