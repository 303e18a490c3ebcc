/*
 * The master's first steps: everything that must be there before the first
 * worker, taken over from an older binary where there is one.
 */
#ifndef WEIR_SRV_START_H
#define WEIR_SRV_START_H

#include "srv/master.h"

/* Sets m up and begins the first generation. On failure start_close gives back what was opened. */
int start_open(struct master *m, struct err *e) MUST_CHECK;

/* The last step: what start_open opened is closed; names are removed unless they were handed over.
 */
void start_close(struct master *m);

#endif
