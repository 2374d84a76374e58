/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * problem.c - what a problem must be like, and what a labelling of it is worth.
 *
 * This is the definition; it works on nodes and computes all from the start.  The search works on
 * groups and computes changes (state.c); tests compare both.
 */
#include <math.h>
#include <stdlib.h>

#include "partition/part_int.h"

const char *sx_part_method_text(enum sx_part_method method)
{
    switch (method) {
    case SX_PART_METIS:
        return "metis";
    case SX_PART_TOPOLOGICAL:
        return "topological";
    case SX_PART_EXHAUSTIVE:
        return "exhaustive";
    case SX_PART_METHODS:
        break;
    }
    return "?";
}

static bool is_amount(double x) /* false for NaN, too */
{
    return x >= 0 && x < INFINITY;
}

static enum sx_rc check_nodes(const struct sx_part_problem *p, struct sx_err *err)
{
    for (size_t i = 0; i < (size_t)p->n_stages * p->n_nodes; i++) {
        if (!(p->node_ns[i] >= 0))
            return sx_fail(err, SX_INVALID, "node %zu has the time %g ns in stage %zu",
                           i % p->n_nodes, p->node_ns[i], i / p->n_nodes);
    }
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        if (p->node_memory && !is_amount(p->node_memory[v]))
            return sx_fail(err, SX_INVALID, "node %u needs %g bytes of memory", v,
                           p->node_memory[v]);
        if (p->group && p->group[v] >= p->n_nodes)
            return sx_fail(err, SX_INVALID, "node %u is in group %u, of %u nodes", v, p->group[v],
                           p->n_nodes);
    }
    return SX_OK;
}

static enum sx_rc check_tensor(const struct sx_part_problem *p, uint32_t t, struct sx_err *err)
{
    if (p->producer[t] != SX_PART_NONE && p->producer[t] >= p->n_nodes)
        return sx_fail(err, SX_INVALID, "tensor %u is made by node %u, of %u", t, p->producer[t],
                       p->n_nodes);
    if (!is_amount(p->bytes[t]))
        return sx_fail(err, SX_INVALID, "tensor %u has %g bytes", t, p->bytes[t]);
    if (p->use_at[t + 1] < p->use_at[t])
        return sx_fail(err, SX_INVALID, "the readers of tensor %u end before they begin", t);
    for (uint32_t i = p->use_at[t]; i < p->use_at[t + 1]; i++) {
        if (p->uses[i] >= p->n_nodes)
            return sx_fail(err, SX_INVALID, "tensor %u is read by node %u, of %u", t, p->uses[i],
                           p->n_nodes);
        if (i > p->use_at[t] && p->uses[i] <= p->uses[i - 1])
            return sx_fail(err, SX_INVALID, "the readers of tensor %u are not in order", t);
        if (p->producer[t] != SX_PART_NONE && p->uses[i] <= p->producer[t])
            return sx_fail(err, SX_INVALID,
                           "node %u reads tensor %u of node %u: the order is not topological",
                           p->uses[i], t, p->producer[t]);
    }
    return SX_OK;
}

enum sx_rc sx_part_check(const struct sx_part_problem *p, struct sx_err *err)
{
    enum sx_rc rc;
    if (p->n_nodes == 0)
        return sx_fail(err, SX_INVALID, "a graph without nodes cannot be cut");
    if (p->n_stages == 0 || p->n_stages > SX_PART_MAX_STAGES)
        return sx_fail(err, SX_INVALID, "%u stages; it must be 1 to %d", p->n_stages,
                       SX_PART_MAX_STAGES);
    if (!is_amount(p->stage_ns))
        return sx_fail(err, SX_INVALID, "a stage costs %g ns", p->stage_ns);
    for (unsigned i = 0; i < p->n_stages * p->n_stages; i++) {
        if (!is_amount(p->link[i].fixed_ns) || !is_amount(p->link[i].byte_ns))
            return sx_fail(err, SX_INVALID, "the link from stage %u to %u costs %g ns + %g ns/byte",
                           i / p->n_stages, i % p->n_stages, p->link[i].fixed_ns,
                           p->link[i].byte_ns);
    }
    for (unsigned s = 0; p->memory_limit && s < p->n_stages; s++) {
        if (!(p->memory_limit[s] >= 0))
            return sx_fail(err, SX_INVALID, "stage %u has %g bytes of memory", s,
                           p->memory_limit[s]);
    }
    rc = check_nodes(p, err);
    for (uint32_t t = 0; rc == SX_OK && t < p->n_tensors; t++)
        rc = check_tensor(p, t, err);
    return rc;
}

bool sx_part_valid(const struct sx_part_problem *p, const uint32_t *stage)
{
    double memory[SX_PART_MAX_STAGES] = {0};
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        if (stage[v] >= p->n_stages || isinf(p->node_ns[(size_t)stage[v] * p->n_nodes + v]))
            return false;
        if (p->node_memory)
            memory[stage[v]] += p->node_memory[v];
    }
    for (unsigned s = 0; p->node_memory && p->memory_limit && s < p->n_stages; s++) {
        /* sums depend on their order in the last bits */
        if (memory[s] > p->memory_limit[s] * (1 + 1e-12))
            return false;
    }
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        if (p->producer[t] == SX_PART_NONE)
            continue;
        for (uint32_t i = p->use_at[t]; i < p->use_at[t + 1]; i++) {
            if (stage[p->uses[i]] < stage[p->producer[t]])
                return false;
        }
    }
    if (!p->group)
        return true;
    uint32_t *of = malloc(p->n_nodes * sizeof *of);
    bool whole = of != NULL;
    for (uint32_t v = 0; whole && v < p->n_nodes; v++)
        of[v] = SX_PART_NONE;
    for (uint32_t v = 0; whole && v < p->n_nodes; v++) {
        uint32_t *s = &of[p->group[v]];
        whole = *s == SX_PART_NONE || *s == stage[v];
        *s = stage[v];
    }
    free(of);
    return whole;
}

void sx_part_evaluate(const struct sx_part_problem *p, const uint32_t *stage,
                      struct sx_part_value *ret_value)
{
    struct sx_part_value value = {0};
    bool used[SX_PART_MAX_STAGES] = {false};
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        unsigned s = stage[v];
        value.stage_ns[s] += p->node_ns[(size_t)s * p->n_nodes + v];
        if (p->node_memory)
            value.stage_memory[s] += p->node_memory[v];
        used[s] = true;
    }
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        if (p->producer[t] == SX_PART_NONE)
            continue;
        unsigned from = stage[p->producer[t]];
        bool fetched[SX_PART_MAX_STAGES] = {false};
        for (uint32_t i = p->use_at[t]; i < p->use_at[t + 1]; i++) {
            unsigned to = stage[p->uses[i]];
            if (to == from || fetched[to])
                continue;
            const struct sx_part_link *link = &p->link[from * p->n_stages + to];
            value.stage_ns[to] += link->fixed_ns + p->bytes[t] * link->byte_ns;
            value.bytes_cut += p->bytes[t];
            fetched[to] = true;
        }
    }
    for (unsigned s = 0; s < p->n_stages; s++) {
        if (used[s])
            value.stage_ns[s] += p->stage_ns;
        value.latency_ns += value.stage_ns[s];
        if (value.stage_ns[s] > value.slowest_ns)
            value.slowest_ns = value.stage_ns[s];
    }
    *ret_value = value;
}

static int order(double a, double b)
{
    /* sums of the same terms differ in their last bits */
    return a < b * (1 - 1e-12) ? -1 : b < a * (1 - 1e-12) ? 1 : 0;
}

static int compare(double slowest_a, double bytes_a, double latency_a, double slowest_b,
                   double bytes_b, double latency_b)
{
    if (slowest_a * (1 + SX_PART_CLOSE) < slowest_b)
        return -1;
    if (slowest_b * (1 + SX_PART_CLOSE) < slowest_a)
        return 1;
    int by = order(bytes_a, bytes_b);
    if (by == 0)
        by = order(latency_a, latency_b);
    return by ? by : order(slowest_a, slowest_b);
}

int sx_part_compare(const struct sx_part_value *a, const struct sx_part_value *b)
{
    return compare(a->slowest_ns, a->bytes_cut, a->latency_ns, b->slowest_ns, b->bytes_cut,
                   b->latency_ns);
}

int sx_part_score_compare(const struct sx_part_score *a, const struct sx_part_score *b)
{
    if (a->wrong != b->wrong)
        return a->wrong < b->wrong ? -1 : 1;
    return compare(a->slowest_ns, a->bytes_cut, a->latency_ns, b->slowest_ns, b->bytes_cut,
                   b->latency_ns);
}

size_t sx_part_score_best(const struct sx_part_score *scores, size_t n)
{
    size_t least = 0;
    for (size_t i = 1; i < n; i++) {
        if (scores[i].wrong < scores[least].wrong ||
            (scores[i].wrong == scores[least].wrong &&
             scores[i].slowest_ns < scores[least].slowest_ns))
            least = i;
    }
    size_t best = least;
    double bound = scores[least].slowest_ns * (1 + SX_PART_CLOSE);
    for (size_t i = 0; i < n; i++) {
        const struct sx_part_score *a = &scores[i], *b = &scores[best];
        if (a->wrong != b->wrong || a->slowest_ns > bound)
            continue;
        int by = order(a->bytes_cut, b->bytes_cut);
        if (by == 0)
            by = order(a->latency_ns, b->latency_ns);
        if (by == 0)
            by = order(a->slowest_ns, b->slowest_ns);
        if (by < 0)
            best = i;
    }
    return best;
}

void sx_part_result_fini(struct sx_part_result *result)
{
    free(result->stage);
    result->stage = NULL;
}
