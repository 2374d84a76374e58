/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - models that share machines, in virtual time.
 *
 * The scheduler is sched/share.h itself, the one of the server; here it gets its events from an
 * event queue instead of clients and runs.  Run times come from a table (cost/latency.h), times a
 * random factor; arrivals from perf/arrival.h.  A request goes the way it goes in the server: it
 * is refused when the queue is full or when it is predicted to end late, dropped when it can no
 * longer be in time, else it runs in a batch.
 *
 *     fill in sx_sim_config -> sx_sim_run -> read sx_sim_result -> sx_sim_result_fini
 *
 * The same configuration gives the same result, bit by bit: every random number comes from the
 * seed, and events of the same time have a fixed order (ends, then arrivals by model, then
 * re-planning, then wake-ups).  Nothing here looks at a clock.  What comes out is simulated, and
 * says so wherever it is printed.
 *
 * Words.  span   a run, for the picture.
 *         in time, late, refused, dropped, waiting   what became of the requests offered; they
 *                add up.  Waiting: in a queue or in a run when the time was over.
 *         useful units   of a run: its units, at most the knee of its batch (knee.h, efficacy): a
 *                whole machine given to a model with a knee of a fifth of it is a fifth useful.
 *
 * Memory grows with models, machines and the queues' lengths, not with the duration, but for the
 * spans that were asked for.  Percentiles are of base/hist.h: off by at most 1.6 %.
 */
#ifndef SX_SIM_SIM_H
#define SX_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/rc.h"
#include "cost/latency.h"
#include "perf/arrival.h"
#include "sched/share.h"

#define SX_SIM_MACHINES  1000
#define SX_SIM_MAX_QUEUE 1024 /* as the server's default */

/* How a request finds its machine, of those that have a replica of its model. */
enum sx_sim_router {
    SX_SIM_ROUND_ROBIN,
    SX_SIM_LEAST_FINISH, /* where it is predicted to end first; all are asked, but one that is idle
                            cannot be beaten */
    SX_SIM_TWO_CHOICES,  /* the one of two random ones with fewer requests in it */
};
#define SX_SIM_ROUTERS 3
/* "round-robin", "least-finish", "two-choices". */
const char *sx_sim_router_name(enum sx_sim_router router);
bool sx_sim_router_find(const char *name, enum sx_sim_router *ret_router);

struct sx_sim_model {
    const char *name;                 /* borrowed, as all pointers here */
    const struct sx_latency *latency; /* prepared */
    double objective_ns;              /* > 0, less than 2^40 */
    double weight;                    /* > 0 */
    int priority;                     /* see share.h */
    unsigned max_batch;               /* 0: the table's greatest */
    uint64_t max_delay_ns;            /* see share.h */
    unsigned lone_units;              /* see share.h */
    unsigned max_queue;               /* requests that may wait on a machine; 0: SX_SIM_MAX_QUEUE */
    unsigned samples;                 /* in a request; 0: 1 */
    /* Arrivals at all machines together, as it was set up (a copy of it is drawn from); NULL: the
     * queue is endless, and promises are windows. */
    const struct sx_arrival *load;
    double rate;       /* samples per second that the scheduler is told at first; 0: the load's
                          mean; INFINITY with an endless queue */
    double noise;      /* standard deviation of the logarithm of a run's time; its mean is the
                          table's */
    double slowness;   /* real over predicted times; 0: 1 */
    double run_ns;     /* added to the table for each run ... */
    double request_ns; /* ... and each request in it; the scheduler knows both */
    double way_ns;     /* of a request's latency, there and back; no unit is busy with it, and the
                          scheduler does not see it */
    unsigned replicas; /* machines that have the model; 0: all */
};

struct sx_sim_decision {
    uint64_t at, ends; /* ns */
    uint64_t predicted_ns;
    uint64_t deadline; /* of the first request in it; 0: of an endless queue */
    unsigned machine, model;
    unsigned first_unit, n_units, batch, samples;
    bool filler;
    const uint64_t *units; /* bits; valid during the call */
};

struct sx_sim_config {
    const struct sx_sim_model *models;
    unsigned n_models;
    unsigned n_units; /* of each machine */
    enum sx_share_policy policy;
    enum sx_share_fit fit;
    bool half_rule;
    /* What predictions leave for the way back: at most a tenth of the objective, as in a server
     * whose answers need not wait for a core.  The plan leaves as much. */
    double margin_ns;
    unsigned n_machines; /* 0: 1 */
    enum sx_sim_router router;
    double seconds;      /* > 0 */
    double warm_seconds; /* at the beginning, not counted: requests that arrive in it, runs' time */
    double replan_seconds; /* learn rates and plan again so often; 0: only at the beginning */
    uint64_t seed;
    bool lone_width; /* a request that finds an empty queue may run as wide as sched.h finds right
                        for the load, as in the server; else as wide as lone_units says */
    bool admit_all;  /* refuse nothing for being late, only for want of room */
    bool keep_late;  /* drop nothing */
    /* The runs that begin in [span_begin, span_end) seconds on the first machine, at most so many;
     * 0: none. */
    double span_begin, span_end;
    size_t max_spans;
    void (*decided)(void *user, const struct sx_sim_decision *decision); /* may be NULL */
    void *user;
};

struct sx_sim_figures {
    uint64_t offered, in_time, late, refused_late, refused_full, dropped, waiting; /* requests */
    uint64_t runs, fillers, samples; /* of runs that ended in the time that was counted */
    double throughput;               /* samples per second */
    double goodput; /* samples per second of requests in time; with an endless queue, of windows
                       that were kept */
    double
        attainment; /* requests in time over all offered and not waiting; windows kept over all */
    double mean_ns, p50_ns, p95_ns, p99_ns, max_ns; /* latency of answered requests; 0: none */
    uint64_t windows, missed;
    double run_ns, unit_ns, useful_ns; /* time in runs; times units; times useful units */
    double predict_error;              /* mean of |real - predicted| over predicted time of runs */
};

struct sx_sim_span {
    uint64_t begin, end; /* ns; end: the real one, also after the end of the simulation */
    uint64_t deadline;   /* of the first request in it; 0: of an endless queue */
    unsigned model, first_unit, n_units, batch;
    bool filler;
    uint64_t units[SX_SCHED_UNITS / 64];
};

struct sx_sim_machine {
    uint64_t offered, in_time;
    double goodput;      /* requests' alone; see sx_sim_figures */
    double busy, useful; /* shares of its units */
    uint64_t decisions;
};

struct sx_sim_result {
    struct sx_sim_figures *models, all; /* `all`: sums; latency of all requests */
    unsigned n_models;
    struct sx_share_plan *plans; /* of each model on the first machine that has it, at the end */
    struct sx_share_verdict verdict; /* the first machine's, at the end */
    struct sx_sim_machine *machines;
    unsigned n_machines;
    double seconds;              /* that were counted */
    double busy, useful;         /* shares of all units */
    double jain_run, jain_units; /* of time in runs, of unit-time, by weight */
    double jain_attainment;
    uint64_t decisions; /* starts */
    uint64_t asked;     /* calls of sx_share_decide */
    uint64_t events;
    uint64_t overloads; /* see sx_share */
    uint64_t hash;      /* of all decisions, in order */
    struct sx_sim_span *spans;
    size_t n_spans;
};

/* SX_INVALID: a figure of the configuration is out of its range; SX_NO_MEMORY.  Blocks for as long
 * as it computes. */
enum sx_rc sx_sim_run(const struct sx_sim_config *config, struct sx_sim_result *ret_result,
                      struct sx_err *err);
void sx_sim_result_fini(struct sx_sim_result *result);

/* Jain's index of fairness of n numbers >= 0: 1 when all are equal, 1/n when one has all; 1 of
 * none or of zeros. */
double sx_sim_jain(const double *x, unsigned n);

#endif
