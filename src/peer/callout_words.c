/*
 * See callout_words.h. What libcurl says itself is passed on only where it is
 * about TLS: elsewhere it may quote the URL or a header.
 */
#include "peer/callout_words.h"
#include <stdio.h>
#include <string.h>

/* Without what libcurl puts before the reason itself, and on one line. */
static void reason_of(const char *detail, char *out, size_t room)
{
    static const char *const prefixes[] = { "SSL certificate problem: ", "SSL: ",
                                            "OpenSSL SSL_connect: ", "OpenSSL SSL_read: ",
                                            "OpenSSL SSL_write: " };

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(detail, prefixes[i], strlen(prefixes[i])) == 0)
            detail += strlen(prefixes[i]);
    snprintf(out, room, "%s", *detail ? detail : "no reason given");
    out[strcspn(out, "\r\n")] = '\0';
}

static int tls_words(struct err *e, CURLcode code, const struct callout_place *place)
{
    char reason[300];

    reason_of(place->detail, reason, sizeof reason);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return err_set(e, ERR_SYSTEM, "certificate of %s: %s", place->where, reason);
    case CURLE_SSL_CERTPROBLEM:
        return err_set(e, ERR_SYSTEM, "certificate %s cannot be used: %s",
                       place->cert_file ? place->cert_file : "of weir", reason);
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(e, ERR_SYSTEM, "certificate authorities cannot be read: %s",
                       place->ca_file ? place->ca_file : "those of the system");
    default:
        return err_set(e, ERR_SYSTEM, "TLS with %s failed: %s", place->where, reason);
    }
}

static int connect_words(struct err *e, CURL *easy, CURLcode code,
                         const struct callout_place *place)
{
    const char *where = place->has_proxy ? "the proxy" : place->where;
    long errno_of_it = 0;

    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &errno_of_it);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(e, ERR_TIMEOUT, "cannot connect to %s: timeout", where);
    return err_set(e, ERR_CLOSED, "cannot connect to %s: %s", where,
                   errno_of_it ? strerror((int)errno_of_it) : "it does not answer");
}

static int receive_words(struct err *e, const struct callout_place *place)
{
    if (strncmp(place->detail, "OpenSSL ", 8) == 0) /* a refused certificate is told this late */
        return tls_words(e, CURLE_RECV_ERROR, place);
    if (place->has_proxy && strstr(place->detail, "CONNECT"))
        return err_set(e, ERR_CLOSED, "the proxy does not lead to %s", place->where);
    if (strstr(place->detail, "chunked"))
        return err_set(e, ERR_SYNTAX, "%s does not speak HTTP", place->where);
    return err_set(e, ERR_CLOSED, "%s broke off the connection", place->where);
}

int callout_words(struct err *e, CURL *easy, CURLcode code, const struct callout_place *place)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
        return connect_words(e, easy, code, place);
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(e, ERR_SYSTEM, "cannot connect to %s: the name has no address",
                       place->where);
    case CURLE_COULDNT_RESOLVE_PROXY:
        return err_set(e, ERR_SYSTEM, "cannot connect to the proxy: the name has no address");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CONNECT_ERROR:
        return tls_words(e, code, place);
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
        return err_set(e, ERR_CLOSED, "%s closed the connection before the end of its response",
                       place->where);
    case CURLE_RECV_ERROR:
        return receive_words(e, place);
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_HTTP2:
        return err_set(e, ERR_SYNTAX, "%s does not speak HTTP", place->where);
    default:
        return err_set(e, ERR_SYSTEM, "%s", curl_easy_strerror(code));
    }
}
