/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.c - replicas on many machines, and a router before them.
 *
 * The router is not a part of any machine and knows what it needs of each at once: what a real one
 * would learn late, it knows exactly.  A model's replicas are on neighbouring machines, from where
 * the model before it ended, so that fewer replicas than machines spread evenly.
 */
#include <string.h>

#include "base/clock.h"
#include "sim/sim_int.h"

static const char *const names[SX_SIM_ROUTERS] = {"round-robin", "least-finish", "two-choices"};

const char *sx_sim_router_name(enum sx_sim_router router)
{
    return names[router];
}

bool sx_sim_router_find(const char *name, enum sx_sim_router *ret_router)
{
    for (int i = 0; i < SX_SIM_ROUTERS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_router = (enum sx_sim_router)i;
            return true;
        }
    }
    return false;
}

void sx_sim_cluster_place(struct sim_world *w)
{
    unsigned at = 0;
    for (unsigned i = 0; i < w->n_types; i++) {
        struct sim_type *t = &w->types[i];
        t->replicas = t->model->replicas ? t->model->replicas : w->n_machines;
        t->first_machine = at;
        at = (at + t->replicas) % w->n_machines;
    }
}

bool sx_sim_cluster_holds(const struct sim_world *w, unsigned type, unsigned machine)
{
    const struct sim_type *t = &w->types[type];
    return (machine + w->n_machines - t->first_machine) % w->n_machines < t->replicas;
}

static struct sim_machine *replica(struct sim_world *w, const struct sim_type *t, unsigned i)
{
    return &w->machines[(t->first_machine + i) % w->n_machines];
}

static struct sim_machine *least_finish(struct sim_world *w, struct sim_type *t, unsigned type)
{
    struct sim_machine *best = NULL;
    uint64_t least = SX_NEVER;
    unsigned first = t->turn++ % t->replicas; /* ties go round */
    for (unsigned i = 0; i < t->replicas; i++) {
        struct sim_machine *m = replica(w, t, (first + i) % t->replicas);
        if (m->inside == 0 && m->share->n_free == w->config->n_units)
            return m;
        uint64_t end = sx_sim_machine_predict(w, m, type);
        if (!best || end < least) {
            best = m;
            least = end;
        }
    }
    return best;
}

static struct sim_machine *two_choices(struct sim_world *w, struct sim_type *t)
{
    unsigned i = (unsigned)sx_rng_below(&w->route, t->replicas);
    unsigned k = (unsigned)sx_rng_below(&w->route, t->replicas - 1);
    struct sim_machine *a = replica(w, t, i), *b = replica(w, t, k + (k >= i));
    return b->inside < a->inside ? b : a;
}

struct sim_machine *sx_sim_cluster_route(struct sim_world *w, unsigned type)
{
    struct sim_type *t = &w->types[type];
    if (t->replicas == 1)
        return replica(w, t, 0);
    switch (w->config->router) {
    case SX_SIM_LEAST_FINISH:
        return least_finish(w, t, type);
    case SX_SIM_TWO_CHOICES:
        return two_choices(w, t);
    case SX_SIM_ROUND_ROBIN:
        break;
    }
    return replica(w, t, t->turn++ % t->replicas);
}
