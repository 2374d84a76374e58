/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

void sx_plan_destroy(struct sx_plan *plan)
{
    if (!plan)
        return;
    for (unsigned s = 0; plan->stages && s < plan->n_stages; s++)
        free(plan->stages[s].nodes);
    free(plan->stages);
    free(plan);
}

double sx_plan_throughput(const struct sx_plan *plan)
{
    return plan->slowest_ns > 0 ? plan->batch / plan->slowest_ns * 1e9 : 0;
}

bool sx_plan_emulated(const struct sx_plan *plan)
{
    bool emulated = false;

    for (unsigned s = 0; s < plan->n_stages; s++)
        emulated = emulated || strchr(plan->devices[plan->stages[s].device], '@');
    return emulated;
}

/* stage_of[node], or a complaint: each node in one stage, each stage with nodes. */
static enum sx_rc label(const struct sx_plan *plan, const struct sx_dag *dag, uint32_t *stage_of,
                        struct sx_err *err)
{
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        stage_of[v] = SX_DAG_NONE;
    for (unsigned s = 0; s < plan->n_stages; s++) {
        const struct sx_plan_stage *stage = &plan->stages[s];
        if (stage->n_nodes == 0)
            return sx_fail(err, SX_INVALID, "stage %u has no operators", s + 1);
        if (stage->device >= plan->n_devices)
            return sx_fail(err, SX_INVALID, "stage %u is on device %u of %u", s + 1,
                           stage->device + 1, plan->n_devices);
        for (uint32_t i = 0; i < stage->n_nodes; i++) {
            uint32_t v = stage->nodes[i];
            if (v >= dag->n_nodes)
                return sx_fail(err, SX_INVALID, "stage %u has operator %u of %u", s + 1, v,
                               dag->n_nodes);
            if (i && v <= stage->nodes[i - 1])
                return sx_fail(err, SX_INVALID, "stage %u: operators are not in order", s + 1);
            if (stage_of[v] != SX_DAG_NONE)
                return sx_fail(err, SX_INVALID, "operator '%s' (%s) is in stages %u and %u",
                               dag->nodes[v].name, dag->nodes[v].type, stage_of[v] + 1, s + 1);
            stage_of[v] = s;
        }
    }
    for (uint32_t v = 0; v < dag->n_nodes; v++)
        if (stage_of[v] == SX_DAG_NONE)
            return sx_fail(err, SX_INVALID, "operator '%s' (%s) is in no stage", dag->nodes[v].name,
                           dag->nodes[v].type);
    return SX_OK;
}

/* Stages in the order of the pipeline whose labels never decrease along an edge are convex: a path
 * that left one and came back would have to decrease. */
static enum sx_rc check_order(const struct sx_dag *dag, const uint32_t *stage_of,
                              struct sx_err *err)
{
    for (uint32_t t = 0; t < dag->n_tensors; t++) {
        const struct sx_dag_tensor *tensor = &dag->tensors[t];
        if (tensor->producer == SX_DAG_NONE)
            continue;
        for (uint32_t i = 0; i < tensor->n_uses; i++) {
            uint32_t use = dag->uses[tensor->first_use + i];
            if (stage_of[use] < stage_of[tensor->producer])
                return sx_fail(err, SX_INVALID, "tensor '%s' goes back from stage %u to stage %u",
                               tensor->name, stage_of[tensor->producer] + 1, stage_of[use] + 1);
        }
    }
    for (uint32_t v = 0; dag->group && v < dag->n_nodes; v++) {
        uint32_t first = dag->group[v];
        if (stage_of[first] != stage_of[v])
            return sx_fail(err, SX_INVALID,
                           "'%s' (%s) and '%s' (%s) must be in one stage, not in %u and %u",
                           dag->nodes[first].name, dag->nodes[first].type, dag->nodes[v].name,
                           dag->nodes[v].type, stage_of[first] + 1, stage_of[v] + 1);
    }
    return SX_OK;
}

enum sx_rc sx_plan_check(const struct sx_plan *plan, const struct sx_dag *dag, struct sx_err *err)
{
    enum sx_rc rc;
    uint32_t *stage_of;

    if (plan->n_stages == 0 || plan->n_stages > SX_PLAN_MAX_STAGES || plan->batch == 0)
        return sx_fail(err, SX_INVALID, "a plan of %u stages for batches of %u", plan->n_stages,
                       plan->batch);
    stage_of = malloc((dag->n_nodes + 1) * sizeof *stage_of);
    if (!stage_of)
        return sx_fail(err, SX_NO_MEMORY, "no memory to check a plan");
    rc = label(plan, dag, stage_of, err);
    if (!rc)
        rc = check_order(dag, stage_of, err);
    free(stage_of);
    return rc;
}
