/*
 * The sending half of an exchange: which bytes go out next, and whether they
 * can be sent a second time.
 */
#ifndef WEIR_PEER_HTTP_UPLOAD_H
#define WEIR_PEER_HTTP_UPLOAD_H

#include "base/weir.h"
#include "peer/http.h"

/* The request is sent from its beginning: on a new connection. */
void upload_rewind(struct http_exchange *x);

/* False if bytes that were sent are gone. */
bool upload_can_rewind(const struct http_exchange *x);

/* The request is sent as a whole. */
bool upload_is_over(const struct http_exchange *x);

/* There is something that the socket has not taken yet. */
bool upload_is_blocked(const struct http_exchange *x);

/*
 * Writes what can be written. 0; ERR_SYNTAX: the head or the body's length is
 * not what was announced, reason set. A socket that fails is left to the reader.
 */
int upload_flush(struct http_exchange *x, struct buf *scratch, struct err *e) MUST_CHECK;

#endif
