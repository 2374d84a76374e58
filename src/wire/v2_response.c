/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_response.c - write the answer to an infer request: a JSON head, then binary tensors where
 * they lie.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/v2_int.h"

void sx_v2_call_fini(struct sx_v2_call *call)
{
    sx_sbuf_free(&call->id);
    sx_sbuf_free(&call->json);
    free(call->wants);
    free(call->parts);
    *call = (struct sx_v2_call){0};
}

void sx_v2_call_clear(struct sx_v2_call *call)
{
    if (call->json.cap > SX_V2_KEEP_BYTES)
        sx_sbuf_free(&call->json);
    sx_sbuf_clear(&call->json);
    sx_sbuf_clear(&call->id);
    call->has_id = call->binary = false;
    call->timeout_ns = 0;
    call->priority = 0;
    call->n_wants = call->n_parts = call->total_bytes = 0;
}

static bool reserve_parts(struct sx_v2_call *call, size_t n)
{
    if (n <= call->cap_parts)
        return true;
    struct iovec *grown = realloc(call->parts, n * sizeof(*grown));
    if (!grown)
        return false;
    call->parts = grown;
    call->cap_parts = n;
    return true;
}

#define PUT(s, literal) sx_sbuf_add(s, literal, sizeof(literal) - 1)

static void put_shape(struct sx_sbuf *s, const int64_t *dims, int rank)
{
    sx_sbuf_putc(s, '[');
    for (int i = 0; i < rank; i++) {
        if (i)
            sx_sbuf_putc(s, ',');
        sx_json_put_int64(s, dims[i]);
    }
    sx_sbuf_putc(s, ']');
}

static enum sx_rc put_output(struct sx_v2_call *call, const struct sx_port *port,
                             const struct sx_tensor *t, bool binary, struct sx_err *err)
{
    struct sx_sbuf *s = &call->json;
    enum sx_rc rc = SX_OK;
    PUT(s, "{\"name\":");
    sx_sbuf_json(s, port->name);
    PUT(s, ",\"datatype\":\"");
    sx_sbuf_puts(s, sx_dtype_name(t->dtype));
    PUT(s, "\",\"shape\":");
    put_shape(s, t->dims, t->rank);
    if (binary) {
        /* `parameters` only here: perf_analyzer takes their presence for binary data */
        PUT(s, ",\"parameters\":{\"binary_data_size\":");
        sx_json_put_uint64(s, t->nbytes);
        PUT(s, "}}");
        call->binary = true;
        if (t->nbytes)
            call->parts[call->n_parts++] = (struct iovec){t->data, t->nbytes};
        call->total_bytes += t->nbytes;
    } else {
        PUT(s, ",\"data\":");
        rc = sx_v2_put_data(s, port->name, t, err);
        PUT(s, "}");
    }
    return rc;
}

enum sx_rc sx_v2_write_infer(struct sx_v2_call *call, const struct sx_v2_model *model,
                             const struct sx_tensor *outputs, struct sx_err *err)
{
    struct sx_sbuf *s = &call->json;
    sx_sbuf_clear(s);
    if (!reserve_parts(call, call->n_wants + 1))
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    call->n_parts = 1;
    call->total_bytes = 0;
    call->binary = false;
    PUT(s, "{");
    if (call->has_id) {
        PUT(s, "\"id\":\"");
        sx_sbuf_add(s, call->id.data, call->id.len);
        PUT(s, "\",");
    }
    PUT(s, "\"model_name\":");
    sx_sbuf_json(s, model->name);
    PUT(s, ",\"model_version\":\"");
    sx_json_put_int64(s, model->version);
    PUT(s, "\",\"outputs\":[");
    for (size_t i = 0; i < call->n_wants; i++) {
        const struct sx_v2_want *want = &call->wants[i];
        if (i)
            sx_sbuf_putc(s, ',');
        enum sx_rc rc = put_output(call, &model->outputs[want->port], &outputs[want->port],
                                   want->binary != 0, err);
        if (rc)
            return rc;
    }
    PUT(s, "]}");
    if (s->failed || call->id.failed)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    call->parts[0] = (struct iovec){s->data, s->len};
    call->total_bytes += s->len;
    return SX_OK;
}

void sx_v2_put_error(struct sx_sbuf *s, const struct sx_err *err)
{
    char text[sizeof(err->message) + sizeof(err->hint) + 4];
    size_t n = strnlen(err->message, sizeof(err->message));
    memcpy(text, err->message, n);
    if (*err->hint) {
        size_t h = strnlen(err->hint, sizeof(err->hint));
        memcpy(text + n, "; ", 2);
        memcpy(text + n + 2, err->hint, h);
        n += 2 + h;
    }
    text[n] = '\0';
    PUT(s, "{\"error\":");
    sx_sbuf_json(s, text);
    PUT(s, "}");
}
