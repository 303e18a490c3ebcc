/*
 * See hide.h. A message holds a value, or an item of one, or, where it was cut,
 * the beginning; very short ones also occur in the message's own words.
 */
#include "conf/hide.h"
#include <ctype.h>
#include <stdio.h>

#define ANYWHERE_BYTES 4 /* a shorter value is hidden only where it stands as a word */
#define PART_BYTES 20    /* that much of a longer one is hidden, too */

/* How much of an item stands at text. */
static size_t shown_bytes(const char *text, bool is_word_start, struct str item)
{
    size_t n = 0;

    while (n < item.n && text[n] && text[n] == item.p[n])
        n++;
    if (n == item.n && n < ANYWHERE_BYTES)
        return is_word_start && !isalnum((unsigned char)text[n]) ? n : 0;
    return n == item.n || n >= PART_BYTES ? n : 0;
}

/* The same of whichever item of a reference's value stands there. */
static size_t any_bytes(const char *text, bool is_word_start, const struct conf_reference *r)
{
    struct str rest = r->value;

    while (rest.n) {
        const char *comma = r->is_list ? memchr(rest.p, ',', rest.n) : NULL;
        size_t n = comma ? (size_t)(comma - rest.p) : rest.n;
        size_t found = shown_bytes(text, is_word_start, str_trim((struct str){ rest.p, n }));

        if (found)
            return found;
        n += comma != NULL;
        rest = (struct str){ rest.p + n, rest.n - n };
    }
    return 0;
}

void hide_values(const struct conf *c, int key, char *text, size_t size)
{
    const struct conf_reference *r;
    struct buf out = { 0 };

    for (const char *p = text; *p;) {
        bool is_word_start = p == text || !isalnum((unsigned char)p[-1]);
        struct str piece = { p, 1 };
        size_t taken = 1;

        STAILQ_FOREACH (r, &c->references, link) {
            size_t n = r->key == key ? any_bytes(p, is_word_start, r) : 0;

            if (n > 0) {
                piece = r->text;
                taken = n;
                break;
            }
        }
        must(buf_add(&out, piece.p, piece.n) == 0);
        p += taken;
    }
    snprintf(text, size, "%.*s", (int)out.n, out.n ? out.p : "");
    buf_free(&out);
}
