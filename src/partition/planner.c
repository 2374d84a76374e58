/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * planner.c - a DAG, a profile and devices become problems; their solutions become plans.
 *
 * A plan names all devices of the machine, in the machine's order, so that the number of a device
 * is the same in both.
 */
#include "partition/planner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a stage costs beside its operators: a task of the executor, a run of a session. */
#define STAGE_NS 20e3

_Static_assert(SX_PLAN_MAX_STAGES == SX_PART_MAX_STAGES, "a plan has room for a cut");
_Static_assert(SX_PART_METHODS == 3, "proposed_ns of a plan");

/* --- problems --- */

void sx_planner_problem_fini(struct sx_part_problem *p)
{
    free((void *)p->node_ns);
    free((void *)p->node_memory);
    free((void *)p->memory_limit);
    free((void *)p->producer);
    free((void *)p->use_at);
    free((void *)p->uses);
    free((void *)p->bytes);
    free((void *)p->group);
    free((void *)p->link);
    *p = (struct sx_part_problem){0};
}

static enum sx_rc check_devices(const struct sx_dag *dag, const struct sx_profile *profile,
                                const struct sx_machine *machine, const unsigned *order,
                                unsigned n_stages, struct sx_err *err)
{
    if (profile->key.n_nodes != dag->n_nodes) {
        sx_fail(err, SX_INVALID, "the profile is of %u operators, the model has %u",
                profile->key.n_nodes, dag->n_nodes);
        sx_hint(err, "measure the model again: staronnx profile MODEL");
        return SX_INVALID;
    }
    if (n_stages == 0 || n_stages > SX_PLAN_MAX_STAGES || machine->n_devices > SX_PLAN_MAX_STAGES)
        return sx_fail(err, SX_INVALID, "%u stages on %u devices; at most %d of each", n_stages,
                       machine->n_devices, SX_PLAN_MAX_STAGES);
    for (unsigned s = 0; s < n_stages; s++) {
        if (order[s] >= machine->n_devices)
            return sx_fail(err, SX_INVALID, "stage %u is on device %u of %u", s + 1, order[s] + 1,
                           machine->n_devices);
    }
    return SX_OK;
}

/* Times of all nodes on one device. */
static enum sx_rc fill_times(const struct sx_profile *profile, const struct sx_device *device,
                             unsigned batch, double *ret_ns, struct sx_err *err)
{
    enum sx_rc rc = sx_profile_node_ns(profile, device->kind, device->n_units, batch, ret_ns, NULL);
    if (rc == SX_NOT_FOUND) {
        sx_fail(err, rc, "the profile has no times for device '%s' (%s, %u units)", device->name,
                device->kind, device->n_units);
        sx_hint(err, "measure the model on it: staronnx profile MODEL --device %s", device->name);
    } else if (rc != SX_OK) {
        sx_fail(err, rc, "cannot tell the times on device '%s'", device->name);
    }
    for (uint32_t v = 0; rc == SX_OK && v < profile->key.n_nodes; v++)
        ret_ns[v] *= device->slowdown;
    return rc;
}

/* The devices' limits, if one has any. */
static bool fill_memory(const struct sx_dag *dag, const struct sx_machine *machine,
                        const unsigned *order, struct sx_part_problem *problem)
{
    bool limited = false;
    for (unsigned s = 0; s < problem->n_stages; s++)
        limited = limited || machine->devices[order[s]].memory_bytes > 0;
    if (!limited)
        return true;
    double *memory = malloc((dag->n_nodes + 1) * sizeof *memory);
    double *limit = malloc(problem->n_stages * sizeof *limit);
    problem->node_memory = memory;
    problem->memory_limit = limit;
    if (!memory || !limit)
        return false;
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        memory[v] = (double)dag->nodes[v].weight_bytes;
    for (unsigned s = 0; s < problem->n_stages; s++) {
        double bytes = machine->devices[order[s]].memory_bytes;
        limit[s] = bytes > 0 ? bytes : INFINITY;
    }
    return true;
}

enum sx_rc sx_planner_problem(const struct sx_dag *dag, const struct sx_profile *profile,
                              const struct sx_machine *machine, const unsigned *order,
                              unsigned n_stages, unsigned batch,
                              struct sx_part_problem *ret_problem, struct sx_err *err)
{
    size_t n = dag->n_nodes, n_tensors = dag->n_tensors, n_uses = 0;
    enum sx_rc rc = check_devices(dag, profile, machine, order, n_stages, err);
    if (rc != SX_OK)
        return rc;
    for (size_t t = 0; t < n_tensors; t++)
        n_uses += dag->tensors[t].n_uses;
    double *node_ns = malloc((n_stages * n + 1) * sizeof *node_ns);
    double *bytes = malloc((n_tensors + 1) * sizeof *bytes);
    uint32_t *producer = malloc((n_tensors + 1) * sizeof *producer);
    uint32_t *use_at = malloc((n_tensors + 1) * sizeof *use_at);
    uint32_t *uses = malloc((n_uses + 1) * sizeof *uses);
    uint32_t *group = dag->group ? malloc((n + 1) * sizeof *group) : NULL;
    struct sx_part_link *link = malloc((size_t)n_stages * n_stages * sizeof *link);
    struct sx_part_problem problem = {
        .n_nodes = dag->n_nodes,
        .n_tensors = dag->n_tensors,
        .n_stages = n_stages,
        .node_ns = node_ns,
        .producer = producer,
        .use_at = use_at,
        .uses = uses,
        .bytes = bytes,
        .group = group,
        .link = link,
        .stage_ns = STAGE_NS,
    };
    if (!node_ns || !bytes || !producer || !use_at || !uses || (dag->group && !group) || !link ||
        !fill_memory(dag, machine, order, &problem)) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory to plan %zu operators", n);
        goto out;
    }
    for (unsigned s = 0; rc == SX_OK && s < n_stages; s++)
        rc = fill_times(profile, &machine->devices[order[s]], batch, node_ns + s * n, err);
    use_at[0] = 0;
    for (size_t t = 0; t < n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        producer[t] = tensor->producer == SX_DAG_NONE ? SX_PART_NONE : tensor->producer;
        bytes[t] = sx_dag_bytes(dag, (uint32_t)t, batch);
        use_at[t + 1] = use_at[t] + tensor->n_uses;
        if (tensor->n_uses > 0)
            memcpy(uses + use_at[t], dag->uses + tensor->first_use, tensor->n_uses * sizeof *uses);
    }
    if (group)
        memcpy(group, dag->group, n * sizeof *group);
    for (unsigned i = 0; i < n_stages * n_stages; i++) {
        const struct sx_device *from = &machine->devices[order[i / n_stages]];
        const struct sx_device *to = &machine->devices[order[i % n_stages]];
        struct sx_profile_link measured = sx_profile_link(profile, from->kind, to->kind);
        link[i] = (struct sx_part_link){measured.fixed_ns, measured.byte_ns};
    }
    if (rc == SX_OK) {
        *ret_problem = problem;
        return SX_OK;
    }
out:
    sx_planner_problem_fini(&problem);
    return rc;
}

/* --- plans --- */

static enum sx_rc fill_stages(struct sx_plan *plan, const struct sx_dag *dag,
                              const struct sx_part_problem *p, const struct sx_part_result *cut,
                              const unsigned *order)
{
    uint32_t size[SX_PLAN_MAX_STAGES] = {0};
    unsigned to[SX_PLAN_MAX_STAGES]; /* stage of the cut -> stage of the plan */
    for (uint32_t v = 0; v < p->n_nodes; v++)
        size[cut->stage[v]]++;
    plan->stages = calloc(p->n_stages, sizeof *plan->stages);
    if (!plan->stages)
        return SX_NO_MEMORY;
    for (unsigned s = 0; s < p->n_stages; s++) {
        if (size[s] == 0)
            continue;
        struct sx_plan_stage *stage = &plan->stages[plan->n_stages];
        to[s] = plan->n_stages++;
        stage->device = order[s];
        stage->ns = p->stage_ns;
        stage->nodes = malloc(size[s] * sizeof *stage->nodes);
        if (!stage->nodes)
            return SX_NO_MEMORY;
    }
    for (uint32_t v = 0; v < p->n_nodes; v++) {
        struct sx_plan_stage *stage = &plan->stages[to[cut->stage[v]]];
        stage->nodes[stage->n_nodes++] = v;
        stage->ns += p->node_ns[(size_t)cut->stage[v] * p->n_nodes + v];
        stage->weight_bytes += dag->nodes[v].weight_bytes;
    }
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        bool fetched[SX_PLAN_MAX_STAGES] = {false}, leaves = false;
        if (p->producer[t] == SX_PART_NONE)
            continue;
        unsigned from = cut->stage[p->producer[t]];
        for (uint32_t i = p->use_at[t]; i < p->use_at[t + 1]; i++) {
            unsigned s = cut->stage[p->uses[i]];
            const struct sx_part_link *link = &p->link[from * p->n_stages + s];
            if (s == from || fetched[s])
                continue;
            fetched[s] = leaves = true;
            plan->stages[to[s]].in_bytes += p->bytes[t];
            plan->stages[to[s]].transfer_ns += link->fixed_ns + p->bytes[t] * link->byte_ns;
        }
        plan->stages[to[from]].out_bytes += leaves ? p->bytes[t] : 0;
    }
    return SX_OK;
}

/* "cpu:1@8 | cpu:0"; names that do not fit are cut off. */
static void name_plan(struct sx_plan *plan)
{
    size_t at = 0;
    if (plan->n_stages == 1) {
        snprintf(plan->name, sizeof plan->name, "whole on %s",
                 plan->devices[plan->stages[0].device]);
        snprintf(plan->method, sizeof plan->method, "whole");
        return;
    }
    for (unsigned s = 0; s < plan->n_stages && at < sizeof plan->name; s++) {
        int n = snprintf(plan->name + at, sizeof plan->name - at, "%s%s", s ? " | " : "",
                         plan->devices[plan->stages[s].device]);
        at += n > 0 ? (size_t)n : 0;
    }
}

static enum sx_rc make_plan(const struct sx_dag *dag, const struct sx_profile *profile,
                            const struct sx_machine *machine, const unsigned *order, unsigned batch,
                            const struct sx_part_problem *problem, const struct sx_part_result *cut,
                            struct sx_plan **ret_plan, struct sx_err *err)
{
    struct sx_plan *plan = calloc(1, sizeof *plan);
    if (!plan || fill_stages(plan, dag, problem, cut, order) != SX_OK) {
        sx_plan_destroy(plan);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a plan of %u operators", dag->n_nodes);
    }
    plan->key = profile->key;
    plan->batch = batch;
    plan->n_devices = machine->n_devices;
    for (unsigned d = 0; d < machine->n_devices; d++)
        memcpy(plan->devices[d], machine->devices[d].name, sizeof plan->devices[d]);
    plan->latency_ns = cut->value.latency_ns;
    plan->slowest_ns = cut->value.slowest_ns;
    plan->bytes_cut = cut->value.bytes_cut;
    plan->refined = cut->refined;
    snprintf(plan->method, sizeof plan->method, "%s", sx_part_method_text(cut->method));
    for (int m = 0; m < SX_PART_METHODS; m++)
        plan->proposed_ns[m] = cut->proposed_ns[m] < 1e300 ? cut->proposed_ns[m] : 0;
    name_plan(plan);
    *ret_plan = plan;
    return SX_OK;
}

_Static_assert(sizeof((struct sx_plan *)0)->devices[0] == sizeof((struct sx_device *)0)->name,
               "names are copied whole");

enum sx_rc sx_planner_cut(const struct sx_dag *dag, const struct sx_profile *profile,
                          const struct sx_machine *machine, const unsigned *order,
                          unsigned n_stages, unsigned batch, const struct sx_part_options *options,
                          struct sx_plan **ret_plan, struct sx_err *err)
{
    struct sx_part_problem problem;
    struct sx_part_result cut = {0};
    enum sx_rc rc =
        sx_planner_problem(dag, profile, machine, order, n_stages, batch, &problem, err);
    if (rc != SX_OK)
        return rc;
    rc = sx_part_solve(&problem, options, &cut, err);
    if (rc == SX_INVALID && problem.memory_limit) /* we made it ourselves: it is right otherwise */
        rc = sx_fail(err, SX_TOO_LARGE, "the weights fit into no cut of %u stages", n_stages);
    if (rc == SX_OK)
        rc = make_plan(dag, profile, machine, order, batch, &problem, &cut, ret_plan, err);
    sx_part_result_fini(&cut);
    sx_planner_problem_fini(&problem);
    return rc;
}

enum sx_rc sx_planner_whole(const struct sx_dag *dag, const struct sx_profile *profile,
                            const struct sx_machine *machine, unsigned device, unsigned batch,
                            struct sx_plan **ret_plan, struct sx_err *err)
{
    const struct sx_part_options options = {.methods = 1u << SX_PART_TOPOLOGICAL,
                                            .no_refine = true};
    return sx_planner_cut(dag, profile, machine, &device, 1, batch, &options, ret_plan, err);
}

/* --- variants --- */

static bool same_stages(const struct sx_plan *a, const struct sx_plan *b)
{
    if (a->n_stages != b->n_stages)
        return false;
    for (unsigned s = 0; s < a->n_stages; s++) {
        const struct sx_plan_stage *x = &a->stages[s], *y = &b->stages[s];
        if (x->device != y->device || x->n_nodes != y->n_nodes ||
            memcmp(x->nodes, y->nodes, x->n_nodes * sizeof *x->nodes) != 0)
            return false;
    }
    return true;
}

struct variants {
    struct sx_plan **plans;
    size_t n, cap;
};

/* Takes the plan over: into the list, or, when it is there already or there is no room, away. */
static void add(struct variants *list, struct sx_plan *plan)
{
    bool has = list->n == list->cap;
    for (size_t i = 0; i < list->n && !has; i++)
        has = same_stages(list->plans[i], plan);
    if (has)
        sx_plan_destroy(plan);
    else
        list->plans[list->n++] = plan;
}

/* What the fastest device does alone: the list begins with the whole models. */
static double fastest_whole_ns(const struct variants *list)
{
    double ns = INFINITY;
    for (size_t i = 0; i < list->n; i++)
        if (list->plans[i]->n_stages == 1)
            ns = fmin(ns, list->plans[i]->slowest_ns);
    return ns;
}

/* The cut over these devices in the better direction, and in the other one if a request passes it
 * sooner, or if it, too, does more than the fastest device alone: a scheduler prefers those that
 * begin on the slow device, and those need not be the better ones by a hair. */
static enum sx_rc add_both_ways(struct variants *list, const struct sx_dag *dag,
                                const struct sx_profile *profile, const struct sx_machine *machine,
                                const unsigned *order, unsigned n_stages, unsigned batch,
                                const struct sx_part_options *options, struct sx_err *err)
{
    unsigned back[SX_PLAN_MAX_STAGES];
    struct sx_plan *one = NULL, *other = NULL;
    for (unsigned s = 0; s < n_stages; s++)
        back[s] = order[n_stages - 1 - s];
    enum sx_rc rc =
        sx_planner_cut(dag, profile, machine, order, n_stages, batch, options, &one, err);
    if (rc == SX_OK || rc == SX_TOO_LARGE)
        rc = sx_planner_cut(dag, profile, machine, back, n_stages, batch, options, &other, err);
    if (rc != SX_OK && rc != SX_TOO_LARGE) {
        sx_plan_destroy(one);
        return rc;
    }
    if (!one || !other) { /* only one direction fits, or none */
        if (one || other)
            add(list, one ? one : other);
        return SX_OK;
    }
    if (other->slowest_ns < one->slowest_ns) {
        struct sx_plan *better = other;
        other = one;
        one = better;
    }
    bool worth = other->latency_ns < one->latency_ns || other->slowest_ns < fastest_whole_ns(list);
    add(list, one);
    if (worth)
        add(list, other);
    else
        sx_plan_destroy(other);
    return SX_OK;
}

enum sx_rc sx_planner_variants(const struct sx_dag *dag, const struct sx_profile *profile,
                               const struct sx_machine *machine, unsigned batch,
                               const struct sx_part_options *options, struct sx_plan **ret_plans,
                               size_t cap, size_t *ret_n, struct sx_err *err)
{
    struct variants list = {.plans = ret_plans, .cap = cap};
    unsigned all[SX_PLAN_MAX_STAGES], n = machine->n_devices;
    enum sx_rc rc = SX_OK;
    for (unsigned d = 0; rc == SX_OK && d < n; d++) {
        struct sx_plan *plan;
        rc = sx_planner_whole(dag, profile, machine, d, batch, &plan, err);
        if (rc == SX_OK) /* also says when there are more devices than a plan may have */
            add(&list, plan);
        rc = rc == SX_TOO_LARGE ? SX_OK : rc;
    }
    for (unsigned a = 0; rc == SX_OK && a < n; a++) {
        for (unsigned b = a + 1; rc == SX_OK && b < n && list.n < cap; b++)
            rc = add_both_ways(&list, dag, profile, machine, (unsigned[]){a, b}, 2, batch, options,
                               err);
    }
    if (rc == SX_OK && n >= 3 && list.n < cap) {
        for (unsigned d = 0; d < n; d++)
            all[d] = d;
        rc = add_both_ways(&list, dag, profile, machine, all, n, batch, options, err);
    }
    if (rc == SX_OK && list.n == 0)
        rc = sx_fail(err, SX_TOO_LARGE,
                     "the model's weights do not fit into the devices' memory, "
                     "whole or cut");
    for (size_t i = 0; rc != SX_OK && i < list.n; i++)
        sx_plan_destroy(list.plans[i]);
    *ret_n = rc == SX_OK ? list.n : 0;
    return rc;
}
