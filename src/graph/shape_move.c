/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* shape_move.c - shape rules of the operators that only move elements (see shape_rules.h). */
#include <string.h>

#include "graph/shape_rules.h"

#define INT64_TYPE ONNX__TENSOR_PROTO__DATA_TYPE__INT64

/* The same elements under another shape; small integer contents stay. */
static void reshaped(struct sx_node_view *n, const int64_t *dims, int rank)
{
    const struct sx_value *x = sx_rule_in(n, 0);

    sx_rule_set(n, 0, x->type, dims, rank);
    if (x->has_ints)
        sx_rule_set_ints(n, x->ints, x->n_ints);
}

void sx_rule_reshape(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t dims[SX_MAX_RANK], rest = 1;
    int rank = sx_rule_ints(n, "shape", 1, dims, SX_MAX_RANK), open = -1;

    if (!x || rank < 0)
        return;
    for (int d = 0; d < rank; d++) {
        if (dims[d] == 0 && !sx_attr_int(n->proto, "allowzero", 0)) {
            if (d >= x->rank)
                return;
            dims[d] = x->dims[d];
        }
        if (dims[d] == -1) {
            if (open >= 0)
                return;
            open = d;
        } else if (dims[d] < 0 || __builtin_mul_overflow(rest, dims[d], &rest)) {
            return;
        }
    }
    if (open >= 0) {
        if (rest == 0 || sx_value_count(x) % (uint64_t)rest)
            return;
        dims[open] = (int64_t)(sx_value_count(x) / (uint64_t)rest);
    } else if ((uint64_t)rest != sx_value_count(x)) {
        return;
    }
    reshaped(n, dims, rank);
}

void sx_rule_flatten(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t axis = sx_attr_int(n->proto, "axis", 1), dims[2] = {1, 1};

    if (!x || axis < -x->rank || axis > x->rank)
        return;
    if (axis < 0)
        axis += x->rank;
    for (int d = 0; d < x->rank; d++)
        if (__builtin_mul_overflow(dims[d >= axis], x->dims[d], &dims[d >= axis]))
            return;
    reshaped(n, dims, 2);
}

void sx_rule_transpose(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    const Onnx__AttributeProto *perm = sx_attr(n->proto, "perm");
    int64_t dims[SX_MAX_RANK];

    if (!x || (perm && perm->n_ints != (size_t)x->rank))
        return;
    for (int d = 0; d < x->rank; d++) {
        int64_t from = perm ? perm->ints[d] : x->rank - 1 - d;
        if (from < 0 || from >= x->rank)
            return;
        dims[d] = x->dims[from];
    }
    sx_rule_set(n, 0, x->type, dims, x->rank);
}

void sx_rule_squeeze(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t axes[SX_MAX_RANK], dims[SX_MAX_RANK];
    int count = sx_rule_ints(n, "axes", 1, axes, SX_MAX_RANK), rank = 0;
    bool gone[SX_MAX_RANK] = {0};

    if (!x || (count < 0 && n->n_in > 1 && n->in[1]))
        return;
    for (int i = 0; i < count; i++) {
        if (!sx_rule_axis(&axes[i], x->rank) || x->dims[axes[i]] != 1)
            return;
        gone[axes[i]] = true;
    }
    for (int d = 0; d < x->rank; d++)
        if (count < 0 ? x->dims[d] != 1 : !gone[d])
            dims[rank++] = x->dims[d];
    reshaped(n, dims, rank);
}

void sx_rule_unsqueeze(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t axes[SX_MAX_RANK], dims[SX_MAX_RANK];
    int count = sx_rule_ints(n, "axes", 1, axes, SX_MAX_RANK), from = 0;
    bool fresh[SX_MAX_RANK] = {0};

    if (!x || count < 0 || x->rank + count > SX_MAX_RANK)
        return;
    for (int i = 0; i < count; i++) {
        if (!sx_rule_axis(&axes[i], x->rank + count) || fresh[axes[i]])
            return;
        fresh[axes[i]] = true;
    }
    for (int d = 0; d < x->rank + count; d++)
        dims[d] = fresh[d] ? 1 : x->dims[from++];
    reshaped(n, dims, x->rank + count);
}

void sx_rule_concat(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t axis = sx_attr_int(n->proto, "axis", 1), dims[SX_MAX_RANK], ints[SX_SHAPE_INTS];
    int count = 0;
    bool follow = x && x->rank == 1;

    if (!x || !sx_rule_axis(&axis, x->rank) || n->proto->n_input != n->n_in)
        return;
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = 0;
    for (size_t i = 0; i < n->n_in; i++) {
        const struct sx_value *v = sx_rule_in(n, i);
        if (!v || v->rank != x->rank ||
            __builtin_add_overflow(dims[axis], v->dims[axis], &dims[axis]))
            return;
        follow = follow && v->has_ints && count + v->n_ints <= SX_SHAPE_INTS;
        if (follow) {
            memcpy(ints + count, v->ints, (size_t)v->n_ints * sizeof *ints);
            count += v->n_ints;
        }
    }
    sx_rule_set(n, 0, x->type, dims, x->rank);
    if (follow)
        sx_rule_set_ints(n, ints, count);
}

void sx_rule_split(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t axis = sx_attr_int(n->proto, "axis", 0), dims[SX_MAX_RANK], parts[16];
    int count = sx_rule_ints(n, "split", 1, parts, 16);

    if (!x || !sx_rule_axis(&axis, x->rank) || (count < 0 && n->n_in > 1 && n->in[1]))
        return;
    memcpy(dims, x->dims, sizeof dims);
    if (n->n_out == 0 || n->n_out != n->proto->n_output || (count >= 0 && (size_t)count < n->n_out))
        return;
    int64_t n_parts = (int64_t)n->n_out;
    int64_t each = x->dims[axis] / n_parts + (x->dims[axis] % n_parts != 0);
    for (size_t o = 0; o < n->n_out; o++) {
        int64_t left = x->dims[axis] - each * (int64_t)o;
        dims[axis] = count >= 0 ? parts[o] : left < each ? left : each;
        sx_rule_set(n, o, x->type, dims, x->rank);
    }
}

void sx_rule_slice(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t starts[SX_MAX_RANK], ends[SX_MAX_RANK], axes[SX_MAX_RANK], steps[SX_MAX_RANK];
    int64_t dims[SX_MAX_RANK], ints[SX_SHAPE_INTS];
    int count = sx_rule_ints(n, "starts", 1, starts, SX_MAX_RANK);
    int n_axes = sx_rule_ints(n, "axes", 3, axes, SX_MAX_RANK);
    int n_steps = sx_rule_ints(n, "steps", 4, steps, SX_MAX_RANK);

    if (!x || count < 0 || sx_rule_ints(n, "ends", 2, ends, SX_MAX_RANK) != count ||
        (n_axes >= 0 && n_axes != count) || (n_steps >= 0 && n_steps != count) ||
        (n_axes < 0 && n->n_in > 3 && n->in[3]) || (n_steps < 0 && n->n_in > 4 && n->in[4]))
        return;
    memcpy(dims, x->dims, sizeof dims);
    for (int i = 0; i < count; i++) {
        int64_t axis = n_axes >= 0 ? axes[i] : i, step = n_steps >= 0 ? steps[i] : 1;
        if (!sx_rule_axis(&axis, x->rank) || step == 0 || step == INT64_MIN)
            return;
        int64_t size = x->dims[axis], from = starts[i], to = ends[i];
        from = from < 0 ? (from < -size ? 0 : from + size) : from;
        to = to < 0 ? (to < -size ? -1 : to + size) : to;
        if (step > 0) {
            from = from > size ? size : from;
            to = to > size ? size : to < 0 ? 0 : to;
            dims[axis] = to > from ? (to - from - 1) / step + 1 : 0;
        } else {
            from = from > size - 1 ? size - 1 : from;
            to = to > size - 1 ? size - 1 : to;
            dims[axis] = from > to ? (from - to - 1) / -step + 1 : 0;
        }
        starts[i] = from;
    }
    sx_rule_set(n, 0, x->type, dims, x->rank);
    if (x->has_ints && x->rank == 1 && count == 1 && dims[0] <= SX_SHAPE_INTS) {
        for (int64_t i = 0; i < dims[0]; i++)
            ints[i] = x->ints[starts[0] + i * (n_steps >= 0 ? steps[0] : 1)];
        sx_rule_set_ints(n, ints, (int)dims[0]);
    }
}

void sx_rule_gather(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0), *which = sx_rule_in(n, 1);
    int64_t axis = sx_attr_int(n->proto, "axis", 0), dims[2 * SX_MAX_RANK], ints[SX_SHAPE_INTS];
    int rank = 0;

    if (!x || !which || !sx_rule_axis(&axis, x->rank))
        return;
    for (int d = 0; d < axis; d++)
        dims[rank++] = x->dims[d];
    for (int d = 0; d < which->rank; d++)
        dims[rank++] = which->dims[d];
    for (int d = (int)axis + 1; d < x->rank; d++)
        dims[rank++] = x->dims[d];
    sx_rule_set(n, 0, x->type, dims, rank);
    if (!x->has_ints || x->rank != 1 || !which->has_ints)
        return;
    for (int i = 0; i < which->n_ints; i++) {
        int64_t at = which->ints[i] < 0 ? which->ints[i] + x->n_ints : which->ints[i];
        if (at < 0 || at >= x->n_ints)
            return;
        ints[i] = x->ints[at];
    }
    sx_rule_set_ints(n, ints, which->n_ints);
}

void sx_rule_shape_of(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t first = sx_attr_int(n->proto, "start", 0), count;

    if (!x)
        return;
    if (!strcmp(n->proto->op_type, "Size")) {
        sx_rule_set(n, 0, INT64_TYPE, x->dims, 0);
        sx_rule_set_ints(n, (int64_t[]){(int64_t)sx_value_count(x)}, 1);
        return;
    }
    count = sx_attr_int(n->proto, "end", x->rank);
    if (first < -x->rank || first > x->rank || count < -x->rank)
        return;
    first += first < 0 ? x->rank : 0;
    count += count < 0 ? x->rank : 0;
    count = (count > x->rank ? x->rank : count) - first;
    count = count < 0 ? 0 : count;
    sx_rule_set(n, 0, INT64_TYPE, &count, 1);
    sx_rule_set_ints(n, x->dims + first, (int)count);
    /* the shape of a known shape does not depend on the data: it is a constant here */
}

void sx_rule_constant_of_shape(struct sx_node_view *n)
{
    const Onnx__AttributeProto *value = sx_attr(n->proto, "value");
    int64_t dims[SX_MAX_RANK];
    int rank = sx_rule_ints(n, "", 0, dims, SX_MAX_RANK);

    if (rank >= 0)
        sx_rule_set(n, 0,
                    value && value->t ? value->t->data_type
                                      : (int)ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
                    dims, rank);
}

void sx_rule_expand(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t to[SX_MAX_RANK], dims[SX_MAX_RANK];
    int count = sx_rule_ints(n, "", 1, to, SX_MAX_RANK);

    if (!x || count < 0)
        return;
    int rank = count > x->rank ? count : x->rank;
    for (int d = 0; d < rank; d++) {
        int64_t a = d >= rank - x->rank ? x->dims[d - (rank - x->rank)] : 1;
        int64_t b = d >= rank - count ? to[d - (rank - count)] : 1;
        dims[d] = a == 1 ? b : a;
    }
    sx_rule_set(n, 0, x->type, dims, rank);
}

void sx_rule_tile(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t dims[SX_MAX_RANK];

    if (!x || sx_rule_ints(n, "", 1, dims, SX_MAX_RANK) != x->rank)
        return;
    for (int d = 0; d < x->rank; d++)
        if (__builtin_mul_overflow(dims[d], x->dims[d], &dims[d]))
            return;
    sx_rule_set(n, 0, x->type, dims, x->rank);
}

void sx_rule_pad(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t pads[2 * SX_MAX_RANK], dims[SX_MAX_RANK];

    if (!x || (n->n_in > 3 && n->in[3]) ||
        sx_rule_ints(n, "pads", 1, pads, 2 * SX_MAX_RANK) != 2 * x->rank)
        return;
    for (int d = 0; d < x->rank; d++)
        if (__builtin_add_overflow(pads[d], pads[d + x->rank], &dims[d]) ||
            __builtin_add_overflow(dims[d], x->dims[d], &dims[d]))
            return;
    sx_rule_set(n, 0, x->type, dims, x->rank);
}

void sx_rule_resize(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t dims[SX_MAX_RANK];

    /* sizes only: scales are floats, whose contents are not followed */
    if (x && sx_rule_ints(n, "", 3, dims, SX_MAX_RANK) == x->rank)
        sx_rule_set(n, 0, x->type, dims, x->rank);
}

void sx_rule_range(struct sx_node_view *n)
{
    const struct sx_value *a = sx_rule_in(n, 0), *b = sx_rule_in(n, 1), *step = sx_rule_in(n, 2);
    int64_t span;

    if (!a || !b || !step || a->n_ints != 1 || b->n_ints != 1 || step->n_ints != 1 ||
        step->ints[0] <= 0 || __builtin_sub_overflow(b->ints[0], a->ints[0], &span))
        return;
    sx_rule_set(n, 0, a->type, (int64_t[]){span > 0 ? (span - 1) / step->ints[0] + 1 : 0}, 1);
}

void sx_rule_depth_space(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    int64_t b = sx_attr_int(n->proto, "blocksize", 0);

    if (!x || x->rank != 4 || b < 1 || b > 1024 || x->dims[1] > INT32_MAX ||
        x->dims[2] > INT32_MAX || x->dims[3] > INT32_MAX)
        return;
    if (n->proto->op_type[0] == 'D')
        sx_rule_set(n, 0, x->type,
                    (int64_t[]){x->dims[0], x->dims[1] / (b * b), x->dims[2] * b, x->dims[3] * b},
                    4);
    else
        sx_rule_set(n, 0, x->type,
                    (int64_t[]){x->dims[0], x->dims[1] * b * b, x->dims[2] / b, x->dims[3] / b}, 4);
}
