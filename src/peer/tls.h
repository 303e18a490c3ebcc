/*
 * TLS on a connected, non-blocking socket that somebody else owns and
 * watches. The certificate is verified against a file of authorities, and must bear the
 * name or the address that was asked for; or nothing is verified at all.
 */
#ifndef WEIR_PEER_TLS_H
#define WEIR_PEER_TLS_H

#include "base/err.h"
#include "base/weir.h"
#include <sys/types.h>

struct tls_trust; /* whom to trust: shared by all that ask for the same */
struct tls;       /* of one socket */

/*
 * ca_file: PEM, NULL: the system's authorities; read when the first asks. NULL and e when it
 * cannot be used.
 */
struct tls_trust *tls_trust_get(const char *ca_file, bool verify, struct err *e) MUST_CHECK;

/* Who has got it gives it back; NULL is harmless. */
void tls_trust_put(struct tls_trust *t);

/* name: for SNI and the certificate; an address is no SNI. The socket and trust must outlive it. */
struct tls *tls_new(struct tls_trust *trust, int fd, const char *name)
    __attribute__((returns_nonnull));

/* Says no goodbye; the socket is closed by its owner. NULL is harmless. */
void tls_free(struct tls *t);

enum tls_result { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_FAILED };

/* Goes on with the handshake; called again when the socket can be read or written. */
enum tls_result tls_handshake(struct tls *t, struct err *e) MUST_CHECK;

/* As recv and send: bytes, 0 at the end, or -1 and errno: EAGAIN, or tls_error has words. */
ssize_t tls_read(struct tls *t, char *p, size_t n) MUST_CHECK;
ssize_t tls_write(struct tls *t, const char *p, size_t n) MUST_CHECK;

/* Bytes have been taken from the socket that tls_read has not given out. */
bool tls_has_more(const struct tls *t);

/* What went wrong last. */
const char *tls_error(const struct tls *t);

#endif
