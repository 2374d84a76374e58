/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * run_test.c - the runner, the searches and the scenarios against a queue in virtual time.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "perf/measure.h"
#include "perf/queue_target.h"

struct bench {
    struct sx_clock_virtual clock;
    struct sx_target *target;
    struct sx_run_opts opts;
    struct sx_run_result r;
};

static void set_up_queue(struct bench *b, const struct sx_queue_config *config)
{
    memset(b, 0, sizeof(*b));
    sx_clock_virtual_init(&b->clock, 5 * SX_S);
    assert_int_equal(sx_queue_target_create(config, &b->clock, &b->target), SX_OK);
    b->opts = (struct sx_run_opts){.clock = &b->clock.base,
                                   .warmup_ns = SX_S,
                                   .duration_ns = 20 * SX_S,
                                   .max_windows = 10,
                                   .stability = 10,
                                   .drain_ns = 30 * SX_S};
}

static void set_up(struct bench *b, uint32_t servers, uint64_t service_ns, uint32_t room)
{
    set_up_queue(b, &(struct sx_queue_config){servers, 512, service_ns, room});
}

static void tear_down(struct bench *b)
{
    sx_run_result_fini(&b->r);
    b->target->ops->destroy(b->target);
}

static void near(double value, double want, double share)
{
    if (fabs(value - want) > want * share)
        fail_msg("%g is not near %g", value, want);
}

static void closed_loop_fills_the_servers(void **state)
{
    (void)state;
    struct bench b;
    struct sx_load load = {.concurrency = 8};
    set_up(&b, 4, 10 * SX_MS, 0);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    near(b.r.throughput, 400, 0.01);
    near((double)sx_hist_quantile(&b.r.stats.latency, 0.5), 20e6, 0.02);
    assert_int_equal(sx_stats_failed(&b.r.stats), 0);
    near(b.r.seconds, 20, 1e-9);
    assert_true(b.r.n_moments > 50);
    near((double)b.r.moments[10].rate, 400, 0.05);
    tear_down(&b);
}

static void windows_end_when_three_agree(void **state)
{
    (void)state;
    struct bench b;
    struct sx_load load = {.concurrency = 1};
    set_up(&b, 1, 10 * SX_MS, 0);
    b.opts.duration_ns = 0;
    b.opts.window_ns = SX_S;
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(b.r.windows, 3);
    assert_true(b.r.stable);
    near(b.r.throughput, 100, 0.02);
    near(b.r.seconds, 3, 0.01);
    tear_down(&b);
}

static void count_windows_hold_so_many(void **state)
{
    (void)state;
    struct bench b;
    struct sx_load load = {.concurrency = 2};
    set_up(&b, 1, SX_MS, 0);
    b.opts.duration_ns = 0;
    b.opts.window_requests = 50;
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(b.r.windows, 3);
    assert_int_equal(sx_stats_total(&b.r.stats), 150);
    tear_down(&b);
}

static void a_count_of_requests_is_exact(void **state)
{
    (void)state;
    struct bench b;
    struct sx_load load = {.concurrency = 7};
    set_up(&b, 3, SX_MS, 0);
    b.opts.duration_ns = 0;
    b.opts.warmup_ns = 0;
    b.opts.requests = 1000;
    b.opts.keep_latencies = true;
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(sx_stats_total(&b.r.stats), 1000);
    assert_int_equal(b.r.n_latencies, 1000);
    for (size_t i = 1; i < b.r.n_latencies; i++)
        assert_true(b.r.latencies[i - 1] <= b.r.latencies[i]);
    near(b.r.throughput, 3000, 0.01);
    tear_down(&b);
}

/* M/D/1: mean wait = rho * service / (2 * (1 - rho)). */
static void open_loop_queues_as_theory_says(void **state)
{
    (void)state;
    struct bench b;
    struct sx_arrival a;
    struct sx_load load = {.arrivals = &a};
    set_up(&b, 1, 10 * SX_MS, 0);
    b.opts.duration_ns = 2000 * SX_S;
    sx_arrival_poisson(&a, 70, 3);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    near(sx_hist_mean(&b.r.stats.latency), 10e6 + 0.7 * 10e6 / (2 * 0.3), 0.05);
    near(b.r.throughput, 70, 0.02);
    assert_int_equal(b.r.stats.late, 0);
    tear_down(&b);
}

static void overload_is_lost_or_rejected_never_hidden(void **state)
{
    (void)state;
    struct bench b;
    struct sx_arrival a;
    struct sx_load load = {.arrivals = &a};
    set_up(&b, 1, 10 * SX_MS, 20); // 100/s, room for 20
    b.opts.objective_ns = 250 * SX_MS;
    sx_arrival_constant(&a, 300);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(sx_stats_total(&b.r.stats), 6000);
    near((double)b.r.stats.outcome[SX_OUTCOME_REJECTED], 4000, 0.02);
    near(b.r.throughput, 100, 0.02);
    assert_int_equal(sx_stats_lost(&b.r.stats), 0);
    assert_int_equal(b.r.stats.within, b.r.stats.outcome[SX_OUTCOME_OK]);
    sx_run_result_fini(&b.r);
    b.target->ops->destroy(b.target);

    set_up(&b, 1, 10 * SX_MS, 0); // without a bound the slots run out
    sx_arrival_constant(&a, 300);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(sx_stats_total(&b.r.stats), 6000);
    assert_true(b.r.stats.outcome[SX_OUTCOME_UNSENT] > 3000);
    assert_true(b.r.stats.late > 1000);
    near(b.r.throughput, 100, 0.02);
    tear_down(&b);
}

static void a_trace_ends_by_itself(void **state)
{
    (void)state;
    struct bench b;
    struct sx_arrival a;
    struct sx_load load = {.arrivals = &a};
    set_up(&b, 1, 10 * SX_MS, 0);
    b.opts.duration_ns = 0;
    b.opts.requests = 3;
    b.opts.warmup_ns = 0;
    sx_arrival_parse(&a, "t", "0.1\n0.1\n5\n", SX_TRACE_TIMES, SX_S, false, 1, NULL);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(b.r.stats.outcome[SX_OUTCOME_OK], 3);
    assert_int_equal(b.r.stats.latency.min_ns, 10 * SX_MS);
    assert_int_equal(b.r.stats.latency.max_ns, 20 * SX_MS);
    sx_arrival_fini(&a);
    tear_down(&b);
}

static void a_group_takes_as_long_as_its_slowest(void **state)
{
    (void)state;
    struct bench b;
    struct sx_load load = {.concurrency = 1, .group = 8};
    set_up(&b, 3, 10 * SX_MS, 0);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(b.r.stats.latency.min_ns, 30 * SX_MS);
    assert_int_equal(b.r.stats.latency.max_ns, 30 * SX_MS);
    assert_int_equal(b.r.per_query, 8);
    tear_down(&b);
}

static void a_stop_reports_what_there_is(void **state)
{
    (void)state;
    struct bench b;
    volatile sig_atomic_t stop = 1;
    struct sx_load load = {.concurrency = 1};
    set_up(&b, 1, 10 * SX_MS, 0);
    b.opts.stop = &stop;
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_true(b.r.interrupted);
    assert_int_equal(sx_stats_total(&b.r.stats), 0);
    tear_down(&b);
}

static struct sx_measure measure_of(struct bench *b, struct sx_report *r, double objective_ms)
{
    sx_report_init(r);
    r->objective_ms = objective_ms;
    b->opts.objective_ns = (uint64_t)(objective_ms * 1e6);
    struct sx_series *s = sx_report_series(r, "queue");
    assert_non_null(s);
    return (struct sx_measure){.target = b->target,
                               .report = r,
                               .series = s,
                               .run = b->opts,
                               .load = {SX_ARRIVAL_POISSON, 1, 11}};
}

/* --- targets that break ------------------------------------------------------------------------
 */

static void windows_count_who_is_never_answered(void **state)
{
    (void)state;
    struct bench b;
    struct sx_arrival a;
    struct sx_load load = {.arrivals = &a};
    set_up_queue(&b, &(struct sx_queue_config){4, 512, 10 * SX_MS, 0, .deaf_each = 2});
    b.opts.duration_ns = b.opts.warmup_ns = 0;
    b.opts.window_ns = 5 * SX_S;
    sx_arrival_constant(&a, 20);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_true(b.r.stable);
    assert_int_equal(b.r.windows, 3); // 200 were due before the last of them, half are open
    near((double)b.r.stats.outcome[SX_OUTCOME_TIMEOUT], 100, 0.05);
    near((double)b.r.stats.outcome[SX_OUTCOME_OK], 150, 0.05);
    tear_down(&b);

    struct sx_load closed = {.concurrency = 8}; // who only waits like all others is not lost
    set_up(&b, 1, 2 * SX_S, 0);
    b.opts.duration_ns = b.opts.warmup_ns = 0;
    b.opts.window_requests = 1;
    assert_int_equal(sx_run(b.target, &closed, &b.opts, &b.r, NULL), SX_OK);
    assert_int_equal(sx_stats_failed(&b.r.stats), 0);
    tear_down(&b);
}

static void windows_count_what_found_no_slot(void **state)
{
    (void)state;
    struct bench b;
    struct sx_arrival a;
    struct sx_load load = {.arrivals = &a};
    set_up(&b, 1, 10 * SX_MS, 0); // 100/s
    b.opts.duration_ns = b.opts.warmup_ns = 0;
    b.opts.window_ns = 5 * SX_S;
    sx_arrival_constant(&a, 300);
    assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
    assert_true(b.r.stats.outcome[SX_OUTCOME_UNSENT] > 2000);
    tear_down(&b);
}

static void a_run_ends_when_the_server_has_gone(void **state)
{
    (void)state;
    const struct sx_queue_config config = {1, 64, 10 * SX_MS, 0, .gone_at = 10 * SX_S};
    for (int windows = 0; windows < 2; windows++) {
        struct bench b;
        struct sx_load load = {.concurrency = 4};
        struct sx_report r;
        struct sx_err err = {0};
        bool met = true;
        set_up_queue(&b, &config); // the clock begins at 5 s
        b.opts.duration_ns = windows ? 0 : 600 * SX_S;
        b.opts.window_ns = 100 * SX_S;
        assert_int_equal(sx_run(b.target, &load, &b.opts, &b.r, NULL), SX_OK);
        assert_true(b.r.unreachable);
        near((double)b.r.stats.outcome[SX_OUTCOME_OK], 400, 0.02); // 4 s of 100/s
        assert_true(b.r.stats.outcome[SX_OUTCOME_CONNECT] > 1000);
        near(b.r.seconds, 9, 0.01); // 4 s answered, 5 s refused
        tear_down(&b);

        set_up_queue(&b, &config);
        b.opts.duration_ns = windows ? 0 : 600 * SX_S;
        b.opts.window_ns = 100 * SX_S;
        struct sx_measure m = measure_of(&b, &r, 40);
        assert_int_equal(sx_measure_closed(&m, 4, &met, &err), SX_UNAVAILABLE);
        assert_int_equal(m.series->n_points, 1); // what it did until then is kept
        assert_false(m.series->points[0].met);
        sx_report_fini(&r);
        tear_down(&b);
    }
}

/* --- searches -----------------------------------------------------------------------------------
 */

/* The p99 of an M/D/c queue, measured once over a long time, brackets what the search finds. */
static void threshold_is_where_the_queue_says(void **state)
{
    (void)state;
    static const uint32_t servers[] = {1, 2, 8};
    for (int i = 0; i < 3; i++) {
        struct bench b;
        struct sx_report r;
        struct sx_err err = {0};
        set_up(&b, servers[i], 10 * SX_MS, 0);
        b.opts.duration_ns = 200 * SX_S;
        struct sx_measure m = measure_of(&b, &r, 40);
        assert_int_equal(sx_measure_threshold(&m, "congestion threshold", 0.02, &err), SX_OK);
        double found = m.series->found.value;
        assert_true(m.series->found.done && !m.series->found.none);
        assert_true(m.series->found.above > found && m.series->found.above <= found * 1.021);
        assert_true(found < 100.0 * servers[i]);
        bool met;
        m.run.duration_ns = 5000 * SX_S;
        assert_int_equal(sx_measure_rate(&m, found * 0.95, &met, &err), SX_OK);
        assert_true(met);
        assert_int_equal(sx_measure_rate(&m, found * 1.05, &met, &err), SX_OK);
        assert_false(met);
        sx_report_fini(&r);
        tear_down(&b);
    }
}

static void scenarios_give_their_metric(void **state)
{
    (void)state;
    struct bench b;
    struct sx_report r;
    struct sx_err err = {0};
    set_up(&b, 4, 10 * SX_MS, 0);
    struct sx_measure m = measure_of(&b, &r, 40);
    m.run.duration_ns = 600 * SX_S;
    assert_int_equal(sx_measure_scenario(&m, SX_SCENARIO_SINGLE_STREAM, 0.02, &err), SX_OK);
    near(m.series->verdict.value, 10, 1e-9);
    assert_true(m.series->verdict.valid);
    assert_int_equal(sx_measure_scenario(&m, SX_SCENARIO_MULTI_STREAM, 0.02, &err), SX_OK);
    near(m.series->verdict.value, 20, 1e-9);
    assert_int_equal(sx_measure_scenario(&m, SX_SCENARIO_OFFLINE, 0.02, &err), SX_OK);
    near(m.series->verdict.value, 400, 0.01);
    assert_true(m.series->verdict.valid);
    m.run.duration_ns = 60 * SX_S;
    assert_int_equal(sx_measure_scenario(&m, SX_SCENARIO_SERVER, 0.02, &err), SX_OK);
    assert_true(m.series->verdict.value > 200 && m.series->verdict.value < 400);
    assert_false(m.series->verdict.valid);
    assert_non_null(strstr(m.series->verdict.reasons, "the full rules want 600 s"));
    sx_report_fini(&r);
    tear_down(&b);
}

/* 600 s of a slow model are fewer queries than the rules want. */
static void scenarios_go_on_until_there_are_enough(void **state)
{
    (void)state;
    struct bench b;
    struct sx_report r;
    struct sx_err err = {0};
    set_up(&b, 1, 2 * SX_S, 0);
    struct sx_measure m = measure_of(&b, &r, 60000);
    m.run.duration_ns = 600 * SX_S;
    m.run.drain_ns = 300 * SX_S;
    static const enum sx_scenario_kind kinds[] = {SX_SCENARIO_SINGLE_STREAM,
                                                  SX_SCENARIO_MULTI_STREAM, SX_SCENARIO_SERVER,
                                                  SX_SCENARIO_OFFLINE};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(sx_measure_scenario(&m, kinds[i], 0.2, &err), SX_OK);
        if (!m.series->verdict.valid)
            fail_msg("%s: %s", m.series->verdict.scenario, m.series->verdict.reasons);
        if (kinds[i] != SX_SCENARIO_OFFLINE) /* which has no objective */
            assert_true(m.series->points[m.series->n_points - 1].met);
    }
    sx_report_fini(&r);
    tear_down(&b);
}

static void early_stopping_needs_enough_queries(void **state)
{
    (void)state;
    assert_int_equal(sx_overlatency(63, 90), 0);
    assert_int_equal(sx_overlatency(64, 90), 1); // the counts of the public rules
    assert_int_equal(sx_overlatency(661, 99), 0);
    assert_int_equal(sx_overlatency(662, 99), 1);
    assert_int_equal(sx_overlatency(10, 99), -1);
    assert_true(sx_overlatency(100000, 99) > 900 && sx_overlatency(100000, 99) < 1000);
    uint64_t sorted[64];
    for (uint64_t i = 0; i < 64; i++)
        sorted[i] = i;
    assert_int_equal(sx_early_stopping(sorted, 64, 90), 63);
    assert_int_equal(sx_early_stopping(sorted, 63, 90), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_loop_fills_the_servers),
        cmocka_unit_test(windows_end_when_three_agree),
        cmocka_unit_test(count_windows_hold_so_many),
        cmocka_unit_test(a_count_of_requests_is_exact),
        cmocka_unit_test(open_loop_queues_as_theory_says),
        cmocka_unit_test(overload_is_lost_or_rejected_never_hidden),
        cmocka_unit_test(a_trace_ends_by_itself),
        cmocka_unit_test(a_group_takes_as_long_as_its_slowest),
        cmocka_unit_test(a_stop_reports_what_there_is),
        cmocka_unit_test(windows_count_who_is_never_answered),
        cmocka_unit_test(windows_count_what_found_no_slot),
        cmocka_unit_test(a_run_ends_when_the_server_has_gone),
        cmocka_unit_test(threshold_is_where_the_queue_says),
        cmocka_unit_test(scenarios_give_their_metric),
        cmocka_unit_test(scenarios_go_on_until_there_are_enough),
        cmocka_unit_test(early_stopping_needs_enough_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
