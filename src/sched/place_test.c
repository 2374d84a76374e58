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
            struct sim_config c = pair_config(v, PAIR_VARIANTS);
            c.model[0].clients = 16;
            c.model[0].objective = 40 * T;
            c.noise = i / SHARES % 2 ? 0.07 : 0;
            c.max_in_flight = i / SHARES / 2;
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
        double k = slow_downs[ki], worst = 0, worst_greedy = 0;
        for (unsigned i = 0; i < 2 * SHARES; i++) {
            struct sx_place_variant v[PAIR_VARIANTS];
            fill_pair(v, T, k, share(k, i % SHARES));
            struct sim_config c = pair_config(v, 1);
            c.n_requests = 20000;
            c.noise = i / SHARES ? 0.07 : 0;
            c.model[0].rate = per_second(0.9, T);
            struct sim_result alone, both, greedy;
            sim_run(&c, &alone);
            c.model[0].n_variants = PAIR_VARIANTS;
            c.model[0].rate *= 1 + 1 / k;
            sim_run(&c, &both);
            c.greedy = true;
            sim_run(&c, &greedy);
            worst = fmax(worst, both.model[0].p99 / alone.model[0].p99);
            worst_greedy = fmax(worst_greedy, both.model[0].p99 / greedy.model[0].p99);
        }
        print_message("k %g: p99 at most %.3f of the fast device's, %.3f of greedy's\n", k, worst,
                      worst_greedy);
        assert_true(worst <= 1.05);
        /* Where the slow one is hardly slower, both are as good as one device of both speeds. */
        assert_true(worst_greedy <= (k < 4 ? 1.03 : 1));
    }
}

static double missed(const struct sx_place_variant *v, unsigned n_variants, double load,
                     double objective, double noise)
{
    struct sim_config c = pair_config(v, n_variants);
    c.n_requests = 12000;
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
    double low = 0.05, high = 1.6;
    while (high - low > 0.004) {
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
    static const double objectives[] = {3, 5, 10};
    for (unsigned oi = 0; oi < 3; oi++) {
        for (unsigned noisy = 0; noisy < 2; noisy++) {
            double noise = noisy ? 0.05 : 0, objective = objectives[oi] * T, least = 9;
            struct sx_place_variant v[PAIR_VARIANTS];
            fill_pair(v, T, 2, 0.5);
            double alone = threshold(v, 1, objective, noise);
            for (unsigned i = 0; i < 3 * SHARES; i++) {
                double k = slow_downs[i / SHARES];
                fill_pair(v, T, k, share(k, i % SHARES));
                double both = threshold(v, PAIR_VARIANTS, objective, noise);
                least = fmin(least, both / alone / (1 + 1 / k));
            }
            print_message("objective %g T, noise %g: threshold %.3f alone, at least %.3f of what "
                          "the second device adds in speed\n",
                          objectives[oi], noise, alone, least);
            assert_true(least >= (oi == 0 ? 0.8 : 0.93));
        }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saturated_devices_are_both_busy),
        cmocka_unit_test(tail_under_random_load_is_that_of_one_fast_device),
        cmocka_unit_test(threshold_grows_with_the_slow_device),
        cmocka_unit_test(low_load_is_never_worse_than_the_fast_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
