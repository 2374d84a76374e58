/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * shape_rules.h - from the inputs' shapes to the outputs', operator by operator; for shape_*.c
 * alone.
 *
 * A rule returns without setting an output whenever something that it needs is missing or odd; it
 * never trusts an attribute's length or sign, as the file may be hostile.
 */
#ifndef SX_GRAPH_SHAPE_RULES_H
#define SX_GRAPH_SHAPE_RULES_H

#include "graph/shapes.h"

/* Input `i` if it is there and its shape is known, else NULL. */
const struct sx_value *sx_rule_in(const struct sx_node_view *n, size_t i);
/* Set the shape of output `o`, if it is wanted and the shape is possible. */
void sx_rule_set(struct sx_node_view *n, size_t o, int type, const int64_t *dims, int rank);
/* Set the contents of output 0, after its shape. */
void sx_rule_set_ints(struct sx_node_view *n, const int64_t *ints, int count);
/* A list of integers from an attribute or, in newer operator sets, from input `i`.  Returns its
 * length, or -1 when it is not there or not known. */
int sx_rule_ints(const struct sx_node_view *n, const char *name, size_t i, int64_t *list, int cap);
/* Make a negative axis positive; false when it is out of range. */
bool sx_rule_axis(int64_t *axis, int rank);

/* shape_compute.c */
void sx_rule_same(struct sx_node_view *n);
void sx_rule_elementwise(struct sx_node_view *n);
void sx_rule_conv(struct sx_node_view *n);
void sx_rule_conv_transpose(struct sx_node_view *n);
void sx_rule_pool(struct sx_node_view *n);
void sx_rule_gemm(struct sx_node_view *n);
void sx_rule_matmul(struct sx_node_view *n);
void sx_rule_recurrent(struct sx_node_view *n);
void sx_rule_reduce(struct sx_node_view *n);

/* shape_move.c */
void sx_rule_reshape(struct sx_node_view *n);
void sx_rule_flatten(struct sx_node_view *n);
void sx_rule_transpose(struct sx_node_view *n);
void sx_rule_squeeze(struct sx_node_view *n);
void sx_rule_unsqueeze(struct sx_node_view *n);
void sx_rule_concat(struct sx_node_view *n);
void sx_rule_split(struct sx_node_view *n);
void sx_rule_slice(struct sx_node_view *n);
void sx_rule_gather(struct sx_node_view *n);
void sx_rule_shape_of(struct sx_node_view *n);
void sx_rule_constant_of_shape(struct sx_node_view *n);
void sx_rule_expand(struct sx_node_view *n);
void sx_rule_tile(struct sx_node_view *n);
void sx_rule_pad(struct sx_node_view *n);
void sx_rule_resize(struct sx_node_view *n);
void sx_rule_range(struct sx_node_view *n);
void sx_rule_depth_space(struct sx_node_view *n);

#endif
