/*
 * See command.h. Arguments, and the commands that work in this process; those
 * that talk to a running instance are in control.c.
 */
#include "srv/command.h"
#include "base/log.h"
#include "ev/loop.h"
#include "lua/vm.h"
#include "srv/control.h"
#include "srv/counters.h"
#include "srv/master.h"
#include "srv/migrations.h"
#include "srv/notify.h"
#include "srv/references.h"
#include "srv/spawned.h"
#include "srv/start.h"
#include "srv/state.h"
#include "srv/upgrade.h"
#include "srv/worker.h"
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static char VERSION_WORD[] = "version";

enum { GOOD = 0, FAILED = 1, USAGE = 2 };

/* What stands on the command line. */
struct arguments {
    const char *command;
    char conf_path[PATH_MAX]; /* absolute; empty: the default */
    char prefix[PATH_MAX];    /* absolute; empty: from the configuration */
    bool foreground, help;
    int argc; /* what is left: the command's own words, and the command before them */
    char **argv;
};

struct command {
    const char *name, *synopsis, *summary, *help;
    int (*run)(const struct arguments *a);
    bool takes_words, takes_options; /* of its own, which stay among its words */
};

static int complain(const struct err *e)
{
    fprintf(stderr, "weir: %s\n", e->text);
    return FAILED;
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static int load_conf(const struct arguments *a, struct conf **out, struct err *e)
{
    const struct conf_override overrides[] = {
        { *a->prefix ? "prefix" : NULL, a->prefix },
        { NULL, NULL },
    };

    return conf_load(out, or_null(a->conf_path), overrides, e);
}

/* ---- start */

/* Waits for the daemon's word on how its start went. */
static int wait_for_start(int fd, struct err *e)
{
    int rc = notify_read(fd, e);

    if (rc == ERR_CLOSED)
        err_set(e, rc, "the master died while it started; see its log");
    return rc == 1 ? 0 : rc;
}

static int start_in_background(struct master_options *options, struct err *e)
{
    int fds[2], rc;
    pid_t pid;

    if (pipe(fds) == -1)
        return err_set_errno(e, "cannot make a pipe");
    pid = fork();
    if (pid == -1)
        return err_set_errno(e, "cannot fork");
    if (pid == 0) {
        close(fds[0]);
        setsid();
        if (chdir("/") == -1)
            log_warn("cannot leave the working directory");
        fcntl(fds[1], F_SETFD, FD_CLOEXEC);
        options->daemon_fd = fds[1];
        exit(master_run(options, e) == 0 ? GOOD : FAILED);
    }
    close(fds[1]);
    rc = wait_for_start(fds[0], e);
    close(fds[0]);
    if (rc != 0)
        waitpid(pid, NULL, 0);
    return rc;
}

static int run_spawned(const struct arguments *a)
{
    struct conf *conf = NULL;
    struct err e;
    int rc = load_conf(a, &conf, &e);

    if (rc == 0)
        rc = spawned_run(conf, &e);
    if (rc < 0) {
        log_error("%s", e.text); /* standard error may lead nowhere */
        rc = log_fd() == STDERR_FILENO ? FAILED : complain(&e);
    }
    conf_free(conf);
    return rc;
}

static bool wants_stdin(const struct arguments *a)
{
    struct conf *conf = NULL;
    struct err e;
    bool wants;

    if (!listen_is_inherited() || load_conf(a, &conf, &e) != 0)
        return false;
    wants = conf->fastcgi_listen.n == 1 && strcmp(conf->fastcgi_listen.items[0], "stdin") == 0;
    conf_free(conf);
    return wants;
}

static int run_start(const struct arguments *a)
{
    static char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    struct master_options options = {
        .exe = exe,
        .conf_path = or_null(a->conf_path),
        .prefix = or_null(a->prefix),
        .foreground = a->foreground,
        .daemon_fd = -1,
    };
    struct err e;
    int rc;

    if (n == -1) {
        err_set_errno(&e, "cannot read /proc/self/exe");
        return complain(&e);
    }
    exe[n] = '\0';
    if (wants_stdin(a))
        return run_spawned(a);
    if (a->foreground || upgrade_is_inherited())
        rc = master_run(&options, &e);
    else
        rc = start_in_background(&options, &e);
    return rc == 0 ? GOOD : complain(&e);
}

/* ---- check, restart, plugins, version */

/* For good: plugins are loaded by the user who must be able to read them. */
static int become_worker(const struct conf *conf, struct err *e)
{
    struct identity workers;
    int rc = identity_of_workers(conf, &workers, e);

    return rc == 0 ? identity_assume(&workers, 0, e) : rc;
}

static int check_owner(const struct conf *conf, struct err *e)
{
    struct identity owner;
    struct err reason;

    if (identity_from(conf->fastcgi_socket_owner, &owner, &reason) == 0)
        return 0;
    return conf_refuse(conf, CONF_KEY_fastcgi_socket_owner, e, "%s", reason.text);
}

/* As a start does. */
static int check_logs(const struct conf *conf, struct err *e)
{
    struct identity workers;
    int rc = identity_of_workers(conf, &workers, e);

    return rc == 0 ? identity_own_logs(&workers, conf, e) : rc;
}

static int check(const struct arguments *a, bool opens_logs, struct conf **conf, struct buf *found,
                 struct err *e)
{
    int rc = load_conf(a, conf, e);

    if (rc == 0)
        rc = check_owner(*conf, e);
    if (rc == 0 && opens_logs)
        rc = check_logs(*conf, e);
    if (rc == 0)
        rc = become_worker(*conf, e);
    if (rc == 0)
        rc = worker_check(*conf, found, e);
    return rc;
}

static int run_check(const struct arguments *a)
{
    struct conf *conf = NULL;
    const char *declarative;
    struct buf found = { 0 };
    struct err e;
    int rc = check(a, false, &conf, &found, &e);

    if (rc != 0) {
        buf_free(&found);
        conf_free(conf);
        return complain(&e);
    }
    declarative = conf->values[CONF_KEY_declarative_config].text; /* a reference is not resolved */
    printf("%s", conf->path ? conf->path : "the built-in configuration");
    if (conf->declarative_missing)
        printf(" is good; there is no %s", declarative);
    else if (conf->declarative_path)
        printf(" and %s are good", declarative);
    else
        printf(" is good");
    printf("\n%s\n", found.p);
    buf_free(&found);
    conf_free(conf);
    return GOOD;
}

/* In a process of its own: worker_check leaves a Lua state behind. */
static int check_aside(const struct arguments *a)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct conf *conf = NULL;
        struct err e;

        _exit(check(a, true, &conf, NULL, &e) == 0 ? GOOD : complain(&e));
    }
    if (pid == -1 || waitpid(pid, &status, 0) == -1)
        return FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}

static int run_restart(const struct arguments *a)
{
    struct err e;
    int status;

    if (check_aside(a) != GOOD) {
        fprintf(stderr, "weir: not restarted, what runs goes on\n");
        return FAILED;
    }
    if (control_stop(or_null(a->conf_path), or_null(a->prefix), SIGTERM, true, &e) != 0)
        return complain(&e);
    status = run_start(a);
    if (status != GOOD)
        fprintf(stderr, "weir: what ran was stopped before this; see weir status\n");
    return status;
}

/* As the workers' user, who loads what workers load. */
static int run_in_lua(const struct arguments *a)
{
    struct conf *conf = NULL;
    struct err e;
    int rc = load_conf(a, &conf, &e);

    if (rc == 0)
        rc = become_worker(conf, &e);
    if (rc == 0)
        rc = lua_command(&(struct vm_args){ .conf = conf }, a->argc, a->argv, &e);
    conf_free(conf);
    return rc < 0 ? complain(&e) : rc;
}

static int run_plugins(const struct arguments *a)
{
    bool check = a->argc >= 2 && strcmp(a->argv[1], "check") == 0;

    if (!check && (a->argc != 2 || strcmp(a->argv[1], "list") != 0)) {
        fprintf(stderr, "weir: expected \"weir plugins list\" or \"weir plugins check\"\n");
        return USAGE;
    }
    return run_in_lua(a);
}

static int run_config(const struct arguments *a)
{
    if (a->argc < 2 || a->argc > 3 || strcmp(a->argv[1], "show") != 0) {
        fprintf(stderr, "weir: expected \"weir config show\", with a path behind it or none\n");
        return USAGE;
    }
    return run_in_lua(a);
}

/* What is wrong in weir.conf is told, and what can be looked up nevertheless is. */
static int load_conf_somehow(const struct arguments *a, struct conf **conf, struct err *e)
{
    const struct conf_override overrides[] = {
        { *a->prefix ? "prefix" : NULL, a->prefix },
        { NULL, NULL },
    };

    if (load_conf(a, conf, e) == 0)
        return 0;
    complain(e);
    return conf_load_lenient(conf, or_null(a->conf_path), overrides, e) == 0 ? FAILED : e->code;
}

static int run_vault(const struct arguments *a)
{
    bool list = a->argc == 2 && strcmp(a->argv[1], "list") == 0;
    struct vm_args args = { 0 };
    struct conf *conf = NULL;
    struct err e;
    int rc, status;

    if (!list && (a->argc != 3 || strcmp(a->argv[1], "get") != 0)) {
        fprintf(stderr,
                "weir: expected \"weir vault list\" or \"weir vault get\" and a reference\n");
        return USAGE;
    }
    rc = status = load_conf_somehow(a, &conf, &e);
    if (rc >= 0)
        rc = become_worker(conf, &e);
    if (rc == 0) {
        log_set_level(LOG_CRIT); /* the command says by itself what was not found */
        args = (struct vm_args){ .conf = conf, .loop = loop_new() };
        rc = lua_command(&args, a->argc, a->argv, &e);
        loop_free(args.loop);
    }
    conf_free(conf);
    if (rc < 0)
        return complain(&e);
    return list && status != GOOD ? FAILED : rc;
}

static int run_migrations(const struct arguments *a)
{
    struct conf *conf = NULL;
    struct err e;
    int rc = load_conf(a, &conf, &e);

    if (rc == 0)
        rc = migrations_command(conf, a->argc, a->argv, &e);
    conf_free(conf);
    return rc < 0 ? complain(&e) : rc;
}

static int run_version(const struct arguments *a)
{
    (void)a;
    printf("weir %s\n", PACKAGE_VERSION);
    return GOOD;
}

/* ---- to a running instance */

static int run_stop(const struct arguments *a)
{
    struct err e;

    return control_stop(or_null(a->conf_path), or_null(a->prefix), SIGTERM, false, &e) == 0
               ? GOOD
               : complain(&e);
}

static int run_quit(const struct arguments *a)
{
    struct err e;

    return control_stop(or_null(a->conf_path), or_null(a->prefix), SIGQUIT, false, &e) == 0
               ? GOOD
               : complain(&e);
}

static int run_reload(const struct arguments *a)
{
    struct err e;

    return control_reload(or_null(a->conf_path), or_null(a->prefix), &e) == 0 ? GOOD : complain(&e);
}

static int run_upgrade(const struct arguments *a)
{
    bool keeps = a->argc == 2 && strcmp(a->argv[1], "--keep-environment") == 0;
    struct err e;

    if (a->argc != 1 && !keeps) {
        fprintf(stderr, "weir: expected \"weir upgrade [--keep-environment]\"\n");
        return USAGE;
    }
    return control_upgrade(or_null(a->conf_path), or_null(a->prefix), !keeps, &e) == 0
               ? GOOD
               : complain(&e);
}

static int run_status(const struct arguments *a)
{
    struct err e;

    return control_status(or_null(a->conf_path), or_null(a->prefix), &e) == 0 ? GOOD : complain(&e);
}

static int run_counters(const struct arguments *a)
{
    static struct state instance;
    struct conf *conf = NULL;
    struct err e;
    int rc = load_conf(a, &conf, &e), found = 0;

    if (rc == 0)
        rc = found = control_find(or_null(a->conf_path), or_null(a->prefix), &instance, &e);
    if (rc >= 0)
        rc = counters_command(conf, found ? &instance : NULL, a->argc, a->argv, &e);
    conf_free(conf);
    return rc < 0 ? complain(&e) : rc;
}

/* ---- the command line */

static const struct command COMMANDS[] = {
    { "start", "start [-F]", "starts weir",
      "Starts weir. It goes into the background once its workers are ready; with\n"
      "-F or --foreground it stays, for systemd and containers.",
      run_start, false, false },
    { "stop", "stop", "stops it fast",
      "Stops weir fast: requests in flight are cut off. Waits until it is gone.", run_stop, false,
      false },
    { "quit", "quit", "stops it gracefully",
      "Stops weir gracefully: requests in flight end first, for at most drain_timeout.\n"
      "Waits until it is gone.",
      run_quit, false, false },
    { "reload", "reload", "loads configuration and plugins again",
      "Loads configuration and plugins again, without losing a request. If anything is\n"
      "wrong, prints it, and what runs goes on.",
      run_reload, false, false },
    { "upgrade", "upgrade", "replaces the running binary and its environment",
      "Runs the installed binary in the place of the running one, without losing a request,\n"
      "and in the environment of this command: SECRET_X=new weir upgrade. Waits until it has\n"
      "taken over; if it cannot start, prints why, and what runs goes on.\n"
      "  --keep-environment   in the environment of the running one",
      run_upgrade, true, true },
    { "restart", "restart [-F]", "checks, stops, starts",
      "Checks the configuration, stops weir if it runs, and starts it.", run_restart, false,
      false },
    { "check", "check", "checks configuration and plugins",
      "Checks weir.conf, the declarative configuration and the plugins.", run_check, false, false },
    { "status", "status", "prints what runs",
      "Prints what runs: master, workers, listeners, counters and their stores.", run_status, false,
      false },
    { "plugins", "plugins list|check", "lists or checks the plugins",
      "list shows the plugins that are found. check loads each, or those that are named\n"
      "behind it, and says what is wrong with it.",
      run_plugins, true, false },
    { "config", "config show [PATH]", "prints the configuration",
      "config show       the services, routes, plugins and vaults that would be served, as JSON:\n"
      "                  completed by defaults; references to secrets as they are, secrets\n"
      "                  themselves masked\n"
      "config show PATH  one value of that, such as\n"
      "                  plugins.rate-limiting.config.redis.password\n"
      "config show conf  the keys of weir.conf",
      run_config, true, false },
    { "vault", "vault get|list", "looks up secrets",
      "vault get REFERENCE  prints the secret that a reference names, such as\n"
      "                     {vault://env/redis-password}, or shorter env/redis-password\n"
      "vault list           shows each reference of the configuration and whether it can be\n"
      "                     looked up, but no secret (exit status 1: one cannot)",
      run_vault, true, false },
    { "counters", "counters get|reset|grant", "shows or changes a client's counters",
      "counters get PLUGIN IDENTIFIER      what was counted, in each window\n"
      "counters reset PLUGIN IDENTIFIER    counts from 0 again\n"
      "counters grant PLUGIN IDENTIFIER N  takes N off what was counted\n"
      "\n"
      "PLUGIN is a plugin's name, or the id of its entry; IDENTIFIER is what requests are\n"
      "counted by, such as the client's address.\n"
      "  --service NAME|ID, --route NAME|ID   the entry's scope, where there are several\n"
      "  --by KIND                            IDENTIFIER is of this kind: ip, header, ...",
      run_counters, true, true },
    { "migrations", "migrations up|list", "makes or lists the database's tables",
      "up makes the tables that the policy cluster counts in, or brings them to this\n"
      "version; list shows what is done and what is to do (exit status 1: something is).\n"
      "  --unlogged   behind up, for PostgreSQL: no write-ahead log; a crash of the server\n"
      "               empties the counters, and no standby has them",
      run_migrations, true, true },
    { "version", "version", "prints the version", "Prints the version.", run_version, false,
      false },
};

static const char OPTIONS_TEXT[] =
    "\n"
    "Options:\n"
    "  -c, --conf FILE      the configuration (default: " CONF_DEFAULT_PATH ")\n"
    "  -p, --prefix DIR     the directory of runtime files, over the key prefix\n"
    "  -h, --help           this text\n";

static void print_usage(FILE *f)
{
    fprintf(f, "Usage: weir COMMAND [OPTIONS]\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
        fprintf(f, "  %-20s %s\n", COMMANDS[i].synopsis, COMMANDS[i].summary);
    fprintf(f,
            "%s\nSpawned by a web server with a listening socket on descriptor 0, weir needs no\n"
            "command; WEIR_CONF or WEIR_CONFIG in the environment names the configuration.\n",
            OPTIONS_TEXT);
}

static int usage_error(const char *what, const char *word)
{
    fprintf(stderr, "weir: %s \"%s\"; see \"weir --help\"\n", what, word);
    return USAGE;
}

/* Paths are made absolute: a daemon leaves its working directory. */
static int set_path(char *out, const char *value)
{
    char cwd[PATH_MAX];

    if (!value || !*value) {
        fprintf(stderr, "weir: -c and -p need a path behind them; see \"weir --help\"\n");
        return USAGE;
    }
    if (*value == '/' || !getcwd(cwd, sizeof cwd))
        cwd[0] = '\0';
    if (snprintf(out, PATH_MAX, "%s%s%s", cwd, *cwd ? "/" : "", value) >= PATH_MAX)
        return usage_error("too long a path:", value);
    return GOOD;
}

static bool is_option(const char *word, const char *brief, const char *full)
{
    return strcmp(word, brief) == 0 || strcmp(word, full) == 0;
}

/* Whether options that weir does not know are the command's. */
static bool takes_options(const struct arguments *a)
{
    for (size_t i = 0; a->argc && i < ARRAY_LEN(COMMANDS); i++)
        if (strcmp(a->argv[0], COMMANDS[i].name) == 0)
            return COMMANDS[i].takes_options;
    return false;
}

/* Takes the options out of argv and leaves the words. */
static int parse(struct arguments *a, int argc, char **argv)
{
    int rc = GOOD;

    a->argv = argv;
    for (int i = 1; rc == GOOD && i < argc; i++) {
        const char *word = argv[i];

        if (is_option(word, "-c", "--conf"))
            rc = set_path(a->conf_path, argv[++i]);
        else if (is_option(word, "-p", "--prefix"))
            rc = set_path(a->prefix, argv[++i]);
        else if (is_option(word, "-F", "--foreground"))
            a->foreground = true;
        else if (is_option(word, "-h", "--help"))
            a->help = true;
        else if (is_option(word, "-v", "--version"))
            a->argv[a->argc++] = VERSION_WORD;
        else if (*word == '-' && !takes_options(a))
            rc = usage_error("unknown option", word);
        else
            a->argv[a->argc++] = argv[i];
    }
    a->command = a->argc ? a->argv[0] : NULL;
    return rc;
}

static void conf_path_from_environment(struct arguments *a)
{
    const char *path = getenv("WEIR_CONF");

    if (!path)
        path = getenv("WEIR_CONFIG");
    if (path && *path && !*a->conf_path && set_path(a->conf_path, path) != GOOD)
        a->conf_path[0] = '\0';
}

static int run(const struct command *c, const struct arguments *a)
{
    if (a->help) {
        printf("Usage: weir %s [OPTIONS]\n\n%s\n%s", c->synopsis, c->help, OPTIONS_TEXT);
        return GOOD;
    }
    if (a->argc > 1 && !c->takes_words)
        return usage_error("unexpected argument", a->argv[1]);
    if (a->foreground && c->run != run_start && c->run != run_restart)
        return usage_error("-F does not go with", c->name);
    return c->run(a);
}

int command_main(int argc, char **argv)
{
    static struct arguments a;
    int rc = parse(&a, argc, argv);

    if (rc != GOOD)
        return rc;
    signal(SIGCHLD, SIG_DFL); /* whoever starts weir may ignore it: no child could be waited for */
    conf_path_from_environment(&a);
    references_install();
    if (!a.command) {
        if (!a.help && listen_is_inherited())
            return run_spawned(&a);
        print_usage(a.help ? stdout : stderr);
        return a.help ? GOOD : USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
        if (strcmp(a.command, COMMANDS[i].name) == 0)
            return run(&COMMANDS[i], &a);
    return usage_error("unknown command", a.command);
}
