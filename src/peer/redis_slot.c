/*
 * See redis_slot.h. The checksum is the Cluster specification's: CRC16 of
 * polynomial 0x1021, from 0, no reflection. Four bits at a time: keys are
 * short, and a larger table would push other things out of the cache.
 */
#include "peer/redis_slot.h"

static const uint16_t REST[16] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
    0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
};

uint16_t redis_crc16(struct str s)
{
    unsigned crc = 0;

    for (size_t i = 0; i < s.n; i++) {
        unsigned byte = (unsigned char)s.p[i];

        crc = ((crc << 4) ^ REST[((crc >> 12) ^ (byte >> 4)) & 15]) & 0xffff;
        crc = ((crc << 4) ^ REST[((crc >> 12) ^ byte) & 15]) & 0xffff;
    }
    return (uint16_t)crc;
}

uint16_t redis_slot(struct str key)
{
    const char *open = key.n ? memchr(key.p, '{', key.n) : NULL;
    const char *close = NULL;

    if (open)
        close = memchr(open + 1, '}', key.n - (size_t)(open + 1 - key.p));
    if (close && close > open + 1)
        key = (struct str){ open + 1, (size_t)(close - open - 1) };
    return redis_crc16(key) % REDIS_SLOTS;
}
