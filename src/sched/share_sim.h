/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_sim.h - for tests of share.h: models on one machine, in virtual time.
 *
 * Events are ends of runs, arrivals, re-planning and wake-ups, in that order.  After each,
 * sx_share_decide is asked until it starts nothing.  A request that cannot be in time any more,
 * even alone on the whole machine, is dropped.  After every step the whole state is checked: each
 * unit in one run at most, sums, groups; a violation ends the test.  A result is the same for the
 * same configuration.
 */
#ifndef SX_SCHED_SHARE_SIM_H
#define SX_SCHED_SHARE_SIM_H

#include "sched/share.h"

#define SIM_MODELS 16
#define SIM_QUEUE  4096

struct sim_model {
    struct sx_latency latency; /* prepared */
    double objective_ns, weight;
    int priority;
    unsigned max_batch, lone_units;
    uint64_t max_delay_ns;
    double rate;      /* requests of one sample per second, Poisson; 0: endless */
    double join_s;    /* when it is added */
    double leave_s;   /* when it is removed; 0: never */
    double slow_at_s; /* from then on, its runs take `slowness` times as long; 0: never */
    double slowness;
    /* Planned by hand, without sx_share_plan: */
    unsigned units, batch;
};

struct sim_config {
    enum sx_share_policy policy;
    enum sx_share_fit fit;
    unsigned n_units, n_models;
    struct sim_model model[SIM_MODELS];
    double seconds, warm_seconds; /* the latter are not counted */
    double replan_seconds;        /* 0: never again */
    double noise;                 /* of run times: uniform within 1 -+ noise */
    bool by_hand;                 /* see units, batch */
    bool keep_late;               /* nothing is dropped */
    bool learn;                   /* what runs take goes into the tables, as in the server */
    uint64_t seed;
    void (*idle)(void *user, const struct sx_share *share); /* after each WAIT; may be NULL */
    void *user;
};

struct sim_model_result {
    uint64_t offered, in_time, late, dropped, waiting; /* requests; the last at the end */
    uint64_t windows, missed, runs, fillers, samples;
    double run_ns, unit_ns, useful_ns; /* of runs; useful: up to the knee in units */
    double share;                      /* of offered requests in time */
    uint64_t first_start;              /* after it joined, ns; SX_NEVER: none */
};

struct sim_result {
    struct sim_model_result model[SIM_MODELS];
    struct sx_share_verdict verdict;
    double span_ns;
    double busy, useful; /* of units * span */
    double samples_per_s, in_time_per_s;
    double missed; /* windows, over windows */
    double jain_run, jain_units, jain_share;
    uint64_t overloads, decisions, first_overload;
};

void sim_run(const struct sim_config *config, struct sim_result *ret);

/* A table with time `ns` for `batch` samples at `knee` units, in proportion to 1/units below that
 * and flat above, in proportion to `fixed + (1 - fixed) * batch` for others. */
void sim_table(struct sx_latency *ret, unsigned n_units, unsigned knee, unsigned batch, double ns,
               double fixed);
double sim_jain(const double *x, unsigned n);

#endif
