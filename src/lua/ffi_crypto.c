/*
 * Digests and codings for Lua, by OpenSSL. Buffers are the caller's; none of
 * these keeps what it was given.
 */
#include "base/err.h"
#include "lua/internal.h"
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void weir_sha1(const char *p, size_t n, unsigned char *out)
{
    must(EVP_Digest(p, n, out, NULL, EVP_sha1(), NULL) == 1);
}

void weir_sha256(const char *p, size_t n, unsigned char *out)
{
    must(EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL) == 1);
}

int weir_hmac_sha256(const char *key, size_t key_n, const char *p, size_t n, unsigned char *out)
{
    if (key_n > INT_MAX)
        return ERR_BOUND;
    must(HMAC(EVP_sha256(), key, (int)key_n, (const unsigned char *)p, n, out, NULL) != NULL);
    return 0;
}

int weir_equal(const char *a, const char *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

int weir_base64(const char *p, size_t n, unsigned char *out)
{
    if (n > INT_MAX / 2)
        return ERR_BOUND;
    return EVP_EncodeBlock(out, (const unsigned char *)p, (int)n);
}

/* EVP_DecodeBlock takes '=' anywhere and blanks at the ends. */
static bool is_base64(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = p[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

int weir_unbase64(const char *p, size_t n, unsigned char *out)
{
    size_t padding = 0;

    if (n > INT_MAX)
        return ERR_BOUND;
    if (n % 4 != 0)
        return ERR_SYNTAX;
    while (padding < 2 && padding < n && p[n - 1 - padding] == '=')
        padding++;
    if (!is_base64(p, n - padding))
        return ERR_SYNTAX;
    return EVP_DecodeBlock(out, (const unsigned char *)p, (int)n) - (int)padding;
}
