/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort.c - models computed by ONNX Runtime.
 *
 * Two ways to open a model:
 *   prepared  optimised once, kept in the cache, weights mapped and shared by all sessions
 *             (ort_prepare.c);
 *   plain     by ONNX Runtime alone: small models, no cache directory, or one that could not be
 *             prepared (the note says why).  Each session then has its weights.
 * Prepacking stays on: without it Gemm adds in another order, and a result is no longer
 * bit-identical to plain ONNX Runtime's.
 *
 * Both read the file through graph/ first, which refuses hostile ones, and both hide initializers
 * that IR version 3 lists as inputs, so that they are constants to ONNX Runtime.
 *
 * Threads of a session.  The caller computes, too, so a session of width w has w - 1 helpers,
 * each bound to its core.  Helpers spin while a run lasts (a third of the speed of small models
 * depends on it); when it has ended they sleep, or, where cores are claimed, spin for a while
 * (ort_helpers.h).
 *
 * Opening makes the session of width 1, since only a session knows the inferred types; the
 * first sx_session_create of that width takes it, or else settling drops it.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "engine/ort_helpers.h"
#include "engine/ort_int.h"

#define STACK_PORTS 32 /* more of them cost an allocation per run */

/* --- engine --------------------------------------------------------------------------------- */

static void ort_destroy(struct sx_engine *engine)
{
    struct ort_engine *e = (struct ort_engine *)engine;
    sx_ort_lib_put(e->lib);
    sx_ort_spinners_destroy(e->spinners);
    free(e->cache_dir);
    free(e->machine_id);
    free(e);
}

static enum sx_rc ort_create(const struct sx_engine_config *config, struct sx_engine **ret_engine,
                             struct sx_err *err)
{
    struct ort_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the engine");
    e->base.ops = &sx_engine_ort;
    e->cache_dir = config->cache_dir ? strdup(config->cache_dir) : NULL;
    e->machine_id = strdup(config->machine_id ? config->machine_id : "any");
    e->spinners = sx_ort_spinners_create();
    enum sx_rc rc = SX_OK;
    if (!e->machine_id || !e->spinners || (config->cache_dir && !e->cache_dir))
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the engine");
    if (!rc)
        rc = sx_ort_lib_get(config->library, &e->lib, err);
    if (rc) {
        ort_destroy(&e->base);
        return rc;
    }
    snprintf(e->base.version, sizeof(e->base.version), "ONNX Runtime %s", e->lib->version);
    *ret_engine = &e->base;
    return SX_OK;
}

/* --- sessions -----------------------------------------------------------------------------------
 */

static void session_destroy(struct sx_session *session)
{
    struct ort_session *s = (struct ort_session *)session;
    struct ort_model *m = (struct ort_model *)s->base.model;
    if (s->helpers)
        sx_ort_helpers_let_go(s->helpers);
    if (s->session)
        m->lib->api->ReleaseSession(s->session);
    sx_ort_helpers_destroy(s->helpers);
    free(s->cpus);
    free(s);
}

static enum sx_rc set_options(const struct ort_lib *lib, const struct ort_source *source,
                              const struct ort_session_config *config, OrtSessionOptions *o,
                              struct sx_err *err)
{
    const OrtApi *api = lib->api;
    const struct ort_weights *w = source->weights;
    struct sx_sbuf affinity = {0};
    enum sx_rc rc;
#define DO(call)                                                                                   \
    do {                                                                                           \
        rc = sx_ort_check(lib, (call), err);                                                       \
        if (rc)                                                                                    \
            goto out;                                                                              \
    } while (0)
    DO(api->SetIntraOpNumThreads(o, (int)config->width));
    DO(api->SetInterOpNumThreads(o, 1));
    DO(api->SetSessionExecutionMode(o, ORT_SEQUENTIAL));
    DO(api->SetSessionGraphOptimizationLevel(o, w ? ORT_DISABLE_ALL : ORT_ENABLE_ALL));
    DO(api->AddSessionConfigEntry(o, "session.intra_op.allow_spinning", "1"));
    if (config->helpers)
        DO(sx_ort_helpers_use(config->helpers, api, o));
    else
        DO(api->AddSessionConfigEntry(o, "session.force_spinning_stop", "1"));
    if (config->width > 1 && config->cpus) {
        for (unsigned i = 1; i < config->width; i++) /* their numbers begin with 1 */
            sx_sbuf_printf(&affinity, "%s%d", i > 1 ? ";" : "", config->cpus[i] + 1);
        if (affinity.failed) {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for a session");
            goto out;
        }
        DO(api->AddSessionConfigEntry(o, "session.intra_op_thread_affinities", affinity.data));
    }
    if (config->raw)
        DO(api->AddSessionConfigEntry(o, "session.disable_prepacking", "1"));
    if (config->profile)
        DO(api->EnableProfiling(o, config->profile));
    /* Patterns plan one block for all intermediate results. That saves some microseconds, but keeps
     * blocks of several batch sizes; without, VGG-19 on two widths needs 45 MB less. */
    if (w)
        DO(api->DisableMemPattern(o));
    /* A stage has only some of them; it does without the others. */
    for (size_t i = 0; w && i < w->n_values; i++)
        DO(api->AddInitializer(o, w->names[i], w->values[i]));
out:
    sx_sbuf_free(&affinity);
    return rc;
}

enum sx_rc sx_ort_session_open(const struct ort_lib *lib, const struct ort_source *source,
                               const struct ort_session_config *config, OrtSession **ret_session,
                               struct sx_err *err)
{
    const OrtApi *api = lib->api;
    OrtSessionOptions *o = NULL;
    OrtStatus *status;

    enum sx_rc rc = sx_ort_check(lib, api->CreateSessionOptions(&o), err);
    if (!rc)
        rc = set_options(lib, source, config, o, err);
    if (!rc) {
        if (source->weights)
            status = api->CreateSessionWithPrepackedWeightsContainer(
                lib->env, source->path, o, source->weights->prepacked, ret_session);
        else if (source->bytes)
            status = api->CreateSessionFromArray(lib->env, source->bytes, source->n_bytes, o,
                                                 ret_session);
        else
            status = api->CreateSession(lib->env, source->path, o, ret_session);
        rc = sx_ort_check(lib, status, err);
    }
    if (o)
        api->ReleaseSessionOptions(o);
    return rc;
}

static enum sx_rc make_session(struct ort_model *m, unsigned width, const int *cpus, bool awake,
                               struct ort_session **ret_session, struct sx_err *err)
{
    struct ort_session_config config = {.width = width, .cpus = cpus};
    struct ort_session *s = calloc(1, sizeof(*s));
    if (!s)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a session");
    s->base.ops = &sx_engine_ort;
    s->base.model = &m->base;
    s->base.width = width;
    if (awake && width > 1 && cpus)
        config.helpers = s->helpers = sx_ort_helpers_create(
            ((const struct ort_engine *)m->base.engine)->spinners, width, cpus);

    enum sx_rc rc = sx_ort_session_open(m->lib, &m->source, &config, &s->session, err);
    if (rc)
        session_destroy(&s->base);
    else
        *ret_session = s;
    return rc;
}

static enum sx_rc session_create(struct sx_engine_model *model, unsigned width, const int *cpus,
                                 bool awake, struct sx_session **ret_session, struct sx_err *err)
{
    struct ort_model *m = (struct ort_model *)model;
    struct ort_session *s = NULL;
    enum sx_rc rc = SX_OK;

    if (width == 1 && m->spare) {
        s = m->spare;
        m->spare = NULL;
    } else {
        rc = make_session(m, width, cpus, awake, &s, err);
    }
    if (rc)
        return rc;
    if (awake && cpus) {
        s->cpus = malloc(width * sizeof *s->cpus);
        if (!s->cpus) {
            session_destroy(&s->base);
            return sx_fail(err, SX_NO_MEMORY, "no memory for a session");
        }
        memcpy(s->cpus, cpus, width * sizeof *s->cpus);
    }
    *ret_session = &s->base;
    return SX_OK;
}

static bool session_claim(struct sx_session *session)
{
    const struct ort_session *s = (const struct ort_session *)session;
    const struct ort_engine *e = (const struct ort_engine *)s->base.model->engine;
    if (!s->cpus)
        return s->base.width == 1;
    return sx_ort_helpers_claim(e->spinners, s->helpers, s->cpus, s->base.width);
}

/* --- models -------------------------------------------------------------------------------------
 */

static void drop_spare(struct ort_model *m)
{
    if (m->spare)
        session_destroy(&m->spare->base);
    m->spare = NULL;
}

/* Forget what sessions are made from, for another attempt. */
static void drop_source(struct ort_model *m)
{
    drop_spare(m);
    sx_ort_weights_close(&m->weights);
    free(m->source.path);
    free(m->source.bytes);
    m->source = (struct ort_source){0};
}

void sx_ort_model_close(struct sx_engine_model *model)
{
    struct ort_model *m = (struct ort_model *)model;
    sx_dag_destroy(m->base.dag);
    sx_onnx_close(m->base.onnx);
    drop_source(m);
    sx_ort_ports_free(m);
    free(m);
}

enum sx_rc sx_ort_model_open_at(struct ort_model *m, const char *path,
                                const struct ort_weights *weights, struct sx_err *err)
{
    m->source.path = strdup(path);
    m->source.weights = weights;
    if (!m->source.path)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the model");
    return make_session(m, 1, NULL, false, &m->spare, err);
}

/* Types that ONNX Runtime may know but nobody can send: say so before it spends time on them. */
static enum sx_rc check_declared(const struct sx_onnx *source, struct sx_err *err)
{
    for (int outputs = 0; outputs < 2; outputs++) {
        const struct sx_onnx_value *v;
        size_t n = outputs ? sx_onnx_outputs(source, &v) : sx_onnx_inputs(source, &v);
        for (size_t i = 0; i < n; i++) {
            const char *what = outputs ? "output" : "input";
            if (v[i].kind == SX_ONNX_UNTYPED || v[i].dtype)
                continue;
            if (v[i].kind != SX_ONNX_TENSOR)
                return sx_fail(err, SX_UNSUPPORTED, "%s '%s' is %s; only tensors are served", what,
                               v[i].name, sx_onnx_kind_text(v[i].kind));
            return sx_fail(err, SX_UNSUPPORTED,
                           "%s '%s' has an element type that the protocol does not have (ONNX "
                           "type %d)",
                           what, v[i].name, v[i].onnx_type);
        }
    }
    return SX_OK;
}

static enum sx_rc open_prepared(struct ort_model *m, const struct sx_onnx *source,
                                struct sx_err *err)
{
    const struct ort_engine *e = (const struct ort_engine *)m->base.engine;
    struct sx_onnx *prepared = NULL;
    enum sx_rc rc = sx_ort_prepare(m->lib, source, e->cache_dir, e->machine_id, 0, &prepared, err);
    if (rc)
        return rc;
    rc = sx_ort_weights_open(m->lib, prepared, &m->weights, err);
    if (!rc)
        rc = sx_ort_model_open_at(m, sx_onnx_path(prepared), &m->weights, err);
    sx_onnx_close(prepared);
    return rc;
}

static enum sx_rc open_plain(struct ort_model *m, const struct sx_onnx *source, struct sx_err *err)
{
    if (sx_onnx_overridable(source) && !sx_onnx_has_external(source)) {
        enum sx_rc rc = sx_onnx_stripped_bytes(source, &m->source.bytes, &m->source.n_bytes, err);
        if (rc)
            return rc;
    }
    return sx_ort_model_open_at(m, sx_onnx_path(source), NULL, err);
}

static enum sx_rc open_model(struct sx_engine *engine, const char *path,
                             struct sx_engine_model **ret_model, struct sx_err *err)
{
    const struct ort_engine *e = (const struct ort_engine *)engine;
    struct sx_onnx *source = NULL;
    struct sx_err why = {0};

    enum sx_rc rc = sx_onnx_open(path, &source, err);
    if (rc)
        return rc;
    struct ort_model *m = calloc(1, sizeof(*m));
    if (!m) {
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the model");
        goto out;
    }
    m->base.ops = &sx_engine_ort;
    m->base.engine = engine;
    m->lib = e->lib;

    rc = check_declared(source, err);
    if (rc)
        goto out;
    bool open = false;
    if (e->cache_dir && sx_ort_prepare_pays(source)) {
        open = !open_prepared(m, source, &why);
        if (!open) {
            drop_source(m);
            snprintf(m->base.note, sizeof(m->base.note), "not prepared: %.230s", why.message);
        }
    }
    if (!open)
        rc = open_plain(m, source, err);
    if (!rc)
        rc = sx_ort_ports_describe(m, source, err);
    if (rc) {
        sx_while(err, "%s: ", path);
        goto out;
    }
    *ret_model = &m->base;
    m = NULL;
out:
    if (m)
        sx_ort_model_close(&m->base);
    sx_onnx_close(source);
    return rc;
}

static void settle(struct sx_engine_model *model)
{
    struct ort_model *m = (struct ort_model *)model;
    drop_spare(m); /* nobody runs it on one core; it would stay with a copy of all weights */
    if (m->source.weights)
        sx_ort_weights_settle(m->source.weights);
    malloc_trim(0); /* what parsing and optimising used */
}

/* --- run ----------------------------------------------------------------------------- */

static enum sx_rc run(struct sx_session *session, const struct sx_tensor *inputs,
                      struct sx_tensor *outputs, uint64_t *ret_ns, struct sx_err *err)
{
    const struct ort_session *s = (const struct ort_session *)session;
    const struct ort_model *m = (const struct ort_model *)s->base.model;
    const struct ort_lib *lib = m->lib;
    const OrtApi *api = lib->api;
    size_t n_in = m->base.n_inputs, n_out = m->base.n_outputs;
    OrtValue *stack[2 * STACK_PORTS], **values = stack, **results;
    enum sx_rc rc = SX_OK;

    (void)ret_ns;
    if (n_in + n_out > 2 * STACK_PORTS) {
        values = malloc((n_in + n_out) * sizeof(*values));
        if (!values)
            return sx_fail(err, SX_NO_MEMORY, "no memory for a run");
    }
    memset(values, 0, (n_in + n_out) * sizeof(*values));
    results = values + n_in;

    for (size_t i = 0; !rc && i < n_in; i++)
        rc = sx_ort_value_in(lib, &inputs[i], &values[i], err);
    for (size_t i = 0; !rc && i < n_out; i++)
        if (outputs[i].data)
            rc = sx_ort_value_in(lib, &outputs[i], &results[i], err);
    if (rc)
        goto out;
    if (s->helpers)
        sx_ort_helpers_begin(s->helpers);
    OrtStatus *status = api->Run(s->session, NULL, m->input_names, (const OrtValue *const *)values,
                                 n_in, m->output_names, n_out, results);
    if (s->helpers)
        sx_ort_helpers_end(s->helpers);
    if (status) {
        rc = sx_ort_check(lib, status, err);
        goto out;
    }
    for (size_t i = 0; !rc && i < n_out; i++) {
        if (outputs[i].data)
            continue;
        rc = sx_ort_value_out(lib, results[i], inputs, n_in, &outputs[i], err);
        if (!rc) {
            results[i] = NULL;
            continue;
        }
        while (i--) /* take back those already handed over: they have a value, not our caller's */
            if (!results[i])
                sx_tensor_unref(&outputs[i]);
        break;
    }
out:
    for (size_t i = 0; i < n_in + n_out; i++)
        if (values[i])
            api->ReleaseValue(values[i]);
    if (values != stack)
        free(values);
    return rc;
}

const struct sx_engine_ops sx_engine_ort = {
    .name = "ort",
    .create = ort_create,
    .destroy = ort_destroy,
    .open_model = open_model,
    .close_model = sx_ort_model_close,
    .settle = settle,
    .graph = sx_ort_graph,
    .open_stage = sx_ort_open_stage,
    .profile = sx_ort_profile,
    .session_create = session_create,
    .session_claim = session_claim,
    .session_destroy = session_destroy,
    .run = run,
};
