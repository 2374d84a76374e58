/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* shape_compute.c - shape rules of the operators that compute (see shape_rules.h). */
#include <string.h>

#include "graph/shape_rules.h"

void sx_rule_same(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);

    if (!x)
        return;
    sx_rule_set(n, 0, x->type, x->dims, x->rank);
    if (x->has_ints &&
        (!strcmp(n->proto->op_type, "Identity") || !strcmp(n->proto->op_type, "Cast")))
        sx_rule_set_ints(n, x->ints, x->n_ints);
    if (!strcmp(n->proto->op_type, "Cast") && n->out[0])
        n->out[0]->type = (int)sx_attr_int(n->proto, "to", x->type);
    if (!strcmp(n->proto->op_type, "QuantizeLinear") && n->out[0])
        n->out[0]->type =
            sx_rule_in(n, 2) ? sx_rule_in(n, 2)->type : ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
    if (!strcmp(n->proto->op_type, "DequantizeLinear") && n->out[0] && sx_rule_in(n, 1))
        n->out[0]->type = sx_rule_in(n, 1)->type;
    if (!strcmp(n->proto->op_type, "Dropout"))
        sx_rule_set(n, 1, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, x->dims, x->rank);
}

static bool broadcast(const struct sx_node_view *n, size_t first, int *rank, int64_t *dims)
{
    *rank = 0;
    for (size_t i = first; i < n->n_in; i++) {
        const struct sx_value *x = sx_rule_in(n, i);
        if (!x)
            return false;
        if (x->rank > *rank) {
            memmove(dims + (x->rank - *rank), dims, (size_t)*rank * sizeof *dims);
            for (int d = 0; d < x->rank - *rank; d++)
                dims[d] = 1;
            *rank = x->rank;
        }
        for (int d = 0; d < x->rank; d++) {
            int64_t *to = &dims[*rank - x->rank + d];
            if (*to == 1)
                *to = x->dims[d];
            else if (x->dims[d] != 1 && x->dims[d] != *to)
                return false;
        }
    }
    return n->n_in > first;
}

static int64_t arithmetic(const char *op, int64_t a, int64_t b)
{
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b; /* unsigned: overflow is defined */

    if (op[0] == 'A')
        return (int64_t)(ua + ub);
    if (op[0] == 'S')
        return (int64_t)(ua - ub);
    if (op[0] == 'M')
        return (int64_t)(ua * ub);
    return b == 0 || (a == INT64_MIN && b == -1) ? 0 : a / b;
}

void sx_rule_elementwise(struct sx_node_view *n)
{
    static const char *const truths[] = {"Greater",     "Less", "Equal", "GreaterOrEqual",
                                         "LessOrEqual", "And",  "Or",    "Xor"};
    const char *op = n->proto->op_type;
    size_t first = 0;
    int64_t dims[SX_MAX_RANK];
    int rank, type;

    if (n->opset && n->opset < 7 && n->n_in == 2 && sx_attr_int(n->proto, "broadcast", 0)) {
        sx_rule_same(n); /* the old, one-sided broadcast */
        return;
    }
    if (!broadcast(n, 0, &rank, dims))
        return;
    if (!strcmp(op, "Where"))
        first = 1;
    if (!sx_rule_in(n, first))
        return;
    type = sx_rule_in(n, first)->type;
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++)
        if (!strcmp(op, truths[i]))
            type = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL;
    sx_rule_set(n, 0, type, dims, rank);

    const struct sx_value *a = sx_rule_in(n, 0), *b = n->n_in == 2 ? sx_rule_in(n, 1) : NULL;
    if (b && a->has_ints && b->has_ints && rank <= 1 &&
        (!strcmp(op, "Add") || !strcmp(op, "Sub") || !strcmp(op, "Mul") || !strcmp(op, "Div"))) {
        int count = a->n_ints > b->n_ints ? a->n_ints : b->n_ints;
        int64_t ints[SX_SHAPE_INTS];
        for (int i = 0; i < count; i++)
            ints[i] =
                arithmetic(op, a->ints[a->n_ints == 1 ? 0 : i], b->ints[b->n_ints == 1 ? 0 : i]);
        if (a->n_ints && b->n_ints)
            sx_rule_set_ints(n, ints, count);
    }
}

/* Output size along one spatial axis of a convolution or pool; -1 when it makes no sense. */
static int64_t window(const struct sx_node_view *n, int axis, int spatial, int64_t size,
                      int64_t kernel)
{
    const Onnx__AttributeProto *pads = sx_attr(n->proto, "pads"),
                               *strides = sx_attr(n->proto, "strides"),
                               *dilations = sx_attr(n->proto, "dilations"),
                               *pad_mode = sx_attr(n->proto, "auto_pad");
    size_t s = (size_t)spatial, a = (size_t)axis;
    int64_t stride = strides && strides->n_ints == s ? strides->ints[a] : 1;
    int64_t dilation = dilations && dilations->n_ints == s ? dilations->ints[a] : 1;
    int64_t reach, out;
    bool up = sx_attr_int(n->proto, "ceil_mode", 0) != 0;

    if (stride < 1 || dilation < 1 || kernel < 1 || kernel > INT32_MAX || dilation > INT32_MAX ||
        stride > INT32_MAX || size > INT32_MAX)
        return -1;
    if (pad_mode && pad_mode->s.len >= 4 && !memcmp(pad_mode->s.data, "SAME", 4))
        return (size + stride - 1) / stride;
    if (pads && pads->n_ints == 2 * s) {
        int64_t before = pads->ints[a], after = pads->ints[a + s];
        if (before < 0 || after < 0 || before > INT32_MAX || after > INT32_MAX)
            return -1;
        size += before;
        reach = size + after - ((kernel - 1) * dilation + 1);
    } else {
        reach = size - ((kernel - 1) * dilation + 1);
    }
    if (reach < 0)
        return -1;
    out = reach / stride + 1;
    if (up && reach % stride &&
        out * stride < size) /* a window must begin inside or in the left pad */
        out++;
    return out;
}

void sx_rule_conv(struct sx_node_view *n)
{
    bool qlinear = !strcmp(n->proto->op_type, "QLinearConv");
    const struct sx_value *x = sx_rule_in(n, 0), *w = sx_rule_in(n, qlinear ? 3 : 1);
    int64_t dims[SX_MAX_RANK];

    if (!x || !w || x->rank < 3 || x->rank != w->rank)
        return;
    dims[0] = x->dims[0];
    dims[1] = w->dims[0];
    for (int d = 2; d < x->rank; d++)
        dims[d] = window(n, d - 2, x->rank - 2, x->dims[d], w->dims[d]);
    int type = x->type;
    if (qlinear && sx_rule_in(n, 7))
        type = sx_rule_in(n, 7)->type;
    else if (!strcmp(n->proto->op_type, "ConvInteger"))
        type = ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    sx_rule_set(n, 0, type, dims, x->rank);
}

void sx_rule_conv_transpose(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0), *w = sx_rule_in(n, 1);
    const Onnx__AttributeProto *pads = sx_attr(n->proto, "pads"),
                               *strides = sx_attr(n->proto, "strides"),
                               *dilations = sx_attr(n->proto, "dilations"),
                               *extra = sx_attr(n->proto, "output_padding"),
                               *given = sx_attr(n->proto, "output_shape");
    int64_t dims[SX_MAX_RANK], group = sx_attr_int(n->proto, "group", 1);

    if (!x || !w || x->rank < 3 || x->rank != w->rank || group < 1 || group > INT32_MAX ||
        w->dims[1] > INT32_MAX || sx_attr(n->proto, "auto_pad"))
        return;
    size_t s = (size_t)x->rank - 2;
    dims[0] = x->dims[0];
    dims[1] = w->dims[1] * group;
    for (size_t a = 0; a < s; a++) {
        int64_t stride = strides && strides->n_ints == s ? strides->ints[a] : 1;
        int64_t dilation = dilations && dilations->n_ints == s ? dilations->ints[a] : 1;
        int64_t pad[2] = {0, 0};
        if (pads && pads->n_ints == 2 * s) {
            pad[0] = pads->ints[a];
            pad[1] = pads->ints[a + s];
        }
        int64_t more = extra && extra->n_ints == s ? extra->ints[a] : 0;
        if (given && given->n_ints == s) {
            dims[a + 2] = given->ints[a];
            continue;
        }
        if (stride < 1 || stride > 65536 || dilation < 1 || dilation > 65536 || pad[0] < 0 ||
            pad[0] > INT32_MAX || pad[1] < 0 || pad[1] > INT32_MAX || more < 0 || more > 65536 ||
            x->dims[a + 2] > INT32_MAX || w->dims[a + 2] > INT32_MAX)
            return;
        dims[a + 2] = (x->dims[a + 2] - 1) * stride + (w->dims[a + 2] - 1) * dilation + 1 + more -
                      pad[0] - pad[1];
    }
    sx_rule_set(n, 0, x->type, dims, x->rank);
}

void sx_rule_pool(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    const Onnx__AttributeProto *kernel = sx_attr(n->proto, "kernel_shape");
    bool global = strncmp(n->proto->op_type, "Global", 6) == 0;
    int64_t dims[SX_MAX_RANK];

    if (!x || x->rank < 3 || (!global && (!kernel || kernel->n_ints != (size_t)x->rank - 2)))
        return;
    dims[0] = x->dims[0];
    dims[1] = x->dims[1];
    for (int d = 2; d < x->rank; d++)
        dims[d] = global ? 1 : window(n, d - 2, x->rank - 2, x->dims[d], kernel->ints[d - 2]);
    sx_rule_set(n, 0, x->type, dims, x->rank);
    sx_rule_set(n, 1, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, dims, x->rank);
}

void sx_rule_gemm(struct sx_node_view *n)
{
    const struct sx_value *a = sx_rule_in(n, 0), *b = sx_rule_in(n, 1);

    if (!a || !b || a->rank != 2 || b->rank != 2)
        return;
    int ta = sx_attr_int(n->proto, "transA", 0) != 0, tb = sx_attr_int(n->proto, "transB", 0) != 0;
    sx_rule_set(n, 0, a->type, (int64_t[]){a->dims[ta], b->dims[!tb]}, 2);
}

void sx_rule_matmul(struct sx_node_view *n)
{
    bool qlinear = !strcmp(n->proto->op_type, "QLinearMatMul");
    const struct sx_value *a = sx_rule_in(n, 0), *b = sx_rule_in(n, qlinear ? 3 : 1);
    int64_t dims[SX_MAX_RANK];
    int rank = 0, type;

    if (!a || !b || a->rank < 1 || b->rank < 1)
        return;
    int wide = a->rank > b->rank ? a->rank : b->rank;
    for (int d = 0; d < wide - 2; d++) {
        int i = d - (wide - a->rank), j = d - (wide - b->rank);
        int64_t p = i >= 0 ? a->dims[i] : 1, q = j >= 0 ? b->dims[j] : 1;
        dims[rank++] = p == 1 ? q : p;
    }
    if (a->rank >= 2)
        dims[rank++] = a->dims[a->rank - 2];
    if (b->rank >= 2)
        dims[rank++] = b->dims[b->rank - 1];
    type = a->type;
    if (qlinear && sx_rule_in(n, 7))
        type = sx_rule_in(n, 7)->type;
    else if (!strcmp(n->proto->op_type, "MatMulInteger"))
        type = ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    sx_rule_set(n, 0, type, dims, rank);
}

void sx_rule_recurrent(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0), *r = sx_rule_in(n, 2);

    if (!x || !r || x->rank != 3 || r->rank != 3 || sx_attr_int(n->proto, "layout", 0))
        return;
    int64_t dirs = r->dims[0], hidden = r->dims[2];
    sx_rule_set(n, 0, x->type, (int64_t[]){x->dims[0], dirs, x->dims[1], hidden}, 4);
    sx_rule_set(n, 1, x->type, (int64_t[]){dirs, x->dims[1], hidden}, 3);
    sx_rule_set(n, 2, x->type, (int64_t[]){dirs, x->dims[1], hidden}, 3);
}

void sx_rule_reduce(struct sx_node_view *n)
{
    const struct sx_value *x = sx_rule_in(n, 0);
    bool arg = strncmp(n->proto->op_type, "Arg", 3) == 0;
    int64_t axes[SX_MAX_RANK], dims[SX_MAX_RANK];
    bool gone[SX_MAX_RANK] = {0}, keep = sx_attr_int(n->proto, "keepdims", 1) != 0;
    int count = arg ? 1 : sx_rule_ints(n, "axes", 1, axes, SX_MAX_RANK), rank = 0;

    if (!x || (!arg && count < 0 && n->n_in > 1 && n->in[1]))
        return;
    if (arg)
        axes[0] = sx_attr_int(n->proto, "axis", 0);
    if (count <= 0 && sx_attr_int(n->proto, "noop_with_empty_axes", 0)) {
        sx_rule_same(n);
        return;
    }
    for (int d = 0; count <= 0 && d < x->rank; d++)
        gone[d] = true;
    for (int i = 0; i < count; i++) {
        if (!sx_rule_axis(&axes[i], x->rank))
            return;
        gone[axes[i]] = true;
    }
    for (int d = 0; d < x->rank; d++) {
        if (!gone[d])
            dims[rank++] = x->dims[d];
        else if (keep)
            dims[rank++] = 1;
    }
    sx_rule_set(n, 0, arg ? ONNX__TENSOR_PROTO__DATA_TYPE__INT64 : x->type, dims, rank);
}
