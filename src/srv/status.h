/*
 * What `weir status` prints about a running instance.
 */
#ifndef WEIR_SRV_STATUS_H
#define WEIR_SRV_STATUS_H

#include "base/err.h"
#include "srv/state.h"

/* Prints to standard output. */
int status_print(const struct state *s, struct err *e) MUST_CHECK;

#endif
