/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * efficacy.h - batch size and share together, under an objective.
 *
 *     efficacy = throughput / (latency units) = batch / (L(units, batch)^2 units)
 *     subject to  1 <= batch <= max_batch,  units <= max_units
 *                 L + C <= objective       C = time to assemble the batch = (batch - 1) / rate
 *                 L <= objective / 2       the half rule, optional: a request that just missed a
 *                                          batch waits one whole run and then runs in the next
 *
 * The grid is small, so all of it is searched, exactly: its units, its batches, besides max_batch
 * where that lies between two of them, and 1.  Ties go to fewer units, then to less latency.
 * The margin is taken from the objective first, in both conditions.  Source: D-STACK as recalled
 * (efficacy, assembly time); the half rule from Nexus.
 */
#ifndef SX_COST_EFFICACY_H
#define SX_COST_EFFICACY_H

#include <stdbool.h>

#include "cost/latency.h"

struct sx_efficacy_limits {
    double objective_ns; /* > 0 */
    double rate;         /* samples per second; 0: the queue is never empty, so C = 0 */
    double margin_ns;    /* taken from the objective first: decisions, the way back */
    unsigned max_batch, max_units;
    bool half_rule;
};

struct sx_efficacy {
    bool feasible;
    unsigned units, batch;
    double ns, assembly_ns;
    double efficacy;   /* samples / (s^2 unit) */
    double throughput; /* samples per second while it runs */
    /* When nothing is feasible: what would make it so. */
    double least_objective_ns; /* the smallest objective that some cell could hold */
    unsigned least_units;      /* more units than max_units that would do; 0: none of the table */
    char why[192];             /* "one sample takes 61.3 ms on 2 units, ..."; empty if feasible */
};

/* Of a prepared table. */
void sx_efficacy_choose(const struct sx_latency *latency, const struct sx_efficacy_limits *limits,
                        struct sx_efficacy *ret_choice);

#endif
