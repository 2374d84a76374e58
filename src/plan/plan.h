/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - how a model is cut and where its stages run: immutable data, with a file format.
 *
 * A plan says what was predicted and for what: the model, the machine, the engine's build, the
 * devices, a batch size.  A file made for something else is refused.  Plans come from partition/
 * through sx_plan_make, from files, or whole (one stage, one device).
 */
#ifndef SX_PLAN_PLAN_H
#define SX_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rc.h"
#include "base/sbuf.h"
#include "cost/profile.h"
#include "graph/dag.h"
#include "machine/machine.h"

#define SX_PLAN_FORMAT     1
#define SX_PLAN_MAX_STAGES 16
#define SX_PLAN_MAX_JOBS   64 /* in a picture */

struct sx_plan_stage {
    unsigned device; /* index in devices */
    uint32_t *nodes; /* ascending; n_nodes of them */
    uint32_t n_nodes;
    double ns, transfer_ns;     /* predicted: computing; fetching its inputs */
    double in_bytes, out_bytes; /* cut tensors only */
    uint64_t weight_bytes;
};

struct sx_plan {
    struct sx_profile_key key; /* model, machine, engine, number of nodes */
    char name[64];             /* "whole on cpu:0", "cpu:1@8 | cpu:0" */
    unsigned batch;
    char devices[SX_PLAN_MAX_STAGES][24]; /* names */
    unsigned n_devices;
    struct sx_plan_stage *stages; /* in the order of the pipeline; none empty */
    unsigned n_stages;
    double latency_ns, slowest_ns, bytes_cut; /* throughput: batch / slowest_ns */
    char method[16];                          /* "metis", "topological", "whole", ... */
    bool refined;
    double proposed_ns[3]; /* slowest stage as METIS, the DP, exhaustive search proposed; 0: none */
};

void sx_plan_destroy(struct sx_plan *plan); /* NULL is fine */
/* Does it cover every node once, in convex stages that keep groups, in order? */
enum sx_rc sx_plan_check(const struct sx_plan *plan, const struct sx_dag *dag, struct sx_err *err);

/* JSON, written atomically. */
enum sx_rc sx_plan_save(const struct sx_plan *plan, const char *path, struct sx_err *err);
/* SX_INVALID: damaged, or `key` (may be NULL) says it is for something else; the message names
 * what differs. */
enum sx_rc sx_plan_load(const char *path, const struct sx_profile_key *key,
                        struct sx_plan **ret_plan, struct sx_err *err);

/* Predicted samples per second; 0 when nothing is predicted. */
double sx_plan_throughput(const struct sx_plan *plan);
/* A stage runs on an emulated device ("cpu:1@8"): its figures are of a what-if, and whoever shows
 * them says so. */
bool sx_plan_emulated(const struct sx_plan *plan);
/* "{...}" as in the file, on one line, without the nodes when `brief`. */
void sx_plan_json(const struct sx_plan *plan, bool brief, struct sx_sbuf *out);

/* What really happened to a job's stages, for comparison; times from one start. */
struct sx_plan_span {
    unsigned job, stage;
    double begin_ns, end_ns;
};
/* A table for people.  dag (may be NULL) names the operators; measured (n_stages medians of whole
 * stages, 0: none; may be NULL) stands beside the prediction. */
void sx_plan_text(const struct sx_plan *plan, const struct sx_dag *dag, const double *measured,
                  struct sx_sbuf *out);
/* A Gantt picture of `jobs` (1 to SX_PLAN_MAX_JOBS; else the nearest) consecutive jobs in a
 * saturated pipeline as predicted, and, if there are spans, the first `jobs` measured ones below it
 * on the same scale, from the first one's begin.  Self-contained SVG, light or dark as the reader
 * has it. */
void sx_plan_gantt(const struct sx_plan *plan, unsigned jobs, const struct sx_plan_span *spans,
                   size_t n_spans, struct sx_sbuf *out);

#endif
