/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_graph.c - the graph of a model as ONNX Runtime runs it, with a type and a size for every
 * tensor.
 *
 * The graph is that of the prepared file (ort_prepare.c), so whatever ONNX Runtime fuses is one
 * operator already, and stages compute with the very kernels of the whole.
 *
 * Types come from ONNX Runtime's own inference.  A probe is the model with all tensors among its
 * outputs and the inputs' free dimensions fixed; a session of it says their types and shapes.
 * Several probes tell what a dimension depends on:
 *
 *     batch 1, others 64     what there is
 *     batch 2, others 64     a dimension that differs is the batch's: -1
 *     batch 1, others 128    a dimension that differs here alone is another input dimension's: -2;
 *                            sizes are then those with 64, an estimate
 *
 * A dimension that is unknown with all inputs fixed depends on the data: -2, and not sized.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/ort_int.h"
#include "graph/stage.h"

enum { BASE, BATCH, OTHER, N_PROBES };

struct probes {
    struct sx_onnx_value *values[N_PROBES]; /* for each tensor of the graph; NULL: not done */
    bool scalars_known;                     /* has_shape is right also for rank 0, in BASE */
};

/* --- one probe ----------------------------------------------------------------------------------
 */

/* What the session says of output `i`; other kinds than tensors stay untyped. */
static enum sx_rc read_type(const struct ort_lib *lib, const OrtSession *session, size_t i,
                            struct sx_onnx_value *v, struct sx_err *err)
{
    const OrtApi *api = lib->api;
    const OrtTensorTypeAndShapeInfo *info = NULL;
    enum ONNXType kind = ONNX_TYPE_UNKNOWN;
    ONNXTensorElementDataType elem = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OrtTypeInfo *type = NULL;
    size_t rank = 0;

    enum sx_rc rc = sx_ort_check(lib, api->SessionGetOutputTypeInfo(session, i, &type), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetOnnxTypeFromTypeInfo(type, &kind), err);
    if (rc || kind != ONNX_TYPE_TENSOR)
        goto out;
    rc = sx_ort_check(lib, api->CastTypeInfoToTensorInfo(type, &info), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetTensorElementType(info, &elem), err);
    if (!rc)
        rc = sx_ort_check(lib, api->GetDimensionsCount(info, &rank), err);
    if (rc || rank > SX_MAX_RANK)
        goto out;
    v->kind = SX_ONNX_TENSOR;
    v->onnx_type = (int)elem;
    v->dtype = sx_dtype_from_onnx((int)elem);
    v->rank = (int)rank;
    v->has_shape = rank > 0; /* 0 may also mean unknown: see find_scalars */
    rc = sx_ort_check(lib, api->GetDimensions(info, v->dims, rank), err);
out:
    if (type)
        api->ReleaseTypeInfo(type);
    return rc;
}

static enum sx_rc read_types(const struct ort_lib *lib, const OrtSession *session,
                             const struct sx_onnx *file, const struct sx_dag *dag,
                             struct sx_onnx_value *values, struct sx_err *err)
{
    const struct sx_onnx_value *v;
    size_t n = sx_onnx_inputs(file, &v), count = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t t = sx_dag_find(dag, v[i].name);
        if (t != SX_DAG_NONE)
            values[t] = v[i];
    }
    n = sx_onnx_outputs(file, &v);
    enum sx_rc rc = sx_ort_check(lib, lib->api->SessionGetOutputCount(session, &count), err);
    if (!rc && count != n)
        rc = sx_fail(err, SX_ENGINE, "ONNX Runtime sees %zu tensors of %zu", count, n);
    for (size_t i = 0; !rc && i < n; i++) { /* both in the file's order */
        uint32_t t = sx_dag_find(dag, v[i].name);
        if (t != SX_DAG_NONE)
            rc = read_type(lib, session, i, &values[t], err);
    }
    return rc;
}

static size_t rank_of(const struct ort_lib *lib, const OrtValue *value)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    size_t rank = SIZE_MAX;
    if (!sx_ort_check(lib, lib->api->GetTensorTypeAndShape(value, &info), NULL) &&
        sx_ort_check(lib, lib->api->GetDimensionsCount(info, &rank), NULL))
        rank = SIZE_MAX;
    if (info)
        lib->api->ReleaseTensorTypeAndShapeInfo(info);
    return rank;
}

/* Run the session for the outputs[n] (tensors of the graph) that may be scalars. */
static enum sx_rc run_scalars(const struct ort_lib *lib, OrtSession *session,
                              const struct sx_onnx *file, const struct sx_dag *dag,
                              const uint32_t *outputs, size_t n, struct sx_onnx_value *values)
{
    const struct sx_onnx_value *v;
    size_t n_in = sx_onnx_inputs(file, &v);
    struct sx_port *ports = calloc(n_in + 1, sizeof(*ports));
    const char **names = calloc(n_in + n, sizeof(*names));
    OrtValue **ort = calloc(n_in + n, sizeof(OrtValue *));
    struct sx_tensor *inputs = NULL;
    enum sx_rc rc = ports && names && ort ? SX_OK : SX_NO_MEMORY;

    for (size_t i = 0; !rc && i < n_in; i++) {
        names[i] = v[i].name;
        ports[i] = (struct sx_port){
            .name = v[i].name, .dtype = v[i].dtype, .rank = v[i].has_shape ? v[i].rank : -1};
        memcpy(ports[i].dims, v[i].dims, sizeof(ports[i].dims));
        if (v[i].kind != SX_ONNX_TENSOR || !v[i].dtype)
            rc = SX_UNSUPPORTED;
    }
    for (size_t i = 0; !rc && i < n; i++)
        names[n_in + i] = dag->tensors[outputs[i]].name;
    if (!rc)
        rc = sx_measure_inputs(ports, n_in, 1, &inputs, NULL);
    for (size_t i = 0; !rc && i < n_in; i++)
        rc = sx_ort_value_in(lib, &inputs[i], &ort[i], NULL);
    if (!rc)
        rc = sx_ort_check(lib,
                          lib->api->Run(session, NULL, names, (const OrtValue *const *)ort, n_in,
                                        names + n_in, n, ort + n_in),
                          NULL);
    for (size_t i = 0; !rc && i < n; i++)
        values[outputs[i]].has_shape = rank_of(lib, ort[n_in + i]) == 0;
    for (size_t i = 0; ort && i < n_in + n; i++)
        if (ort[i])
            lib->api->ReleaseValue(ort[i]);
    sx_measure_free(inputs, n_in);
    free(ports);
    free(names);
    free(ort);
    return rc;
}

/* The C API says "no dimensions" of a scalar and of a tensor without a shape alike.  One run tells.
 * It may fail on made-up inputs: then the next probe tries, and without any they stay unknown. */
static enum sx_rc find_scalars(const struct ort_lib *lib, OrtSession *session,
                               const struct sx_onnx *file, const struct sx_dag *dag,
                               struct probes *p, struct sx_err *err)
{
    struct sx_onnx_value *values = p->values[BASE];
    uint32_t *unsure = calloc((size_t)dag->n_tensors + 1, sizeof(*unsure));
    size_t n = 0;
    enum sx_rc rc = SX_OK;

    for (uint32_t t = 0; unsure && t < dag->n_tensors; t++)
        if (dag->tensors[t].producer != SX_DAG_NONE && values[t].kind == SX_ONNX_TENSOR &&
            !values[t].has_shape)
            unsure[n++] = t;
    if (!unsure)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the graph");
    if (n)
        rc = run_scalars(lib, session, file, dag, unsure, n, values);
    p->scalars_known = !rc;
    free(unsure);
    return rc == SX_NO_MEMORY ? sx_fail(err, rc, "no memory for the graph") : SX_OK;
}

static enum sx_rc probe(const struct ort_model *m, const struct sx_onnx *onnx,
                        const struct sx_dag *dag, int which, struct probes *p, struct sx_err *err)
{
    static atomic_uint serial;
    struct ort_source source = {.weights = &m->weights};
    struct sx_onnx *file = NULL;
    OrtSession *session = NULL;
    struct sx_onnx_value *values = calloc((size_t)dag->n_tensors + 1, sizeof(*values));

    if (!values || asprintf(&source.path, "%s/probe-%d.%u.onnx", sx_onnx_dir(onnx), (int)getpid(),
                            atomic_fetch_add(&serial, 1)) < 0) {
        free(values);
        return sx_fail(err, SX_NO_MEMORY, "no memory for the graph");
    }
    enum sx_rc rc =
        sx_stage_write_probe(onnx, dag, which == BATCH ? 2 : 1,
                             which == OTHER ? 2 * SX_FREE_DIM : SX_FREE_DIM, source.path, err);
    if (!rc)
        rc = sx_onnx_open(source.path, &file, err);
    if (!rc)
        rc = sx_ort_session_open(
            m->lib, &source, &(struct ort_session_config){.width = 1, .raw = true}, &session, err);
    unlink(source.path);
    if (!rc)
        rc = read_types(m->lib, session, file, dag, values, err);
    if (!rc) {
        p->values[which] = values;
        values = NULL;
    }
    if (!rc && !p->scalars_known)
        rc = find_scalars(m->lib, session, file, dag, p, err);
    if (session)
        m->lib->api->ReleaseSession(session);
    sx_onnx_close(file);
    free(values);
    free(source.path);
    return rc;
}

static void free_probes(struct probes *p)
{
    for (int i = 0; i < N_PROBES; i++)
        free(p->values[i]);
}

static enum sx_rc run_probes(const struct ort_model *m, const struct sx_onnx *onnx,
                             const struct sx_dag *dag, struct probes *p, struct sx_err *err)
{
    const struct sx_onnx_value *v;
    size_t n = sx_onnx_inputs(onnx, &v);
    bool batch = false, other = false;

    for (size_t i = 0; i < n; i++)
        for (int d = 0; d < v[i].rank; d++)
            if (v[i].dims[d] < 0)
                *(d ? &other : &batch) = true;
    enum sx_rc rc = probe(m, onnx, dag, BASE, p, err);
    if (!rc && other)
        rc = probe(m, onnx, dag, OTHER, p, err);
    /* A free first dimension that can only be 1 (a Reshape inside says so) is no batch. */
    if (!rc && batch && probe(m, onnx, dag, BATCH, p, NULL) == SX_NO_MEMORY)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the graph");
    return rc;
}

/* --- types ---------------------------------------------------------------------------- */

/* One tensor from what the probes say of it (NULL: not done). */
static void describe(struct sx_dag_tensor *t, const struct sx_onnx_value *const v[N_PROBES])
{
    const struct sx_onnx_value *base = v[BASE];
    size_t bytes[2] = {0};

    *t = (struct sx_dag_tensor){.name = t->name,
                                .producer = t->producer,
                                .first_use = t->first_use,
                                .n_uses = t->n_uses,
                                .output = t->output,
                                .rank = -1};
    if (base->kind != SX_ONNX_TENSOR)
        return;
    t->typed = true;
    t->onnx_type = base->onnx_type;
    bool sure = base->has_shape; /* of the rank; 0 is known of BASE alone */
    for (int i = 0; sure && i < N_PROBES; i++)
        sure = !v[i] || (v[i]->kind == SX_ONNX_TENSOR && v[i]->onnx_type == base->onnx_type &&
                         v[i]->rank == base->rank);
    if (!sure)
        return;
    t->rank = base->rank;
    t->sized = true;
    for (int d = 0; d < t->rank; d++) {
        int64_t dim = base->dims[d];
        bool known = dim >= 0 && (!v[BATCH] || v[BATCH]->dims[d] >= 0) &&
                     (!v[OTHER] || v[OTHER]->dims[d] >= 0);
        t->sized = t->sized && known;
        t->dims[d] = !known                                 ? -2
                     : v[BATCH] && v[BATCH]->dims[d] != dim ? -1
                     : v[OTHER] && v[OTHER]->dims[d] != dim ? -2
                                                            : dim;
    }
    /* BYTES and types that the protocol does not have have no size. */
    for (int i = 0; t->sized && i < 2; i++) {
        const struct sx_onnx_value *at = i && v[BATCH] ? v[BATCH] : base;
        t->sized = sx_shape_bytes(base->dtype, at->dims, at->rank, &bytes[i]);
    }
    if (!t->sized)
        return;
    t->sample_bytes = (double)bytes[1] - (double)bytes[0];
    t->fixed_bytes = (double)bytes[0] - t->sample_bytes;
    if (t->fixed_bytes < 0 || t->sample_bytes < 0) { /* not linear in the batch */
        t->sized = false;
        t->fixed_bytes = t->sample_bytes = 0;
    }
}

/* Types and sizes for all; what has none stays within a group. */
static enum sx_rc describe_all(const struct ort_model *m, const struct sx_onnx *onnx,
                               struct sx_dag *dag, struct sx_err *err)
{
    struct probes p = {0};
    enum sx_rc rc = run_probes(m, onnx, dag, &p, err);

    for (uint32_t i = 0; !rc && i < dag->n_tensors; i++) {
        struct sx_dag_tensor *t = &dag->tensors[i];
        const struct sx_onnx_value *v[N_PROBES] = {0};
        for (int k = 0; k < N_PROBES; k++)
            v[k] = p.values[k] ? &p.values[k][i] : NULL;
        describe(t, v);
        if (t->sized || t->producer == SX_DAG_NONE)
            continue;
        for (uint32_t u = 0; u < t->n_uses; u++)
            sx_dag_join(dag, t->producer, dag->uses[t->first_use + u]);
    }
    if (!rc && sx_dag_close_groups(dag))
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the graph");
    free_probes(&p);
    return rc;
}

/* --- the graph ----------------------------------------------------------------------------------
 */

/* The prepared file, with its weights in m->weights.  A model that is opened plainly is prepared
 * for its stages' sake. */
static enum sx_rc open_file(struct ort_model *m, struct sx_onnx **ret_onnx, struct sx_err *err)
{
    const struct ort_engine *e = (const struct ort_engine *)m->base.engine;
    struct sx_onnx *source = NULL;

    if (m->source.weights)
        return sx_onnx_open(m->source.path, ret_onnx, err);
    enum sx_rc rc = sx_onnx_open(m->source.path, &source, err);
    if (rc)
        return rc;
    bool inside = false;
    do
        rc = sx_ort_prepare(m->lib, source, e->cache_dir, e->machine_id, inside ? SX_ORT_INSIDE : 0,
                            ret_onnx, err);
    while (rc && rc != SX_NO_MEMORY && rc != SX_IO && (inside = !inside));
    if (!rc)
        rc = sx_ort_weights_open(m->lib, *ret_onnx, &m->weights, err);
    sx_onnx_close(source);
    return rc;
}

static enum sx_rc check_outputs(const struct sx_onnx *onnx, const struct sx_dag *dag,
                                struct sx_err *err)
{
    const struct sx_onnx_value *v;
    size_t n = sx_onnx_outputs(onnx, &v);

    if (!dag->n_nodes)
        return sx_fail(err, SX_UNSUPPORTED, "it has no operator that depends on its inputs");
    for (size_t i = 0; i < n; i++)
        if (sx_dag_find(dag, v[i].name) == SX_DAG_NONE)
            return sx_fail(err, SX_UNSUPPORTED, "output '%s' depends on none of its inputs",
                           v[i].name);
    return SX_OK;
}

enum sx_rc sx_ort_graph(struct sx_engine_model *model, struct sx_err *err)
{
    struct ort_model *m = (struct ort_model *)model;
    struct sx_onnx *onnx = NULL;
    struct sx_dag *dag = NULL;
    struct sx_err why = {0};

    if (!((const struct ort_engine *)model->engine)->cache_dir) {
        sx_fail(err, SX_UNSUPPORTED, "the model cannot be cut: that needs a cache directory");
        sx_hint(err, "leave --no-cache out");
        return SX_UNSUPPORTED;
    }
    enum sx_rc rc = open_file(m, &onnx, &why);
    if (!rc)
        rc = sx_dag_build(onnx, &dag, &why);
    if (!rc)
        rc = check_outputs(onnx, dag, &why);
    if (!rc)
        rc = describe_all(m, onnx, dag, &why);
    if (!rc) {
        model->onnx = onnx;
        model->dag = dag;
        return SX_OK;
    }
    sx_dag_destroy(dag);
    sx_onnx_close(onnx);
    if (!m->source.weights)
        sx_ort_weights_close(&m->weights);
    if (rc != SX_NO_MEMORY)
        rc = SX_UNSUPPORTED;
    return sx_fail(err, rc, "the model cannot be cut: %s", why.message);
}
