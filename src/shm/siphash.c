/*
 * See siphash.h. The one instance that weir uses, compiled once.
 */
#include "shm/siphash.h"

struct siphash_sum siphash_1_3_128(struct siphash_key key, struct str s)
{
    return siphash_with(key, s, 1, 3, true);
}
