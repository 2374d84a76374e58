/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * config_complete.c - fill a config from the opened model, and hold it against the model.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/config.h"

static const struct sx_port *unbatchable(const struct sx_port *ports, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ports[i].rank < 1 || ports[i].dims[0] != -1)
            return &ports[i];
    return NULL;
}

static const struct sx_port *find_port(const struct sx_port *ports, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(ports[i].name, name) == 0)
            return &ports[i];
    return NULL;
}

static enum sx_rc check_port(struct sx_config_port *port, const struct sx_port *have, int skip,
                             const char *kind, struct sx_err *err)
{
    if (port->dtype == SX_DTYPE_NONE)
        port->dtype = have->dtype;
    if (port->dtype != have->dtype)
        return sx_fail(err, SX_INVALID, "%s '%s': config.pbtxt says %s, the model has %s", kind,
                       port->name, sx_dtype_config_name(port->dtype),
                       sx_dtype_config_name(have->dtype));
    if (port->optional && !have->optional)
        return sx_fail(err, SX_INVALID,
                       "%s '%s': config.pbtxt says optional, the model has no "
                       "default for it",
                       kind, port->name);
    const int64_t *dims = have->dims + skip;
    bool known = have->rank >= 0;
    int rank = known ? have->rank - skip : port->rank;
    if (known && port->rank == 0 && !port->has_reshape) { /* not said */
        port->rank = rank;
        memcpy(port->dims, dims, (size_t)rank * sizeof(*dims));
        return SX_OK;
    }
    const int64_t *said = port->has_reshape ? port->reshape : port->dims;
    int said_rank = port->has_reshape ? port->reshape_rank : port->rank;
    bool same = said_rank == rank;
    for (int i = 0; known && same && i < rank; i++)
        same = said[i] == dims[i] || (dims[i] == -1 && said[i] >= 0);
    char a[128], b[128];
    /* requests would have to come in one shape and run in another */
    if ((same || !known) && port->has_reshape &&
        (port->rank != said_rank || memcmp(port->dims, said, (size_t)rank * sizeof(*said)) != 0))
        return sx_fail(err, SX_UNSUPPORTED,
                       "%s '%s': reshape is not supported, requests come in the model's shape%s%s",
                       kind, port->name, known ? " " : "",
                       known ? sx_shape_text(dims, rank, b, sizeof(b)) : "");
    if (same)
        return SX_OK;
    return sx_fail(
        err, SX_INVALID, "%s '%s': config.pbtxt says %s %s, the model has %s%s", kind, port->name,
        port->has_reshape ? "reshape" : "dims", sx_shape_text(said, said_rank, a, sizeof(a)),
        sx_shape_text(dims, rank, b, sizeof(b)), skip ? " after the batch dimension" : "");
}

void sx_config_narrow(const struct sx_config_port *said, size_t n, int skip, struct sx_port *ports,
                      size_t n_ports)
{
    for (size_t i = 0; i < n_ports; i++) {
        size_t j = 0;
        while (j < n && strcmp(said[j].name, ports[i].name) != 0)
            j++;
        if (j == n || !said[j].rank)
            continue;
        ports[i].rank = said[j].rank + skip;
        memcpy(ports[i].dims + skip, said[j].dims, (size_t)said[j].rank * sizeof(*ports[i].dims));
    }
}

/* Check the ports that are there and append those that are not. */
static enum sx_rc complete_ports(struct sx_config_port **ports, size_t *n,
                                 const struct sx_port *have, size_t n_have, int skip,
                                 const char *kind, struct sx_err *err)
{
    for (size_t i = 0; i < *n; i++) {
        const struct sx_port *port = find_port(have, n_have, (*ports)[i].name);
        if (!port)
            return sx_fail(err, SX_INVALID, "%s '%s' of config.pbtxt is not in the model", kind,
                           (*ports)[i].name);
        enum sx_rc rc = check_port(&(*ports)[i], port, skip, kind, err);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < n_have; i++) {
        bool there = false;
        for (size_t j = 0; j < *n && !there; j++)
            there = strcmp((*ports)[j].name, have[i].name) == 0;
        if (there)
            continue;
        struct sx_config_port *grown = realloc(*ports, (*n + 1) * sizeof(*grown));
        if (grown)
            *ports = grown;
        char *name = grown ? strdup(have[i].name) : NULL;
        if (!name)
            return sx_fail(err, SX_NO_MEMORY, "out of memory");
        struct sx_config_port *port = &grown[(*n)++];
        *port = (struct sx_config_port){.name = name, .optional = have[i].optional};
        enum sx_rc rc = check_port(port, &have[i], skip, kind, err);
        assert(rc == SX_OK);
        (void)rc;
    }
    return SX_OK;
}

/* The file lists a port with all its dimensions: its author counts the batch among them. */
static bool says_all_dims(const struct sx_config_port *ports, size_t n, const struct sx_port *have,
                          size_t n_have)
{
    for (size_t i = 0; i < n; i++) {
        const struct sx_port *port = find_port(have, n_have, ports[i].name);
        if (port && ports[i].rank > 0 && !ports[i].has_reshape && ports[i].rank == port->rank)
            return true;
    }
    return false;
}

/* A port whose first dimension has another name than that of `*first`, the first with a name: they
 * count different things, such as images and what is found in them. */
static const struct sx_port *differs(const struct sx_port *ports, size_t n,
                                     const struct sx_port **first)
{
    for (size_t i = 0; i < n; i++) {
        if (!*ports[i].first_dim)
            continue;
        if (!*first)
            *first = &ports[i];
        else if (strcmp(ports[i].first_dim, (*first)->first_dim) != 0)
            return &ports[i];
    }
    return NULL;
}

static void assume_batching(struct sx_config *config, const struct sx_engine_model *model,
                            unsigned default_max_batch)
{
    const struct sx_port *inputs, *outputs, *first = NULL;
    size_t n_inputs = sx_engine_inputs(model, &inputs);
    size_t n_outputs = sx_engine_outputs(model, &outputs);
    const struct sx_port *other = differs(inputs, n_inputs, &first);
    if (!other)
        other = differs(outputs, n_outputs, &first);
    if (other) {
        snprintf(config->not_assumed, sizeof(config->not_assumed),
                 "not batched: '%.32s' counts %s, '%.32s' counts %s; if it is a batch, say "
                 "max_batch_size in config.pbtxt",
                 first->name, first->first_dim, other->name, other->first_dim);
        return;
    }
    config->max_batch_size = (int64_t)default_max_batch;
    config->batching_assumed = true;
    if (config->max_batch_size > 1)
        config->dynamic_batching = true;
}

static enum sx_rc complete_batching(struct sx_config *config, const struct sx_engine_model *model,
                                    const struct sx_port *bad, unsigned default_max_batch,
                                    struct sx_err *err)
{
    if (!config->has_max_batch_size) {
        config->has_max_batch_size = true;
        if (!bad)
            assume_batching(config, model, default_max_batch);
    } else if (config->max_batch_size > 0 && bad) {
        char text[128];
        sx_fail(err, SX_INVALID,
                "max_batch_size is %lld, but '%s' has shape %s without a free first dimension",
                (long long)config->max_batch_size, bad->name,
                bad->rank < 0 ? "unknown"
                              : sx_shape_text(bad->dims, bad->rank, text, sizeof(text)));
        sx_hint(err, "set max_batch_size: 0, or export the model with a free first dimension");
        return SX_INVALID;
    }
    if (config->dynamic_batching && config->max_batch_size > 0 && config->n_preferred > 0 &&
        config->preferred[config->n_preferred - 1] > config->max_batch_size)
        return sx_fail(err, SX_INVALID, "preferred_batch_size %u is over max_batch_size %lld",
                       config->preferred[config->n_preferred - 1],
                       (long long)config->max_batch_size);
    return SX_OK;
}

enum sx_rc sx_config_complete(struct sx_config *config, const struct sx_engine_model *model,
                              unsigned default_max_batch, struct sx_err *err)
{
    const struct sx_port *inputs, *outputs;
    size_t n_inputs = sx_engine_inputs(model, &inputs);
    size_t n_outputs = sx_engine_outputs(model, &outputs);
    const struct sx_port *bad = unbatchable(inputs, n_inputs);
    if (!bad)
        bad = unbatchable(outputs, n_outputs);
    if (!config->has_max_batch_size &&
        (says_all_dims(config->inputs, config->n_inputs, inputs, n_inputs) ||
         says_all_dims(config->outputs, config->n_outputs, outputs, n_outputs)))
        config->has_max_batch_size = true; /* 0 */
    enum sx_rc rc = complete_batching(config, model, bad, default_max_batch, err);
    int skip = config->max_batch_size > 0 ? 1 : 0;
    if (!rc)
        rc = complete_ports(&config->inputs, &config->n_inputs, inputs, n_inputs, skip, "input",
                            err);
    if (!rc)
        rc = complete_ports(&config->outputs, &config->n_outputs, outputs, n_outputs, skip,
                            "output", err);
    if (rc)
        return rc;
    if (!*config->platform)
        strcpy(config->platform, "onnxruntime_onnx");
    if (!*config->backend)
        strcpy(config->backend, "onnxruntime");
    if (!*config->default_filename)
        strcpy(config->default_filename, "model.onnx");
    return SX_OK;
}
