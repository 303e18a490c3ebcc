/*
 * See redis_format.h. "*3\r\n$3\r\nSET\r\n...": arguments by their length, so
 * that no byte of them means anything here. Pure but for the memory of the buffer.
 */
#include "peer/redis_format.h"

#define HEAD_BYTES (1 + U64_DIGITS + 2) /* "$123\r\n" */

static char *put_head(char *to, char type, size_t number)
{
    char room[U64_DIGITS];
    struct str digits;

    *to++ = type;
    if (number < 10) {
        *to++ = (char)('0' + number);
    } else {
        digits = str_from_u64(number, room);
        memcpy(to, digits.p, digits.n);
        to += digits.n;
    }
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static char *put_arg(char *to, const char *p, size_t n)
{
    to = put_head(to, '$', n);
    if (n)
        memcpy(to, p, n);
    to += n;
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

int redis_format(struct buf *out, int argc, const char *const *argv, const size_t *lens)
{
    size_t room = HEAD_BYTES + (size_t)argc * (HEAD_BYTES + 2);
    char *start, *to;

    for (int i = 0; i < argc; i++)
        room += lens ? lens[i] : strlen(argv[i]);
    start = to = buf_reserve(out, room);
    if (!to)
        return -1;
    to = put_head(to, '*', (size_t)argc);
    for (int i = 0; i < argc; i++)
        to = put_arg(to, argv[i], lens ? lens[i] : strlen(argv[i]));
    out->n += (size_t)(to - start);
    return 0;
}
