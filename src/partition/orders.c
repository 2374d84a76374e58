/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * orders.c - topological orders: where a cut along an order can be depends on the order.
 *
 * Depth-first orders keep branches together, so few tensors are open between them; an order by key
 * brings what a fast first stage is good at to the front, or keeps METIS's parts together.
 */
#include <math.h>
#include <stdlib.h>

#include "partition/part_int.h"

/* A binary heap of vertices by key, then number. */
struct entry {
    double key;
    uint32_t v;
};

struct heap {
    struct entry *entries;
    size_t n;
};

static bool before(const struct entry *a, const struct entry *b)
{
    return a->key < b->key || (a->key == b->key && a->v < b->v);
}

static void push(struct heap *h, double key, uint32_t v)
{
    struct entry e = {key, v};
    size_t i = h->n++;
    while (i > 0 && before(&e, &h->entries[(i - 1) / 2])) {
        h->entries[i] = h->entries[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->entries[i] = e;
}

static struct entry pop(struct heap *h)
{
    struct entry top = h->entries[0], last = h->entries[--h->n];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n)
            break;
        c += c + 1 < h->n && before(&h->entries[c + 1], &h->entries[c]);
        if (!before(&h->entries[c], &last))
            break;
        h->entries[i] = h->entries[c];
        i = c;
    }
    h->entries[i] = last;
    return top;
}

enum sx_rc sx_part_order_by_key(const struct sx_part_graph *g, const double *key,
                                uint32_t *ret_order)
{
    enum sx_rc rc = SX_NO_MEMORY;
    struct heap heap = {malloc(g->n * sizeof *heap.entries), 0};
    uint32_t *left = malloc(g->n * sizeof *left), n = 0;
    if (!heap.entries || !left)
        goto out;
    for (uint32_t v = 0; v < g->n; v++) {
        left[v] = g->in_at[v + 1] - g->in_at[v];
        if (left[v] == 0)
            push(&heap, key[v], v);
    }
    while (heap.n > 0) {
        uint32_t v = pop(&heap).v;
        ret_order[n++] = v;
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++) {
            for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++) {
                if (--left[g->uses[i]] == 0)
                    push(&heap, key[g->uses[i]], g->uses[i]);
            }
        }
    }
    rc = n == g->n ? SX_OK : SX_INVALID;
out:
    free(heap.entries);
    free(left);
    return rc;
}

/* Neighbours of v by number: up: producers of what it reads; down: readers of what it makes. */
static uint32_t neighbour(const struct sx_part_graph *g, bool up, uint32_t v, uint32_t i)
{
    if (up)
        return g->in_at[v] + i < g->in_at[v + 1] ? g->producer[g->ins[g->in_at[v] + i]]
                                                 : SX_PART_NONE;
    i += g->use_at[g->out_at[v]];
    return i < g->use_at[g->out_at[v + 1]] ? g->uses[i] : SX_PART_NONE;
}

enum sx_rc sx_part_order_depth(const struct sx_part_graph *g, bool up, uint32_t *ret_order)
{
    enum sx_rc rc = SX_NO_MEMORY;
    uint32_t *stack = malloc(g->n * sizeof *stack), *next = calloc(g->n, sizeof *next);
    bool *seen = calloc(g->n, sizeof *seen);
    uint32_t n = 0;
    if (!stack || !next || !seen)
        goto out;
    /* Post-order along `up` is topological; along the edges it is the reverse of one. */
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t root = up ? i : g->n - 1 - i, depth = 0;
        bool end =
            up ? g->out_at[root] == g->out_at[root + 1] : g->in_at[root] == g->in_at[root + 1];
        if (!end)
            continue;
        stack[depth++] = root;
        seen[root] = true;
        while (depth > 0) {
            uint32_t v = stack[depth - 1], w = neighbour(g, up, v, next[v]++);
            if (w == SX_PART_NONE) {
                ret_order[up ? n : g->n - 1 - n] = v;
                n++;
                depth--;
            } else if (!seen[w]) {
                seen[w] = true;
                stack[depth++] = w;
            }
        }
    }
    rc = SX_OK;
out:
    free(stack);
    free(next);
    free(seen);
    return rc;
}

/* What running v would add to the bytes that are alive; `left`: vertices still to read a tensor.
 * It only falls while v waits, so an entry of the heap that is out of date comes after the new. */
static double growth(const struct sx_part_graph *g, const uint32_t *left, uint32_t v)
{
    double bytes = 0;
    for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++)
        bytes += g->bytes[t];
    for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++)
        bytes -= left[g->ins[i]] == 1 ? g->bytes[g->ins[i]] : 0;
    return bytes;
}

enum sx_rc sx_part_order_live(const struct sx_part_graph *g, uint32_t *ret_order)
{
    enum sx_rc rc = SX_NO_MEMORY;
    /* each vertex is pushed when it becomes ready, and again when it becomes the last reader of a
     * tensor */
    struct heap heap = {malloc((g->n + (size_t)g->n_tensors) * sizeof *heap.entries), 0};
    uint32_t *missing = malloc(g->n * sizeof *missing);
    uint32_t *left = malloc((g->n_tensors + 1) * sizeof *left), n = 0;
    bool *done = calloc(g->n, sizeof *done);
    if (!heap.entries || !missing || !left || !done)
        goto out;
    for (uint32_t t = 0; t < g->n_tensors; t++)
        left[t] = g->use_at[t + 1] - g->use_at[t];
    for (uint32_t v = 0; v < g->n; v++) {
        missing[v] = g->in_at[v + 1] - g->in_at[v];
        if (missing[v] == 0)
            push(&heap, growth(g, left, v), v);
    }
    while (heap.n > 0) {
        uint32_t v = pop(&heap).v;
        if (done[v])
            continue;
        done[v] = true;
        ret_order[n++] = v;
        for (uint32_t i = g->in_at[v]; i < g->in_at[v + 1]; i++) {
            uint32_t t = g->ins[i], j = g->use_at[t];
            if (--left[t] != 1)
                continue;
            while (done[g->uses[j]])
                j++;
            if (missing[g->uses[j]] == 0)
                push(&heap, growth(g, left, g->uses[j]), g->uses[j]);
        }
        for (uint32_t t = g->out_at[v]; t < g->out_at[v + 1]; t++) {
            for (uint32_t i = g->use_at[t]; i < g->use_at[t + 1]; i++) {
                if (--missing[g->uses[i]] == 0)
                    push(&heap, growth(g, left, g->uses[i]), g->uses[i]);
            }
        }
    }
    rc = SX_OK;
out:
    free(heap.entries);
    free(missing);
    free(left);
    free(done);
    return rc;
}
