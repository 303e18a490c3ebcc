/*
 * SipHash: a keyed hash for what strangers choose (addresses, header values),
 * so that nobody without the key can aim at a slot. The rounds and the width
 * are parameters of an inline function: the specs check it against published
 * vectors of SipHash-2-4, the counters use SipHash-1-3 with 128 bits. Pure.
 */
#ifndef WEIR_SHM_SIPHASH_H
#define WEIR_SHM_SIPHASH_H

#include "base/str.h"
#include "base/weir.h"

struct siphash_key {
    uint64_t k0, k1; /* little-endian halves of the 16 bytes */
};

struct siphash_sum {
    uint64_t h0, h1; /* the halves in the order of the output's bytes, little-endian */
};

static inline uint64_t siphash_rotl(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline __attribute__((always_inline)) void siphash_rounds(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = siphash_rotl(v[1], 13) ^ v[0];
        v[3] = siphash_rotl(v[3], 16) ^ v[2];
        v[0] = siphash_rotl(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = siphash_rotl(v[1], 17) ^ v[2];
        v[3] = siphash_rotl(v[3], 21) ^ v[0];
        v[2] = siphash_rotl(v[2], 32);
    }
}

static inline uint64_t siphash_load(const unsigned char *p, size_t n)
{
    uint64_t word = 0;

    memcpy(&word, p, n);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The last word: the 0 to 7 bytes that are left, and the length's low byte on top. */
static inline uint64_t siphash_tail(const unsigned char *p, size_t left, size_t n)
{
    uint64_t word = (uint64_t)n << 56;

    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

/* c rounds for each word, d at the end; h1 stays 0 unless wide. */
static inline __attribute__((always_inline)) struct siphash_sum siphash_with(struct siphash_key key,
                                                                             struct str s, int c,
                                                                             int d, bool wide)
{
    const unsigned char *p = (const unsigned char *)s.p;
    uint64_t v[4] = { key.k0 ^ UINT64_C(0x736f6d6570736575), key.k1 ^ UINT64_C(0x646f72616e646f6d),
                      key.k0 ^ UINT64_C(0x6c7967656e657261),
                      key.k1 ^ UINT64_C(0x7465646279746573) };
    struct siphash_sum sum = { 0, 0 };
    uint64_t word;

    if (wide)
        v[1] ^= 0xee;
    for (size_t left = s.n; left >= 8; left -= 8, p += 8) {
        word = siphash_load(p, 8);
        v[3] ^= word;
        siphash_rounds(v, c);
        v[0] ^= word;
    }
    word = siphash_tail(p, s.n & 7, s.n);
    v[3] ^= word;
    siphash_rounds(v, c);
    v[0] ^= word;
    v[2] ^= wide ? 0xee : 0xff;
    siphash_rounds(v, d);
    sum.h0 = v[0] ^ v[1] ^ v[2] ^ v[3];
    if (wide) {
        v[1] ^= 0xdd;
        siphash_rounds(v, d);
        sum.h1 = v[0] ^ v[1] ^ v[2] ^ v[3];
    }
    return sum;
}

/* SipHash-1-3 with 128 bits. */
struct siphash_sum siphash_1_3_128(struct siphash_key key, struct str s);

#endif
