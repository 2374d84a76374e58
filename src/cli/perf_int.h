/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_int.h - shared by the files of `staronnx perf`.
 */
#ifndef SX_CLI_PERF_INT_H
#define SX_CLI_PERF_INT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/rc.h"
#include "cli/options.h"
#include "perf/dataset.h"
#include "perf/measure.h"
#include "perf/report.h"
#include "perf/target.h"

/* What the load is put on. */
struct sx_perf_target_options {
    const char *model, *version, *url, *model_path;
    struct sx_texts devices; /* in-process only, as the next two */
    const char *onnxruntime;
    bool quiet;
    uint64_t batch;
    struct sx_texts shapes;
    const char *input_data; /* "zero", "random", or a path */
    bool json_tensors;
    uint64_t seed;
    uint32_t slots;
    uint64_t timeout_ns;
    uint64_t server_timeout_us, priority;
};

/* A target with everything that it borrows. */
struct sx_perf_opened {
    struct sx_target *target;
    void *owned;
    void (*close)(struct sx_perf_opened *o); /* destroys the target first */
};

enum sx_rc sx_perf_open_http(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                             struct sx_err *err);
/* The server library in this process, with the one model of o->model_path. */
enum sx_rc sx_perf_open_inproc(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                               struct sx_err *err);
/* Fix the shapes of `info` and make the data, as the options say. */
enum sx_rc sx_perf_dataset(const struct sx_perf_target_options *o, struct sx_model_info *info,
                           struct sx_dataset *ret, struct sx_err *err);

/* --- ranges -------------------------------------------------------------------------------------
 */

struct sx_perf_range {
    double start, end, step; /* end 0: open */
};

/* "start[:end[:step]]" of positive numbers; false when it is not that. */
bool sx_perf_range_parse(const char *text, bool whole, struct sx_perf_range *ret);

/* --- the command line ---------------------------------------------------------------------------
 */

/* What the command line says. */
struct sx_perf_args {
    struct sx_perf_target_options target;
    const char *concurrency, *rate, *distribution, *intervals, *trace, *trace_unit, *trace_counts;
    double gamma_shape;
    const char *protocol, *name, *title, *scenario;
    bool json, compare, binary_search, find_threshold, quiet;
    const char *json_file, *html, *csv;
    double warmup, duration, min_duration, interval_ms, stability, percentile, objective, latency;
    double timeout, precision;
    uint64_t requests, window_requests, max_trials, connections, seed, batch, priority,
        server_timeout;
    const char *mode;
};

/* What of it had to be read. */
struct sx_perf_asked {
    struct sx_perf_range closed, open;
    struct sx_plan_load arrivals;
    enum sx_scenario_kind scenario;
    uint64_t trace_unit; /* ns */
};

/* Everything that can be wrong before anything is started: -1 to go on, else the exit status, and
 * it has been said.  Completes `args`. */
int sx_perf_check(struct sx_perf_args *args, const struct sx_usage *usage,
                  const struct sx_texts *operands, struct sx_perf_asked *ret);

/* --- the progress line --------------------------------------------------------------------------
 */

struct sx_perf_progress {
    bool off, tty, shown;
    char what[64];
    uint64_t last_line;
};

void sx_perf_progress_begin(struct sx_perf_progress *p, enum sx_load_kind kind, double load);
void sx_perf_progress_show(void *progress, const struct sx_progress *p);
/* Clear the line, so that something else can be printed. */
void sx_perf_progress_end(struct sx_perf_progress *p);

#endif
