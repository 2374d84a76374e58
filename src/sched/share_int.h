/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_int.h - what the files of share.h have in common; for sched/share*.c alone.
 *
 *     share.c        who is there, what runs, windows, the scoreboard
 *     share_units.c  which units: sets of bits
 *     share_streams.c  what will be asked for
 *     share_look.c   looking ahead: the forward simulation
 *     share_fair.c   fair, edf, blind
 *     share_base.c   the other baselines
 *     share_plan.c   units and batch of each model, for all together
 */
#ifndef SX_SCHED_SHARE_INT_H
#define SX_SCHED_SHARE_INT_H

#include <math.h>

#include "sched/share.h"

#define SHARE_WORDS  (SX_SCHED_UNITS / 64)
/* The scoreboard forgets within so many sessions. */
#define SHARE_MEMORY 10

/* --- units -------------------------------------------------------------------------------------
 */

/* The first unit of `n` neighbours that are free and start at a multiple of n; `n_units` when there
 * are none.  Prefers one whose twin is in use, so that wide groups last. */
unsigned sx_units_find(const uint64_t *free_units, unsigned n_units, unsigned n);
void sx_units_put(uint64_t *units, unsigned first, unsigned n, bool on);
/* The `n` lowest of `from` into `ret`; there are as many. */
void sx_units_lowest(const uint64_t *from, unsigned n, uint64_t *ret);

/* --- share.c -----------------------------------------------------------------------------------
 */

/* Whole ns, rounded up; what takes centuries takes 146 years. */
static inline uint64_t sx_share_whole(double ns)
{
    return ns > 0 ? ns < 0x1p62 ? (uint64_t)ceil(ns) : UINT64_C(1) << 62 : 0;
}
/* Bring time, windows and the scoreboard to `now`; returns the time, which never goes back. */
uint64_t sx_share_advance(struct sx_share *share, uint64_t now);
/* Whether a run on `units` could start now; `ret_first` (may be NULL) is set if aligned. */
bool sx_share_fits(const struct sx_share *share, unsigned units, unsigned *ret_first);
/* The greatest number of units that is at most `most`, in the table's grid where groups are
 * aligned, and, if `now_free`, could start now; 0: none. */
unsigned sx_share_units_below(const struct sx_share *share, const struct sx_share_model *model,
                              unsigned most, bool now_free);
/* START with units chosen; they fit. */
void sx_share_make(const struct sx_share *share, struct sx_share_model *model, unsigned units,
                   unsigned batch, bool filler, struct sx_share_action *ret_action);
/* When a run is believed to end, ns from now: one that is late goes on for as long as it is late.
 */
double sx_share_left(const struct sx_share_run *run, uint64_t now);
/* Samples that could be in a run now; 0: nothing waits. */
unsigned sx_share_waiting(const struct sx_share_model *model);
/* Of them, the most that end by the head's deadline on `units`, `most` at most (the head is not
 * divided); 0: not even the head would. */
unsigned sx_share_in_time(const struct sx_share_model *model, unsigned units, unsigned most,
                          uint64_t now);
/* When the head is late anyway: as many samples as take half the objective; something waits. */
unsigned sx_share_late_batch(const struct sx_share_model *model, unsigned units);
/* Run time per weight lately, the key of the scoreboard. */
double sx_share_key(const struct sx_share_model *model);

/* --- share_look.c -----------------------------------------------------------------------------
 */

/* What a model will ask for, as far as it can be foreseen.  Times in ns from now. */
struct sx_stream {
    unsigned model; /* index into share->models */
    unsigned units; /* of its runs */
    bool windows;
    double release, deadline; /* of the next run: of a window, or for the request at the head */
    double value;             /* of a window, or of a sample */
    double base, step;        /* ns of a run: base + step * batch */
    double head_ns;           /* of the least run: the head alone, or the window's */
    double most;              /* samples in a run */
    double length;            /* of a window; of the objective */
    double known, gap;        /* samples that wait; from one's deadline to the next one's */
    double next, between;     /* expected samples: the first one's arrival, the time between two */
    double rate, slack;       /* expected per ns; how long a newcomer can wait for units */
    double flow, dropped;     /* expected ones that were lost, counted in two ways */
    double open;              /* the last time at which a newcomer could start */
    bool is_open;
};

struct sx_look_run {
    double end;
    unsigned first, n;
};

#define SX_LOOK_TRACE 1024
struct sx_look_trace {
    double at, broken; /* by then */
    uint64_t state;    /* a hash of what runs and what is next; equal states go on alike */
};

/* All that a decision's simulations start from. */
struct sx_look {
    const struct sx_share *share;
    unsigned n_streams, n_runs, n_free;
    bool windows, requests; /* some stream is of that kind */
    double horizon;         /* ns */
    uint64_t free_units[SHARE_WORDS];
    struct sx_stream streams[SX_SHARE_MODELS];
    unsigned short order[SX_SHARE_MODELS];  /* streams by deadline */
    struct sx_look_run runs[SX_SHARE_RUNS]; /* the first to end is the last */
    /* The states of the base after each event: another that comes to the same state at the same
     * time goes on like it. */
    unsigned n_trace;
    struct sx_look_trace trace[SX_LOOK_TRACE];
};

/* What is done now, before all goes on by the rule. */
struct sx_option {
    bool hold;             /* nothing else starts before the next event */
    int stream;            /* its next run starts; -1: none */
    unsigned units, batch; /* of a run that starts; 0: none */
    double ns;
};

enum sx_look_rule {
    SX_LOOK_DEADLINE, /* the earliest first */
    SX_LOOK_SLACK,    /* whoever has to start earliest first */
    SX_LOOK_RULES
};

struct sx_outlook {
    double broken; /* value of promises that are foreseen to break: windows, waiting requests */
    double lost;   /* value of newcomers that are expected to find no units in time */
    double late;   /* sum over what waits of end / time to deadline */
    int first;     /* the stream that the rule started now; -1: none */
    bool rejoins;  /* it came to a state of the base's: nothing will ever be different */
};

/* Sort them by deadline, once all are there. */
void sx_look_sort(struct sx_look *look);
/* Streams of all models with promises (share_streams.c). */
void sx_look_prepare(struct sx_look *look, const struct sx_share *share, uint64_t now);
/* Simulate `option` (NULL: none) and then the rule; what others of the same rule can rejoin. */
void sx_look_base(struct sx_look *look, const struct sx_option *option, enum sx_look_rule rule,
                  struct sx_outlook *ret);
/* The same.  Gives up, with what it has, once broken + lost is over `bound`.  `base`: what
 * sx_look_base said last, by the same rule: ends where that is rejoined; may be NULL. */
void sx_look_ahead(const struct sx_look *look, const struct sx_option *option,
                   enum sx_look_rule rule, double bound, const struct sx_outlook *base,
                   struct sx_outlook *ret);
/* What that costs, in the value of requests. */
double sx_look_cost(const struct sx_outlook *outlook);

/* --- policies ---------------------------------------------------------------------------------
 */

/* `now` is from sx_share_advance; *ret_action is WAIT, SX_NEVER. */
void sx_share_decide_fair(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action);
void sx_share_decide_base(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action);
/* Baselines: fixed parts for all models. */
void sx_share_part(struct sx_share *share);

#endif
