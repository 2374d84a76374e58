/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx.h - an ONNX file as data: read, look, change a little, write.
 *
 * The reader checks everything that it hands out, because the file may be hostile: a truncated
 * file, a cyclic or dangling graph, an initializer whose bytes do not fit its shape, an external
 * file outside the model's directory are SX_INVALID with the name of what is wrong.
 * Names and arrays belong to the model and die with it.  After opening, all reads are
 * thread-safe.
 */
#ifndef SX_GRAPH_ONNX_H
#define SX_GRAPH_ONNX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

struct sx_onnx; /* opaque: one opened file */

/* What a value is.  Outputs often have no declared type: an engine infers it. */
enum sx_onnx_kind {
    SX_ONNX_UNTYPED,
    SX_ONNX_TENSOR,
    SX_ONNX_SPARSE,
    SX_ONNX_SEQUENCE,
    SX_ONNX_MAP,
    SX_ONNX_OPTIONAL,
};

/* Something that goes into or comes out of the graph, as the file declares it. */
struct sx_onnx_value {
    const char *name;
    enum sx_onnx_kind kind;
    enum sx_dtype dtype; /* NONE: not a tensor, or of a type without a protocol name */
    int onnx_type;       /* TensorProto.DataType; 0 when it is not a tensor */
    bool has_shape;      /* false: the file does not even say the rank */
    int rank;
    int64_t dims[SX_MAX_RANK]; /* -1: free */
};

/* A constant of the graph: stored inside the file or in a file beside it. */
struct sx_onnx_initializer {
    const char *name;
    enum sx_dtype dtype;
    int onnx_type;
    int rank;
    int64_t dims[SX_MAX_RANK];
    uint64_t nbytes;      /* in memory */
    bool external;        /* data in `location` at `offset`, relative to the model's directory */
    const char *location; /* NULL unless external */
    uint64_t offset;
};

struct sx_onnx_op_count {
    const char *domain, *type;
    size_t count;
};

/* Read `path`, a .onnx file (or a directory with model.onnx in it).  Blocks.  External data is
 * checked for existence and size, not read. */
enum sx_rc sx_onnx_open(const char *path, struct sx_onnx **ret_model, struct sx_err *err);
void sx_onnx_close(struct sx_onnx *model);

/* The graph's real inputs: initializers that IR version 3 lists as inputs, too, are left out. */
size_t sx_onnx_inputs(const struct sx_onnx *model, const struct sx_onnx_value **ret_values);
size_t sx_onnx_outputs(const struct sx_onnx *model, const struct sx_onnx_value **ret_values);
/* Initializers of the main graph (sparse ones not included). */
size_t sx_onnx_initializers(const struct sx_onnx *model,
                            const struct sx_onnx_initializer **ret_initializers);
/* Operators by type, most frequent first; bodies of If, Loop and Scan counted. */
size_t sx_onnx_ops(const struct sx_onnx *model, const struct sx_onnx_op_count **ret_ops);
size_t sx_onnx_node_count(const struct sx_onnx *model);
int64_t sx_onnx_ir_version(const struct sx_onnx *model);
/* Version of a domain's operator set ("" is ai.onnx); 0 when the model does not import it. */
int64_t sx_onnx_opset(const struct sx_onnx *model, const char *domain);
const char *sx_onnx_producer(const struct sx_onnx *model);
const char *sx_onnx_graph_name(const struct sx_onnx *model);
/* Elements in all initializers and Constant nodes. */
uint64_t sx_onnx_parameters(const struct sx_onnx *model);
/* Elements that ConstantOfShape operators make of constant shapes: weights that are not stored. */
uint64_t sx_onnx_made_parameters(const struct sx_onnx *model);
/* How many initializers are listed as inputs, too (IR version 3 models list all of them): an
 * engine must treat such a weight as overridable and cannot fold or save it. */
size_t sx_onnx_overridable(const struct sx_onnx *model);

/* Is any constant, in the main graph or deeper, kept in a file beside the model? */
bool sx_onnx_has_external(const struct sx_onnx *model);
/* The file that was read, and the directory that external locations are relative to. */
const char *sx_onnx_path(const struct sx_onnx *model);
const char *sx_onnx_dir(const struct sx_onnx *model);
/* "a sequence", for messages. */
const char *sx_onnx_kind_text(enum sx_onnx_kind kind);

/* Write the model without initializers among its inputs (so its IR version is at least 4).
 * SX_UNSUPPORTED if it has external data, whose locations would be wrong anywhere else.  A failed
 * write leaves no file. */
enum sx_rc sx_onnx_write_stripped(const struct sx_onnx *model, const char *path,
                                  struct sx_err *err);
/* The same as bytes in memory; the caller frees *ret_data. */
enum sx_rc sx_onnx_stripped_bytes(const struct sx_onnx *model, char **ret_data, size_t *ret_size,
                                  struct sx_err *err);

#endif
