/*
 * Commands to a running instance: found by its pid file, told by signals,
 * heard through its state file.
 */
#ifndef WEIR_SRV_CONTROL_H
#define WEIR_SRV_CONTROL_H

#include "base/err.h"
#include "base/weir.h"
#include <signal.h>

/*
 * Sends sig (SIGTERM or SIGQUIT) and waits until the instance is gone. One that does not run is
 * an error unless may_be_stopped. conf_path and prefix may be NULL, here and below.
 */
int control_stop(const char *conf_path, const char *prefix, int sig, bool may_be_stopped,
                 struct err *e) MUST_CHECK;

/* Sends SIGHUP and waits for the outcome; prints that of a good reload. */
int control_reload(const char *conf_path, const char *prefix, struct err *e) MUST_CHECK;

/*
 * Has the binary replaced, and waits until the new one serves. with_environment: it runs in this
 * process's environment from then on; else in the old one's.
 */
int control_upgrade(const char *conf_path, const char *prefix, bool with_environment,
                    struct err *e) MUST_CHECK;

/* What the running instance says of itself: 1, 0 if none runs, or a negative code. */
struct state;
int control_find(const char *conf_path, const char *prefix, struct state *out,
                 struct err *e) MUST_CHECK;

int control_status(const char *conf_path, const char *prefix, struct err *e) MUST_CHECK;

#endif
