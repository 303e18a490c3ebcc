/*
 * See counters.h. Without a running instance the memory that stores need lies
 * in a region of the command's own, whose name is gone at once. What is changed
 * makes the workers forget the refusals that they remember.
 */
#include "srv/counters.h"
#include "conf/parse.h"
#include "ev/loop.h"
#include "lua/vm.h"
#include "srv/shared.h"
#include "srv/state.h"
#include "store/store.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 16

static int open_running(struct shared *s, const struct state *instance, struct err *e)
{
    const struct shared_options options = { instance->prefix, instance->counter_file,
                                            instance->counter_memory };
    const struct identity workers = { .set = instance->workers_uid >= 0,
                                      .uid = (uid_t)instance->workers_uid,
                                      .gid = (gid_t)-1 };

    return shared_open(s, &options, &workers, e);
}

static int open_own(struct shared *s, struct err *e)
{
    char prefix[40];
    const struct shared_options options = { prefix, "", REGION_MIN_BYTES };
    const struct identity nobody = { .set = false };
    int rc;

    snprintf(prefix, sizeof prefix, "weir-counters-%d", (int)getpid());
    rc = shared_open(s, &options, &nobody, e);
    if (rc == 0)
        shared_unlink(s);
    return rc;
}

/* The words for Lua: whether the instance runs stands behind the command's name. */
static int run_lua(const struct conf *conf, struct shared *shared, bool is_running, int argc,
                   char **argv, struct err *e)
{
    static char running[] = "running", stopped[] = "stopped";
    char *words[WORDS_MAX + 1];
    struct loop *loop = loop_new();
    const struct stores_args stores_args = {
        .loop = loop,
        .conf = conf,
        .counters = shared->counters,
        .key = shared->region.key,
    };
    struct vm_args args = { .loop = loop, .conf = conf, .counters = shared->counters };
    int rc;

    words[0] = argv[0];
    words[1] = is_running ? running : stopped;
    memcpy(words + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
    args.stores = stores_new(&stores_args);
    rc = lua_command(&args, argc + 1, words, e);
    stores_free(args.stores);
    loop_free(loop);
    return rc;
}

static bool changes(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "get") != 0;
}

int counters_command(const struct conf *conf, const struct state *instance, int argc, char **argv,
                     struct err *e)
{
    struct shared shared = { 0 };
    struct identity workers;
    int rc = argc > WORDS_MAX ? err_set(e, ERR_SYNTAX, "too many words") : 0;

    if (rc == 0)
        rc = identity_of_workers(conf, &workers, e);
    if (rc == 0)
        rc = instance ? open_running(&shared, instance, e) : open_own(&shared, e);
    if (rc != 0)
        return rc;
    rc = identity_assume(&workers, 0, e); /* plugins are loaded, and files made, by the user */
    if (rc == 0)
        rc = run_lua(conf, &shared, instance != NULL, argc, argv, e);
    if (changes(argc, argv)) /* whatever became of it: some of it may be done */
        stats_forget(shared.stats);
    shared_close(&shared);
    return rc;
}
