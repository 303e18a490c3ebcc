/*
 * What every generation begins with: its configuration, and the number of
 * files that it may open.
 */
#ifndef WEIR_SRV_SETUP_H
#define WEIR_SRV_SETUP_H

#include "srv/master.h"

/* conf_read with the command line's part, and conf_finish. */
int setup_read_conf(struct conf **out, const struct master_options *options, const struct conf *old,
                    struct err *e) MUST_CHECK;
int setup_finish_conf(struct conf *c, const struct master_options *options, const struct conf *old,
                      struct err *e) MUST_CHECK;

/* Lets this process and its children open as many descriptors as conf's bounds can need. */
void setup_raise_file_limit(const struct conf *conf);

#endif
