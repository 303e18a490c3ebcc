/*
 * See log.h. A line is built in a buffer of its own and leaves in one
 * write(2); what does not fit is cut, and says so.
 */
#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 4096
#define CUT_MARK " [cut]"

static const char *const LEVEL_NAMES[] = {
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
};

static struct {
    int fd;
    enum log_level level;
    bool is_torn; /* the disk was full within our last line */
    char path[1024];
    char name[32];
} the_log = { .fd = STDERR_FILENO, .level = LOG_NOTICE };

int log_level_from(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(LEVEL_NAMES); i++)
        if (strcmp(name, LEVEL_NAMES[i]) == 0)
            return (int)i;
    return -1;
}

static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

int log_open(const char *path, enum log_level level, struct err *e)
{
    int fd = STDERR_FILENO;

    if (strlen(path) >= sizeof the_log.path)
        return err_set(e, ERR_CONFIG, "error_log: the path is longer than %zu bytes",
                       sizeof the_log.path - 1);
    if (strcmp(path, "stderr") != 0) {
        fd = open_path(path);
        if (fd == -1)
            return err_set_errno(e, "error_log: cannot open %s", path);
    }
    if (the_log.fd != STDERR_FILENO)
        close(the_log.fd);
    the_log.fd = fd;
    the_log.level = level;
    strcpy(the_log.path, fd == STDERR_FILENO ? "" : path);
    return 0;
}

void log_reopen(void)
{
    int fd;

    if (!the_log.path[0])
        return;
    fd = open_path(the_log.path);
    if (fd == -1) {
        log_error("error_log: cannot reopen %s, keeping the old file: %s", the_log.path,
                  strerror(errno));
        return;
    }
    close(the_log.fd);
    the_log.fd = fd;
    the_log.is_torn = false;
}

void log_set_name(const char *name)
{
    snprintf(the_log.name, sizeof the_log.name, "%s", name);
}

void log_set_level(enum log_level level)
{
    the_log.level = level;
}

bool log_enabled(enum log_level level)
{
    return level <= the_log.level;
}

int log_fd(void)
{
    return the_log.fd;
}

/* "2026/11/21 09:05:07 [error] 4711 worker 3: ", in local time as web servers do. */
static size_t line_begin(char *line, enum log_level level)
{
    time_t now_s = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    size_t n;

    localtime_r(&now_s, &tm);
    n = strftime(line, LINE_BYTES, "%Y/%m/%d %H:%M:%S ", &tm);
    n += (size_t)snprintf(line + n, LINE_BYTES - n, "[%s] %d%s%s: ", LEVEL_NAMES[level],
                          (int)getpid(), the_log.name[0] ? " " : "", the_log.name);
    return n;
}

/* A full disk is said nowhere else; the next line is not to become the end of one that it cut. */
static void write_line(char *line, size_t n)
{
    struct iovec parts[] = { { "\n", the_log.is_torn }, { line, n } };
    ssize_t sent = writev(the_log.fd, parts, ARRAY_LEN(parts));

    if (sent > 0)
        the_log.is_torn = (size_t)sent > parts[0].iov_len && (size_t)sent < parts[0].iov_len + n;
}

void log_bytes(enum log_level level, const char *p, size_t n)
{
    static const char HEX[] = "0123456789abcdef";
    const size_t end = LINE_BYTES - sizeof CUT_MARK - 4;
    char line[LINE_BYTES];
    size_t at;

    if (!log_enabled(level))
        return;
    at = line_begin(line, level);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (at >= end) {
            memcpy(line + at, CUT_MARK, sizeof CUT_MARK - 1);
            at += sizeof CUT_MARK - 1;
            break;
        }
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            line[at++] = '\\';
            line[at++] = 'x';
            line[at++] = HEX[c >> 4];
            line[at++] = HEX[c & 15];
        } else {
            line[at++] = (char)c;
        }
    }
    line[at++] = '\n';
    write_line(line, at);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    char text[LINE_BYTES];
    va_list args;
    int n;

    if (!log_enabled(level))
        return;
    va_start(args, fmt);
    n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0)
        return;
    log_bytes(level, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}
