/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.c - which URL means what, and the documents behind those that are not infer.
 */
#include <stdlib.h>
#include <string.h>

#include "front/http_int.h"

/* The next path segment; false at the end.  `*path` is on a '/' or at the end. */
static bool segment(const char **path, const char **ret, size_t *ret_len)
{
    if (**path != '/')
        return false;
    *ret = ++*path;
    *path += strcspn(*path, "/");
    *ret_len = (size_t)(*path - *ret);
    return true;
}

static bool is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(s, word, len) == 0;
}

static bool parse_version(const char *s, size_t len, int64_t *ret_version)
{
    int64_t v = 0;
    if (len == 0 || len > 18)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
    }
    *ret_version = v;
    return v > 0;
}

/* After /v2/models */
static enum sx_rc route_model(const char *path, struct target *t)
{
    const char *s;
    size_t len;
    if (!segment(&path, &t->model, &t->model_len) || t->model_len == 0)
        return SX_NOT_FOUND;
    t->verb = "GET";
    if (is(t->model, t->model_len, "stats") && *path == '\0') {
        t->route = ROUTE_ALL_STATS;
        t->model = NULL;
        return SX_OK;
    }
    bool more = segment(&path, &s, &len);
    if (more && is(s, len, "versions")) {
        if (!segment(&path, &s, &len) || !parse_version(s, len, &t->version))
            return SX_NOT_FOUND;
        more = segment(&path, &s, &len);
    }
    if (*path)
        return SX_NOT_FOUND;
    if (!more) {
        t->route = ROUTE_MODEL;
    } else if (is(s, len, "infer")) {
        t->route = ROUTE_INFER;
        t->verb = "POST";
    } else if (is(s, len, "ready")) {
        t->route = ROUTE_MODEL_READY;
    } else if (is(s, len, "config")) {
        t->route = ROUTE_MODEL_CONFIG;
    } else if (is(s, len, "stats")) {
        t->route = ROUTE_MODEL_STATS;
    } else {
        return SX_NOT_FOUND;
    }
    return SX_OK;
}

/* NAME/load or NAME/unload, after /v2/repository/models */
static bool is_repository_control(const char *path)
{
    const char *s;
    size_t len;
    return segment(&path, &s, &len) && len > 0 && segment(&path, &s, &len) && *path == '\0' &&
           (is(s, len, "load") || is(s, len, "unload"));
}

enum sx_rc sx_route(const char *method, const char *url, struct target *ret_target)
{
    static const struct {
        const char *path, *verb;
        enum route route;
    } fixed[] = {
        {"", "GET", ROUTE_SERVER},
        {"/", "GET", ROUTE_SERVER},
        {"/health/live", "GET", ROUTE_LIVE},
        {"/health/ready", "GET", ROUTE_READY},
        {"/repository/index", "POST", ROUTE_INDEX},
        {"/plan", "GET", ROUTE_PLAN},
    };
    struct target t = {0};
    *ret_target = t;
    if (strncmp(url, "/v2", 3) != 0)
        return SX_NOT_FOUND;
    url += 3;
    if (strncmp(url, "/models", 7) == 0) {
        enum sx_rc rc = route_model(url + 7, &t);
        if (rc)
            return rc;
    } else if (strncmp(url, "/repository/models", 18) == 0) {
        if (!is_repository_control(url + 18))
            return SX_NOT_FOUND;
        t.route = ROUTE_REPOSITORY_CONTROL;
        t.verb = "POST";
    } else {
        size_t i = 0, n = sizeof(fixed) / sizeof(*fixed);
        while (i < n && strcmp(fixed[i].path, url) != 0)
            i++;
        if (i == n)
            return SX_NOT_FOUND;
        t.route = fixed[i].route;
        t.verb = fixed[i].verb;
    }
    if (strcmp(method, "HEAD") == 0) /* MHD leaves the body out */
        method = "GET";
    bool right = strcmp(method, t.verb) == 0;
    *ret_target = right ? t : (struct target){.verb = t.verb};
    return right ? SX_OK : SX_UNSUPPORTED;
}

/* --- documents ----------------------------------------------------------------------- */

static enum sx_rc all_models(struct call *call, struct sx_model ***ret_models, size_t *ret_n)
{
    enum sx_rc rc = sx_server_models(call->httpd->config.server, ret_models, ret_n);
    return rc ? sx_fail(&call->err, rc, "out of memory") : SX_OK;
}

static void free_models(struct sx_model **models, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sx_model_unref(&models[i]);
    free(models);
}

static void put_model(struct call *call)
{
    struct sx_model **models;
    size_t n, n_versions = 0;
    if (all_models(call, &models, &n))
        return;
    int64_t *versions = malloc((n + 1) * sizeof(*versions));
    for (size_t i = 0; versions && i < n; i++)
        if (strcmp(sx_model_name(models[i]), call->v2_model.name) == 0)
            versions[n_versions++] = sx_model_version(models[i]);
    if (versions)
        sx_v2_put_model(&call->v2.json, &call->v2_model, versions, n_versions);
    else
        sx_fail(&call->err, SX_NO_MEMORY, "out of memory");
    free(versions);
    free_models(models, n);
}

static void put_stats(struct call *call, const char *name, int64_t version)
{
    struct sx_sbuf *s = &call->v2.json;
    struct sx_model **models;
    size_t n;
    bool any = false;
    if (all_models(call, &models, &n))
        return;
    struct sx_model_stats *stats = malloc(sizeof(*stats));
    sx_sbuf_puts(s, "{\"model_stats\":[");
    for (size_t i = 0; stats && i < n; i++) {
        if (name && (strcmp(sx_model_name(models[i]), name) != 0 ||
                     (version && version != sx_model_version(models[i]))))
            continue;
        sx_model_get_stats(models[i], stats);
        if (any)
            sx_sbuf_putc(s, ',');
        any = true;
        sx_v2_put_stats(s, sx_model_name(models[i]), sx_model_version(models[i]), stats);
    }
    sx_sbuf_puts(s, "]}");
    if (!stats)
        sx_fail(&call->err, SX_NO_MEMORY, "out of memory");
    free(stats);
    free_models(models, n);
}

static void put_index(struct call *call)
{
    struct sx_model_entry *entries;
    size_t n;
    bool ready_only;
    const char *body = call->body ? (const char *)call->body->data + call->body_at : "";
    if (sx_v2_read_index(body, call->body_len, &ready_only, &call->err))
        return;
    enum sx_rc rc = sx_server_index(call->httpd->config.server, &entries, &n);
    if (rc) {
        sx_fail(&call->err, rc, "out of memory");
        return;
    }
    sx_v2_put_index(&call->v2.json, entries, n, ready_only);
    free(entries);
}

static void put_plan(struct call *call)
{
    struct sx_server_plan plan;
    enum sx_rc rc = sx_server_get_plan(call->httpd->config.server, &plan);
    if (rc) {
        sx_fail(&call->err, rc, "out of memory");
        return;
    }
    sx_v2_put_plan(&call->v2.json, &plan);
    sx_server_plan_fini(&plan);
}

static void put_model_ready(struct call *call)
{
    struct sx_sbuf *s = &call->v2.json;
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, call->v2_model.name);
    sx_sbuf_puts(s, ",\"ready\":true}");
}

void sx_route_document(struct call *call)
{
    struct sx_sbuf *s = &call->v2.json;
    switch (call->target.route) {
    case ROUTE_LIVE:
        sx_sbuf_puts(s, "{\"live\":true}");
        break;
    case ROUTE_READY:
        if (sx_server_ready(call->httpd->config.server)) {
            sx_sbuf_puts(s, "{\"ready\":true}");
        } else {
            sx_sbuf_puts(s, "{\"ready\":false,\"error\":\"the server is not ready\"}");
            call->status = 400; /* as Triton */
        }
        break;
    case ROUTE_SERVER:
        sx_v2_put_server(s);
        break;
    case ROUTE_MODEL:
        put_model(call);
        break;
    case ROUTE_MODEL_READY:
        put_model_ready(call);
        break;
    case ROUTE_MODEL_CONFIG:
        sx_v2_put_config(s, sx_model_config(call->model));
        break;
    case ROUTE_MODEL_STATS:
        put_stats(call, call->v2_model.name, call->target.version);
        break;
    case ROUTE_ALL_STATS:
        put_stats(call, NULL, 0);
        break;
    case ROUTE_INDEX:
        put_index(call);
        break;
    case ROUTE_REPOSITORY_CONTROL:
        sx_fail(&call->err, SX_UNSUPPORTED, "models cannot be loaded or unloaded by request");
        sx_hint(&call->err, "they are loaded when the server starts: change the repository and "
                            "start it again");
        break;
    case ROUTE_PLAN:
        put_plan(call);
        break;
    case ROUTE_ERROR:
    case ROUTE_INFER:
        break;
    }
}
