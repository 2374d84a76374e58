/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h - a part of a model as an ONNX file of its own.
 *
 * A stage is a convex set of nodes of the DAG.  Its inputs are the tensors that it reads and does
 * not make, its outputs those that it makes and others read or that are outputs of the model;
 * both in the order of the DAG's tensors.  It takes along the initializers that it reads, the
 * operators on constants alone that make what it reads, the model's functions and its operator
 * sets.  What is cut is declared with the types that the engine found (dag.h); inputs and outputs
 * of the model keep the file's declarations.
 *
 * All of these block (they read and write files), and are safe from any thread.
 */
#ifndef SX_GRAPH_STAGE_H
#define SX_GRAPH_STAGE_H

#include "graph/dag.h"

/* What goes in and out, as tensors of the DAG; the arrays are allocated together at *ret_in, which
 * the caller frees.  SX_INVALID: there is no such node.  Linear. */
enum sx_rc sx_stage_ports(const struct sx_dag *dag, const uint32_t *nodes, size_t n,
                          uint32_t **ret_in, size_t *ret_n_in, uint32_t **ret_out,
                          size_t *ret_n_out);

enum sx_stage_data {
    SX_STAGE_REFER, /* external data stay where they are: `path` must be in the model's directory */
    SX_STAGE_COPY,  /* weights that the stage needs are copied: into the file, or beside it as
                       NAME.weights (for NAME.onnx) when they exceed 1 GiB: protobuf ends at 2 */
};
/* Write the stage.  A failed write leaves no file, and an old one as it was.  SX_INVALID: not
 * convex, not whole groups, or a cut tensor has no type; SX_STAGE_REFER elsewhere than beside the
 * model. */
enum sx_rc sx_stage_write(const struct sx_onnx *model, const struct sx_dag *dag,
                          const uint32_t *nodes, size_t n, const char *path,
                          enum sx_stage_data data, struct sx_err *err);

/* The whole model with every tensor that a node makes among its outputs (the model's own first) and
 * the inputs' free dimensions fixed: dimension 0, and any of the same name, to `batch`, others to
 * `other` (-1: free, as "batch"; -2: free).  What the file says about shapes inside is left
 * out, so what an engine says of the outputs are the types and shapes of all tensors.  In the
 * model's directory, as SX_STAGE_REFER. */
enum sx_rc sx_stage_write_probe(const struct sx_onnx *model, const struct sx_dag *dag,
                                int64_t batch, int64_t other, const char *path, struct sx_err *err);

#endif
