/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - reading, cutting and writing a model while memory is short.
 */
#include "base/memory_test.h"

#include <stdio.h>
#include <string.h>

#include "base/dir_test.h"
#include "graph/dag.h"
#include "graph/model_test.h"
#include "graph/stage.h"
#include "graph/tensorproto.h"

static char file[96], out[96];

static int setup(void **state)
{
    static struct mk mk;
    (void)state;
    if (make_dir(file, sizeof file, "m.onnx"))
        return -1;
    snprintf(out, sizeof out, "%s/stage.onnx", dir);
    static const float one[] = {1, 2, 3, 4};
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk_constant(&mk, "w", MK_FLOAT, "4", one, sizeof one);
    mk_node(&mk, "Relu", "x", "a");
    mk_node(&mk, "Add", "a,w", "b");
    Onnx__NodeProto *branch = mk_node(&mk, "If", "c", "d");
    mk_input(&mk, "c", 9, "1");
    static const char *const side[] = {"then_branch", "else_branch"};
    for (int i = 0; i < 2; i++) {
        Onnx__GraphProto *body = mk_body(&mk, branch, side[i]);
        mk_node_in(&mk, body, i ? "Neg" : "Abs", "b", "r");
        mk_body_output(&mk, body, "r", MK_FLOAT);
    }
    mk_node(&mk, "Mul", "d,a", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    mk_write(&mk, file);
    mk_end(&mk);
    return 0;
}

static enum sx_rc open_model(void)
{
    struct sx_err err = {0};
    struct sx_onnx *model = NULL;
    enum sx_rc rc = sx_onnx_open(file, &model, &err);
    if (!rc)
        sx_onnx_close(model);
    return rc;
}

static enum sx_rc cut_model(void)
{
    static const uint32_t first[] = {0, 1};
    struct sx_err err = {0};
    struct sx_onnx *model = NULL;
    struct sx_dag *dag = NULL;
    char *text = NULL;
    enum sx_rc rc = sx_onnx_open(file, &model, &err);
    if (rc)
        return rc;
    rc = sx_dag_build(model, &dag, &err);
    if (!rc) {
        for (uint32_t t = 0; t < dag->n_tensors; t++) { /* as the engine would */
            struct sx_dag_tensor *it = &dag->tensors[t];
            it->typed = true;
            it->onnx_type = MK_FLOAT;
            it->rank = 2;
            it->dims[0] = -1;
            it->dims[1] = 4;
        }
        sx_dag_join(dag, 2, 3);
        rc = sx_dag_close_groups(dag);
    }
    if (!rc)
        rc = sx_dag_dot(dag, NULL, NULL, &text, &err);
    free(text);
    if (!rc)
        rc = sx_stage_write(model, dag, first, 2, out, SX_STAGE_COPY, &err);
    sx_dag_destroy(dag);
    sx_onnx_close(model);
    return rc;
}

static enum sx_rc read_tensor(void)
{
    static const char bytes[] = {8, 2,          16, 1, 74, 8, 0,
                                 0, (char)0x80, 63, 0, 0,  0, 64}; /* [1, 2] */
    struct sx_err err = {0};
    struct sx_pool *pool = NULL;
    struct sx_tensor t = {0};
    enum sx_rc rc = sx_pool_create(&pool);
    if (!rc)
        rc = sx_tensorproto_parse(bytes, sizeof bytes, "t.pb", pool, &t, &err);
    sx_tensor_unref(&t);
    sx_pool_destroy(pool);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(open_model), SWEEP(cut_model), SWEEP(read_tensor)};
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
