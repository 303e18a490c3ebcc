/*
 * The arena: alignment, what it gives back and when, the order of hooks. Under
 * ASan the bytes given back are asked whether they are poisoned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define assert_gone(p) assert_true(__asan_address_is_poisoned(p))
#define assert_there(p) assert_false(__asan_address_is_poisoned(p))
#else
#define assert_gone(p) (void)(p)
#define assert_there(p) (void)(p)
#endif

static void memory_is_aligned_and_apart(void **state)
{
    struct arena a;
    unsigned char *all[400];

    (void)state;
    arena_init(&a, 256);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        all[i] = arena_alloc(&a, i);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        memset(all[i], (int)i, i);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < i; k++)
            assert_int_equal(all[i][k], (unsigned char)i);
    arena_fini(&a);
    assert_int_equal(arena_size_bytes(&a), 0);
}

static void no_bytes_are_an_address_too(void **state)
{
    struct arena a;
    struct str empty;

    (void)state;
    arena_init(&a, 64);
    assert_non_null(arena_alloc(&a, 0));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 0));
    empty = arena_str(&a, STR_NULL);
    assert_int_equal(empty.n, 0);
    assert_string_equal(empty.p, "");
    arena_fini(&a);
}

static void reset_keeps_the_first_block_only(void **state)
{
    struct arena a;
    char *first, *far;

    (void)state;
    arena_init(&a, 128);
    arena_reset(&a);
    first = arena_alloc(&a, 100);
    far = arena_alloc(&a, 5000);
    assert_true(arena_size_bytes(&a) > 5000);
    assert_there(far);
    arena_reset(&a);
    assert_gone(far);
    assert_there(first);
    assert_true(arena_size_bytes(&a) < 200);
    assert_ptr_equal(arena_alloc(&a, 100), first);
    arena_fini(&a);
    assert_gone(first);
}

static void rewind_frees_what_came_since(void **state)
{
    struct arena a;
    struct arena_mark none, some;
    char *kept, *small, *far;

    (void)state;
    arena_init(&a, 128);
    none = arena_get_mark(&a);
    kept = arena_alloc(&a, 16);
    some = arena_get_mark(&a);
    for (int i = 0; i < 3; i++) {
        small = arena_alloc(&a, 16);
        far = arena_alloc(&a, 1000);
        arena_rewind(&a, some);
        assert_gone(far);
        assert_there(kept);
        assert_ptr_equal(arena_alloc(&a, 16), small);
        arena_rewind(&a, some);
    }
    arena_rewind(&a, some);
    assert_ptr_equal(arena_alloc(&a, 112), small); /* all of the first block's rest */
    arena_rewind(&a, none);
    assert_gone(kept);
    assert_int_equal(arena_size_bytes(&a), 0);
    assert_non_null(arena_alloc(&a, 16));
    arena_fini(&a);
}

static char the_order[16];

static void note(void *arg)
{
    strcat(the_order, arg);
}

struct chain {
    struct arena *arena;
    const char *name;
};

static void note_and_allocate(void *arg)
{
    struct chain *c = arg;

    strcat(the_order, arena_str(c->arena, str_from(c->name)).p);
    arena_on_reset(c->arena, note, "+");
}

static void hooks_run_once_the_newest_first(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 64);
    the_order[0] = '\0';
    arena_on_reset(&a, note, "1");
    (void)arena_alloc(&a, 1000);
    arena_on_reset(&a, note, "2");
    arena_on_reset(&a, note, "3");
    arena_reset(&a);
    assert_string_equal(the_order, "321");
    arena_reset(&a);
    assert_string_equal(the_order, "321");
    arena_on_reset(&a, note, "4");
    arena_fini(&a);
    assert_string_equal(the_order, "3214");
    arena_fini(&a);
    assert_string_equal(the_order, "3214");
}

static void a_hook_may_use_the_arena(void **state)
{
    struct arena a;
    struct chain *c;

    (void)state;
    arena_init(&a, 64);
    the_order[0] = '\0';
    arena_on_reset(&a, note, "1");
    c = arena_alloc(&a, sizeof *c);
    *c = (struct chain){ &a, "a rather" };
    arena_on_reset(&a, note_and_allocate, c);
    arena_reset(&a);
    assert_string_equal(the_order, "a rather+1");
    arena_fini(&a);
}

static void printing_of_any_length(void **state)
{
    struct arena a;
    struct str s;

    (void)state;
    arena_init(&a, 64);
    s = arena_printf(&a, "%d%s", 42, "");
    assert_true(str_eq(s, STR("42")));
    s = arena_printf(&a, "%*d", 5000, 7);
    assert_int_equal(s.n, 5000);
    assert_int_equal(s.p[4999], '7');
    assert_int_equal(s.p[5000], '\0');
    s = arena_str(&a, STR("a\0b"));
    assert_true(str_eq(s, STR("a\0b")));
    arena_fini(&a);
}

static void the_x_functions(void **state)
{
    char *p = xmalloc(0), *q = xcalloc(3, 5);

    (void)state;
    p = xrealloc(p, 100);
    memset(p, 1, 100);
    for (int i = 0; i < 15; i++)
        assert_int_equal(q[i], 0);
    free(q);
    q = xstrdup("weir");
    assert_string_equal(q, "weir");
    free(q);
    free(p);
}

/* Ends by the signal of abort(), and has said why. */
static void assert_dies(void (*fn)(void), const char *word)
{
    char text[4096] = "";
    int ends[2], status;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    close(ends[0]);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (!strstr(text, word))
        fail_msg("\"%s\" does not say \"%s\"", text, word);
}

static void break_a_must(void)
{
    must(1 + 1 == 3);
}

static void overdraw_a_buffer(void)
{
    struct buf b = { 0 };

    buf_drop(&b, 1);
}

static void ask_the_arena_for_too_much(void)
{
    struct arena a;

    arena_init(&a, 16);
    (void)arena_alloc(&a, SIZE_MAX - 5);
}

static void what_must_hold_kills_when_it_does_not(void **state)
{
    (void)state;
    assert_dies(break_a_must, "1 + 1 == 3");
    assert_dies(overdraw_a_buffer, "n <= b->n");
    assert_dies(ask_the_arena_for_too_much, "SIZE_MAX");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_apart),
        cmocka_unit_test(no_bytes_are_an_address_too),
        cmocka_unit_test(reset_keeps_the_first_block_only),
        cmocka_unit_test(rewind_frees_what_came_since),
        cmocka_unit_test(hooks_run_once_the_newest_first),
        cmocka_unit_test(a_hook_may_use_the_arena),
        cmocka_unit_test(printing_of_any_length),
        cmocka_unit_test(the_x_functions),
        cmocka_unit_test(what_must_hold_kills_when_it_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
