/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * way_test.c - the quantile is found from afar, and forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/rng.h"
#include "front/way.h"
#include <cmocka.h>

static uint64_t now = SX_S;

/* Exponential waits, 500 per second. */
static void wait_randomly(struct sx_way *way, struct sx_rng *rng, int n, double mean)
{
    for (int i = 0; i < n; i++)
        sx_way_note(way, (uint64_t)sx_rng_exponential(rng, mean), now += 2 * SX_MS);
}

static void one_in_a_hundred_waits_longer(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    struct sx_way way = {0};
    sx_rng_init(&rng, 1);
    assert_int_equal(sx_way_ns(&way, now), 0);
    static const double means[] = {0.5e6, 0.05e6, 2e6};
    for (int k = 0; k < 3; k++) {
        wait_randomly(&way, &rng, 5000, means[k]);
        double sum = 0;
        for (int i = 0; i < 20000; i++) {
            wait_randomly(&way, &rng, 1, means[k]);
            sum += (double)sx_way_ns(&way, now);
        }
        double p99 = means[k] * 4.605; /* ln 100 */
        print_message("# mean %g ms: %.3f of the 99th percentile\n", means[k] * 1e-6,
                      sum / 20000 / p99);
        assert_true(sum / 20000 > 0.85 * p99 && sum / 20000 < 1.15 * p99);
    }
}

static void a_busy_machine_is_known_after_a_second_and_forgotten(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    struct sx_way way = {0};
    sx_rng_init(&rng, 2);
    wait_randomly(&way, &rng, 1000, 5e3);
    assert_true(sx_way_ns(&way, now) < 50 * SX_US);
    wait_randomly(&way, &rng, 500, 0.5e6);
    uint64_t busy = sx_way_ns(&way, now);
    assert_true(busy > SX_MS);
    assert_in_range(sx_way_ns(&way, now + SX_WAY_HALF_NS), busy / 2 - 1, busy / 2 + 1);
    assert_true(sx_way_ns(&way, now + 20 * SX_WAY_HALF_NS) < 50 * SX_US);
    for (int i = 0; i < 1000; i++) /* the machine stood still: no number is too large */
        sx_way_note(&way, UINT64_MAX, now);
    assert_true(sx_way_ns(&way, now) <= 100 * SX_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_in_a_hundred_waits_longer),
        cmocka_unit_test(a_busy_machine_is_known_after_a_second_and_forgotten),
    };
    return cmocka_run_group_tests_name("front/way", tests, NULL, NULL);
}
