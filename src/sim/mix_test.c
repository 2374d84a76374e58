/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * mix_test.c - recalled mixes under all policies (D6 of the notes), the ideal scheduler (D7), many
 * machines.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cost/knee.h"
#include "sim/ideal.h"
#include "sim/scenario.h"
#include "sim/sim_test.h"

static struct sx_sim_result run_mix(const char *mix, enum sx_share_policy policy, double seconds)
{
    struct sx_sim_scenario s;
    struct sx_err err = {0};
    assert_int_equal(sx_sim_scenario_init(&s, &err), SX_OK);
    assert_int_equal(sx_sim_scenario_mix(&s, sx_mix_find(mix), &err), SX_OK);
    s.config.policy = policy;
    s.config.seconds = seconds;
    struct sx_sim_result r = simulate(&s.config);
    sx_sim_scenario_fini(&s);
    return r;
}

static void tables_have_their_knees(void **state)
{
    (void)state;
    for (const struct sx_mix *mix = sx_mixes(); mix->name; mix++) {
        for (unsigned i = 0; i < mix->n_models; i++) {
            const struct sx_mix_model *m = mix->models[i];
            struct sx_latency l;
            struct sx_knee knee;
            assert_ptr_equal(sx_mix_model_find(m->name), m);
            sx_mix_latency(m->knee, m->batch, m->run_ms * 1e6, 1, &l);
            sx_knee_find(&l, m->batch, 0, &knee);
            assert_int_equal(knee.efficacy, m->knee);
            assert_true(fabs(sx_latency_ns(&l, 100, m->batch) - m->run_ms * 1e6) < 1);
            assert_true(fabs(sx_latency_ns(&l, 10, m->batch) - m->run_ms * 1e5 * m->knee) < 1);
        }
    }
    assert_null(sx_mix_find("c5"));
    assert_null(sx_mix_model_find("c4"));
}

/* D6. */
static void recalled_mixes_come_out_as_in_the_notes(void **state)
{
    (void)state;
    static const char *const mixes[] = {"c2", "c3", "c4"};
    for (size_t i = 0; i < 3; i++) {
        struct sx_sim_result temporal = run_mix(mixes[i], SX_SHARE_TEMPORAL, 20);
        struct sx_sim_result edf = run_mix(mixes[i], SX_SHARE_EDF, 20);
        struct sx_sim_result fair = run_mix(mixes[i], SX_SHARE_FAIR, 20);
        print_message(
            "%s (simulated, recalled): samples/s temporal %.0f, edf %.0f, fair %.0f; fair: "
            "useful %.3f, Jain %.3f, missed %llu of %llu\n",
            mixes[i], temporal.all.throughput, edf.all.throughput, fair.all.throughput, fair.useful,
            fair.jain_run, (unsigned long long)fair.all.missed,
            (unsigned long long)fair.all.windows);
        assert_true(temporal.all.throughput < edf.all.throughput);
        assert_true(edf.all.throughput < fair.all.throughput);
        assert_int_equal(fair.all.missed, 0);
        if (i == 2) {
            /* one run a window, as the notes' own simulator has it */
            assert_true(fabs(edf.all.throughput - 1760) < 2 && fabs(edf.useful - 0.675) < 0.002);
            assert_true(fair.useful >= 0.90);
            assert_true(fair.all.throughput >= 2.5 * temporal.all.throughput);
            assert_true(fair.jain_run >= 0.95);
        }
        sx_sim_result_fini(&temporal);
        sx_sim_result_fini(&edf);
        sx_sim_result_fini(&fair);
    }
    struct sx_sim_result greedy = run_mix("c4", SX_SHARE_MAX_THROUGHPUT, 20);
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < greedy.n_models; i++)
        least = greedy.models[i].runs < least ? greedy.models[i].runs : least;
    assert_int_equal(least, 0); /* somebody starves */
    sx_sim_result_fini(&greedy);
}

/* C-7 asks for 122 % of the machine. */
static void too_much_is_said(void **state)
{
    (void)state;
    struct sx_sim_result r = run_mix("c7", SX_SHARE_FAIR, 5);
    print_message("c7: demand %.3f of what was admitted, %u refused: %s\n", r.verdict.demand,
                  r.verdict.refused, r.verdict.why);
    assert_false(r.verdict.feasible);
    assert_true(r.verdict.refused + r.verdict.shrunk > 0);
    assert_true(strlen(r.verdict.why) > 10);
    sx_sim_result_fini(&r);
}

/* --- the ideal -------------------------------------------------------------------------------- */

static void kernels_add_up_to_their_model(void **state)
{
    (void)state;
    static const unsigned knees[] = {20, 30, 40, 50, 60};
    for (size_t i = 0; i < 5; i++) {
        struct sx_ideal_model m;
        struct sx_latency l;
        struct sx_knee knee;
        struct sx_err err = {0};
        if (sx_ideal_model(100, knees[i], 12e6, 16, 50e6, &m, &err))
            fail_msg("%s", err.message);
        assert_true(fabs(sx_ideal_model_ns(&m, knees[i]) - 12e6) < 1);
        sx_ideal_latency(&m, 100, &l);
        sx_knee_find(&l, 16, 0, &knee);
        assert_int_equal(knee.efficacy, knees[i]);
        for (unsigned k = 1; k < m.n_kernels; k++)
            assert_true(m.operations[k] <= m.operations[k - 1]);
        print_message("knee %u: N_1 = %u\n", knees[i], m.operations[0]);
    }
    struct sx_ideal_model m;
    assert_int_equal(sx_ideal_model(100, 33, 1e6, 16, 50e6, &m, NULL), SX_INVALID);
    assert_int_equal(sx_ideal_model(100, 0, 1e6, 16, 50e6, &m, NULL), SX_INVALID);
    assert_int_equal(sx_ideal_model(7, 1, 1e6, 16, 50e6, &m, NULL), SX_INVALID);
}

/* One model alone: run after run at the kernels' knees, but for what the slots round up. */
static void the_ideal_runs_one_model_without_a_pause(void **state)
{
    (void)state;
    struct sx_ideal_model m;
    struct sx_ideal_result r;
    assert_int_equal(sx_ideal_model(100, 30, 10.3e6, 16, 50e6, &m, NULL), SX_OK);
    double run_ns = 0, unit_ns = 0;
    for (unsigned k = 0; k < m.n_kernels; k++) {
        double ns = m.serial_ns + m.op_ns * m.operations[k] / m.knee[k];
        run_ns += ns;
        unit_ns += ns * m.knee[k];
    }
    sx_ideal_run(&m, 1, 1, 100, 5, &r);
    double runs = 5e9 / run_ns;
    assert_int_equal(r.missed, 0);
    assert_int_equal(r.windows, 99); /* the last one ends with the time */
    assert_true((double)r.runs[0] <= runs && (double)r.runs[0] >= 0.98 * runs);
    assert_true(fabs(r.utilisation - (double)r.runs[0] * unit_ns / (5e9 * 100)) < 0.005);
}

/* A model whose kernels are as wide as its knee or wider uses all units; narrow ones leave some. */
static void narrow_kernels_leave_units_idle(void **state)
{
    (void)state;
    struct sx_ideal_model m = {.batch = 16,
                               .n_kernels = 2,
                               .operations = {40, 10},
                               .knee = {40, 10},
                               .op_ns = 3,
                               .serial_ns = 1};
    /* on 20 units: 1 + 3 * 2 on 20, 1 + 3 on 10 */
    assert_true(fabs(sx_ideal_model_ns(&m, 20) - 11) < 1e-9);
    assert_true(fabs(sx_ideal_used(&m, 20) - (7 * 20 + 4 * 10) / (11.0 * 20)) < 1e-9);
    assert_true(fabs(sx_ideal_used(&m, 5) - 1) < 1e-9);
    struct sx_ideal_model c;
    struct sx_ideal_result one, two;
    assert_int_equal(sx_ideal_model(100, 30, 10.3e6, 16, 50e6, &c, NULL), SX_OK);
    sx_ideal_run(&c, 1, 1, 100, 2, &one);
    sx_ideal_run(&c, 1, 2, 100, 2, &two);
    assert_true(two.throughput > 1.5 * one.throughput);
    assert_int_equal(two.missed, 0);
}

struct compared {
    double utilisation, throughput, ideal;
    uint64_t missed;
};

static struct compared compare(const struct sx_ideal_model *models, unsigned n, double seconds)
{
    struct sx_sim_scenario s;
    struct sx_err err = {0};
    struct sx_ideal_result ideal;
    assert_int_equal(sx_sim_scenario_init(&s, &err), SX_OK);
    for (unsigned i = 0; i < n; i++) {
        struct sx_sim_model *m;
        struct sx_latency l;
        char name[8];
        snprintf(name, sizeof name, "%u", i);
        sx_ideal_latency(&models[i], 100, &l);
        assert_int_equal(sx_sim_scenario_add(&s, name, &l, models[i].objective_ns * 1e-6, &m, &err),
                         SX_OK);
    }
    s.config.n_units = 100;
    s.config.half_rule = false;
    s.config.seconds = seconds;
    struct sx_sim_result r = simulate(&s.config);
    sx_ideal_run(models, n, 1, 100, seconds, &ideal);
    struct compared c = {r.useful / ideal.utilisation, r.all.throughput / ideal.throughput,
                         ideal.utilisation, r.all.missed};
    sx_sim_result_fini(&r);
    sx_sim_scenario_fini(&s);
    return c;
}

/* D7. */
static void fair_comes_near_the_ideal(void **state)
{
    (void)state;
    const struct sx_mix *mix = sx_mix_find("convnets");
    struct sx_ideal_model models[3];
    for (unsigned i = 0; i < 3; i++) {
        const struct sx_mix_model *m = mix->models[i];
        assert_int_equal(sx_ideal_model(100, m->knee, m->run_ms * 1e6, m->batch,
                                        m->objective_ms * 1e6, &models[i], NULL),
                         SX_OK);
    }
    struct compared c = compare(models, 3, 10);
    print_message(
        "ConvNets (simulated): %.3f of the ideal's utilisation of %.3f, %.3f of its throughput\n",
        c.utilisation, c.ideal, c.throughput);
    assert_int_equal(c.missed, 0);
    assert_true(c.utilisation >= 0.90);
    assert_true(c.throughput >= 0.90);
}

/* --- many machines ---------------------------------------------------------------------------- */

static struct sx_sim_result cluster(unsigned n, enum sx_sim_router router, double rate)
{
    struct sx_latency l = {.n_units = 2,
                           .n_batches = 2,
                           .units = {1, 2},
                           .batches = {1, 8},
                           .ns = {{10e6, 60e6}, {6e6, 35e6}}};
    struct sx_arrival a[2];
    sx_arrival_poisson(&a[0], rate, 1);
    sx_arrival_poisson(&a[1], rate, 2);
    struct sx_sim_model models[2] = {
        {.name = "a",
         .latency = &l,
         .objective_ns = 80e6,
         .weight = 1,
         .load = &a[0],
         .noise = 0.1},
        {.name = "b",
         .latency = &l,
         .objective_ns = 120e6,
         .weight = 1,
         .load = &a[1],
         .noise = 0.1,
         .replicas = (n + 1) / 2},
    };
    struct sx_sim_config c = {.models = models,
                              .n_models = 2,
                              .n_units = 2,
                              .policy = SX_SHARE_FAIR,
                              .n_machines = n,
                              .router = router,
                              .seconds = 4,
                              .seed = 9};
    return simulate(&c);
}

static void routers_reach_every_replica_and_no_other(void **state)
{
    (void)state;
    double kept[SX_SIM_ROUTERS];
    for (int router = 0; router < SX_SIM_ROUTERS; router++) {
        enum sx_sim_router found;
        assert_true(sx_sim_router_find(sx_sim_router_name((enum sx_sim_router)router), &found));
        assert_int_equal(found, router);
        struct sx_sim_result r = cluster(10, (enum sx_sim_router)router, 700);
        uint64_t offered = 0;
        for (unsigned i = 0; i < 10; i++) {
            offered += r.machines[i].offered;
            assert_true(r.machines[i].offered > 0);
            assert_true(r.machines[i].busy > 0.1);
        }
        assert_int_equal(offered, r.all.offered);
        assert_int_equal(r.all.offered, r.all.in_time + r.all.late + r.all.refused_late +
                                            r.all.refused_full + r.all.dropped + r.all.waiting);
        kept[router] = r.all.attainment;
        print_message("10 machines, %s: %.4f in time\n",
                      sx_sim_router_name((enum sx_sim_router)router), kept[router]);
        sx_sim_result_fini(&r);
    }
    assert_false(sx_sim_router_find("random", &(enum sx_sim_router){0}));
    /* Knowing more helps, and no less than a little luck is allowed for. */
    assert_true(kept[SX_SIM_LEAST_FINISH] >= kept[SX_SIM_ROUND_ROBIN] - 0.01);
    assert_true(kept[SX_SIM_TWO_CHOICES] >= kept[SX_SIM_ROUND_ROBIN] - 0.02);
}

static void machines_without_a_replica_get_nothing(void **state)
{
    (void)state;
    struct sx_latency l = {
        .n_units = 1, .n_batches = 1, .units = {1}, .batches = {1}, .ns = {{5e6}}};
    struct sx_arrival a[2];
    sx_arrival_poisson(&a[0], 100, 1);
    sx_arrival_poisson(&a[1], 100, 2);
    struct sx_sim_model models[2] = {
        {.name = "a",
         .latency = &l,
         .objective_ns = 50e6,
         .weight = 1,
         .load = &a[0],
         .replicas = 2},
        {.name = "b",
         .latency = &l,
         .objective_ns = 50e6,
         .weight = 1,
         .load = &a[1],
         .replicas = 1},
    };
    struct sx_sim_config c = {
        .models = models, .n_models = 2, .n_units = 1, .n_machines = 5, .seconds = 2};
    for (int router = 0; router < SX_SIM_ROUTERS; router++) {
        c.router = (enum sx_sim_router)router;
        struct sx_sim_result r = simulate(&c);
        assert_true(r.machines[0].offered > 50 && r.machines[1].offered > 50);
        assert_int_equal(r.machines[0].offered + r.machines[1].offered, r.models[0].offered);
        assert_int_equal(r.machines[2].offered, r.models[1].offered);
        assert_int_equal(r.machines[3].offered + r.machines[4].offered, 0);
        sx_sim_result_fini(&r);
    }
}

/* With round robin, one model everywhere and equal gaps, each machine does the same. */
static void equal_machines_do_equal_work(void **state)
{
    (void)state;
    struct sx_latency l = {
        .n_units = 1, .n_batches = 1, .units = {1}, .batches = {1}, .ns = {{5e6}}};
    struct sx_arrival a;
    sx_arrival_constant(&a, 400);
    struct sx_sim_model m = {
        .name = "a", .latency = &l, .objective_ns = 50e6, .weight = 1, .load = &a};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .n_machines = 4, .seconds = 3};
    struct sx_sim_result r = simulate(&c);
    assert_int_equal(r.all.refused_late + r.all.dropped + r.all.late, 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(fabs(r.machines[i].busy - 0.5) < 0.01);
    sx_sim_result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_have_their_knees),
        cmocka_unit_test(recalled_mixes_come_out_as_in_the_notes),
        cmocka_unit_test(too_much_is_said),
        cmocka_unit_test(kernels_add_up_to_their_model),
        cmocka_unit_test(the_ideal_runs_one_model_without_a_pause),
        cmocka_unit_test(narrow_kernels_leave_units_idle),
        cmocka_unit_test(fair_comes_near_the_ideal),
        cmocka_unit_test(routers_reach_every_replica_and_no_other),
        cmocka_unit_test(machines_without_a_replica_get_nothing),
        cmocka_unit_test(equal_machines_do_equal_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
