/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_call.c - one HTTP request: its headers, its body, its inference.  States: http_int.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "front/http_int.h"

#define MAX_SMALL_BODY (1u << 20)   /* of requests that are not infer */
#define MAX_DISCARD    (256u << 20) /* of a body that is refused: read so that the client listens */
#define FIRST_CHUNK    (64u << 10)
#define FIRST_ROOM     (1u << 20)   /* a body up to this size is allocated once */
#define LARGE_BODY     (256u << 10) /* comes in pieces that are worth waking up for, */
#define LARGE_PIECE    (128u << 10) /* such as this */
#define PRECHECK_BODY  (64u << 10)  /* smaller ones cost no more than asking */

/* --- life ---------------------------------------------------------------------------- */

static struct call *take_call(struct sx_httpd *h)
{
    struct call *call = NULL;
    pthread_mutex_lock(&h->lock);
    if (!sx_list_empty(&h->free_calls)) {
        call = SX_CONTAINER_OF(h->free_calls.next, struct call, link);
        sx_list_remove(&call->link);
    }
    pthread_mutex_unlock(&h->lock);
    if (!call) {
        call = calloc(1, sizeof(*call));
        if (!call)
            return NULL;
        call->httpd = h;
        sx_list_init(&call->link);
    }
    atomic_fetch_add_explicit(&h->active, 1, memory_order_relaxed);
    call->refs = 1;
    return call;
}

void sx_call_free(struct call *call)
{
    sx_v2_call_fini(&call->v2);
    free(call);
}

void sx_call_unref(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    if (--call->refs > 0)
        return;
    if (call->request) {
        sx_watch_settle(call);
        sx_request_release(call->request);
        call->request = NULL;
    }
    sx_model_unref(&call->model);
    sx_buffer_unref(&call->body);
    sx_reply_uncount(call);
    sx_v2_call_clear(&call->v2);
    call->connection = NULL;
    pthread_mutex_lock(&h->lock);
    sx_list_insert(h->free_calls.next, &call->link); /* newest first: still in the caches */
    pthread_mutex_unlock(&h->lock);
    atomic_fetch_sub_explicit(&h->active, 1, memory_order_release);
}

/* --- headers ------------------------------------------------------------------------- */

static const char *header(struct call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

/* Digits only; -1 on anything else. */
static int64_t parse_length(const char *text)
{
    int64_t v = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || v > INT64_MAX / 10 - 1)
            return -1;
        v = v * 10 + (*text - '0');
    }
    return v;
}

static size_t body_limit(const struct call *call)
{
    size_t max = call->httpd->config.max_body;
    return call->target.route == ROUTE_INFER || max < MAX_SMALL_BODY ? max : MAX_SMALL_BODY;
}

static enum sx_rc fail_too_large(struct call *call)
{
    if (call->target.route != ROUTE_INFER)
        return sx_fail(&call->err, SX_TOO_LARGE, "the body is larger than %zu bytes",
                       body_limit(call));
    sx_fail(&call->err, SX_TOO_LARGE, "request JSON and tensors exceed the limit of %zu bytes",
            body_limit(call));
    sx_hint(&call->err, "the server's option --http-max-input-size sets it");
    return SX_TOO_LARGE;
}

static enum sx_rc fail_no_memory(struct call *call)
{
    sx_fail(&call->err, SX_NO_MEMORY, "no memory for the request");
    sx_hint(&call->err, "send it again later, or fewer and smaller ones at a time");
    return SX_NO_MEMORY;
}

static enum sx_rc read_headers(struct call *call)
{
    const char *value = header(call, MHD_HTTP_HEADER_CONTENT_LENGTH);
    /* a transfer coding has the last word on where the body ends (RFC 9112, 6.3) */
    if (value && !header(call, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
        int64_t n = parse_length(value); /* MHD has checked it */
        call->has_length = n >= 0;
        call->content_length = n >= 0 ? (size_t)n : 0;
        if (call->content_length > body_limit(call))
            return fail_too_large(call);
    }
    if (call->target.route != ROUTE_INFER)
        return SX_OK;
    /* before the lengths, which would be those of the compressed body */
    value = header(call, MHD_HTTP_HEADER_CONTENT_ENCODING);
    if (value && *value && strcmp(value, "identity") != 0)
        return sx_fail(&call->err, SX_UNSUPPORTED,
                       "Content-Encoding '%.40s' is not supported, send the body as it is", value);
    value = header(call, "Inference-Header-Content-Length");
    if (value) {
        call->json_len = parse_length(value);
        if (call->json_len < 0)
            return sx_fail(&call->err, SX_INVALID,
                           "Inference-Header-Content-Length is '%.40s', expected a number", value);
        if (call->has_length && (uint64_t)call->json_len > call->content_length)
            return sx_fail(&call->err, SX_INVALID,
                           "Inference-Header-Content-Length is %lld, but the body has %zu bytes",
                           (long long)call->json_len, call->content_length);
    }
    return SX_OK;
}

static enum sx_rc find_model(struct call *call)
{
    struct target *t = &call->target;
    struct sx_v2_model *v = &call->v2_model;
    enum sx_rc rc = sx_server_find(call->httpd->config.server, t->model, t->model_len, t->version,
                                   &call->model, &call->err);
    if (rc) {
        if (t->route == ROUTE_MODEL_READY)
            call->status = 400; /* as Triton */
        return rc;
    }
    v->name = sx_model_name(call->model);
    v->version = sx_model_version(call->model);
    v->n_inputs = sx_model_inputs(call->model, &v->inputs);
    v->n_outputs = sx_model_outputs(call->model, &v->outputs);
    v->batched = sx_model_config(call->model)->max_batch_size > 0;
    return SX_OK;
}

struct call *sx_call_begin(struct sx_loop *loop, struct MHD_Connection *connection, const char *url,
                           const char *method)
{
    struct call *call = take_call(loop->httpd);
    if (!call)
        return NULL;
    call->loop = loop;
    call->connection = connection;
    call->state = CALL_BODY;
    call->status = 0;
    call->err.rc = SX_OK;
    call->body_at = call->body_len = call->discarded = call->received = call->low_mark = 0;
    call->has_length = false;
    call->content_length = 0;
    call->json_len = -1;
    call->begun_ns = sx_now();
    enum sx_rc rc = sx_route(method, url, &call->target);
    if (rc == SX_NOT_FOUND) {
        sx_fail(&call->err, rc, "Not Found: there is no path '%.100s'", url);
        sx_hint(&call->err, "paths begin with /v2, such as /v2/models/NAME/infer");
    }
    if (rc == SX_UNSUPPORTED) {
        sx_fail(&call->err, rc, "Method Not Allowed: '%.100s' takes %s, not %.20s", url,
                call->target.verb, method);
        call->status = MHD_HTTP_METHOD_NOT_ALLOWED;
    }
    if (!rc)
        rc = read_headers(call);
    if (!rc && call->target.model)
        rc = find_model(call);
    call->discard = rc != SX_OK;
    return call;
}

/* --- body ---------------------------------------------------------------------------- */

/* Room for the whole body when its length is known, but no more than a client has earned by what
 * it has sent: lengths are free to promise.  Else double. */
static bool reserve_body(struct call *call, size_t size)
{
    struct sx_pool *pool = sx_server_pool(call->httpd->config.server);
    size_t need = call->body_len + size;
    if (call->body && call->body_at + need <= call->body->size)
        return true;
    if (call->has_length && call->content_length > need) {
        size_t room = need < FIRST_ROOM / 4 ? FIRST_ROOM : 4 * need;
        need = call->content_length < room ? call->content_length : room;
    } else if (!call->has_length) {
        need = need < FIRST_CHUNK ? FIRST_CHUNK : 2 * need;
    }
    /* the byte after the JSON begins an aligned line */
    call->body_at = call->json_len > 0
                        ? (SX_BUF_ALIGN - (size_t)call->json_len % SX_BUF_ALIGN) % SX_BUF_ALIGN
                        : 0;
    struct sx_buffer *bigger = sx_pool_get(pool, call->body_at + need);
    if (!bigger)
        return false;
    if (call->body)
        memcpy(bigger->data + call->body_at, call->body->data + call->body_at, call->body_len);
    sx_buffer_unref(&call->body);
    call->body = bigger;
    return true;
}

/* The JSON before binary tensors has come with the first piece: may the rest stay away?  Not when
 * the request sets a deadline or rank of its own, which only the parser can tell. */
static void precheck(struct call *call, const char *data, size_t size)
{
    if (!data || call->json_len <= 0 || (size_t)call->json_len > size ||
        call->content_length < PRECHECK_BODY ||
        memmem(data, (size_t)call->json_len, "\"timeout\"", 9) ||
        memmem(data, (size_t)call->json_len, "\"priority\"", 10))
        return;
    call->discard = sx_server_precheck(call->httpd->config.server, call->model, call->begun_ns,
                                       sx_way_ns(&call->loop->way, call->begun_ns), &call->err);
}

/* Would a large piece take more than a quarter of the silence that is allowed, as far as one can
 * tell (from 4 KiB at least)?  While the socket waits for it, its connection looks silent. */
static bool is_slow(const struct call *call)
{
    double patience = call->httpd->config.idle_timeout_s * (double)SX_S;
    double elapsed = (double)(sx_now() - call->begun_ns) + patience / 128;
    return (double)call->received * patience / 4 < LARGE_PIECE * elapsed;
}

/* A client on the same machine or a fast network hands a large body over in many small pieces, and
 * to wake up for each costs more than to copy it.  The socket reports the next one when this much
 * is there, or all that is left. */
static void set_low_mark(struct call *call)
{
    if (!call->has_length || call->content_length < LARGE_BODY)
        return;
    size_t left = call->content_length - call->received;
    size_t mark = is_slow(call) ? 0 : left < LARGE_PIECE ? left : LARGE_PIECE;
    if (mark == call->low_mark)
        return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int bytes = mark ? (int)mark : 1; /* the next request may be small */
    if (info && !setsockopt(info->connect_fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes))
        call->low_mark = mark;
}

bool sx_call_body(struct call *call, const char *data, size_t size)
{
    call->received += size;
    set_low_mark(call);
    if (!call->discard && !call->body_len && call->target.route == ROUTE_INFER)
        precheck(call, data, size);
    if (!call->discard && call->body_len + size > body_limit(call)) {
        fail_too_large(call);
        call->discard = true;
    }
    if (!call->discard && !reserve_body(call, size)) {
        fail_no_memory(call);
        call->discard = true;
    }
    if (call->discard) {
        sx_buffer_unref(&call->body);
        call->body_len = 0;
        call->discarded += size;
        return call->discarded <= MAX_DISCARD;
    }
    memcpy(call->body->data + call->body_at + call->body_len, data, size);
    call->body_len += size;
    return true;
}

/* --- inference ----------------------------------------------------------------------- */

/* The server is done with the request; any thread.  After the resume the call may be gone. */
static void done(struct sx_request *request)
{
    struct call *call = request->user;
    struct sx_httpd *h = call->httpd;
    struct MHD_Connection *connection = call->connection;
    sx_watch_remove(call);
    MHD_resume_connection(connection);
    atomic_fetch_sub_explicit(&h->suspended, 1, memory_order_release);
}

static enum sx_rc read_request(struct call *call)
{
    struct sx_pool *pool = sx_server_pool(call->httpd->config.server);
    if (!call->body && !reserve_body(call, 0))
        return fail_no_memory(call);
    enum sx_rc rc = sx_request_create(call->model, &call->request);
    if (rc) {
        call->request = NULL;
        return fail_no_memory(call);
    }
    struct sx_request *r = call->request;
    const struct sx_v2_body body = {.buffer = call->body,
                                    .data = (const char *)call->body->data + call->body_at,
                                    .len = call->body_len,
                                    .json_len = call->json_len};
    rc = sx_v2_read_infer(&call->v2, &call->v2_model, pool, &body, r->inputs, &call->err);
    /* views keep the buffer; without any, it can go */
    sx_buffer_unref(&call->body);
    if (rc)
        return rc;
    r->timeout_ns = call->v2.timeout_ns;
    r->received_ns = call->begun_ns;
    r->way_ns = sx_way_ns(&call->loop->way, call->begun_ns);
    r->priority = call->v2.priority;
    r->done = done;
    r->user = call;
    return SX_OK;
}

static enum MHD_Result infer(struct call *call)
{
    struct sx_httpd *h = call->httpd;
    if (read_request(call)) {
        call->state = CALL_DONE;
        return sx_reply(call);
    }
    /* Suspended first: `done` may come before sx_server_infer returns. */
    struct MHD_Connection *connection = call->connection;
    atomic_fetch_add_explicit(&h->suspended, 1, memory_order_relaxed);
    MHD_suspend_connection(connection);
    sx_watch_add(call);
    struct sx_err err = {0};
    if (sx_server_infer(h->config.server, call->request, &err)) {
        call->err = err; /* still ours */
        sx_watch_remove(call);
        MHD_resume_connection(connection);
        atomic_fetch_sub_explicit(&h->suspended, 1, memory_order_release);
    }
    return MHD_YES;
}

/* The answer is about to be sent. */
static void note_way(struct call *call)
{
    const struct sx_request *r = call->request;
    if (r && r->end_ns) {
        uint64_t now = sx_now();
        sx_way_note(&call->loop->way, now - r->end_ns, now);
    }
}

enum MHD_Result sx_call_step(struct call *call)
{
    if (call->state == CALL_DONE || call->err.rc) {
        note_way(call);
        if (!call->err.rc && call->request)
            call->err = call->request->err, call->err.rc = call->request->rc;
        return sx_reply(call);
    }
    if (call->target.route == ROUTE_INFER)
        return infer(call);
    sx_route_document(call);
    call->state = CALL_DONE;
    return sx_reply(call);
}
