/*
 * See watch.h. A watch is a list of points: a directory and the name in it that
 * the way goes through, and the file at the end. They are made by walking the
 * path as the kernel does, link by link; each point is there before what it
 * leads to is looked at, so that nothing changes in between unseen.
 */
#include "ev/watch.h"
#include "base/mem.h"
#include "ev/loop.h"
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40
#define EVENTS_BYTES 16384

#define DIRECTORY_MASK                                                                             \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF |         \
     IN_ONLYDIR)
#define FILE_MASK (IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW)

/* What makes everything doubtful that was known of a directory. */
#define LOST_MASK (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)

struct watch_point {
    int wd;
    char *name; /* in the directory; NULL: it is a file */
};

struct watches {
    TAILQ_HEAD(watch_list, watch) list;
    struct event *event;
    int fd;
};

/* A path on its way to a file. */
struct walk {
    char at[PATH_MAX];   /* where it has come to, without links; "" is the root */
    char todo[PATH_MAX]; /* what is left */
    int links;
};

/* ---- points ---- */

static bool has_point(const struct watch *w, int wd)
{
    for (size_t i = 0; i < w->points_n; i++)
        if (w->points[i].wd == wd)
            return true;
    return false;
}

static bool is_used(const struct watches *all, int wd)
{
    const struct watch *w;

    TAILQ_FOREACH (w, &all->list, link)
        if (has_point(w, wd))
            return true;
    return false;
}

static void drop_points(struct watches *all, struct watch_point *points, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(points[i].name);
        if (!is_used(all, points[i].wd))
            inotify_rm_watch(all->fd, points[i].wd); /* fails for what is gone */
    }
    free(points);
}

static int add_point(struct watch *w, const char *path, const char *name, struct err *e)
{
    int wd = inotify_add_watch(w->all->fd, *path ? path : "/", name ? DIRECTORY_MASK : FILE_MASK);

    if (wd == -1 && (errno == ENOSPC || errno == ENOMEM))
        return err_set_errno(e, "cannot watch %s", path);
    if (wd == -1) /* not readable, or gone again: then its parent tells */
        return 0;
    if (w->points_n == w->points_cap) {
        w->points_cap = w->points_cap ? w->points_cap * 2 : 8;
        w->points = xrealloc(w->points, w->points_cap * sizeof *w->points);
    }
    w->points[w->points_n++] = (struct watch_point){ wd, name ? xstrdup(name) : NULL };
    return 0;
}

/* ---- the way ---- */

/* Cuts the first name off w->todo; false at the end. */
static bool next_name(struct walk *walk, char *name)
{
    size_t skip = strspn(walk->todo, "/"), n = strcspn(walk->todo + skip, "/");

    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, walk->todo + skip, n);
    name[n] = '\0';
    memmove(walk->todo, walk->todo + skip + n, strlen(walk->todo + skip + n) + 1);
    return true;
}

static void go_up(struct walk *walk)
{
    char *slash = strrchr(walk->at, '/');

    if (slash)
        *slash = '\0';
}

static bool go_down(struct walk *walk, const char *name)
{
    size_t n = strlen(walk->at), more = strlen(name);

    if (n + 1 + more >= sizeof walk->at)
        return false;
    walk->at[n] = '/';
    memcpy(walk->at + n + 1, name, more + 1);
    return true;
}

/* walk->at is a link: goes on with what it says. */
static bool follow(struct walk *walk)
{
    char to[PATH_MAX];
    ssize_t n = readlink(walk->at, to, sizeof to - 1);
    size_t rest = strlen(walk->todo);

    if (n <= 0 || ++walk->links > LINKS_MAX || (size_t)n + rest >= sizeof to)
        return false;
    memcpy(to + n, walk->todo, rest + 1);
    memcpy(walk->todo, to, (size_t)n + rest + 1);
    if (*to == '/')
        walk->at[0] = '\0';
    else
        go_up(walk);
    return true;
}

/* One name further: 1, or 0 where the way ends. */
static int step(struct watch *w, struct walk *walk, const char *name, struct err *e)
{
    struct stat st;
    int rc;

    if (strcmp(name, ".") == 0)
        return 1;
    if (strcmp(name, "..") == 0) {
        go_up(walk);
        return 1;
    }
    rc = add_point(w, walk->at, name, e);
    if (rc < 0)
        return rc;
    if (!go_down(walk, name) || lstat(walk->at, &st) == -1)
        return 0;
    if (S_ISLNK(st.st_mode))
        return follow(walk);
    if (S_ISDIR(st.st_mode))
        return 1;
    rc = add_point(w, walk->at, NULL, e);
    return rc < 0 ? rc : 0;
}

static int walk_path(struct watch *w, struct err *e)
{
    struct walk walk = { .at = "" };
    char name[NAME_MAX + 1];
    int rc = 1;

    memcpy(walk.todo, w->path, strlen(w->path) + 1);
    while (rc > 0 && next_name(&walk, name))
        rc = step(w, &walk, name, e);
    return rc < 0 ? rc : 0;
}

/* ---- what happens ---- */

static bool concerns(const struct watch *w, const struct inotify_event *event)
{
    for (size_t i = 0; i < w->points_n; i++) {
        const struct watch_point *p = &w->points[i];

        if (p->wd != event->wd)
            continue;
        if (!p->name || event->mask & LOST_MASK)
            return true;
        if (event->len && strcmp(p->name, event->name) == 0)
            return true;
    }
    return false;
}

/* Who is called may stop watches: one at a time, from the beginning. */
static struct watch *find_concerned(struct watches *all, const struct inotify_event *event)
{
    struct watch *w;

    TAILQ_FOREACH (w, &all->list, link)
        if (w->is_armed && (event->mask & IN_Q_OVERFLOW || concerns(w, event)))
            return w;
    return NULL;
}

static void on_event(struct watches *all, const struct inotify_event *event)
{
    struct watch *w;

    while ((w = find_concerned(all, event))) {
        w->is_armed = false;
        w->on_change(w);
    }
}

static void on_readable(int fd, short what, void *arg)
{
    char bytes[EVENTS_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(fd, bytes, sizeof bytes);

    (void)what;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

        on_event(arg, event);
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* ---- outside ---- */

int watches_new(struct watches **out, struct loop *loop, struct err *e)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct watches *all;

    if (fd == -1)
        return err_set_errno(e, "cannot watch files");
    all = xcalloc(1, sizeof *all);
    TAILQ_INIT(&all->list);
    all->fd = fd;
    all->event = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, all);
    must(all->event && event_add(all->event, NULL) == 0);
    *out = all;
    return 0;
}

void watches_free(struct watches *all)
{
    if (!all)
        return;
    while (!TAILQ_EMPTY(&all->list))
        watch_stop(TAILQ_FIRST(&all->list));
    event_free(all->event);
    close(all->fd);
    free(all);
}

int watch_start(struct watches *all, struct watch *w, const char *path, struct err *e)
{
    if (*path != '/' || strlen(path) >= PATH_MAX)
        return err_set(e, ERR_SYNTAX, "not an absolute path of less than %d bytes", PATH_MAX);
    w->all = all;
    w->path = xstrdup(path);
    TAILQ_INSERT_TAIL(&all->list, w, link);
    return watch_again(w, e);
}

int watch_again(struct watch *w, struct err *e)
{
    struct watch_point *before = w->points;
    size_t n = w->points_n;
    int rc;

    w->points = NULL;
    w->points_n = w->points_cap = 0;
    rc = walk_path(w, e);
    drop_points(w->all, before, n); /* only now: what stays was watched all the time */
    w->is_armed = rc == 0;
    if (rc < 0)
        watch_stop(w);
    return rc;
}

void watch_stop(struct watch *w)
{
    struct watches *all = w->all;

    if (!all)
        return;
    TAILQ_REMOVE(&all->list, w, link);
    w->all = NULL;
    drop_points(all, w->points, w->points_n);
    w->points = NULL;
    w->points_n = w->points_cap = 0;
    free(w->path);
    w->path = NULL;
    w->is_armed = false;
}
