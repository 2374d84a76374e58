/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/file.h"
#include "perf/report.h"

#define REPORT_MAX ((size_t)256 << 20)

static const char *const kind_key[] = {
#define KIND_KEY(code, key, head, text) key,
    SX_LOAD_KIND_TABLE(KIND_KEY)
#undef KIND_KEY
};

/* The plain numbers of a point, so that writing and reading can't differ. */
#define POINT_NUMBERS(X)                                                                           \
    X(load, "load")                                                                                \
    X(seconds, "seconds")                                                                          \
    X(throughput, "throughput")                                                                    \
    X(goodput, "goodput")                                                                          \
    X(within, "within_objective")                                                                  \
    X(mean_us, "mean_us")                                                                          \
    X(stddev_us, "stddev_us")                                                                      \
    X(min_us, "min_us")                                                                            \
    X(max_us, "max_us")                                                                            \
    X(p50_us, "p50_us")                                                                            \
    X(p90_us, "p90_us")                                                                            \
    X(p95_us, "p95_us")                                                                            \
    X(p99_us, "p99_us")                                                                            \
    X(p999_us, "p99.9_us")                                                                         \
    X(objective_us, "objective_percentile_us")                                                     \
    X(late_percent, "late_percent")                                                                \
    X(lag_p99_us, "lag_p99_us")                                                                    \
    X(cpu, "client_cpu")

/* In an object of their own, which is there if the server says them. */
#define SERVER_NUMBERS(X)                                                                          \
    X(server_requests, "requests")                                                                 \
    X(server_samples, "inferences")                                                                \
    X(server_runs, "runs")                                                                         \
    X(server_queue_us, "queue_us")                                                                 \
    X(server_input_us, "compute_input_us")                                                         \
    X(server_infer_us, "compute_infer_us")                                                         \
    X(server_output_us, "compute_output_us")

#define SERIES_TEXTS(X)                                                                            \
    X(name)                                                                                        \
    X(model)                                                                                       \
    X(target)                                                                                      \
    X(load)                                                                                        \
    X(machine)                                                                                     \
    X(command)                                                                                     \
    X(when)

/* --- writing ------------------------------------------------------------------------------------
 */

static void add_point(struct sx_sbuf *o, const struct sx_point *p)
{
    sx_sbuf_printf(o, "{\"kind\":\"%s\",\"inferences_per_request\":%u", kind_key[p->kind],
                   p->per_query);
#define WRITE(field, key) sx_sbuf_printf(o, ",\"" key "\":%.10g", p->field);
    POINT_NUMBERS(WRITE)
#undef WRITE
    sx_sbuf_printf(o, ",\"met\":%s,\"stable\":%s,\"windows\":%d,\"requests\":{",
                   p->met ? "true" : "false", p->stable ? "true" : "false", p->windows);
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        sx_sbuf_printf(o, "%s\"%s\":%llu", i ? "," : "", sx_outcome_key((enum sx_outcome)i),
                       (unsigned long long)p->outcome[i]);
    if (p->server_requests > 0) {
        const char *comma = "},\"server\":{";
#define WRITE(field, key)                                                                          \
    sx_sbuf_printf(o, "%s\"" key "\":%.10g", comma, p->field);                                     \
    comma = ",";
        SERVER_NUMBERS(WRITE)
#undef WRITE
    }
    sx_sbuf_puts(o, "},\"cdf\":[");
    for (size_t i = 0; i < p->n_cdf; i++)
        sx_sbuf_printf(o, "%s[%.6g,%.6g]", i ? "," : "", (double)p->cdf[i].us,
                       (double)p->cdf[i].share);
    sx_sbuf_puts(o, "],\"course\":[");
    for (size_t i = 0; i < p->n_moments; i++) {
        const struct sx_moment *m = &p->moments[i];
        sx_sbuf_printf(o, "%s[%.6g,%.6g,%.6g,%.6g,%.6g]", i ? "," : "", (double)m->at,
                       (double)m->rate, (double)m->failed, (double)m->p50_us, (double)m->p99_us);
    }
    sx_sbuf_puts(o, "]}");
}

static void add_series(struct sx_sbuf *o, const struct sx_series *s)
{
    const char *comma = "{";
#define WRITE(field)                                                                               \
    sx_sbuf_printf(o, "%s\"" #field "\":", comma);                                                 \
    sx_sbuf_json(o, s->field);                                                                     \
    comma = ",";
    SERIES_TEXTS(WRITE)
#undef WRITE
    const struct sx_found *f = &s->found;
    if (f->done) {
        sx_sbuf_puts(o, ",\"found\":{\"what\":");
        sx_sbuf_json(o, f->what);
        sx_sbuf_printf(o, ",\"kind\":\"%s\",\"value\":", kind_key[f->kind]);
        sx_sbuf_printf(o, f->none ? "null" : "%.10g", f->value);
        sx_sbuf_printf(o, ",\"above\":%.10g,\"trials\":%d,\"client_bound\":%s}", f->above,
                       f->trials, f->client_bound ? "true" : "false");
    }
    const struct sx_verdict *v = &s->verdict;
    if (v->done) {
        sx_sbuf_puts(o, ",\"mlperf\":{\"scenario\":");
        sx_sbuf_json(o, v->scenario);
        sx_sbuf_puts(o, ",\"metric\":");
        sx_sbuf_json(o, v->metric);
        sx_sbuf_printf(o, ",\"value\":%.10g,\"unit\":", v->value);
        sx_sbuf_json(o, v->unit);
        sx_sbuf_printf(o, ",\"valid\":%s,\"rules\":", v->valid ? "true" : "false");
        sx_sbuf_json(o, v->rules);
        sx_sbuf_puts(o, ",\"reasons\":");
        sx_sbuf_json(o, v->reasons);
        sx_sbuf_putc(o, '}');
    }
    sx_sbuf_puts(o, ",\"messages\":{");
    comma = "";
    for (int i = 0; i < SX_OUTCOME_COUNT; i++) {
        if (!s->example[i][0])
            continue;
        sx_sbuf_printf(o, "%s\"%s\":", comma, sx_outcome_key((enum sx_outcome)i));
        sx_sbuf_json(o, s->example[i]);
        comma = ",";
    }
    sx_sbuf_puts(o, "},\"points\":[");
    for (size_t i = 0; i < s->n_points; i++) {
        sx_sbuf_puts(o, i ? ",\n  " : "\n  ");
        add_point(o, &s->points[i]);
    }
    sx_sbuf_puts(o, "]}");
}

void sx_report_json(struct sx_sbuf *o, const struct sx_report *r)
{
    sx_sbuf_printf(o, "{\"staronnx_perf\":1,\"version\":\"%s\",\"title\":", SX_VERSION);
    sx_sbuf_json(o, r->title);
    sx_sbuf_printf(o, ",\"objective_ms\":%.10g,\"percentile\":%.10g,\"series\":[", r->objective_ms,
                   r->percentile);
    for (size_t i = 0; i < r->n_series; i++) {
        sx_sbuf_puts(o, i ? ",\n " : "\n ");
        add_series(o, &r->series[i]);
    }
    sx_sbuf_puts(o, "]}\n");
}

/* --- reading ------------------------------------------------------------------------------------
 */

static void get_text(char *to, size_t size, yyjson_val *obj, const char *key)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    snprintf(to, size, "%s", yyjson_is_str(v) ? yyjson_get_str(v) : "");
}

static double get_number(yyjson_val *obj, const char *key)
{
    return yyjson_get_num(yyjson_obj_get(obj, key));
}

static enum sx_load_kind get_kind(yyjson_val *obj)
{
    const char *key = yyjson_get_str(yyjson_obj_get(obj, "kind"));
    for (int i = 0; key && i < SX_LOAD_KIND_COUNT; i++) {
        if (strcmp(key, kind_key[i]) == 0)
            return (enum sx_load_kind)i;
    }
    return SX_LOAD_CONCURRENCY;
}

static float at(yyjson_val *arr, size_t i)
{
    return (float)yyjson_get_num(yyjson_arr_get(arr, i));
}

static enum sx_rc read_point(struct sx_point *p, yyjson_val *v)
{
    memset(p, 0, sizeof(*p));
    p->kind = get_kind(v);
    p->per_query = (uint32_t)yyjson_get_uint(yyjson_obj_get(v, "inferences_per_request"));
#define READ(field, key) p->field = get_number(v, key);
    POINT_NUMBERS(READ)
#undef READ
    yyjson_val *server = yyjson_obj_get(v, "server");
#define READ(field, key) p->field = get_number(server, key);
    SERVER_NUMBERS(READ)
#undef READ
    p->met = yyjson_get_bool(yyjson_obj_get(v, "met"));
    p->stable = yyjson_get_bool(yyjson_obj_get(v, "stable"));
    p->windows = yyjson_get_int(yyjson_obj_get(v, "windows"));
    yyjson_val *requests = yyjson_obj_get(v, "requests"), *x;
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        p->outcome[i] =
            yyjson_get_uint(yyjson_obj_get(requests, sx_outcome_key((enum sx_outcome)i)));
    size_t i, n;
    yyjson_val *cdf = yyjson_obj_get(v, "cdf"), *course = yyjson_obj_get(v, "course");
    yyjson_arr_foreach(cdf, i, n, x)
    {
        if (p->n_cdf < SX_CDF_MAX)
            p->cdf[p->n_cdf++] = (struct sx_cdf_step){.us = at(x, 0), .share = at(x, 1)};
    }
    if (yyjson_arr_size(course) == 0)
        return SX_OK;
    p->moments = calloc(yyjson_arr_size(course), sizeof(*p->moments));
    if (!p->moments)
        return SX_NO_MEMORY;
    yyjson_arr_foreach(course, i, n, x)
    {
        p->moments[p->n_moments++] =
            (struct sx_moment){at(x, 0), at(x, 1), at(x, 2), at(x, 3), at(x, 4)};
    }
    return SX_OK;
}

static enum sx_rc read_series(struct sx_report *r, yyjson_val *v, const char *name)
{
    struct sx_series *s = sx_report_series(r, "");
    if (!s)
        return SX_NO_MEMORY;
#define READ(field) get_text(s->field, sizeof(s->field), v, #field);
    SERIES_TEXTS(READ)
#undef READ
    if (name)
        snprintf(s->name, sizeof(s->name), "%s", name);
    yyjson_val *f = yyjson_obj_get(v, "found"), *m = yyjson_obj_get(v, "mlperf"), *x;
    if (f) {
        s->found = (struct sx_found){
            .done = true,
            .none = yyjson_is_null(yyjson_obj_get(f, "value")),
            .client_bound = yyjson_get_bool(yyjson_obj_get(f, "client_bound")),
            .kind = get_kind(f),
            .value = get_number(f, "value"),
            .above = get_number(f, "above"),
            .trials = yyjson_get_int(yyjson_obj_get(f, "trials")),
        };
        get_text(s->found.what, sizeof(s->found.what), f, "what");
    }
    if (m) {
        s->verdict.done = true;
        s->verdict.valid = yyjson_get_bool(yyjson_obj_get(m, "valid"));
        s->verdict.value = get_number(m, "value");
        get_text(s->verdict.scenario, sizeof(s->verdict.scenario), m, "scenario");
        get_text(s->verdict.metric, sizeof(s->verdict.metric), m, "metric");
        get_text(s->verdict.unit, sizeof(s->verdict.unit), m, "unit");
        get_text(s->verdict.rules, sizeof(s->verdict.rules), m, "rules");
        get_text(s->verdict.reasons, sizeof(s->verdict.reasons), m, "reasons");
    }
    yyjson_val *messages = yyjson_obj_get(v, "messages");
    for (int i = 0; i < SX_OUTCOME_COUNT; i++)
        get_text(s->example[i], sizeof(s->example[i]), messages,
                 sx_outcome_key((enum sx_outcome)i));
    size_t i, n;
    yyjson_val *points = yyjson_obj_get(v, "points");
    yyjson_arr_foreach(points, i, n, x)
    {
        struct sx_point p;
        enum sx_rc rc = read_point(&p, x);
        if (!rc)
            rc = sx_series_add(s, &p);
        if (rc) {
            free(p.moments);
            return rc;
        }
    }
    return SX_OK;
}

enum sx_rc sx_report_read(struct sx_report *r, const char *json, size_t len, const char *name,
                          struct sx_err *err)
{
    yyjson_read_err why;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json, len, 0, NULL, &why);
    if (!doc)
        return sx_fail(err, SX_INVALID, "not JSON: %s at byte %zu", why.msg, why.pos);
    yyjson_val *root = yyjson_doc_get_root(doc), *series = yyjson_obj_get(root, "series"), *x;
    enum sx_rc rc = SX_OK;
    if (yyjson_get_int(yyjson_obj_get(root, "staronnx_perf")) != 1 || !yyjson_is_arr(series))
        rc = sx_fail(err, SX_INVALID, "not a report that staronnx perf --json wrote");
    if (!rc && !r->title[0])
        get_text(r->title, sizeof(r->title), root, "title");
    double objective = get_number(root, "objective_ms"),
           percentile = get_number(root, "percentile");
    percentile = percentile > 0 ? percentile : 99;
    if (!rc && r->n_series == 0) {
        r->objective_ms = objective;
        r->percentile = percentile;
    }
    if (!rc &&
        (fabs(r->objective_ms - objective) > 1e-9 || fabs(r->percentile - percentile) > 1e-9)) {
        rc = sx_fail(err, SX_INVALID,
                     "was judged by p%g <= %g ms, the one before it by p%g <= %g ms", percentile,
                     objective, r->percentile, r->objective_ms);
        sx_hint(err, "measure both with the same --objective and --percentile (0 ms: none)");
    }
    size_t i, n;
    yyjson_arr_foreach(series, i, n, x)
    {
        if (!rc && (rc = read_series(r, x, name)))
            sx_fail(err, rc, "out of memory");
    }
    yyjson_doc_free(doc);
    return rc;
}

/* "NAME=FILE" names the series of a file. */
static enum sx_rc read_file(struct sx_report *r, const char *arg, struct sx_err *err)
{
    char name[96], *json;
    size_t len;
    const char *equals = strchr(arg, '='), *path = arg;
    bool named = equals && !sx_path_is_file(arg);
    if (named) {
        snprintf(name, sizeof(name), "%.*s", (int)(equals - arg), arg);
        path = equals + 1;
    }
    enum sx_rc rc = sx_file_read(path, REPORT_MAX, &json, &len, err);
    if (rc)
        return rc;
    rc = sx_report_read(r, json, len, named ? name : NULL, err);
    free(json);
    if (rc && err)
        sx_while(err, "%s: ", path);
    return rc;
}

enum sx_rc sx_report_compare(const char *const *paths, size_t n, const char *title,
                             const char *html_path, struct sx_err *err)
{
    struct sx_report r;
    struct sx_sbuf html = {0};
    enum sx_rc rc = SX_OK;
    sx_report_init(&r);
    if (title)
        snprintf(r.title, sizeof(r.title), "%s", title);
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_file(&r, paths[i], err);
    if (!rc) {
        sx_report_html(&html, &r);
        rc = html.failed ? sx_fail(err, SX_NO_MEMORY, "out of memory")
                         : sx_file_write(html_path, html.data, html.len, err);
    }
    sx_sbuf_free(&html);
    sx_report_fini(&r);
    return rc;
}
