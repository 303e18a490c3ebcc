/*
 * Messages for people, and the log's lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/err.h"
#include "base/log.h"

static char the_path[64], the_moved[64];
static char the_text[16384];
static struct err e;

static int setup(void **state)
{
    int fd;

    (void)state;
    strcpy(the_path, "/tmp/weir-spec-XXXXXX");
    fd = mkstemp(the_path);
    if (fd == -1)
        return -1;
    close(fd);
    snprintf(the_moved, sizeof the_moved, "%s.1", the_path);
    log_set_name("");
    return log_open(the_path, LOG_NOTICE, &e);
}

static int teardown(void **state)
{
    (void)state;
    unlink(the_path);
    unlink(the_moved);
    return log_open("stderr", LOG_NOTICE, &e);
}

static const char *text_of(const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(the_text, 1, sizeof the_text - 1, f);
    the_text[n] = '\0';
    fclose(f);
    return the_text;
}

/* What stands behind "[level] pid name: " in the only line. */
static const char *only_line(void)
{
    const char *text = text_of(the_path), *end = strchr(text, '\n');
    const char *colon = strstr(strchr(text, ']'), ": ");

    assert_true(end && end[1] == '\0');
    assert_non_null(colon);
    return colon + 2;
}

static void a_message_is_cut_at_its_size(void **state)
{
    char big[3000];

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(err_set(&e, ERR_BOUND, "%s", big), ERR_BOUND);
    assert_int_equal(e.code, ERR_BOUND);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_int_equal(err_set(NULL, ERR_BOUND, "%s", big), ERR_BOUND);
}

static void a_message_names_the_systems_reason(void **state)
{
    char big[3000];

    (void)state;
    errno = ENOENT;
    assert_int_equal(err_set_errno(&e, "cannot open %s", "x"), ERR_SYSTEM);
    assert_string_equal(e.text, "cannot open x: No such file or directory");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    errno = ENOENT;
    assert_int_equal(err_set_errno(&e, "%s", big), ERR_SYSTEM);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    errno = EACCES;
    assert_int_equal(err_set_errno(NULL, "%s", big), ERR_SYSTEM);
}

static void levels_have_names(void **state)
{
    (void)state;
    assert_int_equal(log_level_from("emerg"), LOG_EMERG);
    assert_int_equal(log_level_from("notice"), LOG_NOTICE);
    assert_int_equal(log_level_from("debug"), LOG_DEBUG);
    assert_int_equal(log_level_from("loud"), -1);
    assert_int_equal(log_level_from(""), -1);
}

static void a_line_says_when_what_and_who(void **state)
{
    int year, month, day, hour, minute, second, pid;
    char level[16], name[16];

    (void)state;
    log_set_name("worker 3");
    log_error("no %s", "luck");
    assert_int_equal(sscanf(text_of(the_path), "%d/%d/%d %d:%d:%d [%15[a-z]] %d %15[^:]: no luck",
                            &year, &month, &day, &hour, &minute, &second, level, &pid, name),
                     9);
    assert_string_equal(level, "error");
    assert_string_equal(name, "worker 3");
    assert_int_equal(pid, getpid());
    assert_true(year >= 2024 && month >= 1 && month <= 12 && day >= 1 && day <= 31);
}

static void what_is_below_the_level_is_not_written(void **state)
{
    (void)state;
    log_info("quiet");
    log_debug("%s", (const char *)"quiet");
    assert_string_equal(text_of(the_path), "");
    assert_false(log_enabled(LOG_INFO));
    log_set_level(LOG_INFO);
    log_info("loud");
    assert_string_equal(only_line(), "loud\n");
}

static void an_event_is_one_line_whatever_it_holds(void **state)
{
    (void)state;
    log_bytes(LOG_WARN, "a\r\nb\0c\td\x7f\xc3\xa4", 11);
    assert_string_equal(only_line(), "a\\x0d\\x0ab\\x00c\td\\x7f\xc3\xa4\n");
}

static void a_long_line_is_cut_and_says_so(void **state)
{
    static const char FILL[] = { 'x', '\x01' };

    (void)state;
    for (size_t i = 0; i < sizeof FILL; i++) {
        char big[9000];
        const char *line;
        size_t n;

        memset(big, FILL[i], sizeof big);
        assert_int_equal(truncate(the_path, 0), 0);
        log_bytes(LOG_WARN, big, sizeof big);
        line = only_line();
        n = strlen(the_text);
        assert_true(n <= 4096 && n > 4000);
        assert_string_equal(line + strlen(line) - 7, " [cut]\n");
        assert_int_equal(truncate(the_path, 0), 0);
        big[sizeof big - 1] = '\0';
        log_warn("%s", big);
        (void)only_line();
    }
}

static void a_line_that_the_disk_has_cut_ends(void **state)
{
    struct rlimit all, little;
    const char *text;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
    little = (struct rlimit){ 10, all.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    log_error("cut");
    log_error("lost");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    log_error("whole");
    log_error("whole too");
    text = text_of(the_path);
    assert_int_equal(text[10], '\n');
    assert_non_null(strstr(text + 11, ": whole\n2"));
    assert_non_null(strstr(text + 11, ": whole too\n"));
}

static void reopening_follows_the_name(void **state)
{
    (void)state;
    log_warn("first");
    assert_int_equal(rename(the_path, the_moved), 0);
    log_warn("second");
    log_reopen();
    log_warn("third");
    assert_string_equal(only_line(), "third\n");
    assert_non_null(strstr(text_of(the_moved), "second\n"));
}

static void a_log_that_cannot_be_opened_leaves_the_old_one(void **state)
{
    char longer[2000];

    (void)state;
    assert_int_not_equal(log_open("/nowhere/at/all", LOG_DEBUG, &e), 0);
    assert_non_null(strstr(e.text, "/nowhere/at/all"));
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_not_equal(log_open(longer, LOG_DEBUG, &e), 0);
    log_warn("still here");
    log_debug("%s", "the level is the old one");
    assert_string_equal(only_line(), "still here\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_is_cut_at_its_size),
        TEST(a_message_names_the_systems_reason),
        TEST(levels_have_names),
        TEST(a_line_says_when_what_and_who),
        TEST(what_is_below_the_level_is_not_written),
        TEST(an_event_is_one_line_whatever_it_holds),
        TEST(a_long_line_is_cut_and_says_so),
        TEST(a_line_that_the_disk_has_cut_ends),
        TEST(reopening_follows_the_name),
        TEST(a_log_that_cannot_be_opened_leaves_the_old_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
