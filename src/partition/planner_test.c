/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "partition/planner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A chain of NODES operators with a skip over each pair; tensor v is what node v - 1 makes. */
#define NODES 24

struct fixture {
    struct sx_dag dag;
    struct sx_dag_node nodes[NODES];
    struct sx_dag_tensor tensors[NODES + 1];
    uint32_t uses[3 * NODES], group[NODES];
    struct sx_profile profile;
    struct sx_machine machine;
    struct sx_device devices[3];
};

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    double ns[NODES], spread[NODES] = {0}, sum = 0;
    uint32_t at = 0;
    assert_non_null(f);
    for (uint32_t v = 0; v < NODES; v++) {
        f->nodes[v] = (struct sx_dag_node){.name = "", .type = "Conv", .weight_bytes = 1000 + v};
        f->group[v] = v;
        ns[v] = 1e6 * (1 + v % 5);
        sum += ns[v];
    }
    f->group[9] = 8;
    for (uint32_t t = 0; t <= NODES; t++) {
        struct sx_dag_tensor *tensor = &f->tensors[t];
        *tensor = (struct sx_dag_tensor){.name = "t",
                                         .producer = t ? t - 1 : SX_DAG_NONE,
                                         .first_use = at,
                                         .sized = true,
                                         .fixed_bytes = 64,
                                         .sample_bytes = 1e4};
        if (t < NODES)
            f->uses[at++] = t;
        if (t % 2 && t + 2 < NODES)
            f->uses[at++] = t + 2;
        tensor->n_uses = at - tensor->first_use;
    }
    f->tensors[NODES].output = true;
    f->dag = (struct sx_dag){.nodes = f->nodes,
                             .tensors = f->tensors,
                             .n_nodes = NODES,
                             .n_tensors = NODES + 1,
                             .uses = f->uses,
                             .group = f->group};
    f->profile.key = (struct sx_profile_key){.model = "m", .machine = "h", .n_nodes = NODES};
    const struct sx_profile_table table = {.kind = "cpu",
                                           .units = 1,
                                           .batch = 1,
                                           .runs = 5,
                                           .whole_ns = sum,
                                           .node_ns = ns,
                                           .node_spread_ns = spread};
    assert_int_equal(sx_profile_put(&f->profile, &table, NULL), SX_OK);
    for (unsigned d = 0; d < 3; d++)
        f->devices[d] = (struct sx_device){
            .kind = "cpu", .first_unit = d, .n_units = 1, .slowdown = d == 1 ? 4 : 1};
    snprintf(f->devices[0].name, sizeof f->devices[0].name, "cpu:0");
    snprintf(f->devices[1].name, sizeof f->devices[1].name, "cpu:1@4");
    snprintf(f->devices[2].name, sizeof f->devices[2].name, "cpu:2");
    f->machine = (struct sx_machine){.n_units = 3, .devices = f->devices, .n_devices = 3};
    *state = f;
    return 0;
}

static int drop(void **state)
{
    struct fixture *f = *state;
    sx_profile_fini(&f->profile);
    free(f);
    return 0;
}

static const struct sx_part_options no_metis = {.methods = 1u << SX_PART_TOPOLOGICAL};

static void a_problem_has_times_of_its_devices(void **state)
{
    struct fixture *f = *state;
    struct sx_part_problem p;
    assert_int_equal(
        sx_planner_problem(&f->dag, &f->profile, &f->machine, (unsigned[]){1, 0}, 2, 1, &p, NULL),
        SX_OK);
    assert_int_equal(sx_part_check(&p, NULL), SX_OK);
    for (uint32_t v = 0; v < NODES; v++) {
        assert_true(fabs(p.node_ns[v] - 4e6 * (1 + v % 5)) < 1);
        assert_true(fabs(p.node_ns[NODES + v] - 1e6 * (1 + v % 5)) < 1);
    }
    assert_int_equal(p.producer[0], SX_PART_NONE);
    assert_true(fabs(p.bytes[3] - 10064) < 1e-6);
    assert_true(p.stage_ns > 0 && p.link[1].fixed_ns > 0);
    assert_int_equal(p.group[9], 8);
    sx_planner_problem_fini(&p);
}

static void a_cut_becomes_a_plan(void **state)
{
    struct fixture *f = *state;
    struct sx_plan *plan;
    double sum = 0, slowest = 0, in = 0;
    assert_int_equal(sx_planner_cut(&f->dag, &f->profile, &f->machine, (unsigned[]){1, 0}, 2, 1,
                                    &no_metis, &plan, NULL),
                     SX_OK);
    assert_int_equal(sx_plan_check(plan, &f->dag, NULL), SX_OK);
    assert_string_equal(plan->name, "cpu:1@4 | cpu:0");
    assert_string_equal(plan->method, "topological");
    assert_int_equal(plan->n_devices, 3);
    assert_int_equal(plan->stages[0].device, 1);
    assert_int_equal(plan->stages[1].device, 0);
    assert_int_equal(plan->key.n_nodes, NODES);
    for (unsigned s = 0; s < 2; s++) {
        double ns = plan->stages[s].ns + plan->stages[s].transfer_ns;
        sum += ns;
        slowest = fmax(slowest, ns);
        in += plan->stages[s].in_bytes;
    }
    assert_true(fabs(sum - plan->latency_ns) < 1);
    assert_true(fabs(slowest - plan->slowest_ns) < 1);
    assert_true(fabs(in - plan->bytes_cut) < 1);
    assert_true(plan->stages[0].out_bytes > 0 && plan->stages[1].out_bytes < 1);
    /* the device that is 4 times slower has about a fifth of the work */
    double share = plan->stages[0].ns / 4 / (plan->stages[0].ns / 4 + plan->stages[1].ns);
    assert_true(share > 0.12 && share < 0.25);
    sx_plan_destroy(plan);
}

static void the_whole_model_is_a_plan(void **state)
{
    struct fixture *f = *state;
    struct sx_plan *plan;
    assert_int_equal(sx_planner_whole(&f->dag, &f->profile, &f->machine, 2, 1, &plan, NULL), SX_OK);
    assert_int_equal(sx_plan_check(plan, &f->dag, NULL), SX_OK);
    assert_int_equal(plan->n_stages, 1);
    assert_int_equal(plan->stages[0].n_nodes, NODES);
    assert_string_equal(plan->name, "whole on cpu:2");
    assert_string_equal(plan->method, "whole");
    assert_true(fabs(plan->stages[0].transfer_ns) < 1);
    sx_plan_destroy(plan);
}

static bool has(struct sx_plan *const *plans, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(plans[i]->name, name) == 0)
            return true;
    }
    return false;
}

static void variants_are_worth_having(void **state)
{
    struct fixture *f = *state;
    struct sx_plan *plans[16];
    size_t n = 0;
    double best = INFINITY;
    assert_int_equal(
        sx_planner_variants(&f->dag, &f->profile, &f->machine, 1, &no_metis, plans, 16, &n, NULL),
        SX_OK);
    assert_true(has(plans, n, "whole on cpu:0"));
    assert_true(has(plans, n, "whole on cpu:1@4"));
    assert_true(has(plans, n, "whole on cpu:2"));
    assert_true(has(plans, n, "cpu:0 | cpu:2") || has(plans, n, "cpu:2 | cpu:0"));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sx_plan_check(plans[i], &f->dag, NULL), SX_OK);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(plans[i]->name, plans[j]->name);
        best = fmin(best, plans[i]->slowest_ns);
    }
    assert_int_equal(plans[n - 1]->n_stages, 3); /* all devices together are the fastest */
    assert_true(fabs(best - fmin(plans[n - 1]->slowest_ns, plans[n - 2]->slowest_ns)) < 1);
    for (size_t i = 0; i < n; i++)
        sx_plan_destroy(plans[i]);

    /* no more than there is room for */
    assert_int_equal(
        sx_planner_variants(&f->dag, &f->profile, &f->machine, 1, &no_metis, plans, 2, &n, NULL),
        SX_OK);
    assert_int_equal(n, 2);
    sx_plan_destroy(plans[0]);
    sx_plan_destroy(plans[1]);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sx_plan *plan = NULL, *plans[4];
    struct sx_err err = {0};
    size_t n = 9;
    f->machine.devices[2].n_units = 2; /* nobody measured two */
    assert_int_equal(sx_planner_whole(&f->dag, &f->profile, &f->machine, 2, 1, &plan, &err),
                     SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "cpu:2"));
    assert_true(err.hint[0]);
    assert_int_equal(
        sx_planner_variants(&f->dag, &f->profile, &f->machine, 1, &no_metis, plans, 4, &n, &err),
        SX_NOT_FOUND);
    assert_int_equal(n, 0);
    f->machine.devices[2].n_units = 1;
    assert_int_equal(sx_planner_whole(&f->dag, &f->profile, &f->machine, 3, 1, &plan, &err),
                     SX_INVALID);
    f->profile.key.n_nodes++;
    assert_int_equal(sx_planner_whole(&f->dag, &f->profile, &f->machine, 0, 1, &plan, &err),
                     SX_INVALID);
    f->profile.key.n_nodes--;
    assert_null(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_has_times_of_its_devices),
        cmocka_unit_test(a_cut_becomes_a_plan),
        cmocka_unit_test(the_whole_model_is_a_plan),
        cmocka_unit_test(variants_are_worth_having),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
