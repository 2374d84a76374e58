/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_request.c - read an infer request, in one pass over its JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/v2_int.h"

#define MAX_ID 1024 /* bytes: an id is kept outside the pool and its limit */

/* --- outputs and parameters ---------------------------------------------------------- */

static bool add_want(struct sx_v2_call *c, uint32_t port, int binary)
{
    if (c->n_wants == c->cap_wants) {
        size_t cap = c->cap_wants ? 2 * c->cap_wants : 8;
        struct sx_v2_want *grown = realloc(c->wants, cap * sizeof(*grown));
        if (!grown)
            return false;
        c->wants = grown;
        c->cap_wants = cap;
    }
    c->wants[c->n_wants++] = (struct sx_v2_want){port, (signed char)binary};
    return true;
}

/* The request's default for binary_data may come later: -1 stands for it until the end. */
static enum sx_rc read_output(struct sx_v2_reader *r)
{
    static const char *const names[] = {"name", "parameters"};
    struct sx_json_string name = {0};
    bool binary = false, has_binary = false;
    enum sx_rc rc = SX_OK;
    r->unknown.data = NULL;
    for (bool more = sx_json_object(&r->j); more; more = sx_json_more(&r->j, '}')) {
        int field = sx_v2_next_field(r, names, 2, &rc);
        if (field == 0)
            sx_json_get_string(&r->j, &name);
        for (bool p = field == 1 && sx_json_object(&r->j); p; p = sx_json_more(&r->j, '}')) {
            struct sx_json_string key;
            if (!sx_json_key(&r->j, &key))
                break;
            if (sx_json_equal(&key, "binary_data")) {
                r->field = "binary_data";
                has_binary = sx_json_get_bool(&r->j, &binary);
            } else if (sx_json_equal(&key, "classification") ||
                       sx_json_equal(&key, "shared_memory_region")) {
                rc = sx_fail(r->err, SX_UNSUPPORTED, "the output parameter '%.*s' is not supported",
                             (int)key.len, key.data);
                sx_hint(r->err, "leave it out, the whole output comes with the answer");
                break;
            } else {
                sx_json_skip(&r->j);
            }
        }
        if (rc || r->j.error)
            break;
    }
    if (rc)
        return rc;
    if (r->j.error)
        return sx_v2_syntax(r);
    if (!name.data)
        return sx_v2_missing(r, "an output", "", "name");
    int port = sx_v2_find_port(r->model->outputs, r->model->n_outputs, &name);
    if (port < 0) {
        sx_fail(r->err, SX_INVALID, "unexpected inference output '%.*s' for model '%s'",
                (int)(name.len < 100 ? name.len : 100), name.data, r->model->name);
        sx_v2_hint_ports(r->err, "output", r->model->outputs, r->model->n_outputs);
        return SX_INVALID;
    }
    for (size_t i = 0; i < r->call->n_wants; i++)
        if (r->call->wants[i].port == (uint32_t)port)
            return sx_fail(r->err, SX_INVALID, "output '%s' is asked for twice",
                           r->model->outputs[port].name);
    if (!add_want(r->call, (uint32_t)port, has_binary ? binary : -1))
        return sx_fail(r->err, SX_NO_MEMORY, "out of memory");
    return SX_OK;
}

static enum sx_rc read_parameters(struct sx_v2_reader *r)
{
    for (bool more = sx_json_object(&r->j); more; more = sx_json_more(&r->j, '}')) {
        struct sx_json_string key;
        int64_t v;
        if (!sx_json_key(&r->j, &key))
            break;
        if (sx_json_equal(&key, "timeout")) {
            r->field = "timeout";
            if (sx_v2_get_int(r, INT64_MAX, &v))
                r->call->timeout_ns =
                    (uint64_t)v > SX_NEVER / 2 / SX_US ? SX_NEVER / 2 : (uint64_t)v * SX_US;
        } else if (sx_json_equal(&key, "priority")) {
            r->field = "priority";
            if (sx_v2_get_int(r, UINT32_MAX, &v))
                r->call->priority = (uint32_t)v;
        } else if (sx_json_equal(&key, "binary_data_output")) {
            r->field = "binary_data_output";
            sx_json_get_bool(&r->j, &r->binary_output);
        } else {
            sx_json_skip(&r->j);
        }
        if (r->j.error)
            break;
    }
    return r->j.error ? sx_v2_syntax(r) : SX_OK;
}

static enum sx_rc read_id(struct sx_v2_reader *r)
{
    struct sx_json_string id;
    if (!sx_json_get_string(&r->j, &id))
        return sx_v2_syntax(r);
    if (id.len > MAX_ID)
        return sx_fail(r->err, SX_INVALID, "the request's id has %zu bytes, at most %d are allowed",
                       id.len, MAX_ID);
    sx_sbuf_clear(&r->call->id);
    sx_sbuf_add(&r->call->id, id.data, id.len);
    r->call->has_id = id.len > 0;
    return SX_OK;
}

/* --- the request --------------------------------------------------------------------- */

static enum sx_rc check_complete(struct sx_v2_reader *r, bool has_inputs)
{
    const struct sx_v2_model *m = r->model;
    if (!has_inputs)
        return sx_v2_missing(r, "the request", "", "inputs");
    for (size_t i = 0; i < m->n_inputs; i++)
        if (!m->inputs[i].optional && r->inputs[i].dtype == SX_DTYPE_NONE)
            return sx_fail(r->err, SX_INVALID, "input '%s' of model '%s' is missing",
                           m->inputs[i].name, m->name);
    if (r->body->json_len >= 0 && r->binary_at != r->body->len)
        return sx_fail(r->err, SX_INVALID, "%zu unexpected bytes follow the last tensor",
                       r->body->len - r->binary_at);
    return SX_OK;
}

static enum sx_rc read_outputs(struct sx_v2_reader *r)
{
    for (bool more = sx_json_array(&r->j); more; more = sx_json_more(&r->j, ']')) {
        enum sx_rc rc = read_output(r);
        if (rc)
            return rc;
    }
    return r->j.error ? sx_v2_syntax(r) : SX_OK;
}

static enum sx_rc read_json(struct sx_v2_reader *r)
{
    static const char *const names[] = {"id",      "parameters", "inputs",
                                        "outputs", "model_name", "model_version"};
    bool has_inputs = false, has_outputs = false;
    struct sx_json_string unknown = {0};
    enum sx_rc rc = SX_OK;
    for (bool more = sx_json_object(&r->j); more; more = sx_json_more(&r->j, '}')) {
        r->unknown = unknown;
        int field = sx_v2_next_field(r, names, 6, &rc);
        unknown = r->unknown;
        if (field == 0) {
            rc = read_id(r);
        } else if (field == 1) {
            rc = read_parameters(r);
        } else if (field == 2) {
            if (has_inputs)
                return sx_fail(r->err, SX_INVALID, "'inputs' is there twice");
            has_inputs = true;
            for (bool m = sx_json_array(&r->j); m && !rc; m = !rc && sx_json_more(&r->j, ']'))
                rc = sx_v2_read_input(r);
        } else if (field == 3) {
            if (has_outputs)
                return sx_fail(r->err, SX_INVALID, "'outputs' is there twice");
            has_outputs = true;
            rc = read_outputs(r);
        } else if (field >= 4) {
            sx_json_skip(&r->j);
        }
        if (rc)
            return rc;
        if (r->j.error)
            break;
        r->field = NULL;
    }
    if (r->j.error || !sx_json_finish(&r->j))
        return sx_v2_syntax(r);
    r->unknown = unknown;
    return check_complete(r, has_inputs);
}

enum sx_rc sx_v2_read_infer(struct sx_v2_call *call, const struct sx_v2_model *model,
                            struct sx_pool *pool, const struct sx_v2_body *body,
                            struct sx_tensor *inputs, struct sx_err *err)
{
    sx_v2_call_clear(call);
    struct sx_v2_reader r = {
        .call = call, .model = model, .pool = pool, .body = body, .inputs = inputs, .err = err};
    if (body->json_len > 0 && (uint64_t)body->json_len > body->len)
        return sx_fail(err, SX_INVALID,
                       "Inference-Header-Content-Length is %lld, but the body has %zu bytes",
                       (long long)body->json_len, body->len);
    enum sx_rc rc;
    if (body->json_len == 0) {
        r.binary_output = true;
        rc = sx_v2_read_raw(&r);
    } else {
        size_t json_len = body->json_len < 0 ? body->len : (size_t)body->json_len;
        if (json_len == 0)
            return sx_fail(err, SX_INVALID, "the request has no body");
        r.binary_at = json_len;
        sx_json_init(&r.j, body->data, json_len);
        rc = read_json(&r);
    }
    for (size_t i = 0; i < call->n_wants; i++)
        if (call->wants[i].binary < 0)
            call->wants[i].binary = r.binary_output;
    bool all = call->n_wants == 0;
    for (size_t i = 0; !rc && all && i < model->n_outputs; i++)
        if (!add_want(call, (uint32_t)i, r.binary_output))
            rc = sx_fail(err, SX_NO_MEMORY, "out of memory");
    for (size_t i = 0; !rc && i < call->n_wants; i++) {
        const struct sx_port *port = &model->outputs[call->wants[i].port];
        if (!call->wants[i].binary) /* found now, not when the inference has run */
            rc = sx_v2_has_json(port->name, port->dtype, err);
    }
    return rc;
}
