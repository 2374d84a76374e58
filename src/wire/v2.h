/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2.h - the Open Inference Protocol (KServe V2) over HTTP bodies: bytes <-> tensors.
 *
 * Requests.  The body is one counted buffer; binary tensors become views of it, without a copy
 * unless they are misaligned for their type.  JSON tensors are read straight into pooled ones.
 * Responses.  JSON goes into a reused string, binary outputs stay where they are: the answer is a
 * list of parts.  After warm-up none of this allocates.
 *
 * The rules beyond the protocol's text (unknown fields, limits) are in README.md.
 *
 * Threads: a call has one owner; functions share nothing.
 */
#ifndef SX_WIRE_V2_H
#define SX_WIRE_V2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/sbuf.h"
#include "engine/engine.h"
#include "serve/config.h"
#include "serve/server.h"
#include "tensor/tensor.h"

/* A model as the wire sees it; all borrowed. */
struct sx_v2_model {
    const char *name;
    int64_t version;
    const struct sx_port *inputs, *outputs;
    size_t n_inputs, n_outputs;
    bool batched; /* the first dimension is the batch */
};

/* What a request asked for beyond its inputs, and its answer.  Zero-initialise, reuse, fini. */
struct sx_v2_call {
    /* from the request */
    bool has_id;
    struct sx_sbuf id;   /* a JSON string as the client wrote it, without quotes */
    uint64_t timeout_ns; /* 0: not said */
    uint32_t priority;
    struct sx_v2_want {
        uint32_t port;
        signed char binary; /* 0 or 1; -1 while reading: not said */
    } *wants;               /* the outputs to send, in order */
    size_t n_wants, cap_wants;

    /* the answer */
    struct sx_sbuf json;
    struct iovec *parts; /* [0] is the JSON */
    size_t n_parts, cap_parts;
    bool binary;        /* some output is binary: say how long the JSON is */
    size_t total_bytes; /* of all parts */
};

/* A rare large JSON answer does not stay with a call for ever. */
#define SX_V2_KEEP_BYTES (32u << 10)

void sx_v2_call_fini(struct sx_v2_call *call);
/* Forget the last request, keep the memory, up to SX_V2_KEEP_BYTES of JSON. */
void sx_v2_call_clear(struct sx_v2_call *call);

/* The body of an infer request. */
struct sx_v2_body {
    struct sx_buffer *buffer; /* inputs take references of their own */
    const char *data;         /* inside the buffer */
    size_t len;
    int64_t json_len; /* Inference-Header-Content-Length; -1: not sent, all is JSON; 0: raw */
};

/* Read an infer request into `call` and `inputs` (one per port, zeroed before; filled ones are the
 * caller's to release, also after failure).  Types, names, byte counts are checked here; shapes
 * against the model's by sx_server_infer.  SX_INVALID or SX_UNSUPPORTED with the tensor's name. */
enum sx_rc sx_v2_read_infer(struct sx_v2_call *call, const struct sx_v2_model *model,
                            struct sx_pool *pool, const struct sx_v2_body *body,
                            struct sx_tensor *inputs, struct sx_err *err);

/* Write the answer: call->parts point into call->json and into `outputs` (one per port), which
 * must stay until the parts are sent. */
enum sx_rc sx_v2_write_infer(struct sx_v2_call *call, const struct sx_v2_model *model,
                             const struct sx_tensor *outputs, struct sx_err *err);

/* --- the other documents; each appends to `s` ----------------------------------------------------
 */

/* {"error": message} with the hint, if any */
void sx_v2_put_error(struct sx_sbuf *s, const struct sx_err *err);
void sx_v2_put_server(struct sx_sbuf *s);
void sx_v2_put_model(struct sx_sbuf *s, const struct sx_v2_model *model, const int64_t *versions,
                     size_t n_versions);
/* How the models share the machine; see v2_plan.c. */
void sx_v2_put_plan(struct sx_sbuf *s, const struct sx_server_plan *plan);
/* Triton's ModelConfig as JSON; `config` is complete. */
void sx_v2_put_config(struct sx_sbuf *s, const struct sx_config *config);
/* One element of "model_stats". */
void sx_v2_put_stats(struct sx_sbuf *s, const char *name, int64_t version,
                     const struct sx_model_stats *stats);
void sx_v2_put_index(struct sx_sbuf *s, const struct sx_model_entry *entries, size_t n,
                     bool ready_only);
/* Does the body of a repository index request ask for ready models only? */
enum sx_rc sx_v2_read_index(const char *body, size_t len, bool *ret_ready_only, struct sx_err *err);

#endif
