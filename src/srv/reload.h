/*
 * A new generation of workers: at the first start, and at SIGHUP. The old one
 * stays until every new worker is ready; any error leaves it as it was.
 */
#ifndef WEIR_SRV_RELOAD_H
#define WEIR_SRV_RELOAD_H

#include "srv/master.h"

/* The first generation. Takes conf in any case, and of m->upgrade.inherited what conf names. */
int reload_begin_first(struct master *m, struct conf *conf, uint32_t number,
                       struct err *e) MUST_CHECK;

/* SIGHUP. During a reload it asks for one more. */
void reload_begin(struct master *m);

/* The trial process has said something on reload.check_fd. */
void reload_on_check(struct master *m);

/* The trial process has ended. */
void reload_on_check_exit(struct master *m);

/* Gives the next generation up without a word, because the master stops. */
void reload_cancel(struct master *m);

/*
 * Gives it up likewise, but for later: a new binary, which reads everything itself, is to start.
 * Two that open the same new sockets would take them from each other.
 */
void reload_postpone(struct master *m);

void reload_tick(struct master *m, int64_t now_ms);

#endif
