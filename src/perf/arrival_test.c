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
#include "perf/arrival.h"

enum { N = 200000 };

/* Mean and coefficient of variation of the gaps. */
static void gaps(struct sx_arrival *a, double *mean, double *cv)
{
    uint64_t last = 0;
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        uint64_t at = sx_arrival_next(a);
        assert_true(at >= last);
        double gap = (double)(at - last);
        sum += gap;
        squares += gap * gap;
        last = at;
    }
    *mean = sum / N;
    *cv = sqrt(squares / N - *mean * *mean) / *mean;
}

static void constant_gaps_are_equal_and_do_not_drift(void **state)
{
    (void)state;
    struct sx_arrival a;
    sx_arrival_constant(&a, 3);
    assert_int_equal(sx_arrival_next(&a), 0);
    assert_int_equal(sx_arrival_next(&a), 333333333);
    for (int i = 2; i < 3000; i++)
        sx_arrival_next(&a);
    assert_int_equal(sx_arrival_next(&a), 1000 * SX_S);
}

static void poisson_has_mean_and_cv(void **state)
{
    (void)state;
    struct sx_arrival a;
    double mean, cv;
    sx_arrival_poisson(&a, 1000, 7);
    gaps(&a, &mean, &cv);
    assert_true(fabs(mean - 1e6) < 0.01e6);
    assert_true(fabs(cv - 1) < 0.02);
}

static void gamma_has_mean_and_cv(void **state)
{
    (void)state;
    const double shapes[] = {0.25, 0.5, 4};
    for (int i = 0; i < 3; i++) {
        struct sx_arrival a;
        double mean, cv;
        sx_arrival_gamma(&a, 1000, shapes[i], 7);
        gaps(&a, &mean, &cv);
        assert_true(fabs(mean - 1e6) < 0.02e6);
        assert_true(fabs(cv * sqrt(shapes[i]) - 1) < 0.03);
    }
}

static void same_seed_same_times(void **state)
{
    (void)state;
    struct sx_arrival a, b, c;
    int same = 0;
    sx_arrival_poisson(&a, 100, 1);
    sx_arrival_poisson(&b, 100, 1);
    sx_arrival_poisson(&c, 100, 2);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = sx_arrival_next(&a);
        assert_int_equal(x, sx_arrival_next(&b));
        same += x == sx_arrival_next(&c);
    }
    assert_true(same < 5);
}

static void trace_gives_times_then_never(void **state)
{
    (void)state;
    struct sx_arrival a;
    const char *text = "# two requests\n0.5, ignored\n\n 1.25\r\n2 # the last\n2";
    assert_int_equal(sx_arrival_parse(&a, "t", text, SX_TRACE_TIMES, SX_S, false, 1, NULL), SX_OK);
    assert_int_equal(sx_arrival_next(&a), SX_S / 2);
    assert_int_equal(sx_arrival_next(&a), 1250 * SX_MS);
    assert_int_equal(sx_arrival_next(&a), 2 * SX_S);
    assert_int_equal(sx_arrival_next(&a), 2 * SX_S);
    assert_true(sx_arrival_next(&a) == SX_NEVER);
    assert_true(fabs(a.rate - 2) < 1e-9);
    sx_arrival_fini(&a);
}

static void gaps_add_up_and_loop(void **state)
{
    (void)state;
    struct sx_arrival a;
    assert_int_equal(sx_arrival_parse(&a, "t", "100\n200\n", SX_TRACE_GAPS, SX_US, true, 1, NULL),
                     SX_OK);
    const uint64_t want[] = {100, 300, 400, 600, 700};
    for (int i = 0; i < 5; i++)
        assert_int_equal(sx_arrival_next(&a), want[i] * SX_US);
    sx_arrival_fini(&a);
}

static void counts_fall_into_their_minutes(void **state)
{
    (void)state;
    struct sx_arrival a;
    assert_int_equal(
        sx_arrival_parse(&a, "t", "3\n0\n2\n", SX_TRACE_COUNTS, 60 * SX_S, false, 1, NULL), SX_OK);
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t at = sx_arrival_next(&a);
        assert_true(at >= last);
        assert_int_equal(at / (60 * SX_S), i < 3 ? 0 : 2);
        last = at;
    }
    assert_true(sx_arrival_next(&a) == SX_NEVER);
    sx_arrival_fini(&a);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"1\n2x\n", "f:2: '2x' is not a number"},
        {"1\n\n0.5\n", "f:3: time 0.5 is before the one above it"},
        {"-1\n", "f:1: -1 is out of range"},
        {"nan\n", "f:1: nan is out of range"},
        {"1e300\n", "f:1: 1e+300 is out of range"},
        {"# nothing\n", "f: no request in it"},
        {"abc", "f:1: 'abc' is not a number"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sx_arrival a;
        struct sx_err err = {0};
        assert_int_equal(
            sx_arrival_parse(&a, "f", cases[i].text, SX_TRACE_TIMES, SX_S, false, 1, &err),
            SX_INVALID);
        assert_string_equal(err.message, cases[i].want);
    }
}

/* Requests in each of `n` stretches of `seconds`. */
static void stretches(struct sx_arrival *a, double seconds, unsigned n, double *ret)
{
    uint64_t at = sx_arrival_next(a), last = 0;
    for (unsigned i = 0; i < n; i++) {
        ret[i] = 0;
        for (; at < (uint64_t)(seconds * 1e9 * (i + 1)); at = sx_arrival_next(a)) {
            assert_true(at >= last);
            last = at;
            ret[i]++;
        }
    }
}

static void bursts_have_their_mean_and_come_in_clumps(void **state)
{
    (void)state;
    struct sx_arrival a;
    double n[1000], sum = 0, squares = 0;
    sx_arrival_bursts(&a, 900, 100, 1, 3, 5);
    assert_true(fabs(a.rate - 300) < 1e-9);
    stretches(&a, 1, 1000, n);
    for (int i = 0; i < 1000; i++) {
        sum += n[i];
        squares += n[i] * n[i];
    }
    double mean = sum / 1000, variance = squares / 1000 - mean * mean;
    assert_true(fabs(mean - 300) < 40);
    assert_true(variance > 20 * mean); /* of a Poisson process: its mean */
}

static void a_step_changes_the_rate_once(void **state)
{
    (void)state;
    struct sx_arrival a;
    double n[4];
    sx_arrival_step(&a, 1000, 3000, 20, 5);
    stretches(&a, 10, 4, n);
    assert_true(fabs(n[0] - 10000) < 500 && fabs(n[1] - 10000) < 500);
    assert_true(fabs(n[2] - 30000) < 800 && fabs(n[3] - 30000) < 800);
    sx_arrival_step(&a, 1000, 0, 1, 5);
    unsigned count = 0;
    while (sx_arrival_next(&a) != SX_NEVER)
        count++;
    assert_true(count > 850 && count < 1150);
    sx_arrival_step(&a, 0, 10, 7, 5);
    assert_true(sx_arrival_next(&a) >= 7 * SX_S);
}

static void a_wave_goes_up_and_down(void **state)
{
    (void)state;
    struct sx_arrival a;
    double n[4];
    sx_arrival_wave(&a, 1000, 1, 40, 5);
    stretches(&a, 10, 4, n);
    /* the integral of 1 + sin over a quarter: 10 s (1 + 2 / pi) and 10 s (1 - 2 / pi) */
    assert_true(fabs(n[0] - 16366) < 600 && fabs(n[1] - 16366) < 600);
    assert_true(fabs(n[2] - 3634) < 300 && fabs(n[3] - 3634) < 300);
}

static void counts_are_kept_in_every_period(void **state)
{
    (void)state;
    static const uint32_t want[] = {7, 0, 1, 50};
    const double shapes[] = {0.25, 1, 4};
    for (size_t i = 0; i < 3; i++) {
        struct sx_arrival a;
        double n[4];
        uint32_t *counts = malloc(sizeof want);
        assert_non_null(counts);
        memcpy(counts, want, sizeof want);
        sx_arrival_counts(&a, counts, 4, 2 * SX_S, shapes[i], 5);
        assert_true(fabs(a.rate - 58.0 / 8) < 1e-9);
        stretches(&a, 2, 4, n);
        for (int k = 0; k < 4; k++)
            assert_true(n[k] == want[k]);
        assert_true(sx_arrival_next(&a) == SX_NEVER);
        sx_arrival_fini(&a);
    }
}

/* Given their number, Poisson arrivals are uniform: the mean of the first of n is 1 / (n + 1). */
static void counts_of_shape_one_are_uniform(void **state)
{
    (void)state;
    double first = 0, squares = 0;
    enum { ROUNDS = 20000 };
    uint32_t *counts = malloc(ROUNDS * sizeof *counts);
    assert_non_null(counts);
    for (int i = 0; i < ROUNDS; i++)
        counts[i] = 3;
    struct sx_arrival a;
    sx_arrival_counts(&a, counts, ROUNDS, SX_S, 1, 5);
    for (int i = 0; i < ROUNDS; i++) {
        double x[3];
        for (int k = 0; k < 3; k++)
            x[k] = (double)sx_arrival_next(&a) * 1e-9 - i;
        first += x[0];
        squares += x[0] * x[0] + x[1] * x[1] + x[2] * x[2];
    }
    assert_true(fabs(first / ROUNDS - 0.25) < 0.005);
    assert_true(fabs(squares / (3.0 * ROUNDS) - 1.0 / 3) < 0.005);
    sx_arrival_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_gaps_are_equal_and_do_not_drift),
        cmocka_unit_test(poisson_has_mean_and_cv),
        cmocka_unit_test(gamma_has_mean_and_cv),
        cmocka_unit_test(same_seed_same_times),
        cmocka_unit_test(trace_gives_times_then_never),
        cmocka_unit_test(gaps_add_up_and_loop),
        cmocka_unit_test(counts_fall_into_their_minutes),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(bursts_have_their_mean_and_come_in_clumps),
        cmocka_unit_test(a_step_changes_the_rate_once),
        cmocka_unit_test(a_wave_goes_up_and_down),
        cmocka_unit_test(counts_are_kept_in_every_period),
        cmocka_unit_test(counts_of_shape_one_are_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
