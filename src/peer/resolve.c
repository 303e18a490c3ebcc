/*
 * See resolve.h. A name is asked for as A, and as AAAA if it has no A. An
 * expired name goes on being served for a little while its new addresses are
 * fetched, so that a slow name server delays nobody. Owns the names; a query
 * in flight keeps its name alive.
 */
#include "peer/resolve.h"
#include "base/clock.h"
#include "base/mem.h"
#include "ev/loop.h"
#include <arpa/inet.h>
#include <event2/dns.h>
#include <stdlib.h>

#define HOSTS_FILE "/etc/hosts"
#define HOSTS_TTL_MS 10000 /* the file is looked at again after that */
#define FAILED_TTL_MS 1000
#define MAX_TTL_S 86400
#define STALE_MS 60000 /* an expired address is better than none for so long */
#define BUCKETS 256
#define MAX_NAME_BYTES 255

TAILQ_HEAD(resolve_waits, resolve_wait);

struct resolve_name {
    TAILQ_ENTRY(resolve_name) age; /* the least recently used first */
    struct resolve_name *next;     /* in the bucket */
    struct resolver *resolver;     /* NULL once that is gone and only a query is left */
    struct resolve_waits waits;
    struct peer_addr *addrs;      /* count of them */
    unsigned count, first_family; /* how many of the first are of one family */
    int64_t expires_ms, retry_ms; /* not asked again before that */
    bool asking, answering;
    const char *reason; /* of the last failure */
    size_t n;
    char text[];
};

TAILQ_HEAD(resolve_names, resolve_name);

struct resolver {
    struct loop *loop;
    struct resolve_name *buckets[BUCKETS];
    struct resolve_names ages;
    unsigned count;
};

static void ask(struct resolve_name *name, int family);

struct resolver *resolver_new(struct loop *loop)
{
    struct resolver *r = xcalloc(1, sizeof *r);

    r->loop = loop;
    TAILQ_INIT(&r->ages);
    return r;
}

static unsigned bucket_of(struct str host)
{
    unsigned hash = 2166136261u;

    for (size_t i = 0; i < host.n; i++)
        hash = (hash ^ ((unsigned char)host.p[i] | 0x20u)) * 16777619u;
    return hash % BUCKETS;
}

static void name_free(struct resolve_name *name)
{
    free(name->addrs);
    free(name);
}

static void forget_name(struct resolver *r, struct resolve_name *name)
{
    struct resolve_name **at = &r->buckets[bucket_of((struct str){ name->text, name->n })];

    must(TAILQ_EMPTY(&name->waits));
    while (*at != name)
        at = &(*at)->next;
    *at = name->next;
    TAILQ_REMOVE(&r->ages, name, age);
    r->count--;
    name->resolver = NULL;
    if (!name->asking && !name->answering)
        name_free(name);
}

void resolver_free(struct resolver *r)
{
    while (!TAILQ_EMPTY(&r->ages))
        forget_name(r, TAILQ_FIRST(&r->ages));
    free(r);
}

static struct resolve_name *lookup(struct resolver *r, struct str host)
{
    struct resolve_name *name = r->buckets[bucket_of(host)];

    while (name && !str_eq_nocase((struct str){ name->text, name->n }, host))
        name = name->next;
    return name;
}

/* Room for one more; false if every name that is remembered is waited for. */
static bool make_room(struct resolver *r)
{
    struct resolve_name *name;

    if (r->count < RESOLVE_MAX_NAMES)
        return true;
    TAILQ_FOREACH (name, &r->ages, age)
        if (TAILQ_EMPTY(&name->waits)) {
            forget_name(r, name);
            return true;
        }
    return false;
}

static struct resolve_name *add_name(struct resolver *r, struct str host)
{
    struct resolve_name *name = xcalloc(1, sizeof *name + host.n + 1);
    unsigned bucket = bucket_of(host);

    memcpy(name->text, host.p, host.n);
    name->n = host.n;
    name->resolver = r;
    TAILQ_INIT(&name->waits);
    name->next = r->buckets[bucket];
    r->buckets[bucket] = name;
    TAILQ_INSERT_TAIL(&r->ages, name, age);
    r->count++;
    return name;
}

static int by_family(const void *a, const void *b)
{
    bool a6 = ((const struct peer_addr *)a)->u.any.sa_family == AF_INET6;
    bool b6 = ((const struct peer_addr *)b)->u.any.sa_family == AF_INET6;

    return (int)a6 - (int)b6;
}

static void keep(struct resolve_name *name, struct peer_addr *addrs, unsigned count, int64_t ttl_ms)
{
    name->addrs = xrealloc(name->addrs, count * sizeof *addrs);
    qsort(addrs, count, sizeof *addrs, by_family);
    memcpy(name->addrs, addrs, count * sizeof *addrs);
    name->count = count;
    for (name->first_family = 1; name->first_family < count; name->first_family++)
        if (addrs[name->first_family].u.any.sa_family != addrs[0].u.any.sa_family)
            break;
    name->expires_ms = name->retry_ms = clock_mono_ms() + ttl_ms;
}

static void answer(struct resolve_name *name)
{
    struct resolve_wait *w;

    name->answering = true;
    while ((w = TAILQ_FIRST(&name->waits))) {
        resolver_forget(w);
        w->done(w);
    }
    name->answering = false;
    /* those who were called may have pushed it out */
    if (!name->resolver && !name->asking)
        name_free(name);
}

static void fail(struct resolve_name *name, const char *reason)
{
    int64_t now = clock_mono_ms();

    name->reason = reason;
    name->retry_ms = now + FAILED_TTL_MS;
    if (now >= name->expires_ms + STALE_MS)
        name->count = 0;
}

static const char *reason_of(int result)
{
    switch (result) {
    case DNS_ERR_NOTEXIST:
        return "there is no such name";
    case DNS_ERR_NODATA:
        return "the name has no address";
    case DNS_ERR_TIMEOUT:
        return "the name servers do not answer";
    default:
        return "the name servers refuse the question";
    }
}

static void read_answer(struct resolve_name *name, char type, int count, int ttl, const void *bytes)
{
    struct peer_addr addrs[RESOLVE_MAX_ADDRS];
    unsigned n = count > RESOLVE_MAX_ADDRS ? RESOLVE_MAX_ADDRS : (unsigned)count;

    memset(addrs, 0, sizeof addrs);
    for (unsigned i = 0; i < n; i++) {
        if (type == DNS_IPv4_A) {
            addrs[i].u.in.sin_family = AF_INET;
            addrs[i].n = (socklen_t)sizeof addrs[i].u.in;
            memcpy(&addrs[i].u.in.sin_addr, (const char *)bytes + i * sizeof(struct in_addr),
                   sizeof(struct in_addr));
        } else {
            addrs[i].u.in6.sin6_family = AF_INET6;
            addrs[i].n = (socklen_t)sizeof addrs[i].u.in6;
            memcpy(&addrs[i].u.in6.sin6_addr, (const char *)bytes + i * sizeof(struct in6_addr),
                   sizeof(struct in6_addr));
        }
    }
    if (ttl < 1)
        ttl = 1; /* those who wait now must find it */
    keep(name, addrs, n, 1000 * (int64_t)(ttl > MAX_TTL_S ? MAX_TTL_S : ttl));
}

static void on_answer(int result, char type, int count, int ttl, void *bytes, void *arg,
                      int next_family)
{
    struct resolve_name *name = arg;

    name->asking = false;
    if (!name->resolver) {
        name_free(name);
        return;
    }
    if (result == DNS_ERR_NONE && count > 0) {
        read_answer(name, type, count, ttl, bytes);
    } else if (next_family && (result == DNS_ERR_NONE || result == DNS_ERR_NODATA)) {
        ask(name, next_family);
        if (name->asking)
            return;
    } else {
        fail(name, reason_of(result == DNS_ERR_NONE ? DNS_ERR_NODATA : result));
    }
    answer(name);
}

static void on_answer_v4(int result, char type, int count, int ttl, void *bytes, void *arg)
{
    on_answer(result, type, count, ttl, bytes, arg, AF_INET6);
}

static void on_answer_v6(int result, char type, int count, int ttl, void *bytes, void *arg)
{
    on_answer(result, type, count, ttl, bytes, arg, 0);
}

/* Asks the name servers; sets name->asking, or fails. evdns answers in a later turn only. */
static void ask(struct resolve_name *name, int family)
{
    struct evdns_base *dns = loop_dns(name->resolver->loop);
    struct evdns_request *query = NULL;

    name->asking = true;
    if (dns && family == AF_INET)
        query = evdns_base_resolve_ipv4(dns, name->text, 0, on_answer_v4, name);
    else if (dns)
        query = evdns_base_resolve_ipv6(dns, name->text, 0, on_answer_v6, name);
    if (!query) {
        name->asking = false;
        fail(name, dns ? "the question cannot be sent" : "there is no name server");
    }
}

static void refresh(struct resolve_name *name)
{
    struct peer_addr addrs[RESOLVE_MAX_ADDRS];
    unsigned n =
        hosts_find(HOSTS_FILE, (struct str){ name->text, name->n }, addrs, RESOLVE_MAX_ADDRS);

    if (n)
        keep(name, addrs, n, HOSTS_TTL_MS);
    else
        ask(name, AF_INET);
}

static void pick(struct resolve_name *name, unsigned port, struct resolve_turn turn,
                 struct peer_addr *out)
{
    unsigned i = turn.nth % name->count;

    if (i < name->first_family)
        i = (turn.first + i) % name->first_family;
    *out = name->addrs[i];
    if (out->u.any.sa_family == AF_INET)
        out->u.in.sin_port = htons((uint16_t)port);
    else
        out->u.in6.sin6_port = htons((uint16_t)port);
}

static void wait_for(struct resolve_name *name, struct resolve_wait *w)
{
    w->name = name;
    TAILQ_INSERT_TAIL(&name->waits, w, link);
}

enum resolve_result resolver_find(struct resolver *r, struct str host, unsigned port,
                                  struct resolve_turn turn, struct peer_addr *out, unsigned *count,
                                  const char **reason, struct resolve_wait *w)
{
    struct resolve_name *name;

    *count = 1;
    if (peer_addr_parse(host, port, out) == 0)
        return RESOLVE_FOUND;
    *reason = "this is not a name";
    if (host.n == 0 || host.n > MAX_NAME_BYTES || memchr(host.p, '\0', host.n) ||
        str_starts(host, STR("unix:")))
        return RESOLVE_FAILED;
    name = lookup(r, host);
    if (!name) {
        *reason = "too many names are being looked up";
        if (!make_room(r))
            return RESOLVE_FAILED;
        name = add_name(r, host);
    }
    TAILQ_REMOVE(&r->ages, name, age);
    TAILQ_INSERT_TAIL(&r->ages, name, age);
    if (clock_mono_ms() >= name->retry_ms && !name->asking)
        refresh(name);
    if (name->count && clock_mono_ms() < name->expires_ms + STALE_MS) {
        *count = name->count;
        pick(name, port, turn, out);
        return RESOLVE_FOUND;
    }
    if (name->asking) {
        wait_for(name, w);
        return RESOLVE_WAITS;
    }
    *reason = name->reason;
    return RESOLVE_FAILED;
}

void resolver_forget(struct resolve_wait *w)
{
    if (!w->name)
        return;
    TAILQ_REMOVE(&w->name->waits, w, link);
    w->name = NULL;
}
