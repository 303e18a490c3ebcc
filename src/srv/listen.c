/*
 * See listen.h. A unix socket is bound under a temporary name, made to listen
 * and then renamed over the old one: there is no moment without a listener,
 * and what a killed process left is simply replaced. What another process that
 * lives listens on is left alone.
 */
#define _GNU_SOURCE /* memrchr, struct ucred */
#include "srv/listen.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf/address.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LISTENERS_MAX 256
/* Processes that were killed a moment ago let go. */
#define BUSY_TRIES 10
static const struct timespec BUSY_PAUSE = { 0, 100000000 };

/* What each listener of one configuration needs. */
struct plan {
    const struct conf *conf;
    struct identity owner; /* of unix sockets */
};

static const char *unix_path(const char *spec)
{
    return strncmp(spec, "unix:", 5) == 0 ? spec + 5 : NULL;
}

static int set_owner(const char *path, const struct plan *plan, struct err *e)
{
    if (chmod(path, (mode_t)plan->conf->fastcgi_socket_mode) == -1)
        return err_set_errno(e, "chmod");
    if (plan->owner.set && chown(path, plan->owner.uid, plan->owner.gid) == -1)
        return err_set_errno(e, "cannot give it to the user %s", plan->owner.name);
    return 0;
}

static void note_inode(struct listener *l)
{
    const char *path = unix_path(l->spec);
    struct stat st;

    if (path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
}

/* One that is dead and not waited for yet has no program any more. */
static bool is_alive(pid_t pid)
{
    char path[40], program[1];

    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    return pid > 0 && (readlink(path, program, sizeof program) != -1 || errno != ENOENT);
}

/*
 * The process that listens on a name, 0 if none does. It is the one that called listen(): workers
 * of a master that was killed may hold its socket for a while, and are in nobody's way.
 */
static pid_t listener_of(const struct sockaddr_un *name)
{
    struct ucred peer = { 0 };
    socklen_t n = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return 0;
    if (connect(fd, (const struct sockaddr *)name, sizeof *name) == -1 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == -1)
        peer.pid = 0;
    close(fd);
    return peer.pid;
}

/* Refuses to replace what is not a socket, or is another's. */
static int check_place(const struct sockaddr_un *name, struct err *e)
{
    const char *path = name->sun_path;
    struct stat st;
    pid_t pid;

    if (lstat(path, &st) == -1)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_CONFIG, "%s exists and is no socket: remove it", path);
    pid = listener_of(name);
    if (pid == getpid())
        return 0;
    for (int tries = 0; is_alive(pid) && tries < BUSY_TRIES; tries++)
        nanosleep(&BUSY_PAUSE, NULL);
    if (!is_alive(pid))
        return 0;
    return err_set(e, ERR_CONFIG, "the process %d listens on %s: stop it, or choose another path",
                   (int)pid, path);
}

static int bind_unix(int fd, const struct address *a, const struct plan *plan, struct err *e)
{
    const char *path = ((const struct sockaddr_un *)&a->sa)->sun_path;
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    const char *slash = strrchr(path, '/');
    struct err reason;
    int rc;

    if (check_place((const struct sockaddr_un *)&a->sa, e) != 0)
        return ERR_CONFIG;
    /* address_parse has seen to it that this fits */
    snprintf(sa.sun_path, sizeof sa.sun_path, "%.*s/.weir.%d", (int)(slash - path), path,
             (int)getpid());
    unlink(sa.sun_path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) == -1)
        return err_set_errno(e, "cannot bind in the directory of %s", path);
    rc = set_owner(sa.sun_path, plan, &reason);
    if (rc == 0 && listen(fd, (int)plan->conf->fastcgi_backlog) == -1)
        rc = err_set_errno(&reason, "cannot listen");
    if (rc == 0 && rename(sa.sun_path, path) == -1)
        rc = err_set_errno(&reason, "cannot rename %s", sa.sun_path);
    if (rc != 0) {
        unlink(sa.sun_path);
        return err_set(e, rc, "%s: %s", path, reason.text);
    }
    return 0;
}

static int bind_tcp(int fd, const struct address *a, const char *spec, const struct plan *plan,
                    struct err *e)
{
    int on = 1, rc;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    for (int tries = 0;; tries++) {
        rc = bind(fd, (const struct sockaddr *)&a->sa, a->sa_bytes);
        if (rc == 0)
            rc = listen(fd, (int)plan->conf->fastcgi_backlog);
        if (rc == 0)
            return 0;
        if (errno != EADDRINUSE || tries == BUSY_TRIES)
            return err_set_errno(e, "cannot listen on %s", spec);
        nanosleep(&BUSY_PAUSE, NULL);
    }
}

static int open_new(struct listener *l, const struct address *a, const struct plan *plan,
                    struct err *e)
{
    int rc;

    l->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd == -1)
        return err_set_errno(e, "cannot make a socket for %s", l->spec);
    if (a->sa.ss_family == AF_UNIX)
        rc = bind_unix(l->fd, a, plan, e);
    else
        rc = bind_tcp(l->fd, a, l->spec, plan, e);
    if (rc == 0) {
        note_inode(l);
        return 0;
    }
    close(l->fd);
    l->fd = -1;
    return rc;
}

static const struct listener *find(const struct listeners *set, const char *spec)
{
    for (size_t i = 0; set && i < set->n; i++)
        if (strcmp(set->items[i].spec, spec) == 0)
            return &set->items[i];
    return NULL;
}

/* The name may be gone, or another's: then the old socket is of no use. */
static bool still_named(const struct listener *l)
{
    const char *path = unix_path(l->spec);
    struct stat st;

    return !path || (lstat(path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino);
}

static int open_one(struct listener *l, const char *spec, const struct listeners *old,
                    const struct plan *plan, struct err *e)
{
    const struct listener *kept = find(old, spec);
    struct address address;
    int rc = address_parse(spec, &address, e);

    if (rc != 0)
        return rc;
    if (address.is_stdin)
        return err_set(e, ERR_CONFIG,
                       "stdin is no listening socket: it is one when a web server spawns weir");
    *l = (struct listener){ .spec = xstrdup(spec), .fd = -1 };
    if (!kept || !still_named(kept)) {
        rc = open_new(l, &address, plan, e);
    } else {
        l->fd = kept->fd;
        l->dev = kept->dev;
        l->ino = kept->ino;
        /* mode, owner and backlog may have changed */
        rc = unix_path(spec) ? set_owner(unix_path(spec), plan, e) : 0;
        if (rc == 0 && listen(l->fd, (int)plan->conf->fastcgi_backlog) == -1)
            rc = err_set_errno(e, "cannot listen on %s", spec);
    }
    if (rc != 0)
        free(l->spec);
    return rc;
}

int listeners_open(struct listeners *out, const struct listeners *old, const struct conf *conf,
                   const struct identity *workers, struct err *e)
{
    const struct conf_list *specs = &conf->fastcgi_listen;
    struct plan plan = { .conf = conf, .owner = *workers };
    struct err reason;
    int rc = 0;

    *out = (struct listeners){ 0 };
    if (specs->n > LISTENERS_MAX)
        return conf_refuse(conf, CONF_KEY_fastcgi_listen, e, "more than %d", LISTENERS_MAX);
    if (*conf->fastcgi_socket_owner &&
        identity_from(conf->fastcgi_socket_owner, &plan.owner, &reason) != 0)
        return conf_refuse(conf, CONF_KEY_fastcgi_socket_owner, e, "%s", reason.text);
    out->items = xcalloc(specs->n, sizeof *out->items);
    for (size_t i = 0; rc == 0 && i < specs->n; i++) {
        rc = open_one(&out->items[i], specs->items[i], old, &plan, &reason);
        out->n += rc == 0;
    }
    if (rc == 0)
        return 0;
    listeners_drop(out, old, true);
    return conf_refuse(conf, CONF_KEY_fastcgi_listen, e, "%s", reason.text);
}

static bool shares(const struct listeners *set, int fd)
{
    for (size_t i = 0; set && i < set->n; i++)
        if (set->items[i].fd == fd)
            return true;
    return false;
}

void listeners_drop(struct listeners *set, const struct listeners *kept, bool unlink_names)
{
    for (size_t i = 0; i < set->n; i++) {
        struct listener *l = &set->items[i];

        if (!shares(kept, l->fd)) {
            if (unlink_names && unix_path(l->spec) && still_named(l))
                unlink(unix_path(l->spec));
            close(l->fd);
        }
        free(l->spec);
    }
    free(set->items);
    *set = (struct listeners){ 0 };
}

void listeners_forget(struct listeners *set, const struct listeners *kept)
{
    size_t left = 0;

    for (size_t i = 0; i < set->n; i++) {
        if (shares(kept, set->items[i].fd))
            free(set->items[i].spec);
        else
            set->items[left++] = set->items[i];
    }
    set->n = left;
}

char *listeners_to_text(const struct listeners *set)
{
    struct buf b = { 0 };
    int bad = 0;

    for (size_t i = 0; i < set->n; i++) {
        char fd[24];
        int n = snprintf(fd, sizeof fd, "=%d", set->items[i].fd);

        bad |= i ? buf_add(&b, ",", 1) : 0;
        bad |= buf_add(&b, set->items[i].spec, strlen(set->items[i].spec));
        bad |= buf_add(&b, fd, (size_t)n);
    }
    bad |= buf_add(&b, "", 1);
    must(!bad);
    return b.p;
}

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t n = sizeof listening;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening;
}

static int take_over(struct listener *l, struct str item, struct err *e)
{
    const char *equals = memrchr(item.p, '=', item.n);
    struct str number;
    uint64_t fd;

    number.p = equals ? equals + 1 : NULL;
    number.n = equals ? (size_t)(item.p + item.n - number.p) : 0;
    if (str_to_u64(number, 1 << 20, &fd) != 0 || !is_listening((int)fd))
        return err_set(e, ERR_CONFIG, LISTENERS_ENV ": no listening socket in \"%.*s\"",
                       STR_ARG(item));
    *l = (struct listener){ .spec = xcalloc(1, item.n), .fd = (int)fd };
    memcpy(l->spec, item.p, (size_t)(equals - item.p));
    fcntl(l->fd, F_SETFD, FD_CLOEXEC);
    note_inode(l);
    return 0;
}

int listeners_from_text(struct listeners *out, const char *text, struct err *e)
{
    int rc = 0;

    *out = (struct listeners){ 0 };
    while (rc == 0 && *text && out->n < LISTENERS_MAX) {
        struct str item = { text, strcspn(text, ",") };

        out->items = xrealloc(out->items, (out->n + 1) * sizeof *out->items);
        rc = take_over(&out->items[out->n], item, e);
        out->n += rc == 0;
        text += item.n + (text[item.n] == ',');
    }
    if (rc != 0)
        listeners_drop(out, NULL, false);
    return rc;
}

void listeners_set_inherit(const struct listeners *set, bool inherit)
{
    for (size_t i = 0; i < set->n; i++)
        fcntl(set->items[i].fd, F_SETFD, inherit ? 0 : FD_CLOEXEC);
}

bool listen_is_inherited(void)
{
    return is_listening(STDIN_FILENO);
}
