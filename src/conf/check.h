/*
 * What a value must be beyond its kind: listeners, addresses, header names.
 */
#ifndef WEIR_CONF_CHECK_H
#define WEIR_CONF_CHECK_H

#include "conf/keys.h"

/* Checks all keys of a configuration whose members are set. */
int conf_check(const struct conf *c, struct err *e) MUST_CHECK;

#endif
