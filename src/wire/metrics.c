/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c - Prometheus text.  A family's samples must stand together, so statistics are copied
 * first and families written one by one.
 */
#include "wire/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/server.h"

struct page {
    struct sx_sbuf *s;
    struct sx_model **models;
    struct sx_model_stats *stats; /* one per model */
    char (*labels)[2 * SX_NAME_MAX + 64];
    size_t n;
};

/* A label's value: backslash, quote and newline escaped. */
static void escape_label(const char *from, char *to, size_t size)
{
    size_t n = 0;
    for (; *from && n + 3 < size; from++) {
        if (*from == '\\' || *from == '"')
            to[n++] = '\\';
        if (*from == '\n') {
            to[n++] = '\\';
            to[n++] = 'n';
            continue;
        }
        to[n++] = *from;
    }
    to[n] = '\0';
}

static void family(struct page *p, const char *name, const char *type, const char *help)
{
    sx_sbuf_printf(p->s, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

#define EACH_U64(p, name, type, help, value)                                                       \
    do {                                                                                           \
        family(p, name, type, help);                                                               \
        for (size_t i_ = 0; i_ < (p)->n; i_++) {                                                   \
            const struct sx_model_stats *st = &(p)->stats[i_];                                     \
            sx_sbuf_printf((p)->s, "%s{%s} %" PRIu64 "\n", name, (p)->labels[i_],                  \
                           (uint64_t)(value));                                                     \
        }                                                                                          \
    } while (0)

#define EACH_DOUBLE(p, name, type, help, value)                                                    \
    do {                                                                                           \
        family(p, name, type, help);                                                               \
        for (size_t i_ = 0; i_ < (p)->n; i_++) {                                                   \
            const struct sx_model_stats *st = &(p)->stats[i_];                                     \
            sx_sbuf_printf((p)->s, "%s{%s} %.9g\n", name, (p)->labels[i_], (double)(value));       \
        }                                                                                          \
    } while (0)

static void put_triton(struct page *p)
{
    EACH_U64(p, "nv_inference_request_success", "counter",
             "Number of successful inference requests, all batch sizes", st->success);
    const char *failure = "nv_inference_request_failure";
    family(p, failure, "counter", "Number of failed inference requests, by reason");
    for (size_t i = 0; i < p->n; i++) {
        const struct sx_model_stats *st = &p->stats[i];
        const struct {
            const char *reason;
            uint64_t count;
        } reasons[] = {{"REJECTED", st->rejected + st->expired},
                       {"CANCELED", st->cancelled},
                       {"BACKEND", st->failed},
                       {"OTHER", st->invalid}};
        for (size_t k = 0; k < 4; k++)
            sx_sbuf_printf(p->s, "%s{%s,reason=\"%s\"} %" PRIu64 "\n", failure, p->labels[i],
                           reasons[k].reason, reasons[k].count);
    }
    EACH_U64(p, "nv_inference_count", "counter",
             "Number of inferences performed (a batch of n counts n)", st->samples);
    EACH_U64(p, "nv_inference_exec_count", "counter", "Number of model executions performed",
             st->executions);
    EACH_U64(p, "nv_inference_request_duration_us", "counter",
             "Cumulative request duration in microseconds (successes)", st->request_ns / SX_US);
    EACH_U64(p, "nv_inference_queue_duration_us", "counter",
             "Cumulative queuing duration in microseconds (successes)", st->queue_ns / SX_US);
    EACH_U64(p, "nv_inference_compute_input_duration_us", "counter",
             "Cumulative compute input duration in microseconds", st->input_ns / SX_US);
    EACH_U64(p, "nv_inference_compute_infer_duration_us", "counter",
             "Cumulative compute inference duration in microseconds", st->infer_ns / SX_US);
    EACH_U64(p, "nv_inference_compute_output_duration_us", "counter",
             "Cumulative compute output duration in microseconds", st->output_ns / SX_US);
    EACH_U64(p, "nv_inference_pending_request_count", "gauge", "Requests waiting to be run",
             st->pending);
    EACH_DOUBLE(p, "nv_model_load_duration_secs", "gauge", "Model load time in seconds",
                st->load_seconds);
}

/* Steps of 1, 2 and 5 from `from` seconds, a power of ten, over `decades`.  `labels`: "" or
 * "model=...". */
static void put_buckets(struct page *p, const char *name, const char *labels,
                        const struct sx_hist *h, double from, unsigned decades)
{
    static const unsigned steps[] = {1, 2, 5};
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *end = *labels ? "}" : "";
    for (unsigned d = 0; d < decades; d++, from *= 10) {
        for (unsigned k = 0; k < 3; k++) {
            double bound = from * steps[k];
            sx_sbuf_printf(p->s, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels, comma,
                           bound, sx_hist_count_le(h, (uint64_t)(bound * 1e9 + 0.5)));
        }
    }
    sx_sbuf_printf(p->s, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, h->count);
    sx_sbuf_printf(p->s, "%s_sum%s%s%s %.9g\n%s_count%s%s%s %" PRIu64 "\n", name, open, labels, end,
                   (double)h->sum_ns / 1e9, name, open, labels, end, h->count);
}

static void put_histogram(struct page *p, const char *name, const char *help, bool queue)
{
    family(p, name, "histogram", help);
    for (size_t i = 0; i < p->n; i++)
        put_buckets(p, name, p->labels[i], queue ? &p->stats[i].queue : &p->stats[i].latency, 1e-4,
                    6);
}

/* How quick the scheduler is. */
static enum sx_rc put_sched(struct page *p, struct sx_server *server)
{
    const char *decide = "staronnx_decision_seconds", *start = "staronnx_start_delay_seconds";
    struct sx_sched_stats *stats = malloc(sizeof(*stats));
    if (!stats)
        return SX_NO_MEMORY;
    sx_server_sched_stats(server, stats);
    family(p, decide, "histogram", "Time that decisions took: what starts next, or nothing");
    put_buckets(p, decide, "", &stats->decide, 1e-6, 4);
    family(p, start, "histogram", "From the decision to start a run until it begins");
    put_buckets(p, start, "", &stats->start, 1e-6, 5);
    free(stats);
    return SX_OK;
}

static void put_own(struct page *p)
{
    put_histogram(p, "staronnx_request_duration_seconds", "Latency of successful requests", false);
    put_histogram(p, "staronnx_queue_duration_seconds", "Time that successful requests waited",
                  true);
    EACH_U64(p, "staronnx_request_rejected_total", "counter",
             "Requests refused on arrival: queue full or no hope to meet the deadline",
             st->rejected);
    EACH_U64(p, "staronnx_request_expired_total", "counter",
             "Admitted requests whose deadline passed while they waited", st->expired);
    EACH_U64(p, "staronnx_request_in_time_total", "counter",
             "Successful requests that ended by their deadline", st->in_time);
    EACH_U64(p, "staronnx_running_requests", "gauge", "Requests inside runs", st->running);
    EACH_DOUBLE(p, "staronnx_prediction_error_ratio", "gauge",
                "Running mean of |predicted - measured| / measured run time", st->prediction_error);
    const char *width = "staronnx_width_runs_total";
    family(p, width, "counter", "Model executions by number of cores");
    for (size_t i = 0; i < p->n; i++)
        for (unsigned k = 0; k < p->stats[i].n_widths; k++)
            sx_sbuf_printf(p->s, "%s{%s,width=\"%u\"} %" PRIu64 "\n", width, p->labels[i],
                           p->stats[i].widths[k], p->stats[i].width_runs[k]);
    const char *batch = "staronnx_batch_runs_total";
    family(p, batch, "counter", "Model executions by batch size");
    for (size_t i = 0; i < p->n; i++)
        for (unsigned k = 0; k < p->stats[i].n_batches; k++)
            sx_sbuf_printf(p->s, "%s{%s,batch=\"%u\"} %" PRIu64 "\n", batch, p->labels[i],
                           p->stats[i].batches[k].batch, p->stats[i].batches[k].count);
}

/* How models are resident on several devices, and what the scheduler made of that. */
static enum sx_rc put_variants(struct page *p)
{
    const char *runs = "staronnx_variant_runs_total", *stage = "staronnx_stage_seconds";
    size_t total = 0, *first = calloc(p->n + 1, sizeof(*first));
    struct sx_variant_info *infos = NULL;
    for (size_t i = 0; first && i < p->n; i++) {
        first[i] = total;
        total += sx_model_variants(p->models[i], NULL, 0);
    }
    if (first && total)
        infos = calloc(total, sizeof(*infos));
    if (!first || (total && !infos)) {
        free(first);
        return SX_NO_MEMORY;
    }
    first[p->n] = total;
    for (size_t i = 0; i < p->n; i++)
        sx_model_variants(p->models[i], infos + first[i], first[i + 1] - first[i]);
    if (total)
        family(p, runs, "counter", "Jobs by variant: whole on a device, or cut over several");
    for (size_t i = 0; i < p->n; i++)
        for (size_t v = first[i]; v < first[i + 1]; v++)
            sx_sbuf_printf(p->s, "%s{%s,variant=\"%s\"} %" PRIu64 "\n", runs, p->labels[i],
                           infos[v].name, infos[v].runs);
    if (total)
        family(p, stage, "gauge",
               "Time of a stage for one sample: planned, and as measured lately");
    for (size_t i = 0; i < p->n; i++)
        for (size_t v = first[i]; v < first[i + 1]; v++)
            for (unsigned k = 0; k < infos[v].n_stages; k++)
                sx_sbuf_printf(p->s,
                               "%s{%s,variant=\"%s\",stage=\"%u\",kind=\"planned\"} %.9g\n"
                               "%s{%s,variant=\"%s\",stage=\"%u\",kind=\"measured\"} %.9g\n",
                               stage, p->labels[i], infos[v].name, k + 1,
                               infos[v].predicted_ns[k] * 1e-9, stage, p->labels[i], infos[v].name,
                               k + 1, infos[v].ns[k] * 1e-9);
    free(infos);
    free(first);
    return SX_OK;
}

/* How several models share one device. */
static enum sx_rc put_plan(struct page *p, struct sx_server *server)
{
    static const struct {
        const char *name, *help;
    } gauges[] = {
        {"staronnx_plan_units", "Units (cores) that a run of the model is planned with"},
        {"staronnx_plan_batch", "Samples that a run of the model is planned with"},
        {"staronnx_plan_admitted", "1: the plan keeps the model's objective; 0: it gets leftovers"},
        {"staronnx_share_score", "Unit-time in seconds that the model had lately, decayed"},
    };
    struct sx_server_plan plan;
    enum sx_rc rc = sx_server_get_plan(server, &plan);
    if (rc)
        return rc;
    for (size_t k = 0; plan.sharing && k < sizeof(gauges) / sizeof(*gauges); k++) {
        family(p, gauges[k].name, "gauge", gauges[k].help);
        for (size_t i = 0; i < plan.n_models; i++) {
            const struct sx_server_plan_model *m = &plan.models[i];
            const double value[] = {m->plan.units, m->plan.batch, m->plan.admitted,
                                    m->score * 1e-9};
            char name[2 * SX_NAME_MAX];
            escape_label(m->name, name, sizeof(name));
            sx_sbuf_printf(p->s, "%s{model=\"%s\",version=\"%" PRId64 "\"} %.9g\n", gauges[k].name,
                           name, m->version, value[k]);
        }
    }
    const char *demand = "staronnx_plan_demand", *replans = "staronnx_replans_total";
    if (plan.sharing) {
        family(p, demand, "gauge", "Unit-time that the models' promises need, over the machine's");
        sx_sbuf_printf(p->s, "%s %.6g\n", demand, plan.demand);
    }
    family(p, replans, "counter", "Plans made for the sharing of the machine");
    sx_sbuf_printf(p->s, "%s %" PRIu64 "\n", replans, plan.replans);
    sx_server_plan_fini(&plan);
    return SX_OK;
}

static enum sx_rc put_units(struct page *p, struct sx_server *server, unsigned n_units)
{
    const char *busy = "staronnx_unit_busy_seconds_total", *bytes = "staronnx_pool_bytes";
    double *seconds = calloc(n_units + 1, sizeof(*seconds));
    if (!seconds)
        return SX_NO_MEMORY;
    sx_server_busy(server, seconds, n_units);
    family(p, busy, "counter", "Seconds in which a unit (a core, or a few) ran a model");
    for (unsigned u = 0; u < n_units; u++)
        sx_sbuf_printf(p->s, "%s{unit=\"%u\"} %.6f\n", busy, u, seconds[u]);
    free(seconds);
    family(p, bytes, "gauge", "Bytes held by the tensor pool, in use and free");
    sx_sbuf_printf(p->s, "%s %zu\n", bytes, sx_pool_bytes(sx_server_pool(server)));
    return SX_OK;
}

enum sx_rc sx_metrics_put(struct sx_sbuf *s, struct sx_server *server, unsigned n_units)
{
    struct page p = {.s = s};
    enum sx_rc rc = sx_server_models(server, &p.models, &p.n);
    if (rc)
        return rc;
    p.stats = calloc(p.n + 1, sizeof(*p.stats));
    p.labels = calloc(p.n + 1, sizeof(*p.labels));
    if (!p.stats || !p.labels)
        rc = SX_NO_MEMORY;
    for (size_t i = 0; !rc && i < p.n; i++) {
        char name[2 * SX_NAME_MAX];
        escape_label(sx_model_name(p.models[i]), name, sizeof(name));
        snprintf(p.labels[i], sizeof(p.labels[i]), "model=\"%s\",version=\"%lld\"", name,
                 (long long)sx_model_version(p.models[i]));
        sx_model_get_stats(p.models[i], &p.stats[i]);
    }
    if (!rc) {
        put_triton(&p);
        put_own(&p);
        rc = put_variants(&p);
    }
    if (!rc)
        rc = put_plan(&p, server);
    if (!rc)
        rc = put_sched(&p, server);
    if (!rc)
        rc = put_units(&p, server, n_units);
    for (size_t i = 0; i < p.n; i++)
        sx_model_unref(&p.models[i]);
    free(p.models);
    free(p.stats);
    free(p.labels);
    return rc ? rc : s->failed ? SX_NO_MEMORY : SX_OK;
}
