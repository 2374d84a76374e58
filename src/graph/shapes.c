/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/shapes.h"

#include <stdlib.h>
#include <string.h>

struct sx_value *sx_shapes_get(const struct sx_shapes *shapes, const char *name)
{
    int i = name && *name ? sx_names_get(&shapes->names, name) : SX_NAMES_NONE;

    return i == SX_NAMES_NONE ? NULL : &shapes->values[i];
}

uint64_t sx_value_count(const struct sx_value *value)
{
    uint64_t n = 0;

    return sx_shape_count(value->dims, value->rank, &n) ? n : 0;
}

void sx_shapes_fini(struct sx_shapes *shapes)
{
    free(shapes->values);
    sx_names_fini(&shapes->names);
    *shapes = (struct sx_shapes){0};
}

/* The value of this name, made on first sight; NULL when memory runs out.  `values` has room for
 * every name that the graph can define. */
static struct sx_value *define(struct sx_shapes *s, const char *name)
{
    int old;

    if (sx_names_add(&s->names, name, (int)s->n_values, &old))
        return &s->values[s->n_values++];
    return old == SX_NAMES_NONE ? NULL : &s->values[old];
}

static void take_type(struct sx_value *v, const Onnx__TypeProto *type, int64_t free_dim)
{
    const Onnx__TypeProto__Tensor *t;

    if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !type->tensor_type)
        return;
    t = type->tensor_type;
    v->type = t->elem_type;
    if (!t->shape || t->shape->n_dim > SX_MAX_RANK)
        return;
    for (size_t d = 0; d < t->shape->n_dim; d++) {
        const Onnx__TensorShapeProto__Dimension *dim = t->shape->dim[d];
        bool fixed = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;

        if (!fixed && free_dim < 0)
            return;
        v->dims[d] = fixed && dim->dim_value >= 0 ? dim->dim_value : free_dim;
    }
    v->rank = (int)t->shape->n_dim;
    v->known = true;
}

/* Integer contents of a small constant stored in the file. */
static void take_ints(struct sx_value *v, const Onnx__TensorProto *t)
{
    uint64_t n = sx_value_count(v);

    if (n > SX_SHAPE_INTS || t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return;
    if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64) {
        if (t->has_raw_data && t->raw_data.len == n * sizeof(int64_t))
            memcpy(v->ints, t->raw_data.data, t->raw_data.len);
        else if (t->n_int64_data == n)
            memcpy(v->ints, t->int64_data, n * sizeof(int64_t));
        else
            return;
    } else if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT32) {
        for (uint64_t i = 0; i < n; i++) {
            int32_t x;
            if (t->has_raw_data && t->raw_data.len == n * sizeof x)
                memcpy(&x, t->raw_data.data + i * sizeof x, sizeof x);
            else if (t->n_int32_data == n)
                x = t->int32_data[i];
            else
                return;
            v->ints[i] = x;
        }
    } else {
        return;
    }
    v->n_ints = (int)n;
    v->has_ints = true;
}

static void take_tensor(struct sx_value *v, const Onnx__TensorProto *t)
{
    v->constant = true;
    v->type = t->data_type;
    if (t->n_dims > SX_MAX_RANK)
        return;
    v->rank = (int)t->n_dims;
    for (size_t d = 0; d < t->n_dims; d++)
        v->dims[d] = t->dims[d];
    v->known = true;
    take_ints(v, t);
}

static bool is_random(const char *op)
{
    return strncmp(op, "Random", 6) == 0 || !strcmp(op, "Multinomial") || !strcmp(op, "Bernoulli");
}

static bool has_graph(const Onnx__NodeProto *n)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (n->attribute[i]->g || n->attribute[i]->n_graphs)
            return true;
    return false;
}

static bool visit(struct sx_shapes *s, const struct sx_onnx *model, const Onnx__NodeProto *n)
{
    struct sx_node_view view = {.proto = n, .opset = sx_onnx_opset(model, "")};
    bool constant = !is_random(n->op_type) && !has_graph(n);

    for (size_t i = 0; i < n->n_input; i++) {
        const struct sx_value *v = sx_shapes_get(s, n->input[i]);
        if (*n->input[i] && (!v || !v->constant))
            constant = false;
        if (i < 16)
            view.in[view.n_in++] = v;
    }
    for (size_t i = 0; i < n->n_output; i++) {
        struct sx_value *v = *n->output[i] ? define(s, n->output[i]) : NULL;
        if (*n->output[i] && !v)
            return false;
        if (v)
            v->constant = constant;
        if (i < 16)
            view.out[view.n_out++] = v;
    }
    const Onnx__AttributeProto *value = sx_attr(n, "value");
    if (!strcmp(n->op_type, "Constant") && value && value->t && view.n_out && view.out[0])
        take_tensor(view.out[0], value->t);
    else if (n->n_input <= 16 && n->n_output <= 16 &&
             (!n->domain || !*n->domain || !strcmp(n->domain, "ai.onnx")))
        sx_shape_rule(&view);
    return true;
}

/* Use what the file itself says about values that no rule could tell. */
static void fall_back(struct sx_shapes *s, Onnx__ValueInfoProto **info, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct sx_value *v = sx_shapes_get(s, info[i]->name);
        if (v && !v->known)
            take_type(v, info[i]->type, -1);
    }
}

enum sx_rc sx_shapes_infer(const struct sx_onnx *model, int64_t free_dim, struct sx_shapes *shapes,
                           struct sx_err *err)
{
    const Onnx__GraphProto *g = model->proto->graph;
    size_t room = g->n_input + g->n_initializer + g->n_value_info + g->n_output;
    struct sx_value *v;

    *shapes = (struct sx_shapes){0};
    for (size_t i = 0; i < g->n_node; i++)
        room += g->node[i]->n_output;
    shapes->values = calloc(room + 1, sizeof *shapes->values);
    if (!shapes->values)
        goto no_memory;
    for (size_t i = 0; i < g->n_initializer; i++) {
        v = define(shapes, g->initializer[i]->name ? g->initializer[i]->name : "");
        if (!v)
            goto no_memory;
        take_tensor(v, g->initializer[i]);
    }
    for (size_t i = 0; i < g->n_input; i++) {
        v = define(shapes, g->input[i]->name);
        if (!v)
            goto no_memory;
        if (!v->constant)
            take_type(v, g->input[i]->type, free_dim);
    }
    for (size_t i = 0; i < g->n_node; i++)
        if (!visit(shapes, model, g->node[i]))
            goto no_memory;
    fall_back(shapes, g->value_info, g->n_value_info);
    fall_back(shapes, g->output, g->n_output);
    return SX_OK;

no_memory:
    return sx_fail(err, SX_NO_MEMORY, "no memory for the shapes of the graph");
}
