/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * parallel.h - how much parallelism a model has: an analytical model of time by units.
 *
 * A model is K kernels; kernel i has N_i operations that could run at once, fewer from kernel to
 * kernel.  With S units:
 *
 *     (1) N_1 = p b,  N_i = floor(N_(i-1) - p b / K)
 *     (2) serial   = b sum_i R_i t_np                       does not shrink with S
 *     (3) parallel = sum_i R_i N_i t_p / max(1, min(S, N_i))
 *     (4) memory   = sum_i d_i / (M S)
 *     (5) E(S)     = serial + parallel + memory
 *
 * The floor of (1) is taken of each N_i, not along the chain: rounding down from kernel to kernel
 * would lose up to one operation at each.  A kernel without operations takes serial time only.
 *
 * Source: D-STACK (arXiv 2304.13541) as recalled; names may differ from the paper's.
 */
#ifndef SX_COST_PARALLEL_H
#define SX_COST_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>

/* (1)-(5) with R_i = 1 and one figure for all memory traffic. */
struct sx_parallel {
    unsigned kernels;   /* K */
    double operations;  /* p: of the first kernel at batch 1 */
    double op_time;     /* t_p */
    double serial_time; /* t_np */
    double memory_time; /* sum_i d_i / M: with one unit */
};
double sx_parallel_time(const struct sx_parallel *model, unsigned batch, unsigned units);

/* The same shape with free factors, fitted to measured times:
 * L(S) = serial + op sum_i N_i / max(1, min(S, N_i)) + memory / S, all factors >= 0, for the N_1
 * that fits best. */
struct sx_parallel_fit {
    double serial, op, memory;
    unsigned first, kernels; /* N_1, K */
    double error;            /* root mean square of relative errors */
};
/* `n` pairs (at most 64), at least 3 of different units, times > 0 and finite; false otherwise.
 * Non-negative least squares of relative errors over a scan of N_1 in 1..4 max(units); K is 50.
 * Among equally good ones the least N_1: less is promised beyond what was measured.  Some 20 us for
 * 10 points. */
bool sx_parallel_fit(const unsigned *units, const double *ns, size_t n,
                     struct sx_parallel_fit *ret_fit);
double sx_parallel_fit_ns(const struct sx_parallel_fit *fit, unsigned units);

#endif
