/*
 * See tls.h. OpenSSL reads and writes through a BIO of ours, so that no write
 * to a socket that is gone raises SIGPIPE. At least TLS 1.2, no renegotiation.
 */
#include "peer/tls.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>

struct tls_trust {
    LIST_ENTRY(tls_trust) link;
    SSL_CTX *context;
    char *ca_file; /* NULL: the system's */
    bool verify;
    unsigned users;
};

struct tls {
    SSL *ssl;
    struct err error;
};

static LIST_HEAD(, tls_trust) the_trusts = LIST_HEAD_INITIALIZER(the_trusts);

/* ---- sockets for OpenSSL ---- */

static int fd_of(BIO *b)
{
    return (int)(intptr_t)BIO_get_data(b);
}

static int bio_read(BIO *b, char *p, int n)
{
    ssize_t done = recv(fd_of(b), p, (size_t)n, 0);

    BIO_clear_retry_flags(b);
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_read(b);
    else if (done == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return (int)done;
}

static int bio_write(BIO *b, const char *p, int n)
{
    ssize_t done = send(fd_of(b), p, (size_t)n, MSG_NOSIGNAL);

    BIO_clear_retry_flags(b);
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_write(b);
    return (int)done;
}

static long bio_ctrl(BIO *b, int command, long n, void *p)
{
    (void)n;
    (void)p;
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return command == BIO_CTRL_FLUSH;
}

static BIO *socket_bio(int fd)
{
    static BIO_METHOD *method;
    BIO *b;

    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir socket");
        must(method && BIO_meth_set_read(method, bio_read) &&
             BIO_meth_set_write(method, bio_write) && BIO_meth_set_ctrl(method, bio_ctrl));
    }
    b = BIO_new(method);
    must(b);
    BIO_set_data(b, (void *)(intptr_t)fd);
    BIO_set_init(b, 1);
    return b;
}

/* ---- trust ---- */

/* The first of OpenSSL's errors, which the others follow from. */
static const char *openssl_reason(void)
{
    unsigned long code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);

    if (ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    ERR_clear_error();
    return reason ? reason : "OpenSSL does not say why";
}

static int load_authorities(SSL_CTX *context, const char *ca_file, struct err *e)
{
    ERR_clear_error();
    if (!ca_file) {
        if (SSL_CTX_set_default_verify_paths(context) == 1)
            return 0;
        return err_set(e, ERR_CONFIG, "TLS: the system's certificates: %s", openssl_reason());
    }
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) == 1)
        return 0;
    return err_set(e, ERR_CONFIG, "TLS: %s: %s", ca_file, openssl_reason());
}

static SSL_CTX *make_context(const char *ca_file, bool verify, struct err *e)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    must(context && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_verify(context, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (verify && load_authorities(context, ca_file, e) != 0) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

struct tls_trust *tls_trust_get(const char *ca_file, bool verify, struct err *e)
{
    struct tls_trust *t;
    SSL_CTX *context;

    if (!verify)
        ca_file = NULL;
    LIST_FOREACH (t, &the_trusts, link)
        if (t->verify == verify && is_same(t->ca_file, ca_file)) {
            t->users++;
            return t;
        }
    context = make_context(ca_file, verify, e);
    if (!context)
        return NULL;
    t = xcalloc(1, sizeof *t);
    t->context = context;
    t->ca_file = ca_file ? xstrdup(ca_file) : NULL;
    t->verify = verify;
    t->users = 1;
    LIST_INSERT_HEAD(&the_trusts, t, link);
    return t;
}

void tls_trust_put(struct tls_trust *t)
{
    if (!t || --t->users > 0)
        return;
    LIST_REMOVE(t, link);
    SSL_CTX_free(t->context);
    free(t->ca_file);
    free(t);
}

/* ---- a connection ---- */

static bool is_address(const char *name)
{
    struct in6_addr room;

    return inet_pton(AF_INET, name, &room) == 1 || inet_pton(AF_INET6, name, &room) == 1;
}

static void set_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

    if (is_address(name)) {
        must(X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1);
        return;
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    must(X509_VERIFY_PARAM_set1_host(param, name, 0) == 1);
    if (strlen(name) <= TLSEXT_MAXLEN_host_name && !strchr(name, '/'))
        must(SSL_set_tlsext_host_name(ssl, name) == 1);
}

struct tls *tls_new(struct tls_trust *trust, int fd, const char *name)
{
    struct tls *t = xcalloc(1, sizeof *t);
    BIO *bio = socket_bio(fd);

    t->ssl = SSL_new(trust->context);
    must(t->ssl);
    SSL_set_bio(t->ssl, bio, bio);
    set_name(t->ssl, name);
    SSL_set_connect_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    free(t);
}

/* Why the operation that returned rc did not succeed; the words of a failure go to t->error. */
static int judge(struct tls *t, int rc, int error)
{
    int why = SSL_get_error(t->ssl, rc);
    long verdict = SSL_get_verify_result(t->ssl);

    if (why == SSL_ERROR_SYSCALL && error == 0)
        return SSL_ERROR_ZERO_RETURN;
    if (why == SSL_ERROR_SYSCALL)
        err_set(&t->error, ERR_CLOSED, "%s", strerror(error));
    else if (why == SSL_ERROR_SSL && !SSL_is_init_finished(t->ssl) && verdict != X509_V_OK)
        err_set(&t->error, ERR_CONFIG, "TLS: the certificate is not accepted: %s",
                X509_verify_cert_error_string(verdict));
    else if (why == SSL_ERROR_SSL)
        err_set(&t->error, ERR_CLOSED, "TLS: %s", openssl_reason());
    return why;
}

enum tls_result tls_handshake(struct tls *t, struct err *e)
{
    int rc;

    ERR_clear_error();
    errno = 0;
    rc = SSL_do_handshake(t->ssl);
    if (rc == 1)
        return TLS_DONE;
    switch (judge(t, rc, errno)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        err_set(e, ERR_CLOSED, "TLS: the server has closed the connection");
        return TLS_FAILED;
    default:
        *e = t->error;
        return TLS_FAILED;
    }
}

/* What recv or send would say; rc did not mean success. */
static ssize_t refuse(struct tls *t, int rc)
{
    switch (judge(t, rc, errno)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

ssize_t tls_read(struct tls *t, char *p, size_t n)
{
    size_t done = 0;
    int rc;

    ERR_clear_error();
    errno = 0;
    rc = SSL_read_ex(t->ssl, p, n, &done);
    return rc == 1 ? (ssize_t)done : refuse(t, rc);
}

ssize_t tls_write(struct tls *t, const char *p, size_t n)
{
    size_t done = 0;
    ssize_t refused;
    int rc;

    ERR_clear_error();
    errno = 0;
    rc = SSL_write_ex(t->ssl, p, n, &done);
    if (rc == 1)
        return (ssize_t)done;
    refused = refuse(t, rc);
    if (refused == 0) {
        err_set(&t->error, ERR_CLOSED, "the server has closed the connection");
        errno = EPIPE;
    }
    return -1;
}

bool tls_has_more(const struct tls *t)
{
    return SSL_has_pending(t->ssl) == 1;
}

const char *tls_error(const struct tls *t)
{
    return t->error.text;
}
