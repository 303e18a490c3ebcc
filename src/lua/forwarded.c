/*
 * See forwarded.h. The client's headers are gone through once. Connection is obeyed before weir's
 * own headers are added: a client could otherwise have them taken away by naming them there.
 */
#include "lua/forwarded.h"
#include "base/mem.h"
#include "req/req.h"
#include "wire/hop.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define VIA "1.1 weir/" PACKAGE_VERSION
#define MAX_OWN 9 /* headers that are added */

/* What is not simply the client's to say. */
enum field {
    OTHER,
    REPLACED,
    FOR,
    VIA_FIELD,
    PROTO,
    HOST,
    PORT,
    PATH,
    PREFIX,
    FIELDS,
};

struct passing {
    const struct headers *from;
    struct headers out;
    struct arena *arena;
    size_t list_bytes[FIELDS]; /* what the client said of FOR and VIA_FIELD, with separators */
    bool is_there[FIELDS];     /* a trusted peer has said it */
    bool trusted, connection_names;
};

static enum field field_of(struct str name)
{
    static const struct {
        const char *name;
        enum field field;
    } BY_LENGTH[][3] = {
        [3] = { { "via", VIA_FIELD } },
        [9] = { { "x-real-ip", REPLACED } },
        [10] = { { "connection", REPLACED } },
        [15] = { { "x-forwarded-for", FOR } },
        [16] = { { "x-forwarded-host", HOST },
                 { "x-forwarded-port", PORT },
                 { "x-forwarded-path", PATH } },
        [17] = { { "x-forwarded-proto", PROTO }, { "x-kong-request-id", REPLACED } },
        [18] = { { "x-forwarded-prefix", PREFIX } },
    };

    if (name.n >= ARRAY_LEN(BY_LENGTH))
        return OTHER;
    for (size_t i = 0; i < 3 && BY_LENGTH[name.n][i].name; i++)
        if (str_eq_nocase(name, (struct str){ BY_LENGTH[name.n][i].name, name.n }))
            return BY_LENGTH[name.n][i].field;
    return OTHER;
}

static bool stays_here(const struct passing *x, struct str name)
{
    return x->connection_names && hop_is_named(x->from, name);
}

static void pass(struct passing *x, const struct header *h)
{
    enum field field = field_of(h->name);

    if (stays_here(x, h->name))
        return;
    switch (field) {
    case OTHER:
        break;
    case REPLACED:
        return;
    case FOR:
    case VIA_FIELD:
        x->list_bytes[field] += h->value.n + 2;
        return;
    default:
        if (!x->trusted)
            return;
        x->is_there[field] = true;
    }
    x->out.v[x->out.n++] = *h;
}

static char *put(char *to, struct str s)
{
    return s.n ? (char *)memcpy(to, s.p, s.n) + s.n : to;
}

/* "a, b, own": all that the client said of the field, and what weir adds. */
static struct str with_own(const struct passing *x, enum field field, struct str own)
{
    size_t n = x->list_bytes[field] + own.n;
    char *text, *to;

    if (n == own.n)
        return own;
    text = to = arena_alloc(x->arena, n);
    for (unsigned i = 0; i < x->from->n; i++) {
        const struct header *h = &x->from->v[i];

        if (field_of(h->name) != field || stays_here(x, h->name))
            continue;
        to = put(to, h->value);
        to = put(to, STR(", "));
    }
    put(to, own);
    return (struct str){ text, n };
}

/* The host without its port. */
static struct str without_port(struct str host)
{
    size_t n = host.n;

    while (n > 0 && host.p[n - 1] >= '0' && host.p[n - 1] <= '9')
        n--;
    if (n == 0 || host.p[n - 1] != ':')
        return host;
    return (struct str){ host.p, n - 1 };
}

static struct str port_text(struct arena *a, unsigned port)
{
    char room[U64_DIGITS];

    return arena_str(a, str_from_u64(port, room));
}

static void add(struct passing *x, enum field field, struct str name, struct str value)
{
    if (!x->is_there[field])
        x->out.v[x->out.n++] = (struct header){ name, value };
}

static void add_own(struct passing *x, struct req *req, const struct forwarded *f)
{
    struct arena *a = x->arena;

    add(x, FOR, STR("X-Forwarded-For"), with_own(x, FOR, req->remote_addr));
    add(x, PROTO, STR("X-Forwarded-Proto"), req->scheme);
    add(x, HOST, STR("X-Forwarded-Host"), without_port(req->host));
    add(x, PORT, STR("X-Forwarded-Port"), port_text(a, req->server_port));
    add(x, PATH, STR("X-Forwarded-Path"), req->raw_path);
    /* it is of the decoded path: all else was found valid where it came in */
    if (f->prefix.n && header_value_valid(f->prefix))
        add(x, PREFIX, STR("X-Forwarded-Prefix"), arena_str(a, f->prefix));
    add(x, REPLACED, STR("X-Real-IP"), arena_str(a, f->client_ip));
    add(x, VIA_FIELD, STR("Via"), with_own(x, VIA_FIELD, STR(VIA)));
    add(x, REPLACED, STR("X-Kong-Request-Id"), req_id(req));
}

struct headers forwarded_headers(struct req *req, const struct forwarded *f)
{
    struct passing x = { .from = &req->headers, .arena = &req->arena, .trusted = f->trusted };
    unsigned cap = x.from->n + MAX_OWN;

    x.connection_names = hop_names_fields(x.from);
    x.out = (struct headers){ .v = arena_alloc(x.arena, cap * sizeof *x.out.v), .cap = cap };
    for (unsigned i = 0; i < x.from->n; i++)
        pass(&x, &x.from->v[i]);
    add_own(&x, req, f);
    return x.out;
}
