/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dtype_test.c - every type there and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tensor/dtype.h"

static void test_round_trips(void **state)
{
    (void)state;
    for (int i = 1; i < SX_DTYPE_COUNT; i++) {
        enum sx_dtype t = (enum sx_dtype)i;
        const char *name = sx_dtype_name(t), *config = sx_dtype_config_name(t);
        assert_int_equal(sx_dtype_from_name(name, strlen(name)), t);
        assert_int_equal(sx_dtype_from_config_name(config, strlen(config)), t);
        assert_int_equal(sx_dtype_from_onnx(sx_dtype_to_onnx(t)), t);
        assert_int_equal(sx_dtype_from_name(name, strlen(name) - 1), SX_DTYPE_NONE);
    }
}

static void test_values(void **state)
{
    (void)state;
    assert_int_equal(sx_dtype_size(SX_FP16), 2);
    assert_int_equal(sx_dtype_size(SX_INT64), 8);
    assert_int_equal(sx_dtype_size(SX_BYTES), 0);
    assert_int_equal(sx_dtype_from_onnx(1), SX_FP32);
    assert_int_equal(sx_dtype_from_name("FP32x", 4), SX_FP32); // not terminated
    assert_string_equal(sx_dtype_config_name(SX_BYTES), "TYPE_STRING");
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(sx_dtype_size(SX_DTYPE_NONE), 0);
    assert_string_equal(sx_dtype_name(SX_DTYPE_NONE), "NONE");
    assert_string_equal(sx_dtype_config_name(SX_DTYPE_NONE), "TYPE_INVALID");
    assert_string_equal(sx_dtype_name((enum sx_dtype)999), "NONE");
    assert_int_equal(sx_dtype_from_name("NONE", 4), SX_DTYPE_NONE);
    assert_int_equal(sx_dtype_from_name("fp32", 4), SX_DTYPE_NONE);
    assert_int_equal(sx_dtype_from_name("", 0), SX_DTYPE_NONE);
    assert_int_equal(sx_dtype_from_onnx(0), SX_DTYPE_NONE);
    assert_int_equal(sx_dtype_from_onnx(14), SX_DTYPE_NONE); // COMPLEX64
    assert_int_equal(sx_dtype_from_onnx(-1), SX_DTYPE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
