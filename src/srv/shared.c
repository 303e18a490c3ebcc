/*
 * See shared.h. The region's name comes from the prefix, so that a worker
 * spawned by a web server finds the counters of a master with the same prefix.
 */
#include "srv/shared.h"
#include "base/log.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NAME_SHOWN_BYTES 64

/* The readable part may collide, the hash (FNV-1a) behind it does not. */
static void region_name(char *out, size_t size, const char *prefix)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    char shown[NAME_SHOWN_BYTES + 1];
    size_t n = 0;

    for (const char *p = prefix; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
        if (n < NAME_SHOWN_BYTES && (n > 0 || *p != '/'))
            shown[n++] = isalnum((unsigned char)*p) ? *p : '_';
    }
    shown[n] = '\0';
    snprintf(out, size, "%s-%016llx", shown, (unsigned long long)hash);
}

int shared_open(struct shared *s, const struct shared_options *o, const struct identity *workers,
                struct err *e)
{
    const struct region_options options = {
        .name = s->name,
        .file = *o->counter_file ? o->counter_file : NULL,
        .bytes = (size_t)o->counter_memory + REGION_HEADER_BYTES + REGION_STATS_BYTES,
        .mode = 0600,
        .uid = workers->set ? workers->uid : (uid_t)-1,
        .gid = workers->set ? workers->gid : (gid_t)-1,
    };
    struct err reason;
    int rc;

    region_name(s->name, sizeof s->name, o->prefix);
    s->is_file = options.file != NULL;
    rc = region_open(&s->region, &options, &reason);
    if (rc != 0)
        return err_set(e, rc, "%s%s", s->is_file ? "counter_file: " : "", reason.text);
    if (s->region.how == REGION_REPLACED)
        log_warn("the counters of another version or size were replaced: counting begins anew");
    s->stats = stats_attach(&s->region);
    s->counters = counter_open(&s->region);
    return 0;
}

void shared_close(struct shared *s)
{
    counter_close(s->counters);
    region_close(&s->region);
}

void shared_unlink(const struct shared *s)
{
    struct err e;

    if (!s->is_file && region_unlink(s->name, NULL, &e) != 0)
        log_warn("%s", e.text);
}
