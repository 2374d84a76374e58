/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sched.h - what runs where and when: pure decisions over a snapshot.
 *
 * No clock, no thread, no I/O, no allocation: the caller passes the time and the state, and acts
 * on the answer.  The same code runs in the server and in virtual time.
 *
 * Words.  unit     the smallest share that is handed out (a core); nothing here knows which kind.
 *         width    how many units one run uses; a run of width w starts at a multiple of w, so
 *                  groups never overlap by half (all units form a group even if no power of 2).
 *         lone     a request that finds an empty queue and free units.
 *
 * How width follows load.  A lone request is fastest on many units, but whoever arrives during
 * its run pays for it.  From the arrivals and the measured times we predict, for each width, the
 * tail (95th percentile) of the latency if everybody ran at that width, and allow a lone request
 * the widest one whose tail is within a few percent of the best.  When several wait, they
 * are spread so that the last one ends earliest: many narrow runs, in batches where those pay.
 */
#ifndef SX_SCHED_SCHED_H
#define SX_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "cost/cost.h"

#define SX_SCHED_UNITS 1024

/* How requests arrive for one model: how many, and how close to each other.
 *
 * A rate alone cannot tell a single client that sends its next request when it has the last
 * answer from a crowd that arrives at random: both keep one core group busy all the time, but
 * only in the crowd does one request make another wait.  So, for each width, we compare how
 * often two arrivals were closer than a run at that width takes with how often random ones
 * would have been; the ratio (1: random, 0: never) corrects the rate.  A client that waits follows
 * its own last run closely, and run times vary: so a gap counts as shorter than a run in doubt when
 * the request met another one, and as longer when it did not.
 *
 * Arrivals older than SX_RATE_SECONDS, or than the last SX_RATE_COUNT, count little; none of them
 * counts any more when a crowd sets in, which a few show that come four times as close. */
#define SX_RATE_SECONDS 8.0
#define SX_RATE_COUNT   128
struct sx_arrivals {
    double rate;          /* samples per second, just before `last` */
    double count, span;   /* samples and seconds seen, decayed alike */
    uint64_t last;        /* the last arrival; 0: none yet */
    uint64_t crowd_since; /* of the few that are looked at together: the first one's time, */
    unsigned crowd, crowd_samples; /* how many there are, and the samples of all but the first */
    double close[SX_COST_WIDTHS];  /* decayed count of gaps shorter than a run of that width */
    double random[SX_COST_WIDTHS]; /* what random arrivals at the same rate would have counted */
};
/* `alone`: nothing of the model was waiting or running. */
void sx_arrivals_add(struct sx_arrivals *arrivals, const struct sx_cost *cost, uint64_t now,
                     unsigned samples, bool alone);
/* Samples per second, recently. */
double sx_arrivals_rate(const struct sx_arrivals *arrivals, uint64_t now);

/* What a decision needs to know about one model.  The owner keeps it up to date. */
struct sx_sched_model {
    const struct sx_cost *cost;
    unsigned max_batch;    /* samples; 1: no batching */
    unsigned target_batch; /* with max_delay_ns: do not wait once this many are queued */
    uint64_t max_delay_ns; /* how long the oldest may wait for company; 0: not at all */
    struct sx_arrivals arrivals;

    unsigned queued;       /* samples waiting that may share the head's batch */
    unsigned waiting;      /* all samples that wait, for predictions; less than queued: as queued */
    unsigned head_samples; /* of the request at the head; it is not divided */
    uint64_t head_arrival;
    uint64_t head_deadline;
};

struct sx_sched {
    unsigned n_units;
    const uint64_t *free_at; /* per unit: predicted end of its run; <= now and idle: free */
    const bool *busy;        /* per unit */
    struct sx_sched_model *const *models;
    unsigned n_models;
};

enum sx_sched_kind {
    SX_SCHED_WAIT,  /* nothing to start; ask again at `wake_at`, or when something changes */
    SX_SCHED_START, /* start a batch */
};

struct sx_sched_action {
    enum sx_sched_kind kind;
    unsigned model; /* index; START */
    unsigned batch; /* samples at most; START */
    unsigned first_unit, n_units;
    uint64_t predicted_ns; /* of the run; START */
    uint64_t wake_at;      /* WAIT; SX_NEVER when only news can change the answer */
};

/* The next thing to do; call again after acting until the answer is WAIT. */
void sx_sched_decide(const struct sx_sched *state, uint64_t now,
                     struct sx_sched_action *ret_action);

/* When a request for `samples` of models[model] that arrives now is predicted to end, behind
 * all that waits; `now` when nothing is known of the model.  `ret_wait_ns` (may be NULL): how much
 * of that is waiting. */
uint64_t sx_sched_predict_finish(const struct sx_sched *state, unsigned model, unsigned samples,
                                 uint64_t now, uint64_t *ret_wait_ns);

/* The widest width (an index into cost->widths) that a lone request may use; see above. */
unsigned sx_sched_lone_width(const struct sx_sched *state, unsigned model, uint64_t now);

#endif
