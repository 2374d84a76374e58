/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* onnx_test.c - good files are described, hostile ones refused with the name of what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "base/rng.h"
#include "graph/model_test.h"
#include "graph/onnx.h"

#define ZOO "/usr/share/libonnx-testdata/data"

static char file[64];

static int setup(void **state)
{
    (void)state;
    return make_dir(file, sizeof file, "model.onnx");
}

static void refused(const char *path, enum sx_rc rc, const char *words)
{
    struct sx_onnx *m = NULL;
    struct sx_err err = {0};
    enum sx_rc got = sx_onnx_open(path, &m, &err);
    if (got != rc || !strstr(err.message, words))
        fail_msg("expected %d '%s', got %d '%s'", rc, words, got, err.message);
    assert_int_equal(err.rc, got);
    assert_null(m);
}

static struct sx_onnx *opened(const char *path)
{
    struct sx_onnx *m = NULL;
    struct sx_err err = {0};
    if (sx_onnx_open(path, &m, &err))
        fail_msg("%s", err.message);
    return m;
}

/* y = x * w + b, with w both an initializer and an input as in IR version 3. */
static void make_linear(struct mk *mk)
{
    static const float w[4] = {1, 2, 3, 4}, b[4] = {0};
    mk_begin(mk, 3);
    mk_input(mk, "x", MK_FLOAT, "-1,4");
    mk_input(mk, "w", MK_FLOAT, "4");
    mk_constant(mk, "w", MK_FLOAT, "4", w, sizeof(w));
    mk_constant(mk, "b", MK_FLOAT, "4", b, sizeof(b));
    mk_node(mk, "Mul", "x,w", "t");
    mk_node(mk, "Add", "t,b", "y");
    mk_node(mk, "Add", "y,b", "z");
    mk_output(mk, "y", MK_FLOAT, "-1,4");
    mk_output(mk, "z", 0, NULL);
}

static void test_describe(void **state)
{
    (void)state;
    struct mk mk;
    make_linear(&mk);
    mk_write(&mk, file);
    mk_end(&mk);

    struct sx_onnx *m = opened(dir); /* a directory with model.onnx */
    const struct sx_onnx_value *v;
    const struct sx_onnx_initializer *init;
    const struct sx_onnx_op_count *ops;
    assert_int_equal(sx_onnx_inputs(m, &v), 1);
    assert_string_equal(v[0].name, "x");
    assert_int_equal(v[0].kind, SX_ONNX_TENSOR);
    assert_int_equal(v[0].dtype, SX_FP32);
    assert_true(v[0].has_shape);
    assert_int_equal(v[0].rank, 2);
    assert_int_equal(v[0].dims[0], -1);
    assert_int_equal(v[0].dims[1], 4);
    assert_int_equal(sx_onnx_outputs(m, &v), 2);
    assert_int_equal(v[1].kind, SX_ONNX_UNTYPED);
    assert_int_equal(sx_onnx_initializers(m, &init), 2);
    assert_string_equal(init[0].name, "w");
    assert_int_equal(init[0].nbytes, 16);
    assert_int_equal(sx_onnx_ops(m, &ops), 2);
    assert_string_equal(ops[0].type, "Add");
    assert_int_equal(ops[0].count, 2);
    assert_int_equal(sx_onnx_node_count(m), 3);
    assert_int_equal(sx_onnx_ir_version(m), 3);
    assert_int_equal(sx_onnx_opset(m, ""), 13);
    assert_int_equal(sx_onnx_opset(m, "other"), 0);
    assert_int_equal(sx_onnx_parameters(m), 8);
    assert_int_equal(sx_onnx_overridable(m), 1);
    assert_false(sx_onnx_has_external(m));
    assert_string_equal(sx_onnx_dir(m), dir);

    char out[80], *bytes;
    size_t size;
    snprintf(out, sizeof(out), "%s/stripped.onnx", dir);
    assert_int_equal(sx_onnx_write_stripped(m, out, NULL), SX_OK);
    assert_int_equal(sx_onnx_stripped_bytes(m, &bytes, &size, NULL), SX_OK);
    char *read;
    size_t read_size;
    assert_int_equal(sx_file_read(out, 0, &read, &read_size, NULL), SX_OK);
    assert_int_equal(read_size, size);
    assert_memory_equal(read, bytes, size);
    free(read);
    free(bytes);
    struct sx_onnx *s = opened(out);
    assert_int_equal(sx_onnx_inputs(s, &v), 1);
    assert_int_equal(sx_onnx_overridable(s), 0);
    assert_int_equal(sx_onnx_ir_version(s), 4);
    assert_int_equal(sx_onnx_parameters(s), 8);
    sx_onnx_close(s);
    sx_onnx_close(m);
    sx_onnx_close(NULL);
}

static void test_missing(void **state)
{
    (void)state;
    refused("/nonexistent/model.onnx", SX_NOT_FOUND, "there is no file");
    refused("/dev/null", SX_INVALID, "is not a file");
    char text[80];
    snprintf(text, sizeof(text), "%s/text", dir);
    mk_put(text, "", 0);
    refused(text, SX_INVALID, "is empty");
    mk_put(text, "hello, this is not a model at all", 33);
    refused(text, SX_INVALID, "not an ONNX model");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    mk_put(text, lfs, sizeof(lfs) - 1);
    struct sx_onnx *m;
    struct sx_err err = {0};
    assert_int_equal(sx_onnx_open(text, &m, &err), SX_INVALID);
    assert_non_null(strstr(err.hint, "git lfs pull"));
    int fd = open(text, O_WRONLY | O_TRUNC | O_CLOEXEC); /* sparse: takes no space */
    assert_int_equal(ftruncate(fd, (off_t)3 << 30), 0);
    close(fd);
    refused(text, SX_UNSUPPORTED, "over 2 GiB");
    unlink(text);
}

/* Cut a model off at every byte: always an answer, never a crash. */
static void test_truncated(void **state)
{
    (void)state;
    struct mk mk;
    size_t size, refusals = 0;
    make_linear(&mk);
    const unsigned char *bytes = mk_bytes(&mk, &size);
    for (size_t n = 0; n < size; n++) {
        struct sx_onnx *m = NULL;
        struct sx_err err = {0};
        mk_put(file, bytes, n);
        if (sx_onnx_open(file, &m, &err)) {
            assert_int_equal(err.rc, SX_INVALID);
            refusals++;
        }
        sx_onnx_close(m);
    }
    assert_true(refusals > size / 2);
    mk_end(&mk);
}

/* Change random bytes: whatever opens must be describable. */
static void test_mutated(void **state)
{
    (void)state;
    struct mk mk;
    struct sx_rng rng;
    size_t size;
    sx_rng_init(&rng, 7);
    make_linear(&mk);
    const unsigned char *bytes = mk_bytes(&mk, &size);
    unsigned char *copy = mk_alloc(&mk, size);
    for (int round = 0; round < 3000; round++) {
        struct sx_onnx *m = NULL;
        memcpy(copy, bytes, size);
        for (uint64_t k = 1 + sx_rng_below(&rng, 4); k--;)
            copy[sx_rng_below(&rng, size)] = (unsigned char)sx_rng_u64(&rng);
        mk_put(file, copy, size);
        if (!sx_onnx_open(file, &m, NULL)) {
            char *stripped;
            size_t n;
            if (!sx_onnx_stripped_bytes(m, &stripped, &n, NULL))
                free(stripped);
        }
        sx_onnx_close(m);
    }
    mk_end(&mk);
}

static void write_refused(struct mk *mk, enum sx_rc rc, const char *words)
{
    mk_write(mk, file);
    mk_end(mk);
    refused(file, rc, words);
}

static void test_edges(void **state)
{
    (void)state;
    struct mk mk;

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1");
    mk_node(&mk, "Add", "x,ghost", "y");
    mk_output(&mk, "y", MK_FLOAT, "1");
    write_refused(&mk, SX_INVALID, "nothing produces 'ghost'");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1");
    mk_node(&mk, "Add", "x,b", "a");
    mk_node(&mk, "Add", "x,a", "b");
    mk_output(&mk, "b", MK_FLOAT, "1");
    write_refused(&mk, SX_INVALID, "has a cycle");

    mk_begin(&mk, 8); /* any order is fine as long as there is one */
    mk_input(&mk, "x", MK_FLOAT, "1");
    mk_node(&mk, "Relu", "a", "b");
    mk_node(&mk, "Relu", "x", "a");
    mk_output(&mk, "b", MK_FLOAT, "1");
    mk_write(&mk, file);
    mk_end(&mk);
    sx_onnx_close(opened(file));

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1");
    mk_node(&mk, "Relu", "x", "y");
    mk_node(&mk, "Relu", "x", "y");
    mk_output(&mk, "y", MK_FLOAT, "1");
    write_refused(&mk, SX_INVALID, "'y' is there twice");

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1");
    mk_output(&mk, "y", MK_FLOAT, "1");
    write_refused(&mk, SX_INVALID, "nothing produces 'y'");

    /* a body that uses what depends on the operator that it is the body of */
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1");
    Onnx__NodeProto *n = mk_node(&mk, "If", "x", "a");
    Onnx__AttributeProto *body = mk_attribute(&mk, n, "then_branch", 5);
    body->g = mk_graph(&mk, "body");
    mk_node_in(&mk, body->g, "Relu", "late", "inner");
    MK_PUSH(&mk, body->g->output, body->g->n_output, mk_value(&mk, "inner", 0, NULL));
    mk_node(&mk, "Relu", "a", "late");
    mk_output(&mk, "late", MK_FLOAT, "1");
    write_refused(&mk, SX_INVALID, "has a cycle");
}

static void test_constants(void **state)
{
    (void)state;
    static const float data[4] = {0};
    struct mk mk;
#define BEGIN()                                                                                    \
    mk_begin(&mk, 8);                                                                              \
    mk_input(&mk, "x", MK_FLOAT, "4");                                                             \
    mk_node(&mk, "Add", "x,w", "y");                                                               \
    mk_output(&mk, "y", MK_FLOAT, "4")
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "5", data, sizeof(data));
    write_refused(&mk, SX_INVALID, "initializer 'w' has 16 bytes, its shape needs 20");
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "4", NULL, 0);
    write_refused(&mk, SX_INVALID, "does not have the 4 values");
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "-4", data, sizeof(data));
    write_refused(&mk, SX_INVALID, "impossible shape");
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "4611686018427387904,16", data, sizeof(data));
    write_refused(&mk, SX_INVALID, "impossible shape");
    BEGIN();
    mk_constant(&mk, "w", 99, "4", data, sizeof(data));
    write_refused(&mk, SX_INVALID, "unknown type 99");
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "4", data, sizeof(data));
    mk_constant(&mk, "w", MK_FLOAT, "4", data, sizeof(data));
    write_refused(&mk, SX_INVALID, "'w' is there twice");
}

static void external(const char *location, const char *offset, const char *length, enum sx_rc rc,
                     const char *words)
{
    struct mk mk;
    BEGIN();
    Onnx__TensorProto *t = mk_constant(&mk, "w", MK_FLOAT, "4", NULL, 0);
    mk_external(&mk, t, "location", location);
    if (offset)
        mk_external(&mk, t, "offset", offset);
    if (length)
        mk_external(&mk, t, "length", length);
    mk_write(&mk, file);
    mk_end(&mk);
    if (rc) {
        refused(file, rc, words);
        return;
    }
    struct sx_onnx *m = opened(file);
    const struct sx_onnx_initializer *init;
    assert_int_equal(sx_onnx_initializers(m, &init), 1);
    assert_true(init[0].external && sx_onnx_has_external(m));
    assert_string_equal(init[0].location, location);
    assert_int_equal(sx_onnx_write_stripped(m, file, NULL), SX_UNSUPPORTED);
    sx_onnx_close(m);
}

static void test_external(void **state)
{
    (void)state;
    char path[80];
    snprintf(path, sizeof(path), "%s/w.bin", dir);
    mk_put(path, "0123456789abcdef0123", 20);
    external("w.bin", NULL, NULL, SX_OK, "");
    external("w.bin", "4", "16", SX_OK, "");
    external("w.bin", "5", NULL, SX_INVALID, "which has 20");
    external("w.bin", "18446744073709551615", NULL, SX_INVALID, "is not a number");
    external("w.bin", "9000000000000000000", NULL, SX_INVALID, "which has 20");
    external("w.bin", "-1", NULL, SX_INVALID, "is not a number");
    external("w.bin", "0", "12", SX_INVALID, "12 bytes of external data, its shape needs 16");
    external("missing.bin", NULL, NULL, SX_NOT_FOUND, "is missing");
    external("/etc/passwd", NULL, NULL, SX_INVALID, "outside the model's directory");
    external("../w.bin", NULL, NULL, SX_INVALID, "outside the model's directory");
    external("a/../../w.bin", NULL, NULL, SX_INVALID, "outside the model's directory");
    external("a/..", NULL, NULL, SX_INVALID, "outside the model's directory");
    external("", NULL, NULL, SX_INVALID, "outside the model's directory");
    external("*/_ORT_MEM_ADDR_/*", "4096", NULL, SX_NOT_FOUND, "is missing");
    unlink(path);
}

/* A function's nodes hide a tensor, at the depth of a body; its file is checked like any other. */
static void in_function(const char *location, enum sx_rc rc, const char *words)
{
    struct mk mk;
    BEGIN();
    mk_constant(&mk, "w", MK_FLOAT, "4", (const float[4]){0}, 16);
    Onnx__GraphProto *nodes = mk_graph(&mk, "nodes");
    Onnx__NodeProto *branch = mk_node_in(&mk, nodes, "If", "a", "c");
    Onnx__GraphProto *then = mk_body(&mk, branch, "then_branch");
    Onnx__TensorProto *t = mk_tensor(&mk, "w", MK_FLOAT, "4", NULL, 0);
    mk_external(&mk, t, "location", location);
    MK_PUSH(&mk, then->initializer, then->n_initializer, t);
    mk_function(&mk, "hides", nodes);
    mk_write(&mk, file);
    mk_end(&mk);
    if (rc)
        refused(file, rc, words);
    else
        sx_onnx_close(opened(file));
}

static void test_external_in_function(void **state)
{
    (void)state;
    char path[80];
    snprintf(path, sizeof(path), "%s/w.bin", dir);
    mk_put(path, "0123456789abcdef0123", 20);
    in_function("w.bin", SX_OK, "");
    in_function("missing.bin", SX_NOT_FOUND, "is missing");
    in_function("../../secret", SX_INVALID, "outside the model's directory");
    unlink(path);
}

/* Messages nested so deeply that reading them would need more stack than there is. */
static void test_nesting(void **state)
{
    (void)state;
    static const unsigned char chain[] = {0x3a, 0x0a, 0x2a,
                                          0x32}; /* graph; node, attribute, graph */
    enum { DEPTH = 99999, ROOM = 5 * DEPTH + 16 };
    unsigned char *bytes = malloc(ROOM), *at = bytes + ROOM;
    for (int i = DEPTH; i >= 0; i--) { /* from the inside out */
        unsigned char head[12];
        size_t k = 0, len = (size_t)(bytes + ROOM - at);
        head[k++] = chain[i ? 1 + (i - 1) % 3 : 0];
        do
            head[k++] = (unsigned char)((len & 0x7f) | (len >> 7 ? 0x80 : 0));
        while (len >>= 7);
        at -= k;
        memcpy(at, head, k);
    }
    mk_put(file, at, (size_t)(bytes + ROOM - at));
    free(bytes);
    refused(file, SX_INVALID, "levels deep");
}

static void test_nul_in_a_name(void **state)
{
    (void)state;
    struct mk mk;
    size_t size;
    mk_begin(&mk, 8);
    mk_input(&mk, "xNULx", MK_FLOAT, "1");
    mk_node(&mk, "Relu", "xNULx", "y");
    mk_output(&mk, "y", MK_FLOAT, "1");
    unsigned char *bytes = mk_bytes(&mk, &size);
    for (size_t i = 0; i + 5 < size; i++)
        if (!memcmp(bytes + i, "xNULx", 5))
            bytes[i + 1] = 0;
    mk_put(file, bytes, size);
    mk_end(&mk);
    refused(file, SX_INVALID, "has a NUL");
}

/* Every graph of the ONNX project's test data is one that we can read. */
static void test_zoo(void **state)
{
    (void)state;
    static const char *const sets[] = {"node", "simple", "pytorch-operator", "pytorch-converted"};
    size_t n_open = 0, n_refused = 0;

    if (!sx_path_is_dir(ZOO))
        skip();
    for (size_t s = 0; s < sizeof(sets) / sizeof(*sets); s++) {
        char path[512], **names;
        size_t n;
        snprintf(path, sizeof(path), ZOO "/%s", sets[s]);
        if (sx_dir_names(path, &names, &n, NULL))
            continue;
        for (size_t i = 0; i < n; i++) {
            struct sx_onnx *m = NULL;
            struct sx_err err = {0};
            snprintf(path, sizeof(path), ZOO "/%s/%s/model.onnx", sets[s], names[i]);
            if (!sx_path_is_file(path))
                continue;
            if (sx_onnx_open(path, &m, &err)) {
                n_refused++;
                print_message("# %s\n", err.message);
            } else {
                n_open++;
            }
            sx_onnx_close(m);
        }
        sx_names_free(names, n);
    }
    print_message("# %zu models opened, %zu refused\n", n_open, n_refused);
    assert_true(n_open > 1000);
    assert_int_equal(n_refused, 0);

    struct sx_onnx *m = opened(ZOO "/light/light_vgg19.onnx");
    const struct sx_onnx_value *v;
    assert_int_equal(sx_onnx_inputs(m, &v), 1);
    assert_true(sx_onnx_overridable(m) > 30);
    assert_int_equal(sx_onnx_made_parameters(m), 143667240 - 2 * 64); /* two biases are stored */
    sx_onnx_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe),  cmocka_unit_test(test_missing),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_mutated),
        cmocka_unit_test(test_edges),     cmocka_unit_test(test_constants),
        cmocka_unit_test(test_external),  cmocka_unit_test(test_external_in_function),
        cmocka_unit_test(test_nesting),   cmocka_unit_test(test_nul_in_a_name),
        cmocka_unit_test(test_zoo),
    };
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
