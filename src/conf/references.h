/*
 * References in weir.conf: "{vault://...}" as a whole value, or as an item of a
 * list. Keys of kind SECRET keep them; what they stand for in the others is
 * looked up when the configuration is loaded, by whoever has said that he can.
 */
#ifndef WEIR_CONF_REFERENCES_H
#define WEIR_CONF_REFERENCES_H

#include "conf/keys.h"

#define REFERENCES_MAX 256

/*
 * Sets the value or the why of each reference, in arena. rest is the configuration as far as it
 * is known without them. A negative code: nothing could be looked up; ERR_CONFIG if the message
 * says by itself where the mistake is.
 */
typedef int references_resolver(const struct conf *rest, struct conf_references *references,
                                struct arena *arena, struct err *e);

/* Who looks up from now on; NULL: nobody, references are refused. */
void references_set_resolver(references_resolver *resolver);

/* How long the reference is that text begins with; 0: it begins with none. */
size_t reference_bytes(struct str text);

bool references_are_in(const struct conf *c, int index);

/*
 * Notes in c->references what is to be looked up; returns how many. For a reload (old is not
 * NULL) without the keys that are read at a start only; for a lenient load only the few that its
 * callers use.
 */
size_t references_collect(struct conf *c, const struct conf *old);

/* Fails where no reference is to blame; what is wrong with each, references_fill says. */
int references_look_up(struct conf *c, const struct conf *rest, struct err *e) MUST_CHECK;

/*
 * The same once somebody else has tried, with this outcome: rc and, if it is not 0, reason are as
 * a references_resolver's.
 */
int references_looked_up(struct conf *c, int rc, const struct err *reason,
                         struct err *e) MUST_CHECK;

/* Of a key that keeps its value over a reload. */
void references_keep(struct conf *c, const struct conf *old, int index);

/* Sets the key's resolved text, if it has references. The message has no origin in it. */
int references_fill(struct conf *c, int index, struct err *e) MUST_CHECK;

#endif
