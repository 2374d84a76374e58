/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.c - from nodes of the DAG to the messages of a model: what goes in, what is taken along,
 * how inputs and outputs are declared.
 */
#include "graph/stage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/flow.h"
#include "graph/stage_int.h"

/* --- ports ---------------------------------------------------------------------------------- */

enum sx_rc sx_stage_ports(const struct sx_dag *dag, const uint32_t *nodes, size_t n,
                          uint32_t **ret_in, size_t *ret_n_in, uint32_t **ret_out,
                          size_t *ret_n_out)
{
    bool *in_stage = calloc((size_t)dag->n_nodes + 1, sizeof(*in_stage));
    bool *read = calloc((size_t)dag->n_tensors + 1, sizeof(*read));
    uint32_t *ports = malloc(((size_t)dag->n_tensors + 1) * sizeof(*ports));
    size_t n_in = 0, n_out = 0;
    enum sx_rc rc = in_stage && read && ports ? SX_OK : SX_NO_MEMORY;

    for (size_t i = 0; !rc && i < n; i++) {
        if (nodes[i] >= dag->n_nodes) {
            rc = SX_INVALID;
            break;
        }
        const struct sx_dag_node *node = &dag->nodes[nodes[i]];
        in_stage[nodes[i]] = true;
        for (uint32_t k = 0; k < node->n_in; k++)
            read[dag->ins[node->first_in + k]] = true;
    }
    if (rc)
        goto out;
    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        uint32_t p = dag->tensors[t].producer;
        if (read[t] && (p == SX_DAG_NONE || !in_stage[p]))
            ports[n_in++] = t;
    }
    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        if (tensor->producer == SX_DAG_NONE || !in_stage[tensor->producer])
            continue;
        bool needed = tensor->output;
        for (uint32_t k = 0; k < tensor->n_uses && !needed; k++)
            needed = !in_stage[dag->uses[tensor->first_use + k]];
        if (needed)
            ports[n_in + n_out++] = t;
    }
    *ret_in = ports;
    *ret_n_in = n_in;
    *ret_out = ports + n_in;
    *ret_n_out = n_out;
    ports = NULL;
out:
    free(in_stage);
    free(read);
    free(ports);
    return rc;
}

/* --- declarations ---------------------------------------------------------------------------- */

Onnx__ValueInfoProto *sx_stage_declare(struct sx_stage_piece *p, const char *name)
{
    Onnx__ValueInfoProto *v = sx_stage_alloc(p, sizeof(*v));
    if (v) {
        onnx__value_info_proto__init(v);
        v->name = (char *)name;
    }
    return v;
}

Onnx__TypeProto__Tensor *sx_stage_tensor_type(struct sx_stage_piece *p, Onnx__ValueInfoProto *v,
                                              int onnx_type)
{
    Onnx__TypeProto *type = v ? sx_stage_alloc(p, sizeof(*type)) : NULL;
    Onnx__TypeProto__Tensor *t = type ? sx_stage_alloc(p, sizeof(*t)) : NULL;
    if (!t)
        return NULL;
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(t);
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = t;
    t->has_elem_type = 1;
    t->elem_type = onnx_type;
    v->type = type;
    return t;
}

Onnx__TensorShapeProto *sx_stage_shape(struct sx_stage_piece *p, const int64_t *dims, int rank)
{
    size_t n = (size_t)rank;
    Onnx__TensorShapeProto *s = sx_stage_alloc(p, sizeof(*s));
    Onnx__TensorShapeProto__Dimension **list = sx_stage_alloc(p, n * sizeof(*list));
    Onnx__TensorShapeProto__Dimension *d = sx_stage_alloc(p, n * sizeof(*d));
    if (!s || !list || !d)
        return NULL;
    onnx__tensor_shape_proto__init(s);
    s->n_dim = n;
    s->dim = list;
    for (size_t i = 0; i < n; i++) {
        list[i] = &d[i];
        onnx__tensor_shape_proto__dimension__init(&d[i]);
        if (dims[i] >= 0) {
            d[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d[i].dim_value = dims[i];
        } else if (dims[i] == -1) {
            static char batch[] = "batch";
            d[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d[i].dim_param = batch;
        }
    }
    return s;
}

/* As the engine found it; only its name when it did not. */
static Onnx__ValueInfoProto *declare_typed(struct sx_stage_piece *p, const struct sx_dag_tensor *t)
{
    Onnx__ValueInfoProto *v = sx_stage_declare(p, t->name);
    Onnx__TypeProto__Tensor *type = t->typed ? sx_stage_tensor_type(p, v, t->onnx_type) : NULL;
    if (type && t->rank >= 0)
        type->shape = sx_stage_shape(p, t->dims, t->rank);
    return v;
}

/* --- a stage ---------------------------------------------------------------------------------- */

struct selection {
    struct sx_flow flow;
    bool *nodes;  /* of the file: taken */
    bool *values; /* initializers: taken */
    bool *ports;  /* values */
    uint32_t *stack;
};

/* Take the nodes and, again and again, the constants that they read. */
static enum sx_rc take_nodes(struct selection *s, const struct sx_dag *dag, const uint32_t *nodes,
                             size_t n, struct sx_err *err)
{
    const struct sx_flow *f = &s->flow;
    size_t top = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t node = dag->nodes[nodes[i]].onnx_index;
        if (node >= f->graph->n_node)
            return sx_fail(err, SX_INTERNAL, "the operators are not those of this file");
        s->nodes[node] = true;
        s->stack[top++] = node;
    }
    while (top) {
        uint32_t node = s->stack[--top];
        for (uint32_t k = f->first_read[node]; k < f->first_read[node + 1]; k++) {
            const struct sx_flow_value *v = &f->values[f->reads[k]];
            if (!v->constant)
                continue;
            s->values[f->reads[k]] = true;
            if (v->kind == SX_FLOW_NODE && !s->nodes[v->index]) {
                s->nodes[v->index] = true;
                s->stack[top++] = v->index;
            }
        }
    }
    return SX_OK;
}

static void fill_lists(struct sx_stage_piece *p, const struct selection *s)
{
    const struct sx_flow *f = &s->flow;
    const Onnx__GraphProto *g = f->graph;
    Onnx__GraphProto *to = &p->graph;

    to->node = sx_stage_alloc(p, g->n_node * sizeof(*to->node));
    to->initializer = sx_stage_alloc(p, g->n_initializer * sizeof(*to->initializer));
    to->sparse_initializer =
        sx_stage_alloc(p, g->n_sparse_initializer * sizeof(*to->sparse_initializer));
    to->value_info = sx_stage_alloc(p, g->n_value_info * sizeof(*to->value_info));
    to->n_node = to->n_initializer = to->n_sparse_initializer = to->n_value_info = 0;
    /* they name values that may not be here, and no engine reads them */
    to->n_quantization_annotation = 0;
    to->quantization_annotation = NULL;
    if (p->rc)
        return;
    for (size_t i = 0; i < g->n_node; i++)
        if (s->nodes[f->order[i]])
            to->node[to->n_node++] = g->node[f->order[i]];
    for (uint32_t v = 0; v < f->n_values; v++) {
        if (!s->values[v])
            continue;
        if (f->values[v].kind == SX_FLOW_INITIALIZER)
            to->initializer[to->n_initializer++] = g->initializer[f->values[v].index];
        else if (f->values[v].kind == SX_FLOW_SPARSE)
            to->sparse_initializer[to->n_sparse_initializer++] =
                g->sparse_initializer[f->values[v].index];
    }
    for (size_t i = 0; i < g->n_value_info; i++) {
        uint32_t v = sx_flow_find(f, g->value_info[i]->name);
        if (v != SX_FLOW_NONE && f->values[v].kind == SX_FLOW_NODE &&
            s->nodes[f->values[v].index] && !s->ports[v])
            to->value_info[to->n_value_info++] = g->value_info[i];
    }
}

/* Inputs and outputs of the graph keep the file's words, if it has any; what is cut gets ours. */
static enum sx_rc fill_ports(struct sx_stage_piece *p, struct selection *s,
                             const struct sx_dag *dag, const uint32_t *tensors, size_t n, bool out,
                             Onnx__ValueInfoProto **to)
{
    const struct sx_flow *f = &s->flow;

    for (size_t i = 0; i < n && !p->rc; i++) {
        const struct sx_dag_tensor *t = &dag->tensors[tensors[i]];
        uint32_t v = sx_flow_find(f, t->name);
        if (v == SX_FLOW_NONE)
            return sx_fail(p->err, SX_INTERNAL, "the tensors are not those of this file");
        s->ports[v] = true;
        Onnx__ValueInfoProto *own = NULL;
        if (out && f->values[v].output != SX_FLOW_NONE)
            own = f->graph->output[f->values[v].output];
        else if (f->values[v].kind == SX_FLOW_INPUT)
            own = f->graph->input[f->values[v].index];
        if (own && own->type)
            to[i] = own;
        else if (t->typed || own)
            to[i] = declare_typed(p, t);
        else
            return sx_fail(p->err, SX_INVALID,
                           "the type of '%s' is not known, so that it cannot be cut", t->name);
    }
    return p->rc;
}

void sx_stage_begin(struct sx_stage_piece *p, const struct sx_onnx *model, struct sx_err *err)
{
    *p = (struct sx_stage_piece){.model = model, .proto = *model->proto, .err = err};
    p->graph = *model->proto->graph;
    p->proto.graph = &p->graph;
    p->proto.n_training_info = 0; /* about the whole graph */
    p->proto.training_info = NULL;
    if (p->proto.ir_version < 4) { /* before, an initializer had to be an input, too */
        p->proto.has_ir_version = 1;
        p->proto.ir_version = 4;
    }
}

enum sx_rc sx_stage_check_place(const struct sx_onnx *model, const char *path, struct sx_err *err)
{
    const char *slash = strrchr(path, '/');
    struct stat here, there;

    if (!model->has_external)
        return SX_OK;
    char *dir = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!dir)
        return sx_fail(err, SX_NO_MEMORY, "no memory to write a stage");
    bool same = !stat(dir, &here) && !stat(model->dir, &there) && here.st_dev == there.st_dev &&
                here.st_ino == there.st_ino;
    free(dir);
    if (same)
        return SX_OK;
    sx_fail(err, SX_INVALID, "'%s' would not find the weights, which are in files in '%s'", path,
            model->dir);
    sx_hint(err, "write it there, or copy the weights");
    return SX_INVALID;
}

enum sx_rc sx_stage_write_limit(const struct sx_onnx *model, const struct sx_dag *dag,
                                const uint32_t *nodes, size_t n, const char *path,
                                enum sx_stage_data data, uint64_t limit, struct sx_err *err)
{
    struct selection s = {0};
    struct sx_stage_piece p;
    uint32_t *in = NULL, *out;
    size_t n_in, n_out;

    sx_stage_begin(&p, model, err);
    p.rc = sx_dag_check_stage(dag, nodes, n, err);
    if (!p.rc && data == SX_STAGE_REFER)
        p.rc = sx_stage_check_place(model, path, err);
    if (!p.rc)
        p.rc = sx_flow_build(model, &s.flow, err);
    if (p.rc)
        goto out;
    size_t n_node = s.flow.graph->n_node + 1, n_values = (size_t)s.flow.n_values + 1;
    s.nodes = calloc(n_node, sizeof(*s.nodes));
    s.stack = malloc(n_node * sizeof(*s.stack));
    s.values = calloc(n_values, sizeof(*s.values));
    s.ports = calloc(n_values, sizeof(*s.ports));
    if (!s.nodes || !s.stack || !s.values || !s.ports ||
        sx_stage_ports(dag, nodes, n, &in, &n_in, &out, &n_out)) {
        p.rc = sx_fail(err, SX_NO_MEMORY, "no memory to write a stage");
        goto out;
    }
    p.graph.n_input = n_in;
    p.graph.n_output = n_out;
    p.graph.input = sx_stage_alloc(&p, n_in * sizeof(*p.graph.input));
    p.graph.output = sx_stage_alloc(&p, n_out * sizeof(*p.graph.output));
    if (!p.rc)
        p.rc = take_nodes(&s, dag, nodes, n, err);
    if (!p.rc)
        p.rc = fill_ports(&p, &s, dag, in, n_in, false, p.graph.input);
    if (!p.rc)
        p.rc = fill_ports(&p, &s, dag, out, n_out, true, p.graph.output);
    if (!p.rc)
        fill_lists(&p, &s);
    if (!p.rc && data == SX_STAGE_COPY)
        sx_stage_copy_data(&p);
    if (!p.rc)
        sx_stage_save(&p, path, data == SX_STAGE_COPY ? limit : UINT64_MAX);
out:
    free(in);
    free(s.nodes);
    free(s.stack);
    free(s.values);
    free(s.ports);
    sx_flow_fini(&s.flow);
    sx_stage_fini(&p);
    return p.rc;
}

enum sx_rc sx_stage_write(const struct sx_onnx *model, const struct sx_dag *dag,
                          const uint32_t *nodes, size_t n, const char *path,
                          enum sx_stage_data data, struct sx_err *err)
{
    return sx_stage_write_limit(model, dag, nodes, n, path, data, SX_STAGE_INLINE_LIMIT, err);
}
