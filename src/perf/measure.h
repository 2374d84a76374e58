/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h - whole measurements of a target into a series: a sweep, a search, a scenario.
 *
 * Each function blocks until it is done or *plan->run.stop is set, and adds a point per load to
 * the series, so that what was measured before an interruption or a failure is there.
 */
#ifndef SX_PERF_MEASURE_H
#define SX_PERF_MEASURE_H

#include "perf/report.h"
#include "perf/run.h"
#include "perf/scenario.h"
#include "perf/target.h"
#include "perf/threshold.h"

struct sx_plan_load { /* how an open loop's times are made */
    enum sx_arrival_kind kind;
    double shape;
    uint64_t seed;
};

struct sx_measure {
    struct sx_target *target;
    struct sx_report *report; /* objective and percentile */
    struct sx_series *series;
    struct sx_run_opts run;
    struct sx_plan_load load;
    /* Called before each load, and after it with its point; may be NULL. */
    void (*begin)(void *arg, enum sx_load_kind kind, double load);
    void (*end)(void *arg, const struct sx_point *p);
    void *arg;
};

/* Measure one load. `ret_met` (may be NULL): the objective holds and nothing failed.  SX_CANCELLED
 * when interrupted, SX_UNAVAILABLE when the target can't be reached. */
enum sx_rc sx_measure_closed(struct sx_measure *m, uint32_t concurrency, bool *ret_met,
                             struct sx_err *err);
enum sx_rc sx_measure_rate(struct sx_measure *m, double rate, bool *ret_met, struct sx_err *err);
/* The arrivals are used up. */
enum sx_rc sx_measure_trace(struct sx_measure *m, struct sx_arrival *trace, struct sx_err *err);

/* Find the highest load that holds; `t` says where to look.  Fills series->found. */
enum sx_rc sx_measure_search(struct sx_measure *m, enum sx_load_kind kind, const char *what,
                             struct sx_threshold *t, struct sx_err *err);
/* The congestion threshold: a search over Poisson rates (or m->load's), from what a closed loop
 * says about the target's capacity. */
enum sx_rc sx_measure_threshold(struct sx_measure *m, const char *what, double precision,
                                struct sx_err *err);

/* One MLPerf scenario that lasts at least run.duration_ns; when that is what the rules ask for, it
 * goes on until their number of queries is reached, too.  `precision`: of the Server's search,
 * whose trials take 10 s at most; what it found is run in full, at lower rates if it does not hold.
 * Fills series->verdict. */
enum sx_rc sx_measure_scenario(struct sx_measure *m, enum sx_scenario_kind kind, double precision,
                               struct sx_err *err);

#endif
