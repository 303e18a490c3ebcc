/*
 * Which of a Cluster's 16384 slots a key belongs to.
 */
#ifndef WEIR_PEER_REDIS_SLOT_H
#define WEIR_PEER_REDIS_SLOT_H

#include "base/str.h"

#define REDIS_SLOTS 16384

/* CRC16/XMODEM. */
uint16_t redis_crc16(struct str s);

/* Of what stands between the first { and the next }, if that is not empty; else of the whole. */
uint16_t redis_slot(struct str key);

#endif
