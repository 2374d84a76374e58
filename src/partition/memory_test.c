/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - a model is cut while memory is short.
 */
#include "base/memory_test.h"

#include "partition/problem_test.h"

static enum sx_rc solve(void *problem)
{
    const struct sx_part_options options = {.methods = 1u << SX_PART_TOPOLOGICAL |
                                                       1u << SX_PART_EXHAUSTIVE};
    struct sx_part_result result = {0};
    struct sx_err err = {0};
    enum sx_rc rc = sx_part_solve(problem, &options, &result, &err);
    sx_part_result_fini(&result);
    return rc;
}

static void test_solve(void **state)
{
    (void)state;
    struct made m;
    made_init(&m, 7, MADE_SERIES_PARALLEL, 12, 3, true);
    sweep("cut a graph", solve, &m.problem);
    made_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_solve)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
