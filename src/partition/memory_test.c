/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - a model is cut while memory is short.
 */
#include "base/memory_test.h"

#include "partition/problem_test.h"

static struct made made;

static int setup(void **state)
{
    (void)state;
    made_init(&made, 7, MADE_SERIES_PARALLEL, 12, 3, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    made_free(&made);
    return 0;
}

static enum sx_rc solve(void)
{
    const struct sx_part_options options = {.methods = 1u << SX_PART_TOPOLOGICAL |
                                                       1u << SX_PART_EXHAUSTIVE};
    struct sx_part_result result = {0};
    struct sx_err err = {0};
    enum sx_rc rc = sx_part_solve(&made.problem, &options, &result, &err);
    sx_part_result_fini(&result);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(solve)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
