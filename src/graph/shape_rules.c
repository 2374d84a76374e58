/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/shape_rules.h"

#include <string.h>

const Onnx__AttributeProto *sx_attr(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0)
            return node->attribute[i];
    return NULL;
}

int64_t sx_attr_int(const Onnx__NodeProto *node, const char *name, int64_t fallback)
{
    const Onnx__AttributeProto *a = sx_attr(node, name);

    return a && a->has_i ? a->i : fallback;
}

const struct sx_value *sx_rule_in(const struct sx_node_view *n, size_t i)
{
    return i < n->n_in && n->in[i] && n->in[i]->known ? n->in[i] : NULL;
}

void sx_rule_set(struct sx_node_view *n, size_t o, int type, const int64_t *dims, int rank)
{
    uint64_t count;
    struct sx_value *v = o < n->n_out ? n->out[o] : NULL;

    if (!v || rank < 0 || rank > SX_MAX_RANK || !sx_shape_count(dims, rank, &count))
        return;
    v->type = type;
    v->rank = rank;
    memcpy(v->dims, dims, (size_t)rank * sizeof *dims);
    v->known = true;
}

void sx_rule_set_ints(struct sx_node_view *n, const int64_t *ints, int count)
{
    struct sx_value *v = n->out[0];

    if (!v || !v->known || count < 0 || count > SX_SHAPE_INTS)
        return;
    memmove(v->ints, ints, (size_t)count * sizeof *ints);
    v->n_ints = count;
    v->has_ints = true;
}

int sx_rule_ints(const struct sx_node_view *n, const char *name, size_t i, int64_t *list, int cap)
{
    const Onnx__AttributeProto *a = sx_attr(n->proto, name);

    if (a && a->n_ints) {
        if (a->n_ints > (size_t)cap)
            return -1;
        memcpy(list, a->ints, a->n_ints * sizeof *list);
        return (int)a->n_ints;
    }
    const struct sx_value *v = i < 16 ? sx_rule_in(n, i) : NULL;
    if (!v || !v->has_ints || v->n_ints > cap)
        return -1;
    memcpy(list, v->ints, (size_t)v->n_ints * sizeof *list);
    return v->n_ints;
}

bool sx_rule_axis(int64_t *axis, int rank)
{
    if (*axis < 0)
        *axis += rank;
    return *axis >= 0 && *axis < rank;
}

static const struct {
    void (*rule)(struct sx_node_view *n);
    const char *ops[48];
} rules[] = {
    {sx_rule_same,
     {"Relu",
      "LeakyRelu",
      "PRelu",
      "Sigmoid",
      "Tanh",
      "Elu",
      "Selu",
      "Celu",
      "Softplus",
      "Softsign",
      "Exp",
      "Log",
      "Sqrt",
      "Neg",
      "Abs",
      "Erf",
      "Clip",
      "Identity",
      "Dropout",
      "Softmax",
      "LogSoftmax",
      "Hardmax",
      "LRN",
      "BatchNormalization",
      "InstanceNormalization",
      "LayerNormalization",
      "GroupNormalization",
      "LpNormalization",
      "Cast",
      "HardSigmoid",
      "HardSwish",
      "Gelu",
      "Floor",
      "Ceil",
      "Round",
      "Not",
      "Sign",
      "Reciprocal",
      "ThresholdedRelu",
      "QuantizeLinear",
      "DequantizeLinear",
      "CumSum",
      "Mish",
      "Sin",
      "Cos",
      "ScatterElements",
      "ScatterND"}},
    {sx_rule_elementwise,
     {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor",
      "Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual", "Where"}},
    {sx_rule_conv, {"Conv", "ConvInteger", "QLinearConv"}},
    {sx_rule_conv_transpose, {"ConvTranspose"}},
    {sx_rule_pool,
     {"MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"}},
    {sx_rule_gemm, {"Gemm"}},
    {sx_rule_matmul, {"MatMul", "MatMulInteger", "QLinearMatMul"}},
    {sx_rule_recurrent, {"LSTM", "GRU", "RNN"}},
    {sx_rule_reduce,
     {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
      "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin"}},
    {sx_rule_reshape, {"Reshape"}},
    {sx_rule_flatten, {"Flatten"}},
    {sx_rule_transpose, {"Transpose"}},
    {sx_rule_squeeze, {"Squeeze"}},
    {sx_rule_unsqueeze, {"Unsqueeze"}},
    {sx_rule_concat, {"Concat"}},
    {sx_rule_split, {"Split"}},
    {sx_rule_slice, {"Slice"}},
    {sx_rule_gather, {"Gather"}},
    {sx_rule_shape_of, {"Shape", "Size"}},
    {sx_rule_constant_of_shape, {"ConstantOfShape"}},
    {sx_rule_expand, {"Expand"}},
    {sx_rule_tile, {"Tile"}},
    {sx_rule_pad, {"Pad"}},
    {sx_rule_resize, {"Resize", "Upsample"}},
    {sx_rule_range, {"Range"}},
    {sx_rule_depth_space, {"DepthToSpace", "SpaceToDepth"}},
};

void sx_shape_rule(struct sx_node_view *node)
{
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        for (const char *const *op = rules[r].ops; *op; op++) {
            if (strcmp(*op, node->proto->op_type) == 0) {
                rules[r].rule(node);
                return;
            }
        }
    }
}
