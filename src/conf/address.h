/*
 * Where a listener binds, from its text in fastcgi_listen.
 */
#ifndef WEIR_CONF_ADDRESS_H
#define WEIR_CONF_ADDRESS_H

#include "base/err.h"
#include <sys/socket.h>
#include <sys/un.h>

struct address {
    bool is_stdin; /* the socket inherited on descriptor 0; the rest is not set */
    struct sockaddr_storage sa;
    socklen_t sa_bytes;
};

/*
 * unix:/path, 127.0.0.1:9000, [::1]:9000, localhost:9000, *:9000 or stdin. Names other
 * than localhost are refused: a start must not wait for a resolver.
 */
int address_parse(const char *text, struct address *out, struct err *e) MUST_CHECK;

/* An address, or a CIDR block such as 10.0.0.0/8. */
bool address_is_block(const char *text);

#endif
