/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * moments.h - the course of a run over time, and its latencies one by one.  A part of run.c.
 */
#ifndef SX_PERF_MOMENTS_H
#define SX_PERF_MOMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"

struct sx_moment;
struct sx_run_opts;
struct sx_run_result;

/* When memory runs out the rest of the course is dropped: it is a picture, not a figure. */
struct sx_moments {
    struct sx_hist *hist; /* of the current slice */
    uint64_t from, slice_from, slice_ns, failed;
    struct sx_moment *moment;
    size_t n_moments, cap_moments;
    uint64_t *latency;
    size_t n_latencies, cap_latencies;
};

bool sx_moments_init(struct sx_moments *m);
void sx_moments_begin(struct sx_moments *m, uint64_t now, const struct sx_run_opts *o);
/* Close the slices that are over at `now`. */
void sx_moments_advance(struct sx_moments *m, uint64_t now);
void sx_moments_add(struct sx_moments *m, bool ok, uint64_t latency_ns);
void sx_moments_keep(struct sx_moments *m, uint64_t latency_ns);
/* Hand moments and sorted latencies over to the result. */
void sx_moments_end(struct sx_moments *m, uint64_t now, struct sx_run_result *r);
void sx_moments_fini(struct sx_moments *m);

#endif
