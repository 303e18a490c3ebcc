/*
 * A whole file in memory, bounded.
 */
#ifndef WEIR_CONF_FILE_H
#define WEIR_CONF_FILE_H

#include "base/err.h"
#include "base/str.h"

/*
 * Reads at most max_bytes; a larger file is ERR_BOUND. A NUL that is not counted ends the
 * text. The caller frees out->p. After ERR_SYSTEM errno is that of the call that failed.
 */
int file_read(const char *path, size_t max_bytes, struct str *out, struct err *e) MUST_CHECK;

#endif
