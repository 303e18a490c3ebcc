/*
 * Files of others, watched for Lua (ev/watch.h), by number. Lua has one
 * coroutine that waits for all of them. Owns the watches until the state is
 * closed.
 */
#include "base/mem.h"
#include "ev/watch.h"
#include "lua/co.h"
#include "lua/internal.h"
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 4096

struct file {
    struct watch watch;
    bool has_changed;
};

static struct {
    struct watches *watches; /* made at the first need */
    struct file *files[FILES_MAX];
    int count;
    struct op next; /* who waits for changes */
    struct err err; /* the last failure */
} the_files;

static int fail(int rc, weir_str *why)
{
    *why = ffi_str(str_from(the_files.err.text));
    return rc;
}

static void on_change(struct watch *w)
{
    CONTAINER_OF(w, struct file, watch)->has_changed = true;
    if (the_files.next.state == OP_PENDING)
        op_finish(&the_files.next, 0);
}

static void let_go(void)
{
    watches_free(the_files.watches);
    the_files.watches = NULL;
    while (the_files.count > 0)
        free(the_files.files[--the_files.count]);
}

static int open_watches(void)
{
    int rc;

    if (the_files.watches)
        return 0;
    must(the_vm->args.loop);
    rc = watches_new(&the_files.watches, the_vm->args.loop, &the_files.err);
    if (rc == 0)
        vm_at_end(let_go);
    return rc;
}

int weir_watch_open(const char *path, size_t n, weir_str *why)
{
    char *copy;
    struct file *file;
    int rc;

    if (the_files.count == FILES_MAX)
        return fail(err_set(&the_files.err, ERR_BOUND, "too many files"), why);
    rc = open_watches();
    if (rc < 0)
        return fail(rc, why);
    file = xcalloc(1, sizeof *file);
    file->watch.on_change = on_change;
    copy = strndup(path, n);
    must(copy);
    rc = watch_start(the_files.watches, &file->watch, copy, &the_files.err);
    free(copy);
    if (rc < 0) {
        free(file);
        return fail(rc, why);
    }
    the_files.files[the_files.count] = file;
    return the_files.count++;
}

int weir_watch_again(int number, weir_str *why)
{
    int rc;

    must(number >= 0 && number < the_files.count);
    rc = watch_again(&the_files.files[number]->watch, &the_files.err);
    return rc < 0 ? fail(rc, why) : 0;
}

static void cancel_next(struct op *op)
{
    (void)op; /* nobody waits, which is all there is to it */
}

int weir_watch_next(void)
{
    for (int i = 0; i < the_files.count; i++) {
        if (the_files.files[i]->has_changed) {
            the_files.files[i]->has_changed = false;
            return i;
        }
    }
    must(the_files.next.state != OP_PENDING);
    op_init(&the_files.next, cancel_next);
    op_start(&the_files.next);
    co_wait(&the_files.next);
    return WEIR_WAIT;
}
