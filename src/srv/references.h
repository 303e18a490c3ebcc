/*
 * Looks up what references in weir.conf stand for, in a process of its own that
 * ends afterwards: vaults are Lua, and neither the master nor a command in C
 * has a Lua state.
 */
#ifndef WEIR_SRV_REFERENCES_H
#define WEIR_SRV_REFERENCES_H

#include "conf/keys.h"
#include <sys/types.h>

/* From now on conf_load and its like look references up; they block for up to 10 s then. */
void references_install(void);

/*
 * The same for one that must not block, in pieces: in a child of the process parent, writes the
 * answer to fd. A child that takes longer than REFERENCES_TIMEOUT_MS is to be killed.
 */
#define REFERENCES_TIMEOUT_MS 10000
NORETURN void references_answer(const struct conf *rest, const struct conf_references *references,
                                int fd, pid_t parent);

/* What there is to read on fd: 1 with the end of the answer, 0 if more may come, or negative. */
int references_read(int fd, struct buf *answer, struct err *e) MUST_CHECK;

/* What a whole answer says; wipes it. */
int references_take(struct conf_references *references, struct arena *arena, struct buf *answer,
                    struct err *e) MUST_CHECK;

/*
 * For commands that use a secret of weir.conf without a Lua state: looks it up, if it is a
 * reference. Blocks likewise.
 */
int references_put_secret(const struct conf *conf, enum conf_key_index key,
                          struct err *e) MUST_CHECK;

#endif
