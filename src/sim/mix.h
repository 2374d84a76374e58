/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * mix.h - models and mixes of the D-STACK paper, as recalled: for comparisons in virtual time.
 *
 * One figure of time for each model is recalled, at its knee and a batch of 16, of a V100 whose
 * units are hundredths of it.  The rest of its table is an assumption: below the knee time grows
 * with 1 / units, above it does not change, and a smaller batch takes as long as 16.  Whoever
 * prints a result of these says "recalled" and "simulated".
 */
#ifndef SX_SIM_MIX_H
#define SX_SIM_MIX_H

#include "cost/latency.h"

#define SX_MIX_UNITS  100
#define SX_MIX_MODELS 8

struct sx_mix_model {
    const char *name;
    unsigned knee; /* units of 100 */
    double objective_ms;
    unsigned batch;
    double run_ms; /* at the knee */
};

struct sx_mix {
    const char *name; /* "c4" */
    const struct sx_mix_model *models[SX_MIX_MODELS];
    unsigned n_models;
};

/* "c2", "c3", "c4", "c7", "convnets"; NULL: no such mix. */
const struct sx_mix *sx_mix_find(const char *name);
/* All of them; the last has no name. */
const struct sx_mix *sx_mixes(void);
/* "AlexNet", "ResNet-50", ...; NULL: no such model. */
const struct sx_mix_model *sx_mix_model_find(const char *name);

/* A prepared table on SX_MIX_UNITS units in steps of a tenth: `ns` from `knee` units on, below it
 * (knee / units)^exponent times that; the same for all batches from 1 to `batch`. */
void sx_mix_latency(unsigned knee, unsigned batch, double ns, double exponent,
                    struct sx_latency *ret_latency);

#endif
