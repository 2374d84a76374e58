/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rng_test.c - known numbers, bounds, and moments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "base/rng.h"

enum { N = 200000 };

static void test_known(void **state)
{
    (void)state;
    /* Of the authors' xoshiro256** from the state 1, 2, 3, 4. */
    static const uint64_t want[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    struct sx_rng r = {{1, 2, 3, 4}};
    for (int i = 0; i < 4; i++)
        assert_true(sx_rng_u64(&r) == want[i]);
    /* splitmix64 from 0. */
    sx_rng_init(&r, 0);
    assert_true(r.s[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(r.s[1] == UINT64_C(0x6e789e6aa1b965f4));
}

static void test_repeats(void **state)
{
    (void)state;
    struct sx_rng a, b, c;
    sx_rng_init(&a, 7);
    sx_rng_init(&b, 7);
    sx_rng_init(&c, 8);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = sx_rng_u64(&a);
        assert_true(x == sx_rng_u64(&b));
        same += x == sx_rng_u64(&c);
    }
    assert_int_equal(same, 0);
}

static void test_below(void **state)
{
    (void)state;
    struct sx_rng r;
    sx_rng_init(&r, 9);
    for (uint64_t n = 1; n <= 20; n++) {
        double seen[20] = {0}, chi2 = 0, expected = 20000.0 / (double)n;
        for (int i = 0; i < 20000; i++) {
            uint64_t x = sx_rng_below(&r, n);
            assert_true(x < n);
            seen[x]++;
        }
        for (uint64_t i = 0; i < n; i++)
            chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
        assert_true(chi2 < 50); // p < 0.0002 at 19 degrees of freedom
    }
    for (int i = 0; i < 1000; i++)
        assert_true(sx_rng_below(&r, UINT64_MAX / 3 * 2) < UINT64_MAX / 3 * 2);
}

/* Mean and variance of N draws, each within five standard errors or so. */
static void check_moments(double (*draw)(struct sx_rng *, double), double arg, double mean,
                          double var)
{
    struct sx_rng r;
    sx_rng_init(&r, 10);
    double sum = 0, sum_sq = 0;
    for (int i = 0; i < N; i++) {
        double x = draw(&r, arg);
        sum += x - mean;
        sum_sq += (x - mean) * (x - mean);
    }
    if (fabs(sum / N) > 5 * sqrt(var / N))
        fail_msg("mean is %g, not %g", mean + sum / N, mean);
    if (fabs(sum_sq / N / var - 1) > 0.1)
        fail_msg("variance is %g, not %g", sum_sq / N, var);
}

static double draw_double(struct sx_rng *r, double arg)
{
    (void)arg;
    double x = sx_rng_double(r);
    assert_true(x >= 0 && x < 1);
    return x;
}

static double draw_normal(struct sx_rng *r, double arg)
{
    (void)arg;
    return sx_rng_normal(r);
}

static double draw_exponential(struct sx_rng *r, double mean)
{
    double x = sx_rng_exponential(r, mean);
    assert_true(x >= 0 && isfinite(x));
    return x;
}

static double draw_gamma(struct sx_rng *r, double shape)
{
    double x = sx_rng_gamma(r, shape, 3);
    assert_true(x >= 0 && isfinite(x));
    return x;
}

static void test_moments(void **state)
{
    (void)state;
    check_moments(draw_double, 0, 0.5, 1.0 / 12);
    check_moments(draw_normal, 0, 0, 1);
    check_moments(draw_exponential, 4, 4, 16);
    static const double shapes[] = {0.25, 0.5, 1, 2, 10};
    for (int i = 0; i < 5; i++)
        check_moments(draw_gamma, shapes[i], 3, 9 / shapes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
