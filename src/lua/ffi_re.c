/*
 * Regular expressions: PCRE2, compiled with its JIT. Every match is bounded
 * in steps and memory, so that a pattern that backtracks without end costs
 * milliseconds, then fails.
 */
#include "base/err.h"
#include "base/mem.h"
#include "lua/internal.h"
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_STEPS_MAX 1000000
#define MATCH_HEAP_KIB_MAX 4096
#define JIT_STACK_BYTES (32 * 1024)
#define JIT_STACK_BYTES_MAX (512 * 1024)
#define PATTERN_BYTES_MAX (64 * 1024)

struct weir_re {
    pcre2_code *code;
    pcre2_match_data *data; /* one is enough: nothing waits between a match and its reading */
    PCRE2_SPTR names;
    uint32_t name_count, name_bytes, groups;
};

/* What all matches share. */
static struct {
    pcre2_match_context *match;
    pcre2_jit_stack *stack;
} shared;

static pcre2_match_context *match_context(void)
{
    if (!shared.match) {
        shared.match = pcre2_match_context_create(NULL);
        shared.stack = pcre2_jit_stack_create(JIT_STACK_BYTES, JIT_STACK_BYTES_MAX, NULL);
        must(shared.match && shared.stack);
        pcre2_set_match_limit(shared.match, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(shared.match, MATCH_HEAP_KIB_MAX);
        pcre2_jit_stack_assign(shared.match, NULL, shared.stack);
    }
    return shared.match;
}

/* PCRE2's flag of an option letter; 0 for letters that change nothing here. */
static uint32_t option_flag(char letter)
{
    switch (letter) {
    case 'i':
        return PCRE2_CASELESS;
    case 'x':
        return PCRE2_EXTENDED;
    case 's':
        return PCRE2_DOTALL;
    case 'm':
        return PCRE2_MULTILINE;
    case 'a':
        return PCRE2_ANCHORED;
    case 'u':
        return PCRE2_UTF;
    case 'D':
        return PCRE2_DUPNAMES;
    default:
        return 0;
    }
}

static void set_reason(weir_str *out, const char *text, size_t offset)
{
    static char reason[256];
    int n = snprintf(reason, sizeof reason, "%s at offset %zu", text, offset);

    out->p = reason;
    out->n = (size_t)n < sizeof reason ? (size_t)n : sizeof reason - 1;
}

static void read_names(struct weir_re *re)
{
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_NAMECOUNT, &re->name_count);
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_NAMEENTRYSIZE, &re->name_bytes);
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_NAMETABLE, &re->names);
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
}

weir_re *weir_re_new(const char *pattern, size_t n, const char *options, weir_str *out)
{
    uint32_t flags = 0;
    int code;
    PCRE2_SIZE offset;
    struct weir_re *re;

    if (n > PATTERN_BYTES_MAX) {
        set_reason(out, "pattern is too long", PATTERN_BYTES_MAX);
        return NULL;
    }
    for (; *options; options++)
        flags |= option_flag(*options);
    re = xcalloc(1, sizeof *re);
    re->code = pcre2_compile((PCRE2_SPTR)pattern, n, flags, &code, &offset, NULL);
    if (!re->code) {
        char text[200];

        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        set_reason(out, text, offset);
        free(re);
        return NULL;
    }
    /* without JIT (not built in, or no memory to execute) matching works, slower */
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
    re->data = pcre2_match_data_create_from_pattern(re->code, NULL);
    must(re->data);
    read_names(re);
    return re;
}

void weir_re_free(weir_re *re)
{
    if (!re)
        return;
    pcre2_match_data_free(re->data);
    pcre2_code_free(re->code);
    free(re);
}

int weir_re_exec(weir_re *re, const char *p, size_t n, size_t offset, int32_t *ovector, int pairs)
{
    const PCRE2_SIZE *found;
    int count;

    if (offset > n || n > INT32_MAX)
        return WEIR_NONE;
    count = pcre2_match(re->code, (PCRE2_SPTR)p, n, offset, 0, re->data, match_context());
    if (count == PCRE2_ERROR_NOMATCH)
        return WEIR_NONE;
    if (count < 0) {
        bool bound = count == PCRE2_ERROR_MATCHLIMIT || count == PCRE2_ERROR_HEAPLIMIT ||
                     count == PCRE2_ERROR_JIT_STACKLIMIT;
        return bound ? ERR_BOUND : ERR_SYNTAX;
    }
    found = pcre2_get_ovector_pointer(re->data);
    /* all groups of the pattern: those behind the last that took part are unset */
    count = (int)re->groups + 1 < pairs ? (int)re->groups + 1 : pairs;
    for (int i = 0; i < 2 * count; i++)
        ovector[i] = found[i] == PCRE2_UNSET ? -1 : (int32_t)found[i];
    return count;
}

int weir_re_groups(const weir_re *re)
{
    return (int)re->groups;
}

int weir_re_name(const weir_re *re, int i, weir_str *name)
{
    const unsigned char *entry;

    if (i < 0 || (uint32_t)i >= re->name_count)
        return WEIR_NONE;
    /* an entry: the group's number in two bytes, then the name and a NUL */
    entry = re->names + (size_t)i * re->name_bytes;
    name->p = (const char *)entry + 2;
    name->n = strlen(name->p);
    return entry[0] << 8 | entry[1];
}
