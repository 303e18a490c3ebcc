/*
 * See keepsake.h. Records stand behind each other, the oldest first, without
 * gaps: what is taken out is moved over and wiped. The lock survives its holder,
 * who may have left the records half moved: then all are forgotten.
 */
#define _GNU_SOURCE /* memfd_create, explicit_bzero */
#include "shm/keepsake.h"
#include "base/mem.h"
#include "shm/lock.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES ((size_t)4 << 20)
#define ALIGN 16
#define LAYOUT UINT64_C(0x7765697273656302) /* "weirsec" and a version: another for each change */

struct record {
    unsigned char key[KEEPSAKE_KEY_BYTES];
    struct keepsake_mark mark;
    uint64_t n; /* bytes of the value, which follows */
};

struct area {
    uint64_t layout; /* stands here in every version */
    uint64_t lock;
    uint64_t used; /* bytes of records */
    char records[] __attribute__((aligned(ALIGN)));
};

#define ROOM (BYTES - sizeof(struct area))

struct keepsake {
    int fd;
    struct area *area;
};

/* ---- the memory ---- */

static bool is_ours(int fd)
{
    uint64_t layout;

    return lseek(fd, 0, SEEK_END) == (off_t)BYTES &&
           pread(fd, &layout, sizeof layout, 0) == sizeof layout && layout == LAYOUT;
}

static int get_memory(int *fd, struct err *e)
{
    const uint64_t layout = LAYOUT;

    if (*fd != -1 && is_ours(*fd))
        return 0;
    if (*fd != -1)
        close(*fd);
    *fd = memfd_create("weir-secrets", MFD_CLOEXEC);
    if (*fd != -1 && ftruncate(*fd, (off_t)BYTES) == 0 &&
        pwrite(*fd, &layout, sizeof layout, 0) == sizeof layout)
        return 0;
    return err_set_errno(e, "cannot make memory for secrets");
}

struct keepsake *keepsake_open(int fd, struct err *e)
{
    struct keepsake *k;
    void *p;

    if (get_memory(&fd, e) < 0)
        return NULL;
    p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        err_set_errno(e, "cannot map memory for secrets");
        close(fd);
        return NULL;
    }
    (void)madvise(p, BYTES, MADV_DONTDUMP);
    k = xmalloc(sizeof *k);
    *k = (struct keepsake){ fd, p };
    return k;
}

void keepsake_close(struct keepsake *k)
{
    if (!k)
        return;
    munmap(k->area, BYTES);
    close(k->fd);
    free(k);
}

int keepsake_fd(const struct keepsake *k)
{
    return k->fd;
}

/* ---- records ---- */

static size_t size_of(uint64_t n)
{
    return (sizeof(struct record) + (size_t)n + ALIGN - 1) / ALIGN * ALIGN;
}

static struct record *record_at(struct area *a, uint64_t at)
{
    return (struct record *)(void *)(a->records + at);
}

static bool is_whole(struct area *a)
{
    uint64_t at = 0;

    if (a->used > ROOM)
        return false;
    while (at + sizeof(struct record) <= a->used && record_at(a, at)->n <= KEEPSAKE_VALUE_MAX)
        at += size_of(record_at(a, at)->n);
    return at == a->used;
}

static void take(struct keepsake *k)
{
    struct area *a = k->area;

    if (lock_take(&a->lock) || !is_whole(a)) {
        explicit_bzero(a->records, ROOM);
        a->used = 0;
    }
}

static void give(struct keepsake *k)
{
    lock_give(&k->area->lock);
}

/* Where the record of a key is; a->used if there is none. */
static uint64_t find(struct area *a, const unsigned char *key)
{
    uint64_t at = 0;

    while (at < a->used && memcmp(record_at(a, at)->key, key, KEEPSAKE_KEY_BYTES) != 0)
        at += size_of(record_at(a, at)->n);
    return at;
}

static void take_out(struct area *a, uint64_t at)
{
    size_t size;

    if (at >= a->used)
        return;
    size = size_of(record_at(a, at)->n);
    memmove(a->records + at, a->records + at + size, (size_t)(a->used - at) - size);
    a->used -= size;
    explicit_bzero(a->records + a->used, size);
}

void keepsake_put(struct keepsake *k, const unsigned char *key, struct str value,
                  const struct keepsake_mark *mark)
{
    struct area *a = k->area;
    struct record *r;
    size_t size = size_of(value.n);

    if (value.n > KEEPSAKE_VALUE_MAX)
        return;
    take(k);
    take_out(a, find(a, key));
    while (a->used + size > ROOM)
        take_out(a, 0);
    r = (struct record *)(void *)(a->records + a->used);
    memcpy(r->key, key, KEEPSAKE_KEY_BYTES);
    r->mark = *mark;
    r->n = value.n;
    memcpy(r + 1, value.p, value.n);
    a->used += size;
    give(k);
}

void keepsake_forget(struct keepsake *k, const unsigned char *key)
{
    take(k);
    take_out(k->area, find(k->area, key));
    give(k);
}

bool keepsake_get(struct keepsake *k, const unsigned char *key, struct buf *out,
                  struct keepsake_mark *mark)
{
    struct area *a = k->area;
    bool found = false;
    uint64_t at;

    take(k);
    at = find(a, key);
    if (at < a->used) {
        const struct record *r = record_at(a, at);

        found = buf_add(out, r + 1, (size_t)r->n) == 0;
        *mark = r->mark;
    }
    give(k);
    return found;
}
