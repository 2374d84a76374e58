/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * graph.c - the quotient by groups, in topological order, with what the search asks of it.
 *
 * It is made twice when there are groups: the numbers that groups get by their least nodes need
 * not be a topological order of the groups, so the first graph is ordered and numbered again.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

void sx_part_graph_fini(struct sx_part_graph *g)
{
    free(g->of_node);
    free(g->ns);
    free(g->memory);
    free(g->bytes);
    free(g->producer);
    free(g->use_at);
    free(g->uses);
    free(g->out_at);
    free(g->in_at);
    free(g->ins);
    free(g->work);
    free(g->least);
    free(g->most);
    *g = (struct sx_part_graph){0};
}

/* Number the groups by their least nodes. */
static enum sx_rc number_groups(const struct sx_part_problem *p, uint32_t *of_node, uint32_t *ret_n)
{
    uint32_t *number = malloc(p->n_nodes * sizeof *number), n = 0;
    if (!number)
        return SX_NO_MEMORY;
    for (uint32_t v = 0; v < p->n_nodes; v++)
        number[v] = SX_PART_NONE;
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        uint32_t group = p->group ? p->group[v] : v;
        if (number[group] == SX_PART_NONE)
            number[group] = n++;
        of_node[v] = number[group];
    }
    free(number);
    *ret_n = n;
    return SX_OK;
}

/* Write the vertices other than the producer's that read tensor t of the problem; `seen` holds for
 * each vertex the last stamp.  `to` may be NULL: count only. */
static uint32_t readers_of(const struct sx_part_graph *g, uint32_t t, uint32_t *seen,
                           uint32_t stamp, uint32_t *to)
{
    const struct sx_part_problem *p = g->problem;
    uint32_t made = g->of_node[p->producer[t]], n = 0;
    seen[made] = stamp;
    for (uint32_t i = p->use_at[t]; i < p->use_at[t + 1]; i++) {
        uint32_t v = g->of_node[p->uses[i]];
        if (seen[v] == stamp)
            continue;
        seen[v] = stamp;
        if (to)
            to[n] = v;
        n++;
    }
    return n;
}

/* Tensors of the quotient, by producer; g->n and g->of_node are there. */
static enum sx_rc make_tensors(struct sx_part_graph *g)
{
    const struct sx_part_problem *p = g->problem;
    enum sx_rc rc = SX_NO_MEMORY;
    uint32_t *seen = calloc(g->n, sizeof *seen), stamp = 0, n_uses = 0;
    uint32_t *next = calloc(g->n + 1, sizeof *next), *from = NULL;
    g->out_at = calloc(g->n + 1, sizeof *g->out_at);
    g->in_at = calloc(g->n + 1, sizeof *g->in_at);
    if (!seen || !next || !g->out_at || !g->in_at)
        goto out;
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        if (p->producer[t] == SX_PART_NONE)
            continue;
        uint32_t n = readers_of(g, t, seen, ++stamp, NULL);
        n_uses += n;
        g->out_at[g->of_node[p->producer[t]] + 1] += n > 0;
    }
    for (uint32_t v = 0; v < g->n; v++)
        g->out_at[v + 1] += g->out_at[v];
    memcpy(next, g->out_at, g->n * sizeof *next);
    g->n_tensors = g->out_at[g->n];
    from = malloc((g->n_tensors + 1) * sizeof *from);
    g->producer = malloc((g->n_tensors + 1) * sizeof *g->producer);
    g->bytes = malloc((g->n_tensors + 1) * sizeof *g->bytes);
    g->use_at = malloc((g->n_tensors + 1) * sizeof *g->use_at);
    g->uses = malloc((n_uses + 1) * sizeof *g->uses);
    g->ins = malloc((n_uses + 1) * sizeof *g->ins);
    if (!from || !g->producer || !g->bytes || !g->use_at || !g->uses || !g->ins)
        goto out;
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        if (p->producer[t] != SX_PART_NONE && readers_of(g, t, seen, ++stamp, NULL) > 0)
            from[next[g->of_node[p->producer[t]]]++] = t;
    }
    g->use_at[0] = 0;
    for (uint32_t t = 0; t < g->n_tensors; t++) {
        uint32_t at = g->use_at[t];
        uint32_t n = readers_of(g, from[t], seen, ++stamp, g->uses + at);
        g->producer[t] = g->of_node[p->producer[from[t]]];
        g->bytes[t] = p->bytes[from[t]];
        g->use_at[t + 1] = at + n;
        for (uint32_t i = at; i < at + n; i++)
            g->in_at[g->uses[i] + 1]++;
    }
    for (uint32_t v = 0; v < g->n; v++)
        g->in_at[v + 1] += g->in_at[v];
    memcpy(next, g->in_at, g->n * sizeof *next);
    for (uint32_t t = 0; t < g->n_tensors; t++) {
        for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++)
            g->ins[next[g->uses[i]]++] = t;
    }
    rc = SX_OK;
out:
    free(seen);
    free(next);
    free(from);
    return rc;
}

static void drop_tensors(struct sx_part_graph *g)
{
    void *arrays[] = {g->bytes, g->producer, g->use_at, g->uses, g->out_at, g->in_at, g->ins};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        free(arrays[i]);
    g->bytes = NULL;
    g->producer = g->use_at = g->uses = g->out_at = g->in_at = g->ins = NULL;
}

/* Give the vertices the numbers of a topological order. */
static enum sx_rc renumber(struct sx_part_graph *g, struct sx_err *err)
{
    enum sx_rc rc = SX_NO_MEMORY;
    uint32_t *order = malloc(g->n * sizeof *order), *number = malloc(g->n * sizeof *number);
    double *key = calloc(g->n, sizeof *key);
    if (!order || !number || !key)
        goto out;
    rc = sx_part_order_by_key(g, key, order);
    if (rc == SX_INVALID)
        sx_fail(err, rc, "the groups of nodes depend on each other in a cycle");
    if (rc != SX_OK)
        goto out;
    for (uint32_t i = 0; i < g->n; i++)
        number[order[i]] = i;
    for (uint32_t v = 0; v < g->problem->n_nodes; v++)
        g->of_node[v] = number[g->of_node[v]];
    drop_tensors(g);
    rc = make_tensors(g);
out:
    free(order);
    free(number);
    free(key);
    return rc;
}

static void sum_nodes(struct sx_part_graph *g)
{
    const struct sx_part_problem *p = g->problem;
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        for (unsigned s = 0; s < g->k; s++)
            g->ns[(size_t)s * g->n + g->of_node[v]] += p->node_ns[(size_t)s * p->n_nodes + v];
        if (g->memory)
            g->memory[g->of_node[v]] += p->node_memory[v];
    }
    /* Each stage's times as shares of their sum, so that a slow stage counts no more than a fast
     * one. */
    double all = 0;
    for (unsigned s = 0; s < g->k; s++) {
        const double *ns = g->ns + (size_t)s * g->n;
        double sum = 0;
        for (uint32_t v = 0; v < g->n; v++)
            sum += isinf(ns[v]) ? 0 : ns[v];
        for (uint32_t v = 0; sum > 0 && v < g->n; v++)
            g->work[v] += isinf(ns[v]) ? 0 : ns[v] / sum;
    }
    for (uint32_t v = 0; v < g->n; v++)
        all += g->work[v];
    for (uint32_t v = 0; v < g->n; v++)
        g->work[v] = all > 0 ? g->work[v] / all : 1.0 / g->n;
}

/* The stages in which each vertex can run. */
static enum sx_rc find_bounds(struct sx_part_graph *g, struct sx_err *err)
{
    for (uint32_t v = 0; v < g->n; v++) {
        unsigned s = 0;
        for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
            unsigned before = g->least[g->producer[g->ins[i]]];
            s = before > s ? before : s;
        }
        while (s < g->k && isinf(g->ns[(size_t)s * g->n + v]))
            s++;
        if (s == g->k) {
            uint32_t node = 0;
            while (g->of_node[node] != v)
                node++;
            sx_fail(err, SX_INVALID,
                    "node %u can run in none of the %u stages, or only in one before a node that "
                    "it needs",
                    node, g->k);
            sx_hint(err, "order the devices otherwise, or allow it on another device");
            return SX_INVALID;
        }
        g->least[v] = (uint8_t)s;
    }
    for (uint32_t v = g->n; v-- > 0;) {
        unsigned s = g->k - 1;
        for (uint32_t i = g->use_at[g->out_at[v]]; i < g->use_at[g->out_at[v + 1]]; i++)
            s = g->most[g->uses[i]] < s ? g->most[g->uses[i]] : s;
        while (isinf(g->ns[(size_t)s * g->n + v])) /* ends at `least`, where it can run */
            s--;
        g->most[v] = (uint8_t)s;
    }
    return SX_OK;
}

enum sx_rc sx_part_graph_init(struct sx_part_graph *g, const struct sx_part_problem *p,
                              struct sx_err *err)
{
    enum sx_rc rc = SX_NO_MEMORY;
    bool limits = p->node_memory && p->memory_limit;
    *g = (struct sx_part_graph){.problem = p, .k = p->n_stages};
    g->of_node = malloc(p->n_nodes * sizeof *g->of_node);
    if (!g->of_node)
        goto fail;
    rc = number_groups(p, g->of_node, &g->n);
    if (rc == SX_OK)
        rc = make_tensors(g);
    if (rc == SX_OK && p->group)
        rc = renumber(g, err);
    if (rc == SX_INVALID) {
        sx_part_graph_fini(g);
        return rc;
    }
    if (rc != SX_OK)
        goto fail;
    rc = SX_NO_MEMORY;
    g->ns = calloc((size_t)g->n * g->k, sizeof *g->ns);
    g->memory = limits ? calloc(g->n, sizeof *g->memory) : NULL;
    g->work = calloc(g->n, sizeof *g->work);
    g->least = malloc(g->n);
    g->most = malloc(g->n);
    if (!g->ns || (limits && !g->memory) || !g->work || !g->least || !g->most)
        goto fail;
    sum_nodes(g);
    rc = find_bounds(g, err);
    if (rc != SX_OK)
        sx_part_graph_fini(g);
    return rc;
fail:
    sx_part_graph_fini(g);
    return sx_fail(err, rc, "no memory for a graph of %u nodes", p->n_nodes);
}
