/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/parallel.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "cost/knee.h"

#define WIDEST 400 /* units that are looked at */

static struct sx_parallel some_model(struct sx_rng *rng, bool memory)
{
    return (struct sx_parallel){
        .kernels = 1 + (unsigned)sx_rng_below(rng, 100),
        .operations = 1 + 80 * sx_rng_double(rng),
        .op_time = 0.1 + 50 * sx_rng_double(rng),
        .serial_time = 20 * sx_rng_double(rng),
        .memory_time = memory ? 5000 * sx_rng_double(rng) : 0,
    };
}

/* D1: the best efficacy of all numbers of units, ties to the fewer. */
static unsigned knee_of(const struct sx_parallel *model, unsigned batch)
{
    double best = INFINITY;
    unsigned knee = 0;

    for (unsigned s = 1; s <= WIDEST; s++) {
        double t = sx_parallel_time(model, batch, s);
        if (t * t * s < best) {
            best = t * t * s;
            knee = s;
        }
    }
    return knee;
}

/* --- (1)-(5) ---------------------------------------------------------------------------------- */

static void time_never_grows_with_units(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned looked = 0;
    sx_rng_init(&rng, 41);
    for (int i = 0; i < 500; i++) {
        struct sx_parallel m = some_model(&rng, i % 2);
        unsigned b = 1 + (unsigned)sx_rng_below(&rng, 8);
        for (unsigned s = 1; s < WIDEST; s++, looked++)
            assert_true(sx_parallel_time(&m, b, s + 1) <= sx_parallel_time(&m, b, s) * (1 + 1e-12));
    }
    print_message("# D1: non-increasing at %u points of 500 models\n", looked);
}

static void time_is_constant_from_the_first_kernels_parallelism_on(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned looked = 0;
    sx_rng_init(&rng, 42);
    for (int i = 0; i < 500; i++) {
        struct sx_parallel m = some_model(&rng, false);
        unsigned b = 1 + (unsigned)sx_rng_below(&rng, 4);
        unsigned n1 = (unsigned)floor(m.operations * b);
        double there = sx_parallel_time(&m, b, n1);
        for (unsigned s = n1; s < n1 + 100; s++, looked++)
            assert_true(fabs(sx_parallel_time(&m, b, s) - there) <= 1e-12 * there);
        /* and just below it is not, when the first kernel has more operations than that */
        if (n1 > 1)
            assert_true(sx_parallel_time(&m, b, n1 - 1) > there);
    }
    print_message("# D1: constant from N_1 on at %u points\n", looked);
}

/* E_t(1) = b K t_np + t_p sum N_i + memory, with the sum in exact arithmetic of integers. */
static void one_unit_does_all_the_work(void **state)
{
    (void)state;
    struct sx_rng rng;
    double worst = 0;
    sx_rng_init(&rng, 43);
    for (int i = 0; i < 2000; i++) {
        struct sx_parallel m = some_model(&rng, true);
        unsigned b = 1 + (unsigned)sx_rng_below(&rng, 16);
        unsigned p = 1 + (unsigned)sx_rng_below(&rng, 60);
        uint64_t sum = 0;
        m.operations = p;
        for (unsigned k = 0; k < m.kernels; k++)
            sum += (uint64_t)p * b * (m.kernels - k) / m.kernels;
        double expected = b * m.kernels * m.serial_time + m.op_time * (double)sum + m.memory_time;
        worst = fmax(worst, fabs(sx_parallel_time(&m, b, 1) / expected - 1));
    }
    print_message("# D1: E_t(1) off by at most %.1e of it\n", worst);
    assert_true(worst < 1e-12);
}

static void knees_of_the_example(void **state)
{
    (void)state;
    static const unsigned expected[] = {10, 20, 30}, within[] = {13, 25, 37};
    for (unsigned i = 0; i < 3; i++) {
        struct sx_parallel m = {
            .kernels = 50, .operations = 20 * (i + 1), .op_time = 40, .serial_time = 10};
        unsigned knee = knee_of(&m, 1);
        /* the same by the finder, over all units around it */
        struct sx_latency l = {.n_units = SX_LATENCY_UNITS, .n_batches = 1, .batches = {1}};
        unsigned from = knee > 15 ? knee - 15 : 1;
        struct sx_knee found;
        for (unsigned u = 0; u < l.n_units; u++) {
            l.units[u] = from + u;
            l.ns[u][0] = sx_parallel_time(&m, 1, from + u);
        }
        assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
        sx_latency_prepare(&l);
        sx_knee_find(&l, 1, 0, &found);
        unsigned tolerance = 1; /* of all there is, not of that window */
        while (sx_parallel_time(&m, 1, tolerance) > 1.1 * sx_parallel_time(&m, 1, WIDEST))
            tolerance++;
        print_message("# D1: N_1 = %u: knee by efficacy %u (expected %u), within 10 %% from %u on "
                      "(expected %u)\n",
                      20 * (i + 1), found.efficacy, expected[i], tolerance, within[i]);
        assert_int_equal(tolerance, within[i]);
        assert_int_equal(knee, expected[i]);
        assert_int_equal(found.efficacy, expected[i]);
    }
}

static void knee_grows_with_batch_and_parallelism(void **state)
{
    (void)state;
    static const unsigned kernels[] = {10, 20, 50, 100};
    static const double op_times[] = {10, 40, 400};
    unsigned looked = 0, ties = 0;
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned t = 0; t < 3; t++) {
            struct sx_parallel m = {
                .kernels = kernels[k], .op_time = op_times[t], .serial_time = 10};
            unsigned before = 0;
            for (unsigned n1 = 2; n1 <= 200; n1++, looked++) {
                m.operations = n1;
                unsigned knee = knee_of(&m, 1);
                assert_true(knee >= before);
                before = knee;
            }
            for (unsigned p = 1; p <= 20; p++) {
                m.operations = p;
                before = 0;
                for (unsigned b = 1; b <= 16; b++, looked++) {
                    unsigned knee = knee_of(&m, b);
                    if (knee < before) {
                        /* a plateau, which the floors of (1) make uneven */
                        double there = sx_parallel_time(&m, b, before);
                        double here = sx_parallel_time(&m, b, knee);
                        assert_int_equal(knee, before - 1);
                        assert_true(there * there * before < 1.0002 * here * here * knee);
                        ties++;
                    }
                    before = knee;
                }
            }
        }
    }
    print_message(
        "# D1: knee non-decreasing over %u steps of N_1 and b; %u times one unit less, where "
        "both are equally good within 0.02 %%\n",
        looked, ties);
    assert_true(ties <= looked / 1000);
}

static void without_operations_only_serial_time(void **state)
{
    (void)state;
    struct sx_parallel m = {.kernels = 3, .operations = 0.4, .op_time = 7, .serial_time = 2};
    assert_true(fabs(sx_parallel_time(&m, 1, 5) - 6) < 1e-12);
    assert_true(fabs(sx_parallel_time(&m, 1, 0) - 6) < 1e-12);
    m.kernels = 0;
    assert_true(fabs(sx_parallel_time(&m, 1, 5)) < 1e-12);
}

/* --- fit -------------------------------------------------------------------------------------- */

static const unsigned grid[] = {1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64};
#define N (sizeof grid / sizeof grid[0])

static void fit_recovers_what_was_planted(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned exact = 0, rounds = 200;
    double worst = 0;
    sx_rng_init(&rng, 44);
    for (unsigned i = 0; i < rounds; i++) {
        struct sx_parallel m = {
            .kernels = 50,
            .operations = 4 + (double)sx_rng_below(&rng, 60),
            .op_time = 1e4 * (1 + sx_rng_double(&rng)),
            .serial_time = 1e3 * (1 + 20 * sx_rng_double(&rng)),
            .memory_time = i % 2 ? 1e6 * (1 + sx_rng_double(&rng)) : 0,
        };
        struct sx_parallel_fit fit;
        double ns[N];
        for (size_t k = 0; k < N; k++)
            ns[k] = sx_parallel_time(&m, 1, grid[k]);
        assert_true(sx_parallel_fit(grid, ns, N, &fit));
        for (unsigned s = 1; s <= 64; s++)
            worst = fmax(worst, fabs(sx_parallel_fit_ns(&fit, s) / sx_parallel_time(&m, 1, s) - 1));
        exact += fit.first == (unsigned)m.operations && fabs(fit.op / m.op_time - 1) < 1e-3 &&
                 fabs(fit.serial / (50 * m.serial_time) - 1) < 1e-3 &&
                 fabs(fit.memory - m.memory_time) <= 1e-3 * fmax(m.memory_time, m.op_time);
        assert_true(fit.serial >= 0 && fit.op >= 0 && fit.memory >= 0);
    }
    print_message(
        "# fit: planted N_1 and factors recovered in %u of %u, curve off by %.1e at most\n", exact,
        rounds, worst);
    assert_true(exact >= rounds * 95 / 100);
    assert_true(worst < 1e-3);
}

static void fit_of_noisy_times_predicts_between(void **state)
{
    (void)state;
    struct sx_rng rng;
    double sum = 0, worst = 0;
    unsigned n = 0;
    sx_rng_init(&rng, 45);
    for (unsigned i = 0; i < 200; i++) {
        struct sx_parallel m = {
            .kernels = 10 + (unsigned)sx_rng_below(&rng, 90), /* not the fit's 50 */
            .operations = 4 + 56 * sx_rng_double(&rng),
            .op_time = 1e4,
            .serial_time = 1e4 * sx_rng_double(&rng),
            .memory_time = 1e6 * sx_rng_double(&rng),
        };
        struct sx_parallel_fit fit;
        double ns[N];
        for (size_t k = 0; k < N; k++)
            ns[k] = sx_parallel_time(&m, 1, grid[k]) * (1 + 0.05 * sx_rng_normal(&rng));
        assert_true(sx_parallel_fit(grid, ns, N, &fit));
        for (unsigned s = 1; s <= 64; s++, n++) {
            double off = fabs(sx_parallel_fit_ns(&fit, s) / sx_parallel_time(&m, 1, s) - 1);
            sum += off;
            worst = fmax(worst, off);
        }
    }
    print_message("# fit: at 5 %% noise and other K, off by %.1f %% on average, %.1f %% at most\n",
                  100 * sum / n, 100 * worst);
    assert_true(sum / n < 0.04);
    assert_true(worst < 0.20);
}

/* The slow twin: each N_1, and factors by projected coordinate descent. */
static double slow_error(const unsigned *units, const double *ns, size_t n)
{
    double best = INFINITY;
    for (unsigned first = 1; first <= 4 * units[n - 1]; first++) {
        double c[3][N], x[3] = {0}, error = 0;
        for (size_t i = 0; i < n; i++) {
            double steps = 0;
            for (unsigned k = 0; k < 50; k++) {
                double ops = floor((double)first * (50 - k) / 50);
                steps += ops / fmax(1, fmin(units[i], ops));
            }
            c[0][i] = 1 / ns[i];
            c[1][i] = steps / ns[i];
            c[2][i] = 1 / (units[i] * ns[i]);
        }
        for (int round = 0; round < 3000; round++) {
            for (int f = 0; f < 3; f++) {
                double up = 0, down = 0;
                for (size_t i = 0; i < n; i++) {
                    double rest = 1;
                    for (int g = 0; g < 3; g++)
                        rest -= g == f ? 0 : x[g] * c[g][i];
                    up += rest * c[f][i];
                    down += c[f][i] * c[f][i];
                }
                x[f] = fmax(up / down, 0);
            }
        }
        for (size_t i = 0; i < n; i++) {
            double off = x[0] * c[0][i] + x[1] * c[1][i] + x[2] * c[2][i] - 1;
            error += off * off;
        }
        best = fmin(best, sqrt(error / (double)n));
    }
    return best;
}

static void no_search_finds_a_better_fit(void **state)
{
    (void)state;
    struct sx_rng rng;
    double worst = 0;
    sx_rng_init(&rng, 46);
    for (unsigned i = 0; i < 20; i++) {
        static const unsigned units[] = {1, 2, 3, 4, 6, 8};
        struct sx_parallel_fit fit;
        double ns[6];
        for (size_t k = 0; k < 6; k++)
            ns[k] = 1e6 * (0.2 + 2 * sx_rng_double(&rng) / units[k]);
        assert_true(sx_parallel_fit(units, ns, 6, &fit));
        double slow = slow_error(units, ns, 6);
        assert_true(fit.error <= slow * (1 + 1e-6));
        worst = fmax(worst, slow - fit.error);
        double error = 0; /* and it says its error truly */
        for (size_t k = 0; k < 6; k++)
            error += pow(sx_parallel_fit_ns(&fit, units[k]) / ns[k] - 1, 2);
        assert_true(fabs(sqrt(error / 6) - fit.error) < 1e-9);
    }
    print_message("# fit: coordinate descent is behind by up to %.1e, never ahead\n", worst);
}

static void fit_refuses_what_is_no_curve(void **state)
{
    (void)state;
    struct sx_parallel_fit fit;
    const unsigned u[] = {1, 2, 4, 4, 2, 1};
    assert_false(sx_parallel_fit(u, (double[]){3, 2}, 2, &fit));
    assert_false(sx_parallel_fit(u + 2, (double[]){3, 2, 1}, 3, &fit)); /* two different ones */
    assert_true(sx_parallel_fit(u, (double[]){3, 2, 1}, 3, &fit));
    assert_false(sx_parallel_fit(u, (double[]){3, 0, 1}, 3, &fit));
    assert_false(sx_parallel_fit(u, (double[]){3, -1, 1}, 3, &fit));
    assert_false(sx_parallel_fit(u, (double[]){3, (double)NAN, 1}, 3, &fit));
    assert_false(sx_parallel_fit(u, (double[]){(double)INFINITY, 2, 1}, 3, &fit));
    assert_false(sx_parallel_fit(u, (double[]){1e300, 2, 1}, 3, &fit));
    assert_false(sx_parallel_fit((unsigned[]){0, 1, 2}, (double[]){3, 2, 1}, 3, &fit));
    assert_false(sx_parallel_fit((unsigned[]){1, 2, UINT32_MAX}, (double[]){3, 2, 1}, 3, &fit));
    assert_true(sx_parallel_fit(u, (double[]){1e300, 2e300, 1e300}, 3, &fit)); /* one scale */
    assert_true(isfinite(sx_parallel_fit_ns(&fit, 3)));
    assert_true(sx_parallel_fit(u, (double[]){5, 5, 5}, 3, &fit)); /* flat */
    assert_true(fabs(sx_parallel_fit_ns(&fit, 64) - 5) < 1e-9);
    assert_true(sx_parallel_fit((unsigned[]){4, 1, 2}, (double[]){2, 8, 4}, 3, &fit)); /* 1/S */
    assert_true(fabs(sx_parallel_fit_ns(&fit, 4) - 2) < 1e-6);
    /* a machine with very many units takes no longer than one can wait */
    assert_true(
        sx_parallel_fit((unsigned[]){1, 1000, 1u << 20}, (double[]){9e9, 1e7, 1e6}, 3, &fit));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_grows_with_units),
        cmocka_unit_test(time_is_constant_from_the_first_kernels_parallelism_on),
        cmocka_unit_test(one_unit_does_all_the_work),
        cmocka_unit_test(knees_of_the_example),
        cmocka_unit_test(knee_grows_with_batch_and_parallelism),
        cmocka_unit_test(without_operations_only_serial_time),
        cmocka_unit_test(fit_recovers_what_was_planted),
        cmocka_unit_test(fit_of_noisy_times_predicts_between),
        cmocka_unit_test(no_search_finds_a_better_fit),
        cmocka_unit_test(fit_refuses_what_is_no_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
