/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx_int.h - what the files of graph/ share about an opened file.
 */
#ifndef SX_GRAPH_ONNX_INT_H
#define SX_GRAPH_ONNX_INT_H

#include <onnx.pb-c.h>

#include "graph/onnx.h"

struct sx_onnx {
    char *path, *dir;
    const void *map; /* the file; raw_data of the main graph's initializers points into it */
    size_t map_size;
    Onnx__ModelProto *proto;

    struct sx_onnx_value *inputs, *outputs;
    struct sx_onnx_initializer *initializers;
    struct sx_onnx_op_count *ops;
    size_t n_inputs, n_outputs, n_initializers, n_ops, n_nodes, n_overridable;
    uint64_t parameters, made_parameters;
    bool has_external;
};

/* onnx_wire.c: check the protobuf bytes and unpack them without copying the weights. */
enum sx_rc sx_onnx_unpack(const void *data, size_t size, Onnx__ModelProto **ret_proto,
                          struct sx_err *err);
/* For protobuf-c, which does not say why it failed: sets *failed when memory ran out, which it must
 * outlive. */
ProtobufCAllocator sx_onnx_allocator(bool *failed);
/* Frees what sx_onnx_unpack made, but not the bytes that it points into. NULL is fine. */
void sx_onnx_unpack_free(Onnx__ModelProto *proto);

/* onnx_check.c: names, edges, constants, external files; fills the counts of `model`. */
enum sx_rc sx_onnx_check(struct sx_onnx *model, struct sx_err *err);
/* Describe one constant; what does not fit is SX_INVALID. */
enum sx_rc sx_onnx_describe(const struct sx_onnx *model, const Onnx__TensorProto *t,
                            struct sx_onnx_initializer *ret_initializer, struct sx_err *err);

/* onnx.c: how many elements ConstantOfShape makes of a (checked) constant; 0 if that makes no
 * sense. */
uint64_t sx_onnx_made_by(const Onnx__TensorProto *shape);

#endif
