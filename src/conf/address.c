/*
 * See address.h. Pure: neither binds nor resolves.
 */
#include "conf/address.h"
#include "base/str.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* A temporary name is bound in the socket's directory first. */
#define UNIX_ROOM_BYTES 16

static int parse_unix(const char *path, struct address *out, struct err *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->sa;
    const char *slash = strrchr(path, '/');
    size_t n = strlen(path);

    if (*path != '/')
        return err_set(e, ERR_CONFIG, "unix:%s: expected unix: and an absolute path", path);
    if (!slash[1])
        return err_set(e, ERR_CONFIG, "unix:%s: the path has no file name", path);
    if (n >= sizeof un->sun_path || (size_t)(slash - path) + UNIX_ROOM_BYTES >= sizeof un->sun_path)
        return err_set(e, ERR_CONFIG, "unix:%s: the path is longer than a socket's may be (%zu)",
                       path, sizeof un->sun_path - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n + 1);
    out->sa_bytes = sizeof *un;
    return 0;
}

static int set_ip(const char *host, uint16_t port, struct address *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out->sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->sa;

    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        out->sa_bytes = sizeof *v4;
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        out->sa_bytes = sizeof *v6;
        return 0;
    }
    return -1;
}

static int parse_tcp(const char *text, struct address *out, struct err *e)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    const char *bare = host;
    uint64_t port;
    size_t n;

    if (!colon)
        return err_set(e, ERR_CONFIG, "%s: expected unix:/path, host:port, [v6]:port or stdin",
                       text);
    if (str_to_u64(str_from(colon + 1), 65535, &port) != 0 || port == 0)
        return err_set(e, ERR_CONFIG, "%s: expected a port from 1 to 65535", text);
    n = (size_t)(colon - text);
    if (n >= sizeof host)
        return err_set(e, ERR_CONFIG, "%s: expected an IP address, localhost or *", text);
    memcpy(host, text, n);
    host[n] = '\0';
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        bare = host + 1;
    } else if (strchr(host, ':')) {
        return err_set(e, ERR_CONFIG, "%s: an IPv6 address is written in brackets: [::1]:9000",
                       text);
    }
    if (strcmp(bare, "localhost") == 0)
        bare = "127.0.0.1";
    else if (strcmp(bare, "*") == 0)
        bare = "0.0.0.0";
    if (set_ip(bare, (uint16_t)port, out) != 0)
        return err_set(e, ERR_CONFIG, "%s: expected an IP address, localhost or *", text);
    return 0;
}

int address_parse(const char *text, struct address *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (strcmp(text, "stdin") == 0) {
        out->is_stdin = true;
        return 0;
    }
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out, e);
    return parse_tcp(text, out, e);
}

bool address_is_block(const char *text)
{
    char host[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t n = strcspn(text, "/");
    uint64_t bits;
    bool v4;

    if (n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    v4 = inet_pton(AF_INET, host, &address) == 1;
    if (!v4 && inet_pton(AF_INET6, host, &address) != 1)
        return false;
    return !text[n] || str_to_u64(str_from(text + n + 1), v4 ? 32 : 128, &bits) == 0;
}
