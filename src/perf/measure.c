/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In a search, a load that the client could not offer says nothing about the target. */
#define LATE_MAX 5.0 /* percent */

static void take_examples(struct sx_measure *m)
{
    for (int i = 0; i < SX_OUTCOME_COUNT; i++) {
        char *to = m->series->example[i];
        if (!to[0])
            snprintf(to, sizeof(m->series->example[i]), "%s",
                     m->target->ops->example(m->target, (enum sx_outcome)i));
    }
}

static enum sx_rc fail_unreachable(struct sx_measure *m, struct sx_err *err)
{
    return sx_fail(err, SX_UNAVAILABLE, "%s: %s", m->target->name,
                   m->target->ops->example(m->target, SX_OUTCOME_CONNECT));
}

static bool ask_server(struct sx_measure *m, struct sx_server_times *ret)
{
    return m->target->ops->server_times && m->target->ops->server_times(m->target, ret);
}

/* Run, and add what came out to the series. */
static enum sx_rc run_point(struct sx_measure *m, const struct sx_load *load,
                            enum sx_load_kind kind, double value, struct sx_run_result *r,
                            struct sx_point *p, struct sx_err *err)
{
    if (m->begin)
        m->begin(m->arg, kind, value);
    struct sx_server_times before, after;
    bool known = ask_server(m, &before);
    enum sx_rc rc = sx_run(m->target, load, &m->run, r, err);
    if (rc)
        return rc;
    known = known && !r->unreachable && ask_server(m, &after);
    take_examples(m);
    if (r->unreachable && !r->stats.outcome[SX_OUTCOME_OK])
        return fail_unreachable(m, err);
    sx_point_from_run(p, kind, value, r, m->report->objective_ms, m->report->percentile);
    if (known)
        sx_point_add_server(p, &before, &after);
    struct sx_point kept = *p;
    bool empty = sx_stats_total(&r->stats) == 0;
    if (!(r->interrupted && empty)) {
        rc = sx_series_add(m->series, &kept);
        if (rc) {
            sx_fail(err, rc, "out of memory");
        } else if (m->end) {
            m->end(m->arg, p);
        }
    }
    if (!rc && r->interrupted)
        rc = sx_fail(err, SX_CANCELLED, "interrupted");
    if (!rc && r->unreachable)
        rc = fail_unreachable(m, err);
    return rc;
}

enum sx_rc sx_measure_closed(struct sx_measure *m, uint32_t concurrency, bool *ret_met,
                             struct sx_err *err)
{
    struct sx_load load = {.concurrency = concurrency};
    struct sx_run_result r;
    struct sx_point p;
    enum sx_rc rc = run_point(m, &load, SX_LOAD_CONCURRENCY, concurrency, &r, &p, err);
    sx_run_result_fini(&r);
    if (!rc && ret_met)
        *ret_met = p.met;
    return rc;
}

static void make_arrivals(struct sx_arrival *a, const struct sx_plan_load *l, double rate)
{
    if (l->kind == SX_ARRIVAL_CONSTANT)
        sx_arrival_constant(a, rate);
    else if (l->kind == SX_ARRIVAL_GAMMA)
        sx_arrival_gamma(a, rate, l->shape, l->seed);
    else
        sx_arrival_poisson(a, rate, l->seed);
}

static enum sx_rc measure_rate(struct sx_measure *m, double rate, struct sx_run_result *r,
                               struct sx_point *p, struct sx_err *err)
{
    struct sx_arrival a;
    make_arrivals(&a, &m->load, rate);
    struct sx_load load = {.arrivals = &a};
    enum sx_rc rc = run_point(m, &load, SX_LOAD_RATE, rate, r, p, err);
    sx_arrival_fini(&a);
    return rc;
}

enum sx_rc sx_measure_rate(struct sx_measure *m, double rate, bool *ret_met, struct sx_err *err)
{
    struct sx_run_result r;
    struct sx_point p;
    enum sx_rc rc = measure_rate(m, rate, &r, &p, err);
    sx_run_result_fini(&r);
    if (!rc && ret_met)
        *ret_met = p.met;
    return rc;
}

enum sx_rc sx_measure_trace(struct sx_measure *m, struct sx_arrival *trace, struct sx_err *err)
{
    struct sx_load load = {.arrivals = trace};
    struct sx_run_result r;
    struct sx_point p;
    enum sx_rc rc = run_point(m, &load, SX_LOAD_TRACE, trace->rate, &r, &p, err);
    sx_run_result_fini(&r);
    return rc;
}

/* A percentile needs requests: low rates are measured for longer, within reason. */
#define TRIAL_REQUESTS 100
#define TRIAL_LONGER   4

static uint64_t trial_ns(uint64_t duration_ns, double rate)
{
    double want = TRIAL_REQUESTS / rate * 1e9, most = TRIAL_LONGER * (double)duration_ns;
    want = want < most ? want : most;
    return want > (double)duration_ns ? (uint64_t)want : duration_ns;
}

/* --- searches -----------------------------------------------------------------------------------
 */

enum sx_rc sx_measure_search(struct sx_measure *m, enum sx_load_kind kind, const char *what,
                             struct sx_threshold *t, struct sx_err *err)
{
    struct sx_found *f = &m->series->found;
    enum sx_rc rc = SX_OK;
    uint64_t duration_ns = m->run.duration_ns;
    double load;
    memset(f, 0, sizeof(*f));
    snprintf(f->what, sizeof(f->what), "%s", what);
    f->kind = kind;
    while (!rc && sx_threshold_next(t, &load)) {
        bool met = false;
        if (kind == SX_LOAD_CONCURRENCY) {
            rc = sx_measure_closed(m, (uint32_t)load, &met, err);
        } else {
            m->run.duration_ns = duration_ns ? trial_ns(duration_ns, load) : 0;
            rc = sx_measure_rate(m, load, &met, err);
            if (!rc && !met) {
                const struct sx_point *p = &m->series->points[m->series->n_points - 1];
                f->client_bound |= p->cpu > 0.95 && p->late_percent > LATE_MAX;
            }
        }
        if (!rc)
            sx_threshold_tell(t, met);
        m->load.seed++; // another sample of the same process
    }
    m->run.duration_ns = duration_ns;
    f->done = !rc;
    f->none = t->lo <= 0;
    f->value = t->lo;
    f->above = t->hi;
    f->trials = t->trials;
    return rc;
}

enum sx_rc sx_measure_threshold(struct sx_measure *m, const char *what, double precision,
                                struct sx_err *err)
{
    /* A closed loop of one gives 1/latency: the target can do at least about that much. */
    struct sx_run_opts kept = m->run;
    struct sx_threshold t;
    m->run.duration_ns = kept.duration_ns / 4 > SX_S ? kept.duration_ns / 4 : SX_S;
    m->run.requests = 0;
    enum sx_rc rc = sx_measure_closed(m, 1, NULL, err);
    m->run = kept;
    if (rc)
        return rc;
    struct sx_point pilot = m->series->points[--m->series->n_points]; // another kind of load
    double rate = pilot.throughput / (pilot.per_query ? pilot.per_query : 1);
    free(pilot.moments);
    if (rate <= 0)
        return sx_fail(err, SX_UNAVAILABLE, "no request was answered");
    sx_threshold_init(&t, rate / 2, rate / 1024, rate * 65536);
    t.precision = precision;
    return sx_measure_search(m, SX_LOAD_RATE, what, &t, err);
}

/* --- MLPerf -------------------------------------------------------------------------------------
 */

#define SERVER_TRIAL (10 * SX_S) /* or so many objectives: overload takes some to show */
#define SERVER_WAITS 10
#define SERVER_RUNS  5
#define SERVER_LOWER 0.95

/* How many samples make one query of run.duration_ns, from a short run. */
static enum sx_rc offline_samples(struct sx_measure *m, uint32_t concurrency, uint64_t *ret,
                                  struct sx_err *err)
{
    struct sx_run_opts kept = m->run;
    m->run.duration_ns = kept.duration_ns / 10 > SX_S ? SX_S : kept.duration_ns / 10 + 1;
    struct sx_load load = {.concurrency = concurrency};
    struct sx_run_result r;
    enum sx_rc rc = sx_run(m->target, &load, &m->run, &r, err);
    double rate = rc ? 0 : r.throughput;
    m->run = kept;
    if (!rc && r.unreachable)
        rc = fail_unreachable(m, err);
    sx_run_result_fini(&r);
    *ret = (uint64_t)ceil(rate * (double)kept.duration_ns * 1e-9 * 1.1) + concurrency;
    return rc;
}

/* The Server scenario: a search of short trials, then full runs, the rate a little lower each
 * time, until one holds. */
static enum sx_rc measure_server(struct sx_measure *m, double precision, struct sx_run_result *r,
                                 double *ret_rate, struct sx_err *err)
{
    struct sx_run_opts full = m->run;
    struct sx_point p = {0};
    m->load.kind = SX_ARRIVAL_POISSON;
    m->run.keep_latencies = false;
    m->run.min_requests = 0;
    uint64_t trial = SERVER_WAITS * m->run.objective_ns;
    trial = trial > SERVER_TRIAL ? trial : SERVER_TRIAL;
    if (m->run.duration_ns > trial)
        m->run.duration_ns = trial;
    enum sx_rc rc = sx_measure_threshold(m, "highest Poisson rate", precision, err);
    m->run = full;
    *ret_rate = m->series->found.value;
    if (!rc && m->series->found.none)
        rc = sx_fail(err, SX_UNAVAILABLE, "no rate holds p99 <= %g ms", m->report->objective_ms);
    for (int i = 0; i < SERVER_RUNS && !rc && !p.met; i++) {
        *ret_rate *= i ? SERVER_LOWER : 1;
        sx_run_result_fini(r);
        rc = measure_rate(m, *ret_rate, r, &p, err);
    }
    return rc;
}

enum sx_rc sx_measure_scenario(struct sx_measure *m, enum sx_scenario_kind kind, double precision,
                               struct sx_err *err)
{
    const struct sx_scenario *s = sx_scenario(kind);
    struct sx_run_opts kept = m->run;
    struct sx_run_result r = {0};
    struct sx_point p;
    struct sx_load load = {.concurrency = 1, .group = s->group};
    bool full = kept.duration_ns >= s->min_ns; /* then the counts of the rules hold, too */
    enum sx_rc rc = SX_OK;
    double rate = 0;
    m->run.keep_latencies = true;
    m->run.requests = 0;
    m->run.min_requests = full ? s->min_queries : 0;
    if (kind == SX_SCENARIO_SERVER) {
        rc = measure_server(m, precision, &r, &rate, err);
    } else if (kind == SX_SCENARIO_OFFLINE) {
        load.concurrency = m->target->slots < 64 ? m->target->slots : 64;
        rc = offline_samples(m, load.concurrency, &m->run.requests, err);
        uint64_t least = full ? (s->min_samples + m->target->batch - 1) / m->target->batch : 0;
        m->run.requests = m->run.requests > least ? m->run.requests : least;
        m->run.duration_ns = 0;
        m->run.warmup_ns = 0;
        if (!rc)
            rc = run_point(m, &load, SX_LOAD_CONCURRENCY, load.concurrency, &r, &p, err);
    } else {
        rc = run_point(m, &load, SX_LOAD_CONCURRENCY, 1, &r, &p, err);
    }
    if (!rc || rc == SX_CANCELLED) {
        sx_scenario_judge(&m->series->verdict, kind, &r, m->report->objective_ms);
        if (kind == SX_SCENARIO_SERVER)
            m->series->verdict.value = rate;
    }
    sx_run_result_fini(&r);
    m->run = kept;
    return rc;
}
