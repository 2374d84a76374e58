/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ort_ports.c - what goes into and comes out of a model, as ONNX Runtime tells it.
 *
 * Only a session knows the types that ONNX Runtime inferred, so a model is described from its first
 * one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ort_int.h"

static void free_side(struct sx_port *ports, const char **names, size_t n)
{
    for (size_t i = 0; ports && i < n; i++)
        free((char *)ports[i].name);
    free(ports);
    free(names);
}

void sx_ort_ports_free(struct ort_model *m)
{
    free_side(m->base.inputs, m->input_names, m->base.n_inputs);
    free_side(m->base.outputs, m->output_names, m->base.n_outputs);
}

typedef OrtStatus *(ORT_API_CALL *port_type_fn)(const OrtSession *, size_t, OrtTypeInfo **);
typedef OrtStatus *(ORT_API_CALL *port_name_fn)(const OrtSession *, size_t, OrtAllocator *,
                                                char **);

/* Exporters must call a free dimension something: tf2onnx unk__7, PyTorch Softmaxoutput_dim_0. */
static bool is_made_up(const char *dim)
{
    size_t len = strlen(dim);
    return strncmp(dim, "unk__", 5) == 0 || (len > 6 && strcmp(dim + len - 6, "_dim_0") == 0);
}

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
    const char *symbols[SX_MAX_RANK] = {0}; /* they live as long as `info` */
    rc = sx_ort_check(m->lib, api->GetDimensions(info, port->dims, rank), err);
    if (!rc)
        rc = sx_ort_check(m->lib, api->GetSymbolicDimensions(info, symbols, rank), err);
    if (!rc && rank && port->dims[0] < 0 && symbols[0] && !is_made_up(symbols[0]))
        snprintf(port->first_dim, sizeof(port->first_dim), "%s", symbols[0]);
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

static enum sx_rc describe_side(struct ort_model *m, const struct sx_onnx *source, bool outputs,
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

enum sx_rc sx_ort_ports_describe(struct ort_model *m, const struct sx_onnx *source,
                                 struct sx_err *err)
{
    enum sx_rc rc = describe_side(m, source, false, err);
    return rc ? rc : describe_side(m, source, true, err);
}
