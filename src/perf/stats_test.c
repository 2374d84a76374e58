/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "perf/stats.h"
#include "perf/target.h"

static int by_value(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static void percentiles_match_sorted_values(void **state)
{
    (void)state;
    enum { N = 20000 };
    static uint64_t value[N];
    static struct sx_stats s;
    struct sx_rng rng;
    sx_rng_init(&rng, 5);
    sx_stats_init(&s);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        value[i] = (uint64_t)sx_rng_exponential(&rng, 3e6);
        sum += (double)value[i];
        sx_stats_add(&s, SX_OUTCOME_OK, 1000, 1500, 1000 + value[i], 4000000);
    }
    qsort(value, N, sizeof(*value), by_value);
    const double shares[] = {0.5, 0.9, 0.95, 0.99, 0.999};
    for (int i = 0; i < 5; i++) {
        double want = (double)value[(int)ceil(shares[i] * N) - 1];
        assert_true(fabs((double)sx_hist_quantile(&s.latency, shares[i]) - want) <= want / 64 + 1);
    }
    assert_true(fabs(sx_hist_mean(&s.latency) * N - sum) < 1e-6 * sum);
    uint64_t within = 0;
    for (int i = 0; i < N; i++)
        within += value[i] <= 4000000;
    assert_int_equal(s.within, within);
    assert_int_equal(s.late, 0);
}

static void failures_have_no_latency(void **state)
{
    (void)state;
    static struct sx_stats s, t;
    sx_stats_init(&s);
    sx_stats_init(&t);
    sx_stats_add(&s, SX_OUTCOME_REJECTED, 0, 0, 5, 0);
    sx_stats_add(&s, SX_OUTCOME_UNSENT, 0, 0, 0, 0);
    sx_stats_add(&s, SX_OUTCOME_OK, 0, 2 * SX_MS, 3 * SX_MS, 0); // due at 0, sent late
    s.ns = SX_S;
    assert_int_equal(s.latency.count, 1);
    assert_int_equal(s.latency.max_ns, 3 * SX_MS);
    assert_int_equal(s.late, 1);
    assert_int_equal(s.lag.count, 2);
    assert_int_equal(sx_stats_failed(&s), 2);
    assert_int_equal(sx_stats_lost(&s), 1); // a rejection was an answer
    sx_stats_merge(&t, &s);
    sx_stats_merge(&t, &s);
    assert_int_equal(sx_stats_total(&t), 6);
    assert_true(fabs(sx_stats_rate(&t) - 1) < 1e-9);
}

static void stable_is_near_the_mean(void **state)
{
    (void)state;
    assert_true(sx_stable((double[]){100, 95, 105}, 3, 10));
    assert_false(sx_stable((double[]){100, 80, 120}, 3, 10));
    assert_false(sx_stable((double[]){0, 0, 0}, 3, 10)); // nothing is not steady
}

static void *post_many(void *arg)
{
    for (uint32_t i = 0; i < 1000; i++)
        sx_mailbox_post(arg, &(struct sx_completion){.slot = i});
    return NULL;
}

static void mailbox_keeps_order_and_wakes(void **state)
{
    (void)state;
    struct sx_mailbox m;
    struct sx_completion c[64];
    pthread_t thread;
    assert_int_equal(sx_mailbox_init(&m, 1000), SX_OK);
    assert_int_equal(sx_mailbox_wait(&m, 0, c, 64), 0);
    assert_int_equal(sx_mailbox_wait(&m, sx_now() + SX_MS, c, 64), 0);
    assert_int_equal(pthread_create(&thread, NULL, post_many, &m), 0);
    for (uint32_t next = 0; next < 1000;) {
        size_t n = sx_mailbox_wait(&m, SX_NEVER, c, 64);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(c[i].slot, next++);
    }
    pthread_join(thread, NULL);
    sx_mailbox_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_match_sorted_values),
        cmocka_unit_test(failures_have_no_latency),
        cmocka_unit_test(stable_is_near_the_mean),
        cmocka_unit_test(mailbox_keeps_order_and_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
