/*
 * See op.h.
 */
#include "ev/op.h"

void op_finish(struct op *op, int code)
{
    must(op->state == OP_PENDING);
    op->state = OP_DONE;
    op->code = code;
    if (op->done)
        op->done(op, op->arg);
}

void op_cancel(struct op *op)
{
    if (op->state != OP_PENDING)
        return;
    op->state = OP_DONE;
    op->code = ERR_CANCELLED;
    if (op->cancel)
        op->cancel(op);
}
