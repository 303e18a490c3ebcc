/*
 * A configuration from the command line, the environment, weir.conf and the
 * defaults, in that order of precedence. Each load makes a struct conf of its
 * own, so that a reload can fail while the old one goes on.
 */
#ifndef WEIR_CONF_PARSE_H
#define WEIR_CONF_PARSE_H

#include "conf/keys.h"

/* From the command line; an array of these ends with key NULL. */
struct conf_override {
    const char *key, *value;
};

/* Where `make install` has put it. */
#define CONF_DEFAULT_PATH SYSCONFDIR "/weir/weir.conf"
#define CONF_ENV_PREFIX "WEIR_"

/*
 * Loads path, or, if it is NULL, CONF_DEFAULT_PATH if that exists. overrides
 * may be NULL. Reads declarative_config too. Messages begin with where: file:line, the
 * variable's name or "command line".
 */
int conf_load(struct conf **out, const char *path, const struct conf_override *overrides,
              struct err *e) MUST_CHECK;

/*
 * conf_load in steps, for a reload, which must not wait. conf_read only reads: how many references
 * there are in *out to be looked up, or negative. Keys that are read at a start only are to keep
 * the values that they have in old (may be NULL).
 */
int conf_read(struct conf **out, const struct conf *old, const char *path,
              const struct conf_override *overrides, struct err *e) MUST_CHECK;

/* Looks them up, and waits for it. Others call what is in conf/references.h. */
int conf_look_up(struct conf *c, struct err *e) MUST_CHECK;

/*
 * What c is as long as nobody knows what its references stand for: those who look them up run
 * on it. Keys that hold references have their defaults. To be freed before c.
 */
int conf_without_references(const struct conf *c, struct conf **out, const struct conf *old,
                            struct err *e) MUST_CHECK;

/*
 * The last step; kept_key names the first key that was to change and keeps its value. c is the
 * caller's to free, whatever comes of it.
 */
int conf_finish(struct conf *c, const struct conf *old, struct err *e) MUST_CHECK;

/*
 * For commands to a running instance: what is wrong in weir.conf is passed over, and its default
 * taken; the declarative configuration is not read.
 */
int conf_load_lenient(struct conf **out, const char *path, const struct conf_override *overrides,
                      struct err *e) MUST_CHECK;

/* conf_load from the text of a weir.conf called name; reads no file and no environment. */
int conf_load_text(struct conf **out, const char *name, struct str text, struct err *e) MUST_CHECK;

void conf_free(struct conf *c);

/*
 * The value of a key as text, defaults filled in, references replaced by what they stand for; of
 * kind SECRET the reference itself. -1: no such key.
 */
int conf_get_text(const struct conf *c, struct str key, struct str *out) MUST_CHECK;

/* The i-th item of a list key. -1: no such key, not a list, or behind the last. */
int conf_get_list(const struct conf *c, struct str key, size_t i, struct str *out) MUST_CHECK;

#endif
