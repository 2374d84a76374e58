/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_test.c - profiles, tables and plans are written and read while memory is short.
 */
#include "base/memory_test.h"

#include <stdio.h>
#include <string.h>

#include "base/dir_test.h"
#include "cost/latency_file.h"
#include "plan/plan.h"

#define NODES 6

static char path[96];

static int setup(void **state)
{
    (void)state;
    return make_dir(path, sizeof path, "file.json");
}

static const struct sx_profile_key key = {
    .model = "0123456789abcdef", .machine = "m1", .engine = "E 1", .n_nodes = NODES};

static enum sx_rc keep_profile(void)
{
    double ns[NODES] = {1e6, 2e6, 3e6, 4e6, 5e6, 6e6}, spread[NODES] = {0};
    const struct sx_profile_table table = {.kind = "cpu",
                                           .units = 1,
                                           .batch = 1,
                                           .runs = 5,
                                           .whole_ns = 21e6,
                                           .node_ns = ns,
                                           .node_spread_ns = spread};
    const struct sx_profile_link link = {"cpu", "cpu", 1000, 0.1};
    struct sx_profile p = {.key = key}, again = {0};
    struct sx_err err = {0};
    enum sx_rc rc = sx_profile_put(&p, &table, &err);
    if (!rc)
        rc = sx_profile_put_link(&p, &link, &err);
    if (!rc)
        rc = sx_profile_save(&p, path, &err);
    if (!rc)
        rc = sx_profile_load(path, &key, &again, &err);
    sx_profile_fini(&p);
    sx_profile_fini(&again);
    return rc;
}

static enum sx_rc keep_table(void)
{
    static const struct sx_latency l = {.n_units = 2,
                                        .n_batches = 2,
                                        .units = {1, 2},
                                        .batches = {1, 4},
                                        .ns = {{1e6, 3e6}, {6e5, 2e6}}};
    struct sx_latency again;
    char name[SX_LATENCY_NAME];
    struct sx_err err = {0};
    enum sx_rc rc = sx_latency_save(path, "m", &l, &err);
    return rc ? rc : sx_latency_load(path, &again, name, &err);
}

static enum sx_rc keep_plan(void)
{
    static uint32_t first[] = {0, 1, 2}, second[] = {3, 4, 5};
    struct sx_plan_stage stages[] = {{.device = 0, .nodes = first, .n_nodes = 3, .ns = 6e6},
                                     {.device = 1, .nodes = second, .n_nodes = 3, .ns = 15e6}};
    struct sx_plan p = {.key = key,
                        .name = "cpu:0 | cpu:1",
                        .batch = 1,
                        .devices = {"cpu:0", "cpu:1"},
                        .n_devices = 2,
                        .stages = stages,
                        .n_stages = 2,
                        .latency_ns = 21e6,
                        .slowest_ns = 15e6,
                        .method = "metis"};
    struct sx_plan *again = NULL;
    struct sx_err err = {0};
    enum sx_rc rc = sx_plan_save(&p, path, &err);
    if (!rc)
        rc = sx_plan_load(path, &key, &again, &err);
    if (!rc)
        sx_plan_destroy(again);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SWEEP(keep_profile), SWEEP(keep_table), SWEEP(keep_plan)};
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
