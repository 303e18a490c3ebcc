/*
 * One process that serves requests: a loop, a Lua state, listeners handed
 * down by the master (or inherited on descriptor 0, when there is none).
 */
#ifndef WEIR_SRV_WORKER_H
#define WEIR_SRV_WORKER_H

#include "base/err.h"
#include "base/weir.h"
#include "conf/keys.h"
#include <stdint.h>
#include <sys/types.h>

struct buf;
struct shared;

struct worker_args {
    const struct conf *conf;
    struct shared *shared; /* srv/shared.h: the counters and the statistics */
    const int *listen_fds; /* listening, non-blocking; several workers accept from each;
                              a drain closes them */
    size_t listen_count;
    unsigned number;     /* 1 to conf->workers; also the slot in the statistics */
    uint32_t generation; /* counts the reloads; 1 at a start */
    int notify_fd;       /* see worker_notify_*; -1 without a master */
    pid_t master;        /* 0: none */
};

/*
 * Serves until told to stop; returns the exit status. Called in a process of its
 * own, as the user that weir runs as. It must
 *   - call notify_ready(args->notify_fd) once it accepts, or notify_failed and return 1
 *     (srv/notify.h; both take -1);
 *   - beat in its slot of the statistics, at least every quarter of heartbeat_timeout, and end
 *     by itself when it could not for twice that time, or is not ready in time;
 *   - handle SIGQUIT: accept what waits and no more, serve it and what is in flight until
 *     drain_timeout, return 0;
 *     SIGTERM: return 0 at once; SIGUSR1: open the logs again.
 * At entry these have their default action, SIGINT, SIGHUP, SIGUSR2 and SIGPIPE are ignored, and
 * nothing is blocked. SIGQUIT comes too when the master has died.
 */
int worker_main(const struct worker_args *args) MUST_CHECK;

/*
 * Before worker_check in a process of its own: if that takes too long, the process tells notify_fd
 * what it loads, and ends.
 */
void worker_bound_check(int notify_fd);

/*
 * Loads everything as a worker would and reports; called in a process that ends after it. Fills
 * conf->snapshot if there is one, and found (may be NULL) with a line on what there is.
 */
int worker_check(const struct conf *conf, struct buf *found, struct err *e) MUST_CHECK;

#endif
