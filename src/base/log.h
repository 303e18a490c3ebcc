/*
 * The error log: one line per event, one write(2) per line, so that several
 * processes may share the file. Owns the log's descriptor.
 */
#ifndef WEIR_BASE_LOG_H
#define WEIR_BASE_LOG_H

#include "base/err.h"
#include "base/weir.h"

enum log_level { /* syslog's order and Kong's names */
                 LOG_EMERG,
                 LOG_ALERT,
                 LOG_CRIT,
                 LOG_ERROR,
                 LOG_WARN,
                 LOG_NOTICE,
                 LOG_INFO,
                 LOG_DEBUG,
};

/* "notice" -> LOG_NOTICE; -1 when there is no such level. */
int log_level_from(const char *name) MUST_CHECK;

/* path "stderr" keeps standard error. On failure the log stays where it was. */
int log_open(const char *path, enum log_level level, struct err *e) MUST_CHECK;

/* Opens the same path again (after SIGUSR1). Failure is logged to the old file. */
void log_reopen(void);

/* The lines of this process begin with this word, e.g. "worker 3"; at most 31 bytes are kept. */
void log_set_name(const char *name);

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
int log_fd(void);

/* Control characters in the text are written as \xNN. */
void log_msg(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

/* n bytes, which may contain anything. */
void log_bytes(enum log_level level, const char *p, size_t n);

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_WARN, __VA_ARGS__)
#define log_notice(...) log_msg(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (UNLIKELY(log_enabled(LOG_DEBUG)))                                                      \
            log_msg(LOG_DEBUG, __VA_ARGS__);                                                       \
    } while (0)

#endif
