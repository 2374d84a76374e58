/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dp.c - the best cuts of one topological order into consecutive ranges.
 *
 * Words: a position is a number of vertices, 0 .. n: a cut there has so many before it. A place is
 * a position that is considered, at most SX_PART_CUTS of them: all, or in each stretch of equal
 * work the one that the fewest bytes cross.
 *
 * What range [i, j) fetches: tensors made before i whose next reader at or behind i is before j.
 * So each pair of consecutive positions (r, q] where a tensor is made or read adds its bytes to
 * all ranges with i in (r, q] and j > q: a rectangle, and the sums over rectangles are swept row
 * by row.  A tensor counts by the link from the stage before: with links that differ by source it
 * may come from further away, then costs here are near and the labelling is valued truly
 * afterwards.
 *
 * Two passes: the first finds the least slowest stage; the second the fewest bytes, then the least
 * latency, with all stages within 1 % of that. O(places^2 x stages + graph).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

#define PLACES (SX_PART_CUTS + 1)

struct sx_part_dp {
    const struct sx_part_graph *graph;
    uint32_t *position; /* [n] of a vertex */
    uint32_t *last;     /* [n_tensors] where the tensor was made or read last */
    double *crossing;   /* [n + 1] bytes that cross a cut */
    uint32_t *at_least; /* [n + 2] first place at or behind a position */
    uint32_t places;
    uint32_t place[PLACES];
    /* Sums over the vertices before a place, for each stage. */
    double ns[SX_PART_MAX_STAGES][PLACES], memory[PLACES];
    uint32_t cannot[SX_PART_MAX_STAGES][PLACES];
    /* add[i][j]: what begins to count in row i from column j on; drop[j]: ends in row j. */
    double (*add_bytes)[PLACES + 1], (*add_count)[PLACES + 1];
    double drop_bytes[PLACES + 1], drop_count[PLACES + 1];
    /* What range [i, j) fetches, for the row i that is being swept. */
    double row_bytes[PLACES + 1], row_count[PLACES + 1], bytes[PLACES + 1], count[PLACES + 1];
    /* value[s][j]: the best for the first j places in stages 0 .. s - 1. */
    double value[SX_PART_MAX_STAGES + 1][PLACES], second[SX_PART_MAX_STAGES + 1][PLACES];
    uint32_t from[SX_PART_MAX_STAGES + 1][PLACES];
};

enum sx_rc sx_part_dp_create(const struct sx_part_graph *g, struct sx_part_dp **ret_dp)
{
    struct sx_part_dp *dp = calloc(1, sizeof *dp);
    if (!dp)
        return SX_NO_MEMORY;
    dp->graph = g;
    dp->position = malloc(g->n * sizeof *dp->position);
    dp->last = malloc((g->n_tensors + 1) * sizeof *dp->last);
    dp->crossing = malloc((g->n + 2ul) * sizeof *dp->crossing);
    dp->at_least = malloc((g->n + 2ul) * sizeof *dp->at_least);
    dp->add_bytes = malloc(PLACES * sizeof *dp->add_bytes);
    dp->add_count = malloc(PLACES * sizeof *dp->add_count);
    if (!dp->position || !dp->last || !dp->crossing || !dp->at_least || !dp->add_bytes ||
        !dp->add_count) {
        sx_part_dp_destroy(dp);
        return SX_NO_MEMORY;
    }
    *ret_dp = dp;
    return SX_OK;
}

void sx_part_dp_destroy(struct sx_part_dp *dp)
{
    if (!dp)
        return;
    free(dp->position);
    free(dp->last);
    free(dp->crossing);
    free(dp->at_least);
    free(dp->add_bytes);
    free(dp->add_count);
    free(dp);
}

static void find_crossing(struct sx_part_dp *dp)
{
    const struct sx_part_graph *g = dp->graph;
    memset(dp->crossing, 0, (g->n + 2ul) * sizeof *dp->crossing);
    for (uint32_t t = 0; t < g->n_tensors; t++) {
        uint32_t last = 0;
        for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++) {
            uint32_t at = dp->position[g->uses[i]];
            last = at > last ? at : last;
        }
        dp->crossing[dp->position[g->producer[t]] + 1] += g->bytes[t];
        dp->crossing[last + 1] -= g->bytes[t];
    }
    for (uint32_t c = 1; c <= g->n; c++)
        dp->crossing[c] += dp->crossing[c - 1];
}

static void choose_places(struct sx_part_dp *dp, const uint32_t *order)
{
    const struct sx_part_graph *g = dp->graph;
    dp->places = 0;
    if (g->n < PLACES) {
        for (uint32_t c = 0; c <= g->n; c++)
            dp->place[dp->places++] = c;
    } else {
        /* Both ends, and the least crossed position of each stretch. */
        double work = 0;
        long stretch = -1;
        dp->place[dp->places++] = 0;
        for (uint32_t c = 1; c < g->n; c++) {
            work += g->work[order[c - 1]];
            long s = (long)(work * (SX_PART_CUTS - 2));
            s = s < SX_PART_CUTS - 2 ? s : SX_PART_CUTS - 2; /* rounding */
            if (s != stretch)
                dp->place[dp->places++] = c;
            else if (dp->crossing[c] < dp->crossing[dp->place[dp->places - 1]])
                dp->place[dp->places - 1] = c;
            stretch = s;
        }
        dp->place[dp->places++] = g->n;
    }
    uint32_t place = 0;
    for (uint32_t c = 0; c <= g->n; c++) {
        place += dp->place[place] < c;
        dp->at_least[c] = place;
    }
}

static void sum_places(struct sx_part_dp *dp, const uint32_t *order)
{
    const struct sx_part_graph *g = dp->graph;
    double memory = 0;
    for (unsigned s = 0; s < g->k; s++) {
        const double *ns = g->ns + (size_t)s * g->n;
        uint32_t cannot = 0, place = 0;
        double sum = 0;
        for (uint32_t c = 0; c <= g->n; c++) {
            if (dp->place[place] == c) {
                dp->ns[s][place] = sum;
                dp->cannot[s][place] = cannot;
                place++;
            }
            if (c < g->n) {
                cannot += isinf(ns[order[c]]) != 0;
                sum += isinf(ns[order[c]]) ? 0 : ns[order[c]];
            }
        }
    }
    for (uint32_t c = 0, place = 0; c <= g->n; c++) {
        if (dp->place[place] == c)
            dp->memory[place++] = memory;
        if (c < g->n && g->memory)
            memory += g->memory[order[c]];
    }
}

static void find_rectangles(struct sx_part_dp *dp, const uint32_t *order)
{
    const struct sx_part_graph *g = dp->graph;
    for (uint32_t i = 0; i < dp->places; i++) {
        memset(dp->add_bytes[i], 0, (dp->places + 1) * sizeof dp->add_bytes[i][0]);
        memset(dp->add_count[i], 0, (dp->places + 1) * sizeof dp->add_count[i][0]);
    }
    memset(dp->drop_bytes, 0, sizeof dp->drop_bytes);
    memset(dp->drop_count, 0, sizeof dp->drop_count);
    for (uint32_t q = 0; q < g->n; q++) {
        uint32_t v = order[q], end = dp->at_least[q + 1];
        for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
            uint32_t t = g->ins[i], begin = dp->at_least[dp->last[t] + 1];
            if (begin < end) { /* else no place lies between */
                dp->add_bytes[begin][end] += g->bytes[t];
                dp->add_count[begin][end] += 1;
                dp->drop_bytes[end] += g->bytes[t];
                dp->drop_count[end] += 1;
            }
            dp->last[t] = q;
        }
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++)
            dp->last[t] = q;
    }
}

/* Go on to row i; rows come in order. */
static void sweep_row(struct sx_part_dp *dp, uint32_t i)
{
    double bytes = 0, count = 0;
    if (i == 0) {
        memset(dp->row_bytes, 0, sizeof dp->row_bytes);
        memset(dp->row_count, 0, sizeof dp->row_count);
    }
    for (uint32_t j = 0; j < dp->places; j++) {
        dp->row_bytes[j] += dp->add_bytes[i][j];
        dp->row_count[j] += dp->add_count[i][j];
    }
    dp->row_bytes[i] -= dp->drop_bytes[i];
    dp->row_count[i] -= dp->drop_count[i];
    for (uint32_t j = i + 1; j < dp->places; j++) {
        bytes += dp->row_bytes[j];
        count += dp->row_count[j];
        dp->bytes[j] = bytes;
        dp->count[j] = count;
    }
}

/* One pass.  bound_ns infinite: the least slowest stage; else the fewest bytes below the bound. */
static bool pass(struct sx_part_dp *dp, double bound_ns)
{
    const struct sx_part_graph *g = dp->graph;
    const struct sx_part_problem *p = g->problem;
    bool fast = isinf(bound_ns);
    unsigned k = g->k;
    for (unsigned s = 0; s <= k; s++) {
        for (uint32_t j = 0; j < dp->places; j++)
            dp->value[s][j] = dp->second[s][j] = INFINITY;
    }
    dp->value[0][0] = dp->second[0][0] = 0;
    for (uint32_t i = 0; i < dp->places; i++) {
        sweep_row(dp, i);
        for (unsigned s = 0; s < k; s++) {
            double before = dp->value[s][i], before2 = dp->second[s][i];
            double limit = g->memory ? p->memory_limit[s] * (1 + 1e-12) : INFINITY;
            const struct sx_part_link *link = s > 0 ? &p->link[(s - 1) * k + s] : &p->link[0];
            double *value = dp->value[s + 1], *second = dp->second[s + 1];
            if (isinf(before))
                continue;
            if (before < value[i] || (before == value[i] && before2 < second[i])) {
                value[i] = before; /* an empty stage */
                second[i] = before2;
                dp->from[s + 1][i] = i;
            }
            for (uint32_t j = i + 1; j < dp->places; j++) {
                double ns = dp->ns[s][j] - dp->ns[s][i] + p->stage_ns +
                            link->fixed_ns * dp->count[j] + link->byte_ns * dp->bytes[j];
                if (dp->cannot[s][j] > dp->cannot[s][i] || dp->memory[j] - dp->memory[i] > limit ||
                    ns > bound_ns)
                    break; /* and so does every longer range */
                double first = fast ? (ns > before ? ns : before) : before + dp->bytes[j];
                double then = fast ? before2 + dp->bytes[j] : before2 + ns;
                if (first < value[j] || (first == value[j] && then < second[j])) {
                    value[j] = first;
                    second[j] = then;
                    dp->from[s + 1][j] = i;
                }
            }
        }
    }
    return !isinf(dp->value[k][dp->places - 1]);
}

static void write_labels(const struct sx_part_dp *dp, const uint32_t *order, uint8_t *label)
{
    uint32_t j = dp->places - 1;
    for (unsigned s = dp->graph->k; s > 0; s--) {
        uint32_t i = dp->from[s][j];
        for (uint32_t c = dp->place[i]; c < dp->place[j]; c++)
            label[order[c]] = (uint8_t)(s - 1);
        j = i;
    }
}

bool sx_part_dp_run(struct sx_part_dp *dp, const uint32_t *order, uint8_t *ret_fast,
                    uint8_t *ret_small)
{
    const struct sx_part_graph *g = dp->graph;
    for (uint32_t c = 0; c < g->n; c++)
        dp->position[order[c]] = c;
    find_crossing(dp);
    choose_places(dp, order);
    sum_places(dp, order);
    find_rectangles(dp, order);
    if (!pass(dp, INFINITY))
        return false;
    write_labels(dp, order, ret_fast);
    /* less than 1 % by what rounding may add */
    double bound = dp->value[g->k][dp->places - 1] * (1 + SX_PART_CLOSE * (1 - 1e-9));
    if (!pass(dp, bound)) /* a graph that takes no time: the bound itself is lost in rounding */
        memcpy(ret_small, ret_fast, g->n);
    else
        write_labels(dp, order, ret_small);
    return true;
}
