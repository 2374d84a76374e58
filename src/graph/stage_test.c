/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* stage_test.c - what is written can be opened, and has what it needs and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "base/rng.h"
#include "graph/model_test.h"
#include "graph/stage_int.h"

static char file[64], stage_file[64], weights_file[64];

static int setup(void **state)
{
    (void)state;
    if (make_dir(file, sizeof file, "model.onnx"))
        return -1;
    snprintf(stage_file, sizeof(stage_file), "%s/stage.onnx", dir);
    snprintf(weights_file, sizeof(weights_file), "%s/stage.weights", dir);
    return 0;
}

struct opened {
    struct sx_onnx *model;
    struct sx_dag *dag;
};

static struct sx_onnx *open_model(const char *path)
{
    struct sx_onnx *m = NULL;
    struct sx_err err = {0};
    if (sx_onnx_open(path, &m, &err))
        fail_msg("%s", err.message);
    return m;
}

static struct opened built(struct mk *mk)
{
    struct opened o = {0};
    mk_write(mk, file);
    mk_end(mk);
    o.model = open_model(file);
    assert_int_equal(sx_dag_build(o.model, &o.dag, NULL), SX_OK);
    return o;
}

static void closed(struct opened *o)
{
    sx_dag_destroy(o->dag);
    sx_onnx_close(o->model);
}

/* As the engine would: every tensor is float [batch, free, 4]. */
static void set_types(struct sx_dag *d)
{
    for (uint32_t t = 0; t < d->n_tensors; t++) {
        d->tensors[t].typed = true;
        d->tensors[t].onnx_type = MK_FLOAT;
        d->tensors[t].rank = 3;
        memcpy(d->tensors[t].dims, (int64_t[]){-1, -2, 4}, 3 * sizeof(int64_t));
    }
}

static struct sx_onnx *written(const struct opened *o, const uint32_t *nodes, size_t n,
                               enum sx_stage_data data)
{
    struct sx_err err = {0};
    if (sx_stage_write(o->model, o->dag, nodes, n, stage_file, data, &err))
        fail_msg("%s", err.message);
    return open_model(stage_file);
}

/* Lists of names with commas between them. */
static void assert_stage(const struct sx_onnx *m, const char *in, const char *nodes,
                         const char *constants, const char *out)
{
    const Onnx__GraphProto *g = m->proto->graph;
    const char *const expected[] = {in, nodes, constants, out};
    const size_t n[] = {g->n_input, g->n_node, g->n_initializer, g->n_output};
    for (int list = 0; list < 4; list++) {
        char text[1024] = "";
        for (size_t i = 0; i < n[list]; i++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? "," : "",
                     list == 0   ? g->input[i]->name
                     : list == 1 ? g->node[i]->op_type
                     : list == 2 ? g->initializer[i]->name
                                 : g->output[i]->name);
        assert_string_equal(text, expected[list]);
    }
}

static const float numbers[1024] = {1, 2, 3, 4};

/* x -> Mul -> Add -> If(uses w, a) -> Sub; constants read from several places. */
static void make_model(struct mk *mk)
{
    mk_begin(mk, 3);
    mk_input(mk, "x", MK_FLOAT, "-1,-1,4");
    mk_input(mk, "w", MK_FLOAT, "4");
    mk_input(mk, "flag", 9, "");
    mk_constant(mk, "w", MK_FLOAT, "4", numbers, 16);
    mk_constant(mk, "v", MK_FLOAT, "4", numbers, 16);
    mk_constant(mk, "unused", MK_FLOAT, "4", numbers, 16);
    mk_node(mk, "Neg", "w", "minus"); /* constants */
    mk_node(mk, "Exp", "minus", "e");
    mk_node(mk, "Mul", "x,e", "a");                      /* 0 */
    mk_node(mk, "Add", "a,v", "b");                      /* 1 */
    Onnx__NodeProto *n = mk_node(mk, "If", "flag", "c"); /* 2 */
    for (int i = 0; i < 2; i++) {
        Onnx__GraphProto *g = mk_body(mk, n, i ? "else_branch" : "then_branch");
        mk_node_in(mk, g, "Sum", i ? "b,minus" : "a,b", i ? "o1" : "o0");
        mk_body_output(mk, g, i ? "o1" : "o0", 0);
    }
    mk_node(mk, "Sub", "c,a", "y"); /* 3 */
    mk_output(mk, "y", MK_FLOAT, "-1,-1,4");
    mk_output(mk, "b", 0, NULL);
    const char *const info[] = {"a", "b", "c", "e"};
    for (size_t i = 0; i < 4; i++)
        MK_PUSH(mk, mk->graph->value_info, mk->graph->n_value_info,
                mk_value(mk, info[i], MK_FLOAT, "1,1,4"));
    Onnx__StringStringEntryProto *e = mk_alloc(mk, sizeof(*e));
    onnx__string_string_entry_proto__init(e);
    e->key = mk_text(mk, "author");
    e->value = mk_text(mk, "somebody");
    MK_PUSH(mk, mk->model.metadata_props, mk->model.n_metadata_props, e);
    mk_function(mk, "F", mk_graph(mk, ""));
}

static void test_stages(void **state)
{
    (void)state;
    struct mk mk;
    make_model(&mk);
    struct opened o = built(&mk);
    set_types(o.dag);

    struct sx_onnx *m = written(&o, (uint32_t[]){0}, 1, SX_STAGE_REFER);
    assert_stage(m, "x", "Neg,Exp,Mul", "w", "a");
    assert_int_equal(sx_onnx_ir_version(m), 4);
    assert_int_equal(sx_onnx_opset(m, ""), 13);
    assert_int_equal(sx_onnx_opset(m, "local"), 1);
    assert_int_equal(m->proto->n_functions, 1);
    assert_string_equal(m->proto->metadata_props[0]->value, "somebody");
    assert_int_equal(m->proto->graph->n_value_info, 1); /* of e: the others are not here */
    const struct sx_onnx_value *v;
    assert_int_equal(sx_onnx_outputs(m, &v), 1);
    assert_int_equal(v[0].onnx_type, MK_FLOAT);
    assert_int_equal(v[0].rank, 3);
    assert_int_equal(v[0].dims[0], -1);
    assert_int_equal(v[0].dims[1], -1);
    assert_int_equal(v[0].dims[2], 4);
    Onnx__TensorShapeProto *shape = m->proto->graph->output[0]->type->tensor_type->shape;
    assert_string_equal(shape->dim[0]->dim_param, "batch");
    assert_int_equal(shape->dim[1]->value_case,
                     ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE__NOT_SET);
    assert_string_equal(m->proto->graph->input[0]->type->tensor_type->shape->dim[0]->dim_param,
                        "n"); /* the file's */
    sx_onnx_close(m);

    m = written(&o, (uint32_t[]){2, 1}, 2, SX_STAGE_REFER); /* in any order */
    assert_stage(m, "flag,a", "Neg,Add,If", "w,v", "b,c");
    assert_non_null(m->proto->graph->output[0]->type); /* the file does not say: typed by us */
    sx_onnx_close(m);

    m = written(&o, (uint32_t[]){3}, 1, SX_STAGE_REFER);
    assert_stage(m, "a,c", "Sub", "", "y");
    assert_string_equal(m->proto->graph->output[0]->type->tensor_type->shape->dim[1]->dim_param,
                        "n");
    sx_onnx_close(m);

    m = written(&o, (uint32_t[]){0, 1, 2, 3}, 4, SX_STAGE_COPY);
    assert_stage(m, "x,flag", "Neg,Exp,Mul,Add,If,Sub", "w,v", "b,y");
    sx_onnx_close(m);
    assert_int_equal(access(weights_file, F_OK), -1);
    closed(&o);
}

static void test_refused(void **state)
{
    (void)state;
    struct mk mk;
    struct sx_err err = {0};
    char path[96];
    make_model(&mk);
    struct opened o = built(&mk);
    set_types(o.dag);
    unlink(stage_file);
    assert_int_equal(
        sx_stage_write(o.model, o.dag, (uint32_t[]){1, 3}, 2, stage_file, SX_STAGE_COPY, &err),
        SX_INVALID);
    assert_non_null(strstr(err.message, "lies between them"));
    o.dag->tensors[sx_dag_find(o.dag, "c")].typed = false;
    assert_int_equal(
        sx_stage_write(o.model, o.dag, (uint32_t[]){3}, 1, stage_file, SX_STAGE_COPY, &err),
        SX_INVALID);
    assert_non_null(strstr(err.message, "type of 'c' is not known"));
    sx_dag_join(o.dag, 2, 3);
    assert_int_equal(sx_dag_close_groups(o.dag), SX_OK);
    assert_int_equal(
        sx_stage_write(o.model, o.dag, (uint32_t[]){3}, 1, stage_file, SX_STAGE_COPY, &err),
        SX_INVALID);
    assert_non_null(strstr(err.message, "must be in the same stage"));
    assert_int_equal(access(stage_file, F_OK), -1);

    snprintf(path, sizeof(path), "%s/missing/stage.onnx", dir);
    assert_int_equal(sx_stage_write(o.model, o.dag, (uint32_t[]){0}, 1, path, SX_STAGE_COPY, &err),
                     SX_NOT_FOUND);
    snprintf(path, sizeof(path), "%s/directory", dir); /* what is there stays, and no more comes */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(sx_stage_write(o.model, o.dag, (uint32_t[]){0}, 1, path, SX_STAGE_COPY, &err),
                     SX_IO);
    assert_int_equal(rmdir(path), 0);
    /* over the model itself, which is mapped while we write */
    assert_int_equal(sx_stage_write(o.model, o.dag, (uint32_t[]){0}, 1, file, SX_STAGE_COPY, &err),
                     SX_OK);
    struct sx_onnx *m = open_model(file);
    assert_stage(m, "x", "Neg,Exp,Mul", "w", "a");
    sx_onnx_close(m);
    uint32_t *in, *out;
    size_t n_in, n_out;
    assert_int_equal(sx_stage_ports(o.dag, (uint32_t[]){4}, 1, &in, &n_in, &out, &n_out),
                     SX_INVALID);
    closed(&o);

    size_t left = 0; /* in the directory, hidden ones, too */
    DIR *entries = opendir(dir);
    for (const struct dirent *e; (e = readdir(entries));)
        left += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(entries);
    assert_int_equal(left, 1); /* the model */
}

/* --- weights outside ------------------------------------------------------------------------- */

static void make_external(struct mk *mk)
{
    char path[96];
    unsigned char bytes[8192];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7 % 251);
    snprintf(path, sizeof(path), "%s/w.bin", dir);
    mk_put(path, bytes, sizeof(bytes));
    mk_begin(mk, 8);
    mk_input(mk, "x", MK_FLOAT, "-1,-1,4");
    static const char *const offsets[] = {"0", "4096", "100"};
    static const char *const dims[] = {"1024", "256", "4"}, *const names[] = {"w0", "w1", "w2"};
    for (size_t i = 0; i < 3; i++) {
        Onnx__TensorProto *t = mk_constant(mk, names[i], MK_FLOAT, dims[i], NULL, 0);
        mk_external(mk, t, "location", "w.bin");
        mk_external(mk, t, "offset", offsets[i]);
    }
    mk_constant(mk, "inside", MK_FLOAT, "1024", numbers, 4096);
    mk_constant(mk, "small", MK_FLOAT, "4", numbers, 16);
    Onnx__NodeProto *c = mk_node(mk, "Constant", "", "c");
    Onnx__TensorProto *t = mk_attribute(mk, c, "value", 4)->t =
        mk_tensor(mk, "", MK_FLOAT, "2", NULL, 0);
    mk_external(mk, t, "location", "w.bin");
    mk_external(mk, t, "offset", "8");
    mk_node(mk, "Sum", "x,w0,w2", "a");
    mk_node(mk, "Sum", "a,w1,inside,small,c", "b");
    Onnx__NodeProto *n = mk_node(mk, "If", "b", "y");
    Onnx__GraphProto *g = mk_body(mk, n, "then_branch");
    t = mk_tensor(mk, "k", MK_FLOAT, "2", NULL, 0);
    MK_PUSH(mk, g->initializer, g->n_initializer, t);
    mk_external(mk, t, "location", "w.bin");
    mk_node_in(mk, g, "Relu", "k", "o");
    mk_body_output(mk, g, "o", 0);
    mk_output(mk, "y", MK_FLOAT, "-1,-1,4");
}

static void assert_raw(const Onnx__TensorProto *t, size_t first, size_t n)
{
    assert_int_equal(t->data_location, ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT);
    assert_int_equal(t->n_external_data, 0);
    assert_int_equal(t->raw_data.len, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(t->raw_data.data[i], (first + i) * 7 % 251);
}

static void assert_beside(const struct sx_onnx_initializer *i, const char *data, size_t size,
                          size_t first, bool counted)
{
    assert_true(i->external);
    assert_string_equal(i->location, "stage.weights");
    assert_int_equal(i->offset % 64, 0);
    assert_true(i->offset + i->nbytes <= size);
    for (size_t k = 0; counted && k < i->nbytes; k++)
        assert_int_equal((unsigned char)data[i->offset + k], (first + k) * 7 % 251);
    if (!counted)
        assert_memory_equal(data + i->offset, numbers, i->nbytes);
}

static void test_external(void **state)
{
    (void)state;
    struct mk mk;
    struct sx_err err = {0};
    const struct sx_onnx_initializer *init;
    char path[96];
    make_external(&mk);
    struct opened o = built(&mk);
    set_types(o.dag);
    assert_int_equal(o.dag->n_nodes, 3);
    assert_int_equal(o.dag->nodes[0].weight_bytes, 4096 + 16);
    assert_int_equal(o.dag->nodes[1].weight_bytes, 1024 + 4096 + 16 + 8);
    assert_int_equal(o.dag->nodes[2].weight_bytes, 8);

    struct sx_onnx *m = written(&o, (uint32_t[]){0, 1, 2}, 3, SX_STAGE_REFER);
    assert_int_equal(sx_onnx_initializers(m, &init), 5);
    assert_true(init[1].external);
    assert_string_equal(init[1].location, "w.bin");
    assert_int_equal(init[1].offset, 4096);
    sx_onnx_close(m);
    snprintf(path, sizeof(path), "%s/elsewhere", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    strcat(path, "/stage.onnx");
    assert_int_equal(sx_stage_write(o.model, o.dag, (uint32_t[]){0}, 1, path, SX_STAGE_REFER, &err),
                     SX_INVALID);
    assert_non_null(strstr(err.message, "would not find the weights"));

    /* copied: nothing refers to the old file any more */
    assert_int_equal(
        sx_stage_write(o.model, o.dag, (uint32_t[]){0, 1, 2}, 3, path, SX_STAGE_COPY, &err), SX_OK);
    m = open_model(path);
    const Onnx__GraphProto *g = m->proto->graph;
    assert_false(sx_onnx_has_external(m));
    assert_raw(g->initializer[0], 0, 4096);
    assert_raw(g->initializer[1], 4096, 1024);
    assert_raw(g->initializer[2], 100, 16);
    assert_raw(g->node[0]->attribute[0]->t, 8, 8);
    assert_raw(g->node[3]->attribute[0]->g->initializer[0], 0, 8);
    sx_onnx_close(m);

    /* over the limit: the large ones go beside the file, bodies' stay inside */
    assert_int_equal(sx_stage_write_limit(o.model, o.dag, (uint32_t[]){0, 1, 2}, 3, stage_file,
                                          SX_STAGE_COPY, 4096, &err),
                     SX_OK);
    m = open_model(stage_file);
    g = m->proto->graph;
    char *data;
    size_t size;
    assert_int_equal(sx_file_read(weights_file, 0, &data, &size, NULL), SX_OK);
    assert_int_equal(sx_onnx_initializers(m, &init), 5);
    assert_beside(&init[0], data, size, 0, true);
    assert_beside(&init[1], data, size, 4096, true);
    assert_beside(&init[3], data, size, 0, false);
    assert_raw(g->initializer[2], 100, 16);
    assert_memory_equal(g->initializer[4]->raw_data.data, numbers, 16);
    assert_raw(g->node[0]->attribute[0]->t, 8, 8);
    free(data);
    sx_onnx_close(m);
    unlink(weights_file);

    /* a stage within the limit has no such file; one that cannot be written leaves none */
    assert_int_equal(sx_stage_write_limit(o.model, o.dag, (uint32_t[]){0}, 1, stage_file,
                                          SX_STAGE_COPY, 4112, &err),
                     SX_OK);
    assert_int_equal(access(weights_file, F_OK), -1);
    unlink(stage_file);
    assert_int_equal(mkdir(stage_file, 0700), 0);
    assert_int_equal(sx_stage_write_limit(o.model, o.dag, (uint32_t[]){0}, 1, stage_file,
                                          SX_STAGE_COPY, 100, &err),
                     SX_IO);
    assert_int_equal(access(weights_file, F_OK), -1);
    assert_int_equal(rmdir(stage_file), 0);

    /* the file has become shorter since the model was opened */
    snprintf(path, sizeof(path), "%s/w.bin", dir);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_not_equal(
        sx_stage_write(o.model, o.dag, (uint32_t[]){0}, 1, stage_file, SX_STAGE_COPY, &err), SX_OK);
    assert_int_equal(access(stage_file, F_OK), -1);
    closed(&o);
}

/* Weights of 3 GiB are no trouble where they are, and cannot be in one file. */
static void test_too_large(void **state)
{
    (void)state;
    struct mk mk;
    struct sx_err err = {0};
    char path[96];
    snprintf(path, sizeof(path), "%s/large.bin", dir); /* sparse: takes no space */
    mk_put(path, "", 0);
    assert_int_equal(truncate(path, (off_t)3 << 30), 0);
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,-1,4");
    Onnx__TensorProto *t = mk_constant(&mk, "w", MK_FLOAT, "805306368", NULL, 0);
    mk_external(&mk, t, "location", "large.bin");
    mk_node(&mk, "Add", "x,w", "y");
    mk_output(&mk, "y", 0, NULL);
    struct opened o = built(&mk);
    assert_true(o.dag->nodes[0].weight_bytes == (uint64_t)3 << 30);
    struct sx_onnx *m = written(&o, (uint32_t[]){0}, 1, SX_STAGE_REFER);
    assert_true(sx_onnx_has_external(m));
    sx_onnx_close(m);
    unlink(stage_file);
    assert_int_equal(sx_stage_write_limit(o.model, o.dag, (uint32_t[]){0}, 1, stage_file,
                                          SX_STAGE_COPY, UINT64_MAX, &err),
                     SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "over 2 GiB"));
    assert_int_equal(access(stage_file, F_OK), -1);
    closed(&o);
    unlink(path);
}

/* --- the probe ------------------------------------------------------------------------------- */

static void test_probe(void **state)
{
    (void)state;
    struct mk mk;
    make_model(&mk);
    mk_output(&mk, "y", MK_FLOAT, "-1,-1,4"); /* once more */
    mk_input(&mk, "h", MK_FLOAT, "-1,-1,4");
    mk_node(&mk, "Relu", "h", "z");
    mk_output(&mk, "z", 0, NULL);
    Onnx__TypeProto__Tensor *h = mk.graph->input[3]->type->tensor_type;
    h->shape->dim[0]->dim_param = mk_text(&mk, "m");
    h->shape->dim[1]->dim_param = mk_text(&mk, "other");
    Onnx__TypeProto__Tensor *x = mk.graph->input[0]->type->tensor_type;
    x->shape->dim[1]->dim_param = mk_text(&mk, "m"); /* which is h's batch */
    struct opened o = built(&mk);
    struct sx_err err = {0};
    if (sx_stage_write_probe(o.model, o.dag, 3, 7, stage_file, &err))
        fail_msg("%s", err.message);
    struct sx_onnx *m = open_model(stage_file);
    assert_stage(m, "x,flag,h", "Neg,Exp,Mul,Add,If,Sub,Relu", "w,v,unused", "y,b,z,a,c");
    const struct sx_onnx_value *v;
    assert_int_equal(sx_onnx_inputs(m, &v), 3);
    assert_memory_equal(v[0].dims, ((int64_t[]){3, 3, 4}), 3 * sizeof(int64_t));
    assert_int_equal(v[1].rank, 0);
    assert_memory_equal(v[2].dims, ((int64_t[]){3, 7, 4}), 3 * sizeof(int64_t));
    assert_int_equal(sx_onnx_outputs(m, &v), 5);
    assert_int_equal(v[0].onnx_type, MK_FLOAT);
    assert_false(v[0].has_shape || v[3].has_shape);
    for (size_t i = 0; i < m->proto->graph->n_value_info; i++)
        assert_null(m->proto->graph->value_info[i]->type->tensor_type->shape);
    assert_int_equal(sx_onnx_ir_version(m), 4);
    sx_onnx_close(m);
    closed(&o);
}

/* --- random models --------------------------------------------------------------------------- */

/* Cut along random labels that never decrease: every piece opens, has the ports that it was asked
 * for, and together they have every operator. */
static void test_random(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned cut = 0;
    sx_rng_init(&rng, 3);
    for (int round = 0; round < 150; round++) {
        struct mk mk;
        uint32_t n = 3 + (uint32_t)sx_rng_below(&rng, 12), label[16], total = 0;
        mk_begin(&mk, 8);
        mk_input(&mk, "x", MK_FLOAT, "-1,-1,4");
        mk_constant(&mk, "w", MK_FLOAT, "4", numbers, 16);
        for (uint32_t v = 0; v < n; v++) {
            char in[128] = "", out[16];
            for (uint64_t k = sx_rng_below(&rng, 3); v && k--;)
                snprintf(in + strlen(in), sizeof(in) - strlen(in), "t%u,",
                         (unsigned)sx_rng_below(&rng, v));
            strcat(in, !*in && !sx_rng_below(&rng, 4) ? "w" : "x"); /* some are constant */
            snprintf(out, sizeof(out), "t%u", v);
            mk_node(&mk, "Sum", in, out);
            if (v == n - 1 || !sx_rng_below(&rng, 5))
                mk_output(&mk, out, 0, NULL);
        }
        struct opened o = built(&mk);
        const struct sx_dag *d = o.dag;
        set_types(o.dag);
        for (uint32_t v = 0; v < d->n_nodes; v++) {
            label[v] = v > d->n_nodes / 2 && sx_rng_below(&rng, 2);
            for (uint32_t k = 0; k < d->nodes[v].n_in; k++) {
                uint32_t p = d->tensors[d->ins[d->nodes[v].first_in + k]].producer;
                if (p != SX_DAG_NONE && label[p] > label[v])
                    label[v] = label[p];
            }
            if (label[v] < 2 && !sx_rng_below(&rng, 5))
                label[v]++;
        }
        for (uint32_t s = 0; s < 3; s++) {
            uint32_t nodes[16], *in, *out;
            size_t k = 0, n_in, n_out;
            for (uint32_t v = 0; v < d->n_nodes; v++)
                if (label[v] == s)
                    nodes[k++] = v;
            if (!k)
                continue;
            struct sx_onnx *m = written(&o, nodes, k, SX_STAGE_COPY);
            const Onnx__GraphProto *g = m->proto->graph;
            assert_int_equal(sx_stage_ports(d, nodes, k, &in, &n_in, &out, &n_out), SX_OK);
            assert_int_equal(g->n_input, n_in);
            assert_int_equal(g->n_output, n_out);
            assert_true(n_out > 0);
            for (size_t i = 0; i < n_in; i++)
                assert_string_equal(g->input[i]->name, d->tensors[in[i]].name);
            for (size_t i = 0; i < n_out; i++)
                assert_string_equal(g->output[i]->name, d->tensors[out[i]].name);
            /* nothing is there for nothing: each operator is ours or has a reader here */
            for (size_t i = 0; i < g->n_node; i++) {
                bool needed = false;
                for (size_t j = 0; j < k; j++)
                    needed |= !strcmp(
                        g->node[i]->output[0],
                        o.model->proto->graph->node[d->nodes[nodes[j]].onnx_index]->output[0]);
                for (size_t j = 0; j < g->n_node; j++)
                    for (size_t r = 0; r < g->node[j]->n_input; r++)
                        needed |= !strcmp(g->node[i]->output[0], g->node[j]->input[r]);
                assert_true(needed);
            }
            total += (uint32_t)k;
            cut += n_in > 1;
            free(in);
            sx_onnx_close(m);
        }
        assert_int_equal(total, d->n_nodes);
        closed(&o);
    }
    print_message("# %u pieces read several tensors\n", cut);
    assert_true(cut > 100);
}

/* Change random bytes: whatever still opens can be cut or is refused, and what was written opens.
 */
static void test_mutated(void **state)
{
    (void)state;
    struct mk mk;
    struct sx_rng rng;
    size_t size, cut = 0, probed = 0;
    sx_rng_init(&rng, 8);
    make_model(&mk);
    const unsigned char *bytes = mk_bytes(&mk, &size);
    unsigned char *copy = mk_alloc(&mk, size);
    for (int round = 0; round < 1000; round++) {
        struct opened o = {0};
        uint32_t nodes[16];
        char *text = NULL;
        memcpy(copy, bytes, size);
        for (uint64_t k = 1 + sx_rng_below(&rng, 3); k--;)
            copy[sx_rng_below(&rng, size)] = (unsigned char)sx_rng_u64(&rng);
        mk_put(file, copy, size);
        if (sx_onnx_open(file, &o.model, NULL))
            continue;
        assert_int_equal(sx_dag_build(o.model, &o.dag, NULL), SX_OK);
        set_types(o.dag);
        assert_int_equal(sx_dag_dot(o.dag, NULL, NULL, &text, NULL), SX_OK);
        free(text);
        assert_true(o.dag->n_nodes < 16);
        for (uint32_t v = 0; v < o.dag->n_nodes; v++)
            nodes[v] = v;
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t middle = o.dag->n_nodes / 2, n = half ? o.dag->n_nodes - middle : middle;
            if (!sx_stage_write(o.model, o.dag, nodes + (half ? middle : 0), n, stage_file,
                                SX_STAGE_COPY, NULL)) {
                sx_onnx_close(open_model(stage_file));
                cut++;
            }
        }
        if (!sx_stage_write_probe(o.model, o.dag, 1, 2, stage_file, NULL)) {
            sx_onnx_close(open_model(stage_file));
            probed++;
        }
        closed(&o);
    }
    mk_end(&mk);
    print_message("# %zu stages and %zu probes written\n", cut, probed);
    assert_true(cut > 100 && probed > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_external), cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_probe),    cmocka_unit_test(test_random),
        cmocka_unit_test(test_mutated),
    };
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
