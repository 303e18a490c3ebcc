/*
 * What every file of weir may assume: compiler attributes and the forward
 * declarations of the structs that travel between floors.
 */
#ifndef WEIR_BASE_WEIR_H
#define WEIR_BASE_WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#define COLD __attribute__((cold))
#define EXPORT __attribute__((visibility("default")))

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

struct arena;
struct err;
struct loop;
struct op;
struct req;
struct str;

/*
 * Dies with file, line and the condition. For memory safety and the order of
 * states, never on input.
 */
#define must(cond)                                                                                 \
    do {                                                                                           \
        if (UNLIKELY(!(cond)))                                                                     \
            must_fail(__FILE__, __LINE__, #cond);                                                  \
    } while (0)

NORETURN COLD void must_fail(const char *file, int line, const char *cond);

#endif
