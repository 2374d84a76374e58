/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_test.c - infer requests in all forms, right and wrong, and their answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "wire/v2.h"

static const struct sx_port inputs[] = {
    {"a", SX_FP32, 2, {-1, 3}, false}, {"b", SX_INT64, 1, {-1}, true},
    {"s", SX_BYTES, 1, {-1}, true},    {"t", SX_BOOL, 1, {-1}, true},
    {"h", SX_FP16, 1, {-1}, true},     {"u", SX_UINT64, 1, {-1}, true},
    {"i", SX_INT8, 1, {-1}, true},     {"d", SX_FP64, 0, {0}, true},
};
#define N_IN (sizeof(inputs) / sizeof(*inputs))
static const struct sx_port outputs[] = {{"y", SX_FP32, 2, {-1, 2}, false},
                                         {"z", SX_BYTES, 1, {-1}, false}};
static const struct sx_v2_model model = {"m", 3, inputs, outputs, N_IN, 2, true};

static struct sx_pool *pool;
static struct sx_v2_call call;
static struct sx_tensor in[N_IN];
static struct sx_err err;

static int setup(void **state)
{
    (void)state;
    return sx_pool_create(&pool) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    sx_v2_call_fini(&call);
    sx_pool_destroy(pool);
    return 0;
}

static void clear(void)
{
    for (size_t i = 0; i < N_IN; i++)
        sx_tensor_unref(&in[i]);
}

/* The body's bytes end where the memory ends, so that ASan sees an over-read.  `shift` moves its
 * beginning off alignment. */
static void release_exact(struct sx_buffer *buffer)
{
    free(buffer->owner);
    free(buffer);
}

static enum sx_rc read_body(const struct sx_v2_model *m, const void *text, size_t len,
                            int64_t json_len, size_t shift)
{
    clear();
    char *memory = malloc(len + shift ? len + shift : 1);
    struct sx_buffer *buffer = malloc(sizeof(*buffer));
    if (len)
        memcpy(memory + shift, text, len);
    sx_buffer_wrap(buffer, memory, len + shift, release_exact, memory);
    struct sx_v2_body body = {buffer, memory + shift, len, json_len};
    err = (struct sx_err){0};
    enum sx_rc rc = sx_v2_read_infer(&call, m, pool, &body, in, &err);
    assert_int_equal(err.rc, rc);
    sx_buffer_unref(&buffer);
    return rc;
}

static enum sx_rc read_json(const char *text)
{
    return read_body(&model, text, strlen(text), -1, 0);
}

#define A          "{\"name\":\"a\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}"
#define WITH(more) "{\"inputs\":[" A more "]}"

static void test_json(void **state)
{
    (void)state;
    assert_int_equal(
        read_json("{\"id\":\"q\\u00e9\",\"parameters\":{\"timeout\":1500,\"priority\":2,"
                  "\"mine\":[{}]},\"inputs\":[" A
                  ",{\"data\":[-9223372036854775808,9223372036854775807],"
                  "\"datatype\":\"INT64\",\"shape\":[2],\"name\":\"b\"}"
                  ",{\"name\":\"s\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":"
                  "[\"x\\n\",\"\"]}"
                  ",{\"name\":\"t\",\"shape\":[3],\"datatype\":\"BOOL\",\"data\":"
                  "[true,false,1]}"
                  ",{\"name\":\"u\",\"shape\":[1],\"datatype\":\"UINT64\",\"data\":"
                  "[18446744073709551615]}"
                  ",{\"name\":\"d\",\"shape\":[],\"datatype\":\"FP64\",\"data\":[0.1]}"
                  "]}"),
        SX_OK);
    assert_true(call.has_id);
    assert_string_equal(call.id.data, "q\\u00e9");
    assert_int_equal(call.timeout_ns, 1500000);
    assert_int_equal(call.priority, 2);
    assert_memory_equal(in[0].data, ((float[]){1, 2, 3}), 12);
    assert_memory_equal(in[1].data, ((int64_t[]){INT64_MIN, INT64_MAX}), 16);
    assert_int_equal(in[2].nbytes, 10);
    assert_memory_equal(in[2].data, "\2\0\0\0x\n\0\0\0\0", 10);
    assert_memory_equal(in[3].data, "\1\0\1", 3);
    assert_memory_equal(in[5].data, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_memory_equal(in[7].data, &(double){0.1}, 8);
    assert_int_equal(in[4].dtype, SX_DTYPE_NONE);
    assert_int_equal(call.n_wants, 2); /* all outputs, as JSON */
    assert_int_equal(call.wants[0].binary, 0);
    /* nested as the shape says; NaN; outputs chosen, their default known late */
    assert_int_equal(
        read_json("{\"model_name\":\"m\",\"x-mine\":1,\"outputs\":[{\"name\":\"z\"},"
                  "{\"name\":\"y\",\"parameters\":{\"binary_data\":false}}],\"inputs\":"
                  "[{\"name\":\"\\u0061\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":"
                  "[[1,2,3],[4,NaN,-Infinity]]}],\"parameters\":{\"binary_data_output\":true}}"),
        SX_OK);
    assert_true(((float *)(void *)in[0].data)[3] == 4 && isnan(((float *)(void *)in[0].data)[4]));
    assert_int_equal(call.n_wants, 2);
    assert_true(call.wants[0].port == 1 && call.wants[0].binary == 1);
    assert_true(call.wants[1].port == 0 && call.wants[1].binary == 0);
    assert_false(call.has_id);
    /* no elements */
    assert_int_equal(read_json("{\"inputs\":[{\"name\":\"a\",\"shape\":[0,3],\"datatype\":\"FP32\","
                               "\"data\":[]}]}"),
                     SX_OK);
    assert_int_equal(in[0].nbytes, 0);
    assert_int_equal(read_json("{\"inputs\":[{\"name\":\"a\",\"shape\":[0,16777216],"
                               "\"datatype\":\"FP32\",\"data\":[]}]}"),
                     SX_OK);
    assert_int_equal(read_json("{\"inputs\":[{\"name\":\"d\",\"shape\":[],\"datatype\":\"FP64\","
                               "\"data\":2.5}," A "]}"),
                     SX_OK);
    clear();
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "the request has no body"},
        {"[]", "byte 0: expected '{'"},
        {"{\"inputs\":[" A "]", "the text ends too early"},
        {"{\"inputs\":[" A "]} x", "unexpected text after the JSON object"},
        {"{}", "the request has no 'inputs'"},
        {"{\"inputs\":[]}", "input 'a' of model 'm' is missing"},
        {"{\"inputs\":{}}", "field 'inputs': expected '['"},
        {"{\"inputs\":[1]}", "expected '{'"},
        {"{\"input\":[]}", "unknown field 'input', did you mean 'inputs'?"},
        {"{\"parameter\":{}}", "did you mean 'parameters'?"},
        {"{\"inputs\":[],\"inputs\":[]}", "'inputs' is there twice"},
        {"{\"inputs\":[{}]}", "an input has no 'name'"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"data\":[1]}"), "input 'b' has no 'datatype'"},
        {WITH(",{\"name\":\"b\",\"datatype\":\"INT64\",\"data\":[1]}"), "input 'b' has no 'shape'"},
        {WITH(",{\"name\":\"b\",\"datatype\":\"INT64\",\"shape\":[1]}"), "input 'b' has no 'data'"},
        {WITH(",{\"name\":\"b\",\"data_type\":\"INT64\"}"), "did you mean 'datatype'?"},
        {WITH("," A), "input 'a' is there twice"},
        {WITH(",{\"name\":\"q\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}"),
         "unexpected inference input 'q' for model 'm'"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1]}"),
         "input 'b': datatype is INT32, expected INT64"},
        {WITH(",{\"name\":\"b\",\"shape\":[2],\"datatype\":\"INT64\",\"data\":[1]}"),
         "input 'b': 'data' has 1 elements where its shape [2] needs 2"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[1,2]}"),
         "input 'b': 'data' has more elements than the 1 of its shape [1]"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[[1]]}"),
         "'data' nests deeper than its shape [1]"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[1.5]}"),
         "input 'b': element 0 is 1.5, expected a whole number that fits INT64"},
        {WITH(",{\"name\":\"i\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[1,128]}"),
         "element 1 is 128, expected a whole number that fits INT8"},
        {WITH(",{\"name\":\"u\",\"shape\":[1],\"datatype\":\"UINT64\",\"data\":[-1]}"), "is -1"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[\"1\"]}"),
         "field 'data': expected a number"},
        {WITH(",{\"name\":\"t\",\"shape\":[1],\"datatype\":\"BOOL\",\"data\":[2]}"),
         "expected true or false"},
        {WITH(",{\"name\":\"h\",\"shape\":[1],\"datatype\":\"FP16\",\"data\":[1]}"),
         "input 'h': FP16 has no form in JSON, send it as binary data"},
        {WITH(",{\"name\":\"s\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[1]}"),
         "expected a string"},
        {WITH(",{\"name\":\"b\",\"shape\":[-1],\"datatype\":\"INT64\",\"data\":[1]}"),
         "field 'shape': the number is out of range"},
        {WITH(",{\"name\":\"b\",\"shape\":[1.5],\"datatype\":\"INT64\",\"data\":[1]}"),
         "expected a whole number"},
        {WITH(",{\"name\":\"b\",\"shape\":[4294967296,4294967296],\"datatype\":\"INT64\"}"),
         "the shape [4294967296,4294967296] is too large"},
        {WITH(",{\"name\":\"b\",\"shape\":[9223372036854775807,2]}"), "is too large"},
        {WITH(",{\"name\":\"b\",\"shape\":[0,16777217],\"datatype\":\"INT64\",\"data\":[]}"),
         "the shape [0,16777217] has no elements, and its other dimensions are too large"},
        {WITH(",{\"name\":\"b\",\"shape\":[4294967296,0,4294967296],\"datatype\":\"INT64\","
              "\"data\":[]}"),
         "has no elements, and"},
        {WITH(",{\"name\":\"b\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}"),
         "more than 16 dimensions"},
        {WITH(",{\"name\":\"b\",\"shape\":[1000000000],\"datatype\":\"INT64\",\"data\":[1]}"),
         "less than the 1000000000 elements of its shape"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"parameters\":"
              "{\"binary_data_size\":8}}"),
         "header Inference-Header-Content-Length is missing"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[1],\"data\":[2]}"),
         "'data' twice"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[1],\"shape\":[2]}"),
         "'shape' twice"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT32\",\"datatype\":\"INT64\"}"),
         "'datatype' twice"},
        {WITH(",{\"name\":\"b\",\"shape\":[1],\"name\":\"a\"}"), "'name' twice"},
        {WITH(",{\"name\":\"b\",\"parameters\":{},\"parameters\":{}}"), "'parameters' twice"},
        {"{\"inputs\":[{\"name\":\"a\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":"
         "[[1,2],[3,4],[5,6]]}]}",
         "has 2 elements in a nested array where its shape [2,3] needs 3"},
        {"{\"inputs\":[" A "],\"outputs\":[{\"name\":\"q\"}]}",
         "unexpected inference output 'q' for model 'm'"},
        {"{\"inputs\":[" A "],\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}",
         "output 'y' is asked for twice"},
        {"{\"inputs\":[" A "],\"outputs\":[{}]}", "an output has no 'name'"},
        {"{\"inputs\":[" A "],\"parameters\":{\"timeout\":-1}}",
         "field 'timeout': the number is out of range"},
        {"{\"inputs\":[" A "],\"parameters\":{\"timeout\":\"1\"}}",
         "field 'timeout': expected a number"},
        {"{\"inputs\":[" A "],\"id\":7}", "field 'id': expected a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(read_json(cases[i].text), SX_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s: '%s' does not contain '%s'", cases[i].text, err.message,
                     cases[i].message);
    }
    assert_int_equal(read_json(WITH(",{\"name\":\"b\",\"shape\":[1],\"datatype\":\"INT64\","
                                    "\"parameters\":{\"shared_memory_region\":\"r\"}}")),
                     SX_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "binary_data_size"));
    assert_int_equal(read_json("{\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":"
                               "3}}]}"),
                     SX_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "leave it out"));
    read_json("{\"inputs\":[" A "],\"outputs\":[{\"name\":\"q\"}]}");
    assert_string_equal(err.hint, "its outputs are 'y', 'z'");
    read_json(WITH(",{\"name\":\"q\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}"));
    assert_string_equal(err.hint, "its inputs are 'a', 'b', 's', 't', 'h', 'u', 'i', 'd'");
    char name[121];
    memset(name, 'n', 120);
    name[120] = '\0';
    struct sx_port long_names[] = {{name, SX_FP32, 0, {0}, false}, {name, SX_FP32, 0, {0}, false}};
    struct sx_v2_model m = {"m", 3, inputs, long_names, N_IN, 2, true};
    static const char wrong[] = "{\"outputs\":[{\"name\":\"q\"}]}";
    read_body(&m, wrong, sizeof(wrong) - 1, -1, 0);
    assert_int_equal(strlen(err.hint), strlen("its outputs are '', ...") + 120);
    read_json("{\"entries\":[]}");
    assert_non_null(strstr(err.hint, "unknown field 'entries' was ignored"));
    /* nesting */
    struct sx_sbuf s = {0};
    sx_sbuf_puts(&s, "{\"x-mine\":");
    for (int i = 0; i < 1000000; i++)
        sx_sbuf_putc(&s, '[');
    assert_int_equal(read_json(s.data), SX_INVALID);
    assert_non_null(strstr(err.message, "nest too deep"));
    sx_sbuf_clear(&s);
    sx_sbuf_puts(&s,
                 "{\"inputs\":[{\"name\":\"a\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":");
    for (int i = 0; i < 1000000; i++)
        sx_sbuf_putc(&s, '[');
    assert_int_equal(read_json(s.data), SX_INVALID);
    sx_sbuf_free(&s);
    clear();
}

#define BIN(name, shape, type, size)                                                               \
    "{\"name\":\"" name "\",\"shape\":" shape ",\"datatype\":\"" type                              \
    "\",\"parameters\":{\"binary_data_size\":" size "}}"

static enum sx_rc read_binary(const char *json, const void *tail, size_t n, size_t shift)
{
    char text[2048];
    size_t len = strlen(json);
    memcpy(text, json, len);
    memcpy(text + len, tail, n);
    return read_body(&model, text, len + n, (int64_t)len, shift);
}

static void test_binary(void **state)
{
    (void)state;
    static const char json[] =
        "{\"inputs\":[" BIN("a", "[1,3]", "FP32", "12") "," BIN("s", "[2]", "BYTES", "9") "]}";
    char tail[21];
    float x[3] = {1, -2, 3};
    memcpy(tail, x, 12);
    memcpy(tail + 12, "\1\0\0\0x\0\0\0\0", 9);
    for (size_t shift = 0; shift < 8; shift++) {
        assert_int_equal(read_binary(json, tail, 21, shift), SX_OK);
        assert_memory_equal(in[0].data, x, 12);
        assert_int_equal((uintptr_t)in[0].data % 4, 0);
        assert_memory_equal(in[2].data, "\1\0\0\0x\0\0\0\0", 9);
        bool aligned = (sizeof(json) - 1 + shift) % 4 == 0;
        assert_true((in[0].buffer == in[2].buffer) == aligned); /* a view, or a copy */
    }
    static const struct {
        const char *json;
        size_t n;
        const char *message;
    } cases[] = {
        {"{\"inputs\":[" BIN("a", "[1,3]", "FP32", "12") "]}", 13,
         "1 unexpected bytes follow the last tensor"},
        {"{\"inputs\":[" BIN("a", "[1,3]", "FP32", "12") "]}", 11,
         "input 'a': binary_data_size is 12, but only 11 bytes are left in the body"},
        {"{\"inputs\":[" BIN("a", "[1,3]", "FP32", "8") "]}", 8,
         "input 'a': binary_data_size is 8, shape [1,3] of FP32 needs 12"},
        {"{\"inputs\":[" BIN("a", "[1,3]", "FP32", "9223372036854775807") "]}", 8, "needs 12"},
        {"{\"inputs\":[" BIN("a", "[1,3]", "FP32", "-12") "]}", 12, "out of range"},
        {"{\"inputs\":[" BIN("s", "[2]", "BYTES", "12") "]}", 12, "12 bytes are not [2] strings"},
        {"{\"inputs\":[" BIN("t", "[12]", "BOOL", "12") "]}", 12, "a BOOL is 0 or 1"},
        {"{\"inputs\":[{\"name\":\"a\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3],"
         "\"parameters\":{\"binary_data_size\":12}}]}",
         12, "has both 'data' and 'binary_data_size'"},
    };
    char junk[64];
    memset(junk, 7, sizeof(junk));
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(read_binary(cases[i].json, junk, cases[i].n, 0), SX_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' does not contain '%s'", err.message, cases[i].message);
    }
    assert_int_equal(read_body(&model, "{}", 2, 3, 0), SX_INVALID);
    assert_non_null(strstr(err.message, "is 3, but the body has 2 bytes"));
    clear();
}

static void test_raw(void **state)
{
    (void)state;
    static const struct sx_port one[] = {{"x", SX_INT32, 2, {-1, -1}, false}};
    static const struct sx_port fixed[] = {{"x", SX_INT32, 2, {-1, 2}, false}};
    static const struct sx_port text[] = {{"x", SX_BYTES, 2, {-1, 1}, false}};
    struct sx_v2_model m = {"r", 1, one, outputs, 1, 2, true};
    int32_t v[4] = {1, 2, 3, 4};
    assert_int_equal(read_body(&m, v, 16, 0, 0), SX_OK);
    assert_int_equal(in[0].dims[0], 1);
    assert_int_equal(in[0].dims[1], 4);
    assert_true(call.wants[0].binary && call.n_wants == 2);
    assert_int_equal(read_body(&m, v, 15, 0, 0), SX_INVALID);
    assert_non_null(strstr(err.message, "15 bytes in a raw request"));
    m.batched = false;
    assert_int_equal(read_body(&m, v, 16, 0, 0), SX_INVALID);
    assert_non_null(strstr(err.message, "more than one free dimension"));
    m = (struct sx_v2_model){"r", 1, fixed, outputs, 1, 2, true};
    assert_int_equal(read_body(&m, v, 16, 0, 0), SX_INVALID);
    assert_int_equal(read_body(&m, v, 8, 0, 3), SX_OK);
    m.inputs = text;
    assert_int_equal(read_body(&m, "abc", 3, 0, 0), SX_OK);
    assert_memory_equal(in[0].data, "\3\0\0\0abc", 7);
    assert_int_equal(read_body(&m, "", 0, 0, 0), SX_OK);
    assert_int_equal(read_body(&model, "", 0, 0, 0), SX_INVALID);
    assert_non_null(strstr(err.message, "needs a model with one input"));
    clear();
}

static void test_answer(void **state)
{
    (void)state;
    float y[2] = {0.1f, INFINITY};
    struct sx_tensor out[2] = {
        {.data = (unsigned char *)y, .nbytes = 8, .dtype = SX_FP32, .rank = 2, .dims = {1, 2}},
        {.data = (unsigned char *)(uintptr_t)"\2\0\0\0\"x",
         .nbytes = 6,
         .dtype = SX_BYTES,
         .rank = 1,
         .dims = {1}},
    };
    assert_int_equal(read_json("{\"id\":\"1\",\"inputs\":[" A "]}"), SX_OK);
    assert_int_equal(sx_v2_write_infer(&call, &model, out, &err), SX_OK);
    assert_string_equal(call.json.data,
                        "{\"id\":\"1\",\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":["
                        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],"
                        "\"data\":[0.1,Infinity]},"
                        "{\"name\":\"z\",\"datatype\":\"BYTES\",\"shape\":[1],"
                        "\"data\":[\"\\\"x\"]}]}");
    assert_false(call.binary);
    assert_int_equal(call.n_parts, 1);
    assert_int_equal(read_json("{\"inputs\":[" A "],\"outputs\":[{\"name\":\"y\",\"parameters\":"
                               "{\"binary_data\":true}}]}"),
                     SX_OK);
    assert_int_equal(sx_v2_write_infer(&call, &model, out, &err), SX_OK);
    assert_string_equal(call.json.data,
                        "{\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":["
                        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],"
                        "\"parameters\":{\"binary_data_size\":8}}]}");
    assert_true(call.binary && call.n_parts == 2 && call.parts[1].iov_base == y);
    assert_int_equal(call.total_bytes, call.json.len + 8);
    out[0].dtype = SX_BF16;
    assert_int_equal(read_json("{\"inputs\":[" A "]}"), SX_OK);
    assert_int_equal(sx_v2_write_infer(&call, &model, out, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "output 'y' is BF16"));
    struct sx_sbuf s = {0};
    sx_fail(&err, SX_INVALID, "a \"b\"");
    sx_hint(&err, "do c");
    sx_v2_put_error(&s, &err);
    assert_string_equal(s.data, "{\"error\":\"a \\\"b\\\"; do c\"}");
    sx_sbuf_free(&s);
    clear();
}

/* An output that JSON cannot carry is refused before the inference, not after. */
static void test_no_json_form(void **state)
{
    (void)state;
    static const struct sx_port half[] = {{"h", SX_FP16, 1, {-1}, false}};
    struct sx_v2_model m = {"m", 3, inputs, half, N_IN, 1, true};
    static const char json[] = "{\"inputs\":[" A "]}";
    assert_int_equal(read_body(&m, json, sizeof(json) - 1, -1, 0), SX_INVALID);
    assert_non_null(strstr(err.message, "output 'h' is FP16"));
    static const char binary[] =
        "{\"inputs\":[" A "],\"parameters\":{\"binary_data_output\":true}}";
    assert_int_equal(read_body(&m, binary, sizeof(binary) - 1, -1, 0), SX_OK);
    clear();
}

static void test_id(void **state)
{
    (void)state;
    char id[1026] = "", text[2048];
    memset(id, 'x', sizeof(id) - 2);
    snprintf(text, sizeof(text), "{\"id\":\"%s\",\"inputs\":[" A "]}", id);
    assert_int_equal(read_json(text), SX_OK);
    assert_string_equal(call.id.data, id);
    id[sizeof(id) - 2] = 'x';
    snprintf(text, sizeof(text), "{\"id\":\"%s\",\"inputs\":[" A "]}", id);
    assert_int_equal(read_json(text), SX_INVALID);
    assert_string_equal(err.message, "the request's id has 1025 bytes, at most 1024 are allowed");
    clear();
}

/* Whatever the bytes are: an answer, in bounds, and nothing lost. */
static void test_mutations(void **state)
{
    (void)state;
    static const char json[] =
        "{\"id\":\"1\",\"inputs\":[" A ",{\"data\":[1,-2],\"name\":\"b\",\"shape\":[2],"
        "\"datatype\":\"INT64\"},{\"name\":\"s\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":"
        "[\"a\\u00e9\",\"\"]}," BIN("u", "[1]", "UINT64", "8") "," BIN(
            "h", "[2]", "FP16",
            "4") "],\"outputs\":[{\"name\":\"y\"}],\"parameters\":{\"timeout\":5}}";
    static const char bytes[] = "{}[]:,\"\\0123456789eE+-.tfn \n";
    static const char tail[] = "\1\2\3\4\5\6\7\10\11\12\13\14";
    struct sx_rng r;
    sx_rng_init(&r, 3);
    int accepted = 0;
    for (int round = 0; round < 100000; round++) {
        char text[sizeof(json) + sizeof(tail)];
        size_t json_len = sizeof(json) - 1, len = json_len + 12;
        memcpy(text, json, json_len);
        memcpy(text + json_len, tail, 12);
        for (uint64_t k = sx_rng_below(&r, 4); k; k--)
            text[sx_rng_below(&r, len)] =
                k & 1 ? bytes[sx_rng_below(&r, sizeof(bytes) - 1)] : (char)sx_rng_u64(&r);
        if (sx_rng_below(&r, 4) == 0)
            json_len = sx_rng_below(&r, len + 2);
        if (sx_rng_below(&r, 4) == 0)
            len = sx_rng_below(&r, len + 1);
        int64_t header = sx_rng_below(&r, 8) ? (int64_t)json_len : -1;
        enum sx_rc rc = read_body(&model, text, len, header, sx_rng_below(&r, 8));
        assert_true(rc == SX_OK || ((rc == SX_INVALID || rc == SX_UNSUPPORTED) && *err.message));
        accepted += rc == SX_OK;
        for (size_t i = 0; i < N_IN; i++) {
            size_t need;
            if (sx_shape_bytes(in[i].dtype, in[i].dims, in[i].rank, &need) && rc == SX_OK)
                assert_int_equal(in[i].nbytes, need);
        }
    }
    assert_in_range(accepted, 1000, 99000);
    clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_binary), cmocka_unit_test(test_raw),
        cmocka_unit_test(test_answer), cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_id),     cmocka_unit_test(test_no_json_form),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
