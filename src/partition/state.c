/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - a labelling with its value, kept up to date while vertices move.
 *
 * For each tensor and stage we know how many vertices there read it, so what a move changes is
 * found from the tensors of the vertex that moves alone: O(its tensors x stages).  Sums drift by
 * rounding; sx_part_state_set makes them anew.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

enum sx_rc sx_part_state_init(struct sx_part_state *st, const struct sx_part_graph *g)
{
    *st = (struct sx_part_state){.graph = g};
    st->label = malloc(g->n);
    st->readers = malloc(((size_t)g->n_tensors * g->k + 1) * sizeof *st->readers);
    if (st->label && st->readers)
        return SX_OK;
    sx_part_state_fini(st);
    return SX_NO_MEMORY;
}

void sx_part_state_fini(struct sx_part_state *st)
{
    free(st->label);
    free(st->readers);
    st->label = NULL;
    st->readers = NULL;
}

static double time_in(const struct sx_part_graph *g, uint32_t v, unsigned s)
{
    return g->ns[(size_t)s * g->n + v];
}

void sx_part_state_set(struct sx_part_state *st, const uint8_t *label)
{
    const struct sx_part_graph *g = st->graph;
    memset(st->ns, 0, sizeof st->ns);
    memset(st->memory, 0, sizeof st->memory);
    memset(st->size, 0, sizeof st->size);
    memset(st->readers, 0, (size_t)g->n_tensors * g->k * sizeof *st->readers);
    st->bytes_cut = 0;
    st->misplaced = 0;
    if (st->label != label)
        memcpy(st->label, label, g->n);
    for (uint32_t v = 0; v < g->n; v++) {
        unsigned s = st->label[v];
        double ns = time_in(g, v, s);
        st->misplaced += isinf(ns) != 0;
        st->ns[s] += isinf(ns) ? 0 : ns;
        st->memory[s] += g->memory ? g->memory[v] : 0;
        st->size[s]++;
    }
    for (unsigned s = 0; s < g->k; s++)
        st->ns[s] += st->size[s] ? g->problem->stage_ns : 0;
    for (uint32_t t = 0; t < g->n_tensors; t++) {
        unsigned from = st->label[g->producer[t]];
        for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++) {
            unsigned to = st->label[g->uses[i]];
            if (st->readers[(size_t)t * g->k + to]++ == 0 && to != from) {
                st->ns[to] += sx_part_fetch_ns(g, from, to, t);
                st->bytes_cut += g->bytes[t];
            }
        }
    }
}

double sx_part_excess(const struct sx_part_graph *g, const double *memory)
{
    double over = 0, all = 0;
    if (!g->memory)
        return 0;
    for (unsigned s = 0; s < g->k; s++) {
        double limit = g->problem->memory_limit[s];
        over += memory[s] > limit * (1 + 1e-12) ? memory[s] - limit : 0;
        all += memory[s];
    }
    return over > 0 ? over / all : 0;
}

void sx_part_state_score(const struct sx_part_state *st, struct sx_part_score *ret_score)
{
    struct sx_part_score score = {
        .wrong = sx_part_excess(st->graph, st->memory) + st->misplaced,
        .bytes_cut = st->bytes_cut,
    };
    for (unsigned s = 0; s < st->graph->k; s++) {
        score.latency_ns += st->ns[s];
        if (st->ns[s] > score.slowest_ns)
            score.slowest_ns = st->ns[s];
    }
    *ret_score = score;
}

bool sx_part_state_movable(const struct sx_part_state *st, uint32_t v, unsigned to)
{
    const struct sx_part_graph *g = st->graph;
    unsigned from = st->label[v];
    if (to > from) {
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++) {
            if (st->readers[(size_t)t * g->k + from] > 0)
                return false;
        }
        return true;
    }
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
        if (st->label[g->producer[g->ins[i]]] == from)
            return false;
    }
    return true;
}

void sx_part_state_delta(const struct sx_part_state *st, uint32_t v, unsigned to,
                         struct sx_part_delta *ret_delta)
{
    const struct sx_part_graph *g = st->graph;
    unsigned from = st->label[v], k = g->k;
    double leaves = time_in(g, v, from), comes = time_in(g, v, to);
    struct sx_part_delta d;
    memset(d.ns, 0, k * sizeof d.ns[0]);
    d.bytes_cut = 0;
    d.misplaced = (isinf(comes) != 0) - (isinf(leaves) != 0);
    d.ns[from] -= isinf(leaves) ? 0 : leaves;
    d.ns[to] += isinf(comes) ? 0 : comes;
    d.ns[from] -= st->size[from] == 1 ? g->problem->stage_ns : 0;
    d.ns[to] += st->size[to] == 0 ? g->problem->stage_ns : 0;
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
        uint32_t t = g->ins[i];
        const uint32_t *readers = &st->readers[(size_t)t * k];
        unsigned made = st->label[g->producer[t]];
        if (made != from && readers[from] == 1) {
            d.ns[from] -= sx_part_fetch_ns(g, made, from, t);
            d.bytes_cut -= g->bytes[t];
        }
        if (made != to && readers[to] == 0) {
            d.ns[to] += sx_part_fetch_ns(g, made, to, t);
            d.bytes_cut += g->bytes[t];
        }
    }
    for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++) {
        const uint32_t *readers = &st->readers[(size_t)t * k];
        for (unsigned s = from < to ? from : to; s < k; s++) {
            if (readers[s] == 0)
                continue;
            if (s != from) {
                d.ns[s] -= sx_part_fetch_ns(g, from, s, t);
                d.bytes_cut -= g->bytes[t];
            }
            if (s != to) {
                d.ns[s] += sx_part_fetch_ns(g, to, s, t);
                d.bytes_cut += g->bytes[t];
            }
        }
    }
    memcpy(ret_delta->ns, d.ns, k * sizeof d.ns[0]);
    ret_delta->bytes_cut = d.bytes_cut;
    ret_delta->misplaced = d.misplaced;
}

void sx_part_state_move(struct sx_part_state *st, uint32_t v, unsigned to)
{
    const struct sx_part_graph *g = st->graph;
    unsigned from = st->label[v];
    struct sx_part_delta d;
    sx_part_state_delta(st, v, to, &d);
    for (unsigned s = 0; s < g->k; s++)
        st->ns[s] += d.ns[s];
    st->bytes_cut += d.bytes_cut;
    st->misplaced += (uint32_t)d.misplaced;
    if (g->memory) {
        st->memory[from] -= g->memory[v];
        st->memory[to] += g->memory[v];
    }
    st->size[from]--;
    st->size[to]++;
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
        st->readers[(size_t)g->ins[i] * g->k + from]--;
        st->readers[(size_t)g->ins[i] * g->k + to]++;
    }
    st->label[v] = (uint8_t)to;
}
