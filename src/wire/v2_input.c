/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_input.c - the inputs of an infer request.
 *
 * An input's fields may come in any order; where "data" comes before the shape or the type, its
 * place is remembered and read when the object has ended.
 */
#include <stdio.h>
#include <string.h>

#include "wire/v2_int.h"

struct input {
    struct sx_json_string name, datatype;
    bool has_name, has_datatype, has_shape, has_data, has_binary, shared_memory;
    struct sx_tensor t;
    int64_t binary_size;
    struct sx_json data; /* where "data" begins */
    int port;            /* once known; -1 */
};

static const char *input_name(const struct sx_v2_reader *r, const struct input *in)
{
    return r->model->inputs[in->port].name;
}

/* All that must be known before the data can be read; SX_OK once. */
static enum sx_rc resolve(struct sx_v2_reader *r, struct input *in)
{
    if (!in->has_name)
        return sx_v2_missing(r, "an input", "", "name");
    if (in->port >= 0)
        return SX_OK;
    in->port = sx_v2_find_port(r->model->inputs, r->model->n_inputs, &in->name);
    if (in->port < 0) {
        sx_fail(r->err, SX_INVALID, "unexpected inference input '%.*s' for model '%s'",
                (int)(in->name.len < 100 ? in->name.len : 100), in->name.data, r->model->name);
        sx_v2_hint_ports(r->err, "input", r->model->inputs, r->model->n_inputs);
        return SX_INVALID;
    }
    const struct sx_port *port = &r->model->inputs[in->port];
    if (r->inputs[in->port].dtype != SX_DTYPE_NONE)
        return sx_fail(r->err, SX_INVALID, "input '%s' is there twice", port->name);
    if (!in->has_datatype)
        return sx_v2_missing(r, "input", port->name, "datatype");
    if (!in->has_shape)
        return sx_v2_missing(r, "input", port->name, "shape");
    in->t.dtype = in->datatype.escaped ? SX_DTYPE_NONE
                                       : sx_dtype_from_name(in->datatype.data, in->datatype.len);
    if (in->t.dtype != port->dtype)
        return sx_fail(r->err, SX_INVALID, "input '%s': datatype is %.*s, expected %s", port->name,
                       (int)(in->datatype.len < 20 ? in->datatype.len : 20), in->datatype.data,
                       sx_dtype_name(port->dtype));
    return SX_OK;
}

#define MAX_EMPTY (1u << 24)

/* An empty tensor costs nothing here, but a model may make a large one from its other dimensions.
 */
static bool empty_and_huge(const struct sx_tensor *t)
{
    int64_t others[SX_MAX_RANK];
    uint64_t count;
    int n = 0;
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i])
            others[n++] = t->dims[i];
    return n < t->rank && (!sx_shape_count(others, n, &count) || count > MAX_EMPTY);
}

static enum sx_rc read_shape(struct sx_v2_reader *r, struct input *in)
{
    struct sx_tensor *t = &in->t;
    t->rank = 0;
    for (bool more = sx_json_array(&r->j); more; more = sx_json_more(&r->j, ']')) {
        if (t->rank == SX_MAX_RANK)
            return sx_fail(r->err, SX_INVALID, "a shape has more than %d dimensions", SX_MAX_RANK);
        if (!sx_v2_get_int(r, INT64_MAX, &t->dims[t->rank]))
            break;
        t->rank++;
    }
    if (r->j.error)
        return sx_v2_syntax(r);
    uint64_t count;
    char text[128];
    if (!sx_shape_count(t->dims, t->rank, &count) || count > UINT64_C(1) << 48)
        return sx_fail(r->err, SX_INVALID, "the shape %s is too large",
                       sx_shape_text(t->dims, t->rank, text, sizeof(text)));
    if (empty_and_huge(t))
        return sx_fail(r->err, SX_INVALID,
                       "the shape %s has no elements, and its other dimensions are too large",
                       sx_shape_text(t->dims, t->rank, text, sizeof(text)));
    in->has_shape = true;
    return SX_OK;
}

static enum sx_rc read_input_parameters(struct sx_v2_reader *r, struct input *in)
{
    for (bool more = sx_json_object(&r->j); more; more = sx_json_more(&r->j, '}')) {
        struct sx_json_string key;
        if (!sx_json_key(&r->j, &key))
            break;
        bool ok;
        if (sx_json_equal(&key, "binary_data_size")) {
            r->field = "binary_data_size";
            ok = sx_v2_get_int(r, INT64_MAX, &in->binary_size);
            in->has_binary = ok;
        } else {
            in->shared_memory |= sx_json_equal(&key, "shared_memory_region");
            ok = sx_json_skip(&r->j);
        }
        if (!ok)
            break;
    }
    return r->j.error ? sx_v2_syntax(r) : SX_OK;
}

static enum sx_rc read_data(struct sx_v2_reader *r, struct input *in, struct sx_json *j)
{
    enum sx_rc rc = resolve(r, in);
    if (rc)
        return rc;
    rc = sx_v2_read_data(j, input_name(r, in), r->pool, &in->t, r->err);
    if (rc && j->error) {
        r->j = *j;
        r->field = "data";
        return sx_v2_syntax(r);
    }
    return rc;
}

/* Check what the elements themselves say. */
static enum sx_rc check_bytes(struct sx_v2_reader *r, const struct input *in)
{
    char text[128];
    const struct sx_tensor *t = &in->t;
    if (t->dtype == SX_BYTES && !sx_tensor_bytes_valid(t))
        return sx_fail(r->err, SX_INVALID,
                       "input '%s': %zu bytes are not %s strings, each after its 4-byte length",
                       input_name(r, in), t->nbytes,
                       sx_shape_text(t->dims, t->rank, text, sizeof(text)));
    if (t->dtype == SX_BOOL)
        for (size_t i = 0; i < t->nbytes; i++)
            if (t->data[i] > 1)
                return sx_fail(r->err, SX_INVALID, "input '%s': byte %zu is %u, a BOOL is 0 or 1",
                               input_name(r, in), i, t->data[i]);
    return SX_OK;
}

/* A view of the body, or a copy where the processor would trip over its address. */
static enum sx_rc take_binary(struct sx_v2_reader *r, struct input *in, size_t at, size_t bytes)
{
    struct sx_tensor *t = &in->t;
    const char *from = r->body->data + at;
    size_t size = sx_dtype_size(t->dtype);
    t->nbytes = bytes;
    if (size > 1 && (uintptr_t)from % size != 0) {
        t->buffer = sx_pool_get(r->pool, bytes);
        if (!t->buffer)
            return sx_fail(r->err, SX_NO_MEMORY, "no memory for input '%s'", input_name(r, in));
        t->data = t->buffer->data;
        if (bytes)
            memcpy(t->data, from, bytes);
    } else {
        t->buffer = sx_buffer_ref(r->body->buffer);
        t->data = (unsigned char *)(uintptr_t)from;
    }
    return check_bytes(r, in);
}

static enum sx_rc read_binary(struct sx_v2_reader *r, struct input *in)
{
    struct sx_tensor *t = &in->t;
    const char *name = input_name(r, in);
    char text[128];
    size_t left = r->body->len - r->binary_at, need;
    if (in->has_data)
        return sx_fail(r->err, SX_INVALID, "input '%s' has both 'data' and 'binary_data_size'",
                       name);
    if (r->body->json_len < 0) {
        sx_fail(r->err, SX_INVALID,
                "input '%s' is binary, but the header Inference-Header-Content-Length is missing",
                name);
        return SX_INVALID;
    }
    if (sx_shape_bytes(t->dtype, t->dims, t->rank, &need) && (uint64_t)in->binary_size != need)
        return sx_fail(
            r->err, SX_INVALID, "input '%s': binary_data_size is %lld, shape %s of %s needs %zu",
            name, (long long)in->binary_size, sx_shape_text(t->dims, t->rank, text, sizeof(text)),
            sx_dtype_name(t->dtype), need);
    if ((uint64_t)in->binary_size > left)
        return sx_fail(r->err, SX_INVALID,
                       "input '%s': binary_data_size is %lld, but only %zu bytes are left in the "
                       "body",
                       name, (long long)in->binary_size, left);
    enum sx_rc rc = take_binary(r, in, r->binary_at, (size_t)in->binary_size);
    r->binary_at += (size_t)in->binary_size;
    return rc;
}

static enum sx_rc finish_input(struct sx_v2_reader *r, struct input *in)
{
    enum sx_rc rc = resolve(r, in);
    if (rc)
        return rc;
    const char *name = input_name(r, in);
    if (in->shared_memory) {
        sx_fail(r->err, SX_UNSUPPORTED, "input '%s': shared memory is not supported", name);
        sx_hint(r->err, "send its bytes behind the JSON, with 'binary_data_size'");
        return SX_UNSUPPORTED;
    }
    if (in->has_binary)
        return read_binary(r, in);
    if (!in->has_data)
        return sx_v2_missing(r, "input", name, "data");
    if (in->t.buffer)
        return SX_OK; /* read on the way */
    return read_data(r, in, &in->data);
}

enum sx_rc sx_v2_read_input(struct sx_v2_reader *r)
{
    static const char *const names[] = {"name", "shape", "datatype", "parameters", "data"};
    struct input in;
    in.has_name = in.has_datatype = in.has_shape = in.has_data = in.has_binary = false;
    in.shared_memory = false;
    in.t.buffer = NULL;
    in.t.data = NULL;
    in.t.nbytes = 0;
    in.t.dtype = SX_DTYPE_NONE;
    in.port = -1;
    r->unknown.data = NULL;
    enum sx_rc rc = SX_OK;
    unsigned seen = 0;
    for (bool more = sx_json_object(&r->j); more; more = sx_json_more(&r->j, '}')) {
        int field = sx_v2_next_field(r, names, 5, &rc);
        /* Data are read by the shape and type that came before: a second one would not be theirs.
         */
        if (field >= 0 && seen >> field & 1) {
            rc = sx_fail(r->err, SX_INVALID, "an input has '%s' twice", names[field]);
            break;
        }
        seen |= field >= 0 ? 1U << field : 0;
        switch (field) {
        case 0:
            in.has_name = sx_json_get_string(&r->j, &in.name);
            break;
        case 1:
            rc = read_shape(r, &in);
            break;
        case 2:
            in.has_datatype = sx_json_get_string(&r->j, &in.datatype);
            break;
        case 3:
            rc = read_input_parameters(r, &in);
            break;
        case 4:
            if (in.has_name && in.has_datatype && in.has_shape) {
                rc = read_data(r, &in, &r->j);
            } else {
                in.data = r->j;
                sx_json_skip(&r->j);
            }
            in.has_data = true;
            break;
        }
        if (rc || r->j.error)
            break;
    }
    if (!rc && r->j.error)
        rc = sx_v2_syntax(r);
    if (!rc)
        rc = finish_input(r, &in);
    if (rc) {
        sx_buffer_unref(&in.t.buffer);
        return rc;
    }
    r->inputs[in.port] = in.t;
    return SX_OK;
}

/* --- raw requests -------------------------------------------------------------------------------
 */

/* The whole body is the only input; its shape is the model's, a free dimension from the size. */
enum sx_rc sx_v2_read_raw(struct sx_v2_reader *r)
{
    const struct sx_v2_model *m = r->model;
    if (m->n_inputs != 1)
        return sx_fail(r->err, SX_INVALID,
                       "a raw request needs a model with one input, '%s' has %zu", m->name,
                       m->n_inputs);
    const struct sx_port *port = &m->inputs[0];
    struct input in = {.port = 0, .t = {.dtype = port->dtype, .rank = port->rank}};
    struct sx_tensor *t = &in.t;
    int free_dim = -1;
    if (port->rank < 0)
        return sx_fail(r->err, SX_INVALID, "input '%s' has no fixed rank: no raw request",
                       port->name);
    for (int i = 0; i < port->rank; i++) {
        t->dims[i] = port->dims[i];
        if (t->dims[i] >= 0)
            continue;
        t->dims[i] = 1;
        if (i == 0 && m->batched)
            continue;
        if (free_dim >= 0)
            return sx_fail(r->err, SX_INVALID,
                           "input '%s' has more than one free dimension: no raw request",
                           port->name);
        free_dim = i;
    }
    if (port->dtype == SX_BYTES) { /* the body is the one element */
        uint64_t count;
        if (!sx_shape_count(t->dims, t->rank, &count) || count != 1)
            return sx_fail(r->err, SX_INVALID, "input '%s' is not one element: no raw request",
                           port->name);
        if (r->body->len > UINT32_MAX || !(t->buffer = sx_pool_get(r->pool, r->body->len + 4)))
            return sx_fail(r->err, SX_NO_MEMORY, "no memory for input '%s'", port->name);
        uint32_t n = (uint32_t)r->body->len;
        t->data = t->buffer->data;
        t->nbytes = r->body->len + 4;
        memcpy(t->data, &n, 4);
        if (n)
            memcpy(t->data + 4, r->body->data, n);
        r->inputs[0] = *t;
        return SX_OK;
    }
    size_t one;
    if (!sx_shape_bytes(t->dtype, t->dims, t->rank, &one))
        return sx_fail(r->err, SX_INVALID, "input '%s' is too large for a raw request", port->name);
    if (free_dim >= 0 && one > 0 && r->body->len % one == 0) {
        t->dims[free_dim] = (int64_t)(r->body->len / one);
    } else if (r->body->len != one) {
        char text[128];
        return sx_fail(r->err, SX_INVALID,
                       "input '%s': %zu bytes in a raw request, shape %s of %s "
                       "needs %s%zu",
                       port->name, r->body->len,
                       sx_shape_text(port->dims, port->rank, text, sizeof(text)),
                       sx_dtype_name(port->dtype), free_dim >= 0 ? "a multiple of " : "", one);
    }
    enum sx_rc rc = take_binary(r, &in, 0, r->body->len);
    if (rc)
        sx_buffer_unref(&t->buffer);
    else
        r->inputs[0] = *t;
    return rc;
}
