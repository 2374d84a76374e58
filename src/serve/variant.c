/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * variant.c - make a model resident on several devices: profile, plans, stages, sessions.
 *
 * A profile in the cache is used; without one the model is measured here for about a second on
 * each kind of device, so that it can be served at once.  A model that cannot be cut (no graph, a
 * stage that the engine refuses, an output that no stage makes) is served whole, and the log says
 * why.
 */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "partition/planner.h"
#include "serve/server_int.h"

#define MEASURE_RUNS 5
#define REFRESH_RUNS 50   /* of a variant, before its times are believed more than the profile */
#define REFRESH_FROM 0.03 /* and they must differ by that much */
#define NO_SLOT      UINT32_MAX

/* --- the profile --------------------------------------------------------------------------------
 */

/* Measuring happens on a thread of its own: it is bound to the device's core, as a worker's is. */
struct measurement {
    struct sx_engine_model *model;
    const struct sx_machine *machine;
    const struct sx_device *device;
    struct sx_profile *profile;
    enum sx_rc rc;
    struct sx_err err;
};

static void *measure(void *user)
{
    struct measurement *m = user;
    m->rc = sx_engine_profile_table(m->model, m->machine, m->device, m->device->n_units, 1,
                                    MEASURE_RUNS, NULL, NULL, m->profile, &m->err);
    return NULL;
}

static enum sx_rc add_table(struct sx_model *m, const struct sx_device *device,
                            struct sx_profile *profile, struct sx_err *err)
{
    struct measurement one = {.model = m->engine_model,
                              .machine = m->server->config.machine,
                              .device = device,
                              .profile = profile};
    pthread_t thread;
    if (pthread_create(&thread, NULL, measure, &one))
        one.rc = sx_fail(&one.err, SX_NO_MEMORY, "no thread to measure on");
    else
        pthread_join(thread, NULL);
    if (one.rc && err)
        *err = one.err;
    return one.rc;
}

/* From the cache, or measured; what is new goes into the cache. */
static enum sx_rc get_profile(struct sx_model *m, struct sx_profile *profile, struct sx_err *err)
{
    const struct sx_server_config *config = &m->server->config;
    struct sx_profile_key key;
    struct sx_err why = {0};
    char path[4096] = "";
    bool changed = false;
    enum sx_rc rc = sx_engine_profile_key(m->engine_model, config->machine->id, &key, err);
    if (!rc && config->cache_dir)
        rc = sx_profile_cache_path(config->cache_dir, &key, path, sizeof path, err);
    if (rc)
        return rc;
    if (*path && sx_profile_load(path, &key, profile, &why) && why.rc != SX_NOT_FOUND)
        sx_warning("model '%s': %s; measured anew", m->config.name, why.message);
    profile->key = key;
    for (unsigned d = 0; !rc && d < config->machine->n_devices; d++) {
        const struct sx_device *device = &config->machine->devices[d];
        if (sx_profile_get(profile, device->kind, device->n_units, 1))
            continue;
        sx_info("model '%s': no profile for %s; measuring", m->config.name, device->name);
        rc = add_table(m, device, profile, err);
        changed = true;
    }
    if (!rc)
        rc = sx_engine_profile_links(config->machine, false, profile, &changed, err);
    if (!rc && changed && *path && sx_profile_save(profile, path, &why))
        sx_warning("model '%s': %s", m->config.name, why.message);
    return rc;
}

/* What service has taught about whole runs goes back into the cache: operators are believed to have
 * changed in proportion. */
static void refresh_profile(struct sx_model *m)
{
    const struct sx_server_config *config = &m->server->config;
    struct sx_profile profile = {0};
    struct sx_profile_key key;
    struct sx_err why = {0};
    char path[4096];
    bool changed = false;
    if (!config->cache_dir ||
        sx_engine_profile_key(m->engine_model, config->machine->id, &key, &why) ||
        sx_profile_cache_path(config->cache_dir, &key, path, sizeof path, &why) ||
        sx_profile_load(path, &key, &profile, &why))
        return; /* nothing was kept, so there is nothing to refresh */
    for (unsigned i = 0; i < m->n_variants; i++) {
        const struct sx_variant *v = &m->variants[i];
        const struct sx_stage *stage = &v->stages[0];
        const struct sx_device *device = &config->machine->devices[stage->device];
        const struct sx_profile_table *table =
            sx_profile_get(&profile, device->kind, device->n_units, 1);
        if (v->n_stages != 1 || v->runs < REFRESH_RUNS || !table || table->whole_ns <= 0)
            continue;
        /* Over what the file says now, not over what it said when we planned: another server may
         * have refreshed it since. */
        double ratio = sx_cost_ns(&stage->cost, 1, 0) / table->whole_ns;
        if (fabs(ratio - 1) < REFRESH_FROM || device->slowdown > 1)
            continue; /* emulation adds errors of its own */
        struct sx_profile_table scaled = *table;
        scaled.node_ns = malloc((key.n_nodes + 1) * sizeof *scaled.node_ns);
        if (!scaled.node_ns)
            break;
        scaled.whole_ns *= ratio;
        for (uint32_t n = 0; n < key.n_nodes; n++)
            scaled.node_ns[n] = table->node_ns[n] * ratio;
        changed = !sx_profile_put(&profile, &scaled, &why) || changed;
        free(scaled.node_ns);
    }
    if (changed && sx_profile_save(&profile, path, &why))
        sx_warning("model '%s': %s", m->config.name, why.message);
    sx_profile_fini(&profile);
}

/* --- slots --------------------------------------------------------------------------------------
 */

/* Names of what is in the slots, while a variant is made. */
struct names {
    const char **name;
    uint32_t n, cap;
};

static uint32_t find(const struct names *names, const char *name)
{
    for (uint32_t i = 0; i < names->n; i++)
        if (!strcmp(names->name[i], name))
            return i;
    return NO_SLOT;
}

static bool add(struct names *names, const char *name)
{
    if (names->n == names->cap) {
        uint32_t cap = names->cap ? 2 * names->cap : 32;
        const char **more = realloc(names->name, cap * sizeof *more);
        if (!more)
            return false;
        names->name = more;
        names->cap = cap;
    }
    names->name[names->n++] = name;
    return true;
}

/* Connect one stage's ports with slots. */
static enum sx_rc connect(struct sx_model *m, struct sx_stage *stage, struct names *names,
                          struct sx_err *err)
{
    const struct sx_engine_model *em = stage->engine_model ? stage->engine_model : m->engine_model;
    const struct sx_port *in;
    stage->n_in = sx_engine_inputs(em, &in);
    stage->n_out = sx_engine_outputs(em, &stage->out);
    stage->in_slot = calloc(stage->n_in + 1, sizeof *stage->in_slot);
    stage->out_slot = calloc(stage->n_out + 1, sizeof *stage->out_slot);
    stage->data = calloc(stage->n_in + stage->n_out + 1, sizeof *stage->data);
    stage->modes = calloc(stage->n_in + stage->n_out + 1, sizeof *stage->modes);
    if (!stage->in_slot || !stage->out_slot || !stage->data || !stage->modes)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    for (size_t i = 0; i < stage->n_in; i++) {
        stage->in_slot[i] = find(names, in[i].name);
        if (stage->in_slot[i] == NO_SLOT)
            return sx_fail(err, SX_UNSUPPORTED, "nobody makes '%s'", in[i].name);
    }
    for (size_t i = 0; i < stage->n_out; i++) {
        if (!add(names, stage->out[i].name))
            return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
        stage->out_slot[i] = names->n - 1;
    }
    return SX_OK;
}

/* Which slots travel between stages, and who writes and reads them. */
static enum sx_rc find_data(const struct sx_model *m, struct sx_variant *v, struct sx_err *err)
{
    uint32_t *number = malloc((v->n_slots + 1) * sizeof *number);
    if (!number)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a variant");
    for (uint32_t i = 0; i < v->n_slots; i++)
        number[i] = NO_SLOT;
    for (unsigned k = 0; k < v->n_stages; k++) {
        struct sx_stage *stage = &v->stages[k];
        for (size_t i = 0; i < stage->n_in; i++) {
            uint32_t slot = stage->in_slot[i];
            if (slot < m->n_in)
                continue;
            if (number[slot] == NO_SLOT)
                number[slot] = v->n_data++;
            stage->modes[stage->n_data] = SX_READ;
            stage->data[stage->n_data++] = number[slot];
        }
    }
    for (unsigned k = 0; k < v->n_stages; k++) {
        struct sx_stage *stage = &v->stages[k];
        for (size_t i = 0; i < stage->n_out; i++) {
            if (number[stage->out_slot[i]] == NO_SLOT)
                continue;
            stage->modes[stage->n_data] = SX_WRITE;
            stage->data[stage->n_data++] = number[stage->out_slot[i]];
        }
        if (stage->n_data > SX_TASK_DATA) {
            free(number);
            return sx_fail(err, SX_UNSUPPORTED, "stage %u exchanges %u tensors, at most %d can be",
                           k + 1, stage->n_data, SX_TASK_DATA);
        }
    }
    free(number);
    return SX_OK;
}

/* --- one variant --------------------------------------------------------------------------------
 */

static void fini_variant(struct sx_variant *v)
{
    while (v->stages && !sx_list_empty(&v->free_flows)) {
        struct sx_flow *f = SX_CONTAINER_OF(v->free_flows.next, struct sx_flow, link);
        sx_list_remove(&f->link);
        sx_flow_destroy(f);
    }
    for (unsigned k = 0; v->stages && k < v->n_stages; k++) {
        struct sx_stage *stage = &v->stages[k];
        sx_session_destroy(stage->session);
        sx_engine_close_model(stage->engine_model);
        free(stage->in_slot);
        free(stage->out_slot);
        free(stage->data);
        free(stage->modes);
    }
    free(v->stages);
    free(v->result_slot);
    memset(v, 0, sizeof *v);
}

static enum sx_rc init_stage(struct sx_model *m, const struct sx_plan_stage *plan, bool whole,
                             struct sx_stage *stage, struct sx_err *err)
{
    const struct sx_machine *machine = m->server->config.machine;
    const struct sx_device *device = &machine->devices[plan->device];
    int cpus[SX_SCHED_UNITS];
    sx_machine_cpus(machine, device->first_unit, device->n_units, cpus);
    stage->device = plan->device;
    atomic_init(&stage->self_alloc, false);
    enum sx_rc rc = SX_OK;
    if (!whole)
        rc = sx_engine_open_stage(m->engine_model, plan->nodes, plan->n_nodes, &stage->engine_model,
                                  err);
    if (!rc)
        rc = sx_session_create_awake(whole ? m->engine_model : stage->engine_model,
                                     sx_machine_cores(machine, device->n_units), cpus,
                                     &stage->session, err);
    if (!rc && stage->engine_model)
        sx_engine_model_settle(stage->engine_model);
    stage->planned_ns = plan->ns + plan->transfer_ns;
    sx_cost_init(&stage->cost, 1, m->max_batch, m->config.preferred, m->config.n_preferred);
    if (stage->planned_ns > 0)
        sx_cost_record(&stage->cost, 1, 1, (uint64_t)stage->planned_ns);
    return rc;
}

static enum sx_rc init_variant(struct sx_model *m, const struct sx_plan *plan, unsigned index,
                               struct sx_err *err)
{
    struct sx_variant *v = &m->variants[index];
    struct names names = {0};
    enum sx_rc rc = SX_OK;
    sx_list_init(&v->free_flows);
    memcpy(v->name, plan->name, sizeof v->name);
    v->n_stages = plan->n_stages;
    v->stages = calloc(plan->n_stages, sizeof *v->stages);
    v->result_slot = calloc(m->n_out + 1, sizeof *v->result_slot);
    if (!v->stages || !v->result_slot) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for a variant");
        goto out;
    }
    for (size_t i = 0; !rc && i < m->n_in; i++)
        if (!add(&names, m->in[i].name))
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for a variant");
    for (unsigned k = 0; !rc && k < v->n_stages; k++) {
        rc = init_stage(m, &plan->stages[k], plan->n_stages == 1, &v->stages[k], err);
        if (!rc)
            rc = connect(m, &v->stages[k], &names, err);
    }
    for (size_t i = 0; !rc && i < m->n_out; i++) {
        v->result_slot[i] = find(&names, m->out[i].name);
        if (v->result_slot[i] == NO_SLOT)
            rc = sx_fail(err, SX_UNSUPPORTED, "no stage makes output '%s'", m->out[i].name);
    }
    v->n_slots = names.n;
    if (!rc)
        rc = find_data(m, v, err);
out:
    free(names.name);
    return rc;
}

/* --- all of them --------------------------------------------------------------------------------
 */

/* Without a graph: whole on each device, times unknown until it runs. */
static enum sx_rc whole_plans(const struct sx_machine *machine, struct sx_plan **plans, size_t *n,
                              struct sx_err *err)
{
    for (unsigned d = 0; d < machine->n_devices && d < SX_PLACE_VARIANTS; d++) {
        struct sx_plan *p = calloc(1, sizeof *p);
        if (!p || !(p->stages = calloc(1, sizeof *p->stages))) {
            sx_plan_destroy(p);
            return sx_fail(err, SX_NO_MEMORY, "no memory for a plan");
        }
        p->n_stages = 1;
        p->stages[0].device = d;
        snprintf(p->name, sizeof p->name, "whole on %s", machine->devices[d].name);
        plans[(*n)++] = p;
    }
    return SX_OK;
}

static enum sx_rc make_plans(struct sx_model *m, struct sx_plan **plans, size_t *n,
                             struct sx_err *err)
{
    const struct sx_machine *machine = m->server->config.machine;
    const struct sx_dag *dag;
    struct sx_profile profile = {0};
    struct sx_err why = {0};
    enum sx_rc rc = sx_engine_graph(m->engine_model, &dag, &why);
    if (!rc)
        rc = get_profile(m, &profile, &why);
    if (!rc)
        rc =
            sx_planner_variants(dag, &profile, machine, 1, NULL, plans, SX_PLACE_VARIANTS, n, &why);
    if (rc) {
        sx_warning("model '%s' is served whole: %s", m->config.name, why.message);
        *n = 0;
        rc = whole_plans(machine, plans, n, err);
    }
    sx_profile_fini(&profile);
    return rc;
}

enum sx_rc sx_variants_create(struct sx_model *m, struct sx_err *err)
{
    struct sx_plan *plans[SX_PLACE_VARIANTS] = {0};
    size_t n = 0;
    enum sx_rc rc = make_plans(m, plans, &n, err);
    m->variants = calloc(SX_PLACE_VARIANTS, sizeof *m->variants);
    if (!rc && !m->variants)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the variants");
    for (size_t i = 0; !rc && i < n; i++) {
        struct sx_err why = {0};
        bool whole = plans[i]->n_stages == 1;
        if (!whole && m->server->config.whole_only)
            continue;
        rc = init_variant(m, plans[i], m->n_variants, &why);
        if (!rc) {
            struct sx_plan *p = plans[i];
            sx_info("model '%s': %s, predicted latency %.2f ms, at most %.1f requests/s",
                    m->config.name, p->name, p->latency_ns * 1e-6,
                    p->slowest_ns > 0 ? 1e9 / p->slowest_ns : 0.0);
            m->n_variants++;
            continue;
        }
        fini_variant(&m->variants[m->n_variants]);
        if (whole) {
            if (err)
                *err = why;
            break;
        }
        sx_warning("model '%s': not cut as %s: %s", m->config.name, plans[i]->name, why.message);
        rc = SX_OK;
    }
    for (size_t i = 0; i < n; i++)
        sx_plan_destroy(plans[i]);
    return rc;
}

void sx_variants_destroy(struct sx_model *m)
{
    if (m->n_variants)
        refresh_profile(m);
    for (unsigned i = 0; m->variants && i < m->n_variants; i++)
        fini_variant(&m->variants[i]);
    free(m->variants);
    m->variants = NULL;
    m->n_variants = 0;
}
