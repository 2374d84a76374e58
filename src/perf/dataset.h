/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset.h - a model's inputs as a server describes them, and data to send.
 *
 *     metadata (JSON) -> sx_model_info -> shapes fixed -> sx_dataset -> requests (http_request.h)
 */
#ifndef SX_PERF_DATASET_H
#define SX_PERF_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "tensor/tensor.h"

#define SX_INPUTS_MAX 64

struct sx_input_info {
    char name[256];
    enum sx_dtype dtype;
    int rank;
    int64_t dims[SX_MAX_RANK]; /* -1: free */
};

struct sx_model_info {
    char name[128], version[32], platform[64];
    bool batches; /* every input begins with a free dimension */
    int n_inputs;
    struct sx_input_info input[SX_INPUTS_MAX];
};

/* Read the protocol's answer to GET /v2/models/M. */
enum sx_rc sx_model_info_parse(struct sx_model_info *m, const char *json, size_t len,
                               struct sx_err *err);
/* Give an input its shape: "name:d,d,...".  With or without the batch dimension if the model
 * batches.  */
enum sx_rc sx_model_info_shape(struct sx_model_info *m, const char *text, struct sx_err *err);
/* Set the batch dimension; SX_INVALID when dimensions stay free, or `batch` > 1 and the model does
 * not batch. */
enum sx_rc sx_model_info_fix(struct sx_model_info *m, int64_t batch, struct sx_err *err);

struct sx_dataset {
    size_t n_samples;
    int n_inputs;
    struct sx_tensor *tensor; /* [sample * n_inputs + input]; memory owned by the dataset */
};

/* The rest needs an info whose shapes are fixed. */

/* Made-up data.  Random floats are uniform in [0, 1); integers are 0 or 1, because larger ones may
 * be out of range where a model uses them as indices; strings are eight letters. */
enum sx_rc sx_dataset_generate(struct sx_dataset *d, const struct sx_model_info *m,
                               size_t n_samples, bool zero, uint64_t seed, struct sx_err *err);
/* perf_analyzer's JSON ({"data": [{"INPUT": [...] or {"content": [...], "shape": [...]} or
 * {"b64": "..."}}, ...]}), one object per sample.  `batch` samples of the file make one of the
 * dataset; they wrap around. */
enum sx_rc sx_dataset_json(struct sx_dataset *d, const struct sx_model_info *m, const char *json,
                           size_t len, int64_t batch, struct sx_err *err);
/* A file: JSON by its name's end, else .npy or raw bytes for a model with one input.  A directory:
 * one file for each input, NAME, NAME.npy or NAME.bin. */
enum sx_rc sx_dataset_load(struct sx_dataset *d, const struct sx_model_info *m, const char *path,
                           int64_t batch, struct sx_err *err);
void sx_dataset_fini(struct sx_dataset *d);

#endif
