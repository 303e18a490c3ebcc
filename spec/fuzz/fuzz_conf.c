/*
 * weir.conf from arbitrary bytes: parsed within bounds or refused with a
 * message that names the place; what is taken keeps what the table promises.
 */
#include "conf/parse.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_number(const struct conf *c, const struct conf_key *key)
{
    int64_t value = *(const int64_t *)(const void *)((const char *)c + key->offset);

    must(value >= key->least && value <= key->most);
}

static void check_list(const struct conf *c, const struct conf_key *key)
{
    struct str item;

    for (size_t i = 0; conf_get_list(c, str_from(key->name), i, &item) == 0; i++) {
        must(item.n > 0 && !memchr(item.p, ',', item.n));
        must(key->kind == CONF_LIST || item.p[0] == '/');
    }
}

static void check(const struct conf *c)
{
    for (int i = 0; i < CONF_KEY_COUNT; i++) {
        const struct conf_key *key = &CONF_TABLE[i];
        struct str text;

        must(conf_get_text(c, str_from(key->name), &text) == 0);
        must(!memchr(text.p, '\n', text.n));
        if (key->kind == CONF_INT || key->kind == CONF_COUNT || key->kind == CONF_SIZE ||
            key->kind == CONF_TIME || key->kind == CONF_OCTAL)
            check_number(c, key);
        if (key->kind == CONF_LIST || key->kind == CONF_PATHS)
            check_list(c, key);
    }
    must(c->fastcgi_listen.n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct conf *c = NULL;
    struct err e = { 0 };

    if (conf_load_text(&c, "f.conf", (struct str){ (const char *)data, n }, &e) == 0) {
        check(c);
        conf_free(c);
    } else {
        /* a long prefix can make a default bad */
        must(strncmp(e.text, "f.conf", 6) == 0 || strncmp(e.text, "default: ", 9) == 0);
    }
    return 0;
}
