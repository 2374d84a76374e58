/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/* work_test.c - FLOPs and shapes of graphs that are right, and no harm from those that are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/dir_test.h"
#include "graph/model_test.h"
#include "graph/work.h"

static char file[64];

static int setup(void **state)
{
    (void)state;
    return make_dir(file, sizeof file, "model.onnx");
}

/* Writes what was made, counts its FLOPs. */
static uint64_t counted(struct mk *mk)
{
    struct sx_onnx *m = NULL;
    struct sx_err err = {0};
    struct sx_work work;
    mk_write(mk, file);
    mk_end(mk);
    if (sx_onnx_open(file, &m, &err) || sx_work_count(m, 1, &work, &err))
        fail_msg("%s", err.message);
    uint64_t flops = work.flops;
    sx_work_fini(&work);
    sx_onnx_close(m);
    return flops;
}

static void ints(struct mk *mk, Onnx__NodeProto *node, const char *name, int n,
                 const int64_t *values)
{
    Onnx__AttributeProto *a =
        mk_attribute(mk, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    for (int i = 0; i < n; i++)
        MK_PUSH(mk, a->ints, a->n_ints, values[i]);
}

static void test_matmul(void **state)
{
    (void)state;
    struct mk mk;
    static const float w[12] = {0};
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "2,4");
    mk_constant(&mk, "w", MK_FLOAT, "4,3", w, sizeof(w));
    mk_node(&mk, "MatMul", "x,w", "y");
    mk_output(&mk, "y", MK_FLOAT, NULL);
    assert_int_equal(counted(&mk), 2 * 2 * 4 * 3);
}

/* An operator without the inputs that its rule looks at. */
static void test_too_few_inputs(void **state)
{
    (void)state;
    static const char *const types[] = {
        "Where",         "Add",   "MatMul", "Gemm",   "Conv",      "Concat",
        "Reshape",       "Slice", "Split",  "Gather", "Expand",    "Pad",
        "ConvTranspose", "LSTM",  "Resize", "Tile",   "Unsqueeze", "BatchNormalization",
        "MaxPool",       "Range", "OneHot"};
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        for (int n = 0; n < 2; n++) {
            struct mk mk;
            mk_begin(&mk, 8);
            mk_input(&mk, "x", MK_FLOAT, "2,4");
            mk_node(&mk, types[i], n ? "x" : "", "y");
            mk_output(&mk, "y", MK_FLOAT, NULL);
            counted(&mk);
        }
    }
}

static void test_no_name(void **state)
{
    (void)state;
    struct mk mk;
    static const float w[4] = {0};
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "4");
    mk_constant(&mk, "w", MK_FLOAT, "4", w, sizeof(w))->name = NULL;
    mk_node(&mk, "Relu", "x", "y");
    mk_output(&mk, "y", MK_FLOAT, NULL);
    counted(&mk);
}

/* Sizes at the ends of the number range: no overflow (UBSan looks). */
static void test_huge(void **state)
{
    (void)state;
    struct mk mk;
    static const float w[8] = {0};
    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "1,2,5,5");
    mk_constant(&mk, "w", MK_FLOAT, "2,1,2,2", w, sizeof(w));
    Onnx__NodeProto *up = mk_node(&mk, "ConvTranspose", "x,w", "y");
    ints(&mk, up, "pads", 4, (const int64_t[]){INT64_MAX, 0, 1, 0});
    mk_output(&mk, "y", MK_FLOAT, NULL);
    counted(&mk);

    mk_begin(&mk, 8);
    mk_input(&mk, "x", MK_FLOAT, "9223372036854775807");
    mk_node(&mk, "Split", "x", "y,z");
    mk_output(&mk, "y", MK_FLOAT, NULL);
    mk_output(&mk, "z", MK_FLOAT, NULL);
    counted(&mk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_too_few_inputs),
        cmocka_unit_test(test_no_name),
        cmocka_unit_test(test_huge),
    };
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
