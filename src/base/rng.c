/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.c - small seeded random numbers.
 */
#include "base/rng.h"

#include <assert.h>
#include <math.h>

__extension__ typedef unsigned __int128 u128;

void sx_rng_init(struct sx_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { // splitmix64: never yields the all-zero state
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        r->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t sx_rng_u64(struct sx_rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Lemire, "Fast random integer generation in an interval", 2019: unbiased, mostly one draw. */
uint64_t sx_rng_below(struct sx_rng *r, uint64_t n)
{
    assert(n > 0);
    u128 m = (u128)sx_rng_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t reject = -n % n; // 2^64 mod n
        while ((uint64_t)m < reject)
            m = (u128)sx_rng_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

double sx_rng_double(struct sx_rng *r)
{
    return (double)(sx_rng_u64(r) >> 11) * 0x1p-53;
}

double sx_rng_exponential(struct sx_rng *r, double mean)
{
    return -mean * log1p(-sx_rng_double(r)); // 1 - u is never 0
}

double sx_rng_gamma(struct sx_rng *r, double shape, double mean)
{
    assert(shape > 0);
    /* Below 1 the method does not apply: draw at shape + 1 and scale by u^(1/shape). */
    double scale = mean / shape, a = shape;
    if (shape < 1) {
        scale *= pow(1 - sx_rng_double(r), 1 / shape);
        a += 1;
    }
    double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = sx_rng_normal(r);
        double v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        double u = 1 - sx_rng_double(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v * scale;
    }
}

/* Marsaglia's polar method; the second number is dropped so that the state stays four words. */
double sx_rng_normal(struct sx_rng *r)
{
    for (;;) {
        double x = 2 * sx_rng_double(r) - 1, y = 2 * sx_rng_double(r) - 1;
        double s = x * x + y * y;
        if (s > 0 && s < 1)
            return x * sqrt(-2 * log(s) / s);
    }
}
