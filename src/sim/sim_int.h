/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_int.h - what the files of the simulation share; for sim/ alone.
 *
 * A world has types (models, with their statistics) and machines; a machine has a tenant for each
 * type that it holds.  sim.c takes events in order and calls into machine.c, which lets the
 * scheduler decide; cluster.c says which machine a request goes to.
 */
#ifndef SX_SIM_SIM_INT_H
#define SX_SIM_SIM_INT_H

#include "sim/sim.h"

enum sim_event_kind { SIM_END, SIM_ARRIVAL, SIM_REPLAN, SIM_WAKE }; /* the order at one time */

struct sim_event {
    uint64_t at;
    uint64_t order;   /* kind in the top bits, then what makes the order complete */
    uint32_t machine; /* END, WAKE */
    uint32_t what;    /* END: the run; ARRIVAL: the type */
};

/* A binary heap by (at, order). */
struct sim_events {
    struct sim_event *heap;
    size_t n, cap;
    uint64_t pushed;
};
bool sx_sim_events_push(struct sim_events *events, enum sim_event_kind kind, uint64_t at,
                        uint32_t machine, uint32_t what);
struct sim_event sx_sim_events_pop(struct sim_events *events); /* not when empty */

/* Arrival times of the requests that wait: all of a model have the same objective, so who came
 * first is due first. */
struct sim_queue {
    uint64_t *at;
    unsigned head, count, cap; /* cap: a power of two */
};

struct sim_type {
    const struct sx_sim_model *model;
    struct sx_latency latency; /* what the scheduler sees: fixed costs are in it */
    unsigned samples, max_batch, max_queue;
    uint64_t objective, end_by, least; /* ns after arrival; least time of one request alone */
    double slowness, noise_mean;       /* of the logarithm, so that the mean factor is 1 */
    double spread;                     /* mean deviation of a run's time, over the time */
    struct sx_cost cost;               /* the table again, as sched.h wants it; with lone_width */
    bool endless;
    struct sx_arrival load;
    struct sx_rng rng;
    unsigned *knee; /* of each batch up to max_batch; 0: not looked up yet */
    unsigned first_machine, replicas, turn;
    struct sx_sim_figures f;
    struct sx_hist hist;
    double error_sum;
    uint64_t kept_samples; /* endless: of windows that were kept */
};

struct sim_tenant {
    struct sx_share_model share;
    struct sim_type *type; /* NULL: this machine does not hold it */
    struct sim_queue queue;
    struct sx_sched_model sched;              /* only its arrivals; with lone_width */
    uint64_t windows, missed, window_samples; /* endless: as last seen; samples since */
    uint64_t old_windows, old_missed;         /* before counting began */
    uint64_t arrived;                         /* samples since the last re-planning */
    double seen, span;                        /* decayed samples and seconds */
};

struct sim_machine {
    unsigned index;
    struct sx_share *share;
    struct sim_tenant *tenants;           /* one for each type */
    struct sx_sched_model **sched_models; /* of the tenants that there are */
    unsigned n_sched_models;
    unsigned inside; /* requests that wait or run */
    bool dirty;      /* something happened since it was last pumped */
    uint64_t wake_at, wake_pushed;
    double unit_ns, useful_ns;
    struct sx_sim_machine f;
    struct sx_share_verdict verdict;
};

struct sim_run {
    unsigned number; /* sx_share's */
    unsigned type, samples, requests;
    uint32_t next_free;
};

struct sim_world {
    const struct sx_sim_config *config;
    struct sim_type *types;
    unsigned n_types, n_machines;
    struct sim_machine *machines;
    struct sim_events events;
    struct sim_run *runs;
    uint32_t n_runs, cap_runs, free_run;
    uint32_t *dirty; /* machines */
    unsigned n_dirty;
    uint64_t now, warm, end; /* counted: (warm, end] */
    struct sx_rng route;
    struct sx_sim_result *result;
    enum sx_rc rc; /* the first failure inside an event */
};

/* queue.c */
bool sx_sim_queue_push(struct sim_queue *q, uint64_t at);
uint64_t sx_sim_queue_head(const struct sim_queue *q); /* not when empty, nor the next */
uint64_t sx_sim_queue_pop(struct sim_queue *q);
/* Bring what the scheduler sees of a queue up to date. */
void sx_sim_tenant_refresh(struct sim_tenant *t);
/* Drop from the head whoever would be late with a run that takes so long from now on. */
bool sx_sim_tenant_drop_late(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t,
                             uint64_t run_ns);
/* The batch that is started when the scheduler wants `batch`: suited to the head, or the head given
 * up for a full one. */
unsigned sx_sim_tenant_batch(struct sim_world *w, struct sim_machine *m, struct sim_tenant *t,
                             unsigned units, unsigned batch);
/* When a request that arrives now would end. */
uint64_t sx_sim_machine_predict(struct sim_world *w, struct sim_machine *m, unsigned type);
/* One arrived; one was put into the queue. */
void sx_sim_tenant_arrived(struct sim_world *w, struct sim_machine *m, unsigned type);
void sx_sim_tenant_lone(struct sim_world *w, struct sim_machine *m, unsigned type);

/* machine.c */
enum sx_rc sx_sim_machine_init(struct sim_world *w, unsigned index, struct sx_err *err);
void sx_sim_machine_fini(struct sim_world *w, struct sim_machine *m);
/* Start what can be started now. */
void sx_sim_machine_pump(struct sim_world *w, struct sim_machine *m);
void sx_sim_machine_end(struct sim_world *w, struct sim_machine *m, uint32_t run);
/* A request arrives: into the queue, or refused. */
void sx_sim_machine_offer(struct sim_world *w, struct sim_machine *m, unsigned type);
void sx_sim_machine_replan(struct sim_world *w, struct sim_machine *m, double seconds);
/* Counting begins; is over. */
void sx_sim_machine_warm(struct sim_world *w, struct sim_machine *m);
void sx_sim_machine_close(struct sim_world *w, struct sim_machine *m);
/* Something happened: pump it when all that happens now has happened. */
void sx_sim_machine_touch(struct sim_world *w, struct sim_machine *m);

/* cluster.c: where the replicas are, and which of them gets a request. */
void sx_sim_cluster_place(struct sim_world *w);
bool sx_sim_cluster_holds(const struct sim_world *w, unsigned type, unsigned machine);
struct sim_machine *sx_sim_cluster_route(struct sim_world *w, unsigned type);

#endif
