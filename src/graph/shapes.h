/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * shapes.h - the shape of every value of a graph, as far as rules for common operators reach;
 * for graph/ alone.
 *
 * Values are visited in file order.  A value is `known` when its shape follows from the inputs'
 * shapes and from constants; the contents of small integer constants are followed, too, because
 * Reshape, Slice and their like take shapes from them.  What no rule covers is taken from the
 * file's own value_info, or stays unknown: nothing is guessed.
 */
#ifndef SX_GRAPH_SHAPES_H
#define SX_GRAPH_SHAPES_H

#include "graph/names.h"
#include "graph/onnx_int.h"

#define SX_SHAPE_INTS 64 /* longest integer constant whose contents are followed */

struct sx_value {
    bool known;    /* the shape; `type` is set whenever it is known */
    bool constant; /* depends on no input of the graph */
    bool has_ints; /* `ints` are the contents */
    int type;      /* TensorProto.DataType; 0: unknown */
    int rank;
    int64_t dims[SX_MAX_RANK];
    int n_ints;
    int64_t ints[SX_SHAPE_INTS];
};

struct sx_shapes {
    struct sx_value *values;
    size_t n_values;
    struct sx_names names; /* name -> index in values */
};

/* `free_dim` replaces the free dimensions of the graph's inputs.  Free with sx_shapes_fini, also
 * after failure. */
enum sx_rc sx_shapes_infer(const struct sx_onnx *model, int64_t free_dim, struct sx_shapes *shapes,
                           struct sx_err *err);
void sx_shapes_fini(struct sx_shapes *shapes);
/* NULL for "" (an input left out) and for names that the graph does not have. */
struct sx_value *sx_shapes_get(const struct sx_shapes *shapes, const char *name);
/* Elements of a known value. */
uint64_t sx_value_count(const struct sx_value *value);

/* --- shape_rules.c ---------------------------------------------------------------------------- */

struct sx_node_view {
    const Onnx__NodeProto *proto;
    int64_t opset;
    size_t n_in, n_out;
    const struct sx_value *in[16]; /* NULL: left out */
    struct sx_value *out[16];      /* NULL: left out */
};

/* Fill the outputs of one node; outputs without a rule stay unknown. */
void sx_shape_rule(struct sx_node_view *node);

const Onnx__AttributeProto *sx_attr(const Onnx__NodeProto *node, const char *name);
int64_t sx_attr_int(const Onnx__NodeProto *node, const char *name, int64_t fallback);

#endif
