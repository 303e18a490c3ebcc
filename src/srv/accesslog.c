/*
 * See accesslog.h. Several workers append to one file: a write holds whole
 * lines only, and O_APPEND keeps them apart.
 */
#include "srv/accesslog.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ev/loop.h"
#include "req/req.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define FIELD_MAX_BYTES 1024

static struct {
    struct loop *loop;
    char *path;
    int fd;
    bool is_failing; /* the last write failed: said once */
    struct buf lines;
    struct deferred flush;
} the_log = { .fd = -1 };

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

int accesslog_open(struct loop *loop, const char *path, struct err *e)
{
    the_log.loop = loop;
    if (strcmp(path, "off") == 0)
        return 0;
    the_log.fd = open_file(path);
    if (the_log.fd == -1)
        return err_set_errno(e, "access_log: cannot open %s", path);
    the_log.path = xstrdup(path);
    return 0;
}

/* A disk that is full stays so for many lines, and the error log may be on it, too. */
static void note_outcome(int code)
{
    if (code != 0 && !the_log.is_failing)
        log_error("access_log: cannot write %s, lines are lost until it can be: %s", the_log.path,
                  strerror(code));
    if (code == 0 && the_log.is_failing)
        log_notice("access_log: %s is written again", the_log.path);
    the_log.is_failing = code != 0;
}

static void flush(struct deferred *d)
{
    size_t done = 0;
    int code = 0;

    (void)d;
    while (code == 0 && done < the_log.lines.n) {
        ssize_t n = write(the_log.fd, the_log.lines.p + done, the_log.lines.n - done);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            code = errno;
        else
            done += (size_t)n;
    }
    if (the_log.lines.n > 0)
        note_outcome(code);
    the_log.lines.n = 0;
}

void accesslog_reopen(void)
{
    int fd;

    if (the_log.fd == -1)
        return;
    flush(&the_log.flush);
    fd = open_file(the_log.path);
    if (fd == -1) {
        log_error("access_log: cannot reopen %s, keeping the old file: %s", the_log.path,
                  strerror(errno));
        return;
    }
    close(the_log.fd);
    the_log.fd = fd;
}

void accesslog_close(void)
{
    if (the_log.fd == -1)
        return;
    flush(&the_log.flush);
    loop_undefer(the_log.loop, &the_log.flush);
    close(the_log.fd);
    the_log.fd = -1;
    buf_free(&the_log.lines);
}

/* A field that a stranger wrote: quotes and control characters become \xNN. */
static char *put_field(char *to, struct str s)
{
    static const char HEX[] = "0123456789abcdef";
    char *end = to + FIELD_MAX_BYTES - 4;

    if (s.n == 0)
        *to++ = '-';
    for (size_t i = 0; i < s.n && to < end; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f) {
            *to++ = '\\';
            *to++ = 'x';
            *to++ = HEX[c >> 4];
            *to++ = HEX[c & 15];
        } else {
            *to++ = (char)c;
        }
    }
    return to;
}

/* "21/Nov/2026:09:05:07 +0000", made once a second. */
static const char *time_text(int64_t now_ms)
{
    static char text[40];
    static time_t made_s;
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm tm;

    if (now_s != made_s) {
        localtime_r(&now_s, &tm);
        strftime(text, sizeof text, "%d/%b/%Y:%H:%M:%S %z", &tm);
        made_s = now_s;
    }
    return text;
}

static struct str header(const struct req *req, struct str name)
{
    const struct str *value = headers_get(&req->headers, name);

    return value ? *value : STR_NULL;
}

void accesslog_write(const struct req *req)
{
    int64_t took_us;
    char *line, *at;

    if (the_log.fd == -1)
        return;
    took_us = clock_mono_us_exact() - req->start_us;
    line = buf_reserve(&the_log.lines, LINE_MAX_BYTES + 5 * FIELD_MAX_BYTES);
    must(line);
    at = put_field(line, req->remote_addr);
    at += sprintf(at, " - - [%s] \"", time_text(clock_now_ms()));
    at = put_field(at, req->method);
    *at++ = ' ';
    at = put_field(at, req->uri);
    *at++ = ' ';
    at = put_field(at, req->protocol);
    at += sprintf(at, "\" %u %" PRIu64 " \"", req->status, req->resp_bytes);
    at = put_field(at, header(req, STR("Referer")));
    at += sprintf(at, "\" \"");
    at = put_field(at, header(req, STR("User-Agent")));
    at += sprintf(at, "\" %.6f %s\n", (double)took_us / 1e6, req->id[0] ? req->id : "-");
    the_log.lines.n += (size_t)(at - line);
    loop_defer(the_log.loop, &the_log.flush, flush);
}
