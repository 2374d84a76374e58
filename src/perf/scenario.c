/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "perf/scenario.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct sx_scenario scenarios[] = {
    [SX_SCENARIO_SINGLE_STREAM] = {"SingleStream", 90, 1, 64, 0, 600 * SX_S},
    [SX_SCENARIO_MULTI_STREAM] = {"MultiStream", 99, 8, 662, 0, 600 * SX_S},
    [SX_SCENARIO_SERVER] = {"Server", 99, 1, 662, 0, 600 * SX_S},
    [SX_SCENARIO_OFFLINE] = {"Offline", 0, 1, 0, 24576, 600 * SX_S},
};

const struct sx_scenario *sx_scenario(enum sx_scenario_kind kind)
{
    return &scenarios[kind];
}

bool sx_scenario_find(const char *name, enum sx_scenario_kind *ret)
{
    for (int i = 0; i < SX_SCENARIO_COUNT; i++) {
        if (strcasecmp(name, scenarios[i].name) == 0) {
            *ret = (enum sx_scenario_kind)i;
            return true;
        }
    }
    return false;
}

int64_t sx_overlatency(uint64_t n, double percentile)
{
    double q = 1 - percentile / 100, sum = 0;
    for (uint64_t t = 0; t <= n; t++) {
        double log_term = lgamma((double)n + 1) - lgamma((double)t + 1) -
                          lgamma((double)(n - t) + 1) + (double)t * log(q) +
                          (double)(n - t) * log1p(-q);
        sum += exp(log_term);
        if (sum > 0.01)
            return (int64_t)t - 1;
    }
    return (int64_t)n;
}

uint64_t sx_early_stopping(const uint64_t *sorted, uint64_t n, double percentile)
{
    int64_t t = sx_overlatency(n, percentile);
    if (t < 1)
        return 0;
    return sorted[n - (uint64_t)t];
}

static void reason(struct sx_verdict *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void reason(struct sx_verdict *v, const char *format, ...)
{
    size_t len = strlen(v->reasons);
    if (len > 0 && len + 1 < sizeof(v->reasons)) {
        v->reasons[len++] = '\n';
        v->reasons[len] = 0;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(v->reasons + len, sizeof(v->reasons) - len, format, args);
    va_end(args);
    v->valid = false;
}

void sx_scenario_judge(struct sx_verdict *v, enum sx_scenario_kind kind,
                       const struct sx_run_result *run, double objective_ms)
{
    const struct sx_scenario *s = &scenarios[kind];
    uint64_t ok = run->stats.outcome[SX_OUTCOME_OK];
    uint64_t estimate = 0;
    memset(v, 0, sizeof(*v));
    v->done = v->valid = true;
    snprintf(v->scenario, sizeof(v->scenario), "%s", s->name);
    snprintf(v->rules, sizeof(v->rules), "%s", SX_SCENARIO_RULES);
    if (s->percentile > 0)
        estimate = sx_early_stopping(run->latencies, run->n_latencies, s->percentile);
    if (kind == SX_SCENARIO_OFFLINE) {
        snprintf(v->metric, sizeof(v->metric), "throughput");
        snprintf(v->unit, sizeof(v->unit), "samples/s");
        v->value = run->throughput * run->per_query;
    } else if (kind == SX_SCENARIO_SERVER) {
        snprintf(v->metric, sizeof(v->metric), "highest Poisson rate with p99 <= %g ms",
                 objective_ms);
        snprintf(v->unit, sizeof(v->unit), "queries/s");
        uint64_t total = sx_stats_total(&run->stats);
        if (run->stats.within < total - total / 100)
            reason(v, "%llu of %llu queries within %g ms; the rules want 99 %%",
                   (unsigned long long)run->stats.within, (unsigned long long)total, objective_ms);
        else if (estimate > 0 && (double)estimate * 1e-6 > objective_ms)
            reason(v, "p99 may be %.4g ms, at 99 %% confidence", (double)estimate * 1e-6);
    } else {
        uint64_t plain = sx_hist_quantile(&run->stats.latency, s->percentile / 100);
        snprintf(v->metric, sizeof(v->metric), "p%g latency%s", s->percentile,
                 estimate > 0 ? ", early-stopping estimate" : " as measured");
        snprintf(v->unit, sizeof(v->unit), "ms");
        v->value = (double)(estimate > 0 ? estimate : plain) * 1e-6;
    }
    if (run->seconds * 1e9 < (double)s->min_ns)
        reason(v, "ran for %.1f s; the full rules want %.0f s", run->seconds,
               (double)s->min_ns * 1e-9);
    if (ok < s->min_queries)
        reason(v, "%llu queries; the full rules want %llu", (unsigned long long)ok,
               (unsigned long long)s->min_queries);
    if (ok * run->per_query < s->min_samples)
        reason(v, "%llu samples; the full rules want %llu",
               (unsigned long long)(ok * run->per_query), (unsigned long long)s->min_samples);
    if (sx_stats_failed(&run->stats) > 0)
        reason(v, "%llu queries failed", (unsigned long long)sx_stats_failed(&run->stats));
    if (run->interrupted)
        reason(v, "interrupted");
}
