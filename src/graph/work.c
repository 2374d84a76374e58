/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/work.h"

#include <stdlib.h>
#include <string.h>

#include "graph/shapes.h"

static uint64_t bytes_of(const struct sx_value *v)
{
    enum sx_dtype dtype = sx_dtype_from_onnx(v->type);
    size_t size = sx_dtype_size(dtype);

    return sx_value_count(v) * (size ? size : dtype == SX_BYTES ? 16 : 1);
}

static const struct sx_value *known(const struct sx_shapes *s, char *const *names, size_t n,
                                    size_t i)
{
    const struct sx_value *v = i < n ? sx_shapes_get(s, names[i]) : NULL;

    return v && v->known ? v : NULL;
}

/* Multiply-adds for each output element of a convolution: channels of a group times the window.
 * The weight is [out, in / group, window...]; transposed ones are [in, out / group, window...]. */
static uint64_t conv_flops(const struct sx_value *w, const struct sx_value *out, bool bias)
{
    uint64_t each = 1;

    for (int d = 1; d < w->rank; d++)
        each *= (uint64_t)w->dims[d];
    return sx_value_count(out) * (2 * each + bias);
}

static bool is_free(const char *op)
{
    static const char *const moves[] = {
        "Reshape", "Flatten",  "Transpose", "Squeeze",      "Unsqueeze",
        "Concat",  "Split",    "Slice",     "Gather",       "Shape",
        "Size",    "Identity", "Dropout",   "Constant",     "ConstantOfShape",
        "Expand",  "Tile",     "Pad",       "DepthToSpace", "SpaceToDepth",
        "Cast",    "Range"};

    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++)
        if (!strcmp(op, moves[i]))
            return true;
    return false;
}

/* FLOPs of one node whose first output is known; false when its inputs do not tell. */
static bool node_flops(const struct sx_shapes *s, const Onnx__NodeProto *n,
                       const struct sx_value *out, uint64_t *ret)
{
    const char *op = n->op_type;
    const struct sx_value *a = known(s, n->input, n->n_input, 0);
    const struct sx_value *b = known(s, n->input, n->n_input, 1);
    const struct sx_value *d = known(s, n->input, n->n_input, 3);

    if (!strcmp(op, "Conv") || !strcmp(op, "ConvInteger")) {
        if (!b)
            return false;
        *ret = conv_flops(b, out, !strcmp(op, "Conv") && n->n_input > 2 && *n->input[2]);
    } else if (!strcmp(op, "QLinearConv")) {
        if (!d)
            return false;
        *ret = conv_flops(d, out, n->n_input > 8);
    } else if (!strcmp(op, "ConvTranspose")) {
        if (!a || !b)
            return false;
        *ret = conv_flops(b, a, false) + (n->n_input > 2 ? sx_value_count(out) : 0);
    } else if (!strcmp(op, "Gemm")) {
        if (!a || a->rank != 2)
            return false;
        uint64_t k = (uint64_t)a->dims[sx_attr_int(n, "transA", 0) ? 0 : 1];
        *ret = sx_value_count(out) * (2 * k + (n->n_input > 2 && *n->input[2]));
    } else if (!strcmp(op, "MatMul") || !strcmp(op, "MatMulInteger") ||
               !strcmp(op, "QLinearMatMul")) {
        if (!a || a->rank < 1)
            return false;
        *ret = sx_value_count(out) * 2 * (uint64_t)a->dims[a->rank - 1];
    } else if (!strcmp(op, "LSTM") || !strcmp(op, "GRU") || !strcmp(op, "RNN")) {
        const struct sx_value *r = known(s, n->input, n->n_input, 2);
        if (!a || !b || !r || a->rank != 3)
            return false;
        *ret = 2 * (uint64_t)a->dims[0] * (uint64_t)a->dims[1] *
               (sx_value_count(b) + sx_value_count(r));
    } else if (strstr(op, "Pool")) {
        const Onnx__AttributeProto *kernel = sx_attr(n, "kernel_shape");
        *ret = sx_value_count(out);
        for (size_t i = 0; kernel && i < kernel->n_ints; i++)
            *ret *= (uint64_t)kernel->ints[i];
        if (!kernel)
            *ret = a ? sx_value_count(a) : *ret;
    } else if (strncmp(op, "Reduce", 6) == 0 || strncmp(op, "Arg", 3) == 0) {
        *ret = a ? sx_value_count(a) : sx_value_count(out);
    } else {
        *ret = is_free(op) ? 0 : sx_value_count(out);
    }
    return true;
}

static bool add_op(struct sx_work *w, const char *type, uint64_t flops)
{
    size_t i = 0;

    while (i < w->n_ops && strcmp(w->ops[i].type, type))
        i++;
    if (i == w->n_ops) {
        struct sx_work_op *grown = realloc(w->ops, (w->n_ops + 1) * sizeof *grown);
        if (!grown)
            return false;
        w->ops = grown;
        w->ops[w->n_ops++] = (struct sx_work_op){.type = type};
    }
    w->ops[i].count++;
    w->ops[i].flops += flops;
    w->flops += flops;
    return true;
}

static int by_flops(const void *a, const void *b)
{
    const struct sx_work_op *x = a, *y = b;

    if (x->flops != y->flops)
        return x->flops < y->flops ? 1 : -1;
    return strcmp(x->type, y->type);
}

/* Nodes that depend on a request run for each; the others are done once. */
static bool runs(const struct sx_shapes *s, const Onnx__NodeProto *n)
{
    for (size_t i = 0; i < n->n_output; i++) {
        const struct sx_value *v = sx_shapes_get(s, n->output[i]);
        if (v && !v->constant)
            return true;
    }
    return false;
}

/* The most bytes alive at once.  `last` holds for each value the index of its last reader. */
static uint64_t peak(const struct sx_shapes *s, const Onnx__GraphProto *g, size_t *last)
{
    uint64_t alive = 0, most;

    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_input; k++) {
            struct sx_value *v = sx_shapes_get(s, g->node[i]->input[k]);
            if (v)
                last[v - s->values] = i;
        }
    for (size_t i = 0; i < g->n_output; i++) {
        struct sx_value *v = sx_shapes_get(s, g->output[i]->name);
        if (v)
            last[v - s->values] = g->n_node; /* never freed */
    }
    for (size_t i = 0; i < g->n_input; i++) {
        struct sx_value *v = sx_shapes_get(s, g->input[i]->name);
        if (v && !v->constant && v->known)
            alive += bytes_of(v);
    }
    most = alive;
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        for (size_t k = 0; k < n->n_output; k++) {
            struct sx_value *v = sx_shapes_get(s, n->output[k]);
            if (v && v->known && !v->constant)
                alive += bytes_of(v);
        }
        most = alive > most ? alive : most;
        for (size_t k = 0; k < n->n_input + n->n_output; k++) {
            char *name = k < n->n_input ? n->input[k] : n->output[k - n->n_input];
            struct sx_value *v = sx_shapes_get(s, name);
            if (v && v->known && !v->constant && last[v - s->values] == i) {
                alive -= bytes_of(v);
                last[v - s->values] = SIZE_MAX; /* a name read twice is freed once */
            } else if (v && v->known && !v->constant && k >= n->n_input &&
                       last[v - s->values] == 0) {
                alive -= bytes_of(v); /* nobody reads it */
                last[v - s->values] = SIZE_MAX;
            }
        }
    }
    return most;
}

enum sx_rc sx_work_count(const struct sx_onnx *model, int64_t free_dim, struct sx_work *work,
                         struct sx_err *err)
{
    const Onnx__GraphProto *g = model->proto->graph;
    struct sx_shapes s;
    size_t *marks = NULL;
    enum sx_rc rc = sx_shapes_infer(model, free_dim, &s, err);

    *work = (struct sx_work){0};
    if (rc != SX_OK)
        goto out;
    marks = calloc(s.n_values + 1, sizeof *marks);
    if (!marks)
        goto no_memory;
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        const struct sx_value *result = NULL;
        uint64_t flops = 0;

        if (!runs(&s, n))
            continue;
        for (size_t k = 0; k < n->n_input; k++) {
            struct sx_value *v = sx_shapes_get(&s, n->input[k]);
            if (v && v->constant && v->known && !marks[v - s.values]) {
                marks[v - s.values] = 1;
                work->parameters += sx_value_count(v);
                work->weight_bytes += bytes_of(v);
            }
        }
        for (size_t k = 0; k < n->n_output && !result; k++)
            result = sx_shapes_get(&s, n->output[k]);
        if (!result || !result->known || !node_flops(&s, n, result, &flops)) {
            work->unknown++;
            if (!work->unknown_type)
                work->unknown_type = n->op_type;
        }
        if (!add_op(work, n->op_type, flops))
            goto no_memory;
    }
    if (work->n_ops)
        qsort(work->ops, work->n_ops, sizeof *work->ops, by_flops);
    memset(marks, 0, s.n_values * sizeof *marks);
    work->activation_bytes = peak(&s, g, marks);
    goto out;

no_memory:
    sx_work_fini(work);
    rc = sx_fail(err, SX_NO_MEMORY, "no memory to count the work of the graph");
out:
    free(marks);
    sx_shapes_fini(&s);
    return rc;
}

void sx_work_fini(struct sx_work *work)
{
    free(work->ops);
    *work = (struct sx_work){0};
}
