/*
 * `weir counters`: looks at, and changes, what the limiting plugins have
 * counted, in the shared memory of the running instance and in stores.
 */
#ifndef WEIR_SRV_COUNTERS_H
#define WEIR_SRV_COUNTERS_H

#include "base/err.h"
#include "base/weir.h"

struct conf;
struct state;

/*
 * Runs lua/weir/cli/counters.lua as the user that workers run as, for good. instance: that which
 * runs, or NULL: then there are no counters in memory. The exit status, or negative with e set.
 */
int counters_command(const struct conf *conf, const struct state *instance, int argc, char **argv,
                     struct err *e) MUST_CHECK;

#endif
