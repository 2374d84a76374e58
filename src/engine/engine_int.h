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

struct sx_engine_ops {
    const char *name;
    enum sx_rc (*create)(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                         struct sx_err *err);
    void (*destroy)(struct sx_engine *engine);
    enum sx_rc (*open_model)(struct sx_engine *engine, const char *path,
                             struct sx_engine_model **ret_model, struct sx_err *err);
    void (*close_model)(struct sx_engine_model *model);
    void (*settle)(struct sx_engine_model *model); /* optional: NULL does nothing */
    enum sx_rc (*session_create)(struct sx_engine_model *model, unsigned width, const int *cpus,
                                 struct sx_session **ret_session, struct sx_err *err);
    void (*session_destroy)(struct sx_session *session);
    enum sx_rc (*run)(struct sx_session *session, const struct sx_tensor *inputs,
                      struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err);
};

struct sx_engine {
    const struct sx_engine_ops *ops;
    char version[64];
};

struct sx_engine_model {
    const struct sx_engine_ops *ops;
    struct sx_engine *engine;
    struct sx_port *inputs, *outputs; /* names and arrays owned by the implementation */
    size_t n_inputs, n_outputs;
    char note[256];
};

struct sx_session {
    const struct sx_engine_ops *ops;
    struct sx_engine_model *model;
    unsigned width;
};

extern const struct sx_engine_ops sx_engine_ort, sx_engine_fake;

#endif
