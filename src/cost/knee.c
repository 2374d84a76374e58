/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/knee.h"

#include <string.h>

/* A speed-up below this is not worth a second unit. */
#define FLAT 1.1

void sx_knee_find(const struct sx_latency *latency, unsigned batch, double eps,
                  struct sx_knee *ret_knee)
{
    unsigned n = latency->n_units, efficacy = 0, tolerance = 0;
    double ns[SX_LATENCY_UNITS], best, most;

    memset(ret_knee, 0, sizeof *ret_knee);
    if (!n)
        return;
    for (unsigned i = 0; i < n; i++)
        ns[i] = sx_latency_ns(latency, latency->units[i], batch);
    best = ns[0] * ns[0] * latency->units[0]; /* 1 / efficacy, but for the batch */
    for (unsigned i = 1; i < n; i++) {
        double here = ns[i] * ns[i] * latency->units[i];
        if (here < best) {
            best = here;
            efficacy = i;
        }
    }
    most = ns[n - 1] * (1 + (eps > 0 ? eps : SX_KNEE_EPS)); /* the table does not go up */
    while (tolerance + 1 < n && ns[tolerance] > most)
        tolerance++;
    ret_knee->speedup = ns[n - 1] > 0 ? ns[0] / ns[n - 1] : 1;
    ret_knee->flat = ret_knee->speedup < FLAT;
    if (ret_knee->flat)
        efficacy = tolerance = 0;
    ret_knee->efficacy = latency->units[efficacy];
    ret_knee->efficacy_ns = ns[efficacy];
    ret_knee->tolerance = latency->units[tolerance];
    ret_knee->tolerance_ns = ns[tolerance];
}
