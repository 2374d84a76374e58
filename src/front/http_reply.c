/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_reply.c - answers.  A response borrows the call's memory and holds a reference on it until
 * MHD has sent it; large outputs are sent from the tensors themselves.
 */
#include <stdio.h>

#include "front/http_int.h"

/* Outputs up to this size are copied behind the JSON: one system call instead of two. */
#define COPY_BYTES (16u << 10)

static void response_gone(void *cls)
{
    sx_call_unref(cls);
}

/* struct iovec and struct MHD_IoVec say the same. */
_Static_assert(sizeof(struct iovec) == sizeof(struct MHD_IoVec), "MHD_IoVec is an iovec");

static struct MHD_Response *make_response(struct call *call)
{
    struct sx_v2_call *v = &call->v2;
    struct MHD_Response *response;
    if (v->n_parts > 1 && v->total_bytes <= COPY_BYTES &&
        sx_sbuf_reserve(&v->json, v->total_bytes - v->json.len)) {
        for (size_t i = 1; i < v->n_parts; i++)
            sx_sbuf_add(&v->json, v->parts[i].iov_base, v->parts[i].iov_len);
        v->n_parts = 0;
    }
    call->refs++;
    if (v->n_parts > 1)
        response = MHD_create_response_from_iovec((const struct MHD_IoVec *)(void *)v->parts,
                                                  (unsigned)v->n_parts, response_gone, call);
    else
        response = MHD_create_response_from_buffer_with_free_callback_cls(v->json.len, v->json.data,
                                                                          response_gone, call);
    if (!response)
        call->refs--;
    return response;
}

static void write_error(struct call *call, struct sx_err *err)
{
    struct sx_v2_call *v = &call->v2;
    sx_sbuf_clear(&v->json);
    v->n_parts = 0;
    v->binary = false;
    if (!call->status)
        call->status = sx_rc_http(err->rc);
    sx_v2_put_error(&v->json, err);
}

static void add_headers(struct call *call, struct MHD_Response *response, size_t json_len)
{
    char number[24];
    if (call->v2.binary) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
        snprintf(number, sizeof(number), "%zu", json_len);
        MHD_add_response_header(response, "Inference-Header-Content-Length", number);
    } else {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    }
    if (call->status == MHD_HTTP_SERVICE_UNAVAILABLE) {
        snprintf(number, sizeof(number), "%u", sx_server_retry_after(call->httpd->config.server));
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, number);
    }
    if (call->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
                                *call->target.verb == 'G' ? "GET, HEAD" : call->target.verb);
    if (atomic_load_explicit(&call->httpd->stopping, memory_order_relaxed))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

void sx_reply_uncount(struct call *call)
{
    if (call->counted)
        atomic_fetch_sub_explicit(&call->httpd->json_bytes, call->counted, memory_order_relaxed);
    call->counted = 0;
}

/* JSON is outside the pool and its limit: without one, clients that ask for much and read slowly
 * would take all memory. */
static void count_json(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    size_t bytes = call->v2.json.cap;
    if (bytes <= SX_V2_KEEP_BYTES)
        return;
    call->counted = bytes;
    if (atomic_fetch_add_explicit(&h->json_bytes, bytes, memory_order_relaxed) + bytes <=
        h->config.max_json)
        return;
    sx_reply_uncount(call);
    sx_sbuf_free(&call->v2.json);
    sx_fail(&call->err, SX_NO_MEMORY, "no memory for an answer of %zu bytes of JSON", bytes);
    sx_hint(&call->err, "ask for its outputs with \"binary_data\": true");
}

enum MHD_Result sx_reply(struct call *call)
{
    struct sx_v2_call *v = &call->v2;
    if (!call->err.rc && call->request)
        sx_v2_write_infer(v, &call->v2_model, call->request->outputs, &call->err);
    if (!call->err.rc && v->json.failed)
        sx_fail(&call->err, SX_NO_MEMORY, "no memory for the answer");
    if (!call->err.rc)
        count_json(call);
    if (call->err.rc)
        write_error(call, &call->err);
    else if (!call->status)
        call->status = MHD_HTTP_OK;
    size_t json_len = v->json.len;
    struct MHD_Response *response = make_response(call);
    if (!response)
        return MHD_NO;
    add_headers(call, response, json_len);
    enum MHD_Result result = MHD_queue_response(call->connection, (unsigned)call->status, response);
    MHD_destroy_response(response); /* MHD holds its own reference */
    return result;
}
