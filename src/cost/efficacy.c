/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * efficacy.c - all cells of a table, one after another.
 *
 * Units go up, and for each of them batches: so of equal cells the first one met is the one with
 * fewer units, then with less latency.
 */
#include "cost/efficacy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The batches that are tried: those of the grid up to the greatest allowed, that one itself when
 * the grid goes on beyond it, and one sample, which is what remains where nothing else is feasible.
 */
static unsigned candidates(const struct sx_latency *latency, unsigned max_batch,
                           unsigned ret_batch[SX_LATENCY_BATCHES + 2])
{
    unsigned n = 0, i = 0;

    if (latency->batches[0] > 1)
        ret_batch[n++] = 1;
    for (; i < latency->n_batches && latency->batches[i] <= max_batch; i++)
        ret_batch[n++] = latency->batches[i];
    if (i < latency->n_batches && (!n || ret_batch[n - 1] < max_batch))
        ret_batch[n++] = max_batch;
    return n;
}

/* What the objective, less its margin, must be for a cell. */
static double needed(double ns, double assembly_ns, bool half_rule)
{
    double need = ns + assembly_ns;

    return half_rule && 2 * ns > need ? 2 * ns : need;
}

/* "12.3 ms" */
static const char *ms(char buf[16], double ns)
{
    snprintf(buf, 16, ns < 1e15 ? "%.3g ms" : "%.1e ms", ns * 1e-6);
    return buf;
}

static void explain(const struct sx_latency *latency, const struct sx_efficacy_limits *limits,
                    unsigned max_units, double budget, struct sx_efficacy *choice)
{
    char takes[16], has[16], wants[16], units[32] = "";

    if (max_units < latency->units[0]) {
        snprintf(choice->why, sizeof choice->why,
                 "it may have %u units, and no time was measured on fewer than %u", max_units,
                 latency->units[0]);
        return;
    }
    if (choice->least_units)
        snprintf(units, sizeof units, "%u units would do", choice->least_units);
    else if (max_units < latency->units[latency->n_units - 1])
        snprintf(units, sizeof units, "more units would not help");
    ms(takes, sx_latency_ns(latency, max_units, 1));
    ms(has, budget > 0 ? limits->half_rule ? budget / 2 : budget : 0);
    ms(wants, choice->least_objective_ns);
    snprintf(
        choice->why, sizeof choice->why,
        "one sample takes %s on %u unit%s, the objective leaves %s%s; %s%san objective from %s "
        "would",
        takes, max_units, max_units == 1 ? "" : "s", has, limits->half_rule ? " (half of it)" : "",
        units,
        choice->least_units ? ", or "
        : *units            ? ", "
                            : "",
        wants);
}

void sx_efficacy_choose(const struct sx_latency *latency, const struct sx_efficacy_limits *limits,
                        struct sx_efficacy *ret_choice)
{
    unsigned batch[SX_LATENCY_BATCHES + 2], max_batch = limits->max_batch ? limits->max_batch : 1;
    unsigned n = candidates(latency, max_batch, batch);
    double margin = limits->margin_ns > 0 ? limits->margin_ns : 0;
    double budget = limits->objective_ns - margin, least = INFINITY;
    double gap_ns = limits->rate > 0 ? 1e9 / limits->rate : 0;
    struct sx_efficacy best = {.feasible = false};

    for (unsigned u = 0; u < latency->n_units; u++) {
        bool allowed = latency->units[u] <= limits->max_units;
        for (unsigned i = 0; i < n; i++) {
            double ns = sx_latency_ns(latency, latency->units[u], batch[i]);
            double assembly_ns = batch[i] > 1 ? (batch[i] - 1) * gap_ns : 0;
            double need = needed(ns, assembly_ns, limits->half_rule);
            if (!allowed) {
                if (!best.least_units && need <= budget)
                    best.least_units = latency->units[u];
                continue;
            }
            least = need < least ? need : least;
            if (!(need <= budget))
                continue;
            double s = ns * 1e-9, efficacy = batch[i] / (s * s * latency->units[u]);
            if (best.feasible && efficacy <= best.efficacy)
                continue;
            best.feasible = true;
            best.units = latency->units[u];
            best.batch = batch[i];
            best.ns = ns;
            best.assembly_ns = assembly_ns;
            best.efficacy = efficacy;
            best.throughput = batch[i] / s;
        }
        if (!allowed && (best.feasible || best.least_units))
            break; /* what more units could do is of no interest */
    }
    if (best.feasible) {
        best.least_units = 0;
    } else if (latency->n_units) {
        if (isfinite(least)) {
            best.least_objective_ns = least + margin;
            while (best.least_objective_ns - margin < least) /* rounding */
                best.least_objective_ns = nextafter(best.least_objective_ns, INFINITY);
        }
        explain(latency, limits, limits->max_units, budget, &best);
    }
    *ret_choice = best;
}
