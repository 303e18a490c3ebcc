/*
 * See state.h. Lines of "key value"; line breaks in a value are written as
 * \x01, so that a reload's message keeps its lines.
 */
#include "srv/state.h"
#include "base/log.h"
#include "conf/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX_BYTES 16384
#define LINE_BREAK '\x01'

static void path_of(char *out, size_t size, const char *pid_file, const char *suffix)
{
    snprintf(out, size, "%s.state%s", pid_file, suffix);
}

static void write_text(FILE *f, const char *key, const char *value)
{
    fprintf(f, "%s ", key);
    for (; *value; value++)
        fputc(*value == '\n' ? LINE_BREAK : *value, f);
    fputc('\n', f);
}

void state_write(const struct state *s, const char *pid_file)
{
    char path[4200], new_path[4200];
    FILE *f;
    int bad;

    path_of(path, sizeof path, pid_file, "");
    path_of(new_path, sizeof new_path, pid_file, ".new");
    f = fopen(new_path, "we");
    if (!f) {
        log_error("cannot write %s: %s", new_path, strerror(errno));
        return;
    }
    fprintf(f, "pid %d\ngeneration %u\nstarted_ms %lld\n", (int)s->pid, s->generation,
            (long long)s->started_ms);
    fprintf(f, "counter_memory %lld\nworkers_uid %lld\n", (long long)s->counter_memory,
            s->workers_uid);
    fprintf(f, "reloads_begun %llu\nreloads_done %llu\nreload_good %d\n",
            (unsigned long long)s->reloads_begun, (unsigned long long)s->reloads_done,
            s->reload_good);
    write_text(f, "reload_text", s->reload_text);
    fprintf(f, "upgrades_begun %llu\nupgrades_done %llu\n", (unsigned long long)s->upgrades_begun,
            (unsigned long long)s->upgrades_done);
    write_text(f, "upgrade_text", s->upgrade_text);
    write_text(f, "listeners", s->listeners);
    write_text(f, "conf_path", s->conf_path);
    write_text(f, "prefix", s->prefix);
    write_text(f, "counter_file", s->counter_file);
    bad = ferror(f);
    bad |= fclose(f);
    if (bad || rename(new_path, path) == -1) {
        log_error("cannot write %s: %s", path, strerror(errno));
        unlink(new_path);
    }
}

static void read_text(char *out, size_t size, const char *value)
{
    snprintf(out, size, "%s", value);
    for (; *out; out++)
        if (*out == LINE_BREAK)
            *out = '\n';
}

static void read_line(struct state *s, const char *key, const char *value)
{
    const struct {
        const char *key;
        char *text;
        size_t size;
    } texts[] = {
        { "reload_text", s->reload_text, sizeof s->reload_text },
        { "upgrade_text", s->upgrade_text, sizeof s->upgrade_text },
        { "listeners", s->listeners, sizeof s->listeners },
        { "conf_path", s->conf_path, sizeof s->conf_path },
        { "prefix", s->prefix, sizeof s->prefix },
        { "counter_file", s->counter_file, sizeof s->counter_file },
    };
    long long number = strtoll(value, NULL, 10);

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(key, texts[i].key) == 0)
            read_text(texts[i].text, texts[i].size, value);
    if (strcmp(key, "pid") == 0)
        s->pid = (pid_t)number;
    else if (strcmp(key, "generation") == 0)
        s->generation = (uint32_t)number;
    else if (strcmp(key, "started_ms") == 0)
        s->started_ms = number;
    else if (strcmp(key, "counter_memory") == 0)
        s->counter_memory = number;
    else if (strcmp(key, "workers_uid") == 0)
        s->workers_uid = number;
    else if (strcmp(key, "reloads_begun") == 0)
        s->reloads_begun = (uint64_t)number;
    else if (strcmp(key, "reloads_done") == 0)
        s->reloads_done = (uint64_t)number;
    else if (strcmp(key, "reload_good") == 0)
        s->reload_good = number == 1;
    else if (strcmp(key, "upgrades_begun") == 0)
        s->upgrades_begun = (uint64_t)number;
    else if (strcmp(key, "upgrades_done") == 0)
        s->upgrades_done = (uint64_t)number;
}

int state_read(struct state *out, const char *pid_file, struct err *e)
{
    char path[4200];
    struct str text;
    char *line, *rest;
    int rc;

    memset(out, 0, sizeof *out);
    path_of(path, sizeof path, pid_file, "");
    rc = file_read(path, FILE_MAX_BYTES, &text, e);
    if (rc != 0)
        return rc;
    for (line = strtok_r((char *)text.p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *space = strchr(line, ' ');

        if (space) {
            *space = '\0';
            read_line(out, line, space + 1);
        }
    }
    free((char *)text.p);
    return 0;
}

void state_remove(const char *pid_file)
{
    char path[4200];

    path_of(path, sizeof path, pid_file, "");
    unlink(path);
}
