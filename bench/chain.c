/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "graph/stage.h"

void chain_or_die(enum sx_rc rc, const struct sx_err *err)
{
    if (!rc)
        return;
    fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name,
            *err->message ? err->message : sx_rc_text(rc), *err->hint ? "; " : "", err->hint);
    exit(1);
}

void *chain_need(void *memory)
{
    if (!memory)
        chain_or_die(SX_NO_MEMORY, &(struct sx_err){.rc = SX_NO_MEMORY});
    return memory;
}

void chain_open_model(struct chain_model *m, const struct sx_machine *machine, const char *path,
                      const char *cache, unsigned n_inputs, uint64_t seed)
{
    struct sx_err err = {0};
    char user[4096];
    if (!cache && !sx_cache_dir(user, sizeof user))
        cache = user;
    struct sx_engine_config config = {.name = "ort",
                                      .cache_dir = cache,
                                      .library = getenv("STARONNX_ONNXRUNTIME"),
                                      .machine_id = machine->id};
    *m = (struct chain_model){.n_inputs = n_inputs};
    chain_or_die(sx_engine_create(&config, &m->engine, &err), &err);
    chain_or_die(sx_engine_open_model(m->engine, path, &m->model, &err), &err);
    chain_or_die(sx_engine_graph(m->model, &m->dag, &err), &err);
    m->n_in = sx_engine_inputs(m->model, &m->in);
    m->n_out = sx_engine_outputs(m->model, &m->out);

    struct sx_model_info *info = chain_need(calloc(1, sizeof *info));
    for (size_t i = 0; i < m->n_in && i < SX_INPUTS_MAX; i++) {
        struct sx_input_info *input = &info->input[info->n_inputs++];
        snprintf(input->name, sizeof input->name, "%s", m->in[i].name);
        input->dtype = m->in[i].dtype;
        input->rank = m->in[i].rank;
        for (int d = 0; d < input->rank; d++)
            input->dims[d] = m->in[i].dims[d] < 0 ? 1 : m->in[i].dims[d];
    }
    chain_or_die(sx_dataset_generate(&m->data, info, n_inputs, false, seed, &err), &err);
    free(info);
}

void chain_close_model(struct chain_model *m)
{
    sx_dataset_fini(&m->data);
    sx_engine_close_model(m->model);
    sx_engine_destroy(m->engine);
}

enum sx_rc chain_open_stage(const struct chain_model *m, const uint32_t *nodes, uint32_t n,
                            struct chain_stage *stage, struct sx_err *err)
{
    *stage = (struct chain_stage){.n = n};
    stage->nodes = chain_need(calloc(n + 1, sizeof *nodes));
    memcpy(stage->nodes, nodes, n * sizeof *nodes);
    enum sx_rc rc = sx_dag_check_stage(m->dag, nodes, n, err);
    if (!rc)
        rc = sx_stage_ports(m->dag, nodes, n, &stage->in, &stage->n_in, &stage->out, &stage->n_out);
    if (!rc)
        rc = sx_engine_open_stage(m->model, nodes, n, &stage->model, err);
    if (!rc)
        rc = sx_session_create(stage->model, 1, NULL, &stage->session, err);
    return rc;
}

void chain_close_stage(struct chain_stage *stage)
{
    sx_session_destroy(stage->session);
    sx_engine_close_model(stage->model);
    free(stage->nodes);
    free(stage->in);
}

struct sx_tensor *chain_values(const struct chain_model *m, unsigned sample)
{
    struct sx_tensor *values = chain_need(calloc(m->dag->n_tensors + 1, sizeof *values));
    for (size_t i = 0; i < m->n_in; i++) {
        uint32_t t = sx_dag_find(m->dag, m->in[i].name);
        if (t != SX_DAG_NONE)
            sx_tensor_ref(&values[t], &m->data.tensor[sample * m->n_in + i]);
    }
    return values;
}

void chain_run_stage(const struct chain_stage *stage, struct sx_tensor *values)
{
    struct sx_err err = {0};
    struct sx_tensor *in = chain_need(calloc(stage->n_in + stage->n_out + 1, sizeof *in));
    struct sx_tensor *out = in + stage->n_in;
    for (size_t i = 0; i < stage->n_in; i++)
        in[i] = values[stage->in[i]];
    chain_or_die(sx_session_run(stage->session, in, out, NULL, &err), &err);
    for (size_t o = 0; o < stage->n_out; o++) {
        sx_tensor_unref(&values[stage->out[o]]);
        values[stage->out[o]] = out[o];
    }
    free(in);
}

const struct sx_tensor *chain_output(const struct chain_model *m, const struct sx_tensor *values,
                                     size_t output)
{
    uint32_t t = sx_dag_find(m->dag, m->out[output].name);
    if (t == SX_DAG_NONE)
        chain_or_die(SX_INTERNAL, &(struct sx_err){.message = "an output is not in the graph"});
    return &values[t];
}

void chain_drop(const struct chain_model *m, struct sx_tensor *values)
{
    for (uint32_t t = 0; t < m->dag->n_tensors; t++)
        sx_tensor_unref(&values[t]);
    free(values);
}
