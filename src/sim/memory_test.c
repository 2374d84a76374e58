/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - a scenario is read and simulated while memory is short.
 */
#include "base/memory_test.h"

#include <stdio.h>
#include <string.h>

#include "base/dir_test.h"
#include "base/file.h"
#include "sim/scenario.h"

static char path[96];

static int setup(void **state)
{
    static const char text[] =
        "{\"units\": 4, \"machines\": 2, \"seconds\": 0.5, \"replan_seconds\": 0.1, \"models\": ["
        "{\"name\": \"a\", \"objective_ms\": 50, \"load\": {\"kind\": \"poisson\", \"rate\": 40},"
        " \"table\": {\"units\": [1, 2], \"batches\": [1, 4], \"ms\": [[5, 3], [15, 9]]}},"
        "{\"name\": \"b\", \"objective_ms\": 90, \"load\": {\"kind\": \"poisson\", \"rate\": 20},"
        " \"table\": {\"units\": [1, 2], \"batches\": [1], \"ms\": [[9, 6]]}}]}";
    (void)state;
    if (make_dir(path, sizeof path, "s.json"))
        return -1;
    return sx_file_write(path, text, sizeof text - 1, NULL) ? -1 : 0;
}

static enum sx_rc simulate(void)
{
    struct sx_sim_scenario scenario;
    struct sx_sim_result result;
    struct sx_err err = {0};
    enum sx_rc rc = sx_sim_scenario_init(&scenario, &err);
    if (rc)
        return rc;
    rc = sx_sim_scenario_load(&scenario, path, &err);
    scenario.config.max_spans = 10;
    scenario.config.span_end = 1;
    if (!rc) {
        rc = sx_sim_run(&scenario.config, &result, &err);
        if (!rc)
            sx_sim_result_fini(&result);
    }
    sx_sim_scenario_fini(&scenario);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(simulate)};
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
