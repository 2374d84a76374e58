/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* stage_probe.c - the whole model as a file that tells the types of all its tensors. */
#include "graph/flow.h"
#include "graph/stage_int.h"

static const Onnx__TypeProto__Tensor *tensor_of(const Onnx__ValueInfoProto *v)
{
    return v->type && v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
               ? v->type->tensor_type
               : NULL;
}

/* The same value without a shape: what the file says about free dimensions, or about another
 * batch, must not mix with what follows from the inputs. */
static Onnx__ValueInfoProto *shapeless(struct sx_stage_piece *p, Onnx__ValueInfoProto *v)
{
    const Onnx__TypeProto__Tensor *t = tensor_of(v);
    if (!t || !t->shape)
        return v;
    Onnx__ValueInfoProto *copy = sx_stage_declare(p, v->name);
    sx_stage_tensor_type(p, copy, t->elem_type);
    return copy;
}

static bool is_named(const Onnx__TensorShapeProto__Dimension *d)
{
    return d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param &&
           *d->dim_param;
}

static Onnx__ValueInfoProto *fix_dims(struct sx_stage_piece *p, Onnx__ValueInfoProto *v,
                                      const struct sx_names *batch_names, int64_t batch,
                                      int64_t other)
{
    const Onnx__TypeProto__Tensor *t = tensor_of(v);
    if (!t || !t->shape)
        return v;
    Onnx__ValueInfoProto *copy = sx_stage_declare(p, v->name);
    Onnx__TypeProto__Tensor *type = sx_stage_tensor_type(p, copy, t->elem_type);
    int64_t dims[SX_MAX_RANK]; /* the rank was checked when the model was opened */
    for (size_t i = 0; i < t->shape->n_dim && i < SX_MAX_RANK; i++) {
        const Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        bool fixed = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
                     d->dim_value >= 0;
        bool is_batch =
            i == 0 || (is_named(d) && sx_names_get(batch_names, d->dim_param) != SX_NAMES_NONE);
        dims[i] = fixed ? d->dim_value : is_batch ? batch : other;
    }
    if (type)
        type->shape = sx_stage_shape(p, dims, (int)t->shape->n_dim);
    return copy;
}

static bool find_batch_names(const struct sx_flow *f, struct sx_names *names)
{
    for (uint32_t v = 0; v < f->n_values; v++) {
        const Onnx__TypeProto__Tensor *t = f->values[v].kind == SX_FLOW_INPUT
                                               ? tensor_of(f->graph->input[f->values[v].index])
                                               : NULL;
        int old;
        if (t && t->shape && t->shape->n_dim && is_named(t->shape->dim[0]) &&
            !sx_names_add(names, t->shape->dim[0]->dim_param, 0, &old) && old == SX_NAMES_NONE)
            return false;
    }
    return true;
}

enum sx_rc sx_stage_write_probe(const struct sx_onnx *model, const struct sx_dag *dag,
                                int64_t batch, int64_t other, const char *path, struct sx_err *err)
{
    const Onnx__GraphProto *g = model->proto->graph;
    struct sx_names batch_names = {0};
    struct sx_flow f = {0};
    struct sx_stage_piece p;

    sx_stage_begin(&p, model, err);
    p.rc = sx_stage_check_place(model, path, err);
    if (!p.rc)
        p.rc = sx_flow_build(model, &f, err);
    if (!p.rc && !find_batch_names(&f, &batch_names))
        p.rc = sx_fail(err, SX_NO_MEMORY, "no memory to write a stage");
    if (p.rc)
        goto out;
    p.graph.input = sx_stage_alloc(&p, g->n_input * sizeof(*g->input));
    p.graph.output = sx_stage_alloc(&p, (g->n_output + dag->n_tensors) * sizeof(*g->output));
    p.graph.value_info = sx_stage_alloc(&p, g->n_value_info * sizeof(*g->value_info));
    p.graph.n_input = p.graph.n_output = 0;
    for (uint32_t v = 0; !p.rc && v < f.n_values; v++)
        if (f.values[v].kind == SX_FLOW_INPUT)
            p.graph.input[p.graph.n_input++] =
                fix_dims(&p, g->input[f.values[v].index], &batch_names, batch, other);
    for (uint32_t i = 0; !p.rc && i < g->n_output; i++) {
        uint32_t v = sx_flow_find(&f, g->output[i]->name);
        if (v != SX_FLOW_NONE && f.values[v].output == i) /* the first of its name */
            p.graph.output[p.graph.n_output++] = shapeless(&p, g->output[i]);
    }
    for (uint32_t t = 0; !p.rc && t < dag->n_tensors; t++)
        if (dag->tensors[t].producer != SX_DAG_NONE && !dag->tensors[t].output)
            p.graph.output[p.graph.n_output++] = sx_stage_declare(&p, dag->tensors[t].name);
    for (size_t i = 0; !p.rc && i < g->n_value_info; i++)
        p.graph.value_info[i] = shapeless(&p, g->value_info[i]);
    if (!p.rc)
        sx_stage_save(&p, path, UINT64_MAX);
out:
    sx_names_fini(&batch_names);
    sx_flow_fini(&f);
    sx_stage_fini(&p);
    return p.rc;
}
