/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * problem_test.h - seeded random problems, for tests and benchmarks.
 *
 * Shapes like those of models, with times and tensors over two decades.  The arrays are part of the
 * made problem; made_free.  Aborts when memory runs out: it is not for the program.
 */
#ifndef SX_PARTITION_PROBLEM_TEST_H
#define SX_PARTITION_PROBLEM_TEST_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "partition/partition.h"

enum made_shape { MADE_SERIES_PARALLEL, MADE_LAYERS, MADE_RANDOM, MADE_CHAIN_WITH_SKIPS };
#define MADE_SHAPES 4

struct made {
    struct sx_part_problem problem;
    double *node_ns, *node_memory, *memory_limit, *bytes;
    uint32_t *producer, *use_at, *uses, *group;
    struct sx_part_link link[SX_PART_MAX_STAGES * SX_PART_MAX_STAGES];
    /* while it is made: edges[v] .. of one tensor per node */
    uint32_t *from, *to, n_edges, cap_edges;
};

static inline void *made_array(size_t n, size_t size)
{
    void *a = calloc(n + 1, size);
    if (!a)
        abort();
    return a;
}

static inline void made_edge(struct made *m, uint32_t from, uint32_t to)
{
    if (m->n_edges == m->cap_edges) {
        m->cap_edges = m->cap_edges ? 2 * m->cap_edges : 64;
        m->from = realloc(m->from, m->cap_edges * sizeof *m->from);
        m->to = realloc(m->to, m->cap_edges * sizeof *m->to);
        if (!m->from || !m->to)
            abort();
    }
    m->from[m->n_edges] = from;
    m->to[m->n_edges++] = to;
}

static inline double made_decades(struct sx_rng *r, double least, double decades)
{
    return least * pow(10, decades * sx_rng_double(r));
}

static inline void made_free(struct made *m)
{
    free(m->node_ns);
    free(m->node_memory);
    free(m->memory_limit);
    free(m->bytes);
    free(m->producer);
    free(m->use_at);
    free(m->uses);
    free(m->group);
    free(m->from);
    free(m->to);
}

/* Edges -> one tensor for each node (some with a second one), its readers in order. */
static inline void made_tensors(struct made *m, struct sx_rng *r, double least_bytes)
{
    struct sx_part_problem *p = &m->problem;
    uint32_t n = p->n_nodes, *count = made_array(n, sizeof *count);
    m->producer = made_array(n, sizeof *m->producer);
    m->bytes = made_array(n, sizeof *m->bytes);
    m->use_at = made_array(n + 1ul, sizeof *m->use_at);
    m->uses = made_array(m->n_edges, sizeof *m->uses);
    p->n_tensors = n;
    for (uint32_t i = 0; i < m->n_edges; i++)
        m->use_at[m->from[i] + 1]++;
    for (uint32_t v = 0; v < n; v++)
        m->use_at[v + 1] += m->use_at[v];
    for (uint32_t i = 0; i < m->n_edges; i++)
        m->uses[m->use_at[m->from[i]] + count[m->from[i]]++] = m->to[i];
    uint32_t out = 0, begin = 0;
    for (uint32_t v = 0; v < n; v++) {
        uint32_t end = m->use_at[v + 1], first = out;
        for (uint32_t i = begin + 1; i < end; i++) { /* by insertion: nearly in order */
            uint32_t at = i, x = m->uses[i];
            for (; at > begin && m->uses[at - 1] > x; at--)
                m->uses[at] = m->uses[at - 1];
            m->uses[at] = x;
        }
        for (uint32_t i = begin; i < end; i++) {
            if (out == first || m->uses[out - 1] != m->uses[i])
                m->uses[out++] = m->uses[i];
        }
        begin = end;
        m->use_at[v + 1] = out;
        m->producer[v] = v;
        m->bytes[v] = made_decades(r, least_bytes, 2);
    }
    free(count);
    p->producer = m->producer;
    p->bytes = m->bytes;
    p->use_at = m->use_at;
    p->uses = m->uses;
}

/* Times of each node, a little different from stage to stage; `share[s]`: speed of stage s. */
static inline void made_times(struct made *m, struct sx_rng *r, unsigned stages,
                              const double *share)
{
    struct sx_part_problem *p = &m->problem;
    p->n_stages = stages;
    m->node_ns = made_array((size_t)stages * p->n_nodes, sizeof *m->node_ns);
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        double ns = made_decades(r, 1e4, 2);
        for (unsigned s = 0; s < stages; s++)
            m->node_ns[(size_t)s * p->n_nodes + v] = ns / share[s] * (0.8 + 0.4 * sx_rng_double(r));
    }
    p->node_ns = m->node_ns;
    p->link = m->link;
}

static inline void made_links(struct made *m, double fixed_ns, double byte_ns)
{
    unsigned k = m->problem.n_stages;
    for (unsigned i = 0; i < k * k; i++)
        m->link[i] =
            i / k == i % k ? (struct sx_part_link){0, 0} : (struct sx_part_link){fixed_ns, byte_ns};
}

/* Speeds: equal, or the first stage 80 % and the rest equal. */
static inline void made_shares(unsigned stages, bool equal, double *ret_share)
{
    for (unsigned s = 0; s < stages; s++)
        ret_share[s] = equal || stages == 1 ? 1.0 / stages : s == 0 ? 0.8 : 0.2 / (stages - 1);
}

static inline void made_shape(struct made *m, struct sx_rng *r, enum made_shape shape, uint32_t n)
{
    m->problem.n_nodes = n;
    switch (shape) {
    case MADE_SERIES_PARALLEL: { /* blocks of branches that meet again */
        uint32_t v = 0;
        while (v + 1 < n) {
            uint32_t head = v++, branches = 1 + (uint32_t)sx_rng_below(r, 4), tails[4], made = 0;
            for (uint32_t b = 0; b < branches && v + 1 < n; b++) {
                uint32_t length = 1 + (uint32_t)sx_rng_below(r, 3), last = head;
                for (uint32_t i = 0; i < length && v + 1 < n; i++) {
                    made_edge(m, last, v);
                    last = v++;
                }
                tails[made++] = last;
            }
            for (uint32_t b = 0; b < made; b++) /* the next block's head joins them */
                made_edge(m, tails[b], v);
            if (made == 0)
                made_edge(m, head, v);
        }
        break;
    }
    case MADE_LAYERS: {
        uint32_t begin = 0, end = 1 + (uint32_t)sx_rng_below(r, 3);
        while (end < n) {
            uint32_t next = end + 1 + (uint32_t)sx_rng_below(r, 4);
            next = next < n ? next : n;
            for (uint32_t v = end; v < next; v++) {
                made_edge(m, begin + (uint32_t)sx_rng_below(r, end - begin), v);
                if (sx_rng_below(r, 2))
                    made_edge(m, begin + (uint32_t)sx_rng_below(r, end - begin), v);
            }
            begin = end;
            end = next;
        }
        break;
    }
    case MADE_RANDOM:
        for (uint32_t v = 1; v < n; v++) {
            uint32_t in = (uint32_t)sx_rng_below(r, 4);
            for (uint32_t i = 0; i < in; i++)
                made_edge(m, (uint32_t)sx_rng_below(r, v), v);
        }
        break;
    case MADE_CHAIN_WITH_SKIPS:
        for (uint32_t v = 1; v < n; v++) {
            made_edge(m, v - 1, v);
            if (v > 2 && sx_rng_below(r, 3) == 0)
                made_edge(m, (uint32_t)sx_rng_below(r, v - 1), v);
        }
        break;
    }
}

/* A random problem of n nodes; links from free to as slow as computing. */
static inline void made_init(struct made *m, uint64_t seed, enum made_shape shape, uint32_t n,
                             unsigned stages, bool equal)
{
    struct sx_rng r;
    double share[SX_PART_MAX_STAGES];
    memset(m, 0, sizeof *m);
    sx_rng_init(&r, seed);
    made_shape(m, &r, shape, n);
    made_tensors(m, &r, 1e4);
    made_shares(stages, equal, share);
    made_times(m, &r, stages, share);
    made_links(m, made_decades(&r, 100, 2), made_decades(&r, 1e-3, 3));
    m->problem.stage_ns = 5000;
}

/* Make the problem harder: groups of neighbours that stay together, and memory that is short. */
static inline void made_groups(struct made *m, uint64_t seed)
{
    struct sx_rng r;
    sx_rng_init(&r, seed);
    m->group = made_array(m->problem.n_nodes, sizeof *m->group);
    for (uint32_t v = 0; v < m->problem.n_nodes;
         v++) /* runs of the order: the quotient is acyclic */
        m->group[v] = v > 0 && sx_rng_below(&r, 3) == 0 ? m->group[v - 1] : v;
    m->problem.group = m->group;
}

static inline void made_memory(struct made *m, uint64_t seed, double room)
{
    struct sx_rng r;
    double all = 0;
    sx_rng_init(&r, seed);
    m->node_memory = made_array(m->problem.n_nodes, sizeof *m->node_memory);
    m->memory_limit = made_array(m->problem.n_stages, sizeof *m->memory_limit);
    for (uint32_t v = 0; v < m->problem.n_nodes; v++)
        all += m->node_memory[v] = made_decades(&r, 1e4, 1);
    for (unsigned s = 0; s < m->problem.n_stages; s++)
        m->memory_limit[s] = room * all / m->problem.n_stages;
    m->problem.node_memory = m->node_memory;
    m->problem.memory_limit = m->memory_limit;
}

#endif
