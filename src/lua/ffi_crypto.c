/*
 * Digests for Lua, by OpenSSL.
 */
#include "lua/internal.h"
#include <openssl/evp.h>

void weir_sha1(const char *p, size_t n, unsigned char *out)
{
    must(EVP_Digest(p, n, out, NULL, EVP_sha1(), NULL) == 1);
}
