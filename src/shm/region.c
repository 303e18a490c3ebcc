/*
 * See region.h. Whoever holds flock on the descriptor, and finds the name still
 * leading to it, may make or judge the region; the magic is written last, so
 * that the death of a maker leaves something that the next one makes again.
 * Refuses files that are not weir's, and what belongs to somebody else.
 */
#include "shm/region.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x31206e6967657277) /* "wregin 1" */
#define LAYOUT_VERSION 1                   /* of everything inside: raise it with each change */
#define ATTEMPTS 100                       /* at a name that others replace meanwhile */
#define PATH_BYTES 4096

struct region_header {
    uint64_t magic;
    uint64_t layout;
    uint64_t bytes;
    struct siphash_key key;
    int64_t created_ms;
};

_Static_assert(sizeof(struct region_header) <= REGION_HEADER_BYTES, "the header fits");

/* What a locked descriptor holds, and what region_open does about it. */
enum verdict {
    FITS,
    EMPTY,   /* or half made: make it */
    DIFFERS, /* ours, of another version or size: replace it */
    FOREIGN, /* not ours: refuse */
    GONE,    /* the name leads elsewhere by now: again */
    FAILED,
};

struct opening {
    const struct region_options *o;
    struct err *e;
    char path[PATH_BYTES]; /* of the file, or the shared memory's name */
    size_t bytes;
    int fd;
};

static bool name_is_good(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n <= REGION_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int make_path(char *path, const char *name, const char *file, struct err *e)
{
    int n;

    if (!file && !name_is_good(name))
        return err_set(e, ERR_CONFIG,
                       "shared memory: the name \"%s\" must be 1 to %d letters, digits, "
                       "'.', '_' or '-'",
                       name, REGION_NAME_MAX);
    n = file ? snprintf(path, PATH_BYTES, "%s", file)
             : snprintf(path, PATH_BYTES, "/weir-%s", name);
    if (n < 0 || n >= PATH_BYTES)
        return err_set(e, ERR_CONFIG, "shared memory: the path is too long");
    return 0;
}

static int open_path(const struct opening *x, int flags)
{
    flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    return x->o->file ? open(x->path, flags, 0600) : shm_open(x->path, flags, 0600);
}

/*
 * Opens, or creates, without O_CREAT on what exists: in a sticky directory
 * such as /dev/shm the kernel denies that even to root (fs.protected_regular).
 */
static int open_or_create(struct opening *x)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        x->fd = open_path(x, 0);
        if (x->fd == -1 && errno == ENOENT)
            x->fd = open_path(x, O_CREAT | O_EXCL);
        if (x->fd != -1)
            return 0;
        if (errno != EEXIST && errno != ENOENT)
            break;
    }
    return err_set_errno(x->e, "shared memory: cannot open %s", x->path);
}

static int lock_fd(const struct opening *x)
{
    while (flock(x->fd, LOCK_EX) == -1)
        if (errno != EINTR)
            return err_set_errno(x->e, "shared memory: cannot lock %s", x->path);
    return 0;
}

static bool still_named(const struct opening *x, const struct stat *st)
{
    int fd = open_path(x, 0);
    struct stat now;
    bool same;

    if (fd == -1)
        return false;
    same = fstat(fd, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
    close(fd);
    return same;
}

static enum verdict judge_header(const struct opening *x, const struct stat *st)
{
    struct region_header h = { 0 };
    ssize_t n;

    if (st->st_size == 0)
        return EMPTY;
    n = pread(x->fd, &h, sizeof h, 0);
    if (n == (ssize_t)sizeof h && h.magic == 0)
        return EMPTY;
    if (n != (ssize_t)sizeof h || h.magic != MAGIC) {
        err_set(x->e, ERR_CONFIG, "shared memory: %s is there and is not weir's", x->path);
        return FOREIGN;
    }
    if (h.layout != LAYOUT_VERSION || h.bytes != x->bytes || (size_t)st->st_size != x->bytes)
        return DIFFERS;
    return FITS;
}

static enum verdict judge(const struct opening *x)
{
    struct stat st;

    if (fstat(x->fd, &st) == -1) {
        err_set_errno(x->e, "shared memory: cannot examine %s", x->path);
        return FAILED;
    }
    if (!S_ISREG(st.st_mode) ||
        (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != x->o->uid)) {
        err_set(x->e, ERR_CONFIG, "shared memory: %s belongs to somebody else (uid %u)", x->path,
                (unsigned)st.st_uid);
        return FOREIGN;
    }
    if (!still_named(x, &st))
        return GONE;
    return judge_header(x, &st);
}

/* Pages that come when they are first used may find no room then, and there is only SIGBUS. */
static int reserve(const struct opening *x)
{
    int error;

    if (ftruncate(x->fd, 0) == -1)
        return err_set_errno(x->e, "shared memory: cannot size %s", x->path);
    do
        error = posix_fallocate(x->fd, 0, (off_t)x->bytes);
    while (error == EINTR);
    if (error == 0)
        return 0;
    (void)!ftruncate(x->fd, 0); /* what there was room for */
    return err_set(x->e, ERR_CONFIG,
                   "shared memory: cannot reserve %zu KiB for %s: %s; make counter_memory smaller, "
                   "or room in its file system",
                   x->bytes >> 10, x->path, strerror(error));
}

static int fill_header(const struct opening *x)
{
    struct region_header h = { .layout = LAYOUT_VERSION, .bytes = x->bytes };
    const uint64_t magic = MAGIC;

    h.created_ms = clock_now_ms();
    if (getrandom(&h.key, sizeof h.key, 0) != (ssize_t)sizeof h.key)
        return err_set_errno(x->e, "shared memory: no random bytes");
    if (pwrite(x->fd, &h, sizeof h, 0) != (ssize_t)sizeof h ||
        pwrite(x->fd, &magic, sizeof magic, 0) != (ssize_t)sizeof magic)
        return err_set_errno(x->e, "shared memory: cannot write %s", x->path);
    return 0;
}

static int make(const struct opening *x)
{
    const struct region_options *o = x->o;
    int rc = reserve(x);

    if (rc)
        return rc;
    if ((o->uid != (uid_t)-1 || o->gid != (gid_t)-1) && fchown(x->fd, o->uid, o->gid) == -1)
        return err_set_errno(x->e, "shared memory: cannot give %s to its user", x->path);
    if (fchmod(x->fd, o->mode) == -1)
        return err_set_errno(x->e, "shared memory: cannot set the mode of %s", x->path);
    return fill_header(x);
}

static int map(struct region *r, const struct opening *x)
{
    const struct region_header *h;
    void *p = mmap(NULL, x->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);

    if (p == MAP_FAILED)
        return err_set_errno(x->e, "shared memory: cannot map %s", x->path);
    h = p;
    r->base = p;
    r->bytes = x->bytes;
    r->key = h->key;
    r->created_ms = h->created_ms;
    return 0;
}

/* 1: done; 0: again; below: failed. */
static int settle(struct region *r, const struct opening *x)
{
    int rc = 0;

    switch (judge(x)) {
    case FITS:
        rc = map(r, x);
        return rc ? rc : 1;
    case EMPTY:
        rc = make(x);
        if (!rc)
            rc = map(r, x);
        if (!rc && r->how == REGION_FOUND)
            r->how = REGION_CREATED;
        return rc ? rc : 1;
    case DIFFERS:
        r->how = REGION_REPLACED;
        return region_unlink(x->o->name, x->o->file, x->e);
    case GONE:
        return 0;
    case FOREIGN:
        return ERR_CONFIG;
    case FAILED:
        break;
    }
    return ERR_SYSTEM;
}

static int try_open(struct region *r, struct opening *x)
{
    int rc = open_or_create(x);

    if (rc)
        return rc;
    rc = lock_fd(x);
    if (rc == 0)
        rc = settle(r, x);
    flock(x->fd, LOCK_UN); /* close does not: the mapping keeps the open file */
    close(x->fd);
    return rc;
}

int region_open(struct region *r, const struct region_options *o, struct err *e)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct opening x = { .o = o, .e = e, .fd = -1 };
    int rc;

    *r = (struct region){ .how = REGION_FOUND };
    if (o->bytes < REGION_MIN_BYTES || o->bytes > SIZE_MAX / 4)
        return err_set(e, ERR_CONFIG, "shared memory: counter_memory must be at least %dk",
                       REGION_MIN_BYTES >> 10);
    x.bytes = (o->bytes + page - 1) / page * page;
    rc = make_path(x.path, o->name, o->file, e);
    if (rc)
        return rc;
    for (int i = 0; i < ATTEMPTS; i++) {
        rc = try_open(r, &x);
        if (rc)
            return rc > 0 ? 0 : rc;
    }
    return err_set(e, ERR_SYSTEM, "shared memory: others keep replacing %s", x.path);
}

void region_close(struct region *r)
{
    if (r->base)
        munmap(r->base, r->bytes);
    r->base = NULL;
}

int region_unlink(const char *name, const char *file, struct err *e)
{
    char path[PATH_BYTES];
    int rc = make_path(path, name, file, e);

    if (rc)
        return rc;
    rc = file ? unlink(path) : shm_unlink(path);
    if (rc == -1 && errno != ENOENT)
        return err_set_errno(e, "shared memory: cannot remove %s", path);
    return 0;
}
