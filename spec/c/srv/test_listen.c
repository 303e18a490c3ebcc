/*
 * Listeners with real sockets: bound over what is there, shared between two
 * configurations, handed over as text, closed and unlinked only where due.
 */
#include "srv/listen.h"
#include "conf/parse.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char the_dir[] = "/tmp/weir-listen-XXXXXX";
static const struct identity SELF = { .set = false };

static struct conf *conf_of(const char *listen, const char *more)
{
    char text[2000];
    struct conf *c = NULL;
    struct err e = { 0 };

    snprintf(text, sizeof text, "prefix = %s\nfastcgi_listen = %s\n%s", the_dir, listen, more);
    if (conf_load_text(&c, "t.conf", str_from(text), &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static const char *path_of(const char *name)
{
    static char path[100];

    snprintf(path, sizeof path, "%s/%s", the_dir, name);
    return path;
}

static bool exists(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static int connect_unix(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path_of(name));
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return fd;
    close(fd);
    return -1;
}

static void open_good(struct listeners *out, const struct listeners *old, const char *listen)
{
    struct conf *c = conf_of(listen, "fastcgi_socket_mode = 0604");
    struct err e = { 0 };

    if (listeners_open(out, old, c, &SELF, &e) != 0)
        fail_msg("%s", e.text);
    conf_free(c);
}

static void open_bad(const struct listeners *old, const char *listen, const char *part)
{
    struct conf *c = conf_of(listen, "");
    struct listeners out;
    struct err e = { 0 };

    assert_int_not_equal(listeners_open(&out, old, c, &SELF, &e), 0);
    assert_int_equal(out.n, 0);
    assert_non_null(strstr(e.text, "t.conf:2: fastcgi_listen: "));
    if (!strstr(e.text, part))
        fail_msg("\"%s\" is not in: %s", part, e.text);
    conf_free(c);
}

static void test_unix(void **state)
{
    struct listeners set;
    struct stat st;
    int fd;

    (void)state;
    open_good(&set, NULL, "unix:{prefix}/a");
    assert_int_equal(stat(path_of("a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0604);
    fd = connect_unix("a");
    assert_true(fd >= 0);
    close(fd);
    assert_true(fcntl(set.items[0].fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(set.items[0].fd, F_GETFD) & FD_CLOEXEC);
    listeners_drop(&set, NULL, true);
    assert_false(exists("a"));
    assert_int_equal(rmdir(the_dir), 0); /* the temporary name is gone too */
    assert_int_equal(mkdir(the_dir, 0700), 0);
}

static void test_what_a_killed_process_left_is_replaced(void **state)
{
    struct listeners killed, set;
    int fd;

    (void)state;
    open_good(&killed, NULL, "unix:{prefix}/a");
    listeners_drop(&killed, NULL, false);
    assert_true(exists("a"));
    assert_int_equal(connect_unix("a"), -1);
    open_good(&set, NULL, "unix:{prefix}/a");
    fd = connect_unix("a");
    assert_true(fd >= 0);
    close(fd);
    listeners_drop(&set, NULL, true);
}

/* Listens on a name from a process of its own, until the pipe is closed; that process's pid. */
static pid_t listen_elsewhere(const char *name, int until[2])
{
    int ready[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(until), 0);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        close(until[1]);
        snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path_of(name));
        if (bind(fd, (struct sockaddr *)&sa, sizeof sa) == -1 || listen(fd, 5) == -1)
            _exit(1);
        if (write(ready[1], "", 1) != 1)
            _exit(1);
        _exit(read(until[0], &byte, 1) != 0);
    }
    close(ready[1]);
    close(until[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void test_what_another_listens_on_is_left_alone(void **state)
{
    struct listeners set;
    int until[2], status, fd;
    pid_t pid = listen_elsewhere("others", until);
    char part[40];

    (void)state;
    snprintf(part, sizeof part, "the process %d listens on", (int)pid);
    open_bad(NULL, "unix:{prefix}/others", part);
    fd = connect_unix("others");
    assert_true(fd >= 0);
    close(fd);
    close(until[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_good(&set, NULL, "unix:{prefix}/others");
    listeners_drop(&set, NULL, true);
}

static void test_what_is_no_socket_stays(void **state)
{
    int fd = open(path_of("file"), O_CREAT | O_WRONLY, 0600);

    (void)state;
    close(fd);
    open_bad(NULL, "unix:{prefix}/file", "exists and is no socket");
    assert_true(exists("file"));
    unlink(path_of("file"));
}

static void test_kept_over_a_reload(void **state)
{
    struct listeners old, next;
    int fd;

    (void)state;
    open_good(&old, NULL, "unix:{prefix}/a, unix:{prefix}/b");
    open_good(&next, &old, "unix:{prefix}/b, unix:{prefix}/c");
    assert_int_equal(next.items[0].fd, old.items[1].fd);
    listeners_drop(&old, &next, true);
    assert_false(exists("a"));
    fd = connect_unix("b");
    assert_true(fd >= 0);
    close(fd);
    fd = connect_unix("c");
    assert_true(fd >= 0);
    close(fd);
    listeners_drop(&next, NULL, true);
    assert_false(exists("b"));
    assert_false(exists("c"));
}

static void test_what_nobody_names_any_more_is_left_over(void **state)
{
    struct listeners old, next;
    int fd;

    (void)state;
    open_good(&old, NULL, "unix:{prefix}/a, unix:{prefix}/b");
    open_good(&next, &old, "unix:{prefix}/b, unix:{prefix}/c");
    listeners_forget(&old, &next);
    assert_int_equal(old.n, 1);
    fd = connect_unix("b"); /* it is still open, under the other name */
    assert_true(fd >= 0);
    close(fd);
    fd = connect_unix("a");
    assert_true(fd >= 0);
    close(fd);
    listeners_drop(&old, NULL, true);
    assert_false(exists("a"));
    assert_true(exists("b"));
    listeners_drop(&next, NULL, true);
}

static void test_failure_leaves_the_old_ones(void **state)
{
    struct listeners old;
    int fd;

    (void)state;
    open_good(&old, NULL, "unix:{prefix}/a");
    open_bad(&old, "unix:{prefix}/a, unix:{prefix}/new, unix:{prefix}/no/dir", "No such file");
    assert_false(exists("new"));
    fd = connect_unix("a");
    assert_true(fd >= 0);
    close(fd);
    listeners_drop(&old, NULL, true);
}

static void test_a_name_taken_by_another_is_not_removed(void **state)
{
    struct listeners mine, theirs;

    (void)state;
    open_good(&mine, NULL, "unix:{prefix}/a");
    open_good(&theirs, NULL, "unix:{prefix}/a");
    listeners_drop(&mine, NULL, true);
    assert_true(exists("a"));
    open_good(&mine, NULL, "unix:{prefix}/a");
    listeners_drop(&theirs, NULL, true);
    assert_true(exists("a"));
    listeners_drop(&mine, NULL, true);
}

static int port_of(const struct listener *l)
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof sa;

    assert_int_equal(getsockname(l->fd, (struct sockaddr *)&sa, &n), 0);
    if (sa.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
    return ntohs(((struct sockaddr_in *)&sa)->sin_port);
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0;

    close(fd);
    return has;
}

/* One that nobody had a moment ago. */
static int free_port(void)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static void test_tcp(void **state)
{
    struct listeners set, again;
    char listen_at[80];
    int base = free_port();

    (void)state;
    snprintf(listen_at, sizeof listen_at, "127.0.0.1:%d", base);
    if (has_ipv6())
        snprintf(listen_at, sizeof listen_at, "127.0.0.1:%d, [::1]:%d", base, base);
    open_good(&set, NULL, listen_at);
    for (size_t i = 0; i < set.n; i++)
        assert_int_equal(port_of(&set.items[i]), base);
    open_good(&again, &set, listen_at);
    assert_int_equal(again.items[0].fd, set.items[0].fd);
    listeners_drop(&set, &again, true);
    assert_true(fcntl(again.items[0].fd, F_GETFD) >= 0);
    open_bad(NULL, listen_at, "Address already in use");
    listeners_drop(&again, NULL, true);
}

static void test_handed_over_as_text(void **state)
{
    struct listeners old, next, opened;
    struct err e = { 0 };
    char *text;
    int fd;

    (void)state;
    open_good(&old, NULL, "unix:{prefix}/a=b, unix:{prefix}/c");
    text = listeners_to_text(&old);
    assert_int_equal(listeners_from_text(&next, text, &e), 0);
    assert_int_equal(next.n, 2);
    assert_string_equal(next.items[0].spec, old.items[0].spec);
    assert_int_equal(next.items[1].fd, old.items[1].fd);
    listeners_set_inherit(&old, true);
    assert_false(fcntl(old.items[0].fd, F_GETFD) & FD_CLOEXEC);
    listeners_set_inherit(&old, false);
    assert_true(fcntl(old.items[0].fd, F_GETFD) & FD_CLOEXEC);

    open_good(&opened, &next, "unix:{prefix}/a=b");
    listeners_drop(&next, &opened, false);
    fd = connect_unix("a=b");
    assert_true(fd >= 0);
    close(fd);
    listeners_drop(&opened, NULL, true);
    for (size_t i = 0; i < old.n; i++)
        free(old.items[i].spec);
    free(old.items);
    unlink(path_of("c"));
    free(text);
}

static void test_text_that_names_no_socket(void **state)
{
    static const char *const BAD[] = { "unix:/a=0", "unix:/a", "=", "a=", "a=99999999", "a=x" };
    int null = open("/dev/null", O_RDONLY);

    (void)state;
    assert_int_equal(dup2(null, STDIN_FILENO), STDIN_FILENO);
    close(null);
    assert_false(listen_is_inherited());
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct listeners set;
        struct err e = { 0 };

        assert_int_equal(listeners_from_text(&set, BAD[i], &e), ERR_CONFIG);
        assert_int_equal(set.n, 0);
    }
}

static void test_stdin_without_a_spawner(void **state)
{
    (void)state;
    open_bad(NULL, "stdin", "stdin is no listening socket");
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(the_dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(the_dir); /* fails if anything was left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_what_a_killed_process_left_is_replaced),
        cmocka_unit_test(test_what_another_listens_on_is_left_alone),
        cmocka_unit_test(test_what_is_no_socket_stays),
        cmocka_unit_test(test_kept_over_a_reload),
        cmocka_unit_test(test_what_nobody_names_any_more_is_left_over),
        cmocka_unit_test(test_failure_leaves_the_old_ones),
        cmocka_unit_test(test_a_name_taken_by_another_is_not_removed),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_handed_over_as_text),
        cmocka_unit_test(test_text_that_names_no_socket),
        cmocka_unit_test(test_stdin_without_a_spawner),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
