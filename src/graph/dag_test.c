/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* dag_test.c - files to graphs; groups and stages against slow twins on random graphs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>
#include <unistd.h>

#include "base/dir_test.h"
#include "base/rng.h"
#include "graph/dag.h"
#include "graph/model_test.h"

static char file[64];

static int setup(void **state)
{
    (void)state;
    return make_dir(file, sizeof file, "model.onnx");
}

struct opened {
    struct sx_onnx *model;
    struct sx_dag *dag;
};

static struct opened opened(void)
{
    struct opened o = {0};
    struct sx_err err = {0};
    if (sx_onnx_open(file, &o.model, &err) || sx_dag_build(o.model, &o.dag, &err))
        fail_msg("%s", err.message);
    return o;
}

static struct opened built(struct mk *mk)
{
    mk_write(mk, file);
    mk_end(mk);
    return opened();
}

static void closed(struct opened *o)
{
    sx_dag_destroy(o->dag);
    sx_onnx_close(o->model);
}

/* "Type(inputs;weights)>outputs" for each node, with a blank between them. */
static const char *drawn(const struct sx_dag *d)
{
    static char text[2048];
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t v = 0; v < d->n_nodes; v++) {
        const struct sx_dag_node *n = &d->nodes[v];
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s(", v ? " " : "", n->type);
        for (uint32_t k = 0; k < n->n_in; k++)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", k ? "," : "",
                                   d->tensors[d->ins[n->first_in + k]].name);
        at += (size_t)snprintf(text + at, sizeof(text) - at, ";%d)>", (int)n->weight_bytes);
        for (uint32_t k = 0; k < n->n_out; k++) {
            const struct sx_dag_tensor *t = &d->tensors[d->outs[n->first_out + k]];
            assert_int_equal(t->producer, v);
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", k ? "," : "", t->name);
        }
    }
    return text;
}

/* Uses are the readers, ascending, and names are found. */
static void assert_consistent(const struct sx_dag *d)
{
    for (uint32_t t = 0; t < d->n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &d->tensors[t];
        uint32_t n = 0;
        for (uint32_t v = 0; v < d->n_nodes; v++)
            for (uint32_t k = 0; k < d->nodes[v].n_in; k++)
                if (d->ins[d->nodes[v].first_in + k] == t) {
                    assert_true(n < tensor->n_uses);
                    assert_int_equal(d->uses[tensor->first_use + n], v);
                    assert_true(tensor->producer == SX_DAG_NONE || tensor->producer < v);
                    n++;
                }
        assert_int_equal(n, tensor->n_uses);
        assert_true(n || tensor->output || tensor->producer == SX_DAG_NONE);
        assert_int_equal(sx_dag_find(d, tensor->name), t);
        assert_int_equal(tensor->rank, -1);
        assert_false(tensor->typed || tensor->sized);
        assert_true(sx_dag_bytes(d, t, 4) == 0);
    }
    for (uint32_t v = 0; v < d->n_nodes; v++)
        assert_int_equal(d->group[v], v);
    assert_int_equal(sx_dag_find(d, "no such tensor"), SX_DAG_NONE);
}

static const float zeros[64];

static void test_file(void **state)
{
    (void)state;
    struct mk mk;
    mk_begin(&mk, 3);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk_input(&mk, "w", MK_FLOAT, "4");
    mk_constant(&mk, "w", MK_FLOAT, "4", zeros, 16);
    mk_node(&mk, "Relu", "x", "a")->name = mk_text(&mk, "first");
    Onnx__NodeProto *n = mk_node(&mk, "Clip", "a,,a,w,w", "b,,unread"); /* "," makes no "" */
    MK_PUSH(&mk, n->input, n->n_input, mk_text(&mk, ""));
    MK_PUSH(&mk, n->output, n->n_output, mk_text(&mk, ""));
    n->domain = mk_text(&mk, "com.example");
    n = mk_node(&mk, "Add", "b,a", "y");
    n->domain = mk_text(&mk, "ai.onnx");
    mk_node(&mk, "Relu", "a", "dead");
    mk_node(&mk, "Relu", "dead", "deader");
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    mk_output(&mk, "a", MK_FLOAT, "-1,4");
    struct opened o = built(&mk);
    const struct sx_dag *d = o.dag;
    assert_string_equal(drawn(d), "Relu(x;0)>a com.example.Clip(a;16)>b Add(b,a;0)>y");
    assert_consistent(d);
    assert_int_equal(d->n_tensors, 4);
    assert_string_equal(d->tensors[0].name, "x");
    assert_int_equal(d->tensors[0].producer, SX_DAG_NONE);
    assert_string_equal(d->nodes[0].name, "first");
    assert_string_equal(d->nodes[1].name, "");
    assert_int_equal(d->nodes[2].onnx_index, 2);
    assert_true(d->tensors[sx_dag_find(d, "a")].output);
    assert_false(d->tensors[sx_dag_find(d, "b")].output);
    assert_int_equal(sx_dag_find(d, "w"), SX_DAG_NONE);
    closed(&o);
}

static Onnx__NodeProto *constant_node(struct mk *mk, const char *name, const char *dims, size_t n)
{
    Onnx__NodeProto *node = mk_node(mk, "Constant", "", name);
    mk_attribute(mk, node, "value", 4)->t = mk_tensor(mk, "", MK_FLOAT, dims, zeros, n * 4);
    return node;
}

static void test_constants(void **state)
{
    (void)state;
    static const int64_t shape[2] = {1000, 1000};
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1");
    mk_constant(&mk, "shape", MK_INT64, "2", shape, sizeof(shape));
    mk_constant(&mk, "w", MK_FLOAT, "4", zeros, 16);
    constant_node(&mk, "c", "8", 8);
    mk_node(&mk, "ConstantOfShape", "shape", "big");
    mk_node(&mk, "Transpose", "big", "turned");
    mk_node(&mk, "Concat", "c,w", "both");
    mk_node(&mk, "MatMul", "x,turned", "a");
    mk_node(&mk, "Add", "a,both", "b");
    mk_node(&mk, "RandomNormal", "", "r"); /* no constant: it must not be made twice */
    mk_node(&mk, "Add", "b,r", "d");
    mk_node(&mk, "Foo", "w", "f")->domain = mk_text(&mk, "org.unknown");
    mk_node(&mk, "Gelu", "w", "g")->domain = mk_text(&mk, "com.microsoft");
    mk_node(&mk, "Sum", "d,f,g", "y");
    mk_node(&mk, "Neg", "c", "made"); /* outputs of the model that no input reaches */
    mk_node(&mk, "Neg", "made", "n");
    mk_node(&mk, "Mul", "y,n", "z");
    mk_output(&mk, "z", 0, NULL);
    mk_output(&mk, "made", 0, NULL);
    mk_output(&mk, "w", 0, NULL);
    mk_output(&mk, "x", 0, NULL);
    struct opened o = built(&mk);
    assert_string_equal(drawn(o.dag),
                        "MatMul(x;4000000)>a Add(a;48)>b RandomNormal(;0)>r Add(b,r;0)>d "
                        "org.unknown.Foo(;16)>f Sum(d,f;16)>y Neg(;32)>made Mul(y;32)>z");
    assert_consistent(o.dag);
    assert_true(o.dag->tensors[sx_dag_find(o.dag, "made")].output);
    assert_true(o.dag->tensors[0].output); /* x */
    assert_int_equal(sx_dag_find(o.dag, "w"), SX_DAG_NONE);
    closed(&o);
}

static void test_bodies(void **state)
{
    (void)state;
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_input(&mk, "flag", 9, "");
    mk_constant(&mk, "w", MK_FLOAT, "4", zeros, 16);
    mk_node(&mk, "Relu", "x", "a");
    mk_node(&mk, "Abs", "x", "b");
    mk_node(&mk, "Neg", "x", "hidden");
    mk_node(&mk, "Exp", "x", "direct");
    Onnx__NodeProto *n = mk_node(&mk, "If", "flag", "y");
    Onnx__GraphProto *then = mk_body(&mk, n, "then_branch"),
                     *other = mk_body(&mk, n, "else_branch");
    /* then: If in If reads a and w from two levels up; "hidden" is its own */
    mk_node_in(&mk, then, "Relu", "b", "hidden");
    Onnx__NodeProto *inner = mk_node_in(&mk, then, "If", "flag", "out");
    Onnx__GraphProto *deep = mk_body(&mk, inner, "then_branch"),
                     *flat = mk_body(&mk, inner, "else_branch");
    mk_node_in(&mk, deep, "Sum", "a,w,hidden", "deep_out");
    mk_body_output(&mk, deep, "deep_out", 0);
    MK_PUSH(&mk, flat->initializer, flat->n_initializer,
            mk_tensor(&mk, "k", MK_FLOAT, "2", zeros, 8));
    mk_node_in(&mk, flat, "Relu", "k", "flat_out");
    mk_body_output(&mk, flat, "flat_out", 0);
    mk_body_output(&mk, then, "out", 0);
    mk_body_output(&mk, other, "direct", 0); /* straight from outside */
    mk_node(&mk, "Add", "y,hidden", "z");
    /* a Loop on constants alone is a constant, unless chance is in it */
    for (int i = 0; i < 2; i++) {
        n = mk_node(&mk, "Loop", "w", i ? "l1" : "l0");
        Onnx__GraphProto *g = mk_body(&mk, n, "body");
        MK_PUSH(&mk, g->input, g->n_input, mk_value(&mk, "x", 0, NULL)); /* not the model's */
        mk_node_in(&mk, g, i ? "RandomUniformLike" : "Relu", "x", "o");
        mk_body_output(&mk, g, "o", 0);
    }
    mk_node(&mk, "Sum", "z,l0,l1", "end");
    mk_output(&mk, "end", 0, NULL);
    struct opened o = built(&mk);
    assert_string_equal(drawn(o.dag), "Relu(x;0)>a Abs(x;0)>b Neg(x;0)>hidden Exp(x;0)>direct "
                                      "If(flag,b,a,direct;24)>y Add(y,hidden;0)>z "
                                      "Loop(;16)>l1 Sum(z,l1;16)>end");
    assert_consistent(o.dag);
    closed(&o);
}

static void test_functions(void **state)
{
    (void)state;
    for (int random = 0; random < 2; random++) {
        struct mk mk;
        mk_begin(&mk, 8);
        mk_input(&mk, "x", MK_FLOAT, "4");
        mk_constant(&mk, "w", MK_FLOAT, "4", zeros, 16);
        Onnx__GraphProto *nodes = mk_graph(&mk, "");
        mk_node_in(&mk, nodes, random ? "Bernoulli" : "Add", "a,a", "c");
        mk_function(&mk, "Twice", nodes);
        mk_node(&mk, "Twice", "w", "c")->domain = mk_text(&mk, "local");
        mk_node(&mk, "Twice", "x", "d")->domain = mk_text(&mk, "local");
        mk_node(&mk, "Add", "c,d", "y");
        mk_output(&mk, "y", 0, NULL);
        struct opened o = built(&mk);
        assert_string_equal(drawn(o.dag), random ? "local.Twice(;16)>c local.Twice(x;0)>d "
                                                   "Add(c,d;0)>y"
                                                 : "local.Twice(x;0)>d Add(d;16)>y");
        closed(&o);
    }
}

/* Files need not be in order; what is wrong in them is said when they are opened. */
static void test_order(void **state)
{
    (void)state;
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_node(&mk, "Add", "b,a", "y");
    mk_node(&mk, "Abs", "a", "b");
    mk_node(&mk, "Relu", "x", "a");
    mk_output(&mk, "y", 0, NULL);
    struct opened o = built(&mk);
    assert_string_equal(drawn(o.dag), "Relu(x;0)>a Abs(a;0)>b Add(b,a;0)>y");
    assert_int_equal(o.dag->nodes[0].onnx_index, 2);
    assert_consistent(o.dag);
    closed(&o);

    for (int dangling = 0; dangling < 2; dangling++) {
        struct sx_err err = {0};
        mk_begin(&mk, 8);
        mk_input(&mk, "x", MK_FLOAT, "4");
        mk_node(&mk, "Add", dangling ? "x,nobody" : "x,b", "a");
        mk_node(&mk, "Relu", "a", "b");
        mk_output(&mk, "b", 0, NULL);
        mk_write(&mk, file);
        mk_end(&mk);
        assert_int_equal(sx_onnx_open(file, &o.model, &err), SX_INVALID);
        assert_non_null(
            strstr(err.message, dangling ? "nothing produces 'nobody'" : "has a cycle"));
    }
}

/* --- random graphs ---------------------------------------------------------------------------- */

#define MAX_N 14

struct twin {
    uint32_t n;
    bool edge[MAX_N][MAX_N], reach[MAX_N][MAX_N];
};

/* Random operators with one or two outputs; the last ones are outputs of the model, so that
 * nothing is dead. */
static struct opened random_graph(struct sx_rng *rng, struct twin *t)
{
    struct mk mk;
    *t = (struct twin){.n = 2 + (uint32_t)sx_rng_below(rng, MAX_N - 1)};
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    for (uint32_t v = 0; v < t->n; v++) {
        char in[128] = "", out[32];
        for (uint64_t k = sx_rng_below(rng, 3); v && k--;) {
            uint32_t u = (uint32_t)sx_rng_below(rng, v);
            size_t at = strlen(in);
            snprintf(in + at, sizeof(in) - at, "t%u%s,", u, sx_rng_below(rng, 2) ? "" : "b");
            t->edge[u][v] = true;
        }
        snprintf(in + strlen(in), sizeof(in) - strlen(in), "x");
        snprintf(out, sizeof(out), "t%u,t%ub", v, v);
        mk_node(&mk, "Foo", in, out);
        snprintf(out, sizeof(out), "t%u", v);
        mk_output(&mk, out, 0, NULL);
    }
    for (uint32_t a = 0; a < t->n; a++)
        for (uint32_t b = 0; b < t->n; b++)
            t->reach[a][b] = t->edge[a][b];
    for (uint32_t c = 0; c < t->n; c++)
        for (uint32_t a = 0; a < t->n; a++)
            for (uint32_t b = 0; b < t->n; b++)
                t->reach[a][b] |= t->reach[a][c] && t->reach[c][b];
    return built(&mk);
}

static void assert_same_edges(const struct sx_dag *d, const struct twin *t)
{
    bool edge[MAX_N][MAX_N] = {0};
    assert_int_equal(d->n_nodes, t->n);
    for (uint32_t k = 0; k < d->n_tensors; k++)
        for (uint32_t u = 0; u < d->tensors[k].n_uses; u++)
            if (d->tensors[k].producer != SX_DAG_NONE)
                edge[d->tensors[k].producer][d->uses[d->tensors[k].first_use + u]] = true;
    assert_memory_equal(edge, t->edge, sizeof(edge));
}

static bool slow_convex(const struct twin *t, const bool *in)
{
    for (uint32_t a = 0; a < t->n; a++)
        for (uint32_t c = 0; c < t->n; c++)
            for (uint32_t b = 0; b < t->n; b++)
                if (in[a] && !in[c] && in[b] && t->reach[a][c] && t->reach[c][b])
                    return false;
    return true;
}

/* Merge groups that reach each other until none do. */
static void slow_close(const struct twin *t, uint32_t *group)
{
    for (bool changed = true; changed;) {
        bool reach[MAX_N][MAX_N] = {0};
        changed = false;
        for (uint32_t a = 0; a < t->n; a++)
            for (uint32_t b = 0; b < t->n; b++)
                reach[group[a]][group[b]] |= t->edge[a][b];
        for (uint32_t c = 0; c < t->n; c++)
            for (uint32_t a = 0; a < t->n; a++)
                for (uint32_t b = 0; b < t->n; b++)
                    reach[a][b] |= reach[a][c] && reach[c][b];
        for (uint32_t a = 0; a < t->n; a++)
            for (uint32_t b = a + 1; b < t->n; b++)
                if (reach[a][b] && reach[b][a]) {
                    for (uint32_t v = 0; v < t->n; v++)
                        group[v] = group[v] == b ? a : group[v];
                    changed = true;
                }
    }
}

static void test_random_groups(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned merged = 0;
    sx_rng_init(&rng, 11);
    for (int round = 0; round < 400; round++) {
        struct twin t;
        struct opened o = random_graph(&rng, &t);
        uint32_t group[MAX_N];
        assert_same_edges(o.dag, &t);
        assert_consistent(o.dag);
        for (uint32_t v = 0; v < t.n; v++)
            group[v] = v;
        for (uint64_t joins = sx_rng_below(&rng, 5); joins--;) {
            uint32_t a = (uint32_t)sx_rng_below(&rng, t.n), b = (uint32_t)sx_rng_below(&rng, t.n);
            uint32_t low = group[a] < group[b] ? group[a] : group[b];
            uint32_t high = group[a] ^ group[b] ^ low;
            sx_dag_join(o.dag, a, b);
            for (uint32_t v = 0; v < t.n; v++)
                group[v] = group[v] == high ? low : group[v];
        }
        uint32_t before[MAX_N];
        memcpy(before, group, sizeof(before));
        slow_close(&t, group);
        merged += memcmp(before, group, t.n * sizeof(*group)) != 0;
        assert_int_equal(sx_dag_close_groups(o.dag), SX_OK);
        assert_memory_equal(o.dag->group, group, t.n * sizeof(*group));
        closed(&o);
    }
    assert_true(merged > 50); /* the closing had work to do */
}

static void test_random_stages(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned good = 0, torn = 0, bent = 0;
    sx_rng_init(&rng, 12);
    for (int round = 0; round < 400; round++) {
        struct twin t;
        struct opened o = random_graph(&rng, &t);
        struct sx_err err = {0};
        uint32_t nodes[MAX_N];
        bool in[MAX_N] = {0}, whole = true;
        size_t n = 0;
        if (round % 4 == 0)
            sx_dag_join(o.dag, 0, t.n - 1);
        assert_int_equal(sx_dag_close_groups(o.dag), SX_OK);
        for (uint32_t v = t.n; v-- > 0;) /* any order will do */
            if (sx_rng_below(&rng, 3)) {
                in[v] = true;
                nodes[n++] = v;
            }
        for (uint32_t a = 0; a < t.n; a++)
            for (uint32_t b = 0; b < t.n; b++)
                whole &= o.dag->group[a] != o.dag->group[b] || in[a] == in[b];
        bool convex = slow_convex(&t, in);
        enum sx_rc rc = sx_dag_check_stage(o.dag, nodes, n, &err);
        assert_int_equal(rc, n && whole && convex ? SX_OK : SX_INVALID);
        good += rc == SX_OK;
        if (n && !whole) {
            assert_non_null(strstr(err.message, "must be in the same stage"));
            torn++;
        } else if (n && !convex) {
            assert_non_null(strstr(err.message, "which lies between them"));
            bent++;
        }
        closed(&o);
    }
    assert_true(good > 50 && torn > 20 && bent > 20);
}

static void test_bad_stages(void **state)
{
    (void)state;
    struct sx_rng rng;
    struct twin t;
    struct sx_err err = {0};
    sx_rng_init(&rng, 1);
    struct opened o = random_graph(&rng, &t);
    assert_int_equal(sx_dag_check_stage(o.dag, NULL, 0, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "no operators"));
    assert_int_equal(sx_dag_check_stage(o.dag, (uint32_t[]){0, 0}, 2, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "'t0' twice"));
    assert_int_equal(sx_dag_check_stage(o.dag, &t.n, 1, &err), SX_INVALID);
    assert_int_equal(sx_dag_check_stage(o.dag, (uint32_t[]){0}, 1, NULL), SX_OK);
    closed(&o);
    sx_dag_destroy(NULL);
}

/* --- size, pictures --------------------------------------------------------------------------- */

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A chain whose every operator also reads the first result: a wide and a deep graph at once. */
static void write_large(uint32_t n)
{
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    Onnx__NodeProto *nodes = calloc(n, sizeof(*nodes)), **list = calloc(n, sizeof(*list));
    char(*names)[16] = calloc(n + 1, sizeof(*names)), *(*texts)[3] = calloc(n, sizeof(*texts));
    strcpy(names[0], "x");
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i + 1], sizeof(names[i]), "t%u", i);
        onnx__node_proto__init(&nodes[i]);
        memcpy(texts[i], (char *[]){names[i], names[i ? 1 : 0], names[i + 1]}, sizeof(*texts));
        nodes[i].n_input = 2;
        nodes[i].input = texts[i];
        nodes[i].n_output = 1;
        nodes[i].output = texts[i] + 2;
        nodes[i].op_type = mk.graph->name;
        list[i] = &nodes[i];
    }
    mk_output(&mk, names[n], 0, NULL);
    mk.graph->n_node = n;
    mk.graph->node = list;
    mk_write(&mk, file);
    mk_end(&mk);
    free(nodes);
    free(list);
    free(names);
    free(texts);
}

static void test_large(void **state)
{
    (void)state;
    enum { N = 20000 };
    write_large(N);
    struct sx_onnx *model;
    struct sx_dag *d;
    assert_int_equal(sx_onnx_open(file, &model, NULL), SX_OK);
    double start = cpu_ms();
    assert_int_equal(sx_dag_build(model, &d, NULL), SX_OK);
    double build = cpu_ms() - start;
    assert_int_equal(d->n_nodes, N);
    sx_dag_join(d, N / 4, N - 1);
    start = cpu_ms();
    assert_int_equal(sx_dag_close_groups(d), SX_OK);
    double close = cpu_ms() - start;
    assert_int_equal(d->group[N - 1], N / 4);
    assert_int_equal(d->group[N / 2], N / 4);
    assert_int_equal(d->group[N / 4 - 1], N / 4 - 1);
    uint32_t *nodes = malloc(N * sizeof(*nodes));
    for (uint32_t i = 0; i < N; i++)
        nodes[i] = i;
    start = cpu_ms();
    assert_int_equal(sx_dag_check_stage(d, nodes, N / 4, NULL), SX_OK);
    double check = cpu_ms() - start;
    print_message("# %d operators: built in %.1f ms, closed in %.1f ms, checked in %.1f ms\n", N,
                  build, close, check);
    assert_true(build < 1000 && close < 1000 && check < 1000); /* quadratic would be far above */
    free(nodes);
    sx_dag_destroy(d);
    sx_onnx_close(model);
}

static void test_dot(void **state)
{
    (void)state;
    struct mk mk;
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_node(&mk, "Relu", "x", "a")->name = mk_text(&mk, "a \"quoted\\\" \nname");
    mk_node(&mk, "Abs", "a", "y");
    mk_output(&mk, "y", 0, NULL);
    struct opened o = built(&mk);
    char *text;
    o.dag->tensors[1].sized = true;
    o.dag->tensors[1].sample_bytes = 4096;
    assert_int_equal(sx_dag_dot(o.dag, (uint32_t[]){0, 1}, (double[]){1500, 1e9}, &text, NULL),
                     SX_OK);
    assert_non_null(strstr(text, "label=\"Relu\\na \\\"quoted\\\\\\\"  name\\n1.5 us\""));
    assert_non_null(strstr(text, "t0 -> n0 [color=gray40"));
    assert_non_null(strstr(text, "n0 -> n1 [color=red, penwidth=2, label=\"4.0 KiB\""));
    assert_non_null(strstr(text, "n1 -> o2 ["));
    free(text);
    assert_int_equal(sx_dag_dot(o.dag, NULL, NULL, &text, NULL), SX_OK);
    assert_null(strstr(text, "red"));
    free(text);
    closed(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),          cmocka_unit_test(test_constants),
        cmocka_unit_test(test_bodies),        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_order),         cmocka_unit_test(test_random_groups),
        cmocka_unit_test(test_random_stages), cmocka_unit_test(test_bad_stages),
        cmocka_unit_test(test_large),         cmocka_unit_test(test_dot),
    };
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
