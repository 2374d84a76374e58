/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - models in memory, and requests through them.
 *
 *     sx_server_create -> sx_server_load (each model) -> sx_server_infer ... -> sx_server_drain
 *                                                                      -> sx_server_destroy
 *
 * Models may be loaded and unloaded at any time in between.
 *
 * One lock (`server`) guards queues and the scheduler's state.  Whoever brings news (a request,
 * a completion, the alarm) takes it, asks sched/ what to start, releases it, and then starts
 * tasks and calls `done` functions with no lock held.  There is no scheduler thread: a request
 * that finds a free unit starts in the thread that brought it.
 *
 * Threads: every function may be called from any thread unless it says otherwise.
 */
#ifndef SX_SERVE_SERVER_H
#define SX_SERVE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/rc.h"
#include "engine/engine.h"
#include "exec/exec.h"
#include "machine/machine.h"
#include "plan/plan.h"
#include "sched/share.h"
#include "serve/config.h"
#include "serve/request.h"

struct sx_server;
struct sx_model; /* one version of one model; counted references */

struct sx_server_config {
    struct sx_engine *engine;         /* borrowed; outlives the server */
    const struct sx_machine *machine; /* borrowed; its units are the server's units */
    enum sx_exec_kind exec;
    unsigned default_max_batch;  /* for models that do not say; 0: 4, as Triton */
    uint64_t default_timeout_ns; /* for requests without timeout or objective; 0: 30 s */
    uint64_t default_max_queue;  /* waiting requests per model; 0: 1024 */
    bool no_profiling;           /* do not measure models while idle after loading */
    /* How several models share one device: a policy of sched/share.h by its name ("fair", "edf",
     * ...), or "width": each model by itself, as if it were the only one (sched/sched.h).  NULL:
     * "fair". A model that is alone runs by width in any case, and several devices have rules of
     * their own (sched/place.h).  Read by create only. */
    const char *policy;
    bool
        keep_plan; /* for comparisons: plan when models come and go, not when rates or costs move */

    /* With several devices in `machine` each model is resident in several variants: whole on each
     * device, and cut into stages over them (plan/); sched/place chooses for each request. */
    const char *cache_dir; /* where profiles are found and kept; NULL: measured at each load */
    bool whole_only;       /* do not cut */
    bool greedy;           /* for comparisons: an idle device takes the oldest request, whole */
    unsigned trace_spans;  /* remember that many of the last stage runs; see sx_server_trace */
};

enum sx_rc sx_server_create(const struct sx_server_config *config, struct sx_server **ret_server,
                            struct sx_err *err);
/* Refuse new requests, answer the admitted ones; returns when all are answered or at
 * `deadline_ns` (on sx_now's scale; then SX_DEADLINE, and the rest is answered UNAVAILABLE). */
enum sx_rc sx_server_drain(struct sx_server *server, uint64_t deadline_ns);
/* Drains, unloads, stops.  No reference on a model may be left with a caller. NULL is fine. */
void sx_server_destroy(struct sx_server *server);
struct sx_exec *sx_server_exec(struct sx_server *server);
struct sx_pool *sx_server_pool(struct sx_server *server);
bool sx_server_ready(struct sx_server *server); /* loaded what it was told to, and not stopping */
/* All profiling that idle time was used for is finished. */
bool sx_server_settled(struct sx_server *server);

/* --- models ------------------------------------------------------------------------------------
 */

/* Load one version from an .onnx file.  `config` (may be NULL) is copied.  Blocks; other models
 * serve meanwhile.  Loading a name and version that is there already is SX_INVALID. */
enum sx_rc sx_server_load(struct sx_server *server, const char *name, int64_t version,
                          const char *path, const struct sx_config *config, struct sx_err *err);
/* Take a model out of service; version 0: the highest.  What runs goes on to its answer, what waits
 * is answered SX_UNAVAILABLE (inside this call), and later requests for it are refused.  Its memory
 * is given back when the last reference goes, by the server's own thread.  Returns at once; waits
 * only for a load that is under way.  SX_NOT_FOUND: there is none of that name and version. */
enum sx_rc sx_server_unload(struct sx_server *server, const char *name, int64_t version,
                            struct sx_err *err);
/* Load a repository in Triton's layout (NAME/VERSION/model.onnx, NAME/config.pbtxt).  A model that
 * fails does not stop the others: it is logged, kept with its reason, and counted in
 * *ret_failed.  Fails only when the directory itself cannot be used. */
enum sx_rc sx_server_load_repository(struct sx_server *server, const char *dir,
                                     unsigned *ret_loaded, unsigned *ret_failed,
                                     struct sx_err *err);

/* What a repository index lists. */
struct sx_model_entry {
    char name[SX_NAME_MAX];
    int64_t version; /* 0: no version could be loaded */
    bool ready;
    char reason[384]; /* why not ready */
};
/* Entries sorted by name and version; the caller frees the array with free(). */
enum sx_rc sx_server_index(struct sx_server *server, struct sx_model_entry **ret_entries,
                           size_t *ret_count);

/* Find a ready model; `name` need not be terminated; version 0: the highest.  The caller owns a
 * reference on *ret_model.  SX_NOT_FOUND ("Request for unknown model: ...") or SX_UNAVAILABLE. */
enum sx_rc sx_server_find(struct sx_server *server, const char *name, size_t name_len,
                          int64_t version, struct sx_model **ret_model, struct sx_err *err);
void sx_model_unref(struct sx_model **model);

const char *sx_model_name(const struct sx_model *model);
int64_t sx_model_version(const struct sx_model *model);
const struct sx_config *sx_model_config(const struct sx_model *model);
size_t sx_model_inputs(const struct sx_model *model, const struct sx_port **ret_ports);
size_t sx_model_outputs(const struct sx_model *model, const struct sx_port **ret_ports);
/* Every loaded version of every model, each with a reference for the caller; free the array. */
enum sx_rc sx_server_models(struct sx_server *server, struct sx_model ***ret_models,
                            size_t *ret_count);

/* --- requests ------------------------------------------------------------------------------------
 */

/* Check, admit and queue; never blocks on computing.  SX_OK: the server owns the request until
 * `done`.  Otherwise it is still the caller's:
 *   SX_INVALID      shapes, types or missing inputs, with the name of the tensor
 *   SX_UNAVAILABLE  "Exceeds maximum queue size", or it could not finish by its deadline
 *                   ("Request timeout expired"), or the server is stopping */
enum sx_rc sx_server_infer(struct sx_server *server, struct sx_request *request,
                           struct sx_err *err);
/* For a front that has read the head of a request (received_ns, way_ns: as in the request), and not
 * yet its tensors: SX_UNAVAILABLE (and counted as refused) if even one sample with the model's
 * default deadline would be refused now. Most of what a refused request costs is its tensors' way
 * into memory. */
enum sx_rc sx_server_precheck(struct sx_server *server, struct sx_model *model,
                              uint64_t received_ns, uint64_t way_ns, struct sx_err *err);
/* The client went away: a queued request is answered SX_CANCELLED at once (its `done` runs inside
 * this call); a running one finishes and its result is dropped.  Only while the server owns it, or
 * racing with its completion on another thread, as long as the caller keeps it from being
 * released. */
void sx_server_cancel(struct sx_server *server, struct sx_request *request);
/* Seconds that a refused client should wait: the predicted length of the queue, at least 1. */
unsigned sx_server_retry_after(struct sx_server *server);

/* --- what it measured ---------------------------------------------------------------- */

struct sx_batch_stats {
    unsigned batch;
    uint64_t count, infer_ns;
};

struct sx_model_stats {
    uint64_t success, samples, executions; /* requests; samples in them; engine runs */
    uint64_t rejected, expired, cancelled, failed, invalid;       /* requests, by reason */
    uint64_t request_ns, queue_ns, input_ns, infer_ns, output_ns; /* sums over successes */
    uint64_t fail_ns;
    uint64_t last_inference_ms; /* since the epoch; 0: never */
    uint64_t pending;           /* waiting now */
    uint64_t running;           /* requests inside runs now */
    double load_seconds;
    uint64_t in_time;              /* successes that ended by their deadline */
    double prediction_error;       /* running mean of |predicted - measured| / measured run time */
    struct sx_hist latency, queue; /* of successes */
    unsigned n_batches;
    struct sx_batch_stats batches[64];
    unsigned n_widths; /* engine runs by width */
    unsigned widths[16];
    uint64_t width_runs[16];
};
/* A consistent copy.  The struct is large (about 40 KiB): allocate it. */
void sx_model_get_stats(struct sx_model *model, struct sx_model_stats *ret_stats);

/* One measured cell of a model's cost: how long a batch takes on some units. */
struct sx_cost_cell {
    unsigned batch, width;
    double ns, spread_ns; /* mean and mean deviation, recent runs weigh more */
    uint64_t runs;
};
/* Copies at most `cap` cells; returns how many there are. */
size_t sx_model_costs(struct sx_model *model, struct sx_cost_cell *cells, size_t cap);
/* How a model is resident when there are several devices; copies at most `cap`, returns how many
 * there are (0 with one device). */
struct sx_variant_info {
    char name[64]; /* "whole on cpu:0", "cpu:1@8 | cpu:0" */
    unsigned n_stages;
    unsigned device[SX_PLAN_MAX_STAGES];
    double predicted_ns[SX_PLAN_MAX_STAGES]; /* by the plan, one sample */
    double ns[SX_PLAN_MAX_STAGES];           /* as measured in service; 0: never ran */
    double latency_ns;                       /* measured: from start to end of a job; 0: never */
    uint64_t runs;
};
#define SX_VARIANTS_MAX 16 /* of one model */
size_t sx_model_variants(struct sx_model *model, struct sx_variant_info *infos, size_t cap);

/* One run of one stage. */
struct sx_span {
    uint64_t job; /* counts from 0 */
    const struct sx_model *model;
    unsigned variant, stage, device;
    uint64_t begin_ns, end_ns; /* on the server's clock; the device was busy */
    double predicted_ns;       /* as the scheduler believed when the job was started */
};
/* The last spans (at most trace_spans of the config), oldest first; returns how many. */
size_t sx_server_trace(struct sx_server *server, struct sx_span *spans, size_t cap);

/* Share models by another policy from now on (see sx_server_config); no request is lost or late for
 * it.  SX_INVALID: there is no such policy; SX_UNSUPPORTED: several devices.  Any thread, also
 * under load. */
enum sx_rc sx_server_set_policy(struct sx_server *server, const char *policy, struct sx_err *err);

/* How the models share the machine at present. */
struct sx_server_plan {
    const char *policy; /* as it was asked for; static */
    bool sharing;       /* false: one model, "width" or several devices: no plan, `plan` is empty */
    char verdict[320];  /* a sentence for people */
    unsigned n_units;
    double session_ns; /* the longest objective; 0 when not sharing */
    double demand;     /* unit-time that all promises need, over the machine's */
    bool feasible;
    unsigned refused, shrunk;
    double age_s, plan_s;        /* since the plan was made; how long making it took */
    uint64_t replans, overloads; /* plans made so far; decisions that saw a promise broken */
    struct sx_server_plan_model {
        char name[SX_NAME_MAX];
        int64_t version;
        double objective_ns, weight, rate; /* rate: samples per second, now */
        int priority;
        struct sx_share_plan plan;
        double score;      /* unit-time in ns that it had lately, decayed */
        double unit_share; /* of all models' score; 0..1 */
        double attainment; /* answered by the deadline, of all that was asked; -1: nothing yet */
        uint64_t asked, in_time, queued, running;
    } *models;
    size_t n_models;
};
/* The caller frees it with sx_server_plan_fini. */
enum sx_rc sx_server_get_plan(struct sx_server *server, struct sx_server_plan *ret_plan);
void sx_server_plan_fini(struct sx_server_plan *plan);

/* How quick the scheduler itself is, since start. */
struct sx_sched_stats {
    struct sx_hist decide; /* each decision: what starts next, or that nothing does */
    struct sx_hist start;  /* from the decision to start a run until it begins on its units; one
                              device only: with several, a run may be handed over ahead of time */
};
/* A consistent copy.  The struct is large (about 40 KiB): allocate it. */
void sx_server_sched_stats(struct sx_server *server, struct sx_sched_stats *ret_stats);

/* Share of the time since start in which units were busy, by unit; n_units entries. */
void sx_server_busy(struct sx_server *server, double *ret_busy_seconds, unsigned n_units);

#endif
