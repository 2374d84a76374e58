/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"

static bool near(double a, double b, double relative)
{
    return fabs(a - b) <= relative * fabs(b);
}

static void grid_has_powers_limits_and_preferred(void **state)
{
    (void)state;
    struct sx_cost c;
    unsigned preferred[] = {6, 99};
    sx_cost_init(&c, 6, 12, preferred, 2);
    unsigned widths[] = {1, 2, 4, 6}, batches[] = {1, 2, 4, 6, 8, 12};
    assert_int_equal(c.n_widths, 4);
    assert_int_equal(c.n_batches, 6);
    assert_memory_equal(c.widths, widths, sizeof widths);
    assert_memory_equal(c.batches, batches, sizeof batches);
}

static void nothing_known_is_zero(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 4, 8, NULL, 0);
    assert_true(sx_cost_ns(&c, 3, 1) == 0);
    assert_true(c.unit_ns == 0);
}

static void measured_cells_are_predicted_exactly_and_between_linearly(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 2, 8, NULL, 0);
    sx_cost_record(&c, 4, 1, 4000);
    sx_cost_record(&c, 8, 1, 6000);
    assert_true(near(sx_cost_ns(&c, 4, 0), 4000, 1e-9));
    assert_true(near(sx_cost_ns(&c, 6, 0), 5000, 1e-9));
    assert_true(near(sx_cost_ns(&c, 8, 0), 6000, 1e-9));
    /* unmeasured: below in part fixed, wider a little faster, never slower than proportional */
    assert_in_range((uint64_t)sx_cost_ns(&c, 1, 0), 1000, 4000);
    assert_in_range((uint64_t)sx_cost_ns(&c, 4, 1), 2000, 4000);
    assert_int_equal(c.unit_batch, 8);
    assert_true(near(c.unit_ns, 750, 1e-9));
}

static void follows_drift_and_shrugs_off_one_stall(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 1, 1, NULL, 0);
    for (int i = 0; i < 100; i++)
        sx_cost_record(&c, 1, 1, 1000000);
    sx_cost_record(&c, 1, 1, 1000000000); /* a thousand times: a stopped machine */
    assert_true(sx_cost_ns(&c, 1, 0) < 1.5e6);
    for (int i = 0; i < 60; i++)
        sx_cost_record(&c, 1, 1, 10000000); /* ten times slower, and it stays so */
    assert_true(near(sx_cost_ns(&c, 1, 0), 10e6, 0.05));
}

static void first_run_is_forgotten_by_a_faster_second(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 1, 1, NULL, 0);
    sx_cost_record(&c, 1, 1, 5000000);
    sx_cost_record(&c, 1, 1, 1000000);
    assert_true(sx_cost_ns(&c, 1, 0) < 2e6);
}

/* Runs at odd batch sizes teach the grid: after many, predictions are near the truth. */
static void odd_batches_teach_their_neighbours(void **state)
{
    (void)state;
    struct sx_cost c;
    struct sx_rng rng;
    sx_rng_init(&rng, 7);
    sx_cost_init(&c, 2, 32, NULL, 0);
    for (int i = 0; i < 4000; i++) {
        unsigned b = 1 + (unsigned)sx_rng_below(&rng, 32), w = 1 + (unsigned)sx_rng_below(&rng, 2);
        double truth = (100e3 + 50e3 * b) / (w == 2 ? 1.6 : 1);
        sx_cost_record(&c, b, w, (uint64_t)(truth * (0.95 + 0.1 * sx_rng_double(&rng))));
    }
    for (unsigned b = 1; b <= 32; b++) {
        assert_true(near(sx_cost_ns(&c, b, 0), 100e3 + 50e3 * b, 0.06));
        assert_true(near(sx_cost_ns(&c, b, 1), (100e3 + 50e3 * b) / 1.6, 0.06));
    }
}

/* One sample on one and two units, both measured; then `n` runs on two take so long. */
static void disturb_width_2(struct sx_cost *c, uint64_t one_ns, uint64_t two_ns, int n,
                            uint64_t disturbed_ns)
{
    sx_cost_init(c, 2, 1, NULL, 0);
    for (int i = 0; i < 20; i++) {
        sx_cost_record(c, 1, 1, one_ns);
        sx_cost_record(c, 1, 2, two_ns);
    }
    for (int i = 0; i < n; i++)
        sx_cost_record(c, 1, 2, disturbed_ns);
}

/* A disturbance made width 2 look slow, so that only width 1 was used from then on: after some
 * seconds width 2 is believed in again. */
static void an_unused_cell_is_given_another_chance(void **state)
{
    (void)state;
    struct sx_cost c;
    disturb_width_2(&c, 6500000, 3500000, 60, 12000000);
    assert_true(sx_cost_ns(&c, 1, 1) > 10e6);
    int runs = 0;
    while (sx_cost_ns(&c, 1, 1) > 6.3e6 && runs < 100000) {
        sx_cost_record(&c, 1, 1, 6500000);
        runs++;
    }
    assert_in_range(runs, 100, 5000);
    /* if it stays slow, it is believed to be after some tries, and tried less and less */
    int tries = 0;
    for (int i = 0; i < 100000; i++) {
        bool wide = sx_cost_ns(&c, 1, 1) < 6.3e6;
        tries += wide;
        sx_cost_record(&c, 1, wide ? 2 : 1, wide ? 12000000 : 6500000);
    }
    print_message("# 1 try in %d runs\n", 100000 / tries);
    assert_in_range(tries, 1, 200);
}

/* What slows down the width in use is half believed of the one that is not: it does not drift down
 * to what it was on a quiet machine, and does once it is quiet again. */
static void what_slows_one_cell_may_slow_the_others(void **state)
{
    (void)state;
    struct sx_cost c;
    disturb_width_2(&c, 7000000, 4000000, 10, 8000000);
    double disturbed = sx_cost_ns(&c, 1, 1);
    for (int i = 0; i < 400; i++) /* 6 s, too few for the floor to follow far */
        sx_cost_record(&c, 1, 1, 14000000);
    double waits = sx_cost_ns(&c, 1, 1);
    assert_true(waits < disturbed && waits > 5.2e6);
    for (int i = 0; i < 4000; i++)
        sx_cost_record(&c, 1, 1, 7000000);
    assert_true(sx_cost_ns(&c, 1, 1) < 4.5e6);
}

/* A request now and then: the time between them counts, too. */
static void rest_gives_another_chance_as_well(void **state)
{
    (void)state;
    struct sx_cost c;
    disturb_width_2(&c, 7700000, 4300000, 60, 12000000);
    double seconds = 0, narrow = 0;
    while (sx_cost_ns(&c, 1, 1) > 7.4e6) {
        sx_cost_rest(&c, 117300000);
        sx_cost_record(&c, 1, 1, 7700000);
        seconds += 0.125;
        assert_true(seconds < 10);
        narrow = sx_cost_ns(&c, 1, 0);
    }
    print_message("# tried again after %.1f s with 8 requests a second\n", seconds);
    assert_true(fabs(narrow - 7.7e6) < 1e4); /* what is in use is what was measured */
    sx_cost_rest(&c, 3600000000000);
    assert_true(fabs(sx_cost_ns(&c, 1, 0) - 7.7e6) < 1e4);
}

/* Some slow runs made everybody too late, so that there is only a run now and then to tell. */
static void what_is_in_use_recovers_after_rests(void **unused)
{
    (void)unused;
    struct sx_cost c;
    sx_cost_init(&c, 1, 1, NULL, 0);
    for (int i = 0; i < 100; i++)
        sx_cost_record(&c, 1, 1, 70 * SX_MS);
    for (int i = 0; i < 6; i++)
        sx_cost_record(&c, 1, 1, 140 * SX_MS);
    assert_true(sx_cost_ns(&c, 1, 0) + sx_cost_spread_ns(&c, 1, 0) > 95e6);
    for (int i = 0; i < 2; i++) {
        sx_cost_rest(&c, 1100 * SX_MS);
        sx_cost_record(&c, 1, 1, 70 * SX_MS);
    }
    assert_true(sx_cost_ns(&c, 1, 0) + sx_cost_spread_ns(&c, 1, 0) < 95e6);
    /* without any, it is believed in again after a while; if it stays slow, that is believed */
    for (int i = 0; i < 40; i++)
        sx_cost_record(&c, 1, 1, 140 * SX_MS);
    for (int i = 0; i < 200; i++)
        sx_cost_rest(&c, SX_S / 10);
    assert_true(near(sx_cost_ns(&c, 1, 0), 70e6, 0.3));
    for (int i = 0; i < 8; i++) {
        sx_cost_rest(&c, 2 * SX_S);
        sx_cost_record(&c, 1, 1, 140 * SX_MS);
    }
    assert_true(near(sx_cost_ns(&c, 1, 0), 140e6, 0.05));
}

/* Even if width 2 was never seen undisturbed. */
static void a_cell_that_was_always_disturbed_is_given_a_chance(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 2, 1, NULL, 0);
    for (int i = 0; i < 20; i++)
        sx_cost_record(&c, 1, 2, 110000000);
    double seconds = 0;
    while (sx_cost_ns(&c, 1, 1) > 70e6 || seconds == 0) {
        sx_cost_record(&c, 1, 1, 75000000);
        seconds += 0.075;
        assert_true(seconds < 60);
    }
    print_message("# tried again after %.1f s\n", seconds);
    for (int i = 0; i < 5; i++)
        sx_cost_record(&c, 1, 2, 38000000);
    assert_true(sx_cost_ns(&c, 1, 1) < 55e6);
}

/* The first run read the weights from a disk: 600 ms for what takes 44.  It was so slow that
 * nothing runs there again, but more units and smaller batches tell. */
static void a_cold_first_run_is_not_believed_for_good(void **state)
{
    (void)state;
    struct sx_cost c;
    sx_cost_init(&c, 2, 4, NULL, 0);
    sx_cost_record(&c, 1, 1, 600 * SX_MS);
    sx_cost_record(&c, 4, 2, 600 * SX_MS);
    double seconds = 0;
    while (sx_cost_ns(&c, 1, 0) > 61e6 || sx_cost_ns(&c, 4, 1) > 122e6) {
        sx_cost_record(&c, 1, 2, 30 * SX_MS);
        seconds += 0.03;
        assert_true(seconds < 40);
    }
    print_message("# believed no longer after %.1f s\n", seconds);
    sx_cost_record(&c, 1, 1, 44 * SX_MS);
    assert_true(sx_cost_ns(&c, 1, 0) < 53e6);
}

/* Another model loaded while this one was measured on one unit: 100 ms each time, for what takes
 * 36.  Two units take 20, and so nothing runs on one any more. */
static void a_disturbed_profile_is_not_believed_for_good(void **unused)
{
    (void)unused;
    struct sx_cost c;
    sx_cost_init(&c, 2, 1, NULL, 0);
    for (int i = 0; i < 3; i++)
        sx_cost_record(&c, 1, 1, 100 * SX_MS);
    double seconds = 0;
    while (sx_cost_ns(&c, 1, 0) > 65e6) {
        sx_cost_record(&c, 1, 2, 20 * SX_MS);
        seconds += 0.02;
        assert_true(seconds < 40);
    }
    print_message("# believed no longer after %.1f s\n", seconds);
}

/* Only requests of three samples, between the points 2 and 4, and no profile: it is learnt. */
static void a_batch_between_grid_points_begins(void **unused)
{
    (void)unused;
    struct sx_cost c;
    sx_cost_init(&c, 1, 4, NULL, 0);
    for (int i = 0; i < 5; i++)
        sx_cost_record(&c, 3, 1, 30 * SX_MS);
    assert_true(c.unit_ns > 0);
    assert_true(fabs(sx_cost_ns(&c, 3, 0) - 30e6) < 3e6);
}

static void a_width_is_worth_a_try_now_and_then(void **unused)
{
    (void)unused;
    struct sx_cost c;
    sx_cost_init(&c, 2, 1, NULL, 0);
    assert_false(sx_cost_worth_a_try(&c, 1)); /* that is for profiling */
    sx_cost_record(&c, 1, 2, 30 * SX_MS);
    int tries = 0;
    for (int i = 0; i < 1000; i++) {
        sx_cost_record(&c, 1, 1, 20 * SX_MS);
        if (sx_cost_worth_a_try(&c, 1)) {
            tries++;
            sx_cost_record(&c, 1, 2, 30 * SX_MS);
        }
    }
    assert_int_equal(tries, 10);
    for (int i = 0; i < 200; i++)
        sx_cost_record(&c, 1, 1, SX_MS); /* many runs, but little time */
    assert_false(sx_cost_worth_a_try(&c, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_between_grid_points_begins),
        cmocka_unit_test(a_cold_first_run_is_not_believed_for_good),
        cmocka_unit_test(a_disturbed_profile_is_not_believed_for_good),
        cmocka_unit_test(a_width_is_worth_a_try_now_and_then),
        cmocka_unit_test(grid_has_powers_limits_and_preferred),
        cmocka_unit_test(nothing_known_is_zero),
        cmocka_unit_test(measured_cells_are_predicted_exactly_and_between_linearly),
        cmocka_unit_test(follows_drift_and_shrugs_off_one_stall),
        cmocka_unit_test(first_run_is_forgotten_by_a_faster_second),
        cmocka_unit_test(odd_batches_teach_their_neighbours),
        cmocka_unit_test(an_unused_cell_is_given_another_chance),
        cmocka_unit_test(what_slows_one_cell_may_slow_the_others),
        cmocka_unit_test(rest_gives_another_chance_as_well),
        cmocka_unit_test(what_is_in_use_recovers_after_rests),
        cmocka_unit_test(a_cell_that_was_always_disturbed_is_given_a_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
