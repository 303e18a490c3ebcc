/*
 * One operation in flight: armed by somebody who wants its result, finished by
 * the loop. States go one way: idle, pending, done. An op may be used again
 * after op_init. The owner of the memory is whoever embeds it.
 */
#ifndef WEIR_EV_OP_H
#define WEIR_EV_OP_H

#include "base/err.h"
#include "base/weir.h"

enum op_state {
    OP_IDLE,
    OP_PENDING,
    OP_DONE,
};

struct op {
    enum op_state state;
    int code;                               /* 0, or an err_code: valid when done */
    void (*done)(struct op *op, void *arg); /* called once, by op_finish; may free the op */
    void *arg;
    void (*cancel)(struct op *op); /* set by the maker; stops the work, never calls done */
};

static inline void op_init(struct op *op, void (*cancel)(struct op *op))
{
    *op = (struct op){ .cancel = cancel };
}

static inline void op_start(struct op *op)
{
    must(op->state == OP_IDLE);
    op->state = OP_PENDING;
}

/* Finishes a pending op and calls done, if there is one. */
void op_finish(struct op *op, int code);

/* Stops a pending op: done is not called, code becomes ERR_CANCELLED. Harmless in other states. */
void op_cancel(struct op *op);

#endif
