/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.h - the four scenarios of MLPerf Inference and their rules.
 *
 * Read from the public rules (inference_policies, as of MLPerf Inference v4.0 and v5.0) and the
 * loadgen's early stopping: run times of at least 600 s; queries as many as early stopping needs at
 * 99 % confidence (64 for a 90th percentile, 662 for a 99th); Offline at least 24,576 samples in
 * one query.  What a run here can't show (accuracy, the data set, audit) is not judged, so "valid"
 * means: the timing rules were kept.
 */
#ifndef SX_PERF_SCENARIO_H
#define SX_PERF_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/report.h"
#include "perf/run.h"

enum sx_scenario_kind {
    SX_SCENARIO_SINGLE_STREAM, /* one query at a time; 90th percentile of latency */
    SX_SCENARIO_MULTI_STREAM,  /* eight samples at a time; 99th percentile of latency */
    SX_SCENARIO_SERVER,        /* Poisson arrivals; highest rate whose 99th percentile holds */
    SX_SCENARIO_OFFLINE,       /* everything at once; throughput */
    SX_SCENARIO_COUNT
};

struct sx_scenario {
    const char *name;
    double percentile;    /* 0: none */
    uint32_t group;       /* samples in a query */
    uint64_t min_queries; /* by the full rules */
    uint64_t min_samples;
    uint64_t min_ns;
};

#define SX_SCENARIO_RULES                                                                          \
    "the timing rules of MLPerf Inference v4.0 to v5.0 (600 s, early stopping at 99 % confidence)"

const struct sx_scenario *sx_scenario(enum sx_scenario_kind kind);
/* By name, whatever the case; false if there is none. */
bool sx_scenario_find(const char *name, enum sx_scenario_kind *ret);

/* How many of n queries may be slower than a bound for which the true percentile is within it with
 * 99 % confidence: the largest t for which at most t of n binomial trials of probability 1 - p
 * happen with probability at most 1 %.  -1: n is too small for any statement. */
int64_t sx_overlatency(uint64_t n, double percentile);
/* Early stopping's estimate of a percentile from sorted latencies: an upper bound at 99 %
 * confidence; 0 when there are too few. */
uint64_t sx_early_stopping(const uint64_t *sorted, uint64_t n, double percentile);

/* Judge a run; fills the verdict but for the Server's value, which the caller's search finds. */
void sx_scenario_judge(struct sx_verdict *v, enum sx_scenario_kind kind,
                       const struct sx_run_result *run, double objective_ms);

#endif
