/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_int.h - what an engine implements; for engine/ alone.
 *
 * Each implementation embeds the structs below as its first member and fills `ops`.
 */
#ifndef SX_ENGINE_ENGINE_INT_H
#define SX_ENGINE_ENGINE_INT_H

#include "engine/engine.h"

/* What sx_engine_profile is asked for. */
struct sx_engine_measure {
    unsigned batch, width, runs;
    const int *cpus;
    bool (*tick)(void *user, double done); /* may be NULL */
    void *user;
};

struct sx_engine_ops {
    const char *name;
    enum sx_rc (*create)(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                         struct sx_err *err);
    void (*destroy)(struct sx_engine *engine);
    enum sx_rc (*open_model)(struct sx_engine *engine, const char *path,
                             struct sx_engine_model **ret_model, struct sx_err *err);
    void (*close_model)(struct sx_engine_model *model);
    void (*settle)(struct sx_engine_model *model); /* optional: NULL does nothing */
    /* Fill model->dag (and ->onnx); asked at most once with success, and never of a stage. */
    enum sx_rc (*graph)(struct sx_engine_model *model, struct sx_err *err);
    /* `nodes` ascend and are a valid stage of model->dag. */
    enum sx_rc (*open_stage)(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                             struct sx_engine_model **ret_stage, struct sx_err *err);
    /* As sx_engine_profile; model->dag is there. */
    enum sx_rc (*profile)(struct sx_engine_model *model, const struct sx_engine_measure *what,
                          double *ret_node_ns, double *ret_spread_ns, double ret_whole[2],
                          struct sx_err *err);
    enum sx_rc (*session_create)(struct sx_engine_model *model, unsigned width, const int *cpus,
                                 bool awake, struct sx_session **ret_session, struct sx_err *err);
    bool (*session_claim)(struct sx_session *session); /* optional: NULL has nobody to wake */
    void (*session_destroy)(struct sx_session *session);
    enum sx_rc (*run)(struct sx_session *session, const struct sx_tensor *inputs,
                      struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err);
};

struct sx_engine {
    const struct sx_engine_ops *ops;
    char version[64];
    bool virtual_time; /* sessions say how long a run takes instead of taking that long */
};

struct sx_engine_model {
    const struct sx_engine_ops *ops;
    struct sx_engine *engine;
    struct sx_port *inputs, *outputs; /* names and arrays owned by the implementation */
    size_t n_inputs, n_outputs;
    char note[256];
    bool is_stage;
    struct sx_dag *dag;   /* NULL until sx_engine_graph; closed by the implementation, */
    struct sx_onnx *onnx; /* ... and so is this, after the graph that has its names */
};

struct sx_session {
    const struct sx_engine_ops *ops;
    struct sx_engine_model *model;
    unsigned width;
};

/* --- measure.c: what both engines need to time runs --- */

#define SX_FREE_DIM 64 /* stands for free dimensions that are not the batch */

/* Inputs for a run on `batch` samples: `ret_inputs` (n, allocated) has small random numbers, but
 * integers are 1.  SX_INVALID: the ports take no such batch. */
enum sx_rc sx_measure_inputs(const struct sx_port *ports, size_t n, unsigned batch,
                             struct sx_tensor **ret_inputs, struct sx_err *err);
void sx_measure_free(struct sx_tensor *inputs, size_t n);
/* One run whose outputs are dropped; how long it took (in virtual time: takes). */
enum sx_rc sx_measure_run(struct sx_session *session, const struct sx_tensor *inputs,
                          double *ret_ns, struct sx_err *err);
/* Median of n > 0 values, which are sorted; `ret_spread` (may be NULL): median of the distances
 * from it (the values are lost). */
double sx_measure_median(double *values, size_t n, double *ret_spread);

extern const struct sx_engine_ops sx_engine_ort, sx_engine_fake;

#endif
