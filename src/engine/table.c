/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - one table of a profile: a model measured on some units of a device.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "machine/machine.h"

static void bind_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)cpu, &set);
        sched_setaffinity(0, sizeof set, &set); /* else it measures where it is */
    }
}

enum sx_rc sx_engine_profile_table(struct sx_engine_model *model, const struct sx_machine *machine,
                                   const struct sx_device *device, unsigned units, unsigned batch,
                                   unsigned runs, bool (*tick)(void *user, double done), void *user,
                                   struct sx_profile *profile, struct sx_err *err)
{
    struct sx_profile_table t = {.units = units, .batch = batch, .runs = runs};
    const struct sx_dag *dag;
    double whole[2] = {0};
    int *cpus = NULL;
    enum sx_rc rc = sx_engine_graph(model, &dag, err);

    if (rc)
        return rc;
    if (!units || units > device->n_units || dag->n_nodes != profile->key.n_nodes)
        return sx_fail(err, SX_INVALID,
                       "%u units of '%s', which has %u, and %u operators in a profile of %u", units,
                       device->name, device->n_units, dag->n_nodes, profile->key.n_nodes);
    memcpy(t.kind, device->kind, sizeof t.kind);
    cpus = calloc(sx_machine_cores(machine, units), sizeof *cpus);
    t.node_ns = calloc(dag->n_nodes + 1, sizeof *t.node_ns);
    t.node_spread_ns = calloc(dag->n_nodes + 1, sizeof *t.node_spread_ns);
    if (!cpus || !t.node_ns || !t.node_spread_ns) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a profile");
        goto out;
    }
    sx_machine_cpus(machine, device->first_unit, units, cpus);
    bind_to(cpus[0]);
    rc = sx_engine_profile(model, batch, sx_machine_cores(machine, units), cpus, runs, tick, user,
                           t.node_ns, t.node_spread_ns, whole, err);
    t.whole_ns = whole[0];
    t.whole_spread_ns = whole[1];
    if (!rc)
        rc = sx_profile_put(profile, &t, err);
out:
    free(cpus);
    free(t.node_ns);
    free(t.node_spread_ns);
    return rc;
}
