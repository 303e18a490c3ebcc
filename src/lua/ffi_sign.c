/*
 * Signatures for Lua: RS256 (RSASSA-PKCS1-v1_5 with SHA-256, RFC 7518), by
 * OpenSSL. The key is read from PEM for one signature and wiped after it;
 * what is said of a key that does not do never quotes it. Keys that need a
 * passphrase are refused, and so are those below 2048 bits.
 */
#include "base/err.h"
#include "base/str.h"
#include "lua/internal.h"
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#define PEM_MAX (64 << 10)
#define KEY_BITS_MIN 2048
#define KEY_BITS_MAX (WEIR_SIGNATURE_MAX * 8)

/* Instead of a question on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return -1;
}

static EVP_PKEY *read_key(const char *pem, size_t n, const char **why)
{
    BIO *bio = NULL;
    EVP_PKEY *key = NULL;
    bool asked = false;

    if (n > PEM_MAX) {
        *why = "the key is too long";
        return NULL;
    }
    bio = BIO_new_mem_buf(pem, (int)n);
    must(bio != NULL);
    key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
    BIO_free(bio);
    if (!key)
        *why = asked ? "the key needs a passphrase" : "not a private key in PEM";
    return key;
}

static const char *why_unfit(const EVP_PKEY *key)
{
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
        return "not an RSA key";
    if (EVP_PKEY_get_bits(key) < KEY_BITS_MIN)
        return "the RSA key has less than 2048 bits";
    if (EVP_PKEY_get_bits(key) > KEY_BITS_MAX || EVP_PKEY_get_size(key) > WEIR_SIGNATURE_MAX)
        return "the RSA key has more than 8192 bits";
    return NULL;
}

static int sign(EVP_PKEY *key, const char *p, size_t n, unsigned char *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t written = WEIR_SIGNATURE_MAX;
    bool good = false;

    must(ctx != NULL);
    good = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
           EVP_DigestSign(ctx, out, &written, (const unsigned char *)p, n) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? (int)written : ERR_SYNTAX;
}

int weir_sign_rs256(const char *pem, size_t pem_n, const char *p, size_t n, unsigned char *out,
                    weir_str *why)
{
    const char *text = NULL;
    EVP_PKEY *key = read_key(pem, pem_n, &text);
    int written = ERR_SYNTAX;

    if (key)
        text = why_unfit(key);
    if (!text) {
        written = sign(key, p, n, out);
        text = "the key cannot sign";
    }
    EVP_PKEY_free(key); /* wipes its numbers */
    ERR_clear_error();
    *why = (weir_str){ text, strlen(text) };
    return written;
}
