/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - which variant of a model takes which request, on unequal devices: pure decisions.
 *
 * A variant is a line of stages, each on a device, with predicted times.  A device runs one task
 * at a time, in the order in which tasks become ready; a job in flight has its later stages ahead
 * of it.  For each decision we look ahead: the waiting requests are placed, in order, each where
 * it is predicted to end first, and whatever that gives an idle device now is started.  A slow
 * device is thus used only by a request that would not end earlier on a fast one, and only when it
 * keeps its deadline; the youngest such request takes it, whose wait is shortest so far.
 *
 * Greedy, for comparison: any idle device takes the oldest request.
 */
#ifndef SX_SCHED_PLACE_H
#define SX_SCHED_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define SX_PLACE_DEVICES  16
#define SX_PLACE_STAGES   16
#define SX_PLACE_VARIANTS 16
#define SX_PLACE_LOOK     64 /* waiting requests that a decision looks at */

struct sx_place_variant {
    unsigned n_stages;
    unsigned device[SX_PLACE_STAGES];
    double ns[SX_PLACE_STAGES]; /* predicted, at the batch in question; 0: unknown */
};

/* A job that has been started: its stages from `stage` on are still to run. */
struct sx_place_job {
    unsigned variant, model, stage;
    uint64_t stage_began; /* 0: `stage` waits for its device */
};

struct sx_place_request {
    uint64_t arrival, deadline;
    unsigned model;
};

struct sx_place {
    unsigned n_devices;
    const struct sx_place_variant *const *variants; /* [model][variant] */
    const unsigned *n_variants;                     /* [model] */
    unsigned n_models;
    const struct sx_place_job *jobs; /* in flight, in the order of their start */
    unsigned n_jobs;
    const struct sx_place_request *waiting; /* in queue order, at most SX_PLACE_LOOK */
    unsigned n_waiting;
    unsigned max_in_flight; /* jobs per device that a variant may have ahead of its first stage:
                               bounds what is committed early */
    bool greedy;
};

struct sx_place_action {
    bool start;
    unsigned request; /* index in waiting */
    unsigned variant;
    uint64_t predicted_end;
    uint64_t wake_at; /* when not started: ask again then; SX_NEVER: only news can change it */
};

void sx_place_decide(const struct sx_place *state, uint64_t now,
                     struct sx_place_action *ret_action);
/* When a request of `model` that arrives now would end, behind all that waits. */
uint64_t sx_place_predict(const struct sx_place *state, unsigned model, uint64_t now);

#endif
