/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_contract_test.c - what engine.h promises of models in stages, for every engine.
 *
 * The heart is check_cut: the stages of a cut, one after another, give the outputs of the whole
 * model bit by bit.  `row` is a chain for both engines; what only ONNX Runtime can do (branches,
 * weights, bodies, shapes that the data decide) is tested further down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/rng.h"
#include "engine/engine_test.h"
#include "graph/stage.h"

static char cache[64];

/* --- models -------------------------------------------------------------------------- */

#define N 128

/* Small random numbers that repeat from call to call. */
static const float *numbers(size_t n)
{
    static float v[16 * N * N];
    static struct sx_rng rng;
    static bool there;
    if (!there)
        sx_rng_init(&rng, 7);
    there = true;
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(sx_rng_double(&rng) - 0.5) / 4;
    return v;
}

static void matrix(struct mk *mk, const char *name, const char *dims, size_t n)
{
    mk_constant(mk, name, MK_FLOAT, dims, numbers(n), n * sizeof(float));
}

static void make_models(void)
{
    struct mk mk;

    put_fake("row", "input x FP32 -1 8\noutput y FP32 -1 8\noutput s FP64 -1 2 sum\n"
                    "chain 6\ntime base_us=600 per_sample_us=60\n");
    mk_begin(&mk, 8); /* six operators that ONNX Runtime does not fuse */
    mk_input(&mk, "x", MK_FLOAT, "-1,8");
    mk_node(&mk, "Sin", "x", "a");
    mk_node(&mk, "Exp", "a", "b");
    mk_node(&mk, "Softmax", "b", "c");
    mk_node(&mk, "Neg", "c", "d");
    mk_node(&mk, "Cos", "d", "y");
    mk_node(&mk, "Sqrt", "y", "s");
    mk_output(&mk, "y", MK_FLOAT, "-1,8");
    mk_output(&mk, "s", MK_FLOAT, "-1,8");
    put_onnx(&mk, "row");

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

/* --- helpers ------------------------------------------------------------------------- */

/* Stages need a cache directory. */
static int setup_cached(const char *name)
{
    which = name;
    engine = engine_with(name, cache, !strcmp(name, "fake"));
    return 0;
}

static int setup_cached_ort(void **state)
{
    (void)state;
    return setup_cached("ort");
}

static int setup_virtual_fake(void **state)
{
    (void)state;
    return setup_cached("fake");
}

static const struct sx_dag *graph_of(struct sx_engine_model *m)
{
    const struct sx_dag *dag = NULL;
    struct sx_err err = {0};
    if (sx_engine_graph(m, &dag, &err))
        fail_msg("%s", err.message);
    assert_non_null(dag);
    return dag;
}

static struct sx_engine_model *stage_of(struct sx_engine_model *m, const uint32_t *nodes, size_t n)
{
    struct sx_engine_model *s = NULL;
    struct sx_err err = {0};
    if (sx_engine_open_stage(m, nodes, n, &s, &err))
        fail_msg("%s", err.message);
    assert_non_null(s);
    return s;
}

static void stage_refused(struct sx_engine_model *m, const uint32_t *nodes, size_t n, enum sx_rc rc,
                          const char *words)
{
    struct sx_engine_model *s = NULL;
    struct sx_err err = {0};
    enum sx_rc got = sx_engine_open_stage(m, nodes, n, &s, &err);
    if (got != rc || !strstr(err.message, words))
        fail_msg("expected %d '%s', got %d '%s'", rc, words, got, err.message);
    assert_null(s);
}

static void graph_refused(struct sx_engine_model *m, const char *words)
{
    const struct sx_dag *dag = NULL;
    struct sx_err err = {0};
    enum sx_rc got = sx_engine_graph(m, &dag, &err);
    if (got != SX_UNSUPPORTED || !strstr(err.message, words))
        fail_msg("expected '%s', got %d '%s'", words, got, err.message);
    assert_null(dag);
    assert_null(sx_engine_graph_onnx(m));
}

/* Inputs for a model, `batch` in free dimensions. */
static void make_inputs(struct sx_engine_model *m, int64_t batch, struct sx_tensor *in)
{
    const struct sx_port *p;
    size_t n = sx_engine_inputs(m, &p);
    for (size_t i = 0; i < n; i++) {
        int64_t dims[SX_MAX_RANK];
        for (int d = 0; d < p[i].rank; d++)
            dims[d] = p[i].dims[d] < 0 ? batch : p[i].dims[d];
        in[i] = (struct sx_tensor){0};
        assert_int_equal(sx_tensor_alloc(&in[i], pool, p[i].dtype, dims, p[i].rank), SX_OK);
        memset(in[i].data, 0, in[i].nbytes);
        if (p[i].dtype == SX_FP32)
            memcpy(in[i].data, numbers(in[i].nbytes / 4), in[i].nbytes);
        for (size_t e = 0; p[i].dtype == SX_INT64 && e < in[i].nbytes / 8; e++)
            ((int64_t *)in[i].data)[e] = p[i].dims[0] > 0; /* a divisor; an index */
    }
}

static void drop(struct sx_tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sx_tensor_unref(&t[i]);
}

#define MAX_PORTS 16

/* One stage on tensors of the graph, by index; what it makes is put there.  Ports must be as
 * sx_stage_ports says. */
static uint64_t run_stage(const struct sx_dag *dag, struct sx_engine_model *stage,
                          const uint32_t *nodes, size_t n, unsigned width, struct sx_tensor *flow)
{
    uint32_t *in, *out;
    size_t n_in, n_out;
    const struct sx_port *p;
    struct sx_tensor ins[MAX_PORTS] = {{0}}, outs[MAX_PORTS] = {{0}};
    struct sx_err err = {0};
    uint64_t ns = 0;

    assert_int_equal(sx_stage_ports(dag, nodes, n, &in, &n_in, &out, &n_out), SX_OK);
    assert_int_equal(sx_engine_inputs(stage, &p), n_in);
    for (size_t i = 0; i < n_in; i++) {
        assert_string_equal(p[i].name, dag->tensors[in[i]].name);
        assert_int_equal(sx_dtype_to_onnx(p[i].dtype), dag->tensors[in[i]].onnx_type);
        ins[i] = flow[in[i]];
        assert_int_not_equal(ins[i].dtype, SX_DTYPE_NONE);
    }
    assert_int_equal(sx_engine_outputs(stage, &p), n_out);
    struct sx_session *s = session_of(stage, width);
    if (sx_session_run(s, ins, outs, &ns, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n_out; i++) {
        const struct sx_dag_tensor *t = &dag->tensors[out[i]];
        assert_string_equal(p[i].name, t->name);
        assert_true(!t->output || !flow[out[i]].data);
        sx_tensor_move(&flow[out[i]], &outs[i]);
        for (int d = 0; d < t->rank; d++)
            assert_true(t->dims[d] < 0 || t->dims[d] == flow[out[i]].dims[d]);
    }
    sx_session_destroy(s);
    free(in);
    return ns;
}

/* Cut by stage numbers (ascending along edges), run, and compare with the whole model.  Returns
 * the sum of the stages' times in virtual time. */
static uint64_t check_cut(struct sx_engine_model *m, const uint32_t *stage, uint32_t n_stages,
                          int64_t batch, unsigned width)
{
    const struct sx_dag *dag = graph_of(m);
    const struct sx_port *p;
    size_t n_in = sx_engine_inputs(m, &p), n_out = sx_engine_outputs(m, &p);
    struct sx_tensor in[MAX_PORTS] = {{0}}, want[MAX_PORTS] = {{0}};
    struct sx_tensor *flow = calloc(dag->n_tensors, sizeof(*flow));
    uint32_t *nodes = calloc(dag->n_nodes, sizeof(*nodes));
    uint64_t ns = 0;

    assert_non_null(flow);
    assert_non_null(nodes);
    struct sx_session *whole = session_of(m, width);
    make_inputs(m, batch, in);
    run_ok(whole, in, want);
    sx_session_destroy(whole);

    sx_engine_inputs(m, &p);
    for (size_t i = 0; i < n_in; i++) {
        uint32_t t = sx_dag_find(dag, p[i].name);
        if (t != SX_DAG_NONE)
            sx_tensor_ref(&flow[t], &in[i]);
    }
    for (uint32_t k = 0; k < n_stages; k++) {
        size_t n = 0;
        for (uint32_t v = 0; v < dag->n_nodes; v++)
            if (stage[v] == k)
                nodes[n++] = v;
        if (!n)
            continue;
        struct sx_engine_model *s = stage_of(m, nodes, n);
        ns += run_stage(dag, s, nodes, n, width, flow);
        sx_engine_model_settle(s);
        sx_engine_close_model(s);
    }
    sx_engine_outputs(m, &p);
    for (size_t i = 0; i < n_out; i++) {
        const struct sx_tensor *got = &flow[sx_dag_find(dag, p[i].name)];
        if (!sx_tensor_equal(got, &want[i]))
            fail_msg("output '%s' differs", p[i].name);
    }
    drop(flow, dag->n_tensors);
    drop(in, n_in);
    drop(want, n_out);
    free(flow);
    free(nodes);
    return ns;
}

/* All cuts into a first part and a rest along the file's order that keep groups whole. */
static unsigned check_prefixes(struct sx_engine_model *m, int64_t batch, unsigned width)
{
    const struct sx_dag *dag = graph_of(m);
    uint32_t *stage = calloc(dag->n_nodes, sizeof(*stage));
    unsigned cuts = 0;
    assert_non_null(stage);
    for (uint32_t end = 1; end <= dag->n_nodes; end++) {
        bool whole = true; /* groups? */
        for (uint32_t v = 0; v < dag->n_nodes; v++) {
            stage[v] = v >= end;
            whole = whole && (v < end || dag->group[v] >= end);
        }
        if (!whole)
            continue;
        check_cut(m, stage, 2, batch, width);
        cuts++;
    }
    free(stage);
    return cuts;
}

static size_t files_in(const char *path, const char *prefix)
{
    char **names;
    size_t n, found = 0;
    assert_int_equal(sx_dir_names(path, &names, &n, NULL), SX_OK);
    for (size_t i = 0; i < n; i++)
        found += !strncmp(names[i], prefix, strlen(prefix));
    sx_names_free(names, n);
    return found;
}

static const struct sx_dag_tensor *tensor(const struct sx_dag *dag, const char *name)
{
    uint32_t t = sx_dag_find(dag, name);
    if (t == SX_DAG_NONE)
        fail_msg("the graph has no tensor '%s'", name);
    return &dag->tensors[t];
}

/* --- the contract -------------------------------------------------------------------- */

static void test_row(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    const struct sx_dag *dag = graph_of(m), *again = graph_of(m);
    assert_ptr_equal(dag, again);
    assert_int_equal(dag->n_nodes, 6);
    assert_int_equal(dag->tensors[0].producer, SX_DAG_NONE);
    assert_string_equal(dag->tensors[0].name, "x");
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(dag->group[i], i);
        assert_int_equal(dag->nodes[i].n_in, 1);
        const struct sx_dag_tensor *t = &dag->tensors[dag->ins[dag->nodes[i].first_in]];
        assert_int_equal(t->producer, i ? i - 1 : SX_DAG_NONE);
        assert_true(t->typed && t->sized);
        assert_int_equal(t->onnx_type, MK_FLOAT);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dims[0], -1);
        assert_int_equal(t->dims[1], 8);
        assert_true(t->fixed_bytes == 0 && t->sample_bytes == 32);
        assert_true(sx_dag_bytes(dag, (uint32_t)(t - dag->tensors), 3) == 96);
    }
    assert_true(tensor(dag, "y")->output);
    assert_true(tensor(dag, "s")->output);
    for (int64_t batch = 1; batch < 4; batch++)
        assert_int_equal(check_prefixes(m, batch, 1), 6);
    check_prefixes(m, 2, 2);
    const uint32_t each[] = {0, 1, 2, 3, 4, 5}, three[] = {0, 0, 1, 2, 2, 2};
    check_cut(m, each, 6, 5, 1);
    check_cut(m, three, 3, 5, 2);
    sx_engine_close_model(m);
}

static void test_bad_stages(void **state)
{
    (void)state;
    const struct sx_dag *dag = NULL;
    const uint32_t hole[] = {0, 2}, twice[] = {1, 1}, beyond[] = {5, 6}, back[] = {2, 1};
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    stage_refused(m, hole, 2, SX_INVALID, "");
    stage_refused(m, twice, 2, SX_INVALID, "");
    stage_refused(m, beyond, 2, SX_INVALID, "");
    stage_refused(m, hole, 0, SX_INVALID, "");
    struct sx_engine_model *s = stage_of(m, back, 2); /* in any order */
    struct sx_err err = {0};
    assert_int_equal(sx_engine_graph(s, &dag, &err), SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cannot be cut again"));
    stage_refused(s, back, 1, SX_UNSUPPORTED, "cannot be cut again");
    sx_engine_close_model(s);
    sx_engine_close_model(m);
}

/* A stage checks what it is given like any model. */
static void test_stage_inputs(void **state)
{
    (void)state;
    const uint32_t nodes[] = {2, 3};
    const int64_t wide[] = {2, 9}, good[] = {2, 8};
    struct sx_engine_model *m = open_at(engine, path_of("row")), *s = stage_of(m, nodes, 2);
    struct sx_session *run = session_of(s, 1);
    struct sx_tensor x = floats(wide, 2, 0), y = {0}, prepared = floats(good, 2, 0);
    struct sx_err err = {0};
    assert_int_equal(sx_session_run(run, &x, &y, NULL, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "has shape [2,9], expected [-1,8]"));
    assert_null(y.data);
    sx_tensor_unref(&x);
    x = floats(good, 2, 0);
    run_ok(run, &x, &y);
    run_ok(run, &x, &prepared);
    assert_true(sx_tensor_equal(&y, &prepared));
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_tensor_unref(&prepared);
    sx_session_destroy(run);
    sx_engine_close_model(s);
    sx_engine_close_model(m);
}

struct ticks {
    unsigned calls, stop_at;
    double last;
    bool back;
};

static bool tick(void *user, double done)
{
    struct ticks *t = user;
    t->back = t->back || done < t->last || done > 1;
    t->last = done;
    return ++t->calls != t->stop_at;
}

static void test_profile(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    double ns[6] = {0}, spread[6] = {0}, whole[2] = {0}, sum = 0;
    struct ticks t = {0};
    struct sx_err err = {0};
    if (sx_engine_profile(m, 2, 1, NULL, 9, tick, &t, ns, spread, whole, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < 6; i++) {
        assert_true(ns[i] > 0 && spread[i] >= 0);
        sum += ns[i];
    }
    assert_true(fabs(sum - whole[0]) < 1e-6 * sum);
    assert_true(whole[1] >= 0);
    assert_true(t.calls >= 9 && !t.back);

    unsigned calls = t.calls;
    t = (struct ticks){.stop_at = calls / 2};
    assert_int_equal(sx_engine_profile(m, 2, 2, NULL, 9, tick, &t, ns, spread, whole, &err),
                     SX_CANCELLED);
    assert_int_equal(t.calls, calls / 2);
    assert_int_equal(sx_engine_profile(m, 0, 1, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 0, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 1, NULL, 0, NULL, NULL, ns, spread, whole, &err),
                     SX_INVALID);
    assert_int_equal(sx_engine_profile(m, 1, 2, NULL, 1, NULL, NULL, ns, spread, whole, &err),
                     SX_OK);
    sx_engine_close_model(m);
}

/* --- the fake only ------------------------------------------------------------------- */

static void test_fake_chain(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("row"));
    const uint32_t thirds[] = {0, 0, 1, 1, 2, 2}, tail[] = {0, 1, 1, 1, 1, 1};
    double ns[6], spread[6], whole[2];
    assert_null(sx_engine_graph_onnx(m));
    assert_int_equal(check_cut(m, thirds, 3, 4, 1), 840000);
    assert_int_equal(check_cut(m, tail, 2, 4, 1), 840000);
    assert_int_equal(sx_engine_profile(m, 4, 1, NULL, 3, NULL, NULL, ns, spread, whole, NULL),
                     SX_OK);
    assert_true(whole[0] == 840000 && whole[1] == 0);
    for (int i = 0; i < 6; i++)
        assert_true(ns[i] == 140000 && spread[i] == 0);
    assert_true(tensor(graph_of(m), "s")->sample_bytes == 16);
    sx_engine_close_model(m);

    put_fake("cheap", "input x UINT8 1000\noutput y FP32 4\nchain 3 bytes=7\n");
    m = open_at(engine, path_of("cheap"));
    const struct sx_dag *dag = graph_of(m);
    assert_true(sx_dag_bytes(dag, 0, 4) == 1000);
    assert_true(sx_dag_bytes(dag, 1, 4) == 28);
    assert_true(sx_dag_bytes(dag, 3, 4) == 16);
    const uint32_t parts[] = {0, 1, 2};
    check_cut(m, parts, 3, 1, 1);
    sx_engine_close_model(m);

    put_fake("plain", "input x FP32 -1\noutput y FP32 -1\n");
    m = open_at(engine, path_of("plain"));
    graph_refused(m, "it has no line 'chain'");
    stage_refused(m, parts, 1, SX_UNSUPPORTED, "it has no line 'chain'");
    sx_engine_close_model(m);
}

static void test_fake_bad_chains(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "input x FP32\noutput y FP32\nchain",
        "input x FP32\noutput y FP32\nchain 0",
        "input x FP32\noutput y FP32\nchain 1.5",
        "input x FP32\noutput y FP32\nchain 1000001",
        "input x FP32\noutput y FP32\nchain bytes=1",
        "input x FP32\noutput y FP32\nchain 3 bytes=-1",
        "input x FP32\noutput y FP32\nchain 3 bytes=",
        "input x FP32\ninput z FP32\noutput y FP32\nchain 3",
        "input x BYTES -1\noutput y BYTES -1\nchain 3",
        "input x FP32 optional\noutput y FP32\nchain 3",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put_fake("bad", bad[i]);
        open_refused(path_of("bad"), SX_INVALID, "bad.fake");
    }
}

static void test_fake_stage_failures(void **state)
{
    (void)state;
    const uint32_t nodes[] = {0, 1};
    const int64_t dims[] = {1, 4};
    struct sx_err err = {0};
    put_fake("fails", "input x FP32 -1 4\noutput y FP32 -1 4\nchain 2\nfail nth=2 value=13\n");
    struct sx_engine_model *m = open_at(engine, path_of("fails"));
    struct sx_engine_model *stage[] = {stage_of(m, nodes, 1), stage_of(m, nodes + 1, 1)};
    struct sx_session *s[] = {session_of(stage[0], 1), session_of(stage[1], 1)};
    struct sx_tensor x = floats(dims, 2, 0), t = {0}, y = {0};
    for (int i = 0; i < 3; i++) { /* the last operator counts */
        run_ok(s[0], &x, &t);
        assert_true(sx_tensor_equal(&x, &t));
        assert_int_equal(sx_session_run(s[1], &t, &y, NULL, &err), i == 1 ? SX_ENGINE : SX_OK);
        sx_tensor_unref(&t);
        sx_tensor_unref(&y);
    }
    ((float *)x.data)[1] = 13; /* the first one looks */
    assert_int_equal(sx_session_run(s[0], &x, &t, NULL, &err), SX_ENGINE);
    assert_null(t.data);
    run_ok(s[1], &x, &y);
    sx_tensor_unref(&y);
    sx_tensor_unref(&x);
    for (int i = 0; i < 2; i++) {
        sx_session_destroy(s[i]);
        sx_engine_close_model(stage[i]);
    }
    sx_engine_close_model(m);
}

/* --- ONNX Runtime only --------------------------------------------------------------- */

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

static void test_ort_profile(void **state)
{
    (void)state;
    double ns[32], spread[32], whole[2], wide = 0, sum = 0;
    struct sx_err err = {0};
    struct sx_engine_model *m = open_at(engine, path_of("branches"));
    const struct sx_dag *dag = graph_of(m);
    assert_true(dag->n_nodes <= 32);
    if (sx_engine_profile(m, 16, 1, NULL, 15, NULL, NULL, ns, spread, whole, &err))
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
    if (make_dir())
        return 1;
    snprintf(cache, sizeof(cache), "%s/cache", dir);
    make_models();
    return 0;
}

#define CORT(f)  {"ort: " #f, f, setup_cached_ort, drop_engine, NULL}
#define CFAKE(f) {"fake: " #f, f, setup_virtual_fake, drop_engine, NULL}
#define CBOTH(f) CORT(f), CFAKE(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CBOTH(test_row),
        CBOTH(test_bad_stages),
        CBOTH(test_stage_inputs),
        CBOTH(test_profile),
        FAKE(test_profile),
        CFAKE(test_fake_chain),
        CFAKE(test_fake_bad_chains),
        CFAKE(test_fake_stage_failures),
        CORT(test_ort_models),
        CORT(test_ort_branch),
        CORT(test_ort_random_cuts),
        CORT(test_ort_data_decide),
        CORT(test_ort_strings),
        CORT(test_ort_free_dims),
        CORT(test_ort_uncut),
        CORT(test_ort_stage_files),
        CORT(test_ort_profile),
    };
    return cmocka_run_group_tests(tests, setup, drop_dir);
}
