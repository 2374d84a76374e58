/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * part_int.h - what the files of partition/ share.
 *
 * Everything below the interface works on the quotient graph (graph.c): one vertex for each group
 * of nodes that must stay together, numbered in a topological order, and only those tensors that
 * a cut can separate from a reader.  A labelling is an array of bytes, one for each vertex.
 */
#ifndef SX_PARTITION_PART_INT_H
#define SX_PARTITION_PART_INT_H

#include "base/rng.h"
#include "partition/partition.h"

/* Two slowest stages this close count as equal, and bytes decide. */
#define SX_PART_CLOSE 0.01

struct sx_part_graph {
    const struct sx_part_problem *problem;
    uint32_t n, n_tensors;
    unsigned k;        /* stages */
    uint32_t *of_node; /* node -> vertex */
    double *ns;        /* [s * n + v], as the problem's */
    double *memory;    /* [v]; NULL: no limits */
    double *bytes;     /* [t] */
    uint32_t *producer;
    uint32_t *use_at, *uses; /* who reads tensor t: vertices, each once, without the producer */
    uint32_t *out_at;        /* v makes tensors out_at[v] .. out_at[v + 1]: numbered by producer */
    uint32_t *in_at, *ins;   /* v reads tensors ins[in_at[v] .. in_at[v + 1]] */
    double *work;            /* [v]: share of all work, mean over the stages; sums to 1 */
    /* Stages in which v can run, as far as the vertices before and after it allow. */
    uint8_t *least, *most;
};

/* The problem must have passed sx_part_check but for cycles, which are found here: SX_INVALID. */
enum sx_rc sx_part_graph_init(struct sx_part_graph *graph, const struct sx_part_problem *problem,
                              struct sx_err *err);
void sx_part_graph_fini(struct sx_part_graph *graph);

static inline double sx_part_fetch_ns(const struct sx_part_graph *g, unsigned from, unsigned to,
                                      uint32_t tensor)
{
    const struct sx_part_link *link = &g->problem->link[from * g->k + to];
    return link->fixed_ns + g->bytes[tensor] * link->byte_ns;
}

/* --- orders.c: topological orders of the vertices, each into ret_order[n] --- */

/* Of the vertices that are ready the one with the least key, then the least number.  SX_INVALID:
 * there is a cycle. */
enum sx_rc sx_part_order_by_key(const struct sx_part_graph *graph, const double *key,
                                uint32_t *ret_order);
/* One way through the graph at a time: everything that leads to an output, output by output
 * (`up`), or everything that follows from a source. */
enum sx_rc sx_part_order_depth(const struct sx_part_graph *graph, bool up, uint32_t *ret_order);
/* Of the vertices that are ready the one after which the fewest bytes are alive. */
enum sx_rc sx_part_order_live(const struct sx_part_graph *graph, uint32_t *ret_order);

/* --- state.c: a labelling with its value, moved vertex by vertex --- */

struct sx_part_state {
    const struct sx_part_graph *graph;
    uint8_t *label;
    uint32_t *readers; /* [t * k + s]: vertices of stage s that read t */
    double ns[SX_PART_MAX_STAGES], memory[SX_PART_MAX_STAGES];
    uint32_t size[SX_PART_MAX_STAGES];
    double bytes_cut;
    uint32_t misplaced; /* vertices in stages where they cannot run; not counted in ns */
};

/* What a labelling is worth to the search; the lower, the better. */
struct sx_part_score {
    double wrong; /* 0: valid; how far memory limits are exceeded, and vertices misplaced */
    double slowest_ns, bytes_cut, latency_ns;
};

/* What a move would change. */
struct sx_part_delta {
    double ns[SX_PART_MAX_STAGES], bytes_cut;
    int misplaced;
};

enum sx_rc sx_part_state_init(struct sx_part_state *state, const struct sx_part_graph *graph);
void sx_part_state_fini(struct sx_part_state *state);
/* A labelling that never decreases along an edge; copied. O(graph). */
void sx_part_state_set(struct sx_part_state *state, const uint8_t *label);
void sx_part_state_score(const struct sx_part_state *state, struct sx_part_score *ret_score);
/* May v go to the next stage up (to = label + 1) or down (to = label - 1)? */
bool sx_part_state_movable(const struct sx_part_state *state, uint32_t v, unsigned to);
void sx_part_state_delta(const struct sx_part_state *state, uint32_t v, unsigned to,
                         struct sx_part_delta *ret_delta);
void sx_part_state_move(struct sx_part_state *state, uint32_t v, unsigned to);
/* How far memory limits would be exceeded with these sums, in shares of all memory. */
double sx_part_excess(const struct sx_part_graph *graph, const double *memory);

/* Like sx_part_compare, on scores: wrong ones lose. */
int sx_part_score_compare(const struct sx_part_score *a, const struct sx_part_score *b);
/* The best of n: of those within 1 % of the least slowest stage, the one with the fewest bytes,
 * then the least latency.  The pairwise rule knows cycles, this one does not. */
size_t sx_part_score_best(const struct sx_part_score *scores, size_t n);

/* --- dp.c --- */

#define SX_PART_CUTS 512 /* places to cut that are considered in one order */

struct sx_part_dp;
enum sx_rc sx_part_dp_create(const struct sx_part_graph *graph, struct sx_part_dp **ret_dp);
void sx_part_dp_destroy(struct sx_part_dp *dp);
/* The best cuts of one order into consecutive ranges: ret_fast[n] with the least slowest stage,
 * ret_small[n] with the fewest bytes cut among those within 1 % of it.  False: nothing fits. */
bool sx_part_dp_run(struct sx_part_dp *dp, const uint32_t *order, uint8_t *ret_fast,
                    uint8_t *ret_small);

/* --- repair.c: from any labels to a labelling that never decreases along an edge --- */

/* Parts as METIS numbers them -> stages: the few renumberings with the fewest bytes against the
 * direction, best first, and after them the identity unless it is there.  Returns how many of
 * `cap`; *ret_acyclic: how many of the first ones have no byte against the direction. */
size_t sx_part_orient(const struct sx_part_graph *graph, const uint8_t *part,
                      uint8_t (*ret_stage)[SX_PART_MAX_STAGES], size_t cap, size_t *ret_acyclic);
/* Raise labels to those of the vertices before (`up`), or lower them to those behind. */
void sx_part_monotone(const struct sx_part_graph *graph, bool up, uint8_t *label);

/* --- refine.c --- */

enum sx_part_goal {
    SX_PART_FASTER,  /* the slowest stage, then bytes, then latency */
    SX_PART_SMALLER, /* bytes, while the slowest stage stays below `bound_ns` */
};
struct sx_part_refiner;
enum sx_rc sx_part_refiner_create(const struct sx_part_graph *graph,
                                  struct sx_part_refiner **ret_refiner);
void sx_part_refiner_destroy(struct sx_part_refiner *refiner);
/* Improve a labelling in place; never makes it worse by the goal. Returns its new score. */
void sx_part_refine(struct sx_part_refiner *refiner, enum sx_part_goal goal, double bound_ns,
                    uint8_t *label, struct sx_part_score *ret_score);

/* --- exhaustive.c --- */

#define SX_PART_EXHAUSTIVE_MAX 24 /* vertices */
/* SX_TOO_LARGE: too many vertices; SX_INVALID: no labelling is valid. */
enum sx_rc sx_part_exhaustive(const struct sx_part_graph *graph, uint8_t *ret_label,
                              struct sx_err *err);

/* --- propose.c --- */

/* As sx_metis_propose, on the quotient graph: *ret_parts holds *ret_n x n labels; free it. */
enum sx_rc sx_part_metis(const struct sx_part_graph *graph, const char *helper, uint64_t seed,
                         unsigned runs, uint8_t **ret_parts, size_t *ret_n, struct sx_err *err);

#endif
