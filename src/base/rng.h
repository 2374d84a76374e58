/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.h - small seeded random numbers (xoshiro256**, seeded by splitmix64; Blackman and Vigna,
 * "Scrambled linear pseudorandom number generators", 2018).  Same seed, same sequence, on every
 * machine.  Not for secrets.
 */
#ifndef SX_BASE_RNG_H
#define SX_BASE_RNG_H

#include <stdint.h>

struct sx_rng {
    uint64_t s[4];
};

void sx_rng_init(struct sx_rng *r, uint64_t seed);
uint64_t sx_rng_u64(struct sx_rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t sx_rng_below(struct sx_rng *r, uint64_t n);
/* Uniform in [0, 1). */
double sx_rng_double(struct sx_rng *r);
/* Exponential with the given mean: gaps of a Poisson process. */
double sx_rng_exponential(struct sx_rng *r, double mean);
/* Gamma with the given shape (> 0) and mean (Marsaglia and Tsang, 2000). */
double sx_rng_gamma(struct sx_rng *r, double shape, double mean);
double sx_rng_normal(struct sx_rng *r);

#endif
