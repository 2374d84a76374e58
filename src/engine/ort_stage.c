/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_stage.c - some operators of a model as a model of its own.
 *
 * A stage is a file beside the prepared model, stage-HASH.onnx, that refers to the same file of
 * weights; HASH names its operators.  Its sessions take the weights from the whole model's
 * mapping and the prepacked copies from the whole model's container, so that a model and any number
 * of cuts of it need the memory of one.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/ort_int.h"
#include "graph/stage.h"

#define STAGE_FORMAT 1 /* changes with what is written for the same operators */

static enum sx_rc stage_path(const struct ort_model *m, const uint32_t *nodes, size_t n,
                             char **ret_path, struct sx_err *err)
{
    uint32_t *key = malloc((n + 1) * sizeof(*key));
    char hash[33];
    if (!key)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    key[0] = STAGE_FORMAT;
    memcpy(key + 1, nodes, n * sizeof(*key));
    sx_ort_hash(key, (n + 1) * sizeof(*key), hash);
    free(key);
    if (asprintf(ret_path, "%s/stage-%s.onnx", sx_onnx_dir(m->base.onnx), hash) < 0)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    return SX_OK;
}

/* Nobody sees half of it, and two processes may write the same one. */
static enum sx_rc write_stage(const struct ort_model *m, const uint32_t *nodes, size_t n,
                              const char *path, struct sx_err *err)
{
    static atomic_uint serial;
    char *aside = NULL;

    if (asprintf(&aside, "%s.%d.%u.new", path, (int)getpid(), atomic_fetch_add(&serial, 1)) < 0)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a path");
    enum sx_rc rc = sx_stage_write(m->base.onnx, m->base.dag, nodes, n, aside, SX_STAGE_REFER, err);
    if (!rc && rename(aside, path)) {
        rc = sx_file_fail(err, "create", path);
        unlink(aside);
    }
    free(aside);
    return rc;
}

static enum sx_rc open_at(struct ort_model *m, const char *path, struct ort_model **ret_stage,
                          struct sx_err *err)
{
    struct sx_onnx *onnx = NULL;
    struct ort_model *s = calloc(1, sizeof(*s));
    if (!s)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    s->base.ops = m->base.ops;
    s->base.engine = m->base.engine;
    s->base.is_stage = true;
    s->lib = m->lib;
    enum sx_rc rc = sx_onnx_open(path, &onnx, err);
    if (!rc)
        rc = sx_ort_model_open_at(s, path, &m->weights, err);
    if (!rc)
        rc = sx_ort_ports_describe(s, onnx, err);
    sx_onnx_close(onnx);
    if (rc)
        sx_ort_model_close(&s->base);
    else
        *ret_stage = s;
    return rc;
}

enum sx_rc sx_ort_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                             struct sx_engine_model **ret_stage, struct sx_err *err)
{
    struct ort_model *m = (struct ort_model *)model, *stage = NULL;
    char *path = NULL;

    enum sx_rc rc = stage_path(m, nodes, n, &path, err);
    if (rc)
        return rc;
    /* One that is there may be damaged: then it is written again. */
    if (!sx_path_is_file(path) || open_at(m, path, &stage, NULL)) {
        rc = write_stage(m, nodes, n, path, err);
        if (!rc)
            rc = open_at(m, path, &stage, err);
    }
    if (rc)
        sx_while(err, "a stage of %zu operators: ", n);
    else
        *ret_stage = &stage->base;
    free(path);
    return rc;
}
