/*
 * Files that others change: says when a path may lead to another file, or the
 * file may hold something else. By inotify, on every directory and symbolic
 * link on the way there, so that a link that is exchanged (as Kubernetes does)
 * is seen like a file that is written. Content counts when it is closed, not
 * while it is written. What lies on network file systems is changed unseen.
 */
#ifndef WEIR_EV_WATCH_H
#define WEIR_EV_WATCH_H

#include "base/err.h"
#include "base/weir.h"
#include <sys/queue.h>

struct loop;
struct watches;

/* Embedded in whoever wants to know. Zero it first. */
struct watch {
    TAILQ_ENTRY(watch) link;
    struct watches *all; /* NULL: watches nothing */
    char *path;
    struct watch_point *points; /* what is looked at for it */
    size_t points_n, points_cap;
    bool is_armed;
    /* Called once, then not until watch_again, which comes later than from within; may stop any. */
    void (*on_change)(struct watch *w);
};

/* Fails where the system gives no inotify (to this user any longer). */
int watches_new(struct watches **out, struct loop *loop, struct err *e) MUST_CHECK;
/* Stops all. NULL is fine. */
void watches_free(struct watches *all);

/* path: absolute, copied; what it leads to need not exist. On failure nothing is watched. */
int watch_start(struct watches *all, struct watch *w, const char *path, struct err *e) MUST_CHECK;

/*
 * After a change: looks at the way to the file as it is now. What changes from here on is told, so
 * the file is read after this. On failure the watch is stopped.
 */
int watch_again(struct watch *w, struct err *e) MUST_CHECK;

void watch_stop(struct watch *w);

#endif
