/*
 * peer/http against a real nginx, which the spec starts: connections reused as
 * its access log counts them, large files, HEAD, 304, uploads that it refuses early, its
 * limit on requests of a connection, and its reload under way.
 */
#include "client.h"
#include "scripted.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#define LARGE_BYTES ((size_t)5 << 20)

static struct {
    char dir[64];
    unsigned port;
    pid_t pid;
} the_nginx;

static void write_file(const char *name, const char *p, size_t n)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", the_nginx.dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(p, 1, n, file), n);
    fclose(file);
}

static void write_conf(void)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "daemon off; master_process on; worker_processes 1; pid nginx.pid;\n"
                     "error_log error.log; %s events { worker_connections 512; }\n"
                     "http { log_format c '$connection $connection_requests $status';\n"
                     "access_log access.log c; client_body_temp_path t1; proxy_temp_path t2;\n"
                     "fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n"
                     "keepalive_requests 100; client_max_body_size 1k; if_modified_since before;\n"
                     "server { listen 127.0.0.1:%u; root .;\n"
                     "location /few { alias small; keepalive_timeout 0; } } }\n",
                     getuid() == 0 ? "user root;" : "", the_nginx.port);

    assert_true(n > 0 && (size_t)n < sizeof text);
    write_file("nginx.conf", text, (size_t)n);
}

static bool is_up(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)the_nginx.port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool up = connect(fd, (struct sockaddr *)&in, sizeof in) == 0;

    close(fd);
    return up;
}

static void launch(void)
{
    the_nginx.pid = fork();
    if (the_nginx.pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, 2);
        execlp("nginx", "nginx", "-p", the_nginx.dir, "-c", "nginx.conf", (char *)NULL);
        execl("/usr/sbin/nginx", "nginx", "-p", the_nginx.dir, "-c", "nginx.conf", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 300 && !is_up(); i++)
        usleep(20000);
}

static int start_nginx(void **state)
{
    char *large = malloc(LARGE_BYTES);
    char small[100];

    (void)state;
    strcpy(the_nginx.dir, "/tmp/weir-nginx-XXXXXX");
    assert_non_null(mkdtemp(the_nginx.dir));
    close(scripted_listener(1, &the_nginx.port));
    write_conf();
    memset(small, 's', sizeof small);
    write_file("small", small, sizeof small);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        large[i] = (char)(i * 7 + i / 251);
    write_file("large", large, LARGE_BYTES);
    free(large);
    launch();
    return is_up() ? 0 : -1;
}

static int stop_nginx(void **state)
{
    char command[128];

    (void)state;
    kill(the_nginx.pid, SIGTERM);
    waitpid(the_nginx.pid, NULL, 0);
    snprintf(command, sizeof command, "rm -rf '%s'", the_nginx.dir);
    return system(command);
}

static int set_up(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof path, "%s/access.log", the_nginx.dir);
    assert_int_equal(truncate(path, 0), 0);
    client_open(NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    client_close();
    return 0;
}

/* Connections and requests that nginx has logged. */
static unsigned count_log(unsigned *requests)
{
    char path[128], line[128];
    unsigned long seen[512];
    unsigned n = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/access.log", the_nginx.dir);
    file = fopen(path, "r");
    *requests = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long id = strtoul(line, NULL, 10);
        unsigned i = 0;

        ++*requests;
        while (i < n && seen[i] != id)
            i++;
        if (i == n && n < ARRAY_LEN(seen))
            seen[n++] = id;
    }
    fclose(file);
    return n;
}

static struct call *ask(const char *method, const char *path)
{
    struct call *c = call_new(method, "127.0.0.1", the_nginx.port);

    c->target = str_from(path);
    return c;
}

static void finish(struct call *c, unsigned status, size_t bytes)
{
    turn_until(&c->ended);
    if (c->code != 0)
        fail_msg("%d: %s", c->code, c->x.reason.p);
    assert_int_equal(c->x.response.status, status);
    assert_int_equal(c->body.n, bytes);
}

static void run(struct call *c, unsigned status, size_t bytes)
{
    call_start(c);
    finish(c, status, bytes);
    call_free(c);
}

static void test_reuse(void **state)
{
    unsigned requests;

    (void)state;
    for (int i = 0; i < 50; i++)
        run(ask("GET", "/small"), 200, 100);
    usleep(50000);
    assert_int_equal(count_log(&requests), 1);
    assert_int_equal(requests, 50);
}

/* nginx closes each hundredth: that is announced, and nothing fails. */
static void test_requests_per_connection(void **state)
{
    unsigned requests;

    (void)state;
    for (int i = 0; i < 250; i++)
        run(ask("GET", "/small"), 200, 100);
    usleep(50000);
    assert_int_equal(count_log(&requests), 3);
    assert_int_equal(requests, 250);
}

static void test_many_at_once(void **state)
{
    struct call *calls[64];
    unsigned requests;

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(calls); i++)
            call_start(calls[i] = ask("GET", "/small"));
        for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
            finish(calls[i], 200, 100);
            call_free(calls[i]);
        }
    }
    usleep(50000);
    /* eight of each round's are kept for the next */
    assert_int_equal(count_log(&requests), 64 + 56 + 56);
    assert_int_equal(requests, 192);
}

static void test_large(void **state)
{
    struct call *c = ask("GET", "/large");

    (void)state;
    call_start(c);
    finish(c, 200, LARGE_BYTES);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        if (c->body.p[i] != (char)(i * 7 + i / 251))
            fail_msg("byte %zu", i);
    call_free(c);
}

static void test_bodyless(void **state)
{
    struct call *c = ask("GET", "/small");
    unsigned requests;

    (void)state;
    headers_add(&c->headers, &c->arena, STR("If-Modified-Since"),
                STR("Fri, 01 Jan 2100 00:00:00 GMT"));
    run(ask("HEAD", "/large"), 200, 0);
    call_start(c);
    turn_until(&c->ended);
    assert_int_equal(c->x.response.status, 304);
    call_free(c);
    run(ask("GET", "/nowhere"), 404, 153);
    usleep(50000);
    assert_int_equal(count_log(&requests), 1);
    assert_int_equal(requests, 3);
}

static void test_not_kept(void **state)
{
    unsigned requests;

    (void)state;
    for (int i = 0; i < 3; i++)
        run(ask("GET", "/few"), 200, 100);
    usleep(50000);
    assert_int_equal(count_log(&requests), 3);
}

/* It answers 413 as soon as it has seen the length, and goes on reading for a while. */
static void test_refused_upload(void **state)
{
    size_t n = 2 << 20;
    char *bytes = calloc(1, n);
    struct call *c = ask("POST", "/small");

    (void)state;
    call_with_body(c, bytes, n);
    call_start(c);
    turn_until(&c->ended);
    assert_int_equal(c->code, 0);
    assert_int_equal(c->x.response.status, 413);
    call_free(c);
    free(bytes);
}

/* Its old workers close the idle connections at any time. */
static void test_reload_under_way(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++) {
        if (i % 100 == 0)
            kill(the_nginx.pid, SIGHUP);
        run(ask("GET", "/small"), 200, 100);
        usleep(500);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_reuse),          T(test_requests_per_connection),
        T(test_many_at_once),   T(test_large),
        T(test_bodyless),       T(test_not_kept),
        T(test_refused_upload), T(test_reload_under_way),
    };

    return cmocka_run_group_tests(tests, start_nginx, stop_nginx);
}
