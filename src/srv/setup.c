/*
 * See setup.h.
 */
#include "srv/setup.h"
#include "base/log.h"
#include "base/mem.h"
#include <string.h>
#include <sys/resource.h>

/* Logs, listeners, the loop's own, libraries. */
#define SPARE_FILES 256

int setup_read_conf(struct conf **out, const struct master_options *options, const struct conf *old,
                    struct err *e)
{
    const struct conf_override overrides[] = {
        { options->prefix ? "prefix" : NULL, options->prefix },
        { NULL, NULL },
    };

    return conf_read(out, old, options->conf_path, overrides, e);
}

int setup_finish_conf(struct conf *c, const struct master_options *options, const struct conf *old,
                      struct err *e)
{
    int rc = conf_finish(c, old, e);

    /* Nobody reads the standard error of a daemon. */
    if (rc == 0 && !options->foreground && strcmp(c->error_log, "stderr") == 0) {
        c->error_log = arena_printf(&c->arena, "%s/error.log", c->prefix).p;
        c->values[CONF_KEY_error_log].text = c->error_log;
        c->values[CONF_KEY_error_log].resolved = NULL;
    }
    return rc;
}

void setup_raise_file_limit(const struct conf *conf)
{
    static bool told;
    rlim_t wanted = (rlim_t)(conf->max_connections + conf->max_requests +
                             conf->upstream_keepalive_pool_size + SPARE_FILES);
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur >= wanted)
        return;
    if (limit.rlim_max < wanted) {
        const struct rlimit raised = { wanted, wanted };

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            return;
        if (!told)
            log_notice("at most %llu files may be open, but max_connections, max_requests and "
                       "upstream_keepalive_pool_size can need %llu: raise the limit (LimitNOFILE=)",
                       (unsigned long long)limit.rlim_max, (unsigned long long)wanted);
        told = true;
        wanted = limit.rlim_max;
        if (limit.rlim_cur == wanted)
            return;
    }
    limit.rlim_cur = wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}
