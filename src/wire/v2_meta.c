/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * v2_meta.c - the documents about the server and its models.  Cold: printf is fine here.
 *
 * Clients parse some of these without looking whether a field is there (perf_analyzer reads
 * `cache_hit` of a server that has no cache), so the fields follow Triton's, all of them.
 */
#include <inttypes.h>
#include <string.h>

#include "wire/v2_int.h"

/* Only what is there: clients branch on these.  Not "model_repository": loading and unloading
 * belong to it, and tritonclient asks for the index without it. */
static const char *const extensions[] = {
    "binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics",
};

void sx_v2_put_server(struct sx_sbuf *s)
{
    sx_sbuf_puts(s, "{\"name\":\"staronnx\",\"version\":\"" SX_VERSION "\",\"extensions\":[");
    for (size_t i = 0; i < sizeof(extensions) / sizeof(*extensions); i++)
        sx_sbuf_printf(s, "%s\"%s\"", i ? "," : "", extensions[i]);
    sx_sbuf_puts(s, "]}");
}

static void put_dims(struct sx_sbuf *s, const int64_t *dims, int rank, const char *quote)
{
    sx_sbuf_putc(s, '[');
    for (int i = 0; i < rank; i++)
        sx_sbuf_printf(s, "%s%s%" PRId64 "%s", i ? "," : "", quote, dims[i], quote);
    sx_sbuf_putc(s, ']');
}

static void put_ports(struct sx_sbuf *s, const char *field, const struct sx_port *ports, size_t n)
{
    static const int64_t any[] = {-1};
    sx_sbuf_printf(s, ",\"%s\":[", field);
    for (size_t i = 0; i < n; i++) {
        sx_sbuf_puts(s, i ? ",{\"name\":" : "{\"name\":");
        sx_sbuf_json(s, ports[i].name);
        sx_sbuf_printf(s, ",\"datatype\":\"%s\",\"shape\":", sx_dtype_name(ports[i].dtype));
        put_dims(s, ports[i].rank < 0 ? any : ports[i].dims, ports[i].rank < 0 ? 1 : ports[i].rank,
                 "");
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_putc(s, ']');
}

void sx_v2_put_model(struct sx_sbuf *s, const struct sx_v2_model *model, const int64_t *versions,
                     size_t n_versions)
{
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, model->name);
    sx_sbuf_puts(s, ",\"versions\":");
    put_dims(s, versions, (int)n_versions, "\"");
    sx_sbuf_puts(s, ",\"platform\":\"onnxruntime_onnx\"");
    put_ports(s, "inputs", model->inputs, model->n_inputs);
    put_ports(s, "outputs", model->outputs, model->n_outputs);
    sx_sbuf_putc(s, '}');
}

/* --- configuration ------------------------------------------------------------------------------
 */

static void put_config_ports(struct sx_sbuf *s, const char *field,
                             const struct sx_config_port *ports, size_t n, bool inputs)
{
    sx_sbuf_printf(s, ",\"%s\":[", field);
    for (size_t i = 0; i < n; i++) {
        const struct sx_config_port *p = &ports[i];
        sx_sbuf_puts(s, i ? ",{\"name\":" : "{\"name\":");
        sx_sbuf_json(s, p->name);
        sx_sbuf_printf(s, ",\"data_type\":\"%s\",\"dims\":", sx_dtype_config_name(p->dtype));
        put_dims(s, p->dims, p->rank, "");
        if (p->has_reshape) {
            sx_sbuf_puts(s, ",\"reshape\":{\"shape\":");
            put_dims(s, p->reshape, p->reshape_rank, "");
            sx_sbuf_putc(s, '}');
        }
        if (inputs)
            sx_sbuf_printf(s,
                           ",\"format\":\"FORMAT_NONE\",\"allow_ragged_batch\":false,"
                           "\"optional\":%s",
                           p->optional ? "true" : "false");
        else
            sx_sbuf_puts(s, ",\"label_filename\":\"\"");
        sx_sbuf_puts(s, ",\"is_shape_tensor\":false}");
    }
    sx_sbuf_putc(s, ']');
}

static void put_version_policy(struct sx_sbuf *s, const struct sx_config_version_policy *p)
{
    sx_sbuf_puts(s, ",\"version_policy\":{");
    if (p->kind == SX_VERSIONS_ALL) {
        sx_sbuf_puts(s, "\"all\":{}");
    } else if (p->kind == SX_VERSIONS_LATEST) {
        sx_sbuf_printf(s, "\"latest\":{\"num_versions\":%u}", p->latest);
    } else {
        sx_sbuf_puts(s, "\"specific\":{\"versions\":");
        put_dims(s, p->specific, (int)p->n_specific, "");
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_putc(s, '}');
}

static void put_batching(struct sx_sbuf *s, const struct sx_config *c)
{
    sx_sbuf_puts(s, ",\"dynamic_batching\":{\"preferred_batch_size\":[");
    for (unsigned i = 0; i < c->n_preferred; i++)
        sx_sbuf_printf(s, "%s%u", i ? "," : "", c->preferred[i]);
    sx_sbuf_printf(s,
                   "],\"max_queue_delay_microseconds\":%" PRIu64 ",\"preserve_ordering\":false,"
                   "\"priority_levels\":%" PRIu32 ",\"default_priority_level\":%" PRIu32 ","
                   "\"default_queue_policy\":{\"timeout_action\":\"REJECT\","
                   "\"default_timeout_microseconds\":%" PRIu64 ",\"allow_timeout_override\":true,"
                   "\"max_queue_size\":%" PRIu64 "},\"priority_queue_policy\":{}}",
                   c->max_queue_delay_ns / 1000, c->priority_levels, c->default_priority_level,
                   c->default_timeout_ns / 1000, c->max_queue_size);
}

static void put_parameter(struct sx_sbuf *s, const char *key, double value)
{
    sx_sbuf_printf(s, "%s\"%s\":{\"string_value\":\"%g\"}",
                   s->len && s->data[s->len - 1] == '{' ? "" : ",", key, value);
}

/* Ours, as far as they were said. */
static void put_parameters(struct sx_sbuf *s, const struct sx_config *c)
{
    if (c->objective_ns)
        put_parameter(s, "objective_ms", (double)c->objective_ns / 1e6);
    if (c->weight > 0)
        put_parameter(s, "weight", c->weight);
    if (c->priority)
        put_parameter(s, "priority", c->priority);
}

void sx_v2_put_config(struct sx_sbuf *s, const struct sx_config *c)
{
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, c->name);
    sx_sbuf_puts(s, ",\"platform\":");
    sx_sbuf_json(s, c->platform);
    sx_sbuf_puts(s, ",\"backend\":");
    sx_sbuf_json(s, c->backend);
    sx_sbuf_puts(s, ",\"runtime\":\"\"");
    put_version_policy(s, &c->versions);
    sx_sbuf_printf(s, ",\"max_batch_size\":%" PRId64, c->max_batch_size);
    put_config_ports(s, "input", c->inputs, c->n_inputs, true);
    put_config_ports(s, "output", c->outputs, c->n_outputs, false);
    sx_sbuf_puts(s, ",\"batch_input\":[],\"batch_output\":[],\"instance_group\":[],"
                    "\"default_model_filename\":");
    sx_sbuf_json(s, c->default_filename);
    sx_sbuf_puts(s, ",\"cc_model_filenames\":{},\"metric_tags\":{},\"parameters\":{");
    put_parameters(s, c);
    sx_sbuf_puts(s, "},\"model_warmup\":[],\"model_transaction_policy\":{\"decoupled\":false}");
    if (c->dynamic_batching)
        put_batching(s, c);
    sx_sbuf_putc(s, '}');
}

/* --- statistics ---------------------------------------------------------------------------------
 */

static void put_duration(struct sx_sbuf *s, const char *name, uint64_t count, uint64_t ns)
{
    sx_sbuf_printf(s, "%s\"%s\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}",
                   s->len && s->data[s->len - 1] == '{' ? "" : ",", name, count, ns);
}

void sx_v2_put_stats(struct sx_sbuf *s, const char *name, int64_t version,
                     const struct sx_model_stats *st)
{
    uint64_t fail = st->rejected + st->expired + st->cancelled + st->failed + st->invalid;
    sx_sbuf_puts(s, "{\"name\":");
    sx_sbuf_json(s, name);
    sx_sbuf_printf(s,
                   ",\"version\":\"%" PRId64 "\",\"last_inference\":%" PRIu64
                   ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64
                   ",\"inference_stats\":{",
                   version, st->last_inference_ms, st->samples, st->executions);
    put_duration(s, "success", st->success, st->request_ns);
    put_duration(s, "fail", fail, st->fail_ns);
    put_duration(s, "queue", st->success, st->queue_ns);
    put_duration(s, "compute_input", st->success, st->input_ns);
    put_duration(s, "compute_infer", st->success, st->infer_ns);
    put_duration(s, "compute_output", st->success, st->output_ns);
    put_duration(s, "cache_hit", 0, 0);
    put_duration(s, "cache_miss", 0, 0);
    sx_sbuf_puts(s, "},\"response_stats\":{},\"batch_stats\":[");
    for (unsigned i = 0; i < st->n_batches; i++) {
        const struct sx_batch_stats *b = &st->batches[i];
        sx_sbuf_printf(s, "%s{\"batch_size\":%u", i ? "," : "", b->batch);
        put_duration(s, "compute_input", b->count, 0);
        put_duration(s, "compute_infer", b->count, b->infer_ns);
        put_duration(s, "compute_output", b->count, 0);
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_puts(s, "],\"memory_usage\":[]}");
}

/* --- repository index ---------------------------------------------------------------------------
 */

void sx_v2_put_index(struct sx_sbuf *s, const struct sx_model_entry *entries, size_t n,
                     bool ready_only)
{
    bool any = false;
    sx_sbuf_putc(s, '[');
    for (size_t i = 0; i < n; i++) {
        const struct sx_model_entry *e = &entries[i];
        if (ready_only && !e->ready)
            continue;
        sx_sbuf_puts(s, any ? ",{\"name\":" : "{\"name\":");
        any = true;
        sx_sbuf_json(s, e->name);
        if (e->version)
            sx_sbuf_printf(s, ",\"version\":\"%" PRId64 "\"", e->version);
        sx_sbuf_printf(s, ",\"state\":\"%s\",\"reason\":", e->ready ? "READY" : "UNAVAILABLE");
        sx_sbuf_json(s, e->reason);
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_putc(s, ']');
}

enum sx_rc sx_v2_read_index(const char *body, size_t len, bool *ret_ready_only, struct sx_err *err)
{
    struct sx_json j;
    bool ready = false;
    sx_json_init(&j, body, len);
    if (sx_json_peek(&j) != '\0' || j.p < j.end) { /* an empty body asks for everything */
        for (bool more = sx_json_object(&j); more; more = sx_json_more(&j, '}')) {
            struct sx_json_string key;
            if (!sx_json_key(&j, &key))
                break;
            if (sx_json_equal(&key, "ready"))
                sx_json_get_bool(&j, &ready);
            else
                sx_json_skip(&j);
            if (j.error)
                break;
        }
        if (j.error || !sx_json_finish(&j))
            return sx_fail(err, SX_INVALID, "failed to parse the request JSON at byte %zu: %s",
                           (size_t)(j.p - j.start), j.error);
    }
    *ret_ready_only = ready;
    return SX_OK;
}
