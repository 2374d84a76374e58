/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sim/sim_test.h"

/* --- small things ----------------------------------------------------------------------------- */

/* One number of units, one batch: every run takes `ms`. */
static struct sx_latency fixed(unsigned units, double ms)
{
    struct sx_latency l = {.n_units = 1, .n_batches = 1, .units = {units}, .batches = {1}};
    l.ns[0][0] = ms * 1e6;
    sx_latency_prepare(&l);
    return l;
}

/* Requests at these times in ms; the array is the process's. */
static struct sx_arrival at_times(const double *ms, size_t n)
{
    struct sx_arrival a = {.kind = SX_ARRIVAL_TIMES, .rate = 1};
    a.times = malloc(n * sizeof *a.times);
    assert_non_null(a.times);
    for (size_t i = 0; i < n; i++)
        a.times[a.n_times++] = (uint64_t)llround(ms[i] * 1e6);
    return a;
}

static bool close_to(double x, double y, double by)
{
    return fabs(x - y) <= by * fabs(y) + 1e-12;
}

/* --- by hand ---------------------------------------------------------------------------------- */

/* One unit, runs of 10 ms, requests at 0, 5 and 8: they end at 10, 20 and 30, after 10, 15 and 22.
 */
static void three_requests_on_one_unit(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_arrival a = at_times((double[]){0, 5, 8}, 3);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 100e6, .weight = 1, .load = &a};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_EDF, .seconds = 0.05};
    struct sx_sim_result r = simulate(&c);
    const struct sx_sim_figures *f = &r.models[0];
    assert_int_equal(f->offered, 3);
    assert_int_equal(f->in_time, 3);
    assert_int_equal(f->runs, 3);
    assert_int_equal(r.decisions, 3);
    assert_true(close_to(f->mean_ns, 47e6 / 3, 1e-9));
    assert_true(close_to(f->max_ns, 22e6, 1e-9));
    assert_true(close_to(f->p50_ns, 15e6, 1.0 / 64));
    assert_true(close_to(f->throughput, 60, 1e-9));
    assert_true(close_to(r.busy, 0.6, 1e-9)); /* 30 of 50 ms */
    assert_true(close_to(f->run_ns, 30e6, 1e-9));
    assert_conserved(f);
    sx_sim_result_fini(&r);
    sx_arrival_fini(&a);
}

/* The same with an objective of 18 ms and nothing refused or dropped: one is late.  With admission
 * it is refused on arrival; without it, but with dropping, it is dropped when its turn comes. */
static void a_late_request_is_late_refused_or_dropped(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_arrival a = at_times((double[]){0, 5, 8}, 3);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 18e6, .weight = 1, .load = &a};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_EDF, .seconds = 0.05};
    struct sx_sim_result r = simulate(&c);
    assert_int_equal(r.models[0].in_time, 2);
    assert_int_equal(r.models[0].refused_late, 1);
    assert_true(close_to(r.models[0].attainment, 2.0 / 3, 1e-9));
    sx_sim_result_fini(&r);

    c.admit_all = true;
    r = simulate(&c);
    assert_int_equal(r.models[0].in_time, 2);
    assert_int_equal(r.models[0].dropped, 1);
    assert_conserved(&r.models[0]);
    sx_sim_result_fini(&r);

    c.keep_late = true;
    r = simulate(&c);
    assert_int_equal(r.models[0].in_time, 2);
    assert_int_equal(r.models[0].late, 1);
    assert_true(close_to(r.models[0].goodput, 40, 1e-9));
    assert_true(close_to(r.models[0].throughput, 60, 1e-9));
    sx_sim_result_fini(&r);

    m.max_queue = 1; /* the third finds one waiting */
    r = simulate(&c);
    assert_int_equal(r.models[0].refused_full, 1);
    assert_conserved(&r.models[0]);
    sx_sim_result_fini(&r);
    sx_arrival_fini(&a);
}

/* Requests at 0, 20, 30; counted from 15 on, until 35: the second is in time, the third waits in
 * its run; busy are 15 of 20 ms. */
static void only_what_is_counted_counts(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_arrival a = at_times((double[]){0, 20, 30, 60}, 4);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 100e6, .weight = 1, .load = &a};
    struct sx_sim_config c = {.models = &m,
                              .n_models = 1,
                              .n_units = 2,
                              .policy = SX_SHARE_EDF,
                              .seconds = 0.035,
                              .warm_seconds = 0.015};
    struct sx_sim_result r = simulate(&c);
    assert_int_equal(r.models[0].offered, 2);
    assert_int_equal(r.models[0].in_time, 1);
    assert_int_equal(r.models[0].waiting, 1);
    assert_int_equal(r.models[0].runs, 1);
    assert_true(close_to(r.busy, 15.0 / 40, 1e-9)); /* one of two units */
    sx_sim_result_fini(&r);
    sx_arrival_fini(&a);
}

/* A run of 10 ms whose table is doubled by costs: 2 ms a run, 8 ms a request, 5 ms on the way. */
static void fixed_costs_are_added(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_arrival a = at_times((double[]){1}, 1);
    struct sx_sim_model m = {.name = "m",
                             .latency = &l,
                             .objective_ns = 100e6,
                             .weight = 1,
                             .load = &a,
                             .run_ns = 2e6,
                             .request_ns = 8e6,
                             .way_ns = 5e6};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_FAIR, .seconds = 0.1};
    struct sx_sim_result r = simulate(&c);
    assert_true(close_to(r.models[0].max_ns, 25e6, 1e-9));
    assert_true(close_to(r.models[0].run_ns, 20e6, 1e-9));
    assert_true(r.models[0].predict_error < 1e-9);
    sx_sim_result_fini(&r);
    m.slowness = 2; /* the scheduler does not know that */
    r = simulate(&c);
    assert_true(close_to(r.models[0].max_ns, 45e6, 1e-9));
    assert_true(close_to(r.models[0].predict_error, 1, 1e-6));
    sx_sim_result_fini(&r);
    sx_arrival_fini(&a);
}

/* 10 ms on one unit, 7.5 on two.  Planned on one; alone, with few expected and room, it may have
 * two, as if somebody had said so. */
static void a_lone_request_runs_wide(void **state)
{
    (void)state;
    struct sx_latency l = {
        .n_units = 2, .n_batches = 1, .units = {1, 2}, .batches = {1}, .ns = {{10e6}, {7.5e6}}};
    struct sx_arrival a = at_times((double[]){1}, 1);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 100e6, .weight = 1, .load = &a, .rate = 1};
    struct sx_sim_config c = {.models = &m,
                              .n_models = 1,
                              .n_units = 8,
                              .policy = SX_SHARE_FAIR,
                              .fit = SX_SHARE_ALIGNED,
                              .seconds = 0.1};
    struct sx_sim_result planned = simulate(&c);
    c.lone_width = true;
    struct sx_sim_result wide = simulate(&c);
    c.lone_width = false;
    m.lone_units = 2;
    struct sx_sim_result told = simulate(&c);
    assert_int_equal(planned.plans[0].units, 1);
    assert_true(close_to(planned.models[0].max_ns, 10e6, 1e-9));
    assert_true(close_to(wide.models[0].max_ns, 7.5e6, 1e-9));
    assert_int_equal(wide.hash, told.hash);
    sx_sim_result_fini(&planned);
    sx_sim_result_fini(&wide);
    sx_sim_result_fini(&told);
    sx_arrival_fini(&a);
}

/* Three requests of three samples at once, batches of at most eight: two of them, then one. */
static void requests_are_not_divided(void **state)
{
    (void)state;
    struct sx_latency l = {
        .n_units = 1, .n_batches = 2, .units = {1}, .batches = {1, 8}, .ns = {{10e6, 10e6}}};
    struct sx_arrival a = at_times((double[]){2, 2, 2}, 3);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 100e6, .weight = 1, .samples = 3, .load = &a};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_EDF, .seconds = 0.1};
    struct sx_sim_result r = simulate(&c);
    assert_int_equal(r.models[0].runs, 2);
    assert_int_equal(r.models[0].samples, 9);
    assert_int_equal(r.models[0].in_time, 3);
    assert_true(close_to(r.models[0].mean_ns, 40e6 / 3, 1e-9)); /* 10, 10, 20 */
    assert_true(close_to(r.models[0].goodput, 90, 1e-9));
    sx_sim_result_fini(&r);
    sx_arrival_fini(&a);
}

/* Told one request a second, gets fifty: only who looks again knows. */
static void plans_follow_the_rate(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_arrival a;
    sx_arrival_poisson(&a, 50, 1);
    struct sx_sim_model m = {
        .name = "m", .latency = &l, .objective_ns = 200e6, .weight = 1, .load = &a, .rate = 1};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_FAIR, .seconds = 20};
    struct sx_sim_result told = simulate(&c);
    c.replan_seconds = 0.5;
    struct sx_sim_result learnt = simulate(&c);
    assert_true(told.plans[0].demand < 0.05);
    assert_true(fabs(learnt.plans[0].demand - 0.5) < 0.15);
    sx_sim_result_fini(&told);
    sx_sim_result_fini(&learnt);
}

/* An endless queue, runs of 10 ms on 1 of 4 units, windows of 25 ms: one run after another, so all
 * windows are kept, a quarter of the units is busy. */
static void an_endless_queue_keeps_its_windows(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10);
    struct sx_sim_model m = {.name = "m", .latency = &l, .objective_ns = 25e6, .weight = 1};
    struct sx_sim_config c = {
        .models = &m, .n_models = 1, .n_units = 1, .policy = SX_SHARE_FAIR, .seconds = 1};
    struct sx_sim_result r = simulate(&c);
    assert_int_equal(r.models[0].windows, 40);
    assert_int_equal(r.models[0].missed, 0);
    assert_int_equal(r.models[0].samples, 100);
    assert_true(close_to(r.models[0].goodput, 100, 1e-9));
    assert_true(close_to(r.busy, 1, 1e-9));
    sx_sim_result_fini(&r);
    c.policy = SX_SHARE_EDF; /* one a window */
    r = simulate(&c);
    assert_int_equal(r.models[0].samples, 40);
    assert_int_equal(r.models[0].missed, 0);
    assert_true(close_to(r.models[0].goodput, 40, 1e-9));
    sx_sim_result_fini(&r);
}

static void jain_is_one_when_equal_and_one_nth_when_not(void **state)
{
    (void)state;
    assert_true(close_to(sx_sim_jain((double[]){3, 3, 3}, 3), 1, 1e-12));
    assert_true(close_to(sx_sim_jain((double[]){7, 0, 0, 0}, 4), 0.25, 1e-12));
    assert_true(close_to(sx_sim_jain((double[]){1, 2}, 2), 0.9, 1e-12));
    assert_true(close_to(sx_sim_jain((double[]){0, 0}, 2), 1, 1e-12));
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct sx_latency l = fixed(1, 10), empty = {0};
    struct sx_arrival a;
    sx_arrival_poisson(&a, 10, 1);
    const struct sx_sim_model good = {
        .name = "m", .latency = &l, .objective_ns = 1e8, .weight = 1, .load = &a};
    const struct sx_sim_config fine = {.n_models = 1, .n_units = 1, .seconds = 1};
    for (int i = 0; i < 12; i++) {
        struct sx_sim_model m = good;
        struct sx_sim_config c = fine;
        struct sx_sim_result r;
        struct sx_err err = {0};
        c.models = &m;
        switch (i) {
        case 0:
            m.objective_ns = 0;
            break;
        case 1:
            m.weight = -1;
            break;
        case 2:
            m.noise = NAN;
            break;
        case 3:
            m.latency = &empty;
            break;
        case 4:
            m.replicas = 2;
            break;
        case 5:
            c.n_units = 0;
            break;
        case 6:
            c.n_units = SX_SCHED_UNITS + 1;
            break;
        case 7:
            c.n_models = 0;
            break;
        case 8:
            c.seconds = INFINITY;
            break;
        case 9:
            c.warm_seconds = 1;
            break;
        case 10:
            c.n_machines = SX_SIM_MACHINES + 1;
            break;
        case 11:
            m.load = NULL;
            m.samples = 4;
            break;
        }
        assert_int_equal(sx_sim_run(&c, &r, &err), SX_INVALID);
        assert_true(strlen(err.message) > 10);
    }
}

/* --- by formula --- */

/* One server, Poisson arrivals, equal run times: the mean wait is rho D / (2 (1 - rho))
 * (Pollaczek and Khinchine). */
static void waiting_is_that_of_m_d_1(void **state)
{
    (void)state;
    static const double loads[] = {0.3, 0.5, 0.7, 0.85};
    for (size_t i = 0; i < 4; i++) {
        double rho = loads[i], d = 1e-3;
        struct sx_latency l = fixed(1, d * 1e3);
        struct sx_arrival a;
        sx_arrival_poisson(&a, rho / d, 3 + i);
        struct sx_sim_model m = {.name = "m",
                                 .latency = &l,
                                 .objective_ns = 100e9,
                                 .weight = 1,
                                 .max_queue = 1u << 20,
                                 .load = &a};
        struct sx_sim_config c = {.models = &m,
                                  .n_models = 1,
                                  .n_units = 1,
                                  .policy = SX_SHARE_EDF,
                                  .seconds = 400,
                                  .admit_all = true,
                                  .keep_late = true};
        struct sx_sim_result r = simulate(&c);
        double wait = r.models[0].mean_ns * 1e-9 - d, formula = rho * d / (2 * (1 - rho));
        print_message("M/D/1 at %.0f %%: mean wait %.4f ms, by the formula %.4f ms\n", 100 * rho,
                      wait * 1e3, formula * 1e3);
        assert_true(close_to(wait, formula, 0.04));
        assert_true(close_to(r.busy, rho, 0.01));
        sx_sim_result_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_requests_on_one_unit),
        cmocka_unit_test(a_late_request_is_late_refused_or_dropped),
        cmocka_unit_test(only_what_is_counted_counts),
        cmocka_unit_test(fixed_costs_are_added),
        cmocka_unit_test(a_lone_request_runs_wide),
        cmocka_unit_test(requests_are_not_divided),
        cmocka_unit_test(plans_follow_the_rate),
        cmocka_unit_test(an_endless_queue_keeps_its_windows),
        cmocka_unit_test(jain_is_one_when_equal_and_one_nth_when_not),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(waiting_is_that_of_m_d_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
