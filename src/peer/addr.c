/*
 * Addresses that need no name server: numeric ones, paths of unix sockets, and
 * the hosts file. The prototypes are in resolve.h.
 */
#include "peer/resolve.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define HOSTS_LINE_BYTES 1024

static int parse_unix(struct str path, struct peer_addr *out)
{
    if (path.n == 0 || path.n >= sizeof out->u.un.sun_path)
        return -1;
    out->u.un.sun_family = AF_UNIX;
    memcpy(out->u.un.sun_path, path.p, path.n);
    out->n = (socklen_t)sizeof out->u.un;
    return 0;
}

static int parse_numeric(struct str host, unsigned port, struct peer_addr *out)
{
    char text[INET6_ADDRSTRLEN];

    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct str){ host.p + 1, host.n - 2 };
    if (host.n == 0 || host.n >= sizeof text)
        return -1;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (inet_pton(AF_INET, text, &out->u.in.sin_addr) == 1) {
        out->u.in.sin_family = AF_INET;
        out->u.in.sin_port = htons((uint16_t)port);
        out->n = (socklen_t)sizeof out->u.in;
        return 0;
    }
    if (inet_pton(AF_INET6, text, &out->u.in6.sin6_addr) == 1) {
        out->u.in6.sin6_family = AF_INET6;
        out->u.in6.sin6_port = htons((uint16_t)port);
        out->n = (socklen_t)sizeof out->u.in6;
        return 0;
    }
    return -1;
}

int peer_addr_parse(struct str host, unsigned port, struct peer_addr *out)
{
    memset(out, 0, sizeof *out);
    if (str_starts(host, STR("unix:")))
        return parse_unix((struct str){ host.p + 5, host.n - 5 }, out);
    return parse_numeric(host, port, out);
}

const char *peer_addr_text(const struct peer_addr *a, char *to, size_t n)
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (a->u.any.sa_family == AF_UNIX) {
        snprintf(to, n, "unix:%s", a->u.un.sun_path);
    } else if (a->u.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->u.in.sin_addr, ip, sizeof ip);
        snprintf(to, n, "%s:%u", ip, (unsigned)ntohs(a->u.in.sin_port));
    } else {
        inet_ntop(AF_INET6, &a->u.in6.sin6_addr, ip, sizeof ip);
        snprintf(to, n, "[%s]:%u", ip, (unsigned)ntohs(a->u.in6.sin6_port));
    }
    return to;
}

/* Takes the next word off a line that ends with NUL; empty at its end or at a comment. */
static struct str next_word(char **at)
{
    struct str word;

    *at += strspn(*at, " \t\r\n");
    word.p = *at;
    word.n = **at == '#' ? 0 : strcspn(*at, " \t\r\n#");
    *at += word.n;
    return word;
}

static bool line_names(char *rest, struct str name)
{
    struct str word;

    while ((word = next_word(&rest)).n)
        if (str_eq_nocase(word, name))
            return true;
    return false;
}

/* RFC 6761 wants this name to work where no file tells of it: a bare container has none. */
static unsigned find_localhost(struct str name, struct peer_addr *out, unsigned max)
{
    if (max == 0 || !str_eq_nocase(name, STR("localhost")))
        return 0;
    memset(out, 0, sizeof *out);
    return parse_numeric(STR("127.0.0.1"), 0, out) == 0;
}

unsigned hosts_find(const char *path, struct str name, struct peer_addr *out, unsigned max)
{
    char line[HOSTS_LINE_BYTES];
    FILE *file = fopen(path, "re");
    unsigned n = 0;

    if (!file)
        return find_localhost(name, out, max);
    while (n < max && fgets(line, sizeof line, file)) {
        char *rest = line;
        struct str ip = next_word(&rest);

        if (!ip.n || !line_names(rest, name))
            continue;
        memset(&out[n], 0, sizeof out[n]);
        if (parse_numeric(ip, 0, &out[n]) == 0)
            n++;
    }
    fclose(file);
    return n ? n : find_localhost(name, out, max);
}
