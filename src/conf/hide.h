/*
 * Keeps what references stand for out of messages.
 */
#ifndef WEIR_CONF_HIDE_H
#define WEIR_CONF_HIDE_H

#include "conf/keys.h"

/* Puts the references of a key in the place of what they stand for; cuts at size. */
void hide_values(const struct conf *c, int key, char *text, size_t size);

#endif
