/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut_zoo_test.c - files as they are, cut into stages that are files, run by ONNX Runtime.
 *
 * Types come from the probe; nodes are cut into up to three stages along the order of the DAG,
 * except where a tensor has no type that we know.  The stages, one after another, must give
 * what the whole model gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/engine.h"
#include "graph/model_test.h"
#include "graph/stage.h"
#include "graph/tensorproto.h"

#define ZOO "/usr/share/libonnx-testdata/data"

enum { STAGES = 3, MAX_IN = 16 };

static char dir[] = "/tmp/sx-cut-XXXXXX", file[64], stage_file[64];
static struct sx_engine *engine;
static struct sx_pool *pool;

static int setup(void **state)
{
    const struct sx_engine_config config = {.name = "ort"};
    (void)state;
    if (!mkdtemp(dir) || sx_pool_create(&pool))
        return 1;
    snprintf(file, sizeof(file), "%s/model.onnx", dir);
    snprintf(stage_file, sizeof(stage_file), "%s/stage.onnx", dir);
    return (int)sx_engine_create(&config, &engine, NULL);
}

static int teardown(void **state)
{
    (void)state;
    sx_engine_destroy(engine);
    sx_pool_destroy(pool);
    return (int)sx_dir_remove(dir, NULL);
}

/* --- running ------------------------------------------------------------------------------------
 */

static struct sx_engine_model *open_file(const char *path, const char *what)
{
    struct sx_engine_model *m = NULL;
    struct sx_err err = {0};
    if (sx_engine_open_model(engine, path, &m, &err))
        fail_msg("%s: %s", what, err.message);
    return m;
}

static enum sx_rc run(struct sx_engine_model *m, const struct sx_tensor *in, struct sx_tensor *out,
                      struct sx_err *err)
{
    struct sx_session *s = NULL;
    enum sx_rc rc = sx_session_create(m, 1, NULL, &s, err);
    if (!rc)
        rc = sx_session_run(s, in, out, NULL, err);
    sx_session_destroy(s);
    return rc;
}

static double element(const struct sx_tensor *t, size_t i)
{
    float f;
    double d;
    if (t->dtype == SX_FP64) {
        memcpy(&d, t->data + 8 * i, 8);
        return d;
    }
    memcpy(&f, t->data + 4 * i, 4);
    return (double)f;
}

/* Sums may be added in another order where the whole model was fused. */
static bool close_enough(const struct sx_tensor *a, const struct sx_tensor *b)
{
    double largest = 0, most = 0;
    if (sx_tensor_equal(a, b))
        return true;
    if (a->dtype != b->dtype || a->rank != b->rank || a->nbytes != b->nbytes ||
        memcmp(a->dims, b->dims, (size_t)a->rank * sizeof(*a->dims)) ||
        (a->dtype != SX_FP32 && a->dtype != SX_FP64))
        return false;
    for (size_t i = 0; i < a->nbytes / sx_dtype_size(a->dtype); i++) {
        double x = element(a, i), y = element(b, i);
        if (x == y || (isnan(x) && isnan(y)))
            continue;
        if (!isfinite(x) || !isfinite(y))
            return false;
        largest = fmax(largest, fabs(x));
        most = fmax(most, fabs(x - y));
    }
    return most <= 1e-5 * largest;
}

/* --- cutting ------------------------------------------------------------------------------------
 */

/* What the engine says of the probe at this batch is what it knows of the tensors; -1 where a
 * second probe says otherwise. */
static bool find_types(const struct sx_onnx *onnx, struct sx_dag *dag)
{
    char probe[80];
    snprintf(probe, sizeof(probe), "%s/probe.onnx", dir);
    for (int64_t batch = 1; batch <= 2; batch++) {
        struct sx_err err = {0};
        struct sx_engine_model *m = NULL;
        if (sx_stage_write_probe(onnx, dag, batch, 5, probe, &err))
            fail_msg("%s: %s", sx_onnx_path(onnx), err.message);
        if (sx_engine_open_model(engine, probe, &m, &err))
            return false; /* with tensors of kinds or types that we do not carry */
        const struct sx_port *p;
        size_t n = sx_engine_outputs(m, &p);
        for (size_t i = 0; i < n; i++) {
            uint32_t at = sx_dag_find(dag, p[i].name);
            if (at == SX_DAG_NONE)
                continue; /* an initializer */
            struct sx_dag_tensor *t = &dag->tensors[at];
            if (batch == 1) {
                t->typed = true;
                t->onnx_type = sx_dtype_to_onnx(p[i].dtype);
                t->rank = p[i].rank;
                for (int d = 0; d < t->rank; d++)
                    t->dims[d] = p[i].dims[d] < 0 ? -2 : p[i].dims[d];
                continue;
            }
            for (int d = 0; d < t->rank; d++)
                if (t->dims[d] >= 0 && p[i].dims[d] != t->dims[d])
                    t->dims[d] = -1;
        }
        sx_engine_close_model(m);
    }
    return true;
}

/* Stage numbers: thirds of the order, moved back where an edge or a group asks for it. */
static void label_nodes(struct sx_dag *dag, uint32_t *label)
{
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        for (uint32_t u = 0; u < dag->tensors[t].n_uses; u++)
            if (!dag->tensors[t].typed && dag->tensors[t].producer != SX_DAG_NONE)
                sx_dag_join(dag, dag->tensors[t].producer,
                            dag->uses[dag->tensors[t].first_use + u]);
    assert_int_equal(sx_dag_close_groups(dag), SX_OK);
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        label[v] = (uint32_t)((uint64_t)v * STAGES / dag->n_nodes);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t v = 0; v < dag->n_nodes; v++) {
            uint32_t least = label[dag->group[v]];
            for (uint32_t k = 0; k < dag->nodes[v].n_in; k++) {
                uint32_t p = dag->tensors[dag->ins[dag->nodes[v].first_in + k]].producer;
                if (p != SX_DAG_NONE && label[p] > least)
                    least = label[p];
            }
            if (least > label[v] || least > label[dag->group[v]]) {
                label[v] = label[dag->group[v]] = least;
                changed = true;
            }
        }
    }
}

static void run_stage(const struct sx_onnx *onnx, const struct sx_dag *dag, const uint32_t *nodes,
                      size_t n, struct sx_tensor *flow)
{
    struct sx_err err = {0};
    struct sx_tensor *in = calloc(dag->n_tensors, sizeof(*in));
    struct sx_tensor *out = calloc(dag->n_tensors, sizeof(*out));
    const struct sx_port *p;
    uint32_t *t_in, *t_out;
    size_t n_in, n_out;

    if (sx_stage_write(onnx, dag, nodes, n, stage_file, SX_STAGE_COPY, &err))
        fail_msg("%s: %s", sx_onnx_path(onnx), err.message);
    assert_int_equal(sx_stage_ports(dag, nodes, n, &t_in, &n_in, &t_out, &n_out), SX_OK);
    struct sx_engine_model *m = open_file(stage_file, sx_onnx_path(onnx));
    assert_int_equal(sx_engine_inputs(m, &p), n_in);
    for (size_t i = 0; i < n_in; i++) {
        assert_string_equal(p[i].name, dag->tensors[t_in[i]].name);
        in[i] = flow[t_in[i]];
    }
    assert_int_equal(sx_engine_outputs(m, &p), n_out);
    if (run(m, in, out, &err))
        fail_msg("%s: %s", sx_onnx_path(onnx), err.message);
    for (size_t i = 0; i < n_out; i++) {
        assert_string_equal(p[i].name, dag->tensors[t_out[i]].name);
        sx_tensor_move(&flow[t_out[i]], &out[i]);
    }
    sx_engine_close_model(m);
    free(t_in);
    free(in);
    free(out);
}

static void assert_outputs(struct sx_engine_model *whole, const struct sx_dag *dag,
                           const struct sx_tensor *out, const struct sx_tensor *flow,
                           const char *path)
{
    const struct sx_port *p;
    size_t n = sx_engine_outputs(whole, &p);
    for (size_t i = 0; i < n; i++) {
        uint32_t t = sx_dag_find(dag, p[i].name);
        if (t != SX_DAG_NONE && !close_enough(&out[i], &flow[t]))
            fail_msg("%s: output '%s' differs", path, p[i].name);
    }
}

/* The number of stages that the model was cut into; 0: it cannot be run here at all.  The inputs
 * are those of the whole model. */
static uint32_t check_cut(const char *path, const struct sx_tensor *inputs, size_t n_inputs)
{
    struct sx_engine_model *whole = NULL;
    struct sx_onnx *onnx = NULL;
    struct sx_dag *dag = NULL;
    struct sx_err err = {0};
    const struct sx_port *p;
    uint32_t count = 0;

    if (sx_engine_open_model(engine, path, &whole, &err))
        return 0;
    struct sx_tensor *out = calloc(sx_engine_outputs(whole, &p) + 1, sizeof(*out));
    if (sx_engine_inputs(whole, &p) != n_inputs || run(whole, inputs, out, &err))
        goto out;
    if (sx_onnx_open(path, &onnx, &err) || sx_dag_build(onnx, &dag, &err))
        fail_msg("%s: %s", path, err.message);
    if (!find_types(onnx, dag))
        goto out;
    uint32_t *label = calloc((size_t)dag->n_nodes + 1, sizeof(*label)),
             *nodes = calloc((size_t)dag->n_nodes + 1, sizeof(*nodes));
    struct sx_tensor *flow = calloc((size_t)dag->n_tensors + 1, sizeof(*flow));
    for (size_t i = 0; i < n_inputs; i++)
        sx_tensor_ref(&flow[sx_dag_find(dag, p[i].name)], &inputs[i]);
    label_nodes(dag, label);
    for (uint32_t s = 0; s < STAGES; s++) {
        size_t n = 0;
        for (uint32_t v = 0; v < dag->n_nodes; v++)
            if (label[v] == s)
                nodes[n++] = v;
        if (!n)
            continue;
        run_stage(onnx, dag, nodes, n, flow);
        count++;
    }
    assert_outputs(whole, dag, out, flow, path);
    for (uint32_t t = 0; t < dag->n_tensors; t++)
        sx_tensor_unref(&flow[t]);
    free(flow);
    free(label);
    free(nodes);
out:
    for (size_t i = 0; i < sx_engine_outputs(whole, &p); i++)
        sx_tensor_unref(&out[i]);
    free(out);
    sx_dag_destroy(dag);
    sx_onnx_close(onnx);
    sx_engine_close_model(whole);
    return count;
}

/* --- models of our own --------------------------------------------------------------------------
 */

static struct sx_tensor floats(const int64_t *dims, int rank)
{
    struct sx_tensor t = {0};
    assert_int_equal(sx_tensor_alloc(&t, pool, SX_FP32, dims, rank), SX_OK);
    for (size_t i = 0; i < t.nbytes / 4; i++)
        ((float *)t.data)[i] = (float)(i % 11) / 4 - 1;
    return t;
}

/* An If whose branches read what is made before it, from two levels up and as a constant; a Loop
 * that adds such a tensor each time; a function of the model's own, also inside the Loop. */
static void make_bodies(struct mk *mk)
{
    static const float w[4] = {1, -2, 3, 0.5f}, zero = 0;
    static const int64_t trips = 3;
    static const unsigned char yes = 1;

    mk_begin(mk, 8);
    mk_input(mk, "x", MK_FLOAT, "-1,4");
    mk_constant(mk, "w", MK_FLOAT, "4", w, sizeof(w));
    mk_constant(mk, "zero", MK_FLOAT, "", &zero, sizeof(zero));
    mk_constant(mk, "trips", MK_INT64, "", &trips, sizeof(trips));
    mk_constant(mk, "yes", 9, "", &yes, sizeof(yes));

    Onnx__GraphProto *nodes = mk_graph(mk, "");
    mk_node_in(mk, nodes, "Add", "a,a", "aa");
    mk_node_in(mk, nodes, "Add", "aa,b", "c");
    mk_function(mk, "TwicePlus", nodes);

    mk_node(mk, "Neg", "w", "minus"); /* a constant that several read */
    mk_node(mk, "Mul", "x,w", "a");
    mk_node(mk, "Exp", "a", "b");
    mk_node(mk, "ReduceSum", "a", "sum");
    mk_attribute(mk, mk->graph->node[3], "keepdims", 2)->has_i = 1; /* 0 */
    mk_node(mk, "Greater", "sum,zero", "flag");

    Onnx__NodeProto *n = mk_node(mk, "If", "flag", "c");
    Onnx__GraphProto *then = mk_body(mk, n, "then_branch"), *other = mk_body(mk, n, "else_branch");
    Onnx__NodeProto *inner = mk_node_in(mk, then, "If", "flag", "then_out");
    Onnx__GraphProto *deep = mk_body(mk, inner, "then_branch"),
                     *flat = mk_body(mk, inner, "else_branch");
    mk_node_in(mk, deep, "Sum", "a,b,minus", "deep_out");
    mk_node_in(mk, flat, "Identity", "x", "flat_out");
    mk_node_in(mk, other, "Sub", "b,w", "else_out");
    mk_body_output(mk, deep, "deep_out", MK_FLOAT);
    mk_body_output(mk, flat, "flat_out", MK_FLOAT);
    mk_body_output(mk, then, "then_out", MK_FLOAT);
    mk_body_output(mk, other, "else_out", MK_FLOAT);

    mk_node(mk, "TwicePlus", "c,a", "d")->domain = mk_text(mk, "local");
    n = mk_node(mk, "Loop", "trips,yes,d", "e");
    Onnx__GraphProto *g = mk_body(mk, n, "body");
    MK_PUSH(mk, g->input, g->n_input, mk_value(mk, "i", MK_INT64, ""));
    MK_PUSH(mk, g->input, g->n_input, mk_value(mk, "go", 9, ""));
    MK_PUSH(mk, g->input, g->n_input, mk_value(mk, "so_far", MK_FLOAT, NULL));
    mk_node_in(mk, g, "Identity", "go", "go_on");
    mk_node_in(mk, g, "TwicePlus", "b,so_far", "next")->domain = mk_text(mk, "local");
    MK_PUSH(mk, g->output, g->n_output, mk_value(mk, "go_on", 9, ""));
    mk_body_output(mk, g, "next", MK_FLOAT);
    mk_node(mk, "Add", "e,minus", "y");
    mk_node(mk, "Neg", "minus", "constant");
    mk_output(mk, "y", MK_FLOAT, "-1,4");
    mk_output(mk, "b", MK_FLOAT, "-1,4");
    mk_output(mk, "constant", MK_FLOAT, "4"); /* from constants alone */
    mk_output(mk, "x", MK_FLOAT, "-1,4");     /* straight through */
}

static void test_bodies(void **state)
{
    (void)state;
    struct mk mk;
    make_bodies(&mk);
    mk_write(&mk, file);
    mk_end(&mk);
    sx_engine_close_model(open_file(file, "bodies")); /* says why if ONNX Runtime refuses it */
    for (int64_t batch = 1; batch < 4; batch++) {
        struct sx_tensor x = floats((int64_t[]){batch, 4}, 2);
        assert_int_equal(check_cut(file, &x, 1), STAGES);
        sx_tensor_unref(&x);
    }
}

/* --- the zoo ------------------------------------------------------------------------------------
 */

/* The inputs that a test of the zoo has; false when they are none that we can read. */
static bool read_inputs(const char *model_dir, struct sx_tensor *in, size_t *ret_n)
{
    for (*ret_n = 0; *ret_n < MAX_IN; (*ret_n)++) {
        char path[640], *data;
        size_t size;
        snprintf(path, sizeof(path), "%s/test_data_set_0/input_%zu.pb", model_dir, *ret_n);
        if (!sx_path_is_file(path))
            return true;
        if (sx_file_read(path, 0, &data, &size, NULL))
            return false;
        enum sx_rc rc = sx_tensorproto_parse(data, size, path, pool, &in[*ret_n], NULL);
        free(data);
        if (rc)
            return false;
    }
    return false;
}

static bool by_chance(const char *name)
{
    return strstr(name, "bernoulli") || strstr(name, "random") || strstr(name, "training_dropout");
}

static void test_zoo(void **state)
{
    (void)state;
    static const char *const sets[] = {"node", "simple", "pytorch-operator", "pytorch-converted"};
    size_t cut = 0, whole = 0, not_run = 0;

    if (!sx_path_is_dir(ZOO))
        skip();
    for (size_t s = 0; s < sizeof(sets) / sizeof(*sets); s++) {
        char path[512], **names;
        size_t n;
        snprintf(path, sizeof(path), ZOO "/%s", sets[s]);
        assert_int_equal(sx_dir_names(path, &names, &n, NULL), SX_OK);
        for (size_t i = 0; i < n; i++) {
            struct sx_tensor in[MAX_IN] = {{0}};
            size_t n_in;
            /* of the tests of one operator those that are several, or have bodies */
            if (by_chance(names[i]) ||
                (s == 0 && !strstr(names[i], "expanded") && !strstr(names[i], "_if") &&
                 !strstr(names[i], "loop") && !strstr(names[i], "scan")))
                continue;
            snprintf(path, sizeof(path), ZOO "/%s/%s", sets[s], names[i]);
            bool good = read_inputs(path, in, &n_in);
            strcat(path, "/model.onnx");
            uint32_t stages = good ? check_cut(path, in, n_in) : 0;
            *(stages > 1 ? &cut : stages ? &whole : &not_run) += 1;
            for (size_t k = 0; k < MAX_IN; k++)
                sx_tensor_unref(&in[k]);
        }
        sx_names_free(names, n);
    }
    print_message("# %zu models cut, %zu in one stage, %zu that ONNX Runtime or we cannot run\n",
                  cut, whole, not_run);
    assert_true(cut > 200);
}

/* Real graphs, whose weights are made by operators on constants. */
static void test_light(void **state)
{
    (void)state;
    static const char *const names[] = {"squeezenet", "shufflenet", "inception_v2"};
    if (!sx_path_is_dir(ZOO "/light"))
        skip();
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char path[128];
        struct sx_tensor x = floats((int64_t[]){1, 3, 224, 224}, 4);
        snprintf(path, sizeof(path), ZOO "/light/light_%s.onnx", names[i]);
        assert_int_equal(check_cut(path, &x, 1), STAGES);
        sx_tensor_unref(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_zoo),
        cmocka_unit_test(test_light),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
