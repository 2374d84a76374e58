/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * exhaustive.c - all labellings of a small graph.
 *
 * Vertices get their stages in topological order, so what is fetched is known as soon as a reader
 * has its stage, and times and bytes only grow: a branch ends when a stage is over the best that
 * was found, or when the work that is left does not fit into what the stages have left below it.
 * First the least slowest stage is found, then the fewest bytes within 1 % of it, then the least
 * latency.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

struct search {
    const struct sx_part_graph *graph;
    bool small; /* second pass */
    double bound_ns;
    uint8_t label[SX_PART_EXHAUSTIVE_MAX], best[SX_PART_EXHAUSTIVE_MAX];
    double left[SX_PART_EXHAUSTIVE_MAX + 1]; /* [v] time of v and those behind it, each where it is
                                                fastest */
    bool found;
    struct sx_part_score score; /* of best */
};

struct sums {
    double ns[SX_PART_MAX_STAGES], memory[SX_PART_MAX_STAGES], bytes;
    bool used[SX_PART_MAX_STAGES];
};

static void take(struct search *x, const struct sums *sums)
{
    struct sx_part_score score = {.bytes_cut = sums->bytes};
    for (unsigned s = 0; s < x->graph->k; s++) {
        score.latency_ns += sums->ns[s];
        score.slowest_ns = sums->ns[s] > score.slowest_ns ? sums->ns[s] : score.slowest_ns;
    }
    if (x->found) {
        if (!x->small && score.slowest_ns >= x->score.slowest_ns)
            return;
        if (x->small &&
            (score.bytes_cut > x->score.bytes_cut ||
             (score.bytes_cut == x->score.bytes_cut && score.latency_ns >= x->score.latency_ns)))
            return;
    }
    x->found = true;
    x->score = score;
    memcpy(x->best, x->label, x->graph->n);
    if (!x->small)
        x->bound_ns = score.slowest_ns;
}

/* Can this still become better than the best? */
static bool hopeful(const struct search *x, const struct sums *sums, uint32_t v)
{
    double room = 0;
    for (unsigned s = 0; s < x->graph->k; s++) {
        if (sums->ns[s] > x->bound_ns || (!x->small && x->found && sums->ns[s] == x->bound_ns))
            return false;
        room += x->bound_ns - sums->ns[s];
    }
    if (x->found && x->small && sums->bytes > x->score.bytes_cut)
        return false;
    return !(x->left[v] > room * (1 + 1e-12));
}

static void descend(struct search *x, uint32_t v, const struct sums *before)
{
    const struct sx_part_graph *g = x->graph;
    if (v == g->n) {
        take(x, before);
        return;
    }
    unsigned s = g->least[v];
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
        unsigned made = x->label[g->producer[g->ins[i]]];
        s = made > s ? made : s;
    }
    for (; s <= g->most[v]; s++) {
        struct sums sums = *before;
        double ns = g->ns[(size_t)s * g->n + v];
        if (isinf(ns))
            continue;
        x->label[v] = (uint8_t)s;
        sums.ns[s] += ns + (sums.used[s] ? 0 : g->problem->stage_ns);
        sums.used[s] = true;
        if (g->memory) {
            sums.memory[s] += g->memory[v];
            if (sums.memory[s] > g->problem->memory_limit[s] * (1 + 1e-12))
                continue;
        }
        for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
            uint32_t t = g->ins[i], from = x->label[g->producer[t]];
            bool here = from == s;
            for (uint32_t j = g->use_at[t]; j < g->use_at[t + 1] && !here; j++)
                here = g->uses[j] < v && x->label[g->uses[j]] == s; /* fetched already */
            if (!here) {
                sums.ns[s] += sx_part_fetch_ns(g, from, s, t);
                sums.bytes += g->bytes[t];
            }
        }
        if (hopeful(x, &sums, v + 1))
            descend(x, v + 1, &sums);
    }
}

enum sx_rc sx_part_exhaustive(const struct sx_part_graph *g, uint8_t *ret_label, struct sx_err *err)
{
    struct search x = {.graph = g, .bound_ns = INFINITY};
    const struct sums none = {0};
    if (g->n > SX_PART_EXHAUSTIVE_MAX)
        return sx_fail(err, SX_TOO_LARGE,
                       "exhaustive search takes graphs of at most %d operators; this has %u",
                       SX_PART_EXHAUSTIVE_MAX, g->n);
    for (uint32_t v = g->n; v-- > 0;) {
        double least = INFINITY;
        for (unsigned s = g->least[v]; s <= g->most[v]; s++)
            least = fmin(least, g->ns[(size_t)s * g->n + v]);
        x.left[v] = x.left[v + 1] + least;
    }
    descend(&x, 0, &none);
    if (!x.found)
        return sx_fail(err, SX_INVALID, "no cut fits into the memory of the stages");
    x.small = true;
    x.bound_ns *= 1 + SX_PART_CLOSE;
    descend(&x, 0, &none);
    memcpy(ret_label, x.best, g->n);
    return SX_OK;
}
