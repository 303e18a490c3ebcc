/*
 * An ordered list of header fields in an arena. Names compare without case.
 * Names and values are borrowed: whoever adds them keeps them alive as long as
 * the arena. Used for requests and responses, received and sent. What is in a list
 * can be sent as it is: whoever adds a field has found its name and value valid,
 * once, where they came in. Builds with sanitizers look after that.
 */
#ifndef WEIR_WIRE_HEADERS_H
#define WEIR_WIRE_HEADERS_H

#include "base/str.h"
#include "base/weir.h"

struct header {
    struct str name, value;
};

struct headers {
    struct header *v;
    unsigned n, cap;
};

/* At the end of the list. */
void headers_add(struct headers *h, struct arena *a, struct str name, struct str value);

/* One field in the place of all of that name; at the place of the first, or at the end. */
void headers_set(struct headers *h, struct arena *a, struct str name, struct str value);

/* Takes all fields of that name away; their number is returned. */
unsigned headers_remove(struct headers *h, struct str name);

/* The value of the first field of that name, or NULL. */
const struct str *headers_get(const struct headers *h, struct str name);

/* The index of the first field of that name at or behind from, or -1. */
int headers_find(const struct headers *h, struct str name, unsigned from);

/* RFC 9110's token, at least one character. */
bool header_name_valid(struct str name);

/* No CR, LF or NUL. */
bool header_value_valid(struct str value);

#endif
