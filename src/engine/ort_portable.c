/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_portable.c - a model opened before ONNX Runtime makes it this machine's own.
 *
 * The fully optimised graph has operators and layouts that fit this machine and this version alone.
 * Its basic level has only operators of the standard, so stages of it run wherever ONNX Runtime
 * does.  But whoever runs such a stage optimises it then, and a cut inside of what would have been
 * fused costs time and changes rounding.  So the extended level is made for comparison: a
 * tensor that is not in it any more lies inside of something fused, and what makes it and what
 * reads it stay together.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/ort_int.h"

/* Join what is fused at the extended level. */
static enum sx_rc join_fused(struct ort_model *m, const struct sx_dag *fused, struct sx_err *err)
{
    struct sx_dag *dag = m->base.dag;

    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        if (tensor->producer == SX_DAG_NONE || sx_dag_find(fused, tensor->name) != SX_DAG_NONE)
            continue;
        for (uint32_t u = 0; u < tensor->n_uses; u++)
            sx_dag_join(dag, tensor->producer, dag->uses[tensor->first_use + u]);
    }
    return sx_dag_close_groups(dag) ? sx_fail(err, SX_NO_MEMORY, "no memory for the graph") : SX_OK;
}

/* The extended level, in a directory that goes away again. */
static enum sx_rc keep_fused_together(struct ort_model *m, bool inside, struct sx_err *err)
{
    static atomic_uint serial;
    char *dir = NULL, *path = NULL;
    struct sx_onnx *onnx = NULL;
    struct sx_dag *fused = NULL;
    enum sx_rc rc;

    if (asprintf(&dir, "%s/fused-%d.%u.new", sx_onnx_dir(m->base.onnx), (int)getpid(),
                 atomic_fetch_add(&serial, 1)) < 0)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    if (asprintf(&path, "%s/%s", dir, SX_ORT_MODEL_NAME) < 0) {
        free(dir);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    }
    rc = sx_dir_create(dir, err);
    if (!rc)
        rc = sx_ort_optimise(m->lib, m->source.path, dir, ORT_ENABLE_EXTENDED, inside, err);
    if (!rc)
        rc = sx_onnx_open(path, &onnx, err);
    if (!rc)
        rc = sx_dag_build(onnx, &fused, err);
    if (!rc)
        rc = join_fused(m, fused, err);
    sx_dag_destroy(fused);
    sx_onnx_close(onnx);
    sx_dir_remove(dir, NULL);
    free(path);
    free(dir);
    return rc;
}

enum sx_rc sx_engine_open_portable(struct sx_engine *engine, const char *path,
                                   struct sx_engine_model **ret_model, struct sx_err *err)
{
    const struct ort_engine *e = (const struct ort_engine *)engine;
    struct sx_onnx *source = NULL, *basic = NULL;
    struct ort_model *m = NULL;
    bool inside = false;
    enum sx_rc rc;

    if (engine->ops != &sx_engine_ort || !e->cache_dir)
        return sx_fail(err, SX_UNSUPPORTED, "%s: the model cannot be cut without a cache directory",
                       path);
    rc = sx_onnx_open(path, &source, err);
    if (rc)
        return rc;
    do
        rc = sx_ort_prepare(e->lib, source, e->cache_dir, e->machine_id,
                            SX_ORT_BASIC | (inside ? SX_ORT_INSIDE : 0), &basic, err);
    while (rc && rc != SX_NO_MEMORY && rc != SX_IO && (inside = !inside));
    if (rc)
        goto out;
    m = calloc(1, sizeof(*m));
    if (!m) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the model");
        goto out;
    }
    m->base.ops = &sx_engine_ort;
    m->base.engine = engine;
    m->lib = e->lib;
    rc = sx_ort_weights_open(m->lib, basic, &m->weights, err);
    if (!rc)
        rc = sx_ort_model_open_at(m, sx_onnx_path(basic), &m->weights, err);
    if (!rc)
        rc = sx_ort_ports_describe(m, source, err);
    if (!rc)
        rc = sx_ort_graph(&m->base, err);
    if (!rc)
        rc = keep_fused_together(m, inside, err);
    if (!rc) {
        *ret_model = &m->base;
        m = NULL;
    }
out:
    if (rc)
        sx_while(err, "%s: ", path);
    if (m)
        sx_ort_model_close(&m->base);
    sx_onnx_close(basic);
    sx_onnx_close(source);
    return rc;
}
