/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/latency.h"

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

/* --- random tables ---------------------------------------------------------------------------- */

static void some_grid(struct sx_rng *rng, unsigned *list, unsigned *n, unsigned cap, unsigned step)
{
    unsigned at = 0;

    *n = 1 + (unsigned)sx_rng_below(rng, cap);
    for (unsigned i = 0; i < *n; i++)
        list[i] = at += 1 + (unsigned)sx_rng_below(rng, step);
}

/* Anything: jagged, with holes, but not empty. */
static struct sx_latency some_table(struct sx_rng *rng)
{
    struct sx_latency l = {0};
    unsigned holes = (unsigned)sx_rng_below(rng, 5);

    some_grid(rng, l.units, &l.n_units, sx_rng_below(rng, 4) ? 8 : SX_LATENCY_UNITS, 5);
    some_grid(rng, l.batches, &l.n_batches, sx_rng_below(rng, 4) ? 6 : SX_LATENCY_BATCHES, 5);
    double noise = sx_rng_below(rng, 3) ? 0.2 : 2;
    for (unsigned u = 0; u < l.n_units; u++)
        for (unsigned b = 0; b < l.n_batches; b++)
            if (sx_rng_below(rng, 5) >= holes)
                l.ns[u][b] = 1e6 * (0.2 + l.batches[b]) * (0.1 + 1.0 / l.units[u]) *
                             exp(noise * sx_rng_normal(rng));
    unsigned u = (unsigned)sx_rng_below(rng, l.n_units);
    l.ns[u][sx_rng_below(rng, l.n_batches)] = 3e6;
    return l;
}

static void assert_ordered(const struct sx_latency *l)
{
    for (unsigned u = 0; u < l->n_units; u++) {
        for (unsigned b = 0; b < l->n_batches; b++) {
            assert_true(l->ns[u][b] >= SX_LATENCY_MIN_NS && l->ns[u][b] <= SX_LATENCY_MAX_NS);
            assert_true(!u || l->ns[u][b] <= l->ns[u - 1][b]);
            assert_true(!b || l->ns[u][b] >= l->ns[u][b - 1]);
        }
    }
}

/* --- prepare ---------------------------------------------------------------------------------- */

static void prepared_tables_are_whole_and_ordered_and_stay_so(void **state)
{
    (void)state;
    struct sx_rng rng;
    unsigned cells = 0, changed = 0, rounds = 2000;
    sx_rng_init(&rng, 51);
    for (unsigned i = 0; i < rounds; i++) {
        struct sx_latency l = some_table(&rng), once, before = l;
        unsigned count = 0, said;
        assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
        said = sx_latency_prepare(&l);
        assert_ordered(&l);
        assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
        for (unsigned u = 0; u < l.n_units; u++)
            for (unsigned b = 0; b < l.n_batches; b++)
                count += !(before.ns[u][b] > 0) ||
                         fabs(l.ns[u][b] - before.ns[u][b]) > 0.01 * before.ns[u][b];
        assert_int_equal(said, count);
        once = l;
        assert_int_equal(sx_latency_prepare(&l), 0);
        assert_memory_equal(&l, &once, sizeof l);
        cells += l.n_units * l.n_batches;
        changed += count;
    }
    print_message("# %u tables, %u cells: whole and ordered after one pass that changed %u, "
                  "unchanged by a second\n",
                  rounds, cells, changed);
}

static void good_tables_are_left_alone(void **state)
{
    (void)state;
    struct sx_latency l = {
        .n_units = 4, .n_batches = 3, .units = {1, 2, 3, 7}, .batches = {1, 3, 9}};
    for (unsigned u = 0; u < 4; u++)
        for (unsigned b = 0; b < 3; b++)
            l.ns[u][b] = 1e6 * (1 + l.batches[b]) / (1 + l.units[u]) / 3;
    struct sx_latency before = l;
    assert_int_equal(sx_latency_prepare(&l), 0);
    assert_memory_equal(&l, &before, sizeof l);
}

/* One batch: the textbook's formula, x_i = min over j <= i of max over k >= i of the mean of j..k,
 * for a list that goes down. */
static void one_batch_is_pooled_as_the_formula_says(void **state)
{
    (void)state;
    struct sx_rng rng;
    double worst = 0;
    sx_rng_init(&rng, 52);
    for (int round = 0; round < 1000; round++) {
        struct sx_latency l = {.n_batches = 1, .batches = {1}};
        double x[SX_LATENCY_UNITS];
        some_grid(&rng, l.units, &l.n_units, SX_LATENCY_UNITS, 3);
        for (unsigned u = 0; u < l.n_units; u++) {
            x[u] = 15 - 0.05 * u + 0.3 * sx_rng_normal(&rng);
            l.ns[u][0] = exp(x[u]);
            double best = INFINITY;
            for (unsigned fewer = 0; fewer < u; fewer++)
                best = fmin(best, x[fewer]);
            if (x[u] > best + log(1.25)) /* far slower than on fewer units */
                x[u] = best;
        }
        sx_latency_prepare(&l);
        for (unsigned i = 0; i < l.n_units; i++) {
            double outer = INFINITY;
            for (unsigned j = 0; j <= i; j++) {
                double inner = -INFINITY;
                for (unsigned k = i; k < l.n_units; k++) {
                    double sum = 0;
                    for (unsigned m = j; m <= k; m++)
                        sum += x[m];
                    inner = fmax(inner, sum / (k - j + 1));
                }
                outer = fmin(outer, inner);
            }
            worst = fmax(worst, fabs(log(l.ns[i][0]) - outer));
        }
    }
    print_message("# one batch: off the formula by at most %.1e (of logarithms)\n", worst);
    assert_true(worst < 1e-8);
}

static void units_that_hinder_are_left_idle(void **state)
{
    (void)state;
    struct sx_latency l = {.n_units = 4,
                           .n_batches = 1,
                           .units = {1, 2, 4, 8},
                           .batches = {1},
                           .ns = {{1e6}, {0.8e6}, {2e6}, {3e6}}};
    assert_int_equal(sx_latency_prepare(&l), 2);
    assert_true(l.ns[0][0] == 1e6 && l.ns[1][0] == 0.8e6); /* NOLINT: untouched */
    assert_true(fabs(l.ns[2][0] - 0.8e6) < 1 && fabs(l.ns[3][0] - 0.8e6) < 1);
    l.ns[2][0] = 0.84e6; /* noise is shared */
    assert_int_equal(sx_latency_prepare(&l), 2);
    assert_true(l.ns[1][0] > 0.805e6 && l.ns[1][0] < 0.835e6);
}

/* Three by three: x = max over upper sets U of min over lower sets L, both with the cell in them,
 * of the mean over both.  The sets of a grid are stairs; there are 20. */
#define SIDE 3
static bool stairs(unsigned number, unsigned height[SIDE]) /* lower: height goes down */
{
    height[0] = number / 16;
    height[1] = number / 4 % 4;
    height[2] = number % 4;
    return number < 64 && height[0] >= height[1] && height[1] >= height[2];
}

static void two_dimensions_are_pooled_as_the_formula_says(void **state)
{
    (void)state;
    struct sx_rng rng;
    double worst = 0;
    unsigned moved = 0;
    sx_rng_init(&rng, 53);
    for (int round = 0; round < 500; round++) {
        struct sx_latency l = {
            .n_units = SIDE, .n_batches = SIDE, .units = {1, 2, 4}, .batches = {1, 2, 4}};
        double x[SIDE][SIDE]; /* goes up in both: the first index is units from the most down */
        for (unsigned i = 0; i < SIDE; i++) {
            for (unsigned j = 0; j < SIDE; j++) {
                x[i][j] = 14 + 0.2 * (i + j) + 0.5 * sx_rng_normal(&rng);
                l.ns[SIDE - 1 - i][j] = exp(x[i][j]);
            }
        }
        for (unsigned i = SIDE; i-- > 0;) {
            for (unsigned j = 0; j < SIDE; j++) {
                double best = INFINITY;
                for (unsigned fewer = SIDE - 1; fewer > i; fewer--)
                    best = fmin(best, x[fewer][j]);
                if (x[i][j] > best + log(1.25)) /* far slower than on fewer units */
                    x[i][j] = best;
            }
        }
        moved += sx_latency_prepare(&l) > 0;
        for (unsigned i = 0; i < SIDE; i++) {
            for (unsigned j = 0; j < SIDE; j++) {
                double outer = -INFINITY;
                for (unsigned up = 0; up < 64; up++) {
                    unsigned not_in[SIDE], in[SIDE];
                    double inner = INFINITY;
                    if (!stairs(up, not_in) || j < not_in[i]) /* U: what is not in these stairs */
                        continue;
                    for (unsigned low = 0; low < 64; low++) {
                        double sum = 0;
                        unsigned n = 0;
                        if (!stairs(low, in) || j >= in[i])
                            continue;
                        for (unsigned a = 0; a < SIDE; a++)
                            for (unsigned b = not_in[a]; b < in[a]; b++, n++)
                                sum += x[a][b];
                        inner = fmin(inner, sum / n);
                    }
                    outer = fmax(outer, inner);
                }
                worst = fmax(worst, fabs(log(l.ns[SIDE - 1 - i][j]) - outer));
            }
        }
    }
    print_message("# units and batches: off the formula by at most %.1e, %u of 500 had to move\n",
                  worst, moved);
    assert_true(worst < 1e-6);
    assert_true(moved > 300);
}

/* --- holes ------------------------------------------------------------------------------------ */

struct curve {
    double fixed, each, serial, knee, jag; /* per run, per sample, share that does not scale */
};

/* Looks like measurements do: a knee that grows with the batch, a gentle bend, waves. */
static double real_ns(const struct curve *c, unsigned units, unsigned batch)
{
    double knee = c->knee * sqrt(batch), work = c->fixed + c->each * batch;
    double speedup =
        1 / (c->serial + (1 - c->serial) / pow(1 / (pow(units, -4.0) + pow(knee, -4.0)), 0.25));
    double waves = ceil(8.0 * batch / units) * units / (8.0 * batch);
    return work / speedup * (1 + c->jag * (waves - 1));
}

static void holes_are_filled_near_the_truth(void **state)
{
    (void)state;
    static const unsigned units[] = {1, 2, 4, 8, 12, 16, 24, 32}, batches[] = {1, 2, 4, 8, 16};
    struct sx_rng rng;
    double sum[3] = {0}, naive_sum = 0, worst = 0;
    unsigned n[3] = {0}, within = 0, all = 0;
    sx_rng_init(&rng, 54);
    for (int round = 0; round < 600; round++) {
        struct curve c = {1e6 * sx_rng_double(&rng), 1e6 * (0.5 + sx_rng_double(&rng)),
                          0.3 * sx_rng_double(&rng), 3 + 20 * sx_rng_double(&rng),
                          0.1 * sx_rng_double(&rng)};
        struct sx_latency l = {.n_units = 8, .n_batches = 5}, before;
        memcpy(l.units, units, sizeof units);
        memcpy(l.batches, batches, sizeof batches);
        for (unsigned u = 0; u < 8; u++)
            for (unsigned b = 0; b < 5; b++)
                l.ns[u][b] = sx_rng_below(&rng, 10) < 3 ? 0
                                                        : real_ns(&c, units[u], batches[b]) *
                                                              (1 + 0.02 * sx_rng_normal(&rng));
        if (round % 3 == 1) /* but one batch hardly measured */
            for (unsigned u = 1; u < 8; u++)
                l.ns[u][2] = 0;
        if (round % 3 == 2) /* not at all */
            for (unsigned u = 0; u < 8; u++)
                l.ns[u][2] = 0;
        l.ns[0][0] = real_ns(&c, 1, 1);
        before = l;
        sx_latency_prepare(&l);
        for (unsigned u = 0; u < 8; u++) {
            for (unsigned b = 0; b < 5; b++) {
                double truth = real_ns(&c, units[u], batches[b]);
                if (before.ns[u][b] > 0)
                    continue;
                double off = fabs(l.ns[u][b] / truth - 1);
                sum[round % 3] += off;
                n[round % 3]++;
                all++;
                within += off < 0.25;
                worst = fmax(worst, off);
                naive_sum += fabs(real_ns(&c, 1, 1) * batches[b] / units[u] / truth - 1);
            }
        }
    }
    double mean = (sum[0] + sum[1] + sum[2]) / all;
    print_message(
        "# %u holes: off by %.1f %% (30 %% missing), %.1f %% (a batch nearly missing), %.1f "
        "%% (one missing); %.1f %% within 25 %%, worst %.0f %%; in proportion to one cell "
        "%.0f %%\n",
        all, 100 * sum[0] / n[0], 100 * sum[1] / n[1], 100 * sum[2] / n[2], 100.0 * within / all,
        100 * worst, 100 * naive_sum / all);
    assert_true(mean < 0.06);
    assert_true(within > 0.95 * all);
    assert_true(mean < naive_sum / all / 4);
}

static void lone_cells_promise_no_gain(void **state)
{
    (void)state;
    struct sx_latency l = {.n_units = 3, .n_batches = 3, .units = {1, 2, 4}, .batches = {1, 2, 8}};
    l.ns[1][1] = 4e6;
    assert_int_equal(sx_latency_prepare(&l), 8);
    assert_true(fabs(l.ns[0][1] - 8e6) < 1 && fabs(l.ns[2][1] - 4e6) < 1);
    assert_true(fabs(l.ns[1][2] - 16e6) < 1); /* larger: in proportion; smaller: half is fixed */
    assert_true(fabs(l.ns[1][0] - 3e6) < 1);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What latency.h says, word by word. */
static double slow_at_batch(const struct sx_latency *l, unsigned u, unsigned batch)
{
    unsigned last = l->n_batches - 1;

    if (batch <= l->batches[0])
        return l->ns[u][0];
    if (batch >= l->batches[last])
        return l->ns[u][last] * batch / l->batches[last];
    for (unsigned b = 0; b < last; b++) {
        double from = l->batches[b], to = l->batches[b + 1];
        if (batch >= from && batch <= to)
            return l->ns[u][b] + (l->ns[u][b + 1] - l->ns[u][b]) * (batch - from) / (to - from);
    }
    return NAN;
}

static double slow_ns(const struct sx_latency *l, unsigned units, unsigned batch)
{
    unsigned last = l->n_units - 1;

    if (units < l->units[0])
        return slow_at_batch(l, 0, batch) * l->units[0] / units;
    if (units >= l->units[last])
        return slow_at_batch(l, last, batch);
    for (unsigned u = 0; u < last; u++) {
        double x = 1.0 / units, from = 1.0 / l->units[u], to = 1.0 / l->units[u + 1];
        if (units >= l->units[u] && units <= l->units[u + 1])
            return slow_at_batch(l, u, batch) +
                   (slow_at_batch(l, u + 1, batch) - slow_at_batch(l, u, batch)) * (x - from) /
                       (to - from);
    }
    return NAN;
}

static void reads_as_the_header_says(void **state)
{
    (void)state;
    struct sx_rng rng;
    double worst = 0;
    unsigned looked = 0;
    sx_rng_init(&rng, 55);
    for (int round = 0; round < 500; round++) {
        struct sx_latency l = some_table(&rng);
        sx_latency_prepare(&l);
        unsigned most = l.units[l.n_units - 1] + 3, largest = l.batches[l.n_batches - 1] + 3;
        for (unsigned units = 1; units <= most; units++) {
            for (unsigned batch = 1; batch <= largest; batch++, looked++) {
                double ns = sx_latency_ns(&l, units, batch);
                worst = fmax(worst, fabs(ns / slow_ns(&l, units, batch) - 1));
                assert_true(units == 1 || ns <= sx_latency_ns(&l, units - 1, batch)); /* exactly */
                assert_true(batch == 1 || ns >= sx_latency_ns(&l, units, batch - 1) * (1 - 1e-14));
            }
        }
        for (unsigned u = 0; u < l.n_units; u++)
            for (unsigned b = 0; b < l.n_batches; b++)
                assert_true(sx_latency_ns(&l, l.units[u], l.batches[b]) == l.ns[u][b]);
    }
    print_message("# %u readings, off the slow way by at most %.1e, never up with units\n", looked,
                  worst);
    assert_true(worst < 1e-12);
    struct sx_latency l = {.n_units = 1, .n_batches = 1, .units = {2}, .batches = {4}, .ns = {{8}}};
    assert_true(sx_latency_ns(&l, 0, 0) == 16 && sx_latency_ns(&l, 1, 1) == 16);
    assert_true(sx_latency_ns(&l, UINT32_MAX, 8) == 16);
}

static void reading_is_fast(void **state)
{
    (void)state;
    struct sx_latency l = {.n_units = 10, .n_batches = 8};
    double sum = 0;
    uint64_t best = UINT64_MAX;
    for (unsigned u = 0; u < 10; u++) {
        l.units[u] = 6 * (u + 1);
        for (unsigned b = 0; b < 8; b++) {
            l.batches[b] = 1u << b;
            l.ns[u][b] = 1e6 * (1 + l.batches[b]) / (1 + l.units[u]);
        }
    }
    for (int round = 0; round < 20; round++) {
        uint64_t begin = sx_now();
        for (unsigned units = 1; units <= 64; units++)
            for (unsigned batch = 1; batch <= 128; batch++)
                sum += sx_latency_ns(&l, units, batch);
        uint64_t took = sx_now() - begin;
        best = took < best ? took : best;
    }
    print_message("# one reading takes %.1f ns (sum %.3g)\n", (double)best / (64 * 128), sum);
    assert_true(sum > 0);
}

/* --- where tables come from ------------------------------------------------------------------- */

static void refuses_what_is_no_table(void **state)
{
    (void)state;
    const struct sx_latency good = {.n_units = 2,
                                    .n_batches = 2,
                                    .units = {1, 2},
                                    .batches = {1, 4},
                                    .ns = {{10e6, 40e6}, {5e6, 0}}};
    const double bad[] = {-1, (double)NAN, (double)INFINITY, -(double)INFINITY, 1e300, 1e-300};
    struct sx_latency l = good;
    struct sx_err err = {0};
    assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        l = good;
        l.ns[1][1] = bad[i];
        assert_int_equal(sx_latency_check(&l, &err), SX_INVALID);
        assert_non_null(strstr(err.message, "batch 4 on 2 units"));
        /* whoever forgets to check gets a table all the same: what is no time is a hole */
        assert_int_equal(sx_latency_prepare(&l), 1);
        assert_ordered(&l);
    }
#define REFUSED(change, word)                                                                      \
    do {                                                                                           \
        l = good;                                                                                  \
        change;                                                                                    \
        memset(&err, 0, sizeof err);                                                               \
        assert_int_equal(sx_latency_check(&l, &err), SX_INVALID);                                  \
        assert_non_null(strstr(err.message, word));                                                \
    } while (0)
    REFUSED(l.n_units = 0, "units");
    REFUSED(l.n_units = SX_LATENCY_UNITS + 1, "units");
    REFUSED(l.n_batches = 0, "batches");
    REFUSED(l.n_batches = SX_LATENCY_BATCHES + 1, "batches");
    REFUSED(l.units[0] = 0, "units[0]");
    REFUSED(l.units[1] = 1, "1 follows 1");
    REFUSED(l.batches[0] = 9, "4 follows 9");
    REFUSED(l.batches[1] = UINT32_MAX, "batches[1]");
    REFUSED(memset(l.ns, 0, sizeof l.ns), "without");
    memset(&l.ns, 0, sizeof l.ns);
    assert_int_equal(sx_latency_prepare(&l), 0); /* nothing to go by */
}

static void comes_from_costs_learnt_in_service(void **state)
{
    (void)state;
    struct sx_cost cost;
    struct sx_latency l;
    sx_cost_init(&cost, 4, 8, NULL, 0);
    assert_false(sx_latency_from_cost(&cost, &l));
    sx_cost_record(&cost, 1, 1, 8000000);
    sx_cost_record(&cost, 8, 4, 20000000);
    assert_true(sx_latency_from_cost(&cost, &l));
    assert_int_equal(sx_latency_check(&l, NULL), SX_OK);
    assert_int_equal(l.n_units, 3);
    assert_int_equal(l.n_batches, 4);
    assert_true(fabs(l.ns[0][0] - 8e6) < 1 && fabs(l.ns[2][3] - 20e6) < 1);
    assert_true(l.ns[1][1] == 0);
    assert_true(sx_latency_prepare(&l) >= 10);
    assert_ordered(&l);
    assert_true(fabs(sx_latency_ns(&l, 4, 8) - 20e6) < 1);
}

static void comes_from_a_profile(void **state)
{
    (void)state;
    struct sx_profile p = {.key = {.n_nodes = 1}};
    struct sx_latency l = {0};
    struct sx_err err = {0};
    double one = 1, none = 0;
    const struct {
        const char *kind;
        unsigned units, batch;
        double ns;
    } rows[] = {{"cpu", 2, 8, 50e6},
                {"cpu", 1, 1, 10e6},
                {"gpu", 7, 3, 1e6},
                {"cpu", 2, 1, 6e6},
                {"cpu", 4, 8, 0}};
    assert_int_equal(sx_latency_from_profile(&p, "cpu", &l, &err), SX_NOT_FOUND);
    assert_non_null(strstr(err.message, "cpu"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sx_profile_table t = {.units = rows[i].units,
                                     .batch = rows[i].batch,
                                     .runs = 5,
                                     .whole_ns = rows[i].ns,
                                     .node_ns = &one,
                                     .node_spread_ns = &none};
        snprintf(t.kind, sizeof t.kind, "%s", rows[i].kind);
        assert_int_equal(sx_profile_put(&p, &t, NULL), SX_OK);
    }
    assert_int_equal(sx_latency_from_profile(&p, "cpu", &l, &err), SX_OK);
    assert_int_equal(l.n_units, 3);
    assert_int_equal(l.n_batches, 2);
    assert_true(l.ns[0][0] == 10e6 && l.ns[1][0] == 6e6 && l.ns[1][1] == 50e6);
    assert_true(l.ns[0][1] == 0 && l.ns[2][1] == 0);
    for (unsigned i = 0; i <= SX_LATENCY_UNITS; i++) {
        struct sx_profile_table t = {.kind = "npu",
                                     .units = i + 1,
                                     .batch = 1,
                                     .runs = 5,
                                     .whole_ns = 1e6,
                                     .node_ns = &one,
                                     .node_spread_ns = &none};
        assert_int_equal(sx_profile_put(&p, &t, NULL), SX_OK);
    }
    assert_int_equal(sx_latency_from_profile(&p, "npu", &l, &err), SX_TOO_LARGE);
    assert_int_equal(l.n_units, 3); /* left as it was */
    sx_profile_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_tables_are_whole_and_ordered_and_stay_so),
        cmocka_unit_test(good_tables_are_left_alone),
        cmocka_unit_test(one_batch_is_pooled_as_the_formula_says),
        cmocka_unit_test(units_that_hinder_are_left_idle),
        cmocka_unit_test(two_dimensions_are_pooled_as_the_formula_says),
        cmocka_unit_test(holes_are_filled_near_the_truth),
        cmocka_unit_test(lone_cells_promise_no_gain),
        cmocka_unit_test(reads_as_the_header_says),
        cmocka_unit_test(reading_is_fast),
        cmocka_unit_test(refuses_what_is_no_table),
        cmocka_unit_test(comes_from_costs_learnt_in_service),
        cmocka_unit_test(comes_from_a_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
