/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * http_request.h - samples as complete HTTP requests of the Open Inference Protocol.
 */
#ifndef SX_PERF_HTTP_REQUEST_H
#define SX_PERF_HTTP_REQUEST_H

#include "base/sbuf.h"
#include "perf/dataset.h"
#include "perf/http_client.h"

struct sx_request_form {
    const char *model, *version; /* version NULL or "": the server's choice */
    bool json;                   /* tensors as JSON numbers, both ways; else as binary data */
    uint64_t timeout_us;         /* the protocol's timeout parameter; 0: none */
    int priority;                /* 0: none */
};

/* "/v2/models/M[/versions/V]" + tail, with what a path can't hold escaped. */
void sx_request_path(struct sx_sbuf *s, const char *model, const char *version, const char *tail);

struct sx_request_set {
    struct sx_http_request *request;
    size_t n;
    struct sx_sbuf *bytes; /* one for each */
};

/* SX_UNSUPPORTED for element types that JSON can't carry. */
enum sx_rc sx_request_set_build(struct sx_request_set *s, const struct sx_http_addr *server,
                                const struct sx_request_form *form, const struct sx_model_info *m,
                                const struct sx_dataset *d, struct sx_err *err);
void sx_request_set_fini(struct sx_request_set *s);

#endif
