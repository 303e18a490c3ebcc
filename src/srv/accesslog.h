/*
 * The access log: a line for each request in the combined format, with the
 * time it took and its id behind. Owns its file; lines are collected and
 * written at the end of the loop's turn.
 */
#ifndef WEIR_SRV_ACCESSLOG_H
#define WEIR_SRV_ACCESSLOG_H

#include "base/err.h"
#include "base/weir.h"

/* path "off": there is none, and accesslog_write costs nothing. */
int accesslog_open(struct loop *loop, const char *path, struct err *e) MUST_CHECK;

/* After SIGUSR1. */
void accesslog_reopen(void);

void accesslog_write(const struct req *req);

/* Writes what is collected and closes. */
void accesslog_close(void);

#endif
