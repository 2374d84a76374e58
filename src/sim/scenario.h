/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.h - what to simulate, from a file or put together; it owns what sx_sim_config borrows.
 *
 *     sx_sim_scenario_init -> load, or mix / add, then trace -> sx_sim_run with `config`, for each
 *     policy that is set -> sx_sim_scenario_fini
 *
 * The file is JSON; staronnx(1) lists its fields.  An unknown field is an error: a misspelt one
 * would silently be a default.
 */
#ifndef SX_SIM_SCENARIO_H
#define SX_SIM_SCENARIO_H

#include "sim/mix.h"
#include "sim/sim.h"
#include "sim/trace.h"

#define SX_SIM_SCENARIO_FORMAT 1
#define SX_SIM_NAME            64

struct sx_sim_owned { /* what a model of the configuration points to */
    char name[SX_SIM_NAME];
    struct sx_latency latency;
    struct sx_arrival load;
    bool endless;
};

struct sx_sim_scenario {
    struct sx_sim_config config; /* its models are `models` */
    struct sx_sim_model models[SX_SHARE_MODELS];
    struct sx_sim_owned *owned;       /* SX_SHARE_MODELS, in the order of the models */
    bool policies[SX_SHARE_POLICIES]; /* to be simulated; all false: config.policy */
    bool recalled;                    /* tables of other machines, as recalled from papers */
    bool seed_given;                  /* config.seed stays when a file is read */
};

/* Defaults: 20 s, seed 1, the fair policy, any units, the half rule.  SX_NO_MEMORY. */
enum sx_rc sx_sim_scenario_init(struct sx_sim_scenario *scenario, struct sx_err *err);
void sx_sim_scenario_fini(struct sx_sim_scenario *scenario);

/* Read a file.  Tables and traces in it are looked for from its directory on.  SX_INVALID: what is
 * wrong, with the field's path. */
enum sx_rc sx_sim_scenario_load(struct sx_sim_scenario *scenario, const char *path,
                                struct sx_err *err);
/* The models of a mix with endless queues, without the half rule, on SX_MIX_UNITS units. */
enum sx_rc sx_sim_scenario_mix(struct sx_sim_scenario *scenario, const struct sx_mix *mix,
                               struct sx_err *err);
/* One model with an endless queue; the caller may change the rest of it.  `latency` is copied and
 * prepared.  SX_INVALID: the table cannot be, a name is taken, there is no room. */
enum sx_rc sx_sim_scenario_add(struct sx_sim_scenario *scenario, const char *name,
                               const struct sx_latency *latency, double objective_ms,
                               struct sx_sim_model **ret_model, struct sx_err *err);
/* Give the model that was added last a load; takes its memory over. */
void sx_sim_scenario_give(struct sx_sim_scenario *scenario, const struct sx_arrival *load);
/* A seed for the model's arrivals that is to be added next, from the scenario's. */
uint64_t sx_sim_scenario_seed(const struct sx_sim_scenario *scenario);
/* All models get their requests from a trace. */
enum sx_rc sx_sim_scenario_trace(struct sx_sim_scenario *scenario, const char *path,
                                 const struct sx_trace_options *options, struct sx_err *err);

/* A table by what it is called: a model of a mix ("VGG-19"), a file of cost/latency_file.h, or a
 * profile that `staronnx profile` wrote.  ret_model: the mix's model, else NULL. */
enum sx_rc sx_sim_table(const char *name, struct sx_latency *ret_latency,
                        const struct sx_mix_model **ret_model, struct sx_err *err);

#endif
