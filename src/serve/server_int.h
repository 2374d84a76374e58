/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * server_int.h - what serve/'s files share; for serve/ alone.
 *
 * Guards.  [lock] server->lock; [once] written before the object is published; [job] whoever
 * runs the job; [pool] model->pool_lock; [plan] sharing->plan_lock.  Ranks: load_lock < reap_lock,
 * plan_lock < lock < pool_lock.  Nothing is called
 * out (exec, `done`, engine) while `lock` or `pool_lock` is held; what is to be done is collected
 * in a `struct outcome` and done after the lock is released.
 */
#ifndef SX_SERVE_SERVER_INT_H
#define SX_SERVE_SERVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "cost/cost.h"
#include "sched/place.h"
#include "sched/sched.h"
#include "sched/share.h"
#include "serve/server.h"

/* One run of a model on one batch. */
struct sx_job {
    struct sx_task *task;
    struct sx_model *model;
    struct sx_session *session;
    struct sx_list requests; /* in the order of their rows; empty for a profiling run */
    struct sx_tensor *inputs, *outputs;
    unsigned samples, first_unit, width;
    uint64_t predicted_ns;
    uint64_t start_ns, input_ns, infer_ns, end_ns; /* [job] decided; gathered; computed; done */
    enum sx_rc rc;
    struct sx_err err;
    struct sx_list link;    /* in model->free_jobs or outcome->start */
    struct sx_list running; /* [lock] in server->running */
    unsigned share_run;     /* [lock] its number in the share; SX_NO_RUN: not known there */
};
#define SX_NO_RUN (~0u)

/* --- several devices: variants, flows ------------------------------------------------------------
 */

/* One stage of a variant, on its device.  Values flow through slots: first the model's inputs, then
 * what the stages make. */
struct sx_stage {
    unsigned device;
    struct sx_engine_model *engine_model; /* NULL: the model's own, whole */
    struct sx_session *session;
    const struct sx_port *out;
    size_t n_in, n_out;
    uint32_t *in_slot, *out_slot;
    unsigned n_data; /* cut tensors that it reads or writes */
    uint32_t *data;  /* numbers of them in the variant's list */
    enum sx_mode *modes;
    atomic_bool self_alloc;
    double planned_ns;   /* [once] */
    struct sx_cost cost; /* [lock] one width: the device's */
    uint64_t rested_ns;  /* [lock] until when `cost` knows what ran; 0: it never did */
    double measured_ns;  /* [lock] running mean for one sample; 0: never ran */
};

struct sx_variant {
    char name[64];
    unsigned n_stages;
    struct sx_stage *stages;
    uint32_t n_slots, n_data;
    uint32_t *result_slot;     /* of each output of the model */
    double latency_ns;         /* [lock] running mean */
    uint64_t runs;             /* [lock] */
    struct sx_list free_flows; /* [lock] */
};

/* A job over the stages of a variant: one request through all of them. */
struct sx_flow {
    struct sx_model *model;
    unsigned variant;
    struct sx_request *request;
    struct sx_tensor *slots;
    struct sx_data **data;
    struct sx_flow_step {
        struct sx_flow *flow;
        struct sx_task *task;
        struct sx_data **data;
        struct sx_tensor *inputs;   /* room for a run's inputs and, after them, outputs */
        atomic_uint_fast64_t began; /* 0: not yet */
        bool done;                  /* [lock] */
        uint64_t ready;             /* [lock] when it was handed to its device; 0: not yet */
        double predicted_ns;
    } *steps;
    unsigned left; /* [lock] steps that are not done */
    uint64_t number;
    uint64_t start_ns;
    atomic_int rc;              /* the first failure; later steps do nothing */
    struct sx_err err;          /* written by the step that set rc */
    struct sx_list link;        /* in server->flows or variant->free_flows */
    struct sx_flow *next_start; /* in outcome->flows */
};

struct sx_model {
    struct sx_server *server; /* [once] */
    struct sx_config config;  /* [once] completed */
    int64_t version;          /* [once] */
    struct sx_engine_model *engine_model;
    struct sx_port *ports;          /* [once] inputs, then outputs, as the config narrows them */
    const struct sx_port *in, *out; /* [once] in `ports` */
    size_t n_in, n_out;
    struct sx_session ***sessions; /* [once] [width index][group] */
    unsigned max_batch;     /* [once] samples in a run; 1 when the model has no batch dimension */
    bool batchable;         /* [once] first dimension of every input and output is the batch */
    bool varies;            /* [once] a dimension other than the batch is free */
    atomic_bool self_alloc; /* the engine allocates outputs: declared shapes do not hold */
    atomic_bool apart;      /* batching was assumed, and a run showed that it is wrong */
    atomic_uint refs;
    double load_seconds;

    struct sx_variant *variants; /* [once] several devices only; else sessions above */
    unsigned n_variants;

    struct sx_cost cost;         /* [lock] */
    struct sx_sched_model sched; /* [lock] */
    struct sx_share_model share; /* [lock] as sched/share sees it, once `shared` */
    struct sx_latency latency;   /* [lock] what `share` is planned with */
    double planned_ns[SX_COST_WIDTHS][SX_COST_BATCHES]; /* [lock] cells of `cost` at that time */
    double base_ns[SX_COST_WIDTHS][SX_COST_BATCHES];    /* [lock] cells when first measured */
    bool shared;                                        /* [lock] it is in the present share */
    bool removed;           /* [lock] unloaded: it is not in server->models any more */
    struct sx_list retired; /* [lock] in server->retired, after the last reference went */
    struct sx_list queue;   /* [lock] of sx_request.link, by priority, then deadline */
    unsigned queued_requests, queued_samples; /* [lock] */
    unsigned queued_ranked;                   /* [lock] of these, with a priority of their own */
    uint64_t earliest;                       /* [lock] deadline in the queue; as of the last pump */
    unsigned running_jobs, running_requests; /* [lock] */
    uint64_t last_run_ns;                    /* [lock] when a run ended last; see may_probe() */
    bool profile_done;                       /* [lock] */
    unsigned ran;                            /* [lock] a bit for each width that has run */
    struct sx_model_stats *stats;            /* [lock] */

    pthread_mutex_t pool_lock;
    struct sx_list free_requests; /* [pool] */
    struct sx_list free_jobs;     /* [lock] */
};

struct sx_server {
    struct sx_server_config config; /* [once] */
    struct sx_exec *exec;
    struct sx_clock *clock;
    struct sx_pool *pool;
    unsigned n_units;
    bool fleet;                /* [once] several devices */
    double slowdown;           /* [once] of the only device; 0: none */
    pthread_mutex_t load_lock; /* the engine opens one model at a time */

    pthread_mutex_t lock;
    pthread_cond_t idle;                  /* [lock] signalled when in_flight drops to zero */
    bool *unit_busy;                      /* [lock] */
    uint64_t *unit_free_at;               /* [lock] */
    uint64_t *unit_busy_ns, *unit_since;  /* [lock] busy time so far; start of the present run */
    struct sx_sched_stats *quick;         /* [lock] */
    struct sx_list running;               /* [lock] of sx_job.running; one device only */
    struct sx_sharing *sharing;           /* [once] NULL with several devices */
    pthread_mutex_t reap_lock;            /* held while models are destroyed; before `lock` */
    struct sx_list retired;               /* [lock] of sx_model.retired */
    struct sx_model **models;             /* [lock] */
    struct sx_sched_model **sched_models; /* [lock] same order */
    unsigned n_models, cap_models;
    struct sx_model_entry *failures; /* [lock] what could not be loaded */
    unsigned n_failures;
    struct sx_list flows;  /* [lock] in the order of their start */
    uint64_t n_flows;      /* [lock] so far */
    struct sx_span *spans; /* [lock] a ring of config.trace_spans */
    uint64_t n_spans;      /* [lock] so far */
    unsigned in_flight;    /* [lock] requests admitted and not yet answered, and jobs */
    bool stopping;         /* [lock] */
    uint64_t way_ns;       /* [lock] of the request that came last */
};

/* What to do once the lock is released. */
struct outcome {
    struct sx_list start;               /* jobs */
    struct sx_flow *flows, **flows_end; /* to be submitted */
    struct sx_list finished;            /* requests with rc set */
};

/* Clients count from when they ask until they have the answer, and of that we see only the middle:
 * so predictions must leave a tenth of the time, at most 5 ms, for the way here and back.  On a
 * machine that is busy with runs, `way_ns` back takes milliseconds, and here no less: that is left,
 * too, as long as it is no more than a fifth of the time. */
static inline uint64_t sx_reserve_ns(uint64_t timeout_ns, uint64_t way_ns)
{
    uint64_t least = timeout_ns / 10 < 5 * SX_MS ? timeout_ns / 10 : 5 * SX_MS;
    uint64_t ways = 2 * way_ns < timeout_ns / 5 ? 2 * way_ns : timeout_ns / 5;
    return ways > least ? ways : least;
}

/* There was no memory to start what could start: when it is tried again. */
#define NO_MEMORY_RETRY_NS (10 * SX_MS)

/* dispatch.c */
void sx_outcome_init(struct outcome *o);
/* What sched/ decides from, and a model's number in it. [lock] held. */
struct sx_sched sx_server_state(const struct sx_server *server);
unsigned sx_server_index_of(const struct sx_server *server, const struct sx_model *model);
/* Start what can be started, expire what cannot end in time. [lock] held. */
void sx_server_pump(struct sx_server *server, uint64_t now, struct outcome *o);
/* Submit jobs, call `done` of finished requests. No lock held. */
void sx_server_flush(struct sx_server *server, struct outcome *o);
void sx_server_alarm(void *server);
/* What a scheduler wants started: a batch of at most so many samples, where, for how long. */
struct sx_start {
    unsigned batch, first_unit, n_units;
    uint64_t predicted_ns;
};
/* Act on it: move requests from the model's queue into a job, in which *ret_job comes back; NULL
 * there when the queue only became shorter, because what waited cannot end in time: ask again.
 * False when there is no memory for a job.  [lock] held. */
bool sx_server_start_batch(struct sx_server *server, struct sx_model *model,
                           const struct sx_start *start, uint64_t now, struct sx_job **ret_job,
                           struct outcome *o);
/* Every setting of the alarm goes through here: models that wait for their end need it, too.
 * [lock] held. */
void sx_server_set_alarm(struct sx_server *server, uint64_t wake, uint64_t now);
/* Answer everything that still waits with `rc`. [lock] held. */
void sx_server_fail_queued(struct sx_server *server, enum sx_rc rc, const char *message,
                           struct outcome *o);

/* request.c: may two checked requests of one model share a batch? */
bool sx_request_same_shape(const struct sx_request *a, const struct sx_request *b);

/* queue.c; [lock] held for all */
struct sx_request *sx_queue_head(const struct sx_model *model);
void sx_queue_insert(struct sx_model *model, struct sx_request *request);
void sx_queue_remove(struct sx_model *model, struct sx_request *request);
/* Take a request out of the server; `done` is called by the flush. */
void sx_request_finish(struct sx_server *server, struct sx_request *request, struct outcome *o);
void sx_queue_expire(struct sx_server *server, struct sx_request *request, uint64_t now,
                     struct outcome *o);
/* Drop what cannot end in time; returns the earliest deadline that is left. */
uint64_t sx_queue_expire_late(struct sx_server *server, struct sx_model *model, uint64_t now,
                              struct outcome *o);
/* Answer all that waits for one model with `rc`. */
void sx_queue_fail(struct sx_server *server, struct sx_model *model, enum sx_rc rc,
                   const char *message, struct outcome *o);
/* Bring model->sched, what a scheduler sees, up to date with the queue. */
void sx_model_refresh(struct sx_model *model);
/* May a request run although it is predicted to be late? */
bool sx_model_may_probe(const struct sx_model *model, uint64_t now);
/* Predicted time in ns of `samples` on an idle server. */
double sx_model_least_ns(const struct sx_model *model, unsigned samples);

/* run.c: run a session.  Outputs with declared shapes (a free first dimension is `batch`, unless
 * that is -1) are put into `pool`; self_alloc becomes true when the declarations do not hold. */
enum sx_rc sx_run_ports(struct sx_session *session, const struct sx_tensor *inputs,
                        const struct sx_port *ports, struct sx_tensor *outputs, size_t n,
                        int64_t batch, struct sx_pool *pool, atomic_bool *self_alloc,
                        uint64_t *ret_ns, struct sx_err *err);

/* variant.c: plan a model for several devices and make its variants resident. Blocks. */
enum sx_rc sx_variants_create(struct sx_model *model, struct sx_err *err);
void sx_variants_destroy(struct sx_model *model);
double sx_variants_least_ns(const struct sx_model *model, unsigned samples);

/* flow.c */
enum sx_rc sx_flow_create(struct sx_model *model, unsigned variant, struct sx_flow **ret_flow);
void sx_flow_destroy(struct sx_flow *flow);
/* The request's inputs into the slots, tasks ready to be submitted. [lock] held. */
void sx_flow_begin(struct sx_flow *flow, struct sx_request *request, uint64_t now,
                   void (*done)(struct sx_task *task));
void sx_flow_submit(struct sx_flow *flow);
/* The slots into the request's outputs, or the flow's error. After the last step. */
void sx_flow_finish(struct sx_flow *flow);

/* fleet.c: pump and admission with several devices. [lock] held. */
void sx_fleet_pump(struct sx_server *server, uint64_t now, struct outcome *o);
/* When a request of this model that arrives now is predicted to end. */
uint64_t sx_fleet_predict(struct sx_server *server, struct sx_model *model, unsigned samples,
                          uint64_t now);

/* share.c: the share's life and its plans; share_run.c: decisions by it.
 *
 * Several models on one device are run by sched/share.h.  `live` is what decisions are made from.
 * A plan is computed on a draft, from copies, with no lock of the server held, and then taken over
 * between two decisions: a request never waits for it.  With one model, or under the policy
 * "width", the share is not active, and all of this costs a comparison.
 *
 * Always true while the server's lock is free and the share is active
 *   S1  live's runs are the jobs of server->running that have a share_run, on the same units.
 *   S2  a model that is `shared` has a plan and a prepared table.
 */
struct sx_draft {
    struct sx_model *model; /* with a reference while planning */
    struct sx_share_model share;
    struct sx_latency latency;
    struct sx_cost cost;
};
struct sx_sharing {
    enum sx_share_policy policy; /* [lock] */
    bool wanted;                 /* [lock] the policy is one of sched/share.h, and not "width" */
    bool active;                 /* [lock] */
    struct sx_share *live;       /* [lock] */
    struct sx_share_model aside; /* [lock] has the runs that no model of the share is charged for */
    struct sx_latency aside_latency;
    bool news;                       /* [lock] something happened since `looked` */
    uint64_t looked;                 /* [lock] when plans were last compared with what is learnt */
    uint64_t planned;                /* [lock] when the present plan was made */
    double plan_ns;                  /* [lock] how long that took */
    uint64_t replans;                /* [lock] */
    struct sx_share_verdict verdict; /* [lock] */

    pthread_mutex_t plan_lock;
    struct sx_share *draft;  /* [plan] */
    struct sx_draft *drafts; /* [plan] one for each model */
    unsigned n_drafts, cap_drafts;
};
/* `policy`: as in sx_server_config. */
enum sx_rc sx_sharing_create(struct sx_server *server, const char *policy, struct sx_err *err);
/* After the executor: nothing runs, no alarm comes. */
void sx_sharing_destroy(struct sx_server *server);
/* Wait for a plan that is being made. No lock held. */
void sx_sharing_settle(struct sx_server *server);
/* Room to plan for `n` models.  No lock held. */
enum sx_rc sx_sharing_reserve(struct sx_server *server, unsigned n, struct sx_err *err);
/* Plan anew and act on it; begins to share when there are several models.  No lock held. */
void sx_sharing_replan(struct sx_server *server);
/* The rest: [lock] held. */
/* Has so much changed that a new plan is due?  Looks at most every quarter of a second. */
bool sx_sharing_due(struct sx_server *server, uint64_t now);
/* When sx_sharing_due wants to be asked next; SX_NEVER: only after something happened. */
uint64_t sx_sharing_look_at(const struct sx_server *server);
/* Go back to the width rule; runs go on. */
void sx_sharing_stop(struct sx_server *server);
/* A model has been taken out of server->models. */
void sx_sharing_leave(struct sx_server *server, struct sx_model *model);
bool sx_sharing_active(const struct sx_server *server);
/* Start what the share wants started; returns when to ask again. */
uint64_t sx_sharing_pump(struct sx_server *server, uint64_t now, struct outcome *o);
/* A request has joined the model's queue. */
void sx_sharing_arrived(struct sx_server *server, struct sx_model *model, uint64_t now);
/* A job that the share did not ask for has been started: it keeps its units out. */
void sx_sharing_note(struct sx_server *server, struct sx_job *job, uint64_t now);
void sx_sharing_ended(struct sx_server *server, struct sx_job *job, uint64_t now);
/* Would the request end in time?  *ret_end: when, as predicted. */
bool sx_sharing_admits(struct sx_server *server, struct sx_model *model,
                       const struct sx_request *request, uint64_t now, uint64_t *ret_end);

/* job.c */
enum sx_rc sx_job_create(struct sx_model *model, struct sx_job **ret_job);
void sx_job_destroy(struct sx_job *job);
/* The exec task: gather, compute.  On the unit's thread. */
void sx_job_run(struct sx_task *task);
/* Give each request its rows of the outputs, or the job's error.  False: none has got anything, and
 * each is to be run again by itself. */
bool sx_job_scatter(struct sx_job *job);
void sx_job_reset(struct sx_job *job);

/* profile.c: a run of the cell that is worth measuring most; NULL when none. [lock] held. */
struct sx_job *sx_profile_next(struct sx_server *server, unsigned *ret_first_unit);
/* Fill a profiling job's inputs; on the unit's thread. */
enum sx_rc sx_profile_inputs(struct sx_job *job);

/* model.c */
struct sx_session *sx_model_session(struct sx_model *model, unsigned width, unsigned first_unit);
void sx_model_destroy(struct sx_model *model);
/* unload.c: give a reference back with [lock] held; the last one retires the model, and the alarm's
 * thread destroys it.  Not to be touched afterwards. */
void sx_model_drop(struct sx_model *model);
/* Destroy what has retired.  No lock held. */
void sx_server_reap(struct sx_server *server);
/* Into the statistics: a request that ran, with its rc and times; how far off a prediction was.
 * [lock] held. */
void sx_model_count_answer(struct sx_model *model, const struct sx_request *request);
void sx_model_count_error(struct sx_model *model, double predicted_ns, double took_ns);

/* request.c */
void sx_request_destroy(struct sx_request *request);
enum sx_rc sx_request_check(struct sx_request *request, struct sx_err *err);

/* Remember why a model could not be loaded, for the index. Any thread. */
void sx_server_note_failure(struct sx_server *server, const char *name, int64_t version,
                            const char *reason);

#endif
