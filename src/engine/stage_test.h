/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * stage_test.h - what tests of models in stages share.
 *
 * The heart is check_cut: the stages of a cut, one after another, give the outputs of the whole
 * model bit by bit.  Only tests include it.
 */
#ifndef SX_ENGINE_STAGE_TEST_H
#define SX_ENGINE_STAGE_TEST_H

#include "base/rng.h"
#include "engine/engine_test.h"
#include "graph/stage.h"

static char cache[64];

/* Small random numbers that repeat from call to call. */
static inline const float *numbers(size_t n)
{
    static float v[16 * 128 * 128];
    static struct sx_rng rng;
    static bool there;
    if (!there)
        sx_rng_init(&rng, 7);
    there = true;
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(sx_rng_double(&rng) - 0.5) / 4;
    return v;
}

/* A chain of six operators that ONNX Runtime does not fuse, for both engines. */
static inline void make_row(void)
{
    struct mk mk;

    put_fake("row", "input x FP32 -1 8\noutput y FP32 -1 8\noutput s FP64 -1 2 sum\n"
                    "chain 6\ntime base_us=600 per_sample_us=60\n");
    mk_begin(&mk, 8); /* the same number */
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
}

/* Stages need a cache directory. */
static inline int setup_cached(const char *name)
{
    which = name;
    engine = engine_with(name, cache, !strcmp(name, "fake"));
    return 0;
}

static inline int setup_cached_ort(void **state)
{
    (void)state;
    return setup_cached("ort");
}

static inline int setup_virtual_fake(void **state)
{
    (void)state;
    return setup_cached("fake");
}

static inline const struct sx_dag *graph_of(struct sx_engine_model *m)
{
    const struct sx_dag *dag = NULL;
    struct sx_err err = {0};
    if (sx_engine_graph(m, &dag, &err))
        fail_msg("%s", err.message);
    assert_non_null(dag);
    return dag;
}

static inline struct sx_engine_model *stage_of(struct sx_engine_model *m, const uint32_t *nodes,
                                               size_t n)
{
    struct sx_engine_model *s = NULL;
    struct sx_err err = {0};
    if (sx_engine_open_stage(m, nodes, n, &s, &err))
        fail_msg("%s", err.message);
    assert_non_null(s);
    return s;
}

static inline void stage_refused(struct sx_engine_model *m, const uint32_t *nodes, size_t n,
                                 enum sx_rc rc, const char *words)
{
    struct sx_engine_model *s = NULL;
    struct sx_err err = {0};
    enum sx_rc got = sx_engine_open_stage(m, nodes, n, &s, &err);
    if (got != rc || !strstr(err.message, words))
        fail_msg("expected %d '%s', got %d '%s'", rc, words, got, err.message);
    assert_null(s);
}

static inline void graph_refused(struct sx_engine_model *m, const char *words)
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
static inline void make_inputs(struct sx_engine_model *m, int64_t batch, struct sx_tensor *in)
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

static inline void drop(struct sx_tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sx_tensor_unref(&t[i]);
}

#define MAX_PORTS 16

/* One stage on tensors of the graph, by index; what it makes is put there.  Ports must be as
 * sx_stage_ports says. */
static inline uint64_t run_stage(const struct sx_dag *dag, struct sx_engine_model *stage,
                                 const uint32_t *nodes, size_t n, unsigned width,
                                 struct sx_tensor *flow)
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
static inline uint64_t check_cut(struct sx_engine_model *m, const uint32_t *stage,
                                 uint32_t n_stages, int64_t batch, unsigned width)
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
static inline unsigned check_prefixes(struct sx_engine_model *m, int64_t batch, unsigned width)
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

static inline size_t files_in(const char *path, const char *prefix)
{
    char **names;
    size_t n, found = 0;
    assert_int_equal(sx_dir_names(path, &names, &n, NULL), SX_OK);
    for (size_t i = 0; i < n; i++)
        found += !strncmp(names[i], prefix, strlen(prefix));
    sx_names_free(names, n);
    return found;
}

static inline const struct sx_dag_tensor *tensor(const struct sx_dag *dag, const char *name)
{
    uint32_t t = sx_dag_find(dag, name);
    if (t == SX_DAG_NONE)
        fail_msg("the graph has no tensor '%s'", name);
    return &dag->tensors[t];
}

static inline int make_cache(void)
{
    if (make_dir())
        return 1;
    snprintf(cache, sizeof(cache), "%s/cache", dir);
    return 0;
}

#define CORT(f)  {"ort: " #f, f, setup_cached_ort, drop_engine, NULL}
#define CFAKE(f) {"fake: " #f, f, setup_virtual_fake, drop_engine, NULL}
#define CBOTH(f) CORT(f), CFAKE(f)

#endif
