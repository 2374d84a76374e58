/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * events.c - what happens next: a binary heap with a complete order, so that a simulation is the
 * same each time.
 */
#include <assert.h>
#include <stdlib.h>

#include "sim/sim_int.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

bool sx_sim_events_push(struct sim_events *e, enum sim_event_kind kind, uint64_t at,
                        uint32_t machine, uint32_t what)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 64;
        struct sim_event *grown = realloc(e->heap, cap * sizeof *grown);
        if (!grown)
            return false;
        e->heap = grown;
        e->cap = cap;
    }
    /* Arrivals of one time are in the order of their models, all else in the order of pushing. */
    uint64_t second = kind == SIM_ARRIVAL ? what : e->pushed++;
    struct sim_event event = {at, (uint64_t)kind << 60 | second, machine, what};
    size_t i = e->n++;
    while (i > 0 && before(&event, &e->heap[(i - 1) / 2])) {
        e->heap[i] = e->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    e->heap[i] = event;
    return true;
}

struct sim_event sx_sim_events_pop(struct sim_events *e)
{
    assert(e->n > 0);
    struct sim_event first = e->heap[0], last = e->heap[--e->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= e->n)
            break;
        if (child + 1 < e->n && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &last))
            break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    if (e->n)
        e->heap[i] = last;
    return first;
}
