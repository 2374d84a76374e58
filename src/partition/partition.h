/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * partition.h - cut a graph of operators into stages of a pipeline.
 *
 * The stages form a line: stage s runs on a device of its own, and every tensor goes from a stage
 * to itself or a later one.  So a cut is a labelling stage[node] that never decreases along an
 * edge; any such labelling is acyclic and each stage convex.
 *
 * Objective, in this order: the time of the slowest stage (that is what limits throughput: 1 /
 * slowest); among cuts within 1 % of each other, fewer bytes cut; then the latency of one request
 * (the sum over stages).  The time of a stage is that of its nodes on its device plus the time to
 * fetch its inputs: each tensor that an earlier stage made counts once, by the link between the
 * two.  Inputs of the graph are everywhere; its outputs are fetched by nobody.  Bytes cut count a
 * tensor once for each stage that fetches it.
 *
 * Methods.  Each proposes; all are repaired to valid labellings, refined, and the best wins.
 *   metis        METIS k-way and recursive, several seeds, in a child process (metis.c)
 *   topological  dynamic programme over the prefixes of several topological orders (dp.c)
 *   exhaustive   all labellings, for small graphs: the tests' oracle, and the last resort where
 *                memory is short (exhaustive.c)
 * Published ground: METIS does not know direction; Tarnawski et al., NeurIPS 2020, cut along
 * down-sets.
 *
 * Pure but for the child: no clock, no threads; seeds fixed.  Blocks while it computes.
 */
#ifndef SX_PARTITION_PARTITION_H
#define SX_PARTITION_PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"

#define SX_PART_MAX_STAGES 16
#define SX_PART_NONE       UINT32_MAX

/* From one device to another: ns = fixed_ns + bytes * byte_ns for each tensor. */
struct sx_part_link {
    double fixed_ns, byte_ns;
};

/* The caller owns all arrays. */
struct sx_part_problem {
    uint32_t n_nodes, n_tensors; /* nodes in topological order */
    unsigned n_stages;
    /* times: ns of node v as part of stage s: node_ns[s * n_nodes + v] (infinite: cannot run
     * there)*/
    const double *node_ns;
    const double *node_memory;  /* bytes of v's weights; NULL: no limit on memory */
    const double *memory_limit; /* per stage; NULL: none */
    const uint32_t *producer;   /* per tensor; SX_PART_NONE: an input of the graph */
    const uint32_t *use_at; /* n_tensors + 1: tensor t is read by uses[use_at[t] .. use_at[t+1]) */
    const uint32_t *uses;   /* ascending nodes, each once per tensor */
    const double *bytes;    /* per tensor */
    const uint32_t *group;  /* per node: nodes with the same number stay together; NULL: all free.
                               The quotient by groups is acyclic. */
    const struct sx_part_link *link; /* [from * n_stages + to] */
    double stage_ns;                 /* added to each stage with nodes in it: what a task costs */
};

struct sx_part_value {
    double slowest_ns, latency_ns, bytes_cut;
    double stage_ns[SX_PART_MAX_STAGES], stage_memory[SX_PART_MAX_STAGES];
};

enum sx_part_method { SX_PART_METIS, SX_PART_TOPOLOGICAL, SX_PART_EXHAUSTIVE, SX_PART_METHODS };

struct sx_part_options {
    unsigned methods;         /* bits 1 << method; 0: metis and topological */
    bool no_refine;           /* as proposed and repaired, for comparisons */
    const char *metis_helper; /* program; NULL: looked for (metis.h) */
    uint64_t seed;
};

struct sx_part_result {
    uint32_t *stage; /* per node; owned: sx_part_result_fini */
    struct sx_part_value value;
    enum sx_part_method method; /* where the winner came from */
    bool refined;               /* refinement changed it */
    char note[160];             /* "" or why METIS had no say */
    /* The best of each method before refinement, for explain: INFINITY when it gave none. */
    double proposed_ns[SX_PART_METHODS], proposed_bytes[SX_PART_METHODS];
    /* Raw METIS partitions, those whose quotient was acyclic (the parts then are stages in some
     * order) and that fit, and the best of these: INFINITY when there was none. */
    unsigned metis_runs, metis_valid;
    double metis_raw_ns, metis_raw_bytes;
    double rival_ns; /* the least slowest stage among all that the winner must not be worse than */
};

/* Check what a caller may get wrong: order, ranges, sizes. SX_INVALID says which. */
enum sx_rc sx_part_check(const struct sx_part_problem *problem, struct sx_err *err);
/* Is the labelling valid: never decreasing along an edge, groups whole, each node where it can run,
 * memory within limits?  (Short of memory of our own: false.) */
bool sx_part_valid(const struct sx_part_problem *problem, const uint32_t *stage);
/* Value of a valid labelling. */
void sx_part_evaluate(const struct sx_part_problem *problem, const uint32_t *stage,
                      struct sx_part_value *ret_value);
/* Is a better than b, by the objective above?  Negative: a; positive: b; 0: the same.  Of three
 * values each may be better than the next in a circle, because of the 1 %: don't sort by it. */
int sx_part_compare(const struct sx_part_value *a, const struct sx_part_value *b);

/* The best labelling found: not worse than the best cut of the order of the nodes, nor than any
 * valid METIS partition that was made, where "within 1 %" counts from the least slowest stage among
 * all of these and the winner.  SX_INVALID: the problem is wrong, or nothing was found that fits
 * (memory, or a node runs nowhere).  An empty stage is allowed: a device that does not pay is not
 * used.  METIS failing is no failure: see `note`. */
enum sx_rc sx_part_solve(const struct sx_part_problem *problem,
                         const struct sx_part_options *options, struct sx_part_result *ret_result,
                         struct sx_err *err);
void sx_part_result_fini(struct sx_part_result *result);
const char *sx_part_method_text(enum sx_part_method method);

#endif
