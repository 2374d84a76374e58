/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_target.c - from options to something that takes requests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <yyjson.h>

#include "base/clock.h"
#include "cli/perf_int.h"
#include "perf/http_client.h"
#include "perf/http_request.h"

#define SAMPLES       16 /* made-up ones; fewer when they are large */
#define SAMPLES_BYTES ((size_t)256 << 20)

enum sx_rc sx_perf_dataset(const struct sx_perf_target_options *o, struct sx_model_info *info,
                           struct sx_dataset *ret, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;
    for (size_t i = 0; i < o->shapes.count && !rc; i++)
        rc = sx_model_info_shape(info, o->shapes.item[i], err);
    if (!rc)
        rc = sx_model_info_fix(info, (int64_t)o->batch, err);
    if (rc)
        return rc;
    bool zero = strcmp(o->input_data, "zero") == 0;
    if (!zero && strcmp(o->input_data, "random") != 0)
        return sx_dataset_load(ret, info, o->input_data, (int64_t)o->batch, err);
    size_t bytes = 1, n = zero ? 1 : SAMPLES;
    for (int i = 0; i < info->n_inputs; i++) {
        size_t one = 0;
        sx_shape_bytes(info->input[i].dtype, info->input[i].dims, info->input[i].rank, &one);
        bytes += one;
    }
    if (n > SAMPLES_BYTES / bytes)
        n = SAMPLES_BYTES / bytes + 1;
    return sx_dataset_generate(ret, info, n, zero, o->seed, err);
}

struct http {
    struct sx_sbuf stats; /* path of the model's statistics */
    struct sx_model_info info;
    struct sx_dataset data;
    struct sx_request_set requests;
};

static void close_http(struct sx_perf_opened *o)
{
    struct http *h = o->owned;
    if (o->target)
        o->target->ops->destroy(o->target);
    sx_request_set_fini(&h->requests);
    sx_dataset_fini(&h->data);
    sx_sbuf_free(&h->stats);
    free(h);
    memset(o, 0, sizeof(*o));
}

/* GET one of the model's pages; the server's own words on failure. */
static enum sx_rc ask(const struct sx_http_addr *server, const char *path, struct sx_sbuf *body,
                      struct sx_err *err)
{
    int status = 0;
    enum sx_rc rc = sx_http_fetch(server, path, NULL, 10 * SX_S, &status, body, err);
    if (rc && err) {
        err->rc = SX_UNAVAILABLE;
        sx_hint(err, "is the server running? -u HOST:PORT says where");
        return SX_UNAVAILABLE;
    }
    if (!rc && status != 200) {
        yyjson_doc *doc = yyjson_read(body->data ? body->data : "", body->len, 0);
        const char *why = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "error"));
        rc = sx_fail(err, status / 100 == 4 ? SX_NOT_FOUND : SX_UNAVAILABLE, "%s%s: HTTP %d%s%s",
                     server->host, path, status, why ? ": " : "", why ? why : "");
        yyjson_doc_free(doc);
    }
    return rc;
}

/* Each connection is a file descriptor. */
static enum sx_rc allow_files(uint32_t slots, struct sx_err *err)
{
    struct rlimit lim;
    rlim_t want = (rlim_t)slots + 64;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur >= want)
        return SX_OK;
    lim.rlim_cur = want < lim.rlim_max ? want : lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_cur >= want)
        return SX_OK;
    sx_fail(err, SX_UNAVAILABLE, "%u connections need more open files than the limit of %llu",
            slots, (unsigned long long)lim.rlim_max);
    sx_hint(err, "lower --max-connections, or raise ulimit -n");
    return SX_UNAVAILABLE;
}

enum sx_rc sx_perf_open_http(const struct sx_perf_target_options *o, struct sx_perf_opened *ret,
                             struct sx_err *err)
{
    struct http *h = calloc(1, sizeof(*h));
    struct sx_sbuf path = {0}, body = {0};
    struct sx_http_addr server;
    if (!h)
        return sx_fail(err, SX_NO_MEMORY, "out of memory");
    *ret = (struct sx_perf_opened){.owned = h, .close = close_http};
    struct sx_request_form form = {.model = o->model,
                                   .version = o->version,
                                   .json = o->json_tensors,
                                   .timeout_us = o->server_timeout_us,
                                   .priority = (int)o->priority};
    sx_request_path(&h->stats, o->model, o->version, "/stats");
    struct sx_http_opts opts = {
        .connections = o->slots, .timeout_ns = o->timeout_ns, .stats = h->stats.data};
    enum sx_rc rc = sx_http_resolve(o->url, &server, err);
    sx_request_path(&path, o->model, o->version, "");
    if (!rc)
        rc = path.failed ? sx_fail(err, SX_NO_MEMORY, "out of memory")
                         : ask(&server, path.data, &body, err);
    if (!rc)
        rc = sx_model_info_parse(&h->info, body.data ? body.data : "", body.len, err);
    if (!rc)
        rc = sx_perf_dataset(o, &h->info, &h->data, err);
    if (!rc)
        rc = sx_request_set_build(&h->requests, &server, &form, &h->info, &h->data, err);
    if (!rc)
        rc = allow_files(o->slots, err);
    if (!rc)
        rc = sx_http_target_create(&server, &opts, h->requests.request, h->requests.n, &ret->target,
                                   err);
    if (!rc) {
        ret->target->batch = (uint32_t)o->batch;
        snprintf(ret->target->model, sizeof(ret->target->model), "%s", o->model);
        snprintf(ret->target->name, sizeof(ret->target->name), "http://%.120s%.120s", server.host,
                 path.data);
    } else {
        close_http(ret);
    }
    sx_sbuf_free(&path);
    sx_sbuf_free(&body);
    return rc;
}
