/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - several models on one machine: who runs next, with which batch, on how many units.
 *
 * Pure decisions over data that the caller owns: no clock, thread or I/O; the same code runs in the
 * server and in virtual time (sim/).  What a unit is nothing here knows.
 *
 *     sx_share_init -> sx_share_add (each model) -> sx_share_plan
 *        on every event (arrival, end of a run, the wake-up that was asked for):
 *          bring `queue` of the models up to date, then
 *          sx_share_decide -> START: act on it, sx_share_start, decide again  | WAIT
 *        at the end of a run: sx_share_end
 *        now and then, or when a rate, a cost or an objective changed: sx_share_plan
 *
 * Words.  run        one batch of one model on some units; never interrupted.
 *         mandatory  a run that a promise needs: of a window, or of the request at the head.
 *         filler     a run that nobody needs yet, in space that would be idle.
 *         window     a stretch of one objective, one after another from the start; a model whose
 *                    queue is never empty is promised one run of its planned batch in each, which
 *                    begins and ends in it.
 *         run time   of a model: unit-time over its planned units, so a run at its knee counts
 *                    for as long as it lasts, and one on half of that for half as long.
 *
 * How the fair policy works (D-STACK's structure, our guard):
 *   1. mandatory runs by earliest deadline, each on its planned units (knee.h, efficacy.h).  One
 *      that does not fit reserves the earliest time at which it will.  Where the forward
 *      simulation of this says that a promise breaks, other orders, and waiting, are simulated too,
 *      and the one that breaks least is followed.
 *   2. what is left is filled by who has had least run time per weight lately (a decayed
 *      scoreboard; among those within a fifth, who makes most of it).  A filler starts only if,
 *      simulated forward with all mandatory runs that can be foreseen, it makes none of them miss
 * and all of them go on, in the end, as they would have without it.
 *   3. requests start by value per unit-time: samples that will be in time, by weight and priority,
 *      more if few of the model's were served lately.  Newcomers are foreseen by their rates: one
 * is lost if its model finds no units for longer than its objective can bear.  If a start loses
 *      more of them than it gains, waiting wins.  On a machine that also has windows, each start is
 *      simulated against the others.
 *
 * Guard: the owner's lock.  Cost: see `./run bench decide`.
 */
#ifndef SX_SCHED_SHARE_H
#define SX_SCHED_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "cost/latency.h"
#include "sched/sched.h"

#define SX_SHARE_MODELS 256
#define SX_SHARE_RUNS   SX_SCHED_UNITS

enum sx_share_policy {
    SX_SHARE_FAIR,  /* mandatory runs, then the guarded fair fill */
    SX_SHARE_EDF,   /* mandatory runs alone */
    SX_SHARE_BLIND, /* mandatory runs, then the fill without the guard */
    /* Baselines. */
    SX_SHARE_TEMPORAL, /* one model at a time on all units, slices in proportion to objectives */
    SX_SHARE_FIXED,    /* a fixed part of the units for each model: its knee, scaled down when the
                          sum is over the machine */
    SX_SHARE_GREEDY,   /* whoever has waited longest takes the largest batch on its knee */
    SX_SHARE_MAX_THROUGHPUT, /* most samples per unit-time first */
    SX_SHARE_MAX_MIN,        /* least served first */
};
#define SX_SHARE_POLICIES 8
/* "fair", "edf", "blind", "temporal", "fixed", "greedy", "max-throughput", "max-min". */
const char *sx_share_policy_name(enum sx_share_policy policy);
bool sx_share_policy_find(const char *name, enum sx_share_policy *ret_policy);

/* Which units may make up a run. */
enum sx_share_fit {
    SX_SHARE_ANY,     /* any that are free */
    SX_SHARE_ALIGNED, /* neighbours, from a multiple of their number on (all units count as a
                         group); the table's grid lists the numbers that there are */
};

/* The request(s) that wait; the owner keeps it up to date. */
struct sx_share_queue {
    unsigned samples;      /* that may share the head's batch; 0: nothing waits */
    unsigned head_samples; /* of the request at the head; it is not divided */
    uint64_t head_arrival, head_deadline;
    bool endless; /* never empty: promises are windows (virtual time, offline work) */
};

/* How a model is run now: the answer of sx_share_plan. */
struct sx_share_plan {
    bool admitted;         /* false: refused; `why` says why, and its queue gets leftovers only */
    bool shrunk;           /* batch or units below the best for it alone, as the machine is short */
    unsigned units, batch; /* of mandatory runs */
    unsigned least_units;  /* the fewest on which a lone request takes at most half its objective */
    double ns;             /* predicted, of such a run */
    unsigned knee_efficacy, knee_tolerance; /* units, at that batch */
    double demand; /* unit-time that its promises need, over the machine's; 0..1 and more */
    char why[192]; /* one sentence for people: how it was chosen, or why refused and what
                      would help */
};

struct sx_share_model {
    /* Set by the owner before sx_share_add and at any time between decisions; sx_share_plan takes
     * changes of the first block in. */
    const char *name;                 /* for messages; borrowed */
    const struct sx_latency *latency; /* prepared; borrowed */
    double objective_ns;              /* from arrival to answer; > 0 */
    double margin_ns;                 /* of that, kept from runs; see efficacy.h */
    double weight;                    /* of the fill; > 0 */
    int priority; /* lower is more important, as Triton's; 0: ordinary.  When not
                     all can be served, the least important are refused first */
    double rate;  /* samples per second, as learnt, also of those that were
                     refused; INFINITY: endless */
    unsigned max_batch;
    uint64_t max_delay_ns; /* how long the head waits for company while it keeps its deadline; 0:
                              not at all */
    unsigned lone_units; /* units for a run when nobody else waits or is expected; 0: as planned */

    struct sx_share_queue queue;

    /* Kept by sx_share_*; others read. */
    struct sx_share_plan plan;
    unsigned running;                /* runs now */
    double score;                    /* unit-time in ns had lately, decayed */
    double had;                      /* samples started lately, decayed */
    uint64_t since;                  /* when it joined */
    uint64_t window_end;             /* of the present window */
    bool met;                        /* this window's run has been started */
    bool kept;                       /* and has ended in time */
    uint64_t windows, missed;        /* windows over, and those without a run that ended in time */
    uint64_t last_start, served;     /* samples started so far */
    double credit;                   /* baselines: ns of its slice that are left */
    unsigned part_first, part_units; /* baselines: its fixed part */
};

struct sx_share_run {
    struct sx_share_model *model; /* NULL: free slot, or its model was removed */
    bool used, filler;
    unsigned n_units, batch;
    uint64_t start, predicted_end;
    uint64_t window_end;                 /* of the window that it is for; 0: of none */
    uint64_t units[SX_SCHED_UNITS / 64]; /* bits: which */
};

struct sx_share {
    enum sx_share_policy policy;
    enum sx_share_fit fit;
    unsigned n_units;
    bool half_rule; /* see efficacy.h */
    struct sx_share_model *models[SX_SHARE_MODELS];
    unsigned n_models;
    /* Kept by sx_share_*; others read. */
    struct sx_share_run runs[SX_SHARE_RUNS];
    unsigned n_running;
    unsigned short active[SX_SHARE_RUNS]; /* the numbers of runs in use, in any order */
    unsigned n_free;
    uint64_t free_units[SX_SCHED_UNITS / 64];
    double session_ns;  /* the greatest objective */
    uint64_t last;      /* latest time that was passed in: time never runs backwards here */
    uint64_t overloads; /* decisions that saw a promise that cannot be kept */
    unsigned turn;      /* baselines: whose slice it is, an index into models */
};

/* `n_units` 1..SX_SCHED_UNITS.  The structure is large (about 200 KiB): allocate it. */
void sx_share_init(struct sx_share *share, enum sx_share_policy policy, enum sx_share_fit fit,
                   unsigned n_units);
/* A model joins: it starts with the least score that anyone has, so it neither starves nor takes
 * all.  False when there is no room.  Plan afterwards. */
bool sx_share_add(struct sx_share *share, struct sx_share_model *model, uint64_t now);
/* It leaves; its runs keep their units until sx_share_end. */
void sx_share_remove(struct sx_share *share, struct sx_share_model *model);

/* What all models together ask of the machine. */
struct sx_share_verdict {
    bool feasible; /* every model is admitted as it is */
    double demand; /* of the admitted, over the machine's unit-time; the necessary condition is
                      sum ceil(T / objective) L units <= T n_units, T the session */
    unsigned refused, shrunk;
    char why[256]; /* a sentence for people when not feasible */
};
/* Choose units and batch for each model (efficacy.h), for all together: shrink batches and shares
 * where the demand exceeds the machine, then refuse models, the least important first.  Not on
 * the hot path (up to a millisecond for 16 models). */
void sx_share_plan(struct sx_share *share, uint64_t now, struct sx_share_verdict *ret_verdict);

struct sx_share_action {
    enum sx_sched_kind kind;
    struct sx_share_model *model;        /* START */
    unsigned batch, n_units;             /* START; batch: samples at most */
    uint64_t units[SX_SCHED_UNITS / 64]; /* START: which */
    unsigned first_unit;                 /* the lowest of them */
    bool filler;
    uint64_t predicted_ns;
    uint64_t wake_at; /* WAIT; SX_NEVER: only news can change the answer */
};
/* The next thing to do.  Changes nothing but windows that are over, whose turn it is, and
 * `overloads`.  Ends of runs that are due at `now` come first (sx_share_end): a window that ends
 * now is over. */
void sx_share_decide(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action);
/* The run that `action` asked for begins, with `samples` <= batch (or head_samples) in it; returns
 * its number, for sx_share_end. */
unsigned sx_share_start(struct sx_share *share, const struct sx_share_action *action,
                        unsigned samples, uint64_t now);
void sx_share_end(struct sx_share *share, unsigned run, uint64_t now);

/* When a request for `samples` of this model that arrives now is predicted to end, behind all that
 * waits, on its planned units or on fewer if those are free sooner; for admission. */
uint64_t sx_share_predict_finish(const struct sx_share *share, const struct sx_share_model *model,
                                 unsigned samples, uint64_t now);

#endif
