/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.c - putting a simulation together, and finding tables.
 */
#include "sim/scenario.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cost/latency_file.h"
#include "cost/profile.h"

enum sx_rc sx_sim_scenario_init(struct sx_sim_scenario *s, struct sx_err *err)
{
    memset(s, 0, sizeof *s);
    s->owned = calloc(SX_SHARE_MODELS, sizeof *s->owned);
    if (!s->owned)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a scenario");
    s->config = (struct sx_sim_config){.models = s->models,
                                       .policy = SX_SHARE_FAIR,
                                       .seconds = 20,
                                       .seed = 1,
                                       .n_machines = 1,
                                       .half_rule = true};
    return SX_OK;
}

void sx_sim_scenario_fini(struct sx_sim_scenario *s)
{
    for (unsigned i = 0; s->owned && i < s->config.n_models; i++)
        sx_arrival_fini(&s->owned[i].load);
    free(s->owned);
    memset(s, 0, sizeof *s);
}

uint64_t sx_sim_scenario_seed(const struct sx_sim_scenario *s)
{
    return s->config.seed * UINT64_C(0x9e3779b97f4a7c15) + s->config.n_models;
}

enum sx_rc sx_sim_scenario_add(struct sx_sim_scenario *s, const char *name,
                               const struct sx_latency *latency, double objective_ms,
                               struct sx_sim_model **ret_model, struct sx_err *err)
{
    unsigned n = s->config.n_models;
    struct sx_err why = {0};
    if (n == SX_SHARE_MODELS)
        return sx_fail(err, SX_INVALID, "more than %d models", SX_SHARE_MODELS);
    if (!*name || strlen(name) >= SX_SIM_NAME)
        return sx_fail(err, SX_INVALID, "a model's name has 1 to %d bytes", SX_SIM_NAME - 1);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(s->owned[i].name, name) == 0)
            return sx_fail(err, SX_INVALID, "two models are called '%s'", name);
    if (sx_latency_check(latency, &why))
        return sx_fail(err, SX_INVALID, "model '%s': %s", name, why.message);
    struct sx_sim_owned *o = &s->owned[n];
    snprintf(o->name, sizeof o->name, "%s", name);
    o->latency = *latency;
    sx_latency_prepare(&o->latency);
    s->models[n] = (struct sx_sim_model){
        .name = o->name, .latency = &o->latency, .objective_ns = objective_ms * 1e6, .weight = 1};
    s->config.n_models = n + 1;
    *ret_model = &s->models[n];
    return SX_OK;
}

void sx_sim_scenario_give(struct sx_sim_scenario *s, const struct sx_arrival *load)
{
    unsigned last = s->config.n_models - 1;
    sx_arrival_fini(&s->owned[last].load);
    s->owned[last].load = *load;
    s->models[last].load = &s->owned[last].load;
}

enum sx_rc sx_sim_scenario_mix(struct sx_sim_scenario *s, const struct sx_mix *mix,
                               struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    for (unsigned i = 0; i < mix->n_models && !rc; i++) {
        const struct sx_mix_model *m = mix->models[i];
        struct sx_sim_model *made;
        struct sx_latency latency;
        sx_mix_latency(m->knee, m->batch, m->run_ms * 1e6, 1, &latency);
        rc = sx_sim_scenario_add(s, m->name, &latency, m->objective_ms, &made, err);
    }
    s->config.n_units = SX_MIX_UNITS;
    s->config.half_rule = false; /* two of the recalled models break it */
    s->recalled = true;
    return rc;
}

enum sx_rc sx_sim_scenario_trace(struct sx_sim_scenario *s, const char *path,
                                 const struct sx_trace_options *options, struct sx_err *err)
{
    unsigned n = s->config.n_models;
    struct sx_arrival *loads = calloc(n + 1, sizeof *loads);
    if (!loads)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a trace");
    enum sx_rc rc = sx_trace_load(path, options, n, loads, err);
    for (unsigned i = 0; i < n && !rc; i++) {
        sx_arrival_fini(&s->owned[i].load);
        s->owned[i].load = loads[i];
        s->models[i].load = &s->owned[i].load;
    }
    free(loads);
    return rc;
}

/* --- tables ----------------------------------------------------------------------------------- */

enum sx_rc sx_sim_table(const char *name, struct sx_latency *ret_latency,
                        const struct sx_mix_model **ret_model, struct sx_err *err)
{
    struct sx_profile profile = {0};
    struct sx_err first = {0}, second = {0};
    char unused[SX_LATENCY_NAME];
    *ret_model = sx_mix_model_find(name);
    if (*ret_model) {
        sx_mix_latency((*ret_model)->knee, (*ret_model)->batch, (*ret_model)->run_ms * 1e6, 1,
                       ret_latency);
        return SX_OK;
    }
    if (!sx_path_is_file(name)) {
        sx_fail(err, SX_NOT_FOUND, "there is no table '%s'", name);
        sx_hint(err, "name a table's file, a profile's (staronnx profile --output), or a recalled "
                     "model such as VGG-19");
        return SX_NOT_FOUND;
    }
    enum sx_rc rc = sx_latency_load(name, ret_latency, unused, &first);
    if (!rc)
        return SX_OK;
    rc = sx_profile_load(name, NULL, &profile, &second);
    if (!rc)
        rc = sx_latency_from_profile(&profile, "cpu", ret_latency, &second);
    sx_profile_fini(&profile);
    if (rc) {
        sx_fail(err, SX_INVALID, "'%s' is no table and no profile: %.120s; %.120s", name,
                first.message, second.message);
        return SX_INVALID;
    }
    return SX_OK;
}
