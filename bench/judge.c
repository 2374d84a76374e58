/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAME 1.01 /* of slowest stages: within 1 % */

bool judge_valid(const struct sx_part_problem *p, const uint32_t *stage)
{
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        if (stage[v] >= p->n_stages || (p->group && stage[v] != stage[p->group[v]]))
            return false;
    }
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        for (uint32_t u = p->use_at[t]; p->producer[t] != SX_PART_NONE && u < p->use_at[t + 1]; u++)
            if (stage[p->producer[t]] > stage[p->uses[u]])
                return false;
    }
    return true;
}

struct judge_value judge_value(const struct sx_part_problem *p, const uint32_t *stage)
{
    double ns[SX_PART_MAX_STAGES] = {0};
    bool used[SX_PART_MAX_STAGES] = {0};
    struct judge_value value = {0};
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        ns[stage[v]] += p->node_ns[(size_t)stage[v] * p->n_nodes + v];
        used[stage[v]] = true;
    }
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        if (p->producer[t] == SX_PART_NONE)
            continue;
        uint32_t from = stage[p->producer[t]];
        bool fetched[SX_PART_MAX_STAGES] = {0};
        for (uint32_t u = p->use_at[t]; u < p->use_at[t + 1]; u++) {
            uint32_t to = stage[p->uses[u]];
            if (to == from || fetched[to])
                continue;
            fetched[to] = true;
            const struct sx_part_link *link = &p->link[from * p->n_stages + to];
            ns[to] += link->fixed_ns + p->bytes[t] * link->byte_ns;
            value.bytes += p->bytes[t];
        }
    }
    for (unsigned s = 0; s < p->n_stages; s++) {
        if (used[s])
            value.slowest_ns = fmax(value.slowest_ns, ns[s] + p->stage_ns);
    }
    return value;
}

/* The graph as the dynamic programme wants it. */
struct order {
    const struct sx_part_problem *p;
    struct sx_part_link link;
    bool *may_cut;        /* before node j: no group lies on both sides; n + 1 */
    uint32_t *in_at, *in; /* tensors that node v reads: in[in_at[v] .. in_at[v + 1]) */
    uint32_t *seen;       /* per tensor: the first node + 1 of the stage that last fetched it */
    double *least, *next; /* n + 1 each */
    uint32_t *from;       /* [s * (n + 1) + j]: where the last of the best s + 1 stages begins */
};

static bool order_init(struct order *o, const struct sx_part_problem *p)
{
    uint32_t n = p->n_nodes, m = p->n_tensors, edges = p->use_at[m];
    *o = (struct order){.p = p, .link = p->link[p->n_stages > 1 ? 1 : 0]};
    o->may_cut = calloc(n + 1, sizeof *o->may_cut);
    o->in_at = calloc(n + 2, sizeof *o->in_at);
    o->in = calloc(edges + 1, sizeof *o->in);
    o->seen = calloc(m + 1, sizeof *o->seen);
    o->least = calloc(n + 1, sizeof *o->least);
    o->next = calloc(n + 1, sizeof *o->next);
    o->from = calloc((n + 1) * (size_t)p->n_stages, sizeof *o->from);
    uint32_t *last = calloc(n + 1, sizeof *last); /* of each group */
    bool ok = o->may_cut && o->in_at && o->in && o->seen && o->least && o->next && o->from && last;
    if (ok) {
        for (uint32_t e = 0; e < edges; e++)
            o->in_at[p->uses[e] + 2]++;
        for (uint32_t v = 0; v < n; v++)
            o->in_at[v + 2] += o->in_at[v + 1];
        for (uint32_t t = 0; t < m; t++) {
            for (uint32_t u = p->use_at[t]; u < p->use_at[t + 1]; u++)
                o->in[o->in_at[p->uses[u] + 1]++] = t;
        }
        for (uint32_t v = 0; v < n; v++)
            last[p->group ? p->group[v] : v] = v;
        uint32_t reach = 0;
        o->may_cut[0] = true;
        for (uint32_t v = 0; v < n; v++) {
            uint32_t end = last[p->group ? p->group[v] : v];
            reach = end > reach ? end : reach;
            o->may_cut[v + 1] = reach == v;
        }
    }
    free(last);
    return ok;
}

static void order_fini(struct order *o)
{
    free(o->may_cut);
    free(o->in_at);
    free(o->in);
    free(o->seen);
    free(o->least);
    free(o->next);
    free(o->from);
}

/* One stage more: next[j] from least[i] over all stages [i, j).  With a limit on a stage's time
 * the sum of bytes is what counts, else the slowest time. */
static void one_stage(struct order *o, unsigned s, double limit)
{
    const struct sx_part_problem *p = o->p;
    uint32_t n = p->n_nodes;
    memset(o->seen, 0, p->n_tensors * sizeof *o->seen);
    uint32_t *from = &o->from[s * (size_t)(n + 1)];
    for (uint32_t j = 0; j <= n; j++) { /* an empty stage */
        o->next[j] = o->least[j];
        from[j] = j;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (isinf(o->least[i]))
            continue;
        double ns = p->stage_ns, bytes = 0;
        for (uint32_t v = i; v < n; v++) {
            ns += p->node_ns[(size_t)s * n + v];
            for (uint32_t e = o->in_at[v]; e < o->in_at[v + 1]; e++) {
                uint32_t t = o->in[e];
                if (p->producer[t] == SX_PART_NONE || p->producer[t] >= i || o->seen[t] == i + 1)
                    continue;
                o->seen[t] = i + 1;
                ns += o->link.fixed_ns + p->bytes[t] * o->link.byte_ns;
                bytes += p->bytes[t];
            }
            if (!o->may_cut[v + 1])
                continue;
            double value = isinf(limit)  ? fmax(o->least[i], ns)
                           : ns <= limit ? o->least[i] + bytes
                                         : INFINITY;
            if (value < o->next[v + 1]) {
                o->next[v + 1] = value;
                from[v + 1] = i;
            }
        }
    }
    double *done = o->next;
    o->next = o->least;
    o->least = done;
}

static double best(struct order *o, double limit)
{
    for (uint32_t j = 0; j <= o->p->n_nodes; j++)
        o->least[j] = j ? INFINITY : 0;
    for (unsigned s = 0; s < o->p->n_stages; s++)
        one_stage(o, s, limit);
    return o->least[o->p->n_nodes];
}

bool judge_topological(const struct sx_part_problem *p, struct judge_value *ret)
{
    struct order o;
    uint32_t *stage = calloc(p->n_nodes + 1, sizeof *stage);
    bool ok = order_init(&o, p) && stage;
    if (ok) {
        best(&o, best(&o, INFINITY) * SAME);
        uint32_t end = p->n_nodes;
        for (unsigned s = p->n_stages; s-- > 0;) {
            uint32_t begin = o.from[s * (size_t)(p->n_nodes + 1) + end];
            for (uint32_t v = begin; v < end; v++)
                stage[v] = s;
            end = begin;
        }
        *ret = judge_value(p, stage);
    }
    order_fini(&o);
    free(stage);
    return ok;
}

double judge_ratio(struct judge_value a, struct judge_value b, double least)
{
    if (a.slowest_ns > least * SAME || b.slowest_ns > least * SAME)
        return a.slowest_ns / b.slowest_ns;
    return a.bytes == b.bytes ? 1 : fmin(a.bytes / fmax(b.bytes, 1e-9), 1e9);
}
