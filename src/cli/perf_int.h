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

/* --- ranges -------------------------------------------------------------------------------------
 */

struct sx_perf_range {
    double start, end, step; /* end 0: open */
};

/* "start[:end[:step]]" of positive numbers; false when it is not that. */
bool sx_perf_range_parse(const char *text, bool whole, struct sx_perf_range *ret);

#endif
