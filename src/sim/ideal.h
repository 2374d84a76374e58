/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ideal.h - what no real scheduler can do: give each kernel its own units, and take them away
 * again.
 *
 * A model is a row of kernels.  In slots of 100 us any set of models may compute, each at the
 * present kernel's own knee, and one more on the units that are left, below its knee; the rest
 * waits where it is, at no cost.  For each slot all such choices are tried: those that a window
 * needs now go first, by deadline, then the choice that uses most units, and of equal ones the one
 * whose models had least.  Without the one below its knee, wide kernels (some want the whole
 * machine) would leave a third of it idle, and schedulers of whole runs beat the ideal.
 *
 * Kernels are derived from the parallel model (cost/parallel.h): N_1 operations at first, fewer
 * from kernel to kernel, time t_np + t_p N_i / min(S, N_i) on S units, with t_p : t_np = 4 : 1 and
 * 50 kernels as in the paper's example (recalled).  Of the N_1 that put the whole model's knee
 * (efficacy as in knee.h, over all units) at the one wanted, the middle one is taken; t_p is scaled
 * so that the whole takes the time wanted there.  A kernel's own knee is where S (t_np + t_p N_i /
 * S)^2 is least: N_i units, as t_p > t_np, or all that there are.
 */
#ifndef SX_SIM_IDEAL_H
#define SX_SIM_IDEAL_H

#include <stdbool.h>

#include "base/rc.h"
#include "cost/latency.h"

#define SX_IDEAL_KERNELS 50
#define SX_IDEAL_MODELS  8
#define SX_IDEAL_SLOT_NS 100e3

struct sx_ideal_model {
    double objective_ns; /* the window in which one run must begin and end */
    unsigned batch;
    unsigned n_kernels;
    unsigned operations[SX_IDEAL_KERNELS]; /* N_i */
    unsigned knee[SX_IDEAL_KERNELS];       /* of each kernel, in units */
    double op_ns, serial_ns;               /* t_p, t_np */
};

/* Kernels whose sum on `knee` of `n_units` units takes `ns` and has its knee there, on a grid of
 * twentieths of the units.  SX_INVALID: no number of operations does; a knee that is no twentieth.
 */
enum sx_rc sx_ideal_model(unsigned n_units, unsigned knee, double ns, unsigned batch,
                          double objective_ns, struct sx_ideal_model *ret_model,
                          struct sx_err *err);
/* Time of the whole on so many units, and as a table (prepared) for schedulers of whole runs. */
double sx_ideal_model_ns(const struct sx_ideal_model *model, unsigned units);
void sx_ideal_latency(const struct sx_ideal_model *model, unsigned n_units,
                      struct sx_latency *ret_latency);

struct sx_ideal_result {
    double utilisation; /* units in use times time, over all */
    double throughput;  /* samples per second */
    unsigned long long runs[SX_IDEAL_MODELS], windows, missed;
};
/* Endless queues for so long, from windows that begin together; up to `at_once` runs of each model
 * at a time, of which the first has the promise to keep.  n >= 1, n * at_once <= SX_IDEAL_MODELS.
 */
void sx_ideal_run(const struct sx_ideal_model *models, unsigned n, unsigned at_once,
                  unsigned n_units, double seconds, struct sx_ideal_result *ret_result);

/* Of the unit-time of a whole run on so many units, the part in which its kernels use them.  A run
 * at its knee counts as useful all over (sim.h), but its narrow kernels leave units idle. */
double sx_ideal_used(const struct sx_ideal_model *model, unsigned units);

#endif
