/*
 * Looks up what references in weir.conf stand for, in a process of its own that
 * ends afterwards: vaults are Lua, and neither the master nor a command in C
 * has a Lua state.
 */
#ifndef WEIR_SRV_REFERENCES_H
#define WEIR_SRV_REFERENCES_H

#include "conf/keys.h"

/* From now on conf_load and its like look references up; they block for up to 10 s then. */
void references_install(void);

/*
 * For commands that use a secret of weir.conf without a Lua state: looks it up, if it is a
 * reference. Blocks likewise.
 */
int references_put_secret(const struct conf *conf, enum conf_key_index key,
                          struct err *e) MUST_CHECK;

#endif
