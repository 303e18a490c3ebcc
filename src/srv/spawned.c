/*
 * See spawned.h. The web server supervises the process: there is no pid file,
 * the worker's own watchdog stands in for the master's heartbeat check, and
 * nothing is removed at the end, since other processes of the same instance may
 * live.
 */
#include "srv/spawned.h"
#include "base/log.h"
#include "srv/setup.h"
#include "srv/shared.h"
#include "srv/worker.h"
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* Off descriptor 0, so that nobody reads from it by mistake. */
static int take_socket(struct err *e)
{
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (fd == -1 || null == -1 || dup2(null, STDIN_FILENO) == -1 ||
        fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == -1)
        return err_set_errno(e, "cannot take the socket on descriptor 0");
    close(null);
    return fd;
}

static int open_parts(struct shared *shared, const struct conf *conf, struct err *e)
{
    const struct shared_options options = { conf->prefix, conf->counter_file,
                                            conf->counter_memory };
    struct identity self;
    int rc;

    log_set_name("spawned");
    rc = identity_of_workers(conf, &self, e);
    if (rc == 0)
        rc = identity_own_logs(&self, conf, e);
    if (rc == 0)
        rc = log_open(conf->error_log, conf->log_level, e);
    if (rc != 0)
        return rc;
    setup_raise_file_limit(conf);
    if (conf->declarative_missing)
        log_warn("there is no %s: weir runs without services, routes and plugins",
                 conf->declarative_path);
    rc = shared_open(shared, &options, &self, e);
    if (rc == 0)
        rc = identity_assume(&self, 0, e);
    if (rc != 0 && shared->region.base)
        shared_close(shared);
    return rc;
}

int spawned_run(const struct conf *conf, struct err *e)
{
    struct shared shared = { 0 };
    struct worker_args args = {
        .conf = conf,
        .shared = &shared,
        .listen_count = 1,
        .number = 1,
        .generation = 1,
        .notify_fd = -1,
    };
    int fd, status;
    int rc = open_parts(&shared, conf, e);

    if (rc != 0)
        return rc;
    fd = take_socket(e);
    if (fd < 0) {
        shared_close(&shared);
        return fd;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    args.listen_fds = &fd;
    status = worker_main(&args);
    shared_close(&shared);
    return status;
}
