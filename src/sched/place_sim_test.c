/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sched/place_sim.h"

#define T 75e6 /* the whole model on the fast device, ns */

static const double slow_downs[] = {2, 4, 8};

static struct sx_place_variant whole(unsigned device, double ns)
{
    return (struct sx_place_variant){.n_stages = 1, .device = {device}, .ns = {ns}};
}

static struct sx_place_variant two(unsigned device0, double ns0, unsigned device1, double ns1)
{
    return (struct sx_place_variant){.n_stages = 2, .device = {device0, device1}, .ns = {ns0, ns1}};
}

/* Device 1 is k times slower than device 0; it computes the share a of a cut model. */
enum { FAST, SLOW, SLOW_FIRST, FAST_FIRST, PAIR_VARIANTS };
static void fill_pair(struct sx_place_variant *v, double t, double k, double a)
{
    v[FAST] = whole(0, t);
    v[SLOW] = whole(1, k * t);
    v[SLOW_FIRST] = two(1, a * k * t, 0, (1 - a) * t);
    v[FAST_FIRST] = two(0, (1 - a) * t, 1, a * k * t);
}

/* Cutting costs something: transfers, and what the engine could have done across the cut. */
static void add_overhead(struct sx_place_variant *v, unsigned n_variants, double share)
{
    for (unsigned i = 0; i < n_variants; i++) {
        for (unsigned k = 0; v[i].n_stages > 1 && k < v[i].n_stages; k++)
            v[i].ns[k] *= 1 + share;
    }
}

/* Both stages take equally long, 5 % of it more and less on the slow device, and what a grid of
 * eighths allows. */
#define SHARES 4
static double share(double k, unsigned i)
{
    double ideal = 1 / (1 + k);
    return i == 0 ? ideal : i == 1 ? 1.05 * ideal : i == 2 ? 0.95 * ideal : ceil(8 * ideal) / 8;
}

static struct sim_config pair_config(const struct sx_place_variant *v, unsigned n_variants)
{
    return (struct sim_config){.n_devices = 2,
                               .n_models = 1,
                               .model = {{.variants = v, .n_variants = n_variants}},
                               .n_requests = 4000,
                               .warm = 100,
                               .seed = 7};
}

static double per_second(double load, double t)
{
    return load * 1e9 / t;
}

/* --- whole runs in virtual time --------------------------------------------------------------- */

static void saturated_devices_are_both_busy(void **unused)
{
    (void)unused;
    double least = 2, least_busy = 1;
    unsigned most_jobs = 0;
    for (unsigned ki = 0; ki < 3; ki++) {
        for (unsigned i = 0; i < 4 * SHARES; i++) {
            double k = slow_downs[ki];
            struct sx_place_variant v[PAIR_VARIANTS];
            fill_pair(v, T, k, share(k, i % SHARES));
            add_overhead(v, PAIR_VARIANTS, i / SHARES / 2 ? 0.06 : 0);
            struct sim_config c = pair_config(v, PAIR_VARIANTS);
            c.model[0].clients = 16;
            c.model[0].objective = 40 * T;
            c.noise = i / SHARES % 2 ? 0.07 : 0;
            struct sim_result r;
            sim_run(&c, &r);
            double ratio = (r.model[0].asked - c.model[0].clients) / r.span * T / (1 + 1 / k);
            least = fmin(least, ratio);
            least_busy = fmin(least_busy, fmin(r.busy[0], r.busy[1]));
            most_jobs = r.most_jobs > most_jobs ? r.most_jobs : most_jobs;
            assert_true(r.missed == 0);
        }
    }
    print_message("saturated: throughput at least %.3f of the sum, busy %.3f, %u jobs at most\n",
                  least, least_busy, most_jobs);
    assert_true(least >= 0.98);
    assert_true(least_busy > 0.95);
    assert_true(most_jobs <= 12);
}

static void tail_under_random_load_is_that_of_one_fast_device(void **unused)
{
    (void)unused;
    for (unsigned ki = 0; ki < 3; ki++) {
        double k = slow_downs[ki], worst = 0, of_greedy = 0, worst_costly = 0;
        for (unsigned i = 0; i < 3 * SHARES; i++) {
            bool costly = i / SHARES == 2;
            struct sx_place_variant v[PAIR_VARIANTS];
            fill_pair(v, T, k, share(k, i % SHARES));
            add_overhead(v, PAIR_VARIANTS, costly ? 0.05 : 0);
            struct sim_config c = pair_config(v, 1);
            c.n_requests = 12000;
            c.noise = i / SHARES ? 0.07 : 0;
            c.model[0].rate = per_second(0.9, T);
            struct sim_result alone, both, greedy;
            sim_run(&c, &alone);
            c.model[0].n_variants = PAIR_VARIANTS;
            c.model[0].rate *= 1 + 1 / k;
            sim_run(&c, &both);
            double ratio = both.model[0].p99 / alone.model[0].p99;
            if (costly) {
                worst_costly = fmax(worst_costly, ratio);
                continue;
            }
            c.greedy = true;
            sim_run(&c, &greedy);
            worst = fmax(worst, ratio);
            of_greedy += both.model[0].p99 / greedy.model[0].p99 / (2 * SHARES);
        }
        print_message(
            "k %g: p99 at most %.3f of the fast device's, mean %.3f of greedy's; %.3f if a cut "
            "costs 5 %%\n",
            k, worst, of_greedy, worst_costly);
        assert_true(worst <= 1.05);
        assert_true(worst_costly <= 1.2);
        /* Where the slow one is hardly slower, both are as good as one device of both speeds. */
        assert_true(of_greedy <= (k < 4 ? 1.02 : 0.99));
    }
}

static double missed(const struct sx_place_variant *v, unsigned n_variants, double load,
                     double objective, double noise)
{
    struct sim_config c = pair_config(v, n_variants);
    c.n_requests = 6000;
    c.model[0].rate = per_second(load, T);
    c.model[0].objective = objective;
    c.noise = noise;
    struct sim_result r;
    sim_run(&c, &r);
    return r.missed;
}

/* The highest load, in capacities of the fast device, at which at most 1 % miss the objective. */
static double threshold(const struct sx_place_variant *v, unsigned n_variants, double objective,
                        double noise)
{
    double low = 0.2, high = 1.6;
    while (high - low > 0.008) {
        double mid = (low + high) / 2;
        if (missed(v, n_variants, mid, objective, noise) <= 0.01)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static void threshold_grows_with_the_slow_device(void **unused)
{
    (void)unused;
    static const struct {
        double objective, noise, to_reach;
    } cases[] = {{3, 0.05, 0.9}, {5, 0, 0.95}, {5, 0.05, 0.95}, {10, 0.05, 0.95}};
    for (unsigned ci = 0; ci < 4; ci++) {
        double objective = cases[ci].objective * T, noise = cases[ci].noise, least = 9;
        struct sx_place_variant v[PAIR_VARIANTS];
        fill_pair(v, T, 2, 0.5);
        double alone = threshold(v, 1, objective, noise);
        for (unsigned i = 0; i < 3 * SHARES; i++) {
            double k = slow_downs[i / SHARES];
            fill_pair(v, T, k, share(k, i % SHARES));
            double both = threshold(v, PAIR_VARIANTS, objective, noise);
            least = fmin(least, both / alone / (1 + 1 / k));
        }
        print_message("objective %g T, noise %g: threshold %.3f alone; with the other at least "
                      "%.3f of what it adds in speed\n",
                      cases[ci].objective, noise, alone, least);
        assert_true(least >= cases[ci].to_reach);
    }
}

static void low_load_is_never_worse_than_the_fast_device(void **unused)
{
    (void)unused;
    double worst_mean = 0, worst_p99 = 0;
    for (unsigned ki = 0; ki < 3; ki++) {
        for (unsigned step = 0; step < 7; step++) {
            double k = slow_downs[ki], load = 0.05 + 0.15 * step;
            struct sx_place_variant v[PAIR_VARIANTS];
            fill_pair(v, T, k, share(k, step % SHARES));
            struct sim_config c = pair_config(v, 1);
            c.n_requests = 6000;
            c.model[0].rate = per_second(load, T);
            struct sim_result alone, both;
            sim_run(&c, &alone);
            c.model[0].n_variants = PAIR_VARIANTS;
            sim_run(&c, &both);
            worst_mean = fmax(worst_mean, both.model[0].mean / alone.model[0].mean);
            worst_p99 = fmax(worst_p99, both.model[0].p99 / alone.model[0].p99);
            if (load < 0.11)
                assert_true(fabs(both.model[0].p50 - T) < 1e-3 * T);
        }
    }
    print_message("low load: mean at most %.3f, p99 %.3f of the fast device's\n", worst_mean,
                  worst_p99);
    assert_true(worst_mean <= 1.02);
    assert_true(worst_p99 <= 1.02);
}

/* Three devices: 1, 2 and 4 times T. */
static void three_devices_add_up(void **unused)
{
    (void)unused;
    double sum = 1 + 1 / 2. + 1 / 4.;
    struct sx_place_variant v[] = {
        whole(0, T),
        whole(1, 2 * T),
        whole(2, 4 * T),
        two(1, 2 * T / 3, 0, 2 * T / 3),
        two(2, 4 * T / 5, 0, 4 * T / 5),
        {.n_stages = 3, .device = {2, 1, 0}, .ns = {T / sum, T / sum, T / sum}},
    };
    struct sim_config c = pair_config(v, 6);
    c.n_devices = 3;
    c.model[0].clients = 24;
    struct sim_result r, alone;
    sim_run(&c, &r);
    double ratio = (r.model[0].asked - c.model[0].clients) / r.span * T / sum;
    assert_true(ratio >= 0.98);
    for (unsigned d = 0; d < 3; d++)
        assert_true(r.busy[d] > 0.95);

    c.model[0].clients = 0;
    c.n_requests = 12000;
    c.noise = 0.05;
    c.model[0].rate = per_second(0.9 * sum, T);
    sim_run(&c, &r);
    struct sim_config one = pair_config(v, 1);
    one.n_requests = c.n_requests;
    one.noise = c.noise;
    one.model[0].rate = per_second(0.9, T);
    sim_run(&one, &alone);
    print_message("three devices: throughput %.3f of the sum, p99 %.3f of the fast one's\n", ratio,
                  r.model[0].p99 / alone.model[0].p99);
    assert_true(r.model[0].p99 <= alone.model[0].p99);
}

static void two_models_share_the_devices(void **unused)
{
    (void)unused;
    double t[] = {T, 8e6}, k = 4;
    struct sx_place_variant v[2][PAIR_VARIANTS];
    struct sim_config c = {
        .n_devices = 2, .n_models = 2, .n_requests = 20000, .warm = 200, .noise = 0.05, .seed = 3};
    for (unsigned m = 0; m < 2; m++) {
        fill_pair(v[m], t[m], k, 1 / (1 + k));
        c.model[m].variants = v[m];
        c.model[m].n_variants = 1;
        c.model[m].rate = per_second(0.45, t[m]); /* half of the device for each */
    }
    struct sim_result alone, both, closed;
    sim_run(&c, &alone);
    for (unsigned m = 0; m < 2; m++) {
        c.model[m].n_variants = PAIR_VARIANTS;
        c.model[m].rate *= 1 + 1 / k;
    }
    sim_run(&c, &both);
    for (unsigned m = 0; m < 2; m++) {
        c.model[m].clients = 8;
        c.model[m].rate = 0;
    }
    sim_run(&c, &closed);
    for (unsigned m = 0; m < 2; m++) {
        print_message("two models, %g ms: p99 %.1f ms, alone on the fast device %.1f; worst %.1f, "
                      "%.1f; in closed loops %.1f, worst %.1f\n",
                      t[m] / 1e6, both.model[m].p99 / 1e6, alone.model[m].p99 / 1e6,
                      both.model[m].worst / 1e6, alone.model[m].worst / 1e6,
                      closed.model[m].p50 / 1e6, closed.model[m].worst / 1e6);
        assert_int_equal(both.model[m].done, both.model[m].asked);
        assert_true(both.model[m].p99 <= 1.1 * alone.model[m].p99);
        assert_true(both.model[m].worst <= 1.5 * alone.model[m].worst);
        /* Nobody waits longer than for all others, and once more. */
        assert_true(closed.model[m].worst <= 2 * 8 * (t[0] + t[1]));
    }
    assert_true(fmin(closed.busy[0], closed.busy[1]) > 0.95);
}

/* A model that only the fast device has, beside one whose later stages could fill that device. */
static void later_stages_starve_nobody(void **unused)
{
    (void)unused;
    struct sx_place_variant v[2][PAIR_VARIANTS];
    fill_pair(v[0], T, 4, 0.1);
    fill_pair(v[1], T, 4, 0.1);
    struct sim_config c = {
        .n_devices = 2,
        .n_models = 2,
        .model = {{.variants = &v[0][FAST], .n_variants = 1, .clients = 2},
                  {.variants = &v[1][SLOW_FIRST], .n_variants = 1, .clients = 16}},
        .n_requests = 3000,
        .seed = 3};
    struct sim_result r;
    sim_run(&c, &r);
    print_message("beside 16 cut ones: %u whole requests of %u, the longest %.1f T\n",
                  r.model[0].done, c.n_requests, r.model[0].worst / T);
    assert_true(r.model[0].worst <= 20 * T);
    assert_true(r.model[0].done >= 0.1 * c.n_requests);
}

static void equal_devices_are_twice_one(void **unused)
{
    (void)unused;
    struct sx_place_variant v[PAIR_VARIANTS];
    fill_pair(v, T, 1, 0.5);
    struct sim_config c = pair_config(v, PAIR_VARIANTS);
    c.model[0].clients = 16;
    struct sim_result r;
    sim_run(&c, &r);
    assert_true((r.model[0].asked - c.model[0].clients) / r.span * T / 2 >= 0.98);
    /* Two at once: nobody is cut, nobody waits. */
    c.model[0].clients = 2;
    sim_run(&c, &r);
    assert_true(r.model[0].worst < 1.001 * T);
    assert_int_equal(r.model[0].by_variant[SLOW_FIRST] + r.model[0].by_variant[FAST_FIRST], 0);
}

static void one_variant_is_enough(void **unused)
{
    (void)unused;
    struct sx_place_variant v[PAIR_VARIANTS];
    fill_pair(v, T, 4, 0.2);
    for (unsigned i = 0; i < PAIR_VARIANTS; i++) {
        struct sim_config c = pair_config(&v[i], 1);
        c.model[0].clients = 16;
        struct sim_result r;
        sim_run(&c, &r);
        double slowest = fmax(v[i].ns[0], v[i].ns[1]);
        assert_true((r.model[0].asked - c.model[0].clients) / r.span * slowest >= 0.98);
        assert_true(r.most_jobs <= 9);
    }
}

static void unknown_times_are_tried_and_learned(void **unused)
{
    (void)unused;
    struct sx_place_variant v[PAIR_VARIANTS];
    fill_pair(v, T, 4, 0.2);
    struct sim_config c = pair_config(v, PAIR_VARIANTS);
    c.unknown = c.learn = true;
    c.model[0].clients = 16;
    struct sim_result r;
    sim_run(&c, &r);
    assert_true((r.model[0].asked - c.model[0].clients) / r.span * T / 1.25 >= 0.98);
    /* Little is lost by trying, also when requests come one by one and have a deadline. */
    c.model[0].clients = 0;
    c.model[0].rate = per_second(0.1, T);
    c.model[0].objective = 5 * T;
    c.warm = 0;
    sim_run(&c, &r);
    assert_true(r.missed <= 0.005);
}

static void device_slower_than_predicted_is_found_out(void **unused)
{
    (void)unused;
    for (unsigned ki = 0; ki < 3; ki++) {
        double k = slow_downs[ki];
        struct sx_place_variant v[PAIR_VARIANTS];
        fill_pair(v, T, k, 1 / (1 + k));
        struct sim_config c = pair_config(v, 1);
        c.n_requests = 8000;
        c.noise = 0.05;
        c.model[0].rate = per_second(0.8, T);
        struct sim_result alone, both;
        sim_run(&c, &alone);
        c.model[0].n_variants = PAIR_VARIANTS;
        c.slowness[1] = 10;
        c.learn = true;
        sim_run(&c, &both);
        assert_int_equal(both.model[0].done, both.model[0].asked);
        assert_true(both.model[0].p99 <= 1.02 * alone.model[0].p99);
        /* When it is the fast one, the other must take over: it alone is faster now. */
        c.slowness[1] = 0;
        c.slowness[0] = 10 * k;
        c.model[0].rate = per_second(0.8 / k, T);
        sim_run(&c, &both);
        assert_int_equal(both.model[0].done, both.model[0].asked);
        assert_true(both.model[0].p99 <= 1.1 * k * alone.model[0].p99);
    }
}

static void predictions_at_arrival_hold(void **unused)
{
    (void)unused;
    double worst = 0, worst_bias = 0;
    for (unsigned i = 0; i < 6 * SHARES; i++) {
        double k = slow_downs[i / SHARES % 3];
        struct sx_place_variant v[PAIR_VARIANTS];
        fill_pair(v, T, k, share(k, i % SHARES));
        struct sim_config c = pair_config(v, PAIR_VARIANTS);
        c.n_requests = 8000;
        c.model[0].rate = per_second(0.9 * (1 + 1 / k), T);
        c.noise = i / SHARES / 3 ? 0.07 : 0;
        struct sim_result r;
        sim_run(&c, &r);
        worst = fmax(worst, r.predict_mean);
        worst_bias = fmax(worst_bias, fabs(r.bias));
    }
    /* More than a decision looks at: the rest is predicted by the pace of those. */
    struct sx_place_variant v[PAIR_VARIANTS];
    fill_pair(v, T, 4, 0.2);
    struct sim_config c = pair_config(v, PAIR_VARIANTS);
    c.model[0].clients = SIM_CLIENTS;
    c.n_requests = c.model[0].clients;
    c.warm = 0;
    struct sim_result r;
    sim_run(&c, &r);
    print_message("predicted at arrival: mean error %.3f of the mean latency, bias %.3f; %u at "
                  "once: %.3f\n",
                  worst, worst_bias, SIM_CLIENTS, r.predict_p95);
    assert_true(worst <= 0.12);
    assert_true(worst_bias <= 0.06);
    assert_true(r.predict_p95 <= 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saturated_devices_are_both_busy),
        cmocka_unit_test(tail_under_random_load_is_that_of_one_fast_device),
        cmocka_unit_test(threshold_grows_with_the_slow_device),
        cmocka_unit_test(low_load_is_never_worse_than_the_fast_device),
        cmocka_unit_test(three_devices_add_up),
        cmocka_unit_test(two_models_share_the_devices),
        cmocka_unit_test(later_stages_starve_nobody),
        cmocka_unit_test(equal_devices_are_twice_one),
        cmocka_unit_test(one_variant_is_enough),
        cmocka_unit_test(unknown_times_are_tried_and_learned),
        cmocka_unit_test(device_slower_than_predicted_is_found_out),
        cmocka_unit_test(predictions_at_arrival_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
