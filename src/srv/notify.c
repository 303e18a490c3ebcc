/*
 * See notify.h. The pipe carries one byte 'r', or 'f' and a text; the end of
 * the pipe without either means that the worker died.
 */
#include "srv/notify.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TEXT_MAX_BYTES (sizeof((struct err *)0)->text)

static void send_and_close(int fd, const char *p, size_t n)
{
    ssize_t sent;

    do
        sent = write(fd, p, n);
    while (sent == -1 && errno == EINTR);
    close(fd);
}

void notify_ready(int fd)
{
    if (fd != -1)
        send_and_close(fd, "r", 1);
}

void notify_failed(int fd, const char *text)
{
    char message[TEXT_MAX_BYTES + 1];
    int n;

    if (fd == -1) {
        log_error("%s", text);
        return;
    }
    /* less than PIPE_BUF: it arrives in one piece */
    n = snprintf(message, sizeof message, "f%s", text);
    send_and_close(fd, message, (size_t)n < sizeof message ? (size_t)n : sizeof message - 1);
}

int notify_read(int fd, struct err *e)
{
    char message[TEXT_MAX_BYTES + 1];
    ssize_t n = read(fd, message, sizeof message);

    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n == -1)
        return err_set_errno(e, "cannot read from a worker");
    if (n == 0)
        return err_set(e, ERR_CLOSED, "it died before it was ready");
    if (message[0] == 'r')
        return 1;
    return err_set(e, ERR_CONFIG, "%.*s", (int)n - 1, message + 1);
}

/* Failure is not worth a word: systemd notices by itself what it misses. */
static void systemd_send(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof sa.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(sa.sun_path, path, n);
    if (*path == '@') /* an abstract name begins with a zero byte */
        sa.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return;
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&sa,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == -1)
        log_debug("$NOTIFY_SOCKET: %s", strerror(errno));
    close(fd);
}

void systemd_ready(const char *status)
{
    char text[400];

    snprintf(text, sizeof text, "READY=1\nMAINPID=%d\nSTATUS=%s", (int)getpid(), status);
    systemd_send(text);
}

void systemd_reloading(void)
{
    char text[80];

    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)clock_mono_us_exact());
    systemd_send(text);
}

void systemd_stopping(void)
{
    systemd_send("STOPPING=1");
}

void systemd_main_pid(pid_t pid)
{
    char text[40];

    snprintf(text, sizeof text, "MAINPID=%d", (int)pid);
    systemd_send(text);
}

void systemd_status(const char *status)
{
    char text[400];

    snprintf(text, sizeof text, "STATUS=%s", status);
    systemd_send(text);
}

int64_t systemd_watchdog_ms(void)
{
    const char *interval = getenv("WATCHDOG_USEC");

    return interval ? strtoll(interval, NULL, 10) / 2000 : 0;
}

void systemd_watchdog(void)
{
    static int64_t last_us;
    int64_t period_ms = systemd_watchdog_ms();
    int64_t now_us = clock_mono_us_exact();

    if (period_ms <= 0 || (last_us && now_us - last_us < period_ms * 1000))
        return;
    last_us = now_us;
    systemd_send("WATCHDOG=1");
}
