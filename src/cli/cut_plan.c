/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut_plan.c - the plans that somebody asks for.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cut.h"

bool sx_cut_shares(const char *text, struct sx_cut_request *ret)
{
    double total = 0;
    unsigned n = 0;

    for (;; text++) {
        char *end;
        double share = strtod(text, &end);
        if (end == text || !(share > 0) || share > 1e6 || n == SX_PLAN_MAX_STAGES)
            return false;
        ret->shares[n++] = share;
        total += share;
        text = end;
        if (*text != ',')
            break;
    }
    for (unsigned i = 0; i < n; i++)
        ret->shares[i] /= total;
    ret->n_shares = n;
    return *text == '\0' && n > 1;
}

/* A stage that is to get share p of the work gets a device of speed p: the best cut for such
 * devices has those shares.  Then the times of a device at full speed are put back. */
static enum sx_rc plan_shares(const struct sx_cut *cut, const struct sx_cut_request *request,
                              struct sx_plan **ret_plan, struct sx_err *err)
{
    struct sx_device devices[SX_PLAN_MAX_STAGES];
    struct sx_machine what_if = *cut->machine;
    unsigned order[SX_PLAN_MAX_STAGES];
    const struct sx_part_options options = {.seed = 1};
    double most = 0;
    struct sx_plan *plan;
    enum sx_rc rc;

    for (unsigned s = 0; s < request->n_shares; s++)
        most = fmax(most, request->shares[s]);
    for (unsigned s = 0; s < request->n_shares; s++) {
        devices[s] = cut->machine->devices[0];
        snprintf(devices[s].name, sizeof devices[s].name, "share of %.3g%%",
                 100 * request->shares[s]);
        devices[s].slowdown = most / request->shares[s];
        order[s] = s;
    }
    what_if.devices = devices;
    what_if.n_devices = request->n_shares;
    rc = sx_planner_cut(cut->dag, &cut->profile, &what_if, order, request->n_shares, request->batch,
                        &options, &plan, err);
    if (rc)
        return rc;
    plan->latency_ns = plan->slowest_ns = 0;
    for (unsigned s = 0; s < plan->n_stages; s++) {
        struct sx_plan_stage *stage = &plan->stages[s];
        stage->ns /= devices[stage->device].slowdown;
        plan->latency_ns += stage->ns + stage->transfer_ns;
        plan->slowest_ns = fmax(plan->slowest_ns, stage->ns + stage->transfer_ns);
    }
    memset(plan->proposed_ns, 0, sizeof plan->proposed_ns); /* were those of slowed devices */
    *ret_plan = plan;
    return SX_OK;
}

/* All orders of `n` of the devices. */
struct orders {
    struct sx_cut *cut;
    const struct sx_cut_request *request;
    unsigned order[SX_PLAN_MAX_STAGES];
    struct sx_plan *best;
};

static enum sx_rc try_orders(struct orders *o, unsigned n, struct sx_err *err)
{
    const struct sx_part_options options = {.seed = 1};
    struct sx_plan *plan;
    enum sx_rc rc = SX_OK;

    if (n == o->request->n_stages) {
        rc = sx_planner_cut(o->cut->dag, &o->cut->profile, o->cut->machine, o->order, n,
                            o->request->batch, &options, &plan, err);
        if (rc == SX_TOO_LARGE)
            return SX_OK; /* another order may fit */
        if (rc)
            return rc;
        if (!o->best || plan->slowest_ns < o->best->slowest_ns) {
            struct sx_plan *worse = o->best;
            o->best = plan;
            plan = worse;
        }
        sx_plan_destroy(plan);
        return SX_OK;
    }
    for (unsigned d = 0; !rc && d < o->cut->machine->n_devices; d++) {
        bool used = false;
        for (unsigned k = 0; k < n; k++)
            used = used || o->order[k] == d;
        if (used)
            continue;
        o->order[n] = d;
        rc = try_orders(o, n + 1, err);
    }
    return rc;
}

enum sx_rc sx_cut_plans(struct sx_cut *cut, const struct sx_cut_request *request,
                        struct sx_plan **ret_plans, size_t cap, size_t *ret_n, struct sx_err *err)
{
    const struct sx_part_options options = {.seed = 1};
    enum sx_rc rc;

    *ret_n = 0;
    if (request->n_shares) {
        rc = plan_shares(cut, request, &ret_plans[0], err);
        *ret_n = rc == SX_OK;
        return rc;
    }
    if (!request->n_stages)
        return sx_planner_variants(cut->dag, &cut->profile, cut->machine, request->batch, &options,
                                   ret_plans, cap, ret_n, err);
    if (request->n_stages > cut->machine->n_devices) {
        sx_fail(err, SX_INVALID, "%u stages need as many devices, there are %u", request->n_stages,
                cut->machine->n_devices);
        sx_hint(err, "add --device cpu:0 --device cpu:1 ..., or say --shares");
        return SX_INVALID;
    }
    struct orders o = {.cut = cut, .request = request};
    rc = try_orders(&o, 0, err);
    if (!rc && !o.best)
        rc = sx_fail(err, SX_TOO_LARGE,
                     "the model's weights do not fit into the memory of %u devices",
                     request->n_stages);
    if (rc) {
        sx_plan_destroy(o.best);
        return rc;
    }
    ret_plans[0] = o.best;
    *ret_n = 1;
    return SX_OK;
}

size_t sx_cut_best(struct sx_plan *const *plans, size_t n, double objective_ms)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++) {
        const struct sx_plan *a = plans[best], *b = plans[i];
        bool a_keeps = objective_ms <= 0 || a->latency_ns <= objective_ms * 1e6;
        bool b_keeps = objective_ms <= 0 || b->latency_ns <= objective_ms * 1e6;
        if (a_keeps != b_keeps ? b_keeps
            : a_keeps          ? sx_plan_throughput(b) > sx_plan_throughput(a)
                               : b->latency_ns < a->latency_ns)
            best = i;
    }
    return best;
}
