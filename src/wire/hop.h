/*
 * Hop-by-hop fields: what concerns one connection and is never passed on.
 */
#ifndef WEIR_WIRE_HOP_H
#define WEIR_WIRE_HOP_H

#include "base/str.h"
#include "base/weir.h"
#include "wire/headers.h"

/* Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade. */
bool hop_is_fixed(struct str name);

/* Takes the next element off a comma-separated list; empty ones are skipped. False at the end. */
bool hop_list_next(struct str *list, struct str *element);

/* The most that Connection may name: each is looked for among all fields. */
#define HOP_MAX_NAMED 64

/* False if the Connection fields of h name more than HOP_MAX_NAMED. */
bool hop_is_bounded(const struct headers *h);

/* False if its Connection fields name nothing but "close" and "keep-alive", as nearly all do. */
bool hop_names_fields(const struct headers *h);

/* True if one of the Connection fields of h names it. */
bool hop_is_named(const struct headers *h, struct str name);

#endif
