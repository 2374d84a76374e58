/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_requests_test.c - queues with deadlines, random arrivals; and random workloads of all
 * kinds, in which everything that must hold always is checked.  All figures are simulated.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/share_sim.h"

/* --- three models of different weight on few units ----------------------------------------------
 */

/* Times of one sample on one unit and on all, in ms; the part of it that a batch pays once. */
struct entry {
    double one, two, fixed;
};
static const struct entry mixed[3] = {{7.7, 4.3, 0.28}, {20, 12, 0.2}, {65, 42, 0.12}};

static void table(struct sx_latency *l, const struct entry *e, unsigned n_units)
{
    memset(l, 0, sizeof *l);
    /* Amdahl's law through the two times. */
    double parallel = 2 * (e->one - e->two), serial = e->one - parallel;
    for (unsigned u = 1; u <= n_units; u *= 2)
        l->units[l->n_units++] = u;
    for (unsigned b = 1; b <= 8; b *= 2)
        l->batches[l->n_batches++] = b;
    for (unsigned u = 0; u < l->n_units; u++) {
        for (unsigned b = 0; b < l->n_batches; b++)
            l->ns[u][b] = 1e6 * (serial + parallel / l->units[u]) *
                          (e->fixed + (1 - e->fixed) * l->batches[b]);
    }
}

static struct sim_config at_load(double load, unsigned n_units, enum sx_share_policy policy)
{
    struct sim_config c = {.policy = policy,
                           .fit = SX_SHARE_ALIGNED,
                           .n_units = n_units,
                           .n_models = 3,
                           .seconds = 60,
                           .warm_seconds = 5,
                           .replan_seconds = 1,
                           .noise = 0.05,
                           .seed = 11};
    for (unsigned m = 0; m < 3; m++) {
        struct sim_model *s = &c.model[m];
        *s = (struct sim_model){.objective_ns = 5e6 * mixed[m].one, .weight = 1, .max_batch = 8};
        s->rate = load * n_units / 3 / (mixed[m].one * 1e-3); /* equal work */
        table(&s->latency, &mixed[m], n_units);
    }
    return c;
}

static const enum sx_share_policy compared[] = {SX_SHARE_FAIR,           SX_SHARE_TEMPORAL,
                                                SX_SHARE_FIXED,          SX_SHARE_GREEDY,
                                                SX_SHARE_MAX_THROUGHPUT, SX_SHARE_MAX_MIN};
#define COMPARED 6
static const double loads[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2};
#define LOADS (sizeof loads / sizeof *loads)

static void compare(unsigned n_units, double *ret_worst, double *ret_gain, double *ret_jain)
{
    *ret_worst = *ret_jain = 1;
    double gain[COMPARED] = {0};
    for (unsigned l = 0; l < LOADS; l++) {
        double goodput[COMPARED], best = 0;
        struct sim_result fair = {0};
        print_message("%u units, load %.1f:", n_units, loads[l]);
        for (unsigned p = 0; p < COMPARED; p++) {
            struct sim_config c = at_load(loads[l], n_units, compared[p]);
            struct sim_result r;
            sim_run(&c, &r);
            goodput[p] = r.in_time_per_s;
            print_message(" %s %.1f/s (%.2f %.2f %.2f)", sx_share_policy_name(compared[p]),
                          goodput[p], r.model[0].share, r.model[1].share, r.model[2].share);
            if (p == 0) {
                fair = r;
                continue;
            }
            best = goodput[p] > best ? goodput[p] : best;
            gain[p] = fmax(gain[p], goodput[0] / goodput[p]);
        }
        print_message("; fair over the best %.3f, Jain %.3f\n", goodput[0] / best, fair.jain_share);
        *ret_worst = fmin(*ret_worst, goodput[0] / best);
        *ret_jain = fmin(*ret_jain, fair.jain_share);
    }
    *ret_gain = INFINITY;
    for (unsigned p = 1; p < COMPARED; p++) {
        print_message("%s: at most %.2f times its goodput\n", sx_share_policy_name(compared[p]),
                      gain[p]);
        *ret_gain = fmin(*ret_gain, gain[p]);
    }
}

static void goodput_is_never_below_a_baseline_and_often_above(void **unused)
{
    (void)unused;
    for (unsigned n_units = 2; n_units <= 8; n_units *= 2) {
        double worst, gain, jain;
        compare(n_units, &worst, &gain, &jain);
        print_message(
            "%u units: fair over the best baseline at least %.3f, over each at some load at "
            "least %.2f, Jain of attainment at least %.3f (simulated)\n",
            n_units, worst, gain, jain);
        assert_true(worst >= 0.97);
        assert_true(jain >= 0.95);
        if (n_units == 2)
            assert_true(gain >= 1.05);
    }
}

/* --- random workloads ---------------------------------------------------------------------------
 */

static void random_table(struct sx_rng *rng, struct sx_latency *l, unsigned n_units)
{
    memset(l, 0, sizeof *l);
    for (unsigned u = 1; u <= n_units && l->n_units < SX_LATENCY_UNITS; u *= 2)
        l->units[l->n_units++] = u;
    if (l->units[l->n_units - 1] < n_units && sx_rng_below(rng, 2))
        l->units[l->n_units++] = n_units;
    unsigned most = 1u << sx_rng_below(rng, 5);
    for (unsigned b = 1; b <= most; b *= 2)
        l->batches[l->n_batches++] = b;
    double one = 1e6 * (0.2 + 20 * sx_rng_double(rng)), fixed = sx_rng_double(rng),
           serial = sx_rng_double(rng);
    for (unsigned u = 0; u < l->n_units; u++) {
        for (unsigned b = 0; b < l->n_batches; b++)
            l->ns[u][b] =
                one * (serial + (1 - serial) / l->units[u]) * (fixed + (1 - fixed) * l->batches[b]);
    }
}

static void random_workload(struct sx_rng *rng, struct sim_config *c)
{
    *c = (struct sim_config){.policy = (enum sx_share_policy)sx_rng_below(rng, SX_SHARE_POLICIES),
                             .fit = sx_rng_below(rng, 2) ? SX_SHARE_ANY : SX_SHARE_ALIGNED,
                             .n_units =
                                 1 + (unsigned)sx_rng_below(rng, sx_rng_below(rng, 2) ? 8 : 80),
                             .n_models = 1 + (unsigned)sx_rng_below(rng, 6),
                             .seconds = 0.1,
                             .noise = sx_rng_below(rng, 2) ? 0.3 : 0,
                             .replan_seconds = sx_rng_below(rng, 2) ? 0.03 : 0,
                             .keep_late = sx_rng_below(rng, 4) == 0,
                             .seed = sx_rng_u64(rng)};
    for (unsigned m = 0; m < c->n_models; m++) {
        struct sim_model *s = &c->model[m];
        *s = (struct sim_model){.weight = 0.5 + 2 * sx_rng_double(rng),
                                .objective_ns = 1e6 * (1 + 60 * sx_rng_double(rng)),
                                .priority = (int)sx_rng_below(rng, 3),
                                .lone_units = (unsigned)sx_rng_below(rng, 5),
                                .max_delay_ns = sx_rng_below(rng, 4) ? 0 : 3000000};
        random_table(rng, &s->latency, c->n_units);
        s->max_batch = 1 + (unsigned)sx_rng_below(rng, 16);
        s->rate = sx_rng_below(rng, 3) ? 20 + 2000 * sx_rng_double(rng) * sx_rng_double(rng) : 0;
        if (sx_rng_below(rng, 4) == 0)
            s->join_s = 0.05 * sx_rng_double(rng);
        if (sx_rng_below(rng, 4) == 0)
            s->leave_s = 0.05 + 0.05 * sx_rng_double(rng);
        if (sx_rng_below(rng, 8) == 0) {
            s->slow_at_s = 0.05;
            s->slowness = sx_rng_below(rng, 2) ? 10 : 0.1;
        }
    }
    c->learn = sx_rng_below(rng, 2);
}

#define WORKLOADS 10000

static void whatever_comes_units_and_requests_are_accounted_for(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    sx_rng_init(&rng, 2);
    uint64_t decisions = 0, runs = 0, requests = 0;
    for (unsigned i = 0; i < WORKLOADS; i++) {
        struct sim_config c;
        struct sim_result r;
        random_workload(&rng, &c);
        sim_run(&c, &r); /* checks units, groups and sums after each step */
        decisions += r.decisions;
        for (unsigned m = 0; m < c.n_models; m++) {
            const struct sim_model_result *mr = &r.model[m];
            runs += mr->runs;
            requests += mr->offered;
            assert_int_equal(mr->offered, mr->in_time + mr->late + mr->dropped + mr->waiting);
        }
    }
    print_message(
        "%u random workloads: %llu decisions, %llu runs, %llu requests, each answered once, "
        "dropped or still there\n",
        WORKLOADS, (unsigned long long)decisions, (unsigned long long)runs,
        (unsigned long long)requests);
    assert_true(runs > WORKLOADS);
}

/* --- trouble ------------------------------------------------------------------------------------
 */

static void cost_that_drifts_tenfold_is_followed(void **unused)
{
    (void)unused;
    struct sim_config c = at_load(0.3, 2, SX_SHARE_FAIR);
    c.seconds = 20;
    c.model[0].slow_at_s = 10;
    c.model[0].slowness = 10; /* 77 ms under 38.5: nothing can be in time */
    c.learn = true;
    struct sim_result r;
    sim_run(&c, &r);
    print_message(
        "one of three becomes ten times slower than its objective allows: the others keep "
        "%.2f and %.2f\n",
        r.model[1].share, r.model[2].share);
    assert_true(r.model[0].share < 0.9);
    assert_true(r.model[1].share > 0.95 && r.model[2].share > 0.95);
    /* Unknown to the scheduler, it blocks units for longer than foreseen; all goes on. */
    c.learn = false;
    sim_run(&c, &r);
    assert_true(r.model[1].share > 0.3 && r.model[2].share > 0.3);
}

static void a_lone_request_may_run_wide(void **unused)
{
    (void)unused;
    struct sim_config c = at_load(0.005, 2, SX_SHARE_FAIR);
    c.seconds = 300;
    for (unsigned m = 0; m < 3; m++)
        c.model[m].lone_units = 2;
    struct sim_result r;
    sim_run(&c, &r);
    for (unsigned m = 0; m < 3; m++) {
        double mean = r.model[m].run_ns / (double)r.model[m].runs / 1e6;
        print_message("lone: %.1f ms on average, %.1f on two units\n", mean, mixed[m].two);
        assert_true(mean < 1.1 * mixed[m].two);
        assert_true(r.model[m].share > 0.99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodput_is_never_below_a_baseline_and_often_above),
        cmocka_unit_test(whatever_comes_units_and_requests_are_accounted_for),
        cmocka_unit_test(cost_that_drifts_tenfold_is_followed),
        cmocka_unit_test(a_lone_request_may_run_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
