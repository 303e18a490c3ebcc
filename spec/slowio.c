/*
 * A library for LD_PRELOAD: inside weir, each read from and each write to a
 * stream socket moves one byte, so that every split that a network can make
 * is made. Awake only in a program called weir, and with WEIR_TEST_SLOW_IO=1 in
 * the environment, or WEIR_TEST_SLOW_IO=read, which leaves writes alone, or
 * WEIR_TEST_SLOW_IO=tail, which cuts nothing but the last bytes off long writes,
 * as a full socket may. Datagrams, pipes and files pass as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name)                                                                                 \
    static __typeof__(&name) next;                                                                 \
    if (next == NULL)                                                                              \
    next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define LONG_BYTES 1400
#define TAIL_BYTES 4
#define TAIL_LATE_US 2000 /* so that the reader sees the one without the other */

static bool slow_reads, slow_writes, slow_tails;

__attribute__((constructor)) static void wake(void)
{
    const char *on = getenv("WEIR_TEST_SLOW_IO");
    if (on == NULL || strcmp(program_invocation_short_name, "weir") != 0)
        return;
    slow_writes = strcmp(on, "1") == 0;
    slow_reads = slow_writes || strcmp(on, "read") == 0;
    slow_tails = strcmp(on, "tail") == 0;
}

static bool is_slow(int fd, bool awake)
{
    int type = 0, saved = errno;
    socklen_t n = sizeof(type);
    if (!awake)
        return false;
    bool stream = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
    errno = saved;
    return stream;
}

static size_t cut(int fd, size_t n, bool awake)
{
    return n > 1 && is_slow(fd, awake) ? 1 : n;
}

/* The first byte of a vector, as a vector of one; false when there is none to cut. */
static bool cut_vector(int fd, const struct iovec *v, size_t count, struct iovec *first, bool awake)
{
    while (count > 0 && v->iov_len == 0)
        v++, count--;
    if (count == 0 || !is_slow(fd, awake))
        return false;
    *first = (struct iovec){ v->iov_base, 1 };
    return true;
}

ssize_t read(int fd, void *p, size_t n)
{
    NEXT(read);
    return next(fd, p, cut(fd, n, slow_reads));
}

ssize_t write(int fd, const void *p, size_t n)
{
    NEXT(write);
    return next(fd, p, cut(fd, n, slow_writes));
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    NEXT(recv);
    return next(fd, p, cut(fd, n, slow_reads), flags);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    NEXT(send);
    if (n > LONG_BYTES && is_slow(fd, slow_tails)) {
        ssize_t done = next(fd, p, n - TAIL_BYTES, flags);
        usleep(TAIL_LATE_US);
        return done;
    }
    return next(fd, p, cut(fd, n, slow_writes), flags);
}

ssize_t recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *from, socklen_t *from_n)
{
    NEXT(recvfrom);
    return next(fd, p, cut(fd, n, slow_reads), flags, from, from_n);
}

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to,
               socklen_t to_n)
{
    NEXT(sendto);
    return next(fd, p, cut(fd, n, slow_writes), flags, to, to_n);
}

ssize_t readv(int fd, const struct iovec *v, int count)
{
    NEXT(readv);
    struct iovec first;
    return cut_vector(fd, v, (size_t)count, &first, slow_reads) ? next(fd, &first, 1)
                                                                : next(fd, v, count);
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    NEXT(writev);
    struct iovec first;
    return cut_vector(fd, v, (size_t)count, &first, slow_writes) ? next(fd, &first, 1)
                                                                 : next(fd, v, count);
}

/* Descriptors that travel along go with the first byte. */
ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    NEXT(recvmsg);
    struct iovec first;
    if (!cut_vector(fd, msg->msg_iov, msg->msg_iovlen, &first, slow_reads))
        return next(fd, msg, flags);
    struct msghdr one = *msg;
    one.msg_iov = &first;
    one.msg_iovlen = 1;
    ssize_t n = next(fd, &one, flags);
    one.msg_iov = msg->msg_iov;
    one.msg_iovlen = msg->msg_iovlen;
    *msg = one;
    return n;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    NEXT(sendmsg);
    struct iovec first;
    if (!cut_vector(fd, msg->msg_iov, msg->msg_iovlen, &first, slow_writes))
        return next(fd, msg, flags);
    struct msghdr one = *msg;
    one.msg_iov = &first;
    one.msg_iovlen = 1;
    return next(fd, &one, flags);
}

/* What the C library calls in a program that is built with _FORTIFY_SOURCE. */
ssize_t __read_chk(int fd, void *p, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *from,
                       socklen_t *from_n);

ssize_t __read_chk(int fd, void *p, size_t n, size_t room)
{
    NEXT(__read_chk);
    return next(fd, p, cut(fd, n, slow_reads), room);
}

ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags)
{
    NEXT(__recv_chk);
    return next(fd, p, cut(fd, n, slow_reads), room, flags);
}

ssize_t __recvfrom_chk(int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *from,
                       socklen_t *from_n)
{
    NEXT(__recvfrom_chk);
    return next(fd, p, cut(fd, n, slow_reads), room, flags, from, from_n);
}
