/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * latency.h - the time of a run by units and batch, as one table: what knees, plans and
 * simulations are computed from.
 *
 * Where cost.h learns in service and profile.h keeps files, this is the finished curve: plain data
 * of fixed size, ascending grids, no allocation.  What a unit is (a core, a hundredth of a GPU)
 * only the owner knows.
 *
 *     fill in by hand, sx_latency_from_cost or sx_latency_from_profile
 *        -> sx_latency_check -> sx_latency_prepare -> sx_latency_ns, knee.h, efficacy.h
 */
#ifndef SX_COST_LATENCY_H
#define SX_COST_LATENCY_H

#include <stdbool.h>

#include "base/rc.h"
#include "cost/cost.h"
#include "cost/profile.h"

#define SX_LATENCY_UNITS   32
#define SX_LATENCY_BATCHES 20
#define SX_LATENCY_MAX     (1u << 20) /* units, and samples of a batch */
/* Anything else is no time: less than a clock can tell, more than thirty years. */
#define SX_LATENCY_MIN_NS  1e-3
#define SX_LATENCY_MAX_NS  1e18

struct sx_latency {
    unsigned n_units, n_batches;
    unsigned units[SX_LATENCY_UNITS];                /* ascending, from 1 on */
    unsigned batches[SX_LATENCY_BATCHES];            /* ascending, from 1 on */
    double ns[SX_LATENCY_UNITS][SX_LATENCY_BATCHES]; /* 0: not measured, a hole */
};

/* What was measured so far; cells that never ran are holes.  False when none ever ran. */
bool sx_latency_from_cost(const struct sx_cost *cost, struct sx_latency *ret_latency);
/* All tables of a kind of device.  SX_NOT_FOUND: there are none; SX_TOO_LARGE: more than fit. */
enum sx_rc sx_latency_from_profile(const struct sx_profile *profile, const char *kind,
                                   struct sx_latency *ret_latency, struct sx_err *err);

/* SX_INVALID, with the cell's name: an empty or unordered grid, a time that is negative, not
 * finite or absurd, no cell at all. */
enum sx_rc sx_latency_check(const struct sx_latency *latency, struct sx_err *err);

/* Of a checked table: fill the holes and make it monotone: no run gets slower with more units nor
 * faster with a larger batch (isotonic over both, least squares in log time, by pooling adjacent
 * violators).  A time more than 25 % above that of the same batch on fewer units is no noise and is
 * replaced by it first: units may be left idle.  Holes of a batch are filled
 *   with three points or more   by the model of parallel.h fitted to them, led through them;
 *   with one or two             as the nearest batch that has three runs, led through them; without
 *                               one by the rule of sx_latency_ns, which promises no gain;
 *   with none                   linearly between the nearest batches, or from the nearest two.
 * Returns how many cells changed by more than 1 %, holes included.  Idempotent. */
unsigned sx_latency_prepare(struct sx_latency *latency);

/* Time in ns of `batch` samples on `units`, of a prepared table: between grid points linear in the
 * batch and in 1/units; below the least number of units in proportion to 1/units, above the
 * greatest the same time; above the greatest batch in proportion, below the least the same time.  A
 * run may always leave units idle: the result never increases with units. */
double sx_latency_ns(const struct sx_latency *latency, unsigned units, unsigned batch);

#endif
