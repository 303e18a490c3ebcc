/*
 * See redis.h. The kinds of Redis are reached through their types; one server
 * is the simplest of them, and stands here.
 */
#include "peer/redis.h"
#include "base/secret.h"
#include "peer/redis_internal.h"
#include <openssl/evp.h>
#include <stdio.h>

/* ---- one server ---- */

struct standalone {
    struct redis base;
    struct redis_target *server;
};

static void send_to_server(struct redis *r, struct redis_call *call, struct str key)
{
    (void)key;
    redis_call_put(call, CONTAINER_OF(r, struct standalone, base)->server);
}

static void never_waits(struct redis *r)
{
    (void)r;
}

static const struct redis_type STANDALONE = {
    .send = send_to_server,
    .on_reply = redis_call_finish,
    .on_waiting = never_waits,
    .close = never_waits,
};

static struct redis *standalone_new(struct loop *loop, struct resolver *resolver,
                                    const struct redis_settings *settings)
{
    struct redis *r = redis_make(sizeof(struct standalone), &STANDALONE, loop, resolver, settings);

    CONTAINER_OF(r, struct standalone, base)->server = redis_target_get(
        r, str_from(settings->server.host), settings->server.port, REDIS_LINK_DATA);
    return r;
}

/* ---- all kinds ---- */

/* A name in the settings' own words; what only a vault knows is not shown. */
static struct str shown_user(const struct redis_settings *settings)
{
    const struct secret *s = settings->username;

    return s && !*secret_name(s) ? secret_value(s) : STR("");
}

/* With the user and the database: other ones are other stores. */
static void name_it(struct redis *r, const struct redis_settings *settings, const char *what,
                    const char *place, unsigned port)
{
    struct str user = shown_user(settings);
    bool v6 = port && strchr(place, ':');
    char digits[16] = "", database[16] = "";

    if (port)
        snprintf(digits, sizeof digits, ":%u", port);
    if (settings->database)
        snprintf(database, sizeof database, "/%u", settings->database);
    snprintf(r->name, sizeof r->name, "redis %s%.*s%s%s%s%s%s%s", what, STR_ARG(user),
             user.n ? "@" : "", v6 ? "[" : "", place, v6 ? "]" : "", digits, database);
}

static unsigned shown_port(const struct redis_node *node)
{
    return strncmp(node->host, "unix:", 5) == 0 ? 0 : node->port;
}

struct redis *redis_new(struct loop *loop, struct resolver *resolver,
                        const struct redis_settings *settings)
{
    const struct redis_node *cluster = &settings->cluster[0], *server = &settings->server;
    struct redis *r;

    if (settings->sentinel_master) {
        r = redis_sentinel_new(loop, resolver, settings);
        name_it(r, settings, "master ", settings->sentinel_master, 0);
    } else if (settings->cluster_count) {
        r = redis_cluster_new(loop, resolver, settings);
        name_it(r, settings, "cluster ", cluster->host, shown_port(cluster));
    } else {
        r = standalone_new(loop, resolver, settings);
        name_it(r, settings, "", server->host, shown_port(server));
    }
    return r;
}

const char *redis_name(const struct redis *r)
{
    return r->name;
}

void redis_script_init(struct redis_script *s, const char *text)
{
    static const char HEX[] = "0123456789abcdef";
    unsigned char digest[20];

    s->text = text;
    must(EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL) == 1);
    for (size_t i = 0; i < sizeof digest; i++) {
        s->sha1[2 * i] = HEX[digest[i] >> 4];
        s->sha1[2 * i + 1] = HEX[digest[i] & 15];
    }
    s->sha1[40] = '\0';
}

static void begin(struct redis *r, struct redis_call *call, int argc, const char *const *argv,
                  const size_t *lens)
{
    must(!r->closing && argc <= REDIS_ARGS_MAX);
    call->redis = r;
    call->argc = argc;
    call->argv = argv;
    call->lens = lens;
    call->copy = NULL;
    call->deadline.queued = NULL;
    call->redirections = 0;
    call->sent_text = call->ask = false;
}

void redis_send(struct redis *r, struct redis_call *call, struct str key, int argc,
                const char *const *argv, const size_t *lens)
{
    begin(r, call, argc, argv, lens);
    call->script = NULL;
    r->type->send(r, call, key);
}

void redis_eval(struct redis *r, struct redis_call *call, const struct redis_script *script,
                int key_count, int argc, const char *const *argv, const size_t *lens)
{
    struct str key = STR("");

    must(key_count >= 0 && key_count <= argc);
    begin(r, call, argc, argv, lens);
    call->script = script;
    call->key_count = key_count;
    if (key_count > 0)
        key = (struct str){ argv[0], lens ? lens[0] : strlen(argv[0]) };
    redis_call_keep(call);
    r->type->send(r, call, key);
}
