/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.h - what a server on several devices did while it was measured, from its trace.
 */
#ifndef SX_BENCH_FLEET_H
#define SX_BENCH_FLEET_H

#include <stdio.h>

#include "sched/place.h"
#include "serve/server.h"

#define FLEET_SPANS (1u << 16) /* for sx_server_config.trace_spans */

/* The variants that are resident: `"variants": [{"name": ..., "stages": [...]}, ...]`. */
void fleet_print_variants(struct sx_model *model, FILE *out);

/* How often each variant has run, to be compared later. */
struct fleet_mark {
    uint64_t runs[SX_PLACE_VARIANTS];
    size_t n;
};
void fleet_mark(struct sx_model *model, struct fleet_mark *mark);
/* Since the mark: `"runs": [by variant]`.  Within [begin, end] (sx_now): `"busy": [by device],
 * "all_busy": share` of the time; and of the runs of stages that lie in it `"spans": [{"variant":,
 * "stage":, "n":, "median_ns":, "predicted_ns":}, ...]`, predicted as the scheduler believed. */
void fleet_print(struct sx_server *server, struct sx_model *model, unsigned n_devices,
                 const struct fleet_mark *mark, uint64_t begin, uint64_t end, FILE *out);

#endif
