/*
 * See hop.h. RFC 9110, 7.6.1, and the older names that are still seen.
 */
#include "wire/hop.h"

bool hop_is_fixed(struct str name)
{
    switch (name.n) {
    case 2:
        return str_eq_nocase(name, STR("TE"));
    case 7:
        return str_eq_nocase(name, STR("Upgrade")) || str_eq_nocase(name, STR("Trailer"));
    case 10:
        return str_eq_nocase(name, STR("Connection")) || str_eq_nocase(name, STR("Keep-Alive"));
    case 16:
        return str_eq_nocase(name, STR("Proxy-Connection"));
    case 17:
        return str_eq_nocase(name, STR("Transfer-Encoding"));
    default:
        return false;
    }
}

bool hop_list_next(struct str *list, struct str *element)
{
    while (list->n > 0) {
        const char *comma = memchr(list->p, ',', list->n);
        size_t n = comma ? (size_t)(comma - list->p) : list->n;
        size_t taken = comma ? n + 1 : n;

        *element = str_trim((struct str){ list->p, n });
        list->p += taken;
        list->n -= taken;
        if (element->n > 0)
            return true;
    }
    return false;
}

bool hop_is_bounded(const struct headers *h)
{
    int i = headers_find(h, STR("Connection"), 0);
    unsigned n = 0;

    for (; i >= 0; i = headers_find(h, STR("Connection"), (unsigned)i + 1)) {
        struct str list = h->v[i].value, element;

        while (hop_list_next(&list, &element))
            if (++n > HOP_MAX_NAMED)
                return false;
    }
    return true;
}

bool hop_names_fields(const struct headers *h)
{
    int i = headers_find(h, STR("Connection"), 0);

    for (; i >= 0; i = headers_find(h, STR("Connection"), (unsigned)i + 1)) {
        struct str list = h->v[i].value, element;

        while (hop_list_next(&list, &element))
            if (!str_eq_nocase(element, STR("keep-alive")) && !str_eq_nocase(element, STR("close")))
                return true;
    }
    return false;
}

bool hop_is_named(const struct headers *h, struct str name)
{
    int i = headers_find(h, STR("Connection"), 0);

    for (; i >= 0; i = headers_find(h, STR("Connection"), (unsigned)i + 1)) {
        struct str list = h->v[i].value, element;

        while (hop_list_next(&list, &element))
            if (str_eq_nocase(element, name))
                return true;
    }
    return false;
}
