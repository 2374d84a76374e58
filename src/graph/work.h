/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h - how much a graph computes and holds, for one given size of its free dimensions.
 *
 * FLOPs: a multiply-add counts two; convolutions, matrix products and recurrent layers are
 * exact, a pool counts its window and every other computing operator one per output element.
 * Work on constants alone is not counted: an engine does it once, when it loads.
 */
#ifndef SX_GRAPH_WORK_H
#define SX_GRAPH_WORK_H

#include "graph/onnx.h"

struct sx_work_op {
    const char *type; /* the model's */
    size_t count;     /* nodes that run for each request */
    uint64_t flops;
};

struct sx_work {
    uint64_t flops;
    uint64_t parameters; /* elements of the constants that running nodes read */
    uint64_t weight_bytes;
    uint64_t activation_bytes; /* most that is alive at once, in file order, nothing in place */
    size_t unknown;            /* running nodes whose output shapes are unknown: left out above */
    const char *unknown_type;  /* the first one's operator; NULL: none */
    struct sx_work_op *ops;    /* most FLOPs first */
    size_t n_ops;
};

/* `free_dim` stands for each free dimension of the inputs.  Free with sx_work_fini. */
enum sx_rc sx_work_count(const struct sx_onnx *model, int64_t free_dim, struct sx_work *work,
                         struct sx_err *err);
void sx_work_fini(struct sx_work *work);

#endif
