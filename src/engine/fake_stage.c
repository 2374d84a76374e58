/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_stage.c - a fake model in parts.
 *
 *     x --[0]-- x@1 --[1]-- x@2 -- ... --[N-1]-- y, z, ...
 *
 * A stage is operators first..last of the chain.  It hands its input on, unless it has the last
 * operator: then it computes what the whole model does.  So the outputs of a cut model are those
 * of the whole, bit by bit, wherever it is cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fake_int.h"

/* --- the graph ----------------------------------------------------------------------------------
 */

/* "x@1", "n1", "x@2", "n2", ... as texts of equal size. */
static char *make_names(const struct fake_model *m, size_t *ret_step)
{
    size_t step = strlen(m->base.inputs[0].name) + 16;
    char *names = calloc(2 * (size_t)m->chain, step);
    for (uint32_t i = 0; names && i < m->chain; i++) {
        snprintf(names + 2 * i * step, step, "%s@%u", m->base.inputs[0].name, i);
        snprintf(names + (2 * i + 1) * step, step, "n%u", i);
    }
    *ret_step = step;
    return names;
}

static void describe(struct sx_dag_tensor *t, const struct sx_port *port)
{
    size_t bytes = 0;
    bool batch = port->rank > 0 && port->dims[0] < 0;
    int64_t dims[SX_MAX_RANK];

    t->typed = true;
    t->onnx_type = sx_dtype_to_onnx(port->dtype);
    t->rank = port->rank;
    for (int d = 0; d < port->rank; d++) {
        bool free_dim = port->dims[d] < 0;
        t->dims[d] = !free_dim ? port->dims[d] : d ? -2 : -1;
        dims[d] = !free_dim ? port->dims[d] : d ? SX_FREE_DIM : 1;
    }
    t->sized = sx_shape_bytes(port->dtype, dims, port->rank, &bytes);
    t->fixed_bytes = batch ? 0 : (double)bytes;
    t->sample_bytes = batch ? (double)bytes : 0;
}

enum sx_rc sx_fake_graph(struct sx_engine_model *model, struct sx_err *err)
{
    struct fake_model *m = (struct fake_model *)model;
    uint32_t n = m->chain, n_out = (uint32_t)m->base.n_outputs;
    size_t step = 0;

    if (!n) {
        sx_fail(err, SX_UNSUPPORTED, "the model cannot be cut: it has no line 'chain'");
        sx_hint(err, "add 'chain N' to the file: N operators that take equally long");
        return SX_UNSUPPORTED;
    }
    struct sx_dag *dag = calloc(1, sizeof(*dag));
    char *names = make_names(m, &step);
    if (!dag || !names)
        goto no_memory;
    dag->n_nodes = n;
    dag->n_tensors = n + n_out;
    dag->nodes = calloc(n, sizeof(*dag->nodes));
    dag->tensors = calloc(dag->n_tensors, sizeof(*dag->tensors));
    dag->ins = calloc(n, sizeof(*dag->ins));
    dag->outs = calloc(dag->n_tensors, sizeof(*dag->outs));
    dag->uses = calloc(n, sizeof(*dag->uses));
    dag->group = calloc(n, sizeof(*dag->group));
    if (!dag->nodes || !dag->tensors || !dag->ins || !dag->outs || !dag->uses || !dag->group)
        goto no_memory;

    for (uint32_t i = 0; i < n;
         i++) { /* tensor i goes into node i; the outputs come from the last */
        dag->nodes[i] = (struct sx_dag_node){
            .name = names + (2 * i + 1) * step,
            .type = "Fake",
            .onnx_index = i,
            .first_in = i,
            .n_in = 1,
            .first_out = i,
            .n_out = i + 1 < n ? 1 : n_out,
        };
        dag->ins[i] = dag->uses[i] = dag->group[i] = i;
        struct sx_dag_tensor *t = &dag->tensors[i];
        t->name = i ? names + 2 * i * step : m->base.inputs[0].name;
        t->producer = i ? i - 1 : SX_DAG_NONE;
        t->first_use = i;
        t->n_uses = 1;
        describe(t, &m->base.inputs[0]);
        if (i && m->chain_bytes >= 0) {
            t->fixed_bytes = 0;
            t->sample_bytes = m->chain_bytes;
        }
    }
    for (uint32_t k = 0; k < n_out; k++) {
        struct sx_dag_tensor *t = &dag->tensors[n + k];
        t->name = m->base.outputs[k].name;
        t->producer = n - 1;
        t->first_use = n;
        t->output = true;
        describe(t, &m->base.outputs[k]);
    }
    for (uint32_t i = 0; i + 1 < dag->n_tensors; i++)
        dag->outs[i] = i + 1;
    m->base.dag = dag;
    m->names = names;
    return SX_OK;

no_memory:
    sx_dag_destroy(dag);
    free(names);
    return sx_fail(err, SX_NO_MEMORY, "no memory for the graph");
}

/* --- stages -------------------------------------------------------------------------------------
 */

static struct sx_port *copy_ports(const struct sx_port *from, size_t n)
{
    struct sx_port *ports = calloc(n + 1, sizeof(*ports));
    bool full = ports;
    for (size_t i = 0; ports && i < n; i++) {
        ports[i] = from[i];
        ports[i].name = strdup(from[i].name);
        full = full && ports[i].name;
    }
    if (full)
        return ports;
    for (size_t i = 0; ports && i < n; i++)
        free((char *)ports[i].name);
    free(ports);
    return NULL;
}

static enum sx_rc rename_port(struct sx_port *port, const char *name)
{
    char *copy = strdup(name);
    if (!copy)
        return SX_NO_MEMORY;
    free((char *)port->name);
    port->name = copy;
    return SX_OK;
}

enum sx_rc sx_fake_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                              struct sx_engine_model **ret_stage, struct sx_err *err)
{
    const struct fake_model *m = (const struct fake_model *)model;
    const struct sx_dag_tensor *tensors = model->dag->tensors;
    if (m->fail_stage)
        return sx_fail(err, SX_ENGINE, "stages fail, as the model says");
    struct fake_model *s = calloc(1, sizeof(*s));
    if (!s)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    s->base.ops = model->ops;
    s->base.engine = model->engine;
    s->base.is_stage = true;
    s->base_us = m->base_us;
    s->per_sample_us = m->per_sample_us;
    s->slow = m->slow;
    s->slow_over = m->slow_over;
    s->serial = m->serial;
    s->spin = m->spin;
    s->fail_session = m->fail_session;
    s->fail_on_value = m->fail_on_value;
    s->fail_value = m->fail_value;
    s->fail_nth = m->fail_nth;
    s->chain = m->chain;
    s->first = nodes[0];
    s->last = nodes[n - 1];

    bool ends = s->last + 1 == s->chain;
    size_t n_out = ends ? model->n_outputs : 1;
    s->base.inputs = copy_ports(model->inputs, 1);
    s->base.n_inputs = s->base.inputs ? 1 : 0;
    s->base.outputs = copy_ports(ends ? model->outputs : model->inputs, n_out);
    s->base.n_outputs = s->base.outputs ? n_out : 0;
    s->sums = calloc(n_out, sizeof(*s->sums));
    bool bad = !s->base.inputs || !s->base.outputs || !s->sums ||
               rename_port(&s->base.inputs[0], tensors[s->first].name) ||
               (!ends && rename_port(&s->base.outputs[0], tensors[s->last + 1].name));
    if (bad) {
        sx_fake_close(&s->base);
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    }
    if (ends)
        memcpy(s->sums, m->sums, n_out * sizeof(*s->sums));
    *ret_stage = &s->base;
    return SX_OK;
}

/* --- measuring ----------------------------------------------------------------------------------
 */

/* Whole runs are run; an operator's time is its share of each, as the file says that it is. */
enum sx_rc sx_fake_profile(struct sx_engine_model *model, const struct sx_engine_measure *what,
                           double *ret_node_ns, double *ret_spread_ns, double ret_whole[2],
                           struct sx_err *err)
{
    struct sx_session *session = NULL;
    struct sx_tensor *inputs = NULL;
    double *ns = calloc(what->runs, sizeof(*ns));
    uint32_t n = model->dag->n_nodes;
    enum sx_rc rc =
        ns ? SX_OK : sx_fail(err, SX_NO_MEMORY, "no memory for %u measurements", what->runs);

    if (!rc)
        rc = sx_measure_inputs(model->inputs, model->n_inputs, what->batch, &inputs, err);
    if (!rc)
        rc = sx_session_create(model, what->width, what->cpus, &session, err);
    for (unsigned i = 0; !rc && i < what->runs; i++) {
        if (what->tick && !what->tick(what->user, (double)i / what->runs))
            rc = sx_fail(err, SX_CANCELLED, "the measurement was stopped");
        else
            rc = sx_measure_run(session, inputs, &ns[i], err);
    }
    if (!rc) {
        ret_whole[0] = sx_measure_median(ns, what->runs, &ret_whole[1]);
        for (uint32_t i = 0; i < n; i++) {
            ret_node_ns[i] = ret_whole[0] / n;
            ret_spread_ns[i] = ret_whole[1] / n;
        }
    }
    sx_session_destroy(session);
    sx_measure_free(inputs, model->n_inputs);
    free(ns);
    return rc;
}
