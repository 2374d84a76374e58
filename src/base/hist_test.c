/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * hist_test.c - histograms against sorted arrays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/hist.h"
#include "base/rng.h"

enum { N = 5000 };

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Fill `v`: several orders of magnitude, by a different law for each seed. */
static void draw(uint64_t *v, uint64_t seed)
{
    struct sx_rng rng;
    sx_rng_init(&rng, seed);
    for (int i = 0; i < N; i++) {
        if (seed % 3 == 0)
            v[i] = (uint64_t)sx_rng_exponential(&rng, 1e6);
        else if (seed % 3 == 1)
            v[i] = sx_rng_u64(&rng) >> (24 + sx_rng_below(&rng, 40));
        else
            v[i] = sx_rng_below(&rng, 200);
    }
}

static void assert_near(double got, double want, double relative)
{
    if (fabs(got - want) > relative * fabs(want) + 1e-9)
        fail_msg("%g is not within %g of %g", got, relative, want);
}

static void check(const struct sx_hist *h, uint64_t *v, size_t n)
{
    double sum = 0, sum_sq = 0;
    qsort(v, n, sizeof *v, compare);
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i];
    for (size_t i = 0; i < n; i++)
        sum_sq += ((double)v[i] - sum / (double)n) * ((double)v[i] - sum / (double)n);
    assert_int_equal(h->count, n);
    assert_int_equal(h->min_ns, v[0]);
    assert_int_equal(h->max_ns, v[n - 1]);
    assert_near(sx_hist_mean(h), sum / (double)n, 1e-9);
    assert_near(sx_hist_stddev(h), sqrt(sum_sq / (double)(n - 1)), 1e-6);

    for (size_t k = 1; k <= n; k++) { // every rank
        uint64_t got = sx_hist_quantile(h, (double)k / (double)n), want = v[k - 1];
        assert_true(got >= want);
        assert_true(got - want <= want / 64);
    }
    assert_int_equal(sx_hist_quantile(h, 0), v[0]);
    assert_int_equal(sx_hist_quantile(h, 1), v[n - 1]);
    assert_int_equal(sx_hist_quantile(h, -1), v[0]);
    assert_int_equal(sx_hist_quantile(h, 2), v[n - 1]);

    uint64_t last = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t got = sx_hist_count_le(h, v[i]);
        uint64_t low = 0, high = 0;
        for (size_t k = 0; k < n && v[k] <= v[i] + v[i] / 64; k++) {
            low += v[k] <= v[i];
            high++;
        }
        assert_in_range(got, low, high);
        assert_true(got >= last);
        last = got;
        i += n / 100;
    }
}

static void test_against_sorted(void **state)
{
    (void)state;
    static uint64_t v[N];
    static struct sx_hist h;
    for (uint64_t seed = 0; seed < 9; seed++) {
        draw(v, seed);
        sx_hist_init(&h);
        for (int i = 0; i < N; i++)
            sx_hist_add(&h, v[i]);
        check(&h, v, N);
    }
}

static void test_merge(void **state)
{
    (void)state;
    static uint64_t v[2 * N];
    static struct sx_hist a, b, empty;
    draw(v, 10);
    draw(v + N, 12);
    sx_hist_init(&a);
    sx_hist_init(&b);
    sx_hist_init(&empty);
    for (int i = 0; i < N; i++) {
        sx_hist_add(&a, v[i]);
        sx_hist_add(&b, v[N + i]);
    }
    sx_hist_merge(&a, &b);
    sx_hist_merge(&a, &empty);
    sx_hist_merge(&empty, &a);
    check(&a, v, 2 * N);
    check(&empty, v, 2 * N);
}

static void test_edges(void **state)
{
    (void)state;
    static struct sx_hist h;
    sx_hist_init(&h);
    assert_int_equal(sx_hist_quantile(&h, 0.5), 0);
    assert_int_equal(sx_hist_count_le(&h, UINT64_MAX), 0);
    assert_true(sx_hist_mean(&h) == 0);
    assert_true(sx_hist_stddev(&h) == 0);

    sx_hist_add(&h, UINT64_MAX); // counts as 2^40
    assert_int_equal(h.max_ns, UINT64_C(1) << 40);
    assert_int_equal(sx_hist_quantile(&h, 0.5), UINT64_C(1) << 40);
    assert_int_equal(sx_hist_count_le(&h, UINT64_MAX), 1);
    sx_hist_add(&h, 0);
    assert_int_equal(sx_hist_quantile(&h, 0), 0);
    assert_int_equal(sx_hist_count_le(&h, 0), 1);

    /* Both sides of every bucket border. */
    for (int e = 0; e < 40; e++) {
        for (uint64_t sub = 64; sub < 128; sub++) {
            uint64_t border = e >= 6 ? sub << (e - 6) : sub;
            for (uint64_t ns = border - 1; ns <= border + 1; ns++) {
                sx_hist_init(&h);
                sx_hist_add(&h, 0);
                sx_hist_add(&h, ns);
                sx_hist_add(&h, UINT64_C(1) << 40);
                uint64_t got = sx_hist_quantile(&h, 0.5);
                assert_in_range(got, ns, ns + ns / 64);
            }
        }
    }
}

/* A share of exactly k/n is rank k, though k/n * n may round up. */
static void test_rank_rounding(void **state)
{
    (void)state;
    static struct sx_hist h;
    sx_hist_init(&h);
    for (uint64_t i = 1; i <= 60; i++)
        sx_hist_add(&h, i);
    for (uint64_t k = 1; k <= 60; k++)
        assert_int_equal(sx_hist_quantile(&h, (double)k / 60), k);
    assert_int_equal(sx_hist_quantile(&h, 0.05), 3);
    assert_int_equal(sx_hist_quantile(&h, 0.051), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_sorted),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_rank_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
