/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * solve.c - methods propose, refinement improves, the best wins.
 *
 * All labellings that anybody proposed or made are kept as candidates until the end.  A rival is
 * one that the winner must not be worse than: the best topological cuts, of all orders and of the
 * file's, and each valid METIS partition.  The 1 % within which bytes decide makes comparison in
 * pairs go in circles, so the winner is chosen among the candidates that no rival beats.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

#define STARTS           16 /* candidates that are refined */
#define STARTS_TINY      48
#define TINY             128 /* vertices */
#define TINY_ORDERS      40  /* random orders for a tiny graph */
/* METIS is run as often as it is worth: each run is about linear. */
#define METIS_RUNS_LEAST 8
#define METIS_RUNS_MOST  64
#define METIS_VERTICES   32768 /* in all runs together */
/* Up to this size, and 4 stages, all labellings are searched when nothing else fits. */
#define LAST_RESORT      16

struct candidate {
    uint8_t *label;
    struct sx_part_score score;
    enum sx_part_method method;
    bool refined, rival;
    bool raw; /* a METIS partition as it was */
};

struct solver {
    struct sx_part_graph graph;
    struct sx_part_state state;
    struct sx_part_result *result;
    struct candidate *candidates;
    size_t n, cap;
    uint8_t *label, *small; /* work space */
    uint32_t *order;
    double *key;
};

static void solver_fini(struct solver *x)
{
    for (size_t i = 0; i < x->n; i++)
        free(x->candidates[i].label);
    free(x->candidates);
    free(x->label);
    free(x->small);
    free(x->order);
    free(x->key);
    sx_part_state_fini(&x->state);
    sx_part_graph_fini(&x->graph);
}

/* Keep a labelling (copied) unless one with the same stages is there; *ret_index (may be NULL)
 * is where it is now. */
static enum sx_rc keep(struct solver *x, const uint8_t *label, enum sx_part_method method,
                       bool refined, size_t *ret_index)
{
    struct candidate c = {.method = method, .refined = refined};
    sx_part_state_set(&x->state, label);
    sx_part_state_score(&x->state, &c.score);
    for (size_t i = 0; i < x->n; i++) {
        if (x->candidates[i].score.slowest_ns == c.score.slowest_ns &&
            memcmp(x->candidates[i].label, label, x->graph.n) == 0) {
            if (ret_index)
                *ret_index = i;
            return SX_OK;
        }
    }
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 64;
        struct candidate *grown = realloc(x->candidates, cap * sizeof *grown);
        if (!grown)
            return SX_NO_MEMORY;
        x->candidates = grown;
        x->cap = cap;
    }
    c.label = malloc(x->graph.n);
    if (!c.label)
        return SX_NO_MEMORY;
    memcpy(c.label, label, x->graph.n);
    if (ret_index)
        *ret_index = x->n;
    x->candidates[x->n++] = c;
    return SX_OK;
}

/* --- topological --- */

static enum sx_rc cut_order(struct solver *x, struct sx_part_dp *dp)
{
    enum sx_rc rc;
    if (!sx_part_dp_run(dp, x->order, x->label, x->small))
        return SX_OK;
    rc = keep(x, x->label, SX_PART_TOPOLOGICAL, false, NULL);
    return rc == SX_OK ? keep(x, x->small, SX_PART_TOPOLOGICAL, false, NULL) : rc;
}

/* The order that everybody has, whose best cut is what others compare with. */
static enum sx_rc cut_file_order(struct solver *x, struct sx_part_dp *dp)
{
    size_t at;
    for (uint32_t v = 0; v < x->graph.n; v++)
        x->order[v] = v;
    if (!sx_part_dp_run(dp, x->order, x->label, x->small))
        return SX_OK;
    enum sx_rc rc = keep(x, x->label, SX_PART_TOPOLOGICAL, false, NULL);
    if (rc == SX_OK)
        rc = keep(x, x->small, SX_PART_TOPOLOGICAL, false, &at);
    if (rc == SX_OK)
        x->candidates[at].rival = x->candidates[at].score.wrong == 0;
    return rc;
}

static enum sx_rc cut_by_key(struct solver *x, struct sx_part_dp *dp)
{
    enum sx_rc rc = sx_part_order_by_key(&x->graph, x->key, x->order);
    return rc == SX_OK ? cut_order(x, dp) : rc;
}

/* What the first stages are better at than the last comes first; what must, before all. */
static void key_by_speed(struct solver *x)
{
    const struct sx_part_graph *g = &x->graph;
    const double *last = g->ns + (size_t)(g->k - 1) * g->n;
    for (uint32_t v = 0; v < g->n; v++) {
        double here = g->ns[v], there = last[v];
        double share = isinf(here)        ? 1
                       : isinf(there)     ? 0
                       : here + there > 0 ? here / (here + there)
                                          : 0.5;
        x->key[v] = g->least[v] + g->most[v] + share;
    }
}

/* As late as possible: by how much work hangs behind a vertex, most first. */
static void key_by_tail(struct solver *x)
{
    const struct sx_part_graph *g = &x->graph;
    for (uint32_t v = g->n; v-- > 0;) {
        double tail = 0;
        for (uint32_t i = g->use_at[g->out_at[v]]; i < g->use_at[g->out_at[v + 1]]; i++)
            tail = fmin(tail, x->key[g->uses[i]]);
        x->key[v] = tail - g->work[v];
    }
}

static enum sx_rc propose_topological(struct solver *x, const uint8_t *parts, size_t n_parts,
                                      uint64_t seed)
{
    const struct sx_part_graph *g = &x->graph;
    struct sx_part_dp *dp = NULL;
    enum sx_rc rc = sx_part_dp_create(g, &dp);
    if (rc != SX_OK)
        return rc;
    rc = cut_file_order(x, dp);
    for (int up = 0; rc == SX_OK && up < 2; up++) {
        rc = sx_part_order_depth(g, up, x->order);
        if (rc == SX_OK)
            rc = cut_order(x, dp);
    }
    if (rc == SX_OK)
        rc = sx_part_order_live(g, x->order);
    if (rc == SX_OK)
        rc = cut_order(x, dp);
    if (rc == SX_OK) {
        key_by_speed(x);
        rc = cut_by_key(x, dp);
    }
    if (rc == SX_OK) {
        key_by_tail(x);
        rc = cut_by_key(x, dp);
    }
    /* METIS's parts one after the other */
    for (size_t i = 0; rc == SX_OK && i < n_parts && i < 2; i++) {
        const uint8_t *part = parts + i * g->n;
        uint8_t stage[2][SX_PART_MAX_STAGES];
        size_t acyclic;
        sx_part_orient(g, part, stage, 2, &acyclic);
        for (uint32_t v = 0; v < g->n; v++)
            x->key[v] = stage[0][part[v]];
        rc = cut_by_key(x, dp);
    }
    /* A tiny graph has few orders, and one of them has the best cut. */
    struct sx_rng rng;
    sx_rng_init(&rng, seed + 1);
    for (unsigned i = 0; rc == SX_OK && g->n <= TINY && i < TINY_ORDERS; i++) {
        for (uint32_t v = 0; v < g->n; v++)
            x->key[v] = sx_rng_double(&rng);
        rc = cut_by_key(x, dp);
    }
    sx_part_dp_destroy(dp);
    return rc;
}

/* --- METIS --- */

/* Raw partitions that are valid become rivals; all are repaired. */
static enum sx_rc adopt_part(struct solver *x, const uint8_t *part)
{
    const struct sx_part_graph *g = &x->graph;
    uint8_t stage[24][SX_PART_MAX_STAGES];
    size_t acyclic, n = sx_part_orient(g, part, stage, 24, &acyclic), at;
    enum sx_rc rc = SX_OK;
    bool valid = false;
    for (size_t i = 0; rc == SX_OK && i < acyclic; i++) {
        for (uint32_t v = 0; v < g->n; v++)
            x->label[v] = stage[i][part[v]];
        rc = keep(x, x->label, SX_PART_METIS, false, &at);
        if (rc == SX_OK && x->candidates[at].score.wrong == 0)
            x->candidates[at].rival = x->candidates[at].raw = valid = true;
    }
    x->result->metis_valid += valid;
    /* The best directions, and the one that was asked for: parts have the sizes of stages. */
    size_t tries[3] = {0, n > 1 ? 1 : 0, 0};
    for (size_t i = 0; i < n; i++) {
        bool same = true;
        for (unsigned a = 0; a < g->k; a++)
            same &= stage[i][a] == a;
        tries[2] = same ? i : tries[2];
    }
    for (size_t i = 0; rc == SX_OK && i < 3; i++) {
        for (int up = 0; rc == SX_OK && up < 2; up++) {
            for (uint32_t v = 0; v < g->n; v++)
                x->label[v] = stage[tries[i]][part[v]];
            sx_part_monotone(g, up, x->label);
            rc = keep(x, x->label, SX_PART_METIS, false, NULL);
        }
    }
    return rc;
}

static enum sx_rc propose_metis(struct solver *x, const struct sx_part_options *options,
                                uint8_t **ret_parts, size_t *ret_n)
{
    struct sx_err why = {0};
    enum sx_rc rc;
    char *note = x->result->note;
    if (x->graph.n < 2 * x->graph.k || x->graph.k < 2) {
        if (x->graph.k > 1)
            snprintf(note, sizeof x->result->note, "METIS was not asked: %u operators are too few",
                     x->graph.n);
        return SX_OK;
    }
    unsigned runs = METIS_VERTICES / x->graph.n;
    runs = runs < METIS_RUNS_LEAST ? METIS_RUNS_LEAST : runs;
    runs = runs > METIS_RUNS_MOST ? METIS_RUNS_MOST : runs;
    rc = sx_part_metis(&x->graph, options->metis_helper, options->seed, runs, ret_parts, ret_n,
                       &why);
    if (rc == SX_UNSUPPORTED) {
        snprintf(note, sizeof x->result->note, "METIS had no say: %.120s", why.message);
        return SX_OK;
    }
    x->result->metis_runs = (unsigned)*ret_n;
    for (size_t i = 0; rc == SX_OK && i < *ret_n; i++)
        rc = adopt_part(x, *ret_parts + i * x->graph.n);
    return rc;
}

/* --- the choice --- */

/* Does a rival beat candidate i, by the objective with "within 1 %" counted from the least slowest
 * stage among it and all rivals?  The best of the rivals is never beaten. */
static bool is_beaten(const struct solver *x, size_t i)
{
    const struct sx_part_score *own = &x->candidates[i].score;
    double least = own->slowest_ns;
    for (size_t j = 0; j < x->n; j++)
        if (x->candidates[j].rival)
            least = fmin(least, x->candidates[j].score.slowest_ns);
    double same = least * (1 + SX_PART_CLOSE);
    if (own->slowest_ns > same)
        return true;
    for (size_t j = 0; j < x->n; j++) {
        const struct candidate *c = &x->candidates[j];
        if (c->rival && c->score.slowest_ns <= same && c->score.bytes_cut < own->bytes_cut)
            return true;
    }
    return false;
}

/* A choice of candidates. */
struct pick {
    enum sx_part_method method; /* SX_PART_METHODS: all */
    bool raw;                   /* only METIS partitions as they were */
    bool unbeaten;              /* only those that no rival beats */
};

/* The best valid candidate among some; x->n: there is none. */
static enum sx_rc best_of(const struct solver *x, struct pick pick, size_t *ret_best)
{
    size_t *index = malloc((x->n + 1) * sizeof *index), n = 0;
    struct sx_part_score *scores = malloc((x->n + 1) * sizeof *scores);
    enum sx_rc rc = index && scores ? SX_OK : SX_NO_MEMORY;
    for (size_t i = 0; rc == SX_OK && i < x->n; i++) {
        const struct candidate *c = &x->candidates[i];
        if (c->score.wrong > 0 || (pick.method != SX_PART_METHODS && pick.method != c->method) ||
            (pick.raw && !c->raw) || (pick.unbeaten && is_beaten(x, i)))
            continue;
        index[n] = i;
        scores[n++] = c->score;
    }
    if (rc == SX_OK)
        *ret_best = n > 0 ? index[sx_part_score_best(scores, n)] : x->n;
    free(index);
    free(scores);
    return rc;
}

/* The best that no rival beats; the best of the rivals is always among those. */
static enum sx_rc choose_winner(const struct solver *x, size_t *ret_best)
{
    enum sx_rc rc =
        best_of(x, (struct pick){.method = SX_PART_METHODS, .unbeaten = true}, ret_best);
    if (rc == SX_OK && *ret_best == x->n) /* no rival is valid, and nobody else came near */
        rc = best_of(x, (struct pick){.method = SX_PART_METHODS}, ret_best);
    return rc;
}

static enum sx_rc note_proposals(struct solver *x)
{
    struct sx_part_result *result = x->result;
    size_t best;
    for (size_t i = 0; i < x->n; i++)
        if (x->candidates[i].rival)
            result->rival_ns = fmin(result->rival_ns, x->candidates[i].score.slowest_ns);
    enum sx_rc rc = best_of(x, (struct pick){.method = SX_PART_METIS, .raw = true}, &best);
    if (rc == SX_OK && best < x->n) {
        result->metis_raw_ns = x->candidates[best].score.slowest_ns;
        result->metis_raw_bytes = x->candidates[best].score.bytes_cut;
    }
    for (int m = 0; rc == SX_OK && m < SX_PART_METHODS; m++) {
        rc = best_of(x, (struct pick){.method = (enum sx_part_method)m}, &best);
        if (rc != SX_OK)
            break;
        result->proposed_ns[m] = result->proposed_bytes[m] = INFINITY;
        if (best == x->n)
            continue;
        result->proposed_ns[m] = x->candidates[best].score.slowest_ns;
        result->proposed_bytes[m] = x->candidates[best].score.bytes_cut;
        x->candidates[best].rival |=
            m != SX_PART_METIS; /* METIS's are by now, if they were valid */
    }
    return SX_OK;
}

struct ranked {
    double wrong, ns, bytes;
    size_t index;
};

static int by_time(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->wrong != y->wrong)
        return x->wrong < y->wrong ? -1 : 1;
    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int by_bytes(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? -1 : 1) : by_time(a, b);
}

/* Candidates below a bound (and valid, if there is one), in an order. */
static struct ranked *rank(const struct solver *x, double bound_ns,
                           int (*order)(const void *, const void *), size_t *ret_n)
{
    struct ranked *ranked = malloc((x->n + 1) * sizeof *ranked);
    size_t n = 0;
    for (size_t i = 0; ranked && i < x->n; i++) {
        const struct sx_part_score *score = &x->candidates[i].score;
        if (!(score->slowest_ns <= bound_ns) || (!isinf(bound_ns) && score->wrong > 0))
            continue;
        ranked[n++] = (struct ranked){score->wrong, score->slowest_ns, score->bytes_cut, i};
    }
    if (ranked)
        qsort(ranked, n, sizeof *ranked, order);
    *ret_n = n;
    return ranked;
}

static enum sx_rc refine_some(struct solver *x, struct sx_part_refiner *refiner,
                              enum sx_part_goal goal, double bound_ns, size_t most)
{
    size_t n;
    struct ranked *ranked = rank(x, bound_ns, goal == SX_PART_FASTER ? by_time : by_bytes, &n);
    enum sx_rc rc = ranked ? SX_OK : SX_NO_MEMORY;
    for (size_t i = 0; rc == SX_OK && i < n && i < most; i++) {
        struct sx_part_score score;
        enum sx_part_method method = x->candidates[ranked[i].index].method;
        memcpy(x->label, x->candidates[ranked[i].index].label, x->graph.n);
        sx_part_refine(refiner, goal, bound_ns, x->label, &score);
        rc = keep(x, x->label, method, true, NULL);
    }
    free(ranked);
    return rc;
}

static enum sx_rc refine_all(struct solver *x)
{
    struct sx_part_refiner *refiner = NULL;
    bool tiny = x->graph.n <= TINY;
    enum sx_rc rc = sx_part_refiner_create(&x->graph, &refiner);
    if (rc == SX_OK)
        rc = refine_some(x, refiner, SX_PART_FASTER, INFINITY, tiny ? STARTS_TINY : STARTS);
    size_t n;
    struct ranked *ranked = rc == SX_OK ? rank(x, INFINITY, by_time, &n) : NULL;
    if (rc == SX_OK)
        rc = ranked ? SX_OK : SX_NO_MEMORY;
    if (rc == SX_OK && ranked[0].wrong == 0) {
        /* less than 1 % by what rounding may add */
        double bound = ranked[0].ns * (1 + SX_PART_CLOSE * (1 - 1e-9));
        rc = refine_some(x, refiner, SX_PART_SMALLER, bound, tiny ? STARTS_TINY : STARTS);
    }
    free(ranked);
    sx_part_refiner_destroy(refiner);
    return rc;
}

static enum sx_rc propose_all(struct solver *x, const struct sx_part_options *options,
                              struct sx_err *err)
{
    unsigned methods = options->methods;
    uint8_t *parts = NULL;
    size_t n_parts = 0;
    enum sx_rc rc = SX_OK;
    if (methods == 0)
        methods = 1u << SX_PART_METIS | 1u << SX_PART_TOPOLOGICAL;
    if (methods & 1u << SX_PART_METIS)
        rc = propose_metis(x, options, &parts, &n_parts);
    if (rc == SX_OK && methods & 1u << SX_PART_TOPOLOGICAL)
        rc = propose_topological(x, parts, n_parts, options->seed);
    free(parts);
    if (rc == SX_OK && methods & 1u << SX_PART_EXHAUSTIVE) {
        rc = sx_part_exhaustive(&x->graph, x->label, err);
        if (rc != SX_OK)
            return rc;
        rc = keep(x, x->label, SX_PART_EXHAUSTIVE, false, NULL);
    }
    /* Each vertex as early as it can run: valid but for memory, and where repair of that begins. */
    bool valid = false;
    for (size_t i = 0; i < x->n; i++)
        valid |= x->candidates[i].score.wrong == 0;
    if (rc == SX_OK && !valid)
        rc = keep(x, x->graph.least, SX_PART_TOPOLOGICAL, false, NULL);
    return rc;
}

/* Memory so short that neither orders nor moves found a valid labelling. */
static enum sx_rc last_resort(struct solver *x, size_t *ret_best)
{
    if (x->graph.n > LAST_RESORT || x->graph.k > 4)
        return SX_OK;
    enum sx_rc rc = sx_part_exhaustive(&x->graph, x->label, NULL);
    if (rc == SX_OK)
        rc = keep(x, x->label, SX_PART_EXHAUSTIVE, false, ret_best);
    return rc == SX_INVALID ? SX_OK : rc;
}

static void write_result(const struct solver *x, const struct candidate *winner)
{
    const struct sx_part_problem *p = x->graph.problem;
    for (uint32_t v = 0; v < p->n_nodes; v++)
        x->result->stage[v] = winner->label[x->graph.of_node[v]];
    x->result->method = winner->method;
    x->result->refined = winner->refined;
    sx_part_evaluate(p, x->result->stage, &x->result->value);
}

enum sx_rc sx_part_solve(const struct sx_part_problem *problem,
                         const struct sx_part_options *options, struct sx_part_result *ret_result,
                         struct sx_err *err)
{
    static const struct sx_part_options defaults = {0};
    struct sx_part_result result = {
        .metis_raw_ns = INFINITY, .metis_raw_bytes = INFINITY, .rival_ns = INFINITY};
    struct solver x = {.result = &result};
    struct sx_err why = {0};
    size_t best = 0;
    enum sx_rc rc = sx_part_check(problem, err);
    if (rc != SX_OK)
        return rc;
    options = options ? options : &defaults;
    rc = sx_part_graph_init(&x.graph, problem, err);
    if (rc != SX_OK)
        return rc;
    uint32_t n = x.graph.n;
    x.label = malloc(n);
    x.small = malloc(n);
    x.order = malloc(n * sizeof *x.order);
    x.key = malloc(n * sizeof *x.key);
    result.stage = malloc(problem->n_nodes * sizeof *result.stage);
    rc = x.label && x.small && x.order && x.key && result.stage ? SX_OK : SX_NO_MEMORY;
    if (rc == SX_OK)
        rc = sx_part_state_init(&x.state, &x.graph);
    if (rc == SX_OK)
        rc = propose_all(&x, options, &why);
    if (rc == SX_OK)
        rc = note_proposals(&x);
    /* what exhaustive search alone has found cannot be improved */
    if (rc == SX_OK && !options->no_refine && options->methods != 1u << SX_PART_EXHAUSTIVE)
        rc = refine_all(&x);
    if (rc == SX_OK)
        rc = choose_winner(&x, &best);
    if (rc == SX_OK && best == x.n)
        rc = last_resort(&x, &best);
    if (rc == SX_OK && best == x.n) {
        rc = sx_fail(&why, SX_INVALID, "found no cut into %u stages that fits into their memory",
                     x.graph.k);
        sx_hint(&why, "use more devices, or devices with more memory");
    }
    if (rc == SX_OK) {
        write_result(&x, &x.candidates[best]);
        *ret_result = result;
        result.stage = NULL;
    } else if (rc == SX_NO_MEMORY) {
        sx_fail(err, rc, "no memory to cut a graph of %u nodes", problem->n_nodes);
    } else if (err) {
        *err = why;
    }
    sx_part_result_fini(&result);
    solver_fini(&x);
    return rc;
}
