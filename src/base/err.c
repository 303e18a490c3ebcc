/*
 * See err.h.
 */
#include "base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list args;

    if (!e)
        return code;
    e->code = code;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    return code;
}

int err_set_errno(struct err *e, const char *fmt, ...)
{
    int saved_errno = errno;
    va_list args;
    int n;

    if (!e)
        return ERR_SYSTEM;
    e->code = ERR_SYSTEM;
    va_start(args, fmt);
    n = vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(saved_errno));
    return ERR_SYSTEM;
}
