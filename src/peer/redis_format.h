/*
 * Commands in Redis's protocol, written straight into the bytes that leave.
 */
#ifndef WEIR_PEER_REDIS_FORMAT_H
#define WEIR_PEER_REDIS_FORMAT_H

#include "base/str.h"
#include "base/weir.h"

/* Appends a command; lens NULL: the args end with NUL. -1 where the bound would be passed. */
int redis_format(struct buf *out, int argc, const char *const *argv, const size_t *lens) MUST_CHECK;

#endif
