/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"

#define MAX_UNITS 64

/* A model whose times follow Amdahl's law over width and a fixed part over batch. */
static void fill_cost(struct sx_cost *c, unsigned units, unsigned max_batch, double first_ms,
                      double each_ms, double serial)
{
    sx_cost_init(c, units, max_batch, NULL, 0);
    for (unsigned wi = 0; wi < c->n_widths; wi++) {
        for (unsigned bi = 0; bi < c->n_batches; bi++) {
            double ms = first_ms + each_ms * c->batches[bi];
            ms *= serial + (1 - serial) / c->widths[wi];
            for (int i = 0; i < 3; i++)
                sx_cost_record(c, c->batches[bi], c->widths[wi], (uint64_t)(ms * 1e6));
        }
    }
}

/* Without batching a client may still send several samples in one request. */
static void a_head_over_max_batch_runs(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 2, 4, 1, 1, 0.1);
    struct sx_sched_model model = {.cost = &cost,
                                   .max_batch = 1,
                                   .target_batch = 1,
                                   .queued = 6,
                                   .head_samples = 4,
                                   .head_deadline = SX_S};
    struct sx_sched_model *models[] = {&model};
    uint64_t free_at[2] = {0};
    bool busy[2] = {0};
    struct sx_sched state = {2, free_at, busy, models, 1};
    struct sx_sched_action a;
    sx_sched_decide(&state, SX_MS, &a);
    assert_int_equal(a.kind, SX_SCHED_START);
    assert_int_equal(a.batch, 4);
}

/* --- invariants of single answers ---------------------------------------------------------------
 */

static void answers_keep_their_promises(void **unused)
{
    (void)unused;
    struct sx_rng rng;
    sx_rng_init(&rng, 11);
    unsigned started = 0, waited = 0;
    for (int round = 0; round < 20000; round++) {
        unsigned units = 1 + (unsigned)sx_rng_below(&rng, 8);
        uint64_t now = 1000 * SX_MS, free_at[MAX_UNITS];
        bool busy[MAX_UNITS];
        for (unsigned u = 0; u < units; u++) {
            busy[u] = sx_rng_below(&rng, 2);
            free_at[u] = now + sx_rng_below(&rng, 80 * SX_MS) - 10 * SX_MS;
        }
        struct sx_cost cost[3];
        struct sx_sched_model model[3], *models[3];
        for (int i = 0; i < 3; i++) {
            unsigned max_batch = 1 + (unsigned)sx_rng_below(&rng, 16);
            fill_cost(&cost[i], units, max_batch, 1 + (double)sx_rng_below(&rng, 40),
                      (double)sx_rng_below(&rng, 20), 0.3 * sx_rng_double(&rng));
            unsigned queued = (unsigned)sx_rng_below(&rng, 30);
            unsigned head = 1 + (unsigned)sx_rng_below(&rng, max_batch);
            model[i] = (struct sx_sched_model){
                .cost = &cost[i],
                .max_batch = max_batch,
                .target_batch = max_batch,
                .max_delay_ns = sx_rng_below(&rng, 3) ? 0 : 5 * SX_MS,
                .arrivals = {.rate = 40 * sx_rng_double(&rng), .last = now},
                .queued = queued && queued < head ? head : queued,
                .head_samples = head,
                .head_arrival = now - sx_rng_below(&rng, 10 * SX_MS),
                .head_deadline = now + sx_rng_below(&rng, 100 * SX_MS),
            };
            models[i] = &model[i];
        }
        struct sx_sched state = {units, free_at, busy, models, 3};
        struct sx_sched_action a;
        sx_sched_decide(&state, now, &a);
        if (a.kind == SX_SCHED_WAIT) {
            waited++;
            assert_true(a.wake_at > now);
            bool all_busy = true, any = false;
            for (unsigned u = 0; u < units; u++)
                all_busy = all_busy && busy[u];
            for (int i = 0; i < 3; i++)
                any = any || (model[i].queued &&
                              !(model[i].max_delay_ns && model[i].queued < model[i].target_batch));
            bool all_free = true;
            for (unsigned u = 0; u < units; u++)
                all_free = all_free && !busy[u];
            assert_false(all_free && any); /* an idle machine never keeps anyone waiting */
            continue;
        }
        started++;
        const struct sx_sched_model *m = &model[a.model];
        assert_true(m->queued > 0);
        assert_int_equal(a.first_unit % a.n_units, 0);
        assert_true(a.first_unit + a.n_units <= units);
        for (unsigned u = a.first_unit; u < a.first_unit + a.n_units; u++)
            assert_false(busy[u]);
        assert_true(a.batch >= m->head_samples && a.batch <= m->max_batch && a.batch <= m->queued);
        assert_true(a.predicted_ns > 0);
    }
    assert_true(started > 1000 && waited > 1000);
}

static void earliest_deadline_goes_first(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 1, 1, 10, 0, 0);
    uint64_t free_at[1] = {0};
    bool busy[1] = {false};
    struct sx_sched_model a = {.cost = &cost,
                               .max_batch = 1,
                               .queued = 1,
                               .head_samples = 1,
                               .head_deadline = 300 * SX_MS},
                          b = a;
    b.head_deadline = 200 * SX_MS;
    struct sx_sched_model *models[] = {&a, &b};
    struct sx_sched state = {1, free_at, busy, models, 2};
    struct sx_sched_action act;
    sx_sched_decide(&state, 0, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    assert_int_equal(act.model, 1);
}

static void company_is_waited_for_but_not_longer(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 1, 8, 10, 1, 0);
    uint64_t free_at[1] = {0};
    bool busy[1] = {false};
    struct sx_sched_model m = {.cost = &cost,
                               .max_batch = 8,
                               .target_batch = 8,
                               .max_delay_ns = 5 * SX_MS,
                               .queued = 3,
                               .head_samples = 1,
                               .head_arrival = 100 * SX_MS,
                               .head_deadline = SX_NEVER};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {1, free_at, busy, models, 1};
    struct sx_sched_action act;
    sx_sched_decide(&state, 101 * SX_MS, &act);
    assert_int_equal(act.kind, SX_SCHED_WAIT);
    assert_int_equal(act.wake_at, 105 * SX_MS);
    sx_sched_decide(&state, 105 * SX_MS, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    assert_int_equal(act.batch, 3);
    m.queued = 9; /* full before its time */
    sx_sched_decide(&state, 101 * SX_MS, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
    assert_int_equal(act.batch, 8);
    /* not so long that it would be late: eight take 18 ms */
    m.queued = 1;
    m.head_deadline = 121 * SX_MS;
    sx_sched_decide(&state, 101 * SX_MS, &act);
    assert_int_equal(act.kind, SX_SCHED_WAIT);
    assert_int_equal(act.wake_at, 103 * SX_MS);
    sx_sched_decide(&state, 103 * SX_MS, &act);
    assert_int_equal(act.kind, SX_SCHED_START);
}

/* 46 ms on one unit, 33 on two: alone it would run on one. */
static void a_head_that_would_be_late_runs_wider(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    sx_cost_init(&cost, 2, 1, NULL, 0);
    sx_cost_record(&cost, 1, 1, 46 * SX_MS);
    sx_cost_record(&cost, 1, 2, 33 * SX_MS);
    uint64_t free_at[2] = {0}, now = SX_S;
    bool busy[2] = {false};
    struct sx_sched_model m = {.cost = &cost,
                               .max_batch = 1,
                               .arrivals = {.rate = 17, .last = now},
                               .queued = 1,
                               .head_samples = 1};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {2, free_at, busy, models, 1};
    struct sx_sched_action a;
    /* in time on one; on two; not at all; there are others to take its place */
    static const struct {
        unsigned ms, queued, units;
    } cases[] = {{46, 1, 1}, {45, 1, 2}, {33, 1, 2}, {32, 1, 1}, {45, 2, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        m.head_deadline = now + cases[i].ms * SX_MS;
        m.queued = cases[i].queued;
        sx_sched_decide(&state, now, &a);
        assert_int_equal(a.kind, SX_SCHED_START);
        assert_int_equal(a.n_units, cases[i].units);
    }
}

/* Each of 1,000 requests is alone on two units; one unit takes 50 ms, but when it was measured it
 * took 130.  Where none waits nobody needs to know; at some load it is found out. */
static void a_narrower_width_is_tried_where_some_wait(void **unused)
{
    (void)unused;
    static const double rates[] = {3, 10}; /* a load of 0.09 and of 0.3 */
    for (size_t i = 0; i < 2; i++) {
        struct sx_cost cost;
        sx_cost_init(&cost, 2, 1, NULL, 0);
        for (int k = 0; k < 3; k++)
            sx_cost_record(&cost, 1, 1, 130 * SX_MS);
        sx_cost_record(&cost, 1, 2, 30 * SX_MS);
        uint64_t free_at[2] = {0}, now = SX_S;
        bool busy[2] = {false};
        struct sx_sched_model m = {.cost = &cost,
                                   .max_batch = 1,
                                   .queued = 1,
                                   .head_samples = 1,
                                   .arrivals = {.rate = rates[i], .last = now},
                                   .head_deadline = now + SX_S};
        struct sx_sched_model *models[] = {&m};
        struct sx_sched state = {2, free_at, busy, models, 1};
        struct sx_sched_action a;
        unsigned narrow = 0;
        for (int k = 0; k < 1000; k++) {
            sx_sched_decide(&state, now, &a);
            assert_int_equal(a.kind, SX_SCHED_START);
            narrow += a.n_units == 1;
            sx_cost_record(&cost, 1, a.n_units, (a.n_units == 1 ? 50 : 30) * SX_MS);
        }
        assert_true(i ? narrow > 5 && narrow < 12 : !narrow);
        assert_true(!i || sx_cost_ns(&cost, 1, 0) < 52e6);
    }
}

static void lone_width_shrinks_with_the_rate(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 8, 1, 64, 0, 0.1);
    uint64_t free_at[8] = {0};
    bool busy[8] = {false};
    struct sx_sched_model m = {.cost = &cost, .max_batch = 1};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {8, free_at, busy, models, 1};
    unsigned last = cost.n_widths;
    for (double rate = 0.1; rate < 120; rate *= 1.2) {
        m.arrivals.rate = rate;
        unsigned wi = sx_sched_lone_width(&state, 0, 0);
        assert_true(wi <= last);
        last = wi;
    }
    m.arrivals.rate = 0.1;
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, 0)], 8);
    /* Up to some load the steps that pay stay: 1 to 2 units takes 0.55 of the time, 2 to 4 0.59, 4
     * to 8 0.65.  Of 125 per second, 120 are too many. */
    m.arrivals.rate = 70;
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, 0)], 4);
    m.arrivals.rate = 120;
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, 0)], 1);
    fill_cost(&cost, 8, 1, 64, 0, 0.4);
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, 0)], 1);
    m.arrivals.rate = 0.1;
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, 0)], 8);
}

static void no_width_is_wasted_on_a_model_that_gains_nothing(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 8, 1, 1, 0, 1.0); /* all serial */
    uint64_t free_at[8] = {0};
    bool busy[8] = {false};
    struct sx_sched_model m = {.cost = &cost, .max_batch = 1, .arrivals = {.rate = 0.01}};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {8, free_at, busy, models, 1};
    assert_int_equal(sx_sched_lone_width(&state, 0, 0), 0);
}

static void prediction_grows_with_the_queue(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    fill_cost(&cost, 2, 4, 30, 10, 0.3);
    uint64_t free_at[2] = {50 * SX_MS, 20 * SX_MS};
    bool busy[2] = {true, true};
    struct sx_sched_model m = {.cost = &cost, .max_batch = 4};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {2, free_at, busy, models, 1};
    uint64_t last = 0;
    for (m.queued = 0; m.queued < 50; m.queued++) {
        uint64_t wait, end = sx_sched_predict_finish(&state, 0, 1, 0, &wait);
        assert_true(end >= last && end > wait);
        last = end;
    }
}

/* `n` random ones of one sample each. */
static void arrive(struct sx_arrivals *arrivals, const struct sx_cost *cost, struct sx_rng *rng,
                   uint64_t *now, int n, double rate)
{
    for (int i = 0; i < n; i++) {
        *now += (uint64_t)sx_rng_exponential(rng, 1e9 / rate);
        sx_arrivals_add(arrivals, cost, *now, 1, false);
    }
}

static void rate_is_recent_arrivals_per_second(void **unused)
{
    (void)unused;
    struct sx_arrivals arrivals = {0};
    struct sx_cost cost;
    struct sx_rng rng;
    fill_cost(&cost, 2, 1, 5, 0, 0);
    sx_rng_init(&rng, 3);
    uint64_t now = 5 * SX_S;
    arrive(&arrivals, &cost, &rng, &now, 20000, 100);
    assert_true(fabs(sx_arrivals_rate(&arrivals, now) - 100) < 15);
    assert_true(sx_arrivals_rate(&arrivals, now + 40 * SX_S) < 1);
    /* What decisions see, which are made when one arrives, is right on average: at few and many. */
    static const double rates[] = {0.5, 2, 20, 500};
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        arrivals = (struct sx_arrivals){0};
        double sum = 0;
        for (int i = 0; i < 20000; i++) {
            arrive(&arrivals, &cost, &rng, &now, 1, rates[k]);
            sum += sx_arrivals_rate(&arrivals, now);
        }
        print_message("# %g per second: %.3f of it\n", rates[k], sum / 20000 / rates[k]);
        assert_true(fabs(sum / 20000 / rates[k] - 1) < 0.05);
    }
}

/* After silence, and after a tenth of the rate, it is known after some 30 arrivals. */
static void a_crowd_is_seen_at_once(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    struct sx_rng rng;
    fill_cost(&cost, 2, 1, 7, 0, 0);
    sx_rng_init(&rng, 4);
    for (unsigned quiet = 0; quiet < 2; quiet++) {
        unsigned near = 0;
        for (int k = 0; k < 200; k++) {
            struct sx_arrivals arrivals = {0};
            uint64_t now = SX_S;
            arrive(&arrivals, &cost, &rng, &now, 100, 20);
            now += quiet * 10 * SX_S;
            arrive(&arrivals, &cost, &rng, &now, 35, 200);
            double rate = sx_arrivals_rate(&arrivals, now);
            near += rate > 130 && rate < 300;
        }
        print_message("# %s: %u of 200 near\n", quiet ? "silence" : "few", near);
        assert_true(near > 180);
    }
    /* All at once, of a model that was never run. */
    struct sx_arrivals arrivals = {0};
    memset(&cost, 0, sizeof cost);
    sx_cost_init(&cost, 2, 1, NULL, 0);
    for (int i = 0; i < 100; i++)
        sx_arrivals_add(&arrivals, &cost, SX_S, 1, false);
    assert_true(isfinite(sx_arrivals_rate(&arrivals, SX_S)));
    assert_true(sx_arrivals_rate(&arrivals, 60 * SX_S) < 1);
}

/* One client that waits for each answer keeps the machine as busy as a crowd would, but nobody
 * waits for anybody: it keeps all units. */
static void one_client_at_a_time_keeps_all_units(void **unused)
{
    (void)unused;
    struct sx_cost cost;
    sx_cost_init(&cost, 2, 1, NULL, 0);
    sx_cost_record(&cost, 1, 1, 65 * SX_MS);
    sx_cost_record(&cost, 1, 2, 44 * SX_MS);
    uint64_t free_at[2] = {0}, now = SX_S;
    bool busy[2] = {false};
    struct sx_sched_model m = {.cost = &cost, .max_batch = 1};
    struct sx_sched_model *models[] = {&m};
    struct sx_sched state = {2, free_at, busy, models, 1};
    unsigned narrow = 0;
    struct sx_rng rng;
    sx_rng_init(&rng, 5);
    for (int i = 0; i < 1000; i++) {
        sx_arrivals_add(&m.arrivals, &cost, now, 1, true);
        unsigned wi = sx_sched_lone_width(&state, 0, now);
        narrow += cost.widths[wi] == 1;
        /* runs vary by a tenth up and down, and the client is quick: half of the gaps are shorter
         * than the mean run */
        double took = (wi ? 44e6 : 65e6) * (0.9 + 0.2 * sx_rng_double(&rng));
        sx_cost_record(&cost, 1, cost.widths[wi], (uint64_t)took);
        now += (uint64_t)took + 20 * SX_US;
    }
    print_message("# narrow %u of 1000\n", narrow);
    assert_true(narrow <= 5); /* at the very first, nothing tells it from a crowd */
    /* Two clients whose requests meet take turns, each as long as a run: not alone. */
    for (int i = 0; i < 200; i++)
        sx_arrivals_add(&m.arrivals, &cost, now += 44 * SX_MS, 1, false);
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, now)], 1);
    assert_int_equal(cost.widths[sx_sched_lone_width(&state, 0, now)], 1);
}

/* --- a queue in virtual time: the scheduler against every fixed width ---------------- */

/* A core that a neighbour on the same host slows down for a while, now and then. */
struct weather {
    struct sx_rng rng;
    bool bad;
    double until; /* ns */
};

struct sim {
    unsigned units;
    struct sx_cost cost;
    struct sx_sched_model model;
    double slow;   /* in bad weather a run takes so many times as long; 0: it is always fine */
    double period; /* mean length of good and of bad weather in ns */
    bool busy[MAX_UNITS];
    uint64_t free_at[MAX_UNITS]; /* as the scheduler believes */
    uint64_t end[MAX_UNITS];     /* as it is */
    struct weather weather[MAX_UNITS];
    struct {
        unsigned batch, width;
        uint64_t begin;
    } run[MAX_UNITS]; /* by first unit; batch 0: none */
    uint64_t last_end;
};

static bool is_bad(struct sim *s, unsigned u, uint64_t now)
{
    struct weather *w = &s->weather[u];
    while (w->until <= (double)now) {
        w->bad = !w->bad;
        w->until += sx_rng_exponential(&w->rng, s->period);
    }
    return w->bad;
}

/* A run is as slow as the slowest of its units. */
static void begin_run(struct sim *s, const struct sx_sched_action *a, uint64_t now, uint64_t ns)
{
    bool bad = false;
    for (unsigned u = a->first_unit; s->slow > 0 && u < a->first_unit + a->n_units; u++)
        bad |= is_bad(s, u, now);
    for (unsigned u = a->first_unit; u < a->first_unit + a->n_units; u++) {
        s->busy[u] = true;
        s->free_at[u] = now + a->predicted_ns;
        s->end[u] = now + (bad ? (uint64_t)(s->slow * (double)ns) : ns);
    }
    s->run[a->first_unit].batch = a->batch;
    s->run[a->first_unit].width = a->n_units;
    s->run[a->first_unit].begin = now;
}

/* What ended by now; with weather, learn from it as the server does. */
static void end_runs(struct sim *s, struct sx_cost *cost, uint64_t now)
{
    for (unsigned u = 0; u < s->units; u++) {
        if (!s->busy[u] || s->end[u] > now)
            continue;
        s->busy[u] = false;
        if (!s->run[u].batch)
            continue;
        if (s->slow > 0) {
            if (s->last_end && s->run[u].begin > s->last_end)
                sx_cost_rest(cost, s->run[u].begin - s->last_end);
            sx_cost_record(cost, s->run[u].batch, s->run[u].width, now - s->run[u].begin);
        }
        s->last_end = now;
        s->run[u].batch = 0;
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A cost of one width: nothing else can be chosen. */
static struct sx_cost only_width(const struct sx_cost *c, unsigned width)
{
    struct sx_cost only = *c;
    unsigned wi = sx_cost_width_index(c, width);
    only.n_widths = 1;
    only.widths[0] = width;
    memcpy(only.cell[0], c->cell[wi], sizeof only.cell[0]);
    return only;
}

/* Latency at share `q` for Poisson arrivals at `rate` per second. */
static double simulate(struct sim *s, double rate, unsigned fixed_width, double q, double *ret_p50,
                       double *ret_throughput)
{
    enum { N = 20000, SKIP = 1000 };
    uint64_t *arrival = calloc(N, sizeof *arrival), *latency = calloc(N, sizeof *latency);
    struct sx_rng rng;
    sx_rng_init(&rng, 42);
    double t = 0;
    for (int i = 0; i < N; i++)
        arrival[i] = (uint64_t)((t += sx_rng_exponential(&rng, 1 / rate)) * 1e9);
    memset(s->busy, 0, sizeof s->busy);
    memset(s->free_at, 0, sizeof s->free_at);
    memset(s->run, 0, sizeof s->run);
    s->last_end = 0;
    for (unsigned u = 0; u < s->units; u++) {
        s->weather[u] = (struct weather){.bad = u % 2};
        sx_rng_init(&s->weather[u].rng, 7 + u);
    }
    memset(&s->model.arrivals, 0, sizeof s->model.arrivals);
    struct sx_cost cost = fixed_width ? only_width(&s->cost, fixed_width) : s->cost;
    s->model.cost = &cost;
    struct sx_sched_model *models[] = {&s->model};
    struct sx_sched state = {s->units, s->free_at, s->busy, models, 1};
    int in = 0, head = 0;
    uint64_t now = 0;
    while (head < N) {
        uint64_t next = in < N ? arrival[in] : SX_NEVER;
        for (unsigned u = 0; u < s->units; u++) {
            if (s->busy[u] && s->end[u] < next)
                next = s->end[u];
        }
        now = next;
        end_runs(s, &cost, now);
        while (in < N && arrival[in] <= now) {
            bool alone = in == head;
            for (unsigned u = 0; u < s->units; u++)
                alone = alone && !s->busy[u];
            sx_arrivals_add(&s->model.arrivals, &cost, arrival[in++], 1, alone);
        }
        for (;;) {
            s->model.queued = (unsigned)(in - head);
            s->model.head_samples = 1;
            s->model.head_arrival = head < N ? arrival[head] : 0;
            s->model.head_deadline = SX_NEVER - 1;
            struct sx_sched_action a;
            sx_sched_decide(&state, now, &a);
            if (a.kind == SX_SCHED_WAIT)
                break;
            unsigned wi = sx_cost_width_index(&s->cost, a.n_units);
            begin_run(s, &a, now, (uint64_t)sx_cost_ns(&s->cost, a.batch, wi));
            for (unsigned i = 0; i < a.batch; i++, head++)
                latency[head] = s->end[a.first_unit] - arrival[head];
        }
    }
    *ret_throughput = N / ((double)now * 1e-9);
    qsort(latency + SKIP, N - SKIP, sizeof *latency, compare_u64);
    *ret_p50 = (double)latency[SKIP + (N - SKIP) / 2] * 1e-6;
    double tail = (double)latency[SKIP + (int)((N - SKIP) * q)] * 1e-6;
    free(arrival);
    free(latency);
    return tail;
}

/* ResNet-50 takes 65 ms on one core and 44 on two; SqueezeNet gains more from the second.  At every
 * load the tail stays near that of the best fixed width, the median is the wide one's as long as
 * few wait, and nothing is lost when the machine is full. */
static void width_follows_load(void **unused)
{
    (void)unused;
    static const uint64_t wide_ms[] = {35, 38, 39, 40, 42, 44, 50};
    double capacity = 2 / 0.065, worst = 0, p50, tp;
    print_message("# two cores / one   load   p95 width 1   width 2   adaptive   ratio   p50\n");
    for (size_t k = 0; k < sizeof wide_ms / sizeof *wide_ms; k++) {
        struct sim s = {.units = 2};
        sx_cost_init(&s.cost, 2, 1, NULL, 0);
        for (int i = 0; i < 3; i++) {
            sx_cost_record(&s.cost, 1, 1, 65 * SX_MS);
            sx_cost_record(&s.cost, 1, 2, wide_ms[k] * SX_MS);
        }
        s.model = (struct sx_sched_model){.max_batch = 1};
        for (double load = 0.05; load < 1; load += 0.1) {
            double best = INFINITY, tail[3];
            for (unsigned w = 1; w <= 2; w++) {
                bool full = w == 2 && load * capacity > 0.99e3 / (double)wide_ms[k];
                tail[w] = full ? INFINITY : simulate(&s, load * capacity, w, 0.95, &p50, &tp);
                best = tail[w] < best ? tail[w] : best;
            }
            double own = simulate(&s, load * capacity, 0, 0.95, &p50, &tp);
            print_message("# %.2f   %.2f   %8.1f   %8.1f   %8.1f   %.3f   %.1f\n",
                          (double)wide_ms[k] / 65, load, tail[1], tail[2], own, own / best, p50);
            /* 0.05, 0.15, ...: at 0.15 just under one in twenty waits if all run narrow */
            bool few_wait = load > 0.1 && load < 0.2;
            if (few_wait)
                assert_true(own / best < 1.21);
            else
                worst = own / best > worst ? own / best : worst;
            if (load < 0.06 || (load < 0.4 && wide_ms[k] <= 42))
                assert_true(p50 < (double)wide_ms[k] * 1.02);
        }
        simulate(&s, 2 * capacity, 0, 0.95, &p50, &tp);
        assert_true(tp > 0.995 * capacity);
    }
    print_message("# worst ratio %.3f\n", worst);
    assert_true(worst < 1.11);
}

/* Virtual machines have neighbours.  Here each core is 1.9 times as slow for some seconds, then
 * fine for some, which nobody can tell but by the runs.  The tail stays near that of the best fixed
 * width, which has the same weather. */
static void width_follows_load_in_bad_weather(void **unused)
{
    (void)unused;
    static const double periods[] = {0.5e9, 2e9, 8e9};
    struct sim s = {.units = 2, .slow = 1.9};
    sx_cost_init(&s.cost, 2, 1, NULL, 0);
    for (int i = 0; i < 3; i++) {
        sx_cost_record(&s.cost, 1, 1, 36 * SX_MS);
        sx_cost_record(&s.cost, 1, 2, 20 * SX_MS);
    }
    s.model = (struct sx_sched_model){.max_batch = 1};
    double capacity = 2 / (0.036 * 1.45), worst = 0, p50, tp; /* half of the time it is bad */
    print_message("# weather changes every   load   p95 width 1   width 2   adaptive   ratio\n");
    for (size_t k = 0; k < sizeof periods / sizeof *periods; k++) {
        s.period = periods[k];
        for (double load = 0.05; load < 0.9; load += 0.1) {
            double one = simulate(&s, load * capacity, 1, 0.95, &p50, &tp);
            double two = simulate(&s, load * capacity, 2, 0.95, &p50, &tp);
            double own = simulate(&s, load * capacity, 0, 0.95, &p50, &tp);
            double ratio = own / fmin(one, two);
            print_message("# %.1f s                   %.2f   %8.1f   %8.1f   %8.1f   %.3f\n",
                          s.period * 1e-9, load, one, two, own, ratio);
            worst = fmax(worst, ratio);
        }
    }
    print_message("# worst ratio in bad weather %.3f\n", worst);
    assert_true(worst < 1.12);
}

/* The same on eight units, by Amdahl's law: the tail near the best of four fixed widths. */
static void width_follows_load_on_eight_units(void **unused)
{
    (void)unused;
    static const double serial[] = {0.02, 0.1, 0.25};
    double worst = 0, p50, tp;
    print_message("# serial  load   p95 width 1     2     4     8   adaptive   ratio   p50\n");
    for (size_t k = 0; k < sizeof serial / sizeof *serial; k++) {
        struct sim s = {.units = 8};
        fill_cost(&s.cost, 8, 1, 64, 0, serial[k]);
        s.model = (struct sx_sched_model){.max_batch = 1};
        double capacity = 8 / 0.064;
        for (double load = 0.05; load < 1; load += 0.15) {
            double tail[4], best = INFINITY;
            for (unsigned wi = 0; wi < 4; wi++) {
                double ns = sx_cost_ns(&s.cost, 1, wi);
                bool full = load * capacity > 0.99e9 / ns * 8 / s.cost.widths[wi];
                tail[wi] = full ? INFINITY
                                : simulate(&s, load * capacity, s.cost.widths[wi], 0.95, &p50, &tp);
                best = tail[wi] < best ? tail[wi] : best;
            }
            double own = simulate(&s, load * capacity, 0, 0.95, &p50, &tp);
            print_message("# %.2f    %.2f   %10.1f %5.1f %5.1f %5.1f %10.1f   %.3f   %.1f\n",
                          serial[k], load, tail[0], tail[1], tail[2], tail[3], own, own / best,
                          p50);
            worst = own / best > worst ? own / best : worst;
        }
    }
    print_message("# worst ratio %.3f\n", worst);
    assert_true(worst < 1.12);
}

/* The same on more cores, with batches that pay. */
static void batches_fill_a_bigger_machine(void **unused)
{
    (void)unused;
    struct sim s = {.units = 8};
    fill_cost(&s.cost, 8, 8, 5, 10, 0.15);
    s.model = (struct sx_sched_model){.max_batch = 8, .target_batch = 8};
    double capacity = 8 * 8 / 0.085, p50, tp;
    simulate(&s, 1.5 * capacity, 0, 0.95, &p50, &tp);
    assert_true(tp > 0.98 * capacity);
    simulate(&s, 0.005 * capacity, 0, 0.95, &p50, &tp);
    assert_true(p50 < 1.05 * 15 * (0.15 + 0.85 / 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_keep_their_promises),
        cmocka_unit_test(a_head_over_max_batch_runs),
        cmocka_unit_test(earliest_deadline_goes_first),
        cmocka_unit_test(company_is_waited_for_but_not_longer),
        cmocka_unit_test(a_head_that_would_be_late_runs_wider),
        cmocka_unit_test(a_narrower_width_is_tried_where_some_wait),
        cmocka_unit_test(lone_width_shrinks_with_the_rate),
        cmocka_unit_test(no_width_is_wasted_on_a_model_that_gains_nothing),
        cmocka_unit_test(prediction_grows_with_the_queue),
        cmocka_unit_test(rate_is_recent_arrivals_per_second),
        cmocka_unit_test(a_crowd_is_seen_at_once),
        cmocka_unit_test(one_client_at_a_time_keeps_all_units),
        cmocka_unit_test(width_follows_load),
        cmocka_unit_test(width_follows_load_in_bad_weather),
        cmocka_unit_test(width_follows_load_on_eight_units),
        cmocka_unit_test(batches_fill_a_bigger_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
