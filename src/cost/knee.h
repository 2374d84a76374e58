/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * knee.h - the smallest share of a machine that a model uses well.
 *
 * Two rules, both over the grid of a prepared table (latency.h), both reported:
 *   by efficacy    argmax 1 / (L(p)^2 p): stop adding units when one per cent more of them buys
 *                  less than half a per cent of time (the square is what gives an inner optimum:
 *                  L p alone is least at the smallest p for every concave speed-up);
 *   by tolerance   min p with L(p) <= (1 + eps) min L.
 * Source: efficacy as published with D-STACK; the rules' exact form is ours.
 */
#ifndef SX_COST_KNEE_H
#define SX_COST_KNEE_H

#include <stdbool.h>

#include "cost/latency.h"

#define SX_KNEE_EPS 0.10

struct sx_knee {
    unsigned efficacy, tolerance; /* units, of the grid; ties go to the fewer */
    double efficacy_ns, tolerance_ns;
    double speedup; /* L(least units of the grid) / min L */
    bool flat;      /* more units gain nothing worth having (speedup < 1.1): both knees are the
                       least of the grid.  Bound by the host, by memory, or without parallelism. */
};

/* `eps`: tolerance, 0 for SX_KNEE_EPS. */
void sx_knee_find(const struct sx_latency *latency, unsigned batch, double eps,
                  struct sx_knee *ret_knee);

#endif
