/*
 * What the files of the master have in common: telling others about the
 * instance, and leaving it in a child.
 */
#ifndef WEIR_SRV_INSTANCE_H
#define WEIR_SRV_INSTANCE_H

#include "srv/master.h"

/* Writes the state file and the figures, unless another master has them now. */
void instance_write_state(struct master *m);

/* In a child of the master: signals as at the start of a program, nothing of the master's kept
 * open. */
void instance_leave(struct master *m);

#endif
