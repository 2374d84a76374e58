/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dtype.h - element types, and what each neighbour calls them.
 */
#ifndef SX_TENSOR_DTYPE_H
#define SX_TENSOR_DTYPE_H

#include <stddef.h>

/*   ours, Open Inference Protocol, Triton's config.pbtxt, bytes (0: variable), ONNX TensorProto */
#define SX_DTYPE_TABLE(X)                                                                          \
    X(BOOL, "BOOL", "TYPE_BOOL", 1, 9)                                                             \
    X(UINT8, "UINT8", "TYPE_UINT8", 1, 2)                                                          \
    X(UINT16, "UINT16", "TYPE_UINT16", 2, 4)                                                       \
    X(UINT32, "UINT32", "TYPE_UINT32", 4, 12)                                                      \
    X(UINT64, "UINT64", "TYPE_UINT64", 8, 13)                                                      \
    X(INT8, "INT8", "TYPE_INT8", 1, 3)                                                             \
    X(INT16, "INT16", "TYPE_INT16", 2, 5)                                                          \
    X(INT32, "INT32", "TYPE_INT32", 4, 6)                                                          \
    X(INT64, "INT64", "TYPE_INT64", 8, 7)                                                          \
    X(FP16, "FP16", "TYPE_FP16", 2, 10)                                                            \
    X(FP32, "FP32", "TYPE_FP32", 4, 1)                                                             \
    X(FP64, "FP64", "TYPE_FP64", 8, 11)                                                            \
    X(BF16, "BF16", "TYPE_BF16", 2, 16)                                                            \
    X(BYTES, "BYTES", "TYPE_STRING", 0, 8)

enum sx_dtype {
    SX_DTYPE_NONE, /* not set, or a type that the protocol cannot carry */
#define SX_DTYPE_ENUM(name, oip, config, bytes, onnx) SX_##name,
    SX_DTYPE_TABLE(SX_DTYPE_ENUM)
#undef SX_DTYPE_ENUM
        SX_DTYPE_COUNT
};

/* Bytes per element; 0 for BYTES and NONE. */
size_t sx_dtype_size(enum sx_dtype t);
/* The protocol's name ("FP32"); "NONE" for NONE. */
const char *sx_dtype_name(enum sx_dtype t);
/* The name in config.pbtxt ("TYPE_FP32"); "TYPE_INVALID" for NONE. */
const char *sx_dtype_config_name(enum sx_dtype t);
/* Look-ups; SX_DTYPE_NONE when there is none.  `name` need not be terminated. */
enum sx_dtype sx_dtype_from_name(const char *name, size_t len);
enum sx_dtype sx_dtype_from_config_name(const char *name, size_t len);
enum sx_dtype sx_dtype_from_onnx(int elem_type);
int sx_dtype_to_onnx(enum sx_dtype t);

#endif
