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
 * depends on it) and sleep when it has ended.
 *
 * Opening makes the session of width 1, since only a session knows the inferred types; the
 * first sx_session_create of that width takes it.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "engine/ort_int.h"

#define STACK_PORTS 32 /* more of them cost an allocation per run */

struct ort_engine {
    struct sx_engine base;
    struct ort_lib *lib;
    char *cache_dir, *machine_id;
};

struct ort_model {
    struct sx_engine_model base;
    const struct ort_lib *lib;
    char *path;  /* what sessions are made from */
    char *bytes; /* unless NULL: instead of the file, stripped of overridable initializers */
    size_t n_bytes;
    bool prepared;
    struct ort_weights weights; /* prepared only */
    const char **input_names, **output_names;
    struct ort_session *spare; /* made while opening, not taken yet */
};

struct ort_session {
    struct sx_session base;
    OrtSession *session;
};

/* --- engine --------------------------------------------------------------------------------- */

static void ort_destroy(struct sx_engine *engine)
{
    struct ort_engine *e = (struct ort_engine *)engine;
    sx_ort_lib_put(e->lib);
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
    enum sx_rc rc = SX_OK;
    if (!e->machine_id || (config->cache_dir && !e->cache_dir))
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
    if (s->session)
        m->lib->api->ReleaseSession(s->session);
    free(s);
}

static enum sx_rc set_options(const struct ort_model *m, OrtSessionOptions *o, unsigned width,
                              const int *cpus, struct sx_err *err)
{
    const OrtApi *api = m->lib->api;
    struct sx_sbuf affinity = {0};
    enum sx_rc rc;
#define DO(call)                                                                                   \
    do {                                                                                           \
        rc = sx_ort_check(m->lib, (call), err);                                                    \
        if (rc)                                                                                    \
            goto out;                                                                              \
    } while (0)
    DO(api->SetIntraOpNumThreads(o, (int)width));
    DO(api->SetInterOpNumThreads(o, 1));
    DO(api->SetSessionExecutionMode(o, ORT_SEQUENTIAL));
    DO(api->SetSessionGraphOptimizationLevel(o, m->prepared ? ORT_DISABLE_ALL : ORT_ENABLE_ALL));
    DO(api->AddSessionConfigEntry(o, "session.intra_op.allow_spinning", "1"));
    DO(api->AddSessionConfigEntry(o, "session.force_spinning_stop", "1"));
    if (width > 1 && cpus) {
        for (unsigned i = 1; i < width; i++) /* their numbers begin with 1 */
            sx_sbuf_printf(&affinity, "%s%d", i > 1 ? ";" : "", cpus[i] + 1);
        if (affinity.failed) {
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for a session");
            goto out;
        }
        DO(api->AddSessionConfigEntry(o, "session.intra_op_thread_affinities", affinity.data));
    }
    /* Patterns plan one block for all intermediate results. That saves some microseconds, but keeps
     * blocks of several batch sizes; without, VGG-19 on two widths needs 45 MB less. */
    if (m->prepared)
        DO(api->DisableMemPattern(o));
    for (size_t i = 0; m->prepared && i < m->weights.n_values; i++)
        DO(api->AddInitializer(o, m->weights.names[i], m->weights.values[i]));
out:
    sx_sbuf_free(&affinity);
    return rc;
}

static enum sx_rc make_session(struct ort_model *m, unsigned width, const int *cpus,
                               struct ort_session **ret_session, struct sx_err *err)
{
    const OrtApi *api = m->lib->api;
    const OrtEnv *env = m->lib->env;
    OrtSessionOptions *o = NULL;
    struct ort_session *s = calloc(1, sizeof(*s));
    if (!s)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a session");
    s->base.ops = &sx_engine_ort;
    s->base.model = &m->base;
    s->base.width = width;

    enum sx_rc rc = sx_ort_check(m->lib, api->CreateSessionOptions(&o), err);
    if (!rc)
        rc = set_options(m, o, width, cpus, err);
    if (!rc && m->prepared)
        rc = sx_ort_check(m->lib,
                          api->CreateSessionWithPrepackedWeightsContainer(
                              env, m->path, o, m->weights.prepacked, &s->session),
                          err);
    else if (!rc && m->bytes)
        rc = sx_ort_check(
            m->lib, api->CreateSessionFromArray(env, m->bytes, m->n_bytes, o, &s->session), err);
    else if (!rc)
        rc = sx_ort_check(m->lib, api->CreateSession(env, m->path, o, &s->session), err);
    if (o)
        api->ReleaseSessionOptions(o);
    if (rc)
        session_destroy(&s->base);
    else
        *ret_session = s;
    return rc;
}

static enum sx_rc session_create(struct sx_engine_model *model, unsigned width, const int *cpus,
                                 struct sx_session **ret_session, struct sx_err *err)
{
    struct ort_model *m = (struct ort_model *)model;
    struct ort_session *s = NULL;
    enum sx_rc rc = SX_OK;

    if (width == 1 && m->spare) {
        s = m->spare;
        m->spare = NULL;
    } else {
        rc = make_session(m, width, cpus, &s, err);
    }
    if (!rc)
        *ret_session = &s->base;
    return rc;
}

/* --- models -------------------------------------------------------------------------------------
 */

static void free_ports(struct sx_port *ports, const char **names, size_t n)
{
    for (size_t i = 0; ports && i < n; i++)
        free((char *)ports[i].name);
    free(ports);
    free(names);
}

static void close_model(struct sx_engine_model *model)
{
    struct ort_model *m = (struct ort_model *)model;
    if (m->spare)
        session_destroy(&m->spare->base);
    sx_ort_weights_close(&m->weights);
    free_ports(m->base.inputs, m->input_names, m->base.n_inputs);
    free_ports(m->base.outputs, m->output_names, m->base.n_outputs);
    free(m->path);
    free(m->bytes);
    free(m);
}

/* Forget what a failed attempt left, for another one. */
static void reset_model(struct ort_model *m)
{
    if (m->spare)
        session_destroy(&m->spare->base);
    m->spare = NULL;
    sx_ort_weights_close(&m->weights);
    m->prepared = false;
    free(m->path);
    m->path = NULL;
}

typedef OrtStatus *(ORT_API_CALL *port_type_fn)(const OrtSession *, size_t, OrtTypeInfo **);
typedef OrtStatus *(ORT_API_CALL *port_name_fn)(const OrtSession *, size_t, OrtAllocator *,
                                                char **);

static enum sx_rc describe_port(const struct ort_model *m, const char *what, const char *name,
                                const OrtTypeInfo *type, struct sx_port *port, struct sx_err *err)
{
    const OrtApi *api = m->lib->api;
    const OrtTensorTypeAndShapeInfo *info = NULL;
    enum ONNXType kind = ONNX_TYPE_UNKNOWN;
    ONNXTensorElementDataType elem = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    static const char *const kinds[] = {
        "of an unknown kind", "a tensor",        "a sequence", "a map",
        "an opaque value",    "a sparse tensor", "optional"};
    size_t rank = 0;

    enum sx_rc rc = sx_ort_check(m->lib, api->GetOnnxTypeFromTypeInfo(type, &kind), err);
    if (!rc && kind != ONNX_TYPE_TENSOR)
        return sx_fail(err, SX_UNSUPPORTED, "%s '%s' is %s; only tensors are served", what, name,
                       (unsigned)kind < sizeof(kinds) / sizeof(*kinds) ? kinds[kind] : kinds[0]);
    if (!rc)
        rc = sx_ort_check(m->lib, api->CastTypeInfoToTensorInfo(type, &info), err);
    if (!rc)
        rc = sx_ort_check(m->lib, api->GetTensorElementType(info, &elem), err);
    if (!rc)
        rc = sx_ort_check(m->lib, api->GetDimensionsCount(info, &rank), err);
    if (rc)
        return rc;
    port->dtype = sx_dtype_from_onnx((int)elem);
    if (!port->dtype)
        return sx_fail(err, SX_UNSUPPORTED,
                       "%s '%s' has an element type that the protocol does not have (ONNX type %d)",
                       what, name, (int)elem);
    if (rank > SX_MAX_RANK)
        return sx_fail(err, SX_UNSUPPORTED, "%s '%s' has %zu dimensions, at most %d are supported",
                       what, name, rank, SX_MAX_RANK);
    port->rank = (int)rank;
    rc = sx_ort_check(m->lib, api->GetDimensions(info, port->dims, rank), err);
    for (int d = 0; d < port->rank; d++)
        if (port->dims[d] < 0)
            port->dims[d] = -1;
    return rc;
}

/* A shape of rank 0 means a scalar or "not known"; the file tells which. */
static void settle_rank(struct sx_port *port, const struct sx_onnx_value *values, size_t n)
{
    for (size_t i = 0; port->rank == 0 && i < n; i++)
        if (!strcmp(values[i].name, port->name) && !values[i].has_shape)
            port->rank = -1;
}

static enum sx_rc describe_ports(struct ort_model *m, const struct sx_onnx *source, bool outputs,
                                 struct sx_err *err)
{
    const OrtApi *api = m->lib->api;
    const OrtSession *session = m->spare->session;
    const char *what = outputs ? "output" : "input";
    port_name_fn get_name = outputs ? api->SessionGetOutputName : api->SessionGetInputName;
    port_type_fn get_type = outputs ? api->SessionGetOutputTypeInfo : api->SessionGetInputTypeInfo;
    const struct sx_onnx_value *values;
    size_t n = 0,
           n_values = outputs ? sx_onnx_outputs(source, &values) : sx_onnx_inputs(source, &values);

    enum sx_rc rc = sx_ort_check(m->lib,
                                 outputs ? api->SessionGetOutputCount(session, &n)
                                         : api->SessionGetInputCount(session, &n),
                                 err);
    if (rc)
        return rc;
    struct sx_port *ports = calloc(n + 1, sizeof(*ports));
    const char **names = calloc(n + 1, sizeof(*names));
    if (outputs)
        m->base.outputs = ports, m->output_names = names, m->base.n_outputs = n;
    else
        m->base.inputs = ports, m->input_names = names, m->base.n_inputs = n;
    if (!ports || !names)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the model");

    for (size_t i = 0; !rc && i < n; i++) {
        char *name = NULL;
        OrtTypeInfo *type = NULL;
        rc = sx_ort_check(m->lib, get_name(session, i, m->lib->allocator, &name), err);
        if (!rc)
            names[i] = ports[i].name = strdup(name);
        if (name) /* the default allocator's free cannot fail */
            sx_ort_check(m->lib, api->AllocatorFree(m->lib->allocator, name), NULL);
        if (!rc && !ports[i].name)
            rc = sx_fail(err, SX_NO_MEMORY, "no memory for the model");
        if (!rc)
            rc = sx_ort_check(m->lib, get_type(session, i, &type), err);
        if (!rc)
            rc = describe_port(m, what, ports[i].name, type, &ports[i], err);
        if (type)
            api->ReleaseTypeInfo(type);
        settle_rank(&ports[i], values, n_values);
    }
    return rc;
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
    enum sx_rc rc = sx_ort_prepare(m->lib, source, e->cache_dir, e->machine_id, &prepared, err);
    if (rc)
        return rc;
    m->prepared = true;
    m->path = strdup(sx_onnx_path(prepared));
    if (!m->path)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the model");
    if (!rc)
        rc = sx_ort_weights_open(m->lib, prepared, &m->weights, err);
    if (!rc)
        rc = make_session(m, 1, NULL, &m->spare, err);
    sx_onnx_close(prepared);
    return rc;
}

static enum sx_rc open_plain(struct ort_model *m, const struct sx_onnx *source, struct sx_err *err)
{
    m->path = strdup(sx_onnx_path(source));
    if (!m->path)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the model");
    if (sx_onnx_overridable(source) && !sx_onnx_has_external(source)) {
        enum sx_rc rc = sx_onnx_stripped_bytes(source, &m->bytes, &m->n_bytes, err);
        if (rc)
            return rc;
    }
    return make_session(m, 1, NULL, &m->spare, err);
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
            reset_model(m);
            snprintf(m->base.note, sizeof(m->base.note), "not prepared: %.230s", why.message);
        }
    }
    if (!open)
        rc = open_plain(m, source, err);
    if (!rc)
        rc = describe_ports(m, source, false, err);
    if (!rc)
        rc = describe_ports(m, source, true, err);
    if (rc) {
        sx_while(err, "%s: ", path);
        goto out;
    }
    *ret_model = &m->base;
    m = NULL;
out:
    if (m)
        close_model(&m->base);
    sx_onnx_close(source);
    return rc;
}

static void settle(struct sx_engine_model *model)
{
    struct ort_model *m = (struct ort_model *)model;
    sx_ort_weights_settle(&m->weights);
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
    OrtStatus *status = api->Run(s->session, NULL, m->input_names, (const OrtValue *const *)values,
                                 n_in, m->output_names, n_out, results);
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
    .close_model = close_model,
    .settle = settle,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .run = run,
};
