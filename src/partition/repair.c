/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.c - METIS's parts, which know no direction, become stages.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "partition/part_int.h"

#define ALL_ORDERS 4 /* up to this many parts all orders are tried: 24 */

struct parts {
    unsigned k;
    double edge[SX_PART_MAX_STAGES][SX_PART_MAX_STAGES]; /* bytes + 1 for each tensor */
    double mean[SX_PART_MAX_STAGES];                     /* position of its vertices */
};

struct oriented {
    uint8_t stage[SX_PART_MAX_STAGES]; /* of a part */
    double against;
};

static void measure(const struct sx_part_graph *g, const uint8_t *part, struct parts *ret_parts)
{
    struct parts parts = {.k = g->k};
    uint32_t size[SX_PART_MAX_STAGES] = {0};
    for (uint32_t v = 0; v < g->n; v++) {
        parts.mean[part[v]] += v;
        size[part[v]]++;
    }
    for (unsigned a = 0; a < g->k; a++)
        parts.mean[a] = size[a] ? parts.mean[a] / size[a] : g->n;
    for (uint32_t t = 0; t < g->n_tensors; t++) {
        for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++)
            parts.edge[part[g->producer[t]]][part[g->uses[i]]] += g->bytes[t] + 1;
    }
    *ret_parts = parts;
}

static double against(const struct parts *parts, const uint8_t *stage)
{
    double sum = 0;
    for (unsigned a = 0; a < parts->k; a++) {
        for (unsigned b = 0; b < parts->k; b++)
            sum += stage[a] > stage[b] ? parts->edge[a][b] : 0;
    }
    return sum;
}

static void insert(struct oriented *best, size_t *n, size_t cap, const struct oriented *new)
{
    size_t at = *n;
    while (at > 0 && best[at - 1].against > new->against)
        at--;
    if (at == cap)
        return;
    *n += *n < cap;
    memmove(best + at + 1, best + at, (*n - 1 - at) * sizeof *best);
    best[at] = *new;
}

/* All orders of the parts, by Heap's exchanges. */
static size_t all_orders(const struct parts *parts, struct oriented *best, size_t cap)
{
    struct oriented o;
    unsigned turn[ALL_ORDERS] = {0};
    size_t n = 0;
    memset(&o, 0, sizeof o);
    for (unsigned a = 0; a < parts->k; a++)
        o.stage[a] = (uint8_t)a;
    o.against = against(parts, o.stage);
    insert(best, &n, cap, &o);
    for (unsigned i = 1; i < parts->k;) {
        if (turn[i] == i) {
            turn[i++] = 0;
            continue;
        }
        unsigned other = i % 2 ? turn[i] : 0;
        uint8_t kept = o.stage[other];
        o.stage[other] = o.stage[i];
        o.stage[i] = kept;
        o.against = against(parts, o.stage);
        insert(best, &n, cap, &o);
        turn[i]++;
        i = 1;
    }
    return n;
}

/* Again and again the part that the fewest bytes reach from those that are left; that finds the
 * order when there is one without bytes against it. */
static void greedy_order(const struct parts *parts, struct oriented *ret_order)
{
    bool placed[SX_PART_MAX_STAGES] = {false};
    memset(ret_order, 0, sizeof *ret_order);
    for (unsigned s = 0; s < parts->k; s++) {
        unsigned best = parts->k;
        double least = INFINITY;
        for (unsigned b = 0; b < parts->k; b++) {
            double in = 0;
            for (unsigned a = 0; a < parts->k && !placed[b]; a++)
                in += placed[a] || a == b ? 0 : parts->edge[a][b];
            if (placed[b])
                continue;
            if (best == parts->k || in < least ||
                (in == least && parts->mean[b] < parts->mean[best])) {
                least = in;
                best = b;
            }
        }
        placed[best] = true;
        ret_order->stage[best] = (uint8_t)s;
    }
    ret_order->against = against(parts, ret_order->stage);
}

size_t sx_part_orient(const struct sx_part_graph *g, const uint8_t *part,
                      uint8_t (*ret_stage)[SX_PART_MAX_STAGES], size_t cap, size_t *ret_acyclic)
{
    struct parts parts;
    struct oriented best[24], same;
    size_t n = 0;
    bool has_same = false;
    if (cap > sizeof best / sizeof best[0])
        cap = sizeof best / sizeof best[0];
    measure(g, part, &parts);
    memset(&same, 0, sizeof same);
    for (unsigned a = 0; a < g->k; a++)
        same.stage[a] = (uint8_t)a;
    if (g->k <= ALL_ORDERS) {
        n = all_orders(&parts, best, cap);
    } else {
        greedy_order(&parts, &best[0]);
        n = 1;
    }
    for (size_t i = 0; i < n; i++)
        has_same |= memcmp(best[i].stage, same.stage, g->k) == 0;
    if (!has_same && cap > 1) {
        same.against = against(&parts, same.stage);
        n = n < cap ? n : cap - 1;
        best[n++] = same;
    }
    *ret_acyclic = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(ret_stage[i], best[i].stage, sizeof best[i].stage);
        *ret_acyclic += best[i].against == 0 && *ret_acyclic == i;
    }
    return n;
}

void sx_part_monotone(const struct sx_part_graph *g, bool up, uint8_t *label)
{
    for (uint32_t v = 0; v < g->n; v++) {
        label[v] = label[v] < g->least[v] ? g->least[v] : label[v];
        label[v] = label[v] > g->most[v] ? g->most[v] : label[v];
    }
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        uint32_t t = up ? i : g->n_tensors - 1 - i; /* by producer: its own label is final */
        uint8_t *made = &label[g->producer[t]];
        for (uint32_t j = g->use_at[t]; j < g->use_at[t + 1]; j++) {
            uint8_t *read = &label[g->uses[j]];
            if (up && *read < *made)
                *read = *made;
            else if (!up && *made > *read)
                *made = *read;
        }
    }
}
