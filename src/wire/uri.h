/*
 * Request targets: path and query, the one form of a path that rules are
 * matched against, and the arguments of a query.
 */
#ifndef WEIR_WIRE_URI_H
#define WEIR_WIRE_URI_H

#include "base/mem.h"
#include "base/str.h"
#include "base/weir.h"

/* Up to '?', and behind it (empty if there is none). A fragment belongs to neither. */
void uri_split(struct str target, struct str *path, struct str *query);

/*
 * Decodes the escapes of unreserved characters, writes the digits of the others in upper case,
 * merges slashes, then removes dot segments. %2F stays as it is; a '%' that begins no escape too.
 * An empty path becomes "/"; one that does not begin with '/' ("*") is returned as it is. The
 * result is borrowed from path if nothing changes. Applying it twice changes nothing more.
 */
struct str uri_normalise(struct arena *a, struct str path);

/*
 * The normal form of what a web server looks up for the path: it decodes once, %2F too, and what
 * a path may not hold is escaped again. For rules about what the web server itself will serve.
 */
struct str uri_served(struct arena *a, struct str path);

/*
 * Takes the next argument off the front of *query, undecoded. value->p is NULL
 * for a name without '='. False at the end; empty arguments ("&&") are skipped.
 */
bool uri_query_next(struct str *query, struct str *name, struct str *value);

/* Decodes all escapes (malformed ones stay), and '+' as a blank if plus; s itself if there are
 * none. */
struct str uri_decode(struct arena *a, struct str s, bool plus);

/* Escapes all but unreserved characters, and those of keep. */
struct str uri_encode(struct arena *a, struct str s, struct str keep);

#endif
