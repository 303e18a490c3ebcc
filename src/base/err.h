/*
 * A failure that a person will read. The callee writes the message, the top
 * floor logs it, once. Codes below zero; 0 is good.
 */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

#include "base/weir.h"

enum err_code {
    ERR_NONE = 0,
    ERR_SYSTEM = -1, /* a system call; the message holds strerror */
    ERR_SYNTAX = -2, /* bytes that do not follow the grammar */
    ERR_BOUND = -3,  /* a configured bound is passed */
    ERR_CONFIG = -4, /* configuration: the message holds file:line */
    ERR_TIMEOUT = -5,
    ERR_CLOSED = -6, /* the other side went away */
    ERR_CANCELLED = -7,
    ERR_LUA = -8,
};

struct err {
    int code;
    char text[1000];
};

/* Writes the message (cut at the size of text) and returns code. e may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);

/* The same, with ": " and strerror(errno) behind it; the code is ERR_SYSTEM. */
int err_set_errno(struct err *e, const char *fmt, ...) PRINTF(2, 3);

#endif
