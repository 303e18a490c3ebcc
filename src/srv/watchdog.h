/*
 * Ends this process when it stands still. The master watches its workers too,
 * and sooner; this one is for a worker whose master is dead or never was, and
 * that hangs where no signal's handler in Lua or in the loop can run.
 */
#ifndef WEIR_SRV_WATCHDOG_H
#define WEIR_SRV_WATCHDOG_H

#include "base/weir.h"

/*
 * Unless it is called again within span_ms, last_words is called, in a signal's handler, and the
 * process dies by SIGALRM. 0: nothing happens any more.
 */
void watchdog_arm(int64_t span_ms, void (*last_words)(void));

#endif
