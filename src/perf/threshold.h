/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * threshold.h - which load to try next, when the highest one that holds is wanted.
 *
 * Pure decisions: the caller measures.  The search doubles the load from `start` until one does
 * not hold, then halves the interval.  Measurements of a server near its limit are noisy, so a
 * load counts only after `votes` equal outcomes; the one exception is climbing, where a single
 * success is enough, because a mistake there is found when the interval closes in.
 *
 *     sx_threshold_init -> while (sx_threshold_next(&load)) sx_threshold_tell(held) -> read lo, hi
 */
#ifndef SX_PERF_THRESHOLD_H
#define SX_PERF_THRESHOLD_H

#include <stdbool.h>

struct sx_threshold {
    /* set up */
    double start, min, max; /* loads; the search stays within */
    double precision;       /* stop when hi <= lo * (1 + precision) */
    int votes;
    bool whole; /* loads are whole numbers */
    /* known: lo held (0: none did), hi did not (0: none) */
    double lo, hi;
    bool lo_sure; /* lo has all its votes */
    /* the load being voted on */
    double now;
    int yes, no;
    int trials;
};

/* precision 0.02, 2 votes; change the fields before the first call of next. */
void sx_threshold_init(struct sx_threshold *t, double start, double min, double max);
/* The load to measure next; false when the search is over. */
bool sx_threshold_next(struct sx_threshold *t, double *ret_load);
/* Whether that load held. */
void sx_threshold_tell(struct sx_threshold *t, bool held);

#endif
