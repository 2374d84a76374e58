/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.h - a histogram of durations with bounded relative error.
 *
 * Buckets are log-linear: 64 per power of two, so a quantile is off by at most 1/64 (1.6 %) of
 * its value, from 1 ns to 2^40 ns (18 minutes; longer ones count as that).  Fixed size (19 KiB),
 * never allocates.  Not thread-safe: one owner, or a guard of the owner's.
 */
#ifndef SX_BASE_HIST_H
#define SX_BASE_HIST_H

#include <stdint.h>

#define SX_HIST_SUB     64
#define SX_HIST_BUCKETS ((40 - 6) * SX_HIST_SUB + SX_HIST_SUB)

struct sx_hist {
    uint64_t count, sum_ns, min_ns, max_ns;
    double sum_sq; /* of seconds, for the standard deviation */
    uint64_t bucket[SX_HIST_BUCKETS];
};

void sx_hist_init(struct sx_hist *h);
void sx_hist_add(struct sx_hist *h, uint64_t ns);
void sx_hist_merge(struct sx_hist *into, const struct sx_hist *from);
/* The value at or below which a share `q` (0..1) of the samples lies (nearest rank); 0 when
 * empty; exact for the smallest and the largest sample. */
uint64_t sx_hist_quantile(const struct sx_hist *h, double q);
/* In nanoseconds; 0 when empty.  The deviation is the sample's (n - 1). */
double sx_hist_mean(const struct sx_hist *h);
double sx_hist_stddev(const struct sx_hist *h);
/* How many samples are <= ns, up to the bucket width; for cumulative exports. */
uint64_t sx_hist_count_le(const struct sx_hist *h, uint64_t ns);

#endif
