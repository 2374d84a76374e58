/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.c - a histogram of durations.
 *
 * Buckets 0..63 hold one nanosecond each.  From 64 ns on, every power of two [2^e, 2^(e+1)) has
 * 64 buckets of 2^(e-6) ns: the bucket is the exponent and the six bits after the leading one.
 */
#include "base/hist.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SUB_BITS = 6 };

#define LONGEST (UINT64_C(1) << 40)

_Static_assert(SX_HIST_SUB == 1 << SUB_BITS, "a bucket index is cut out of the value's bits");

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SX_HIST_SUB)
        return (unsigned)ns;
    if (ns >= LONGEST)
        return SX_HIST_BUCKETS - 1;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return shift * SX_HIST_SUB + (unsigned)(ns >> shift);
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_top(unsigned b)
{
    if (b < SX_HIST_SUB)
        return b;
    unsigned shift = b / SX_HIST_SUB - 1;
    return ((uint64_t)(b % SX_HIST_SUB + SX_HIST_SUB + 1) << shift) - 1;
}

void sx_hist_init(struct sx_hist *h)
{
    memset(h, 0, sizeof *h);
}

void sx_hist_add(struct sx_hist *h, uint64_t ns)
{
    if (ns > LONGEST)
        ns = LONGEST;
    if (h->count == 0 || ns < h->min_ns)
        h->min_ns = ns;
    if (h->count == 0 || ns > h->max_ns)
        h->max_ns = ns;
    double s = (double)ns * 1e-9;
    h->count++;
    h->sum_ns += ns;
    h->sum_sq += s * s;
    h->bucket[bucket_of(ns)]++;
}

void sx_hist_merge(struct sx_hist *into, const struct sx_hist *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (into->count == 0 || from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    into->sum_sq += from->sum_sq;
    for (unsigned b = 0; b < SX_HIST_BUCKETS; b++)
        into->bucket[b] += from->bucket[b];
}

uint64_t sx_hist_quantile(const struct sx_hist *h, double q)
{
    if (h->count == 0)
        return 0;
    /* 0.07 * 100 is a little over 7 and must still be rank 7. */
    double rank = ceil(q * (double)h->count * (1 - 4 * DBL_EPSILON));
    if (!(rank > 1)) // NaN, too
        return h->min_ns;
    if (rank >= (double)h->count)
        return h->max_ns;
    uint64_t need = (uint64_t)rank, seen = 0;
    for (unsigned b = 0; b < SX_HIST_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen >= need) {
            uint64_t top = bucket_top(b);
            return top < h->max_ns ? top : h->max_ns;
        }
    }
    return h->max_ns;
}

double sx_hist_mean(const struct sx_hist *h)
{
    return h->count > 0 ? (double)h->sum_ns / (double)h->count : 0;
}

double sx_hist_stddev(const struct sx_hist *h)
{
    if (h->count < 2)
        return 0;
    double n = (double)h->count;
    double mean = (double)h->sum_ns * 1e-9 / n;
    double var = (h->sum_sq - n * mean * mean) / (n - 1);
    return var > 0 ? sqrt(var) * 1e9 : 0; // equal samples may round to just below zero
}

uint64_t sx_hist_count_le(const struct sx_hist *h, uint64_t ns)
{
    if (h->count == 0 || ns < h->min_ns)
        return 0;
    if (ns >= h->max_ns)
        return h->count;
    uint64_t n = 0;
    for (unsigned b = 0, last = bucket_of(ns); b <= last; b++)
        n += h->bucket[b];
    return n;
}
