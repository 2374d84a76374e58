/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - one door to the engines: picks the implementation and checks what goes in.
 *
 * What every engine would have to check is checked here, once: that inputs have the declared
 * type and shape and as many bytes as they say, and that prepared outputs do, too.  An
 * implementation may then trust sizes.  The checks are a few compares per port; they never
 * allocate.
 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine_int.h"

static const struct sx_engine_ops *const engines[] = {&sx_engine_ort, &sx_engine_fake};

enum sx_rc sx_engine_create(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                            struct sx_err *err)
{
    for (size_t i = 0; i < sizeof(engines) / sizeof(*engines); i++)
        if (config->name && !strcmp(config->name, engines[i]->name))
            return engines[i]->create(config, ret_engine, err);
    sx_fail(err, SX_INVALID, "no engine is called '%s'", config->name ? config->name : "");
    sx_hint(err, "the engines are ort and fake");
    return SX_INVALID;
}

void sx_engine_destroy(struct sx_engine *engine)
{
    if (engine)
        engine->ops->destroy(engine);
}

const char *sx_engine_version(const struct sx_engine *engine)
{
    return engine->version;
}

enum sx_rc sx_engine_open_model(struct sx_engine *engine, const char *path,
                                struct sx_engine_model **ret_model, struct sx_err *err)
{
    return engine->ops->open_model(engine, path, ret_model, err);
}

void sx_engine_close_model(struct sx_engine_model *model)
{
    if (model)
        model->ops->close_model(model);
}

size_t sx_engine_inputs(const struct sx_engine_model *model, const struct sx_port **ret_ports)
{
    *ret_ports = model->inputs;
    return model->n_inputs;
}

size_t sx_engine_outputs(const struct sx_engine_model *model, const struct sx_port **ret_ports)
{
    *ret_ports = model->outputs;
    return model->n_outputs;
}

const char *sx_engine_model_note(const struct sx_engine_model *model)
{
    return model->note;
}

void sx_engine_model_settle(struct sx_engine_model *model)
{
    if (model->ops->settle)
        model->ops->settle(model);
}

/* --- stages ----------------------------------------------------------------------------------- */

enum sx_rc sx_engine_graph(struct sx_engine_model *model, const struct sx_dag **ret_dag,
                           struct sx_err *err)
{
    if (model->is_stage)
        return sx_fail(err, SX_UNSUPPORTED, "a stage cannot be cut again");
    if (!model->dag) {
        enum sx_rc rc = model->ops->graph(model, err);
        if (rc)
            return rc;
    }
    *ret_dag = model->dag;
    return SX_OK;
}

const struct sx_onnx *sx_engine_graph_onnx(const struct sx_engine_model *model)
{
    return model->onnx;
}

static int compare_nodes(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

enum sx_rc sx_engine_open_stage(struct sx_engine_model *model, const uint32_t *nodes, size_t n,
                                struct sx_engine_model **ret_stage, struct sx_err *err)
{
    const struct sx_dag *dag;
    enum sx_rc rc = sx_engine_graph(model, &dag, err);
    if (rc)
        return rc;
    uint32_t *sorted = malloc((n + 1) * sizeof(*sorted));
    if (!sorted)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a stage");
    memcpy(sorted, nodes, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_nodes);
    rc = sx_dag_check_stage(dag, sorted, n, err);
    if (!rc)
        rc = model->ops->open_stage(model, sorted, n, ret_stage, err);
    free(sorted);
    return rc;
}

enum sx_rc sx_engine_profile(struct sx_engine_model *model, unsigned batch, unsigned width,
                             const int *cpus, unsigned runs, bool (*tick)(void *user, double done),
                             void *user, double *ret_node_ns, double *ret_spread_ns,
                             double ret_whole[2], struct sx_err *err)
{
    const struct sx_engine_measure what = {batch, width, runs, cpus, tick, user};
    const struct sx_dag *dag;

    if (!batch || !width || !runs)
        return sx_fail(err, SX_INVALID,
                       "a measurement needs at least one sample, one core and one run");
    enum sx_rc rc = sx_engine_graph(model, &dag, err);
    if (!rc)
        rc = model->ops->profile(model, &what, ret_node_ns, ret_spread_ns, ret_whole, err);
    return rc;
}

/* --- sessions --------------------------------------------------------------------------------- */

static enum sx_rc create_session(struct sx_engine_model *model, unsigned width, const int *cpus,
                                 bool awake, struct sx_session **ret_session, struct sx_err *err)
{
    if (!width)
        return sx_fail(err, SX_INVALID, "a session needs at least one core");
    return model->ops->session_create(model, width, cpus, awake, ret_session, err);
}

enum sx_rc sx_session_create(struct sx_engine_model *model, unsigned width, const int *cpus,
                             struct sx_session **ret_session, struct sx_err *err)
{
    return create_session(model, width, cpus, false, ret_session, err);
}

enum sx_rc sx_session_create_awake(struct sx_engine_model *model, unsigned width, const int *cpus,
                                   struct sx_session **ret_session, struct sx_err *err)
{
    return create_session(model, width, cpus, true, ret_session, err);
}

bool sx_session_claim(struct sx_session *session)
{
    return session->ops->session_claim ? session->ops->session_claim(session) : true;
}

void sx_session_destroy(struct sx_session *session)
{
    if (session)
        session->ops->session_destroy(session);
}

/* Does a tensor fit its port?  `what` is "input" or "output". */
static enum sx_rc check_port(const char *what, const struct sx_port *port,
                             const struct sx_tensor *t, struct sx_err *err)
{
    if (t->dtype != port->dtype)
        return sx_fail(err, SX_INVALID, "%s '%s' is %s, expected %s", what, port->name,
                       sx_dtype_name(t->dtype), sx_dtype_name(port->dtype));
    if (t->rank < 0 || t->rank > SX_MAX_RANK)
        return sx_fail(err, SX_INVALID, "%s '%s' has %d dimensions", what, port->name, t->rank);
    bool fits = port->rank < 0 || port->rank == t->rank;
    for (int d = 0; fits && port->rank > 0 && d < port->rank; d++)
        fits = port->dims[d] < 0 || port->dims[d] == t->dims[d];
    if (!fits) {
        char got[256], want[256];
        return sx_fail(err, SX_INVALID, "%s '%s' has shape %s, expected %s", what, port->name,
                       sx_shape_text(t->dims, t->rank, got, sizeof(got)),
                       sx_shape_text(port->dims, port->rank, want, sizeof(want)));
    }
    size_t bytes;
    if (t->dtype == SX_BYTES) {
        if (!sx_tensor_bytes_valid(t))
            return sx_fail(err, SX_INVALID, "%s '%s' does not hold the strings of its shape", what,
                           port->name);
    } else if (!sx_shape_bytes(t->dtype, t->dims, t->rank, &bytes) || bytes != t->nbytes) {
        char got[256];
        return sx_fail(err, SX_INVALID, "%s '%s' has %zu bytes, which do not make %s %s", what,
                       port->name, t->nbytes, sx_dtype_name(t->dtype),
                       sx_shape_text(t->dims, t->rank, got, sizeof(got)));
    }
    if (t->nbytes && !t->data)
        return sx_fail(err, SX_INVALID, "%s '%s' has no data", what, port->name);
    return SX_OK;
}

enum sx_rc sx_session_run(struct sx_session *session, const struct sx_tensor *inputs,
                          struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err)
{
    const struct sx_engine_model *m = session->model;

    for (size_t i = 0; i < m->n_inputs; i++) {
        if (inputs[i].dtype == SX_DTYPE_NONE) {
            if (!m->inputs[i].optional)
                return sx_fail(err, SX_INVALID, "input '%s' is missing", m->inputs[i].name);
            continue;
        }
        enum sx_rc rc = check_port("input", &m->inputs[i], &inputs[i], err);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < m->n_outputs; i++) {
        if (!outputs[i].data)
            continue;
        if (outputs[i].dtype == SX_BYTES)
            return sx_fail(err, SX_INVALID, "output '%s': strings cannot be written in place",
                           m->outputs[i].name);
        enum sx_rc rc = check_port("output", &m->outputs[i], &outputs[i], err);
        if (rc)
            return rc;
    }
    if (ret_ns)
        *ret_ns = 0;
    return session->ops->run(session, inputs, outputs, ret_ns, err);
}
