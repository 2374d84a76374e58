/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * threshold_test.c - the search against limits that are known, sharp and noisy.  A queue's limit
 * is in run_test.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "perf/threshold.h"

static void sharp_limits_are_found(void **state)
{
    (void)state;
    const double limits[] = {0.7, 1, 9.99, 137, 5000, 99999};
    const double starts[] = {0.5, 10, 20000};
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 3; k++) {
            struct sx_threshold t;
            double load;
            sx_threshold_init(&t, starts[k], 0.1, 1e6);
            while (sx_threshold_next(&t, &load))
                sx_threshold_tell(&t, load <= limits[i]);
            assert_true(t.lo <= limits[i] && limits[i] < t.hi);
            assert_true(t.hi <= t.lo * 1.0201);
            assert_true(t.trials < 70);
        }
    }
}

static void ends_of_the_range(void **state)
{
    (void)state;
    struct sx_threshold t;
    double load;
    sx_threshold_init(&t, 10, 1, 100);
    while (sx_threshold_next(&t, &load))
        sx_threshold_tell(&t, true);
    assert_true(t.lo >= 100 && t.hi <= 0);
    sx_threshold_init(&t, 10, 1, 100);
    while (sx_threshold_next(&t, &load))
        sx_threshold_tell(&t, false);
    assert_true(t.lo <= 0 && t.hi <= 1);
}

static void whole_numbers_end_side_by_side(void **state)
{
    (void)state;
    for (int limit = 1; limit < 40; limit++) {
        struct sx_threshold t;
        double load;
        sx_threshold_init(&t, 1, 1, 64);
        t.whole = true;
        while (sx_threshold_next(&t, &load)) {
            assert_true(load >= floor(load) && load <= floor(load));
            sx_threshold_tell(&t, load <= limit);
        }
        assert_true(fabs(t.lo - limit) < 0.5 && fabs(t.hi - limit - 1) < 0.5);
    }
}

/* One measurement in ten is wrong, and loads near the limit are a toss-up. */
static void noise_shifts_it_little(void **state)
{
    (void)state;
    int near = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sx_threshold t;
        struct sx_rng rng;
        double load;
        sx_rng_init(&rng, seed);
        sx_threshold_init(&t, 10, 1, 1e6);
        while (sx_threshold_next(&t, &load)) {
            double held = 1 / (1 + exp((load - 1000) / 20));
            held = 0.9 * held + 0.1 * (1 - held);
            sx_threshold_tell(&t, sx_rng_double(&rng) < held);
            assert_true(t.trials < 1000);
        }
        near += t.lo > 850 && t.lo < 1100;
    }
    assert_true(near > 140);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharp_limits_are_found),
        cmocka_unit_test(ends_of_the_range),
        cmocka_unit_test(whole_numbers_end_side_by_side),
        cmocka_unit_test(noise_shifts_it_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
