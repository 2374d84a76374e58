/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * refine.c - local search among valid labellings, under the true objective.
 *
 * A move takes one vertex to the next stage up or down, where the edges allow it.  A chain is a
 * row of moves, each the one with the least potential of those that were looked at, also when
 * that is worse than before; a vertex moves once in a chain.  Then the moves behind the best
 * labelling of the chain are taken back (Fiduccia and Mattheyses's idea).  The slowest stage alone
 * gives no direction when two moves are needed, so the potential is smooth: the sum of the
 * stages' times to a power.  Chains follow each other while they help; each better labelling is
 * strictly better by one order, so they end, and their number is bounded.
 *
 * For each stage and direction a ring holds the vertices that can move; after a move only
 * neighbours change.  Of each ring a bounded number is looked at, then the ring is turned.
 */
#include <math.h>
#include <stdlib.h>

#include "partition/part_int.h"

#define LOOK     24 /* vertices of a ring that are looked at for one move */
#define PATIENCE 64 /* moves of a chain without a better labelling */
#define CHAINS   40

enum { UP, DOWN, WAYS };

struct sx_part_refiner {
    const struct sx_part_graph *graph;
    struct sx_part_state state;
    /* Rings by [way][stage]; next[way][v] is SX_PART_NONE when v is in none. */
    uint32_t ring[WAYS][SX_PART_MAX_STAGES];
    uint32_t *next[WAYS], *previous[WAYS];
    bool *moved; /* in this chain */
    struct step {
        uint32_t v;
        uint8_t from;
    } *steps;
    uint32_t n_steps;
    enum sx_part_goal goal;
    double bound_ns, reference_ns, all_bytes;
    unsigned squarings; /* the power is 2 ^ squarings */
};

enum sx_rc sx_part_refiner_create(const struct sx_part_graph *g, struct sx_part_refiner **ret_r)
{
    struct sx_part_refiner *r = calloc(1, sizeof *r);
    if (!r)
        return SX_NO_MEMORY;
    r->graph = g;
    for (int w = 0; w < WAYS; w++) {
        r->next[w] = malloc(g->n * sizeof *r->next[w]);
        r->previous[w] = malloc(g->n * sizeof *r->previous[w]);
    }
    r->moved = calloc(g->n, sizeof *r->moved);
    r->steps = malloc(g->n * sizeof *r->steps);
    if (!r->next[UP] || !r->next[DOWN] || !r->previous[UP] || !r->previous[DOWN] || !r->moved ||
        !r->steps || sx_part_state_init(&r->state, g) != SX_OK) {
        sx_part_refiner_destroy(r);
        return SX_NO_MEMORY;
    }
    for (uint32_t t = 0; t < g->n_tensors; t++)
        r->all_bytes += g->bytes[t];
    *ret_r = r;
    return SX_OK;
}

void sx_part_refiner_destroy(struct sx_part_refiner *r)
{
    if (!r)
        return;
    for (int w = 0; w < WAYS; w++) {
        free(r->next[w]);
        free(r->previous[w]);
    }
    free(r->moved);
    free(r->steps);
    sx_part_state_fini(&r->state);
    free(r);
}

/* --- rings --- */

static void ring_add(struct sx_part_refiner *r, int way, uint32_t v)
{
    uint32_t *ring = &r->ring[way][r->state.label[v]];
    if (*ring == SX_PART_NONE) {
        *ring = r->next[way][v] = r->previous[way][v] = v;
        return;
    }
    uint32_t last = r->previous[way][*ring];
    r->next[way][v] = *ring;
    r->previous[way][v] = last;
    r->next[way][last] = r->previous[way][*ring] = v;
}

static void ring_remove(struct sx_part_refiner *r, int way, uint32_t v)
{
    uint32_t *ring = &r->ring[way][r->state.label[v]];
    uint32_t next = r->next[way][v], previous = r->previous[way][v];
    if (next == SX_PART_NONE)
        return;
    r->next[way][previous] = next;
    r->previous[way][next] = previous;
    if (*ring == v)
        *ring = next == v ? SX_PART_NONE : next;
    r->next[way][v] = SX_PART_NONE;
}

static unsigned target(const struct sx_part_refiner *r, int way, uint32_t v)
{
    return way == UP ? r->state.label[v] + 1u : r->state.label[v] - 1u;
}

/* Put v into its ring or take it out, as its neighbours are now. */
static void review(struct sx_part_refiner *r, int way, uint32_t v)
{
    const struct sx_part_graph *g = r->graph;
    unsigned s = r->state.label[v];
    bool can = !r->moved[v] && (way == UP ? s < g->most[v] : s > g->least[v]) &&
               sx_part_state_movable(&r->state, v, target(r, way, v));
    if (can == (r->next[way][v] != SX_PART_NONE))
        return;
    if (can)
        ring_add(r, way, v);
    else
        ring_remove(r, way, v);
}

static void review_around(struct sx_part_refiner *r, uint32_t v)
{
    const struct sx_part_graph *g = r->graph;
    review(r, UP, v);
    review(r, DOWN, v);
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++)
        review(r, UP, g->producer[g->ins[i]]);
    for (uint32_t i = g->use_at[g->out_at[v]]; i < g->use_at[g->out_at[v + 1]]; i++)
        review(r, DOWN, g->uses[i]);
}

static void make_rings(struct sx_part_refiner *r)
{
    for (int w = 0; w < WAYS; w++) {
        for (unsigned s = 0; s < r->graph->k; s++)
            r->ring[w][s] = SX_PART_NONE;
        for (uint32_t v = 0; v < r->graph->n; v++)
            r->next[w][v] = SX_PART_NONE;
        for (uint32_t v = 0; v < r->graph->n; v++)
            review(r, w, v);
    }
}

static void take_out(struct sx_part_refiner *r, uint32_t v)
{
    ring_remove(r, UP, v);
    ring_remove(r, DOWN, v);
}

/* --- what guides a chain --- */

static double potential(const struct sx_part_refiner *r, uint32_t v, unsigned to)
{
    const struct sx_part_graph *g = r->graph;
    const struct sx_part_state *st = &r->state;
    struct sx_part_delta d;
    double sum = 0;
    sx_part_state_delta(st, v, to, &d);
    for (unsigned s = 0; s < g->k; s++) {
        double ns = st->ns[s] + d.ns[s];
        if (r->goal == SX_PART_SMALLER) {
            sum += ns > r->bound_ns ? 10 * (ns / r->bound_ns - 1) : 0;
            continue;
        }
        double x = r->reference_ns > 0 ? ns / r->reference_ns : 0;
        for (unsigned i = 0; i < r->squarings; i++)
            x *= x;
        sum += x;
    }
    if (r->all_bytes > 0) {
        double share = (st->bytes_cut + d.bytes_cut) / r->all_bytes;
        sum += r->goal == SX_PART_SMALLER ? share : 1e-3 * share;
    }
    sum += 1e3 * (st->misplaced + (double)d.misplaced);
    if (g->memory) {
        double memory[SX_PART_MAX_STAGES];
        for (unsigned s = 0; s < g->k; s++)
            memory[s] = st->memory[s];
        memory[st->label[v]] -= g->memory[v];
        memory[to] += g->memory[v];
        sum += 1e3 * sx_part_excess(g, memory);
    }
    return sum;
}

/* a < b, and not by rounding alone */
static bool less(double a, double b)
{
    return a < b * (1 - 1e-9);
}

static bool better(const struct sx_part_refiner *r, const struct sx_part_score *a,
                   const struct sx_part_score *b)
{
    if (a->wrong != b->wrong)
        return less(a->wrong, b->wrong);
    if (r->goal == SX_PART_SMALLER) {
        if (a->slowest_ns > r->bound_ns)
            return false;
        if (less(a->bytes_cut, b->bytes_cut))
            return true;
        return a->bytes_cut <= b->bytes_cut * (1 + 1e-12) && less(a->latency_ns, b->latency_ns);
    }
    if (less(a->slowest_ns, b->slowest_ns))
        return true;
    if (a->slowest_ns > b->slowest_ns * (1 + 1e-12))
        return false;
    if (less(a->bytes_cut, b->bytes_cut))
        return true;
    return a->bytes_cut <= b->bytes_cut * (1 + 1e-12) && less(a->latency_ns, b->latency_ns);
}

/* --- chains --- */

static uint32_t choose(struct sx_part_refiner *r, unsigned *ret_to)
{
    uint32_t best = SX_PART_NONE;
    double least = INFINITY;
    for (int way = 0; way < WAYS; way++) {
        for (unsigned s = 0; s < r->graph->k; s++) {
            uint32_t *ring = &r->ring[way][s], first = *ring, v = first;
            if (v == SX_PART_NONE)
                continue;
            for (unsigned i = 0; i < LOOK; i++) {
                unsigned to = target(r, way, v);
                double p = potential(r, v, to);
                if (p < least) {
                    least = p;
                    best = v;
                    *ret_to = to;
                }
                v = r->next[way][v];
                if (v == first)
                    break;
            }
            *ring = v;
        }
    }
    return best;
}

/* Returns whether the labelling is better than before; *score is its score. */
static bool chain(struct sx_part_refiner *r, struct sx_part_score *score)
{
    uint32_t kept = 0, v;
    unsigned to = 0;
    r->n_steps = 0;
    r->reference_ns = score->slowest_ns;
    while (r->n_steps < kept + PATIENCE && (v = choose(r, &to)) != SX_PART_NONE) {
        struct sx_part_score now;
        r->steps[r->n_steps++] = (struct step){v, r->state.label[v]};
        take_out(r, v);
        r->moved[v] = true;
        sx_part_state_move(&r->state, v, to);
        review_around(r, v);
        sx_part_state_score(&r->state, &now);
        if (better(r, &now, score)) {
            *score = now;
            kept = r->n_steps;
        }
    }
    for (uint32_t i = r->n_steps; i-- > kept;) {
        take_out(r, r->steps[i].v);
        sx_part_state_move(&r->state, r->steps[i].v, r->steps[i].from);
    }
    for (uint32_t i = 0; i < r->n_steps; i++)
        r->moved[r->steps[i].v] = false;
    for (uint32_t i = 0; i < r->n_steps; i++)
        review_around(r, r->steps[i].v);
    return kept > 0;
}

void sx_part_refine(struct sx_part_refiner *r, enum sx_part_goal goal, double bound_ns,
                    uint8_t *label, struct sx_part_score *ret_score)
{
    /* Low powers see all stages, high ones the slowest: what one cannot better another may. */
    static const unsigned powers[] = {3, 1, 5};
    const unsigned n_powers = goal == SX_PART_FASTER ? 3 : 1;
    r->goal = goal;
    r->bound_ns = bound_ns;
    sx_part_state_set(&r->state, label);
    sx_part_state_score(&r->state, ret_score);
    make_rings(r);
    for (unsigned i = 0, failed = 0; i < CHAINS && failed < n_powers; i++) {
        r->squarings = powers[failed];
        failed = chain(r, ret_score) ? 0 : failed + 1;
    }
    for (uint32_t v = 0; v < r->graph->n; v++)
        label[v] = r->state.label[v];
    sx_part_state_set(&r->state, label);
    sx_part_state_score(&r->state, ret_score);
}
