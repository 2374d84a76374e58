/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - which variant of a model takes which request, on unequal devices: pure decisions.
 *
 * A variant is a line of stages, each on a device, with predicted times.  A device runs one task
 * at a time, in the order in which tasks were handed to it; a job in flight has its later stages
 * ahead of it.  For each decision we look ahead: the waiting requests are placed, in order, each
 * where it is predicted to end first, and what that gives an idle device now is started.  A slow
 * device is thus used only by a request that would not end earlier on a fast one, and only when it
 * keeps its deadline; those before it in the queue wait for the faster one, which they get earlier.
 * The same is done with whole models only, and the better of both plans is followed: cutting costs
 * device time, which matters when many wait.
 * A request that would be late wherever it runs is not started, unless nothing is in flight: its
 * owner gives it up.
 *
 * Greedy, for comparison: any idle device takes the oldest request, whole.
 *
 * No clock, no thread, no allocation; the caller owns all that the state points to and passes a
 * consistent snapshot.  Times are on the scale of base/clock.h.
 */
#ifndef SX_SCHED_PLACE_H
#define SX_SCHED_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define SX_PLACE_DEVICES  16
#define SX_PLACE_STAGES   16
#define SX_PLACE_VARIANTS 16
#define SX_PLACE_LOOK     64 /* waiting requests that a decision looks at */
#define SX_PLACE_JOBS     64 /* jobs in flight; no more are started beyond */

/* A variant with an unknown time is tried once its first device is idle, one job at a time, by
 * the youngest request that waits: so it gets known. */
struct sx_place_variant {
    unsigned n_stages;
    unsigned device[SX_PLACE_STAGES];
    double ns[SX_PLACE_STAGES]; /* predicted, at the batch in question; 0: unknown */
};

/* A job that has been started: its stages from `stage` on are still to run. */
struct sx_place_job {
    unsigned variant, model, stage;
    uint64_t stage_ready; /* when `stage` was handed to its device */
    uint64_t stage_began; /* 0: `stage` waits for its device */
};

struct sx_place_request {
    uint64_t arrival, deadline; /* SX_NEVER: none */
    unsigned model;
};

struct sx_place {
    unsigned n_devices;
    const struct sx_place_variant *const *variants; /* [model][variant] */
    const unsigned *n_variants;                     /* [model] */
    unsigned n_models;
    const struct sx_place_job *jobs;        /* in flight, in the order of their start */
    unsigned n_jobs;                        /* at most SX_PLACE_JOBS */
    const struct sx_place_request *waiting; /* in queue order, at most SX_PLACE_LOOK */
    unsigned n_waiting;
    unsigned n_more; /* that wait behind those; for sx_place_predict */
    bool greedy;
};

struct sx_place_action {
    bool start;
    unsigned request; /* index in waiting */
    unsigned variant;
    uint64_t predicted_end; /* SX_NEVER: unknown */
    uint64_t wake_at; /* when not started: ask again then; SX_NEVER: only news can change it */
};

/* The next job to start; call again after starting it, until the answer is not to start. */
void sx_place_decide(const struct sx_place *state, uint64_t now,
                     struct sx_place_action *ret_action);
/* When a request of `model` that arrives now would end, behind all that waits; `now` when nothing
 * is known of the model. */
uint64_t sx_place_predict(const struct sx_place *state, unsigned model, uint64_t now);

#endif
