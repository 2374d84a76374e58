/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/efficacy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"

/* --- random instances ------------------------------------------------------------------------- */

static struct sx_latency some_table(struct sx_rng *rng)
{
    struct sx_latency l = {.n_units = 1 + (unsigned)sx_rng_below(rng, 10),
                           .n_batches = 1 + (unsigned)sx_rng_below(rng, 8)};
    unsigned at = 0;
    for (unsigned u = 0; u < l.n_units; u++)
        l.units[u] = at += 1 + (unsigned)sx_rng_below(rng, 4);
    at = sx_rng_below(rng, 4) ? 0 : (unsigned)sx_rng_below(rng, 5);
    for (unsigned b = 0; b < l.n_batches; b++)
        l.batches[b] = at += 1 + (unsigned)sx_rng_below(rng, 6);
    double fixed = 1e6 * sx_rng_double(rng), each = 1e6 * (0.1 + sx_rng_double(rng));
    double serial = 0.6 * sx_rng_double(rng);
    for (unsigned u = 0; u < l.n_units; u++)
        for (unsigned b = 0; b < l.n_batches; b++)
            if (sx_rng_below(rng, 8) || (!u && !b))
                l.ns[u][b] = (fixed + each * l.batches[b]) * (serial + (1 - serial) / l.units[u]) *
                             (1 + 0.1 * sx_rng_normal(rng));
    sx_latency_prepare(&l);
    return l;
}

static struct sx_efficacy_limits some_limits(struct sx_rng *rng, const struct sx_latency *l)
{
    struct sx_efficacy_limits limits = {
        .objective_ns =
            l->ns[l->n_units - 1][0] * 3 * sx_rng_double(rng) * (sx_rng_below(rng, 3) ? 1 : 20),
        .rate = sx_rng_below(rng, 3) ? 100 + 5000 * sx_rng_double(rng) : 0,
        .margin_ns = sx_rng_below(rng, 2) ? 1e5 * sx_rng_double(rng) : 0,
        .max_batch = 1 + (unsigned)sx_rng_below(rng, l->batches[l->n_batches - 1] + 4),
        .max_units = 1 + (unsigned)sx_rng_below(rng, l->units[l->n_units - 1] + 2),
        .half_rule = sx_rng_below(rng, 2),
    };
    return limits;
}

/* --- the twin --------------------------------------------------------------------------------- */

struct cell {
    bool feasible;
    unsigned units, batch;
    double ns, efficacy;
};

static bool in_list(const unsigned *list, unsigned n, unsigned value)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* (9)-(11) as they are written, for one cell. */
static bool satisfies(const struct sx_latency *l, const struct sx_efficacy_limits *k,
                      unsigned units, unsigned batch)
{
    double run = sx_latency_ns(l, units, batch), left = k->objective_ns - k->margin_ns;
    double assembly = k->rate > 0 ? (batch - 1) * (1e9 / k->rate) : 0;

    return batch >= 1 && batch <= k->max_batch && units <= k->max_units && run + assembly <= left &&
           (!k->half_rule || run <= left / 2);
}

/* Every number of units and every batch there is, from the largest down; then the winner among all
 * by three criteria. */
static struct cell brute_force(const struct sx_latency *l, const struct sx_efficacy_limits *k)
{
    struct cell best = {.feasible = false};
    unsigned most = l->batches[l->n_batches - 1];

    for (unsigned units = l->units[l->n_units - 1]; units > 0; units--) {
        if (!in_list(l->units, l->n_units, units))
            continue;
        for (unsigned batch = most; batch > 0; batch--) {
            bool asked =
                in_list(l->batches, l->n_batches, batch) || batch == 1 || batch == k->max_batch;
            if (!asked || !satisfies(l, k, units, batch))
                continue;
            double ns = sx_latency_ns(l, units, batch), s = ns * 1e-9;
            struct cell c = {true, units, batch, ns, batch / (s * s * units)};
            bool better = !best.feasible || c.efficacy > best.efficacy ||
                          (c.efficacy >= best.efficacy &&
                           (c.units < best.units || (c.units == best.units && c.ns < best.ns)));
            if (better)
                best = c;
        }
    }
    return best;
}

static void equals_brute_force(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned feasible = 0, rounds = 1000, off_grid = 0, explained = 0;
    sx_rng_init(&rng, 48);
    for (unsigned i = 0; i < rounds; i++) {
        struct sx_latency l = some_table(&rng);
        struct sx_efficacy_limits limits = some_limits(&rng, &l);
        struct cell expected = brute_force(&l, &limits);
        struct sx_efficacy choice;
        memset(&choice, 0x55, sizeof choice);
        sx_efficacy_choose(&l, &limits, &choice);
        assert_int_equal(choice.feasible, expected.feasible);
        if (!choice.feasible) {
            assert_true(choice.why[0]);
            explained++;
            continue;
        }
        feasible++;
        assert_int_equal(choice.units, expected.units);
        assert_int_equal(choice.batch, expected.batch);
        assert_true(choice.ns == expected.ns);
        assert_true(fabs(choice.efficacy / expected.efficacy - 1) < 1e-12);
        assert_true(fabs(choice.throughput * choice.ns * 1e-9 / choice.batch - 1) < 1e-12);
        assert_string_equal(choice.why, "");
        off_grid += !in_list(l.batches, l.n_batches, choice.batch);
    }
    print_message(
        "# D3: equal on %u instances: %u feasible (%u at a batch between two of the grid), "
        "%u not\n",
        rounds, feasible, off_grid, explained);
    assert_in_range(feasible, 200, 900); /* the test does see both */
}

/* What is said to make it feasible does, and nothing less. */
static void advice_is_true(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned objectives = 0, more_units = 0, none = 0;
    sx_rng_init(&rng, 49);
    for (unsigned i = 0; i < 4000; i++) {
        struct sx_latency l = some_table(&rng);
        struct sx_efficacy_limits limits = some_limits(&rng, &l), other;
        struct sx_efficacy choice, then;
        sx_efficacy_choose(&l, &limits, &choice);
        if (choice.feasible)
            continue;
        other = limits;
        if (choice.least_objective_ns > 0) {
            other.objective_ns = choice.least_objective_ns;
            sx_efficacy_choose(&l, &other, &then);
            assert_true(then.feasible);
            other.objective_ns *= 1 - 1e-9;
            sx_efficacy_choose(&l, &other, &then);
            assert_false(then.feasible);
            objectives++;
        } else {
            assert_true(limits.max_units < l.units[0]);
        }
        other = limits;
        if (choice.least_units) {
            assert_true(choice.least_units > limits.max_units);
            other.max_units = choice.least_units;
            sx_efficacy_choose(&l, &other, &then);
            assert_true(then.feasible);
            other.max_units--;
            sx_efficacy_choose(&l, &other, &then);
            assert_false(then.feasible);
            more_units++;
        } else {
            other.max_units = UINT32_MAX;
            sx_efficacy_choose(&l, &other, &then);
            assert_false(then.feasible);
            none++;
        }
    }
    print_message(
        "# D3: advice tried: %u objectives, %u numbers of units; %u times no number helps\n",
        objectives, more_units, none);
    assert_true(objectives > 500 && more_units > 100 && none > 100);
}

/* --- one by one ------------------------------------------------------------------------------- */

/* 10 ms per sample on one unit, halves with two. */
static const struct sx_latency plain = {.n_units = 2,
                                        .n_batches = 3,
                                        .units = {1, 2},
                                        .batches = {1, 2, 4},
                                        .ns = {{10e6, 20e6, 40e6}, {5e6, 10e6, 20e6}}};

static void half_rule_toggles(void **state)
{
    (void)state;
    struct sx_efficacy_limits limits = {.objective_ns = 8e6, .max_batch = 4, .max_units = 2};
    struct sx_efficacy c;
    sx_efficacy_choose(&plain, &limits, &c);
    assert_true(c.feasible && c.units == 2 && c.batch == 1);
    limits.half_rule = true; /* 5 ms are more than half of 8 */
    sx_efficacy_choose(&plain, &limits, &c);
    assert_false(c.feasible);
    assert_true(fabs(c.least_objective_ns - 10e6) < 1);
    assert_non_null(strstr(c.why, "half"));
    limits.objective_ns = 10e6;
    sx_efficacy_choose(&plain, &limits, &c);
    assert_true(c.feasible);
    limits.margin_ns = 0.1e6; /* the margin comes off first */
    sx_efficacy_choose(&plain, &limits, &c);
    assert_false(c.feasible);
    assert_true(fabs(c.least_objective_ns - 10.1e6) < 1);
    /* how often it decides, at large */
    struct sx_rng rng;
    unsigned differ = 0;
    sx_rng_init(&rng, 50);
    for (unsigned i = 0; i < 1000; i++) {
        struct sx_latency l = some_table(&rng);
        struct sx_efficacy without;
        limits = some_limits(&rng, &l);
        limits.half_rule = false;
        sx_efficacy_choose(&l, &limits, &without);
        limits.half_rule = true;
        sx_efficacy_choose(&l, &limits, &c);
        assert_true(without.feasible || !c.feasible);
        assert_true(!c.feasible || c.efficacy <= without.efficacy);
        differ +=
            c.feasible != without.feasible || c.batch != without.batch || c.units != without.units;
    }
    print_message("# D3: the half rule changes %u of 1000 choices\n", differ);
    assert_in_range(differ, 10, 900);
}

static void a_slow_stream_makes_batches_small(void **state)
{
    (void)state;
    /* a large fixed part, so that large batches pay */
    const struct sx_latency l = {.n_units = 1,
                                 .n_batches = 3,
                                 .units = {1},
                                 .batches = {1, 4, 16},
                                 .ns = {{10e6, 11e6, 14e6}}};
    struct sx_efficacy_limits limits = {.objective_ns = 30e6, .max_batch = 16, .max_units = 1};
    struct sx_efficacy c;
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.batch, 16);
    assert_true(c.assembly_ns == 0); /* NOLINT: exactly */
    limits.rate = 200;               /* 15 more come in 75 ms, 3 in 15 ms */
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.batch, 4);
    assert_true(fabs(c.assembly_ns - 15e6) < 1);
    limits.rate = 10;
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.batch, 1);
    limits.rate = 1e-300; /* practically never */
    sx_efficacy_choose(&l, &limits, &c);
    assert_true(c.feasible && c.batch == 1);
    limits.max_batch = 10; /* between two of the grid */
    limits.rate = (double)INFINITY;
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.batch, 10);
}

static void ties_go_to_fewer_units(void **state)
{
    (void)state;
    /* 1/sqrt(units): L^2 units is the same everywhere */
    const struct sx_latency l = {
        .n_units = 2, .n_batches = 1, .units = {1, 4}, .batches = {1}, .ns = {{10e6}, {5e6}}};
    struct sx_efficacy_limits limits = {.objective_ns = 1e9, .max_batch = 1, .max_units = 4};
    struct sx_efficacy c;
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.units, 1);
    limits.objective_ns = 9e6;
    sx_efficacy_choose(&l, &limits, &c);
    assert_int_equal(c.units, 4);
}

static void absurd_limits_are_infeasible(void **state)
{
    (void)state;
    const double bad[] = {0, -5, (double)NAN, -(double)INFINITY, 1};
    struct sx_efficacy c;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sx_efficacy_limits limits = {.objective_ns = bad[i], .max_batch = 4, .max_units = 2};
        sx_efficacy_choose(&plain, &limits, &c);
        assert_false(c.feasible);
        assert_true(fabs(c.least_objective_ns - 5e6) < 1);
        assert_true(c.why[0]);
        print_message("# %s\n", c.why);
    }
    struct sx_efficacy_limits none = {.objective_ns = 1e9, .max_batch = 4, .max_units = 0};
    sx_efficacy_choose(&plain, &none, &c);
    assert_false(c.feasible);
    assert_int_equal(c.least_units, 1);
    print_message("# %s\n", c.why);
    struct sx_efficacy_limits rates = {.objective_ns = 1e9,
                                       .max_batch = 0,
                                       .max_units = 9,
                                       .rate = (double)NAN,
                                       .margin_ns = (double)NAN};
    sx_efficacy_choose(&plain, &rates, &c);
    assert_true(c.feasible && c.batch == 1);
}

static void choosing_is_fast(void **state)
{
    (void)state;
    struct sx_latency l = {.n_units = 12, .n_batches = 8}, holes;
    uint64_t choose = UINT64_MAX, prepare = UINT64_MAX;
    unsigned feasible = 0;
    for (unsigned u = 0; u < l.n_units; u++) {
        l.units[u] = 4 * u + 1;
        for (unsigned b = 0; b < l.n_batches; b++) {
            l.batches[b] = 1u << b;
            l.ns[u][b] = (u * b) % 3 ? 1e6 * (1 + l.batches[b]) * (0.1 + 1.0 / l.units[u]) : 0;
        }
    }
    holes = l;
    for (int round = 0; round < 50; round++) {
        uint64_t begin = sx_now();
        l = holes;
        sx_latency_prepare(&l);
        uint64_t between = sx_now();
        for (unsigned i = 1; i <= 100; i++) {
            const struct sx_efficacy_limits limits = {
                .objective_ns = 1e6 * i, .rate = 1000, .max_batch = 100, .max_units = 40};
            struct sx_efficacy c;
            sx_efficacy_choose(&l, &limits, &c);
            feasible += c.feasible;
        }
        uint64_t end = sx_now();
        prepare = between - begin < prepare ? between - begin : prepare;
        choose = end - between < choose ? end - between : choose;
    }
    print_message(
        "# 12 numbers of units by 8 batches: one choice takes %.2f us, to prepare it with a "
        "third missing %.0f us\n",
        (double)choose / 100 / 1e3, (double)prepare / 1e3);
    assert_true(feasible > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_brute_force),
        cmocka_unit_test(advice_is_true),
        cmocka_unit_test(half_rule_toggles),
        cmocka_unit_test(a_slow_stream_makes_batches_small),
        cmocka_unit_test(ties_go_to_fewer_units),
        cmocka_unit_test(absurd_limits_are_infeasible),
        cmocka_unit_test(choosing_is_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
