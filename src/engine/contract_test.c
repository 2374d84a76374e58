/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * contract_test.c - what engine.h promises, for every engine.
 *
 * Each test runs against both.  The models mean the same to both: `affine` is y = 2x + 1 on
 * FP32 [-1,4], `scalar` the same on a scalar, `strings` repeats BYTES [-1], `pair` has two
 * outputs.  What only one engine has is tested further down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/engine_test.h"

/* --- models -------------------------------------------------------------------------- */

static void affine_nodes(struct mk *mk)
{
    static const float two = 2, one = 1;
    mk_constant(mk, "two", MK_FLOAT, "", &two, sizeof(two));
    mk_constant(mk, "one", MK_FLOAT, "", &one, sizeof(one));
    mk_node(mk, "Mul", "x,two", "t");
    mk_node(mk, "Add", "t,one", "y");
}

static void make_models(void)
{
    struct mk mk;

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    affine_nodes(&mk);
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    put_onnx(&mk, "affine");
    put_fake("affine", "# the same\ninput x FP32 -1 4\noutput y FP32 -1 4\n");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "");
    affine_nodes(&mk);
    mk_output(&mk, "y", MK_FLOAT, "");
    put_onnx(&mk, "scalar");
    put_fake("scalar", "input x FP32\noutput y FP32\n");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_STRING, "-1");
    mk_node(&mk, "Identity", "x", "y");
    mk_output(&mk, "y", MK_STRING, "-1");
    put_onnx(&mk, "strings");
    put_fake("strings", "input x BYTES -1\noutput y BYTES -1\n");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk_input(&mk, "s", MK_FLOAT, "-1,2");
    affine_nodes(&mk);
    mk_node(&mk, "Mul", "s,two", "u");
    mk_node(&mk, "Add", "u,one", "z");
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    mk_output(&mk, "z", MK_FLOAT, "-1,2");
    put_onnx(&mk, "pair");
    put_fake("pair", "input x FP32 -1 4\ninput s FP32 -1 2\noutput y FP32 -1 4\n"
                     "output z FP32 -1 2\n");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk.graph->input[0]->type->tensor_type->shape->dim[0]->dim_param = mk_text(&mk, "images");
    mk_node(&mk, "NonZero", "x", "i");
    mk_node(&mk, "Transpose", "i", "y");
    mk_output(&mk, "y", MK_INT64, "-1,2");
    mk.graph->output[0]->type->tensor_type->shape->dim[0]->dim_param = mk_text(&mk, "found");
    put_onnx(&mk, "named");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk.graph->input[0]->type->tensor_type->shape->dim[0]->dim_param = mk_text(&mk, "unk__6");
    affine_nodes(&mk);
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    mk.graph->output[0]->type->tensor_type->shape->dim[0]->dim_param =
        mk_text(&mk, "Addoutput_dim_0");
    put_onnx(&mk, "exported");

    mk_begin(&mk, 8); /* ONNX Runtime hands the caller's own input back */
    mk_input(&mk, "x", MK_FLOAT, "-1,4");
    mk_node(&mk, "Relu", "x", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,4");
    mk_output(&mk, "x", MK_FLOAT, "-1,4");
    put_onnx(&mk, "through");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_INT64, "2");
    Onnx__NodeProto *n = mk_node(&mk, "ConstantOfShape", "x", "y");
    (void)n;
    mk_output(&mk, "y", MK_FLOAT, NULL);
    put_onnx(&mk, "shaped");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_node(&mk, "SequenceConstruct", "x", "y");
    mk_output(&mk, "y", 0, NULL);
    put_onnx(&mk, "sequence");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_node(&mk, "NoSuchOperator", "x", "y");
    mk_output(&mk, "y", MK_FLOAT, "4");
    put_onnx(&mk, "unknown");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", 14, "4");
    mk_node(&mk, "Identity", "x", "y");
    mk_output(&mk, "y", 14, "4");
    put_onnx(&mk, "complex");
}

/* y = x @ w + b, weights of 2 MiB, as IR version 3 has them if `ir` is 3. */
static void make_heavy(const char *name, int ir)
{
    enum { N = 724 };
    static float w[N * N], b[N];
    struct mk mk;
    for (int i = 0; i < N * N; i++)
        w[i] = (float)((i * 37 + i / N * 11) % 101) / 101 - 0.5f;
    for (int i = 0; i < N; i++)
        b[i] = (float)i / N;
    mk_begin(&mk, ir);
    mk_input(&mk, "x", MK_FLOAT, "-1,724");
    if (ir == 3) {
        mk_input(&mk, "w", MK_FLOAT, "724,724");
        mk_input(&mk, "b", MK_FLOAT, "724");
    }
    mk_constant(&mk, "w", MK_FLOAT, "724,724", w, sizeof(w));
    mk_constant(&mk, "b", MK_FLOAT, "724", b, sizeof(b));
    mk_node(&mk, "MatMul", "x,w", "t");
    mk_node(&mk, "Add", "t,b", "u");
    mk_node(&mk, "Relu", "u", "y");
    mk_output(&mk, "y", MK_FLOAT, "-1,724");
    put_onnx(&mk, name);
}

/* --- helpers ------------------------------------------------------------------------- */

static void assert_affine(const struct sx_tensor *y, const struct sx_tensor *x)
{
    assert_int_equal(y->dtype, SX_FP32);
    assert_int_equal(y->rank, x->rank);
    assert_memory_equal(y->dims, x->dims, (size_t)x->rank * sizeof(*x->dims));
    assert_int_equal(y->nbytes, x->nbytes);
    for (size_t i = 0; i < x->nbytes / 4; i++) {
        float a, b;
        memcpy(&a, x->data + 4 * i, 4);
        memcpy(&b, y->data + 4 * i, 4);
        assert_true(b == 2 * a + 1);
    }
}

static void run_refused(struct sx_session *s, const struct sx_tensor *in, enum sx_rc rc,
                        const char *words)
{
    struct sx_tensor out[2] = {{0}};
    struct sx_err err = {0};
    enum sx_rc got = sx_session_run(s, in, out, NULL, &err);
    if (got != rc || !strstr(err.message, words))
        fail_msg("expected %d '%s', got %d '%s'", rc, words, got, err.message);
    assert_int_equal(err.rc, rc);
    assert_null(out[0].buffer);
    assert_null(out[0].data);
}

/* --- the contract -------------------------------------------------------------------- */

static void test_ports(void **state)
{
    (void)state;
    const struct sx_port *p;
    struct sx_engine_model *m = open_at(engine, path_of("pair"));
    assert_int_equal(sx_engine_inputs(m, &p), 2);
    assert_string_equal(p[0].name, "x");
    assert_int_equal(p[0].dtype, SX_FP32);
    assert_int_equal(p[0].rank, 2);
    assert_int_equal(p[0].dims[0], -1);
    assert_int_equal(p[0].dims[1], 4);
    assert_false(p[0].optional);
    assert_string_equal(p[1].name, "s");
    assert_int_equal(sx_engine_outputs(m, &p), 2);
    assert_string_equal(p[1].name, "z");
    assert_int_equal(p[1].dims[1], 2);
    assert_string_equal(sx_engine_model_note(m), "");
    assert_true(strlen(sx_engine_version(engine)) > 3);
    sx_engine_model_settle(m);
    sx_engine_close_model(m);
    sx_engine_close_model(NULL);
}

static void test_run(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("affine"));
    for (unsigned width = 1; width <= 3; width++) {
        struct sx_session *s = session_of(m, width);
        for (int64_t n = 1; n < 6; n++) {
            const int64_t dims[] = {n, 4};
            struct sx_tensor x = floats(dims, 2, 0.5f), y = {0}, prepared = floats(dims, 2, 0);
            unsigned char *at = prepared.data;
            run_ok(s, &x, &y);
            assert_non_null(y.buffer);
            assert_affine(&y, &x);
            run_ok(s, &x, &prepared);
            assert_ptr_equal(prepared.data, at);
            assert_affine(&prepared, &x);
            sx_tensor_unref(&x); /* the result does not depend on the input */
            assert_true(((float *)y.data)[0] == 2);
            sx_tensor_unref(&y);
            sx_tensor_unref(&prepared);
        }
        sx_session_destroy(s);
    }
    struct sx_session *none = NULL;
    assert_int_equal(sx_session_create(m, 0, NULL, &none, NULL), SX_INVALID);
    sx_session_destroy(NULL);
    sx_engine_close_model(m);
}

static void test_outputs_outlive(void **state)
{
    (void)state;
    const int64_t dims[] = {2, 4};
    struct sx_engine_model *m = open_at(engine, path_of("affine"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(dims, 2, 1), y = {0};
    run_ok(s, &x, &y);
    sx_session_destroy(s);
    sx_engine_close_model(m);
    assert_affine(&y, &x);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
}

static void test_wrongly_prepared(void **state)
{
    (void)state;
    const int64_t three[] = {3, 4}, two[] = {2, 4};
    struct sx_engine_model *m = open_at(engine, path_of("affine"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(three, 2, 0), y = floats(two, 2, 0);
    assert_int_equal(sx_session_run(s, &x, &y, NULL, NULL), SX_ENGINE);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_some_prepared(void **state)
{
    (void)state;
    const int64_t dx[] = {3, 4}, ds[] = {3, 2};
    struct sx_engine_model *m = open_at(engine, path_of("pair"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor in[] = {floats(dx, 2, 0), floats(ds, 2, 100)};
    struct sx_tensor out[] = {{0}, floats(ds, 2, 0)};
    run_ok(s, in, out);
    assert_affine(&out[0], &in[0]);
    assert_affine(&out[1], &in[1]);
    for (int i = 0; i < 2; i++) {
        sx_tensor_unref(&in[i]);
        sx_tensor_unref(&out[i]);
    }
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_scalar_and_empty(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("scalar"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(NULL, 0, 20), y = {0};
    const struct sx_port *p;
    sx_engine_inputs(m, &p);
    assert_int_equal(p[0].rank, 0);
    run_ok(s, &x, &y);
    assert_int_equal(y.rank, 0);
    assert_affine(&y, &x);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(s);
    sx_engine_close_model(m);

    m = open_at(engine, path_of("affine"));
    s = session_of(m, 1);
    struct sx_tensor none = {.dtype = SX_FP32, .rank = 2, .dims = {0, 4}};
    run_ok(s, &none, &y);
    assert_int_equal(y.rank, 2);
    assert_int_equal(y.dims[0], 0);
    assert_int_equal(y.dims[1], 4);
    assert_int_equal(y.nbytes, 0);
    sx_tensor_unref(&y);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_strings(void **state)
{
    (void)state;
    static unsigned char data[] = {3, 0, 0, 0, 'a', 0,    'c',  0,   0,  0, 0,
                                   5, 0, 0, 0, 'h', 0xc3, 0xa9, 'l', 'o'}; /* a NUL; empty; UTF-8 */
    struct sx_engine_model *m = open_at(engine, path_of("strings"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor y = {0}, x = {.dtype = SX_BYTES,
                                   .rank = 1,
                                   .dims = {3},
                                   .data = data,
                                   .nbytes = sizeof(data)};
    run_ok(s, &x, &y);
    assert_true(sx_tensor_bytes_valid(&y));
    assert_true(sx_tensor_equal(&x, &y));
    sx_tensor_unref(&y);

    struct sx_tensor none = {.dtype = SX_BYTES, .rank = 1, .dims = {0}};
    run_ok(s, &none, &y);
    assert_int_equal(y.dims[0], 0);
    assert_int_equal(y.nbytes, 0);
    sx_tensor_unref(&y);

    x.nbytes--;
    run_refused(s, &x, SX_INVALID, "does not hold the strings");
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_wrong_inputs(void **state)
{
    (void)state;
    const int64_t good[] = {2, 4}, wide[] = {2, 5}, flat[] = {8};
    struct sx_engine_model *m = open_at(engine, path_of("affine"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(wide, 2, 0);
    run_refused(s, &x, SX_INVALID, "input 'x' has shape [2,5], expected [-1,4]");
    sx_tensor_unref(&x);
    x = floats(flat, 1, 0);
    run_refused(s, &x, SX_INVALID, "has shape [8]");
    sx_tensor_unref(&x);
    x = floats(good, 2, 0);
    x.dtype = SX_INT32;
    run_refused(s, &x, SX_INVALID, "input 'x' is INT32, expected FP32");
    x.dtype = SX_FP32;
    x.nbytes -= 4;
    run_refused(s, &x, SX_INVALID, "has 28 bytes");
    x.nbytes += 4;
    x.dims[0] = -2;
    run_refused(s, &x, SX_INVALID, "bytes");
    x.dims[0] = 2;
    struct sx_tensor missing = {0};
    run_refused(s, &missing, SX_INVALID, "input 'x' is missing");

    struct sx_tensor out = floats(wide, 2, 0);
    struct sx_err err = {0};
    assert_int_equal(sx_session_run(s, &x, &out, NULL, &err), SX_INVALID);
    sx_tensor_unref(&out);
    const int64_t other[] = {3, 4}; /* fits the port, not the result */
    out = floats(other, 2, 0);
    assert_int_not_equal(sx_session_run(s, &x, &out, NULL, &err), SX_OK);
    assert_int_equal(out.dims[0], 3);
    sx_tensor_unref(&out);

    struct sx_tensor y = {0}; /* and it still works */
    run_ok(s, &x, &y);
    assert_affine(&y, &x);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

struct runner {
    struct sx_session *session;
    float first;
    int bad;
};

static void *run_many(void *arg)
{
    struct runner *r = arg;
    for (int i = 0; i < 200; i++) {
        const int64_t dims[] = {1 + i % 3, 4};
        struct sx_tensor x = {0}, y = {0};
        if (sx_tensor_alloc(&x, pool, SX_FP32, dims, 2))
            return NULL;
        for (size_t k = 0; k < x.nbytes / 4; k++)
            ((float *)x.data)[k] = r->first + (float)(i + (int)k);
        if (sx_session_run(r->session, &x, &y, NULL, NULL))
            r->bad++;
        for (size_t k = 0; y.data && k < x.nbytes / 4; k++)
            if (((float *)y.data)[k] != 2 * ((float *)x.data)[k] + 1)
                r->bad++;
        sx_tensor_unref(&x);
        sx_tensor_unref(&y);
    }
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    struct sx_engine_model *m = open_at(engine, path_of("affine"));
    struct sx_session *s = session_of(m, 1);
    struct runner r[2] = {{s, 0, 0}, {s, 10000, 0}};
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, run_many, &r[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(r[i].bad, 0);
    }
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_missing_file(void **state)
{
    (void)state;
    open_refused("/nonexistent/x", SX_NOT_FOUND, "/nonexistent/x");
    char path[128];
    snprintf(path, sizeof(path), "%s/junk", dir);
    mk_put(path, "junk junk junk", 14);
    open_refused(path, SX_INVALID, "junk");
}

/* --- the fake only ------------------------------------------------------------------- */

static void test_fake_time(void **state)
{
    (void)state;
    const int64_t dims[] = {4, 4};
    struct sx_tensor x = floats(dims, 2, 0), y = {0};
    uint64_t ns = 0;

    put_fake("timed", "input x FP32 -1 4\noutput y FP32 -1 4\n"
                      "time base_us=600 per_sample_us=100 serial=0.2\n");
    struct sx_engine *e = engine_with("fake", NULL, true);
    struct sx_engine_model *m = open_at(e, path_of("timed"));
    struct sx_session *one = session_of(m, 1), *two = session_of(m, 2);
    assert_int_equal(sx_session_run(one, &x, &y, &ns, NULL), SX_OK);
    assert_int_equal(ns, 1000000);
    sx_tensor_unref(&y);
    assert_int_equal(sx_session_run(two, &x, &y, &ns, NULL), SX_OK);
    assert_int_equal(ns, 600000); /* 0.2 + 0.8 / 2 */
    sx_tensor_unref(&y);
    sx_session_destroy(one);
    sx_session_destroy(two);
    sx_engine_close_model(m);
    sx_engine_destroy(e);

    m = open_at(engine, path_of("timed"));
    one = session_of(m, 1);
    uint64_t begin = sx_now();
    assert_int_equal(sx_session_run(one, &x, &y, &ns, NULL), SX_OK);
    assert_true(sx_now() - begin >= 1000000);
    assert_int_equal(ns, 0);
    sx_tensor_unref(&x);
    sx_tensor_unref(&y);
    sx_session_destroy(one);
    sx_engine_close_model(m);
}

static void test_fake_samples(void **state)
{
    (void)state;
    const int64_t dims[] = {2, 3};
    put_fake("mixed", "input x FP32 -1 3\noutput s INT64 -1 2 sum\noutput l INT32 -1 4\n");
    struct sx_engine_model *m = open_at(engine, path_of("mixed"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(dims, 2, 1), out[2] = {{0}, {0}}; /* 1 2 3 | 4 5 6 */
    run_ok(s, &x, out);
    static const int64_t sums[] = {14, 14, 32, 32}; /* 1*1 + 2*2 + 3*3 */
    static const int32_t line[] = {3, 5, 7, 3, 9, 11, 13, 9};
    assert_memory_equal(out[0].data, sums, sizeof(sums));
    assert_memory_equal(out[1].data, line, sizeof(line));
    sx_tensor_unref(&x);
    sx_tensor_unref(&out[0]);
    sx_tensor_unref(&out[1]);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_fake_failures(void **state)
{
    (void)state;
    const int64_t dims[] = {1, 4};
    put_fake("fails", "input x FP32 -1 4\noutput y FP32 -1 4\nfail nth=2 value=13\n");
    struct sx_engine_model *m = open_at(engine, path_of("fails"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(dims, 2, 0), y = {0};
    run_ok(s, &x, &y);
    sx_tensor_unref(&y);
    run_refused(s, &x, SX_ENGINE, "run 2 fails");
    run_ok(s, &x, &y);
    sx_tensor_unref(&y);
    ((float *)x.data)[3] = 13;
    run_refused(s, &x, SX_ENGINE, "value 13 fails");
    sx_tensor_unref(&x);
    sx_session_destroy(s);
    sx_engine_close_model(m);

    put_fake("no", "input x FP32\noutput y FP32\nfail open\n");
    open_refused(path_of("no"), SX_ENGINE, "cannot be opened");
    put_fake("no", "input x FP32\noutput y FP32\nfail session\n");
    m = open_at(engine, path_of("no"));
    assert_int_equal(sx_session_create(m, 1, NULL, &s, NULL), SX_ENGINE);
    sx_engine_close_model(m);
}

static void test_fake_bad_files(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "input",
        "input x",
        "input x FLOAT",
        "input x FP32 -2",
        "input x FP32 a",
        "hello world",
        "input x FP32\noutput y BYTES",
        "input x FP16\noutput y FP16",
        "input x FP32",
        "output y FP32",
        "",
        "time base_us",
        "time base_us=x",
        "time speed=1",
        "fail nth=0",
        "input x FP32\noutput y FP32\ntime serial=2",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put_fake("bad", bad[i]);
        open_refused(path_of("bad"), SX_INVALID, "bad.fake");
    }
}

/* --- ONNX Runtime only --------------------------------------------------------------- */

static void test_ort_library(void **state)
{
    (void)state;
    struct sx_engine *e = NULL;
    struct sx_err err = {0};
    struct sx_engine_config config = {.name = "ort", .library = "/nonexistent/libonnxruntime.so"};
    assert_int_equal(sx_engine_create(&config, &e, &err), SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/libonnxruntime.so"));
    assert_non_null(strstr(err.hint, "libonnxruntime.so"));
    config.library = "libm.so.6";
    assert_int_equal(sx_engine_create(&config, &e, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "is not ONNX Runtime"));
    config.name = "magic";
    assert_int_equal(sx_engine_create(&config, &e, &err), SX_INVALID);
    assert_null(e);
    assert_string_equal(getenv("ORT_DISABLE_TELEMETRY"), "1");
}

static void test_ort_refuses(void **state)
{
    (void)state;
    open_refused(path_of("sequence"), SX_UNSUPPORTED, "output 'y' is a sequence");
    open_refused(path_of("complex"), SX_UNSUPPORTED, "ONNX type 14");
    struct sx_engine_model *m = NULL;
    struct sx_err err = {0};
    assert_int_not_equal(sx_engine_open_model(engine, path_of("unknown"), &m, &err), SX_OK);
    assert_non_null(strstr(err.message, "NoSuchOperator"));
    assert_null(m);
}

static void test_ort_input_as_output(void **state)
{
    (void)state;
    const int64_t dims[] = {1, 4};
    struct sx_engine_model *m = open_at(engine, path_of("through"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor x = floats(dims, 2, 5), out[2] = {{0}, {0}};
    run_ok(s, &x, out);
    assert_ptr_not_equal(out[1].data, x.data);
    assert_true(sx_tensor_equal(&out[1], &x));
    assert_true(sx_tensor_equal(&out[0], &x));
    sx_tensor_unref(&x);
    sx_tensor_unref(&out[0]);
    sx_tensor_unref(&out[1]);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

static void test_ort_unknown_rank(void **state)
{
    (void)state;
    static int64_t shape[] = {2, 3}, negative[] = {2, -3};
    const struct sx_port *p;
    struct sx_engine_model *m = open_at(engine, path_of("shaped"));
    struct sx_session *s = session_of(m, 1);
    sx_engine_outputs(m, &p);
    assert_true(p[0].rank == -1 || p[0].rank == 2);
    struct sx_tensor y = {0}, x = {.dtype = SX_INT64,
                                   .rank = 1,
                                   .dims = {2},
                                   .data = (unsigned char *)shape,
                                   .nbytes = sizeof(shape)};
    run_ok(s, &x, &y);
    assert_int_equal(y.nbytes, 24);
    sx_tensor_unref(&y);
    x.data = (unsigned char *)negative;
    assert_int_not_equal(sx_session_run(s, &x, &y, NULL, NULL), SX_OK);
    assert_null(y.data);
    sx_session_destroy(s);
    sx_engine_close_model(m);
}

/* Whatever happens to weights, the numbers are those of a plain session. */
static void test_ort_prepared(void **state)
{
    (void)state;
    char cache[64], prepared[80];
    snprintf(cache, sizeof(cache), "%s/cache", dir);
    snprintf(prepared, sizeof(prepared), "%s/prepared", cache);
    make_heavy("heavy", 8);
    make_heavy("heavy3", 3);
    struct sx_engine *cached = engine_with("ort", cache, false);
    static const char *const names[] = {"heavy", "heavy3", "heavy", "heavy3"};
    const int64_t dims[] = {3, 724};
    struct sx_tensor x = floats(dims, 2, 0);
    for (size_t i = 0; i < x.nbytes / 4; i++)
        ((float *)x.data)[i] = (float)(i % 97) / 97;

    for (int i = 0; i < 4; i++) {
        struct sx_engine_model *plain = open_at(engine, path_of(names[i]));
        struct sx_engine_model *m = open_at(cached, path_of(names[i]));
        const struct sx_port *p;
        assert_string_equal(sx_engine_model_note(m), "");
        assert_int_equal(sx_engine_inputs(m, &p), 1);
        struct sx_session *s[3] = {session_of(plain, 1), session_of(m, 1), session_of(m, 2)};
        struct sx_tensor y[3] = {{0}, {0}, {0}};
        for (int round = 0; round < 2; round++) {
            for (int k = 0; k < 3; k++) {
                sx_tensor_unref(&y[k]);
                run_ok(s[k], &x, &y[k]);
                assert_true(sx_tensor_equal(&y[0], &y[k]));
            }
            sx_engine_model_settle(m);
        }
        for (int k = 0; k < 3; k++) {
            sx_session_destroy(s[k]);
            sx_tensor_unref(&y[k]);
        }
        sx_engine_close_model(m);
        sx_engine_close_model(plain);
        char **entries;
        size_t n;
        assert_int_equal(sx_dir_names(prepared, &entries, &n, NULL), SX_OK);
        assert_int_equal(n, i < 2 ? i + 1 : 2); /* and no leftovers */
        sx_names_free(entries, n);
    }

    /* a damaged entry is made again; one that cannot be made is done without */
    char **entries, path[256];
    size_t n;
    assert_int_equal(sx_dir_names(prepared, &entries, &n, NULL), SX_OK);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s/weights.bin", prepared, entries[i]);
        assert_int_equal(truncate(path, 100), 0);
    }
    sx_names_free(entries, n);
    struct sx_engine_model *m = open_at(cached, path_of("heavy"));
    assert_string_equal(sx_engine_model_note(m), "");
    sx_engine_close_model(m);
    sx_engine_destroy(cached);

    cached = engine_with("ort", "/dev/null/cache", false);
    m = open_at(cached, path_of("heavy3"));
    assert_non_null(strstr(sx_engine_model_note(m), "not prepared"));
    struct sx_session *s = session_of(m, 1);
    struct sx_tensor y = {0};
    run_ok(s, &x, &y);
    sx_tensor_unref(&y);
    sx_session_destroy(s);
    sx_engine_close_model(m);
    sx_engine_destroy(cached);
    sx_tensor_unref(&x);
}

/* Debian's library says "Schema error" over a thousand times: nobody may see that. */
static void test_ort_is_quiet(void **state)
{
    (void)state;
    char path[64], *text;
    size_t size;
    which = "ort";
    snprintf(path, sizeof(path), "%s/stderr", dir);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    FILE *f = fopen(path, "w");
    dup2(fileno(f), STDERR_FILENO);
    struct sx_engine *e = engine_with("ort", NULL, false);
    struct sx_engine_model *m = open_at(e, path_of("affine"));
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    fclose(f);
    sx_engine_close_model(m);
    sx_engine_destroy(e);
    assert_int_equal(sx_file_read(path, 0, &text, &size, NULL), SX_OK);
    assert_string_equal(text, "");
    free(text);
}

static void test_ort_names_of_dims(void **state)
{
    (void)state;
    const struct sx_port *p;
    struct sx_engine_model *m = open_at(engine, path_of("named"));
    sx_engine_inputs(m, &p);
    assert_string_equal(p[0].first_dim, "images");
    sx_engine_outputs(m, &p);
    assert_string_equal(p[0].first_dim, "found");
    sx_engine_close_model(m);
    m = open_at(engine, path_of("exported")); /* by a tool that had to call it something */
    sx_engine_inputs(m, &p);
    assert_string_equal(p[0].first_dim, "");
    sx_engine_outputs(m, &p);
    assert_string_equal(p[0].first_dim, "");
    sx_engine_close_model(m);
    m = open_at(engine, path_of("affine"));
    sx_engine_inputs(m, &p);
    assert_string_equal(p[0].first_dim, "n");
    sx_engine_close_model(m);
    m = open_at(engine, path_of("scalar"));
    sx_engine_inputs(m, &p);
    assert_string_equal(p[0].first_dim, "");
    sx_engine_close_model(m);
}

static int setup(void **state)
{
    (void)state;
    if (make_dir())
        return 1;
    make_models();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"ort: test_ort_is_quiet", test_ort_is_quiet, NULL, NULL, NULL}, /* first: it loads it */
        BOTH(test_ports),
        BOTH(test_run),
        BOTH(test_outputs_outlive),
        BOTH(test_some_prepared),
        BOTH(test_wrongly_prepared),
        BOTH(test_scalar_and_empty),
        BOTH(test_strings),
        BOTH(test_wrong_inputs),
        BOTH(test_two_threads),
        BOTH(test_missing_file),
        FAKE(test_fake_time),
        FAKE(test_fake_samples),
        FAKE(test_fake_failures),
        FAKE(test_fake_bad_files),
        ORT(test_ort_library),
        ORT(test_ort_refuses),
        ORT(test_ort_input_as_output),
        ORT(test_ort_names_of_dims),
        ORT(test_ort_unknown_rank),
        ORT(test_ort_prepared),
    };
    return cmocka_run_group_tests(tests, setup, drop_dir);
}
