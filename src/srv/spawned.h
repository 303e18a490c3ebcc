/*
 * weir without a master: spawned by a web server (lighttpd's bin-path,
 * mod_fcgid, spawn-fcgi) with the listening socket on descriptor 0.
 */
#ifndef WEIR_SRV_SPAWNED_H
#define WEIR_SRV_SPAWNED_H

#include "conf/parse.h"

/*
 * Serves in this process until SIGTERM or SIGQUIT; the exit status, or a negative code when it
 * could not start. Shares the counters of all that have the same prefix.
 */
int spawned_run(const struct conf *conf, struct err *e) MUST_CHECK;

#endif
