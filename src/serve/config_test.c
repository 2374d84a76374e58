/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * config_test.c - what config.pbtxt may say, and how it meets the model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "serve/config.h"

/* The model that sx_config_complete sees: this test's own. */
struct sx_engine_model {
    struct sx_port in[2], out[1];
};

size_t sx_engine_inputs(const struct sx_engine_model *model, const struct sx_port **ret_ports)
{
    *ret_ports = model->in;
    return 2;
}

size_t sx_engine_outputs(const struct sx_engine_model *model, const struct sx_port **ret_ports)
{
    *ret_ports = model->out;
    return 1;
}

static struct sx_engine_model batchable(void)
{
    return (struct sx_engine_model){
        .in = {{"a", SX_FP32, 2, {-1, 3}, false}, {"b", SX_INT64, 1, {-1}, true}},
        .out = {{"y", SX_FP32, 2, {-1, 5}, false}},
    };
}

static enum sx_rc parse(const char *text, struct sx_config *c, struct sx_err *err)
{
    *err = (struct sx_err){0};
    return sx_config_parse(text, strlen(text), "config.pbtxt", c, err);
}

static void test_everything(void **state)
{
    (void)state;
    struct sx_config c;
    struct sx_err err;
    assert_int_equal(parse("name: \"m\"\n"
                           "platform: \"onnxruntime_onnx\"\n"
                           "max_batch_size: 16\n"
                           "default_model_filename: \"x.onnx\"\n"
                           "input [ { name: \"a\" data_type: TYPE_FP32 dims: [ 3 ] } ]\n"
                           "output { name: \"y\" data_type: TYPE_FP32 dims: 1 dims: 5\n"
                           "  reshape { shape: [ 5 ] } label_filename: \"l.txt\" }\n"
                           "version_policy: { specific { versions: [ 1, 3 ] } }\n"
                           "dynamic_batching { preferred_batch_size: [ 8, 4, 8 ]\n"
                           "  max_queue_delay_microseconds: 100\n"
                           "  default_queue_policy { default_timeout_microseconds: 2000\n"
                           "    allow_timeout_override: true max_queue_size: 64 }\n"
                           "  priority_levels: 3 default_priority_level: 2\n"
                           "  priority_queue_policy [ { key: 1 value { timeout_action: REJECT\n"
                           "    default_timeout_microseconds: 7 max_queue_size: 9 } } ] }\n"
                           "instance_group [ { kind: KIND_CPU count: 2 } ]\n"
                           "optimization { graph { level: 1 } }\n"
                           "instance_group { count: 1 }\n"
                           "parameters { key: \"objective_ms\" value { string_value: \"12.5\" } }\n"
                           "parameters { key: \"weight\" value { string_value: \"2.5\" } }\n"
                           "parameters { key: \"priority\" value { string_value: \"-3\" } }\n",
                           &c, &err),
                     SX_OK);
    assert_string_equal(c.name, "m");
    assert_true(c.has_max_batch_size && c.max_batch_size == 16);
    assert_string_equal(c.default_filename, "x.onnx");
    assert_int_equal(c.n_inputs, 1);
    assert_int_equal(c.outputs[0].rank, 2);
    assert_true(c.outputs[0].has_reshape && c.outputs[0].reshape[0] == 5);
    assert_int_equal(c.versions.kind, SX_VERSIONS_SPECIFIC);
    assert_int_equal(c.versions.n_specific, 2);
    assert_true(c.dynamic_batching);
    assert_int_equal(c.n_preferred, 2);
    assert_int_equal(c.preferred[0], 4);
    assert_int_equal(c.max_queue_delay_ns, 100000);
    assert_int_equal(c.default_timeout_ns, 2000000);
    assert_int_equal(c.max_queue_size, 64);
    assert_int_equal(c.priority_levels, 3);
    assert_int_equal(c.default_priority_level, 2);
    assert_int_equal(c.objective_ns, 12500000);
    assert_true(c.weight == 2.5);
    assert_int_equal(c.priority, -3);
    assert_string_equal(c.notes, "label_filename, allow_timeout_override, priority_queue_policy, "
                                 "instance_group, optimization");
    sx_config_fini(&c);
    sx_config_fini(&c); /* harmless */
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum sx_rc rc;
        const char *message;
    } cases[] = {
        {"max_batch_siz: 1", SX_INVALID, "config.pbtxt:1:1: unknown field 'max_batch_siz'"},
        {"input { nam: \"x\" }", SX_INVALID, "unknown field 'nam' in input"},
        {"max_batch_size: \"4\"", SX_INVALID, "expected an integer, got '4'"},
        {"max_batch_size: -1", SX_INVALID, "-1 is out of range"},
        {"max_batch_size { }", SX_INVALID, "expected an integer, got 'a message'"},
        {"name: x", SX_INVALID, "expected a quoted string"},
        {"input { dims: 1 }", SX_INVALID, "this input has no name"},
        {"input { name: 'a' } input { name: 'a' }", SX_INVALID, "input 'a' is there twice"},
        {"input { name: 'a' data_type: FP32 }", SX_INVALID, "'FP32' is not a type like TYPE_FP32"},
        {"input { name: 'a' dims: -2 }", SX_INVALID, "-2 is out of range"},
        {"input { dims: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] }", SX_UNSUPPORTED, "more than 15"},
        {"input { name: 'a' allow_ragged_batch: true }", SX_UNSUPPORTED, "allow_ragged_batch"},
        {"platform: \"ensemble\"", SX_UNSUPPORTED, "platform 'ensemble'"},
        {"backend: \"python\"", SX_UNSUPPORTED, "backend 'python'"},
        {"\nsequence_batching { }", SX_UNSUPPORTED, "config.pbtxt:2:1: 'sequence_batching'"},
        {"ensemble_scheduling { step { } }", SX_UNSUPPORTED, "'ensemble_scheduling'"},
        {"model_transaction_policy { decoupled: true }", SX_UNSUPPORTED, "'decoupled'"},
        {"default_model_filename: \"../x\"", SX_INVALID, "is a path"},
        {"dynamic_batching { default_queue_policy { timeout_action: DELAY } }", SX_UNSUPPORTED,
         "late requests are rejected"},
        {"dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }",
         SX_UNSUPPORTED, "late requests are rejected"},
        {"dynamic_batching { priority_queue_policy { key: x } }", SX_INVALID, "an integer"},
        {"dynamic_batching { priority_levels: 2 }", SX_INVALID,
         "default_priority_level 0 is not from 1 to 2"},
        {"dynamic_batching { priority_levels: 2 default_priority_level: 3 }", SX_INVALID,
         "default_priority_level 3 is not from 1 to 2"},
        {"parameters { key: 'objective_ms' value { string_value: 'soon' } }", SX_INVALID,
         "expected milliseconds above 0, got 'soon'"},
        {"parameters { key: 'objective_ms' value { string_value: '-1' } }", SX_INVALID, "above 0"},
        {"parameters { key: 'weight' value { string_value: '0' } }", SX_INVALID, "'weight'"},
        {"parameters { key: 'weight' value { string_value: 'nan' } }", SX_INVALID, "'weight'"},
        {"parameters { key: 'weight' value { string_value: '2x' } }", SX_INVALID, "'2x'"},
        {"parameters { key: 'priority' value { string_value: '1.5' } }", SX_INVALID,
         "whole number"},
        {"parameters { key: 'priority' value { string_value: '9999' } }", SX_INVALID, "9999"},
        {"parameters { key: 'max_queue_size' value { string_value: '0' } }", SX_INVALID,
         "whole number from 1"},
        {"version_policy { latest { num_versions: 0 } }", SX_INVALID, "out of range"},
        {"dynamic_batching: 1", SX_INVALID, "expected a message in braces, got '1'"},
        {"input {", SX_INVALID, "but the file ends"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sx_config c;
        struct sx_err err;
        assert_int_equal(parse(cases[i].text, &c, &err), cases[i].rc);
        assert_int_equal(err.rc, cases[i].rc);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' does not contain '%s'", err.message, cases[i].message);
        sx_config_fini(&c);
    }
}

static void test_complete_empty(void **state)
{
    (void)state;
    struct sx_engine_model m = batchable();
    struct sx_config c;
    sx_config_init(&c);
    assert_int_equal(sx_config_complete(&c, &m, 4, NULL), SX_OK);
    assert_int_equal(c.max_batch_size, 4);
    assert_true(c.dynamic_batching && c.batching_assumed);
    assert_int_equal(c.n_inputs, 2);
    assert_string_equal(c.inputs[0].name, "a");
    assert_int_equal(c.inputs[0].rank, 1); /* the batch dimension is not among them */
    assert_int_equal(c.inputs[0].dims[0], 3);
    assert_true(c.inputs[1].optional);
    assert_string_equal(c.platform, "onnxruntime_onnx");
    sx_config_fini(&c);

    strcpy(m.in[0].first_dim, "n");
    strcpy(m.in[1].first_dim, "n"); /* the output has not said */
    sx_config_init(&c);
    assert_int_equal(sx_config_complete(&c, &m, 4, NULL), SX_OK);
    assert_int_equal(c.max_batch_size, 4);
    assert_string_equal(c.not_assumed, "");
    sx_config_fini(&c);
    strcpy(m.out[0].first_dim, "boxes");
    assert_int_equal(sx_config_complete(&c, &m, 4, NULL), SX_OK);
    assert_int_equal(c.max_batch_size, 0);
    assert_false(c.batching_assumed || c.dynamic_batching);
    assert_non_null(strstr(c.not_assumed, "'a' counts n, 'y' counts boxes"));
    sx_config_fini(&c);
    c.has_max_batch_size = true; /* the file knows better */
    c.max_batch_size = 8;
    assert_int_equal(sx_config_complete(&c, &m, 4, NULL), SX_OK);
    assert_int_equal(c.max_batch_size, 8);
    assert_false(c.batching_assumed);
    sx_config_fini(&c);

    m.out[0].dims[0] = 1; /* not batchable */
    assert_int_equal(sx_config_complete(&c, &m, 4, NULL), SX_OK);
    assert_int_equal(c.max_batch_size, 0);
    assert_false(c.dynamic_batching);
    assert_int_equal(c.inputs[0].rank, 2);
    sx_config_fini(&c);
}

static void test_complete_checks(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message; /* NULL: fine */
    } cases[] = {
        {"max_batch_size: 8 input { name: 'a' data_type: TYPE_FP32 dims: 3 }", NULL},
        {"max_batch_size: 8 input { name: 'a' dims: 3 reshape { shape: 3 } }", NULL},
        {"input { name: 'a' data_type: TYPE_FP32 dims: [ -1, 3 ] }", NULL}, /* no batching */
        {"max_batch_size: 0 input { name: 'a' dims: [ 2, 3 ] }", NULL},
        {"max_batch_size: 8 input { name: 'z' }", "input 'z' of config.pbtxt is not in the model"},
        {"max_batch_size: 8 output { name: 'y' data_type: TYPE_INT8 }",
         "output 'y': config.pbtxt says TYPE_INT8, the model has TYPE_FP32"},
        {"max_batch_size: 8 input { name: 'a' dims: 4 }",
         "input 'a': config.pbtxt says dims [4], the model has [3] after the batch dimension"},
        {"max_batch_size: 8 input { name: 'a' dims: -1 }", "says dims [-1], the model has [3]"},
        {"max_batch_size: 8 input { name: 'b' optional: true }", NULL},
        {"max_batch_size: 8 input { name: 'a' optional: true }",
         "input 'a': config.pbtxt says optional, the model has no default for it"},
        {"max_batch_size: 2 dynamic_batching { preferred_batch_size: 4 }",
         "preferred_batch_size 4 is over max_batch_size 2"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sx_engine_model m = batchable();
        struct sx_config c;
        struct sx_err err;
        assert_int_equal(parse(cases[i].text, &c, &err), SX_OK);
        enum sx_rc rc = sx_config_complete(&c, &m, 4, &err);
        assert_int_equal(rc, cases[i].message ? SX_INVALID : SX_OK);
        if (cases[i].message && !strstr(err.message, cases[i].message))
            fail_msg("'%s' does not contain '%s'", err.message, cases[i].message);
        if (!rc)
            assert_int_equal(c.n_inputs, 2);
        sx_config_fini(&c);
    }
    struct sx_engine_model m = batchable();
    m.in[1].rank = -1;
    struct sx_config c;
    struct sx_err err;
    assert_int_equal(parse("max_batch_size: 8", &c, &err), SX_OK);
    assert_int_equal(sx_config_complete(&c, &m, 4, &err), SX_INVALID);
    assert_non_null(strstr(err.message, "'b' has shape unknown"));
    sx_config_fini(&c);
    m = batchable();
    assert_int_equal(parse("max_batch_size: 8 input { name: 'a' dims: [ 1, 3 ]\n"
                           "reshape { shape: 3 } }",
                           &c, &err),
                     SX_OK);
    assert_int_equal(sx_config_complete(&c, &m, 4, &err), SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "input 'a': reshape is not supported"));
    sx_config_fini(&c);
}

static void test_narrower(void **state)
{
    (void)state;
    struct sx_engine_model m = {
        .in = {{"a", SX_FP32, 4, {-1, 3, -1, -1}, false}, {"b", SX_INT64, 1, {-1}, false}},
        .out = {{"y", SX_FP32, -1, {0}, false}},
    };
    struct sx_config c;
    struct sx_err err;
    static const char *const texts[] = {
        "max_batch_size: 0 input { name: 'a' dims: [ 1, 3, 224, -1 ] } output { name: 'y' dims: 7 "
        "}",
        "max_batch_size: 8 input { name: 'a' dims: [ 3, 224, 32 ] }",
    };
    static const int64_t dims[][4] = {{1, 3, 224, -1}, {-1, 3, 224, 32}};
    for (int i = 0; i < 2; i++) {
        struct sx_engine_model copy = m;
        if (i) /* else nothing can be batched */
            copy.out[0].rank = 1, copy.out[0].dims[0] = -1;
        assert_int_equal(parse(texts[i], &c, &err), SX_OK);
        assert_int_equal(sx_config_complete(&c, &copy, 4, &err), SX_OK);
        sx_config_narrow(c.inputs, c.n_inputs, i, copy.in, 2);
        sx_config_narrow(c.outputs, c.n_outputs, i, copy.out, 1);
        assert_int_equal(copy.in[0].rank, 4);
        assert_memory_equal(copy.in[0].dims, dims[i], sizeof dims[i]);
        assert_true(copy.in[1].rank == 1 && copy.in[1].dims[0] == -1);
        assert_int_equal(copy.out[0].rank, 1);
        assert_int_equal(copy.out[0].dims[0], i ? -1 : 7);
        sx_config_fini(&c);
    }
    /* of unknown rank: dims hold, a reshape is refused */
    assert_int_equal(parse("output { name: 'y' dims: [ 7, 1 ] reshape { shape: 7 } }", &c, &err),
                     SX_OK);
    assert_int_equal(sx_config_complete(&c, &m, 4, &err), SX_UNSUPPORTED);
    assert_non_null(strstr(err.message, "output 'y': reshape is not supported"));
    sx_config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_complete_empty), cmocka_unit_test(test_complete_checks),
        cmocka_unit_test(test_narrower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
