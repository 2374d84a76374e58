/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * place_sim.h - for tests of place.h: a server with unequal devices, in virtual time.
 *
 * Events are arrivals, ends of stages and wake-ups.  A device runs tasks in the order in which
 * they became ready; a job's next stage is handed to its device when the one before it ends.
 * After every event sx_place_decide is asked until it starts nothing.  A request is refused when
 * it is predicted to end late, and given up when it can no longer be in time.  A result is the
 * same for the same configuration.
 */
#ifndef SX_SCHED_PLACE_SIM_H
#define SX_SCHED_PLACE_SIM_H

#include "sched/place.h"

#define SIM_MODELS  2
#define SIM_CLIENTS 300

struct sim_model {
    const struct sx_place_variant *variants;
    unsigned n_variants;
    unsigned clients; /* in a closed loop; 0: Poisson */
    double rate;      /* requests per second, if Poisson */
    double objective; /* ns from arrival to deadline; 0: none */
};

struct sim_config {
    unsigned n_devices, n_models;
    struct sim_model model[SIM_MODELS];
    unsigned n_requests, warm; /* all models together; how many are not counted at first */
    bool greedy;
    double noise;                      /* standard deviation of a stage's time, as a share of it */
    double slowness[SX_PLACE_DEVICES]; /* real over predicted times; 0: 1 */
    bool learn;                        /* predictions follow the real times */
    bool unknown;                      /* and nothing is known at first */
    uint64_t seed;
};

struct sim_model_result {
    unsigned asked, refused, given_up, late, done;
    double mean, p50, p99, worst; /* latency of those done, ns */
    unsigned by_variant[SX_PLACE_VARIANTS];
};

struct sim_result {
    struct sim_model_result model[SIM_MODELS];
    double span;                   /* ns that were counted */
    double busy[SX_PLACE_DEVICES]; /* share of span */
    double missed;                 /* share of all requests that were counted */
    double predict_mean,
        predict_p95; /* |real - predicted latency| at arrival, over the mean latency */
    double bias;     /* of the same, with its sign */
    unsigned most_jobs, most_ahead; /* in flight; waiting at a device */
    double decide_mean;             /* decisions per request */
};

void sim_run(const struct sim_config *config, struct sim_result *ret);

#endif
