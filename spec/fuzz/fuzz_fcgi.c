/*
 * The FastCGI decoder: the same events however the bytes are cut; slices lie in
 * the input; a decoder in error stays so. The first byte says how they are cut.
 */
#include "base/mem.h"
#include "wire/fcgi.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct digest {
    uint64_t hash, bytes;
    bool failed;
};

static void mix(struct digest *d, uint64_t value)
{
    d->hash = (d->hash ^ value) * 0x100000001b3ull;
}

/* Pieces of one content come to the same in any cut: only their bytes are mixed in. */
static void take_event(struct digest *d, enum fcgi_event event, const struct fcgi_record *rec)
{
    for (size_t i = 0; i < rec->content.n; i++)
        mix(d, (unsigned char)rec->content.p[i] | rec->id << 8 | (uint64_t)event << 32);
    d->bytes += rec->content.n;
    if (rec->content.n && !rec->end)
        return;
    mix(d, event);
    mix(d, rec->id);
    mix(d, rec->role);
    mix(d, rec->keep_conn);
    mix(d, rec->type);
    mix(d, rec->end);
    d->failed = event == FCGI_EV_ERROR;
}

static struct digest decode(const char *p, size_t n, size_t step)
{
    struct fcgi_decoder decoder = { 0 };
    struct digest d = { .hash = 0xcbf29ce484222325ull };

    for (size_t at = 0; at < n && !d.failed;) {
        size_t part = n - at < step ? n - at : step;
        char *copy = memcpy(xmalloc(part), p + at, part);
        struct str in = { copy, part };
        struct fcgi_record rec;
        enum fcgi_event event;

        while (!d.failed && (event = fcgi_decode(&decoder, &in, &rec)) != FCGI_EV_NONE) {
            if (rec.content.n)
                must(rec.content.p >= copy && rec.content.p + rec.content.n <= in.p);
            must(event != FCGI_EV_ERROR || rec.reason);
            take_event(&d, event, &rec);
        }
        if (d.failed)
            must(fcgi_decode(&decoder, &in, &rec) == FCGI_EV_ERROR);
        else
            must(in.n == 0);
        at += part;
        free(copy);
    }
    must(d.bytes <= n);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data + 1;
    struct digest whole, cut, bytes;

    if (n < 2)
        return 0;
    n--;
    whole = decode(p, n, SIZE_MAX);
    cut = decode(p, n, data[0] + 2u);
    bytes = decode(p, n, 1);
    must(whole.hash == cut.hash && whole.failed == cut.failed);
    must(whole.hash == bytes.hash && whole.failed == bytes.failed);
    return 0;
}
