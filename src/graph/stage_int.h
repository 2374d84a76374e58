/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_int.h - a model on its way to a file; for stage*.c and their test.
 *
 *     zeroed + model -> proto and graph filled (stage.c) -> sx_stage_copy_data? -> sx_stage_save
 *                                                                        -> sx_stage_fini
 */
#ifndef SX_GRAPH_STAGE_INT_H
#define SX_GRAPH_STAGE_INT_H

#include "graph/onnx_int.h"
#include "graph/stage.h"

#define SX_STAGE_INLINE_LIMIT (UINT64_C(1) << 30) /* bytes of weights inside a copied stage */
#define SX_STAGE_SMALL        1024                /* weights below stay inside in any case */

/* Messages that differ from the model's are shallow copies; all else is shared with it. */
struct sx_stage_piece {
    const struct sx_onnx *model;
    Onnx__ModelProto proto;
    Onnx__GraphProto graph;
    struct sx_stage_block *blocks; /* memory of sx_stage_alloc */
    struct sx_stage_map *maps;     /* external files that weights point into */
    enum sx_rc rc;                 /* of what went wrong first */
    struct sx_err *err;            /* where it is explained; may be NULL */
};

/* stage.c: a copy of the model, which shares all lists with it. */
void sx_stage_begin(struct sx_stage_piece *piece, const struct sx_onnx *model, struct sx_err *err);
/* Is `path` where the model's external data are found?  Locations are relative to the file. */
enum sx_rc sx_stage_check_place(const struct sx_onnx *model, const char *path, struct sx_err *err);
/* A value of this name; then a tensor of this type; then with a shape (-1: the batch decides, -2:
 * the data).  NULL when memory is short. */
Onnx__ValueInfoProto *sx_stage_declare(struct sx_stage_piece *piece, const char *name);
Onnx__TypeProto__Tensor *sx_stage_tensor_type(struct sx_stage_piece *piece,
                                              Onnx__ValueInfoProto *value, int onnx_type);
Onnx__TensorShapeProto *sx_stage_shape(struct sx_stage_piece *piece, const int64_t *dims, int rank);

/* --- stage_data.c --- */

/* Zeroed memory that lives as long as the piece; NULL (and piece->rc set) when there is none. */
void *sx_stage_alloc(struct sx_stage_piece *piece, size_t size);
/* Turn all external data, however deep, into data of the piece (mapped, not read). */
enum sx_rc sx_stage_copy_data(struct sx_stage_piece *piece);
/* Write the piece; with more than `limit` bytes of weights in the main graph, those of
 * SX_STAGE_SMALL bytes and more go into the file NAME.weights beside NAME.onnx. */
enum sx_rc sx_stage_save(struct sx_stage_piece *piece, const char *path, uint64_t limit);
void sx_stage_fini(struct sx_stage_piece *piece);

/* stage.c: sx_stage_write with another limit than SX_STAGE_INLINE_LIMIT. */
enum sx_rc sx_stage_write_limit(const struct sx_onnx *model, const struct sx_dag *dag,
                                const uint32_t *nodes, size_t n, const char *path,
                                enum sx_stage_data data, uint64_t limit, struct sx_err *err);

#endif
