/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - what `profile`, `plan`, `explain` and `split` share: a model opened for cutting, its
 * profile, plans for it, and stages that really run.
 */
#ifndef SX_CLI_CUT_H
#define SX_CLI_CUT_H

#include <limits.h>

#include "cli/cli.h"
#include "cost/profile.h"
#include "partition/planner.h"
#include "plan/plan.h"

#define SX_CUT_MAX_PLANS 64
#define SX_CUT_RUNS      10 /* of each measurement, where nobody says */
#define SX_CUT_MAX_BATCH 4096

/* A model with what is known of it.  Zero it, open it, close it. */
struct sx_cut {
    const char *command, *path; /* "staronnx plan", for messages; the model */
    struct sx_machine *machine;
    struct sx_engine *engine;
    struct sx_engine_model *model;
    const struct sx_dag *dag;
    struct sx_profile profile;   /* has its key; tables only after sx_cut_profile */
    char profile_path[PATH_MAX]; /* in the cache */
    bool batched;                /* takes batches of any size */
};

/* portable: the graph before ONNX Runtime makes it this machine's own. */
enum sx_rc sx_cut_open(struct sx_cut *cut, const char *path, const struct sx_texts *devices,
                       const char *library, bool portable, struct sx_err *err);
void sx_cut_close(struct sx_cut *cut);

/* What is to be measured. */
struct sx_cut_grid {
    const unsigned *batches;
    size_t n_batches;
    const unsigned *units; /* on each device that has so many; on none: each device's own number */
    size_t n_units;
    unsigned runs;      /* of each measurement */
    bool anew;          /* all of it, not only what the profile lacks */
    const char *output; /* kept there, not in the cache, without what that has; may be NULL */
};
/* The profile from the cache, and what it lacks for each of these batches on each device measured
 * (said on stderr, with a bar) and kept in the cache.  SX_CANCELLED after Ctrl-C: then no file has
 * changed. */
enum sx_rc sx_cut_profile(struct sx_cut *cut, const struct sx_cut_grid *grid, struct sx_err *err);

/* What plans are asked for; zeroed, with batch 1: all variants. */
struct sx_cut_request {
    unsigned batch;
    unsigned n_stages;                 /* 0: as many as pay */
    unsigned n_shares;                 /* 0: the devices' speeds decide */
    double shares[SX_PLAN_MAX_STAGES]; /* of the work, for each stage; add up to 1 */
};
/* "80,20": at least two positive numbers; false when it is not that. */
bool sx_cut_shares(const char *text, struct sx_cut_request *ret);
/* At least one plan; the caller destroys each. */
enum sx_rc sx_cut_plans(struct sx_cut *cut, const struct sx_cut_request *request,
                        struct sx_plan **ret_plans, size_t cap, size_t *ret_n, struct sx_err *err);
/* Index of the plan with the highest throughput among those that keep the objective (ms; 0: none),
 * of the least latency when none does. */
size_t sx_cut_best(struct sx_plan *const *plans, size_t n, double objective_ms);

/* What happened when the stages really ran. */
struct sx_cut_run {
    struct sx_plan_span *spans; /* n_spans, by their end; times from the start; owned */
    size_t n_spans;
    unsigned jobs;                        /* that ended */
    double rate;                          /* jobs per second once the line was full */
    double median_ns[SX_PLAN_MAX_STAGES]; /* of each stage, with its waiting when emulated */
    double latency_ns;                    /* median, from its first stage's begin */
    double busy[SX_PLAN_MAX_STAGES];      /* share of the time that the stage computed */
    double all_busy;                      /* share of the time that all did */
};
/* Run the plan saturated for about `seconds`: a thread for each stage, bound to its device. */
enum sx_rc sx_cut_measure(struct sx_cut *cut, const struct sx_plan *plan, double seconds,
                          struct sx_cut_run *ret_run, struct sx_err *err);
void sx_cut_run_fini(struct sx_cut_run *run);
/* The spans of `jobs` consecutive jobs from the middle of the run, which show the pipeline as it
 * mostly is; how many they are. */
size_t sx_cut_run_middle(const struct sx_cut_run *run, unsigned jobs,
                         struct sx_plan_span *ret_spans, size_t cap);

/* The options that all four have. */
struct sx_cut_common {
    struct sx_texts devices;
    const char *library;
    bool json;
};
#define SX_CUT_COMMON_OPTIONS(c)                                                                    \
    {"device", 0, "DEVICE", SX_OPT_LIST, &(c)->devices, SX_DEVICE_HELP},                            \
        {"onnxruntime", 0, "PATH", SX_OPT_TEXT, &(c)->library, "the ONNX Runtime library to load"}, \
        {"json", 'j', NULL, SX_OPT_FLAG, &(c)->json, "print one JSON object"}

#endif
