/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what a user may say about a model: Triton's config.pbtxt.
 *
 * Protobuf text format, the fields of Triton's ModelConfig.  Fields that change what an answer
 * means and that we do not implement (ensembles, sequences, decoupled responses, ...) are
 * SX_UNSUPPORTED with the field's name; fields that only tune another server (instance_group,
 * optimization, ...) are accepted and noted; unknown fields are SX_INVALID with line and column.
 *
 * Our own settings travel in `parameters`, as other servers ignore those:
 *     parameters { key: "objective_ms" value { string_value: "50" } }
 *     parameters { key: "weight"       value { string_value: "2" } }
 *     parameters { key: "priority"     value { string_value: "-1" } }
 */
#ifndef SX_SERVE_CONFIG_H
#define SX_SERVE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rc.h"
#include "engine/engine.h"

#define SX_MAX_PREFERRED 16
#define SX_NAME_MAX      256

/* One input or output as the file declares it. */
struct sx_config_port {
    char *name;
    enum sx_dtype dtype;
    int rank;
    int64_t dims[SX_MAX_RANK]; /* without the batch dimension when max_batch_size > 0 */
    bool has_reshape;
    int reshape_rank;
    int64_t reshape[SX_MAX_RANK];
    bool optional;
};

struct sx_config_version_policy {
    enum { SX_VERSIONS_LATEST, SX_VERSIONS_ALL, SX_VERSIONS_SPECIFIC } kind;
    unsigned latest; /* how many of the highest versions; default 1 */
    int64_t *specific;
    size_t n_specific;
};

struct sx_config {
    char name[SX_NAME_MAX]; /* "" : not said */
    char platform[64];      /* "onnxruntime_onnx" */
    char backend[64];       /* "onnxruntime" */
    char default_filename[SX_NAME_MAX];
    bool has_max_batch_size;
    int64_t max_batch_size; /* 0: the model's first dimension is not a batch */
    bool batching_assumed;  /* nobody said so: only the shapes look like it */
    char not_assumed[224];  /* why it is not, although shapes look like it, for the log; "" */
    struct sx_config_port *inputs, *outputs;
    size_t n_inputs, n_outputs;
    struct sx_config_version_policy versions;

    bool dynamic_batching; /* the block is there */
    unsigned n_preferred;
    unsigned preferred[SX_MAX_PREFERRED]; /* ascending */
    uint64_t max_queue_delay_ns;
    uint64_t max_queue_size;         /* requests that may wait; 0: not said */
    uint64_t default_timeout_ns;     /* 0: not said */
    uint32_t priority_levels;        /* of requests: from 1, the first, to this; 0: not said */
    uint32_t default_priority_level; /* of requests without a level, or with another one */
    uint64_t objective_ns;           /* parameters["objective_ms"]; 0: none */
    double weight;   /* parameters["weight"]: of the machine's spare time, against other
                        models; 0: not said, which is 1 */
    int priority;    /* parameters["priority"]: lower is more important; 0: ordinary */
    char notes[256]; /* accepted fields that have no effect here, for the log */
};

/* Parse a file's text.  `where` names it in errors.  Free with sx_config_fini, also after failure.
 */
enum sx_rc sx_config_parse(const char *text, size_t len, const char *where,
                           struct sx_config *config, struct sx_err *err);
/* A config that says nothing. */
void sx_config_init(struct sx_config *config);
void sx_config_fini(struct sx_config *config);

/* Fill what the file leaves out from the opened model, as Triton does: if every input and
 * output has a free first dimension and max_batch_size is not said, it becomes `default_max_batch`
 * and dynamic batching is on; unless the model gives these dimensions different names.  Check what
 * it does say against the model: names, types, dims, a batch dimension that the model really has.
 */
enum sx_rc sx_config_complete(struct sx_config *config, const struct sx_engine_model *model,
                              unsigned default_max_batch, struct sx_err *err);
/* Copies of the model's inputs or outputs get the dimensions that the completed config says, which
 * may be narrower; `skip`: 1 when the first one is the batch. */
void sx_config_narrow(const struct sx_config_port *said, size_t n, int skip, struct sx_port *ports,
                      size_t n_ports);

#endif
