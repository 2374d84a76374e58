/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_stage_test.c - stages by ONNX Runtime: branches, weights, bodies, shapes that the data
 * decide, files that are damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/ort_int.h"
#include "engine/stage_test.h"

#define N 128

/* --- models -------------------------------------------------------------------------- */

static void matrix(struct mk *mk, const char *name, const char *dims, size_t n)
{
    mk_constant(mk, name, MK_FLOAT, dims, numbers(n), n * sizeof(float));
}

static void make_models(void)
{
    struct mk mk;

    mk_begin(&mk, 8); /* branches, weights of 1.5 MiB, two inputs, an input read late */
    mk_input(&mk, "x", MK_FLOAT, "-1,128");
    mk_input(&mk, "z", MK_FLOAT, "-1,128");
    matrix(&mk, "wide", "128,1024", 8 * N * N);
    matrix(&mk, "narrow", "1024,128", 8 * N * N);
    matrix(&mk, "square", "128,128", N * N);
    matrix(&mk, "bias", "128", N);
    mk_node(&mk, "MatMul", "x,wide", "m1");
    mk_node(&mk, "Relu", "m1", "m2");
    mk_node(&mk, "MatMul", "m2,narrow", "m3");
    mk_node(&mk, "Add", "m3,bias", "m4");
    mk_node(&mk, "MatMul", "z,square", "l1");
    mk_node(&mk, "Tanh", "l1", "l2");
    mk_node(&mk, "Add", "m4,l2", "j1");
    Onnx__NodeProto *n = mk_node(&mk, "Softmax", "j1", "j2");
    (void)n;
    mk_node(&mk, "MatMul", "j2,square", "j3");
    mk_node(&mk, "Add", "j3,x", "y");
    mk_node(&mk, "Sigmoid", "l2", "side");
    mk_output(&mk, "side", MK_FLOAT, "-1,128");
    mk_output(&mk, "y", MK_FLOAT, "-1,128");
    put_onnx(&mk, "branches");

    mk_begin(&mk, 8); /* convolutions: in blocks of channels after optimising */
    mk_input(&mk, "x", MK_FLOAT, "-1,3,24,24");
    matrix(&mk, "w1", "64,3,3,3", 64 * 3 * 9);
    matrix(&mk, "w2", "64,64,3,3", 64 * 64 * 9);
    matrix(&mk, "w3", "32,64,1,1", 32 * 64);
    mk_node(&mk, "Conv", "x,w1", "c1");
    mk_node(&mk, "Relu", "c1", "c2");
    mk_node(&mk, "Conv", "c2,w2", "c3");
    mk_node(&mk, "Relu", "c3", "c4");
    n = mk_node(&mk, "MaxPool", "c4", "c5");
    Onnx__AttributeProto *a = mk_attribute(&mk, n, "kernel_shape", 7);
    MK_PUSH(&mk, a->ints, a->n_ints, 2);
    MK_PUSH(&mk, a->ints, a->n_ints, 2);
    mk_node(&mk, "Conv", "c5,w3", "c6");
    mk_node(&mk, "GlobalAveragePool", "c6", "c7");
    mk_node(&mk, "Flatten", "c7", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,32");
    put_onnx(&mk, "conv");

    mk_begin(&mk, 8); /* the data decide how many rows lie between Sin and Cos */
    mk_input(&mk, "x", MK_FLOAT, "-1,8");
    mk_node(&mk, "Sin", "x", "a");
    mk_node(&mk, "Floor", "a", "b");
    mk_node(&mk, "NonZero", "b", "c");
    mk_node(&mk, "Cast", "c", "d")->name = mk_text(&mk, "cast");
    a = mk_attribute(&mk, mk.graph->node[3], "to", 2);
    a->has_i = 1;
    a->i = MK_FLOAT;
    mk_node(&mk, "ReduceSum", "d", "e");
    mk_node(&mk, "Cos", "e", "y");
    mk_output(&mk, "y", MK_FLOAT, NULL);
    put_onnx(&mk, "data");

    mk_begin(&mk, 8); /* a second free dimension, a scalar, an integer input */
    mk_input(&mk, "x", MK_FLOAT, "-1,-1,8");
    mk.graph->input[0]->type->tensor_type->shape->dim[1]->dim_param = mk_text(&mk, "length");
    mk_input(&mk, "i", MK_INT64, "-1");
    mk_node(&mk, "Sin", "x", "a");
    mk_node(&mk, "ReduceMax", "a", "top");
    a = mk_attribute(&mk, mk.graph->node[1], "keepdims", 2);
    a->has_i = 1;
    mk_node(&mk, "Div", "a,top", "b");
    mk_node(&mk, "Gather", "b,i", "c");
    mk_node(&mk, "Cos", "c", "y");
    mk_output(&mk, "y", MK_FLOAT, NULL);
    put_onnx(&mk, "free");

    mk_begin(&mk, 8); /* the batch can only be 1 */
    static const int64_t eight[] = {1, 8};
    mk_input(&mk, "x", MK_FLOAT, "-1,8");
    mk_constant(&mk, "eight", 7, "2", eight, sizeof(eight));
    mk_node(&mk, "Sin", "x", "a");
    mk_node(&mk, "Reshape", "a,eight", "b");
    mk_node(&mk, "Cos", "b", "y");
    mk_output(&mk, "y", MK_FLOAT, "1,8");
    put_onnx(&mk, "single");

    mk_begin(&mk, 8); /* no batch; an output is an input; nobody may divide by 0 */
    static const int64_t hundred = 100;
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_input(&mk, "k", MK_INT64, "1");
    mk_constant(&mk, "hundred", MK_INT64, "", &hundred, sizeof(hundred));
    mk_node(&mk, "Sin", "x", "a");
    mk_node(&mk, "Div", "hundred,k", "b");
    n = mk_node(&mk, "Cast", "b", "c");
    a = mk_attribute(&mk, n, "to", 2);
    a->has_i = 1;
    a->i = MK_FLOAT;
    mk_node(&mk, "Mul", "a,c", "y");
    mk_output(&mk, "y", MK_FLOAT, "4");
    mk_output(&mk, "x", MK_FLOAT, "4");
    put_onnx(&mk, "fixed");

    mk_begin(&mk, 8); /* strings on the way */
    mk_input(&mk, "x", MK_FLOAT, "-1");
    mk_node(&mk, "Sin", "x", "a");
    for (int i = 0; i < 2; i++) {
        n = mk_node(&mk, "Cast", i ? "b" : "a", i ? "c" : "b");
        a = mk_attribute(&mk, n, "to", 2);
        a->has_i = 1;
        a->i = i ? MK_FLOAT : MK_STRING;
    }
    mk_node(&mk, "Cos", "c", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1");
    put_onnx(&mk, "text");

    mk_begin(&mk, 8); /* an output that no input decides */
    mk_input(&mk, "x", MK_FLOAT, "4");
    matrix(&mk, "w", "4", 4);
    mk_node(&mk, "Sin", "x", "y");
    mk_node(&mk, "Identity", "w", "v");
    mk_output(&mk, "y", MK_FLOAT, "4");
    mk_output(&mk, "v", MK_FLOAT, "4");
    put_onnx(&mk, "constant");
}

/* A loop of 30 matrix products between a Sin and a Cos; no operator has a name, so that those in
 * the body are called like those outside. */
static void make_loop(const char *name)
{
    static const int64_t trips = 30;
    static const bool yes = true;
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,128");
    matrix(&mk, "square", "128,128", N * N);
    mk_constant(&mk, "trips", 7, "", &trips, sizeof(trips));
    mk_constant(&mk, "yes", 9, "", &yes, sizeof(yes));
    mk_node(&mk, "Sin", "x", "a");
    Onnx__NodeProto *loop = mk_node(&mk, "Loop", "trips,yes,a", "b");
    mk_node(&mk, "Cos", "b", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,128");
    Onnx__GraphProto *body = mk_graph(&mk, "body");
    MK_PUSH(&mk, body->input, body->n_input, mk_value(&mk, "step", 7, ""));
    MK_PUSH(&mk, body->input, body->n_input, mk_value(&mk, "on", 9, ""));
    MK_PUSH(&mk, body->input, body->n_input, mk_value(&mk, "v", MK_FLOAT, "-1,128"));
    mk_node_in(&mk, body, "Sin", "v", "u");
    mk_node_in(&mk, body, "MatMul", "u,square", "w");
    mk_node_in(&mk, body, "Cos", "w", "vout");
    mk_node_in(&mk, body, "Identity", "on", "onout");
    MK_PUSH(&mk, body->output, body->n_output, mk_value(&mk, "onout", 9, ""));
    MK_PUSH(&mk, body->output, body->n_output, mk_value(&mk, "vout", MK_FLOAT, "-1,128"));
    Onnx__AttributeProto *a = mk_attribute(&mk, loop, "body", 5);
    a->g = body;
    put_onnx(&mk, name);
}

/* --- tests --------------------------------------------------------------------------- */

static void test_ort_models(void **state)
{
    (void)state;
    static const char *const names[] = {"branches", "conv"};
    for (int i = 0; i < 2; i++) {
        struct sx_engine_model *m = open_at(engine, path_of(names[i]));
        const struct sx_dag *dag = graph_of(m);
        const struct sx_onnx *onnx = sx_engine_graph_onnx(m);
        assert_non_null(onnx);
        for (uint32_t t = 0; t < dag->n_tensors; t++)
            assert_true(dag->tensors[t].typed && dag->tensors[t].sized);
        assert_true(check_prefixes(m, 1, 1) > 3);
        check_prefixes(m, 3, 1);
        check_prefixes(m, 2, 2);
        assert_true(files_in(sx_onnx_dir(onnx), "stage-") > 3);
        assert_int_equal(files_in(sx_onnx_dir(onnx), "probe"), 0);
        sx_engine_model_settle(m);
        sx_engine_close_model(m);
    }
}

/* Stages need not lie one after another: here `side` hangs on a branch. */
static void test_ort_branch(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("branches"));
    const struct sx_dag *dag = graph_of(m);
    uint32_t *stage = calloc(dag->n_nodes, sizeof(*stage));
    assert_non_null(stage);
    for (uint32_t v = 0; v < dag->n_nodes; v++) { /* what reads z or hangs on it, but not on x */
        const struct sx_dag_node *node = &dag->nodes[v];
        stage[v] = 0;
        for (uint32_t k = 0; k < node->n_in; k++) {
            const struct sx_dag_tensor *t = &dag->tensors[dag->ins[node->first_in + k]];
            if (t->producer == SX_DAG_NONE)
                stage[v] |= !strcmp(t->name, "x");
            else
                stage[v] |= stage[t->producer];
        }
    }
    assert_int_equal(stage[0], 1); /* so the first operator of the file is in the second stage */
    check_cut(m, stage, 2, 3, 1);
    free(stage);
    sx_engine_close_model(m);
}

/* Random cuts into up to four stages. */
static void test_ort_random_cuts(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("branches"));
    const struct sx_dag *dag = graph_of(m);
    uint32_t *stage = calloc(dag->n_nodes, sizeof(*stage));
    struct sx_rng rng;
    assert_non_null(stage);
    sx_rng_init(&rng, 3);
    for (int round = 0; round < 20; round++) {
        for (uint32_t v = 0; v < dag->n_nodes; v++) { /* no lower than what it reads */
            const struct sx_dag_node *node = &dag->nodes[v];
            stage[v] = 0;
            for (uint32_t k = 0; k < node->n_in; k++) {
                uint32_t p = dag->tensors[dag->ins[node->first_in + k]].producer;
                if (p != SX_DAG_NONE && stage[p] > stage[v])
                    stage[v] = stage[p];
            }
            if (stage[v] < 3 && sx_rng_below(&rng, 3) == 0)
                stage[v]++;
        }
        check_cut(m, stage, 4, 1 + round % 3, 1);
    }
    free(stage);
    sx_engine_close_model(m);
}

static struct ort_session *spare_of(const struct sx_engine_model *m)
{
    return ((const struct ort_model *)m)->spare;
}

/* The session that opening made is not kept where all others are wider. */
static void test_ort_settles(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("branches")), *stage = NULL;
    const struct sx_dag *dag = graph_of(m);
    uint32_t nodes[64];
    assert_in_range(dag->n_nodes, 1, 64);
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        nodes[v] = v;
    assert_int_equal(sx_engine_open_stage(m, nodes, dag->n_nodes, &stage, NULL), SX_OK);
    struct sx_engine_model *models[] = {stage, m};
    for (int i = 0; i < 2; i++) {
        struct sx_session *wide = session_of(models[i], 2), *one;
        assert_non_null(spare_of(models[i]));
        sx_engine_model_settle(models[i]);
        assert_null(spare_of(models[i]));
        one = session_of(models[i], 1); /* it can still be made */
        sx_session_destroy(one);
        sx_session_destroy(wide);
        sx_engine_close_model(models[i]);
    }
}

static void test_ort_data_decide(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("data"));
    const struct sx_dag *dag = graph_of(m);
    const struct sx_dag_tensor *c = tensor(dag, "c"), *d = tensor(dag, "d"), *e = tensor(dag, "e");
    assert_true(c->typed && !c->sized && c->rank == 2 && c->dims[0] == 2 && c->dims[1] == -2);
    assert_true(!d->sized);
    assert_true(e->sized);
    assert_int_equal(dag->group[c->producer], dag->group[d->producer]);
    assert_int_equal(dag->group[e->producer], dag->group[d->producer]);
    assert_int_not_equal(dag->group[0], dag->group[c->producer]);
    stage_refused(m, &c->producer, 1, SX_INVALID, "");
    assert_true(check_prefixes(m, 3, 1) >= 3);
    sx_engine_close_model(m);
}

static void test_ort_strings(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("text"));
    const struct sx_dag *dag = graph_of(m);
    const struct sx_dag_tensor *b = tensor(dag, "b");
    assert_int_equal(b->onnx_type, MK_STRING);
    assert_false(b->sized);
    assert_int_equal(dag->group[b->producer], dag->group[dag->uses[b->first_use]]);
    assert_int_equal(check_prefixes(m, 3, 1), dag->n_nodes - 1);
    sx_engine_close_model(m);
}

static void test_ort_free_dims(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("free"));
    const struct sx_dag *dag = graph_of(m);
    const struct sx_dag_tensor *a = tensor(dag, "a"), *top = tensor(dag, "top");
    assert_true(a->sized && a->rank == 3 && a->dims[0] == -1 && a->dims[1] == -2 &&
                a->dims[2] == 8);
    assert_true(a->fixed_bytes == 0 && a->sample_bytes == 64 * 8 * 4);
    assert_true(top->sized && top->rank == 0 && top->fixed_bytes == 4 && top->sample_bytes == 0);
    for (int64_t batch = 1; batch < 4; batch++)
        assert_true(check_prefixes(m, batch, 1) >= 4);
    sx_engine_close_model(m);

    m = open_at(engine, path_of("single"));
    dag = graph_of(m);
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        assert_true(dag->tensors[t].sized && sx_dag_bytes(dag, t, 1) == 32);
    check_prefixes(m, 1, 1);
    sx_engine_close_model(m);
}

static void test_ort_uncut(void **state)
{
    (void)state;
    double ns[2], spread[2], whole[2];
    struct sx_engine_model *m = open_at(engine, path_of("constant"));
    graph_refused(m, "output 'v' depends on none of its inputs");
    assert_int_equal(sx_engine_profile(m, 1, 1, NULL, 1, NULL, NULL, ns, spread, whole, NULL),
                     SX_UNSUPPORTED);
    sx_engine_close_model(m);

    struct sx_engine *bare = engine_with("ort", NULL, false);
    m = open_at(bare, path_of("row"));
    graph_refused(m, "cache directory");
    sx_engine_close_model(m);
    sx_engine_destroy(bare);
    bare = engine_with("ort", "/dev/null/cache", false);
    m = open_at(bare, path_of("row"));
    graph_refused(m, "/dev/null/cache");
    sx_engine_close_model(m);
    sx_engine_destroy(bare);
}

/* Stage files are used again, and made again when they are damaged. */
static void test_ort_stage_files(void **state)
{
    (void)state;
    static const uint32_t stage[] = {0, 0, 0, 1, 1, 1};
    char path[256], **names;
    size_t n;
    for (int round = 0; round < 2; round++) {
        struct sx_engine_model *m = open_at(engine, path_of("row"));
        graph_of(m);
        const char *at = sx_onnx_dir(sx_engine_graph_onnx(m));
        check_cut(m, stage, 2, 1, 1);
        size_t before = files_in(at, "");
        assert_int_equal(sx_dir_names(at, &names, &n, NULL), SX_OK);
        for (size_t i = 0; i < n; i++) {
            snprintf(path, sizeof(path), "%s/%s", at, names[i]);
            if (!strncmp(names[i], "stage-", 6))
                assert_int_equal(truncate(path, round ? 0 : 40), 0);
        }
        sx_names_free(names, n);
        check_cut(m, stage, 2, 2, 1);
        assert_int_equal(files_in(at, ""), before);
        sx_engine_close_model(m);
    }
}

/* What cannot be opened is refused with a reason, leaves nothing behind, and may be tried again. */
static void test_ort_stage_fails(void **state)
{
    (void)state;
    const uint32_t first[] = {0, 1};
    char weights[256], away[256];
    struct sx_engine_model *m = open_at(engine, path_of("conv"));
    graph_of(m);
    const char *at = sx_onnx_dir(sx_engine_graph_onnx(m));
    snprintf(weights, sizeof(weights), "%s/weights.bin", at);
    snprintf(away, sizeof(away), "%s/away.bin", at);
    size_t before = files_in(at, "stage-");
    assert_int_equal(rename(weights, away), 0);
    stage_refused(m, first, 2, SX_NOT_FOUND, "a stage of 2 operators: ");
    assert_int_equal(files_in(at, "probe"), 0);
    assert_true(files_in(at, "stage-") <= before + 1); /* the file alone, whole */
    assert_int_equal(rename(away, weights), 0);
    sx_engine_close_model(stage_of(m, first, 2));
    sx_engine_close_model(m);
}

static void test_ort_profile(void **state)
{
    (void)state;
    double ns[32], spread[32], whole[2], wide = 0, sum = 0;
    struct sx_err err = {0};
    struct sx_engine_model *m = open_at(engine, path_of("branches"));
    const struct sx_dag *dag = graph_of(m);
    assert_true(dag->n_nodes <= 32);
    if (sx_engine_profile(m, 256, 1, NULL, 15, NULL, NULL, ns, spread, whole, &err))
        fail_msg("%s", err.message);
    for (uint32_t v = 0; v < dag->n_nodes; v++) {
        assert_true(ns[v] > 0);
        sum += ns[v];
        if (dag->nodes[v].weight_bytes > 8 * N * N)
            wide += ns[v];
    }
    assert_true(wide > 0.6 * sum); /* the matrix products do nearly all of the work */
    sx_engine_close_model(m);

    make_loop("loop"); /* what happens in a body is the operator's own time */
    m = open_at(engine, path_of("loop"));
    dag = graph_of(m);
    assert_int_equal(dag->n_nodes, 3);
    assert_string_equal(dag->nodes[1].type, "Loop");
    if (sx_engine_profile(m, 16, 1, NULL, 15, NULL, NULL, ns, spread, whole, &err))
        fail_msg("%s", err.message);
    assert_true(ns[1] > 0.8 * whole[0]);
    check_prefixes(m, 2, 1);
    sx_engine_close_model(m);

    m = open_at(engine, path_of("fixed"));
    assert_int_equal(check_prefixes(m, 1, 1), graph_of(m)->n_nodes);
    assert_int_equal(sx_engine_profile(m, 1, 1, NULL, 3, NULL, NULL, ns, spread, whole, &err),
                     SX_OK);
    assert_int_equal(sx_engine_profile(m, 2, 1, NULL, 3, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_non_null(strstr(err.message, "is not free"));
    sx_engine_close_model(m);
}

static int setup(void **state)
{
    (void)state;
    if (make_cache())
        return 1;
    make_row();
    make_models();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CORT(test_ort_models),      CORT(test_ort_branch),      CORT(test_ort_random_cuts),
        CORT(test_ort_data_decide), CORT(test_ort_strings),     CORT(test_ort_free_dims),
        CORT(test_ort_uncut),       CORT(test_ort_stage_files), CORT(test_ort_stage_fails),
        CORT(test_ort_profile),     CORT(test_ort_settles),
    };
    return cmocka_run_group_tests(tests, setup, drop_dir);
}
