/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * model_test.h - small ONNX models for tests, made in memory.
 *
 *     mk_begin -> mk_input, mk_node, ... -> mk_bytes or mk_write -> mk_end
 *
 * Lists are texts: "a,b" for names, "-1,4" for dimensions (NULL: no shape at all).  Only tests
 * include it.
 */
#ifndef SX_GRAPH_MODEL_TEST_H
#define SX_GRAPH_MODEL_TEST_H

#include <onnx.pb-c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MK_FLOAT  1
#define MK_INT64  7
#define MK_STRING 8

struct mk {
    Onnx__ModelProto model;
    Onnx__GraphProto *graph;
    Onnx__OperatorSetIdProto opset;
    void *memory[4096]; /* everything allocated, for mk_end */
    size_t n;
};

static inline void *mk_alloc(struct mk *mk, size_t size)
{
    void *p = calloc(1, size + 1);
    if (!p || mk->n == sizeof(mk->memory) / sizeof(*mk->memory))
        abort();
    return mk->memory[mk->n++] = p;
}

static inline char *mk_text(struct mk *mk, const char *text)
{
    return strcpy(mk_alloc(mk, strlen(text)), text);
}

/* Append to a protobuf-c list of pointers. */
#define MK_PUSH(mk, list, count, item)                                                             \
    do {                                                                                           \
        void *more_ = mk_alloc(mk, ((count) + 1) * sizeof(*(list)));                               \
        if (count)                                                                                 \
            memcpy(more_, (list), (count) * sizeof(*(list)));                                      \
        (list) = more_;                                                                            \
        (list)[(count)++] = (item);                                                                \
    } while (0)

static inline Onnx__GraphProto *mk_graph(struct mk *mk, const char *name)
{
    Onnx__GraphProto *g = mk_alloc(mk, sizeof(*g));
    onnx__graph_proto__init(g);
    g->name = mk_text(mk, name);
    return g;
}

static inline void mk_begin(struct mk *mk, int ir)
{
    mk->n = 0;
    onnx__model_proto__init(&mk->model);
    mk->model.has_ir_version = 1;
    mk->model.ir_version = ir;
    onnx__operator_set_id_proto__init(&mk->opset);
    mk->opset.has_version = 1;
    mk->opset.version = 13;
    MK_PUSH(mk, mk->model.opset_import, mk->model.n_opset_import, &mk->opset);
    mk->graph = mk->model.graph = mk_graph(mk, "test");
}

static inline void mk_end(struct mk *mk)
{
    for (size_t i = 0; i < mk->n; i++)
        free(mk->memory[i]);
    mk->n = 0;
}

static inline Onnx__ValueInfoProto *mk_value(struct mk *mk, const char *name, int type,
                                             const char *dims)
{
    Onnx__ValueInfoProto *v = mk_alloc(mk, sizeof(*v));
    onnx__value_info_proto__init(v);
    v->name = mk_text(mk, name);
    if (!type)
        return v;
    v->type = mk_alloc(mk, sizeof(*v->type));
    onnx__type_proto__init(v->type);
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    Onnx__TypeProto__Tensor *t = v->type->tensor_type = mk_alloc(mk, sizeof(*t));
    onnx__type_proto__tensor__init(t);
    t->has_elem_type = 1;
    t->elem_type = type;
    if (!dims)
        return v;
    t->shape = mk_alloc(mk, sizeof(*t->shape));
    onnx__tensor_shape_proto__init(t->shape);
    char *save, *copy = mk_text(mk, dims);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        Onnx__TensorShapeProto__Dimension *d = mk_alloc(mk, sizeof(*d));
        onnx__tensor_shape_proto__dimension__init(d);
        if (atoll(w) >= 0) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = atoll(w);
        } else {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = mk_text(mk, "n");
        }
        MK_PUSH(mk, t->shape->dim, t->shape->n_dim, d);
    }
    return v;
}

static inline void mk_input(struct mk *mk, const char *name, int type, const char *dims)
{
    MK_PUSH(mk, mk->graph->input, mk->graph->n_input, mk_value(mk, name, type, dims));
}

static inline void mk_output(struct mk *mk, const char *name, int type, const char *dims)
{
    MK_PUSH(mk, mk->graph->output, mk->graph->n_output, mk_value(mk, name, type, dims));
}

/* A constant with raw data; `data` may be NULL for an external or an empty one. */
static inline Onnx__TensorProto *mk_tensor(struct mk *mk, const char *name, int type,
                                           const char *dims, const void *data, size_t size)
{
    Onnx__TensorProto *t = mk_alloc(mk, sizeof(*t));
    onnx__tensor_proto__init(t);
    t->name = mk_text(mk, name);
    t->has_data_type = 1;
    t->data_type = type;
    char *save, *copy = mk_text(mk, dims);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
        MK_PUSH(mk, t->dims, t->n_dims, atoll(w));
    if (data) {
        t->has_raw_data = 1;
        t->raw_data.data = mk_alloc(mk, size);
        t->raw_data.len = size;
        memcpy(t->raw_data.data, data, size);
    }
    return t;
}

static inline Onnx__TensorProto *mk_constant(struct mk *mk, const char *name, int type,
                                             const char *dims, const void *data, size_t size)
{
    Onnx__TensorProto *t = mk_tensor(mk, name, type, dims, data, size);
    MK_PUSH(mk, mk->graph->initializer, mk->graph->n_initializer, t);
    return t;
}

static inline void mk_external(struct mk *mk, Onnx__TensorProto *t, const char *key,
                               const char *value)
{
    Onnx__StringStringEntryProto *e = mk_alloc(mk, sizeof(*e));
    onnx__string_string_entry_proto__init(e);
    e->key = mk_text(mk, key);
    e->value = mk_text(mk, value);
    t->has_data_location = 1;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    MK_PUSH(mk, t->external_data, t->n_external_data, e);
}

static inline Onnx__NodeProto *mk_node_in(struct mk *mk, Onnx__GraphProto *g, const char *type,
                                          const char *inputs, const char *outputs)
{
    Onnx__NodeProto *n = mk_alloc(mk, sizeof(*n));
    onnx__node_proto__init(n);
    n->op_type = mk_text(mk, type);
    char *save, *copy = mk_text(mk, inputs);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
        MK_PUSH(mk, n->input, n->n_input, w);
    copy = mk_text(mk, outputs);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
        MK_PUSH(mk, n->output, n->n_output, w);
    MK_PUSH(mk, g->node, g->n_node, n);
    return n;
}

static inline Onnx__NodeProto *mk_node(struct mk *mk, const char *type, const char *inputs,
                                       const char *outputs)
{
    return mk_node_in(mk, mk->graph, type, inputs, outputs);
}

static inline Onnx__AttributeProto *mk_attribute(struct mk *mk, Onnx__NodeProto *node,
                                                 const char *name, int type)
{
    Onnx__AttributeProto *a = mk_alloc(mk, sizeof(*a));
    onnx__attribute_proto__init(a);
    a->name = mk_text(mk, name);
    a->has_type = 1;
    a->type = (Onnx__AttributeProto__AttributeType)type;
    MK_PUSH(mk, node->attribute, node->n_attribute, a);
    return a;
}

/* The body of an If, Loop or Scan: an attribute that is a graph. */
static inline Onnx__GraphProto *mk_body(struct mk *mk, Onnx__NodeProto *node, const char *name)
{
    return mk_attribute(mk, node, name, 5)->g = mk_graph(mk, name);
}

static inline void mk_body_output(struct mk *mk, Onnx__GraphProto *g, const char *name, int type)
{
    MK_PUSH(mk, g->output, g->n_output, mk_value(mk, name, type, NULL));
}

static inline Onnx__OperatorSetIdProto *mk_opset(struct mk *mk, const char *domain, int version)
{
    Onnx__OperatorSetIdProto *set = mk_alloc(mk, sizeof(*set));
    onnx__operator_set_id_proto__init(set);
    set->domain = mk_text(mk, domain);
    set->has_version = 1;
    set->version = version;
    return set;
}

/* A function local.NAME(a, b) -> c of the model's own; the caller adds nodes to `nodes` before. */
static inline void mk_function(struct mk *mk, const char *name, Onnx__GraphProto *nodes)
{
    Onnx__FunctionProto *f = mk_alloc(mk, sizeof(*f));
    onnx__function_proto__init(f);
    f->name = mk_text(mk, name);
    f->domain = mk_text(mk, "local");
    MK_PUSH(mk, f->input, f->n_input, mk_text(mk, "a"));
    MK_PUSH(mk, f->input, f->n_input, mk_text(mk, "b"));
    MK_PUSH(mk, f->output, f->n_output, mk_text(mk, "c"));
    MK_PUSH(mk, f->opset_import, f->n_opset_import, mk_opset(mk, "", 13));
    f->node = nodes->node;
    f->n_node = nodes->n_node;
    MK_PUSH(mk, mk->model.functions, mk->model.n_functions, f);
    MK_PUSH(mk, mk->model.opset_import, mk->model.n_opset_import, mk_opset(mk, "local", 1));
}

static inline unsigned char *mk_bytes(struct mk *mk, size_t *ret_size)
{
    unsigned char *data = mk_alloc(mk, onnx__model_proto__get_packed_size(&mk->model));
    *ret_size = onnx__model_proto__pack(&mk->model, data);
    return data;
}

static inline void mk_put(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wbe");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

static inline void mk_write(struct mk *mk, const char *path)
{
    size_t size;
    const unsigned char *data = mk_bytes(mk, &size);
    mk_put(path, data, size);
}

#endif
