/*
 * Saying that one is ready: a worker to its master through a pipe, and the
 * master to systemd through $NOTIFY_SOCKET (without libsystemd).
 */
#ifndef WEIR_SRV_NOTIFY_H
#define WEIR_SRV_NOTIFY_H

#include "base/err.h"
#include "base/weir.h"
#include <sys/types.h>

/* Tells the master that this worker accepts; closes fd. fd -1: there is no master. */
void notify_ready(int fd);

/* Tells the master why this worker cannot start; closes fd. fd -1: logs the text. */
void notify_failed(int fd, const char *text);

/*
 * The master's side, on a readable fd without waiting: 1 ready, 0 not yet, or a negative
 * code with the worker's text in e (also when it died without a word).
 */
int notify_read(int fd, struct err *e) MUST_CHECK;

/* To systemd; all of these do nothing without $NOTIFY_SOCKET. */
void systemd_ready(const char *status);
void systemd_reloading(void);
void systemd_stopping(void);
void systemd_main_pid(pid_t pid);
void systemd_status(const char *status);

/* WATCHDOG=1, when half of the interval that systemd asked for has passed. */
void systemd_watchdog(void);

/* Milliseconds between two calls of systemd_watchdog; 0 when systemd did not ask. */
int64_t systemd_watchdog_ms(void);

#endif
