/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/knee.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

#define STEPS 10 /* shares of 10, 20, .. 100 */

/* A table of one batch; shares of a hundredth are the units. */
static struct sx_latency table(const double ns[STEPS])
{
    struct sx_latency l = {.n_units = STEPS, .n_batches = 1, .batches = {1}};
    for (unsigned u = 0; u < STEPS; u++) {
        l.units[u] = 10 * (u + 1);
        l.ns[u][0] = ns[u];
    }
    return l;
}

static struct sx_knee find(struct sx_latency l)
{
    struct sx_knee k;
    assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
    sx_latency_prepare(&l);
    sx_knee_find(&l, 1, 0, &k);
    return k;
}

/* 1/p up to the breakpoint, flat from there on; 5 % noise.  The rule by efficacy is the one that
 * must hold; the one by tolerance compares with the least of noisy times, so it errs upwards more
 * often. */
#define SEEDS 4000
static void planted_breakpoints_are_found(void **state)
{
    (void)state;
    for (unsigned at = 1; at < STEPS; at++) {
        unsigned found = 0, by_tolerance = 0;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct sx_rng rng;
            double ns[STEPS];
            sx_rng_init(&rng, 100000 * at + seed);
            for (unsigned u = 0; u < STEPS; u++)
                ns[u] = 1e7 / (u < at ? u + 1 : at + 1) * (1 + 0.05 * sx_rng_normal(&rng));
            struct sx_knee k = find(table(ns));
            found += abs((int)k.efficacy - (int)(10 * (at + 1))) <= 10;
            by_tolerance += abs((int)k.tolerance - (int)(10 * (at + 1))) <= 10;
        }
        print_message(
            "# D2: breakpoint %3u %%: by efficacy within a step for %.1f of 100 seeds, by "
            "tolerance for %.1f\n",
            10 * (at + 1), 100.0 * found / SEEDS, 100.0 * by_tolerance / SEEDS);
        assert_true(found >= 0.95 * SEEDS);
        assert_true(by_tolerance >= 0.90 * SEEDS);
    }
}

static void flat_curve_takes_the_least(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned flat = 0;
    double ns[STEPS];
    for (unsigned u = 0; u < STEPS; u++)
        ns[u] = 5e6;
    struct sx_knee k = find(table(ns));
    assert_int_equal(k.efficacy, 10);
    assert_int_equal(k.tolerance, 10);
    assert_true(k.flat && k.speedup > 0.999 && k.speedup < 1.001);
    assert_true(fabs(k.efficacy_ns - 5e6) < 1 && fabs(k.tolerance_ns - 5e6) < 1);
    /* also with noise: hardly ever does chance look like a gain */
    for (uint64_t seed = 0; seed < 100; seed++) {
        sx_rng_init(&rng, seed);
        for (unsigned u = 0; u < STEPS; u++)
            ns[u] = 5e6 * (1 + 0.03 * sx_rng_normal(&rng));
        k = find(table(ns));
        flat += k.flat && k.efficacy == 10 && k.tolerance == 10;
        assert_int_equal(k.efficacy, 10);
    }
    print_message("# D2: flat at 3 %% noise: recognised for %u of 100 seeds\n", flat);
    assert_true(flat >= 95);
    /* gains of 9 % on ten times the units are flat, of 30 % are not, and still no reason for more
     */
    for (unsigned u = 0; u < STEPS; u++)
        ns[u] = 5e6 * (1 - 0.009 * u);
    assert_true(find(table(ns)).flat);
    for (unsigned u = 0; u < STEPS; u++)
        ns[u] = 5e6 * (1 - 0.03 * u);
    k = find(table(ns));
    assert_false(k.flat);
    assert_int_equal(k.efficacy, 10);
    assert_true(k.tolerance > 10);
}

static void proportional_curve_takes_all(void **state)
{
    (void)state;
    double ns[STEPS];
    for (unsigned u = 0; u < STEPS; u++)
        ns[u] = 1e8 / (u + 1);
    struct sx_knee k = find(table(ns));
    print_message("# D2: 1/p: knees at %u and %u %%\n", k.efficacy, k.tolerance);
    assert_int_equal(k.efficacy, 100);
    assert_int_equal(k.tolerance, 100);
    assert_false(k.flat);
    assert_true(fabs(k.speedup - 10) < 1e-9);
}

static void jagged_curves_have_a_knee(void **state)
{
    (void)state;
    /* knee at 40, one wave too many at 50 and 80: nothing runs slower for having more units */
    const double ns[STEPS] = {4e7,    2e7,    1.36e7, 1.0e7,  1.25e7,
                              0.98e7, 0.97e7, 1.2e7,  0.97e7, 0.96e7};
    struct sx_knee k = find(table(ns));
    assert_in_range(k.efficacy, 30, 50);
    assert_in_range(k.tolerance, 30, 60);
    /* whatever comes: knees on the grid, times of the table, never beyond the least time */
    struct sx_rng rng;
    sx_rng_init(&rng, 47);
    for (int i = 0; i < 5000; i++) {
        double any[STEPS], least, eps = 0.02 + 0.5 * sx_rng_double(&rng);
        bool measured = false;
        for (unsigned u = 0; u < STEPS; u++) {
            any[u] = sx_rng_below(&rng, 3) ? 1e3 * pow(1e6, sx_rng_double(&rng)) : 0;
            measured = measured || any[u] > 0;
        }
        struct sx_latency l = table(any);
        if (!measured) {
            assert_int_equal(sx_latency_check(&l, NULL), SX_INVALID);
            continue;
        }
        sx_latency_prepare(&l);
        sx_knee_find(&l, 1, eps, &k);
        least = l.ns[STEPS - 1][0];
        unsigned e = k.efficacy / 10 - 1, t = k.tolerance / 10 - 1;
        assert_true(k.efficacy % 10 == 0 && e < STEPS && k.tolerance % 10 == 0 && t < STEPS);
        assert_true(k.efficacy_ns == l.ns[e][0] && k.tolerance_ns == l.ns[t][0]);
        if (k.flat)
            continue;
        assert_true(k.tolerance_ns <= least * (1 + eps) &&
                    (!t || l.ns[t - 1][0] > least * (1 + eps)));
        for (unsigned u = 0; u < STEPS; u++)
            assert_true(pow(k.efficacy_ns, 2) * k.efficacy <=
                        pow(l.ns[u][0], 2) * l.units[u] * (1 + 1e-12));
    }
}

static void holes_do_not_hide_the_knee(void **state)
{
    (void)state;
    unsigned found = 0, n = 0;
    for (unsigned at = 2; at < 8; at++) {
        for (uint64_t seed = 0; seed < 50; seed++, n++) {
            struct sx_rng rng;
            double ns[STEPS];
            sx_rng_init(&rng, 77 * at + seed);
            for (unsigned u = 0; u < STEPS; u++)
                ns[u] = 1e7 / (u < at ? u + 1 : at + 1);
            for (unsigned h = 0; h < 4; h++) /* up to four holes, not at the ends */
                ns[1 + sx_rng_below(&rng, STEPS - 2)] = 0;
            struct sx_knee k = find(table(ns));
            found += abs((int)k.efficacy - (int)(10 * (at + 1))) <= 20;
        }
    }
    print_message("# D2: with up to 4 holes of 10: within two steps in %u of %u\n", found, n);
    assert_true(found >= n * 95 / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_breakpoints_are_found),
        cmocka_unit_test(flat_curve_takes_the_least),
        cmocka_unit_test(proportional_curve_takes_all),
        cmocka_unit_test(jagged_curves_have_a_knee),
        cmocka_unit_test(holes_do_not_hide_the_knee),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
