/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
