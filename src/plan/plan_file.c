/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_file.c - plans as JSON.
 *
 * The operators of a stage are written as ranges: "nodes":[[0,41],[43,43]].  A file that is taken
 * has each operator in exactly one stage; whether that is a cut of a certain graph, sx_plan_check
 * knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cost/fields.h"
#include "plan/plan.h"

#define MAX_BYTES 1e18
#define MAX_BATCH (1u << 20)

/* --- writing ---------------------------------------------------------------------------------- */

static void add_number(struct sx_sbuf *s, const char *name, double value)
{
    sx_sbuf_printf(s, ",\"%s\":", name);
    sx_fields_put_number(s, value);
}

static void add_ranges(struct sx_sbuf *s, const struct sx_plan_stage *stage)
{
    sx_sbuf_puts(s, ",\"nodes\":[");
    for (uint32_t i = 0; i < stage->n_nodes;) {
        uint32_t k = i + 1;
        while (k < stage->n_nodes && stage->nodes[k] == stage->nodes[k - 1] + 1)
            k++;
        sx_sbuf_printf(s, "%s[%u,%u]", i ? "," : "", stage->nodes[i], stage->nodes[k - 1]);
        i = k;
    }
    sx_sbuf_putc(s, ']');
}

static void add_plan(struct sx_sbuf *s, const struct sx_plan *plan, bool brief, const char *line)
{
    sx_sbuf_printf(s, "{\"format\":%d,", SX_PLAN_FORMAT);
    sx_fields_put_key(s, &plan->key);
    sx_sbuf_printf(s, ",%s\"name\":", line);
    sx_sbuf_json(s, plan->name);
    sx_sbuf_printf(s, ",\"batch\":%u,\"devices\":[", plan->batch);
    for (unsigned d = 0; d < plan->n_devices; d++) {
        if (d)
            sx_sbuf_putc(s, ',');
        sx_sbuf_json(s, plan->devices[d]);
    }
    sx_sbuf_putc(s, ']');
    add_number(s, "latency_ns", plan->latency_ns);
    add_number(s, "slowest_ns", plan->slowest_ns);
    add_number(s, "bytes_cut", plan->bytes_cut);
    sx_sbuf_puts(s, ",\"method\":");
    sx_sbuf_json(s, plan->method);
    sx_sbuf_printf(s, ",\"refined\":%s,\"proposed_ns\":", plan->refined ? "true" : "false");
    sx_fields_put_numbers(s, plan->proposed_ns, 3);
    sx_sbuf_printf(s, ",%s\"stages\":[", line);
    for (unsigned i = 0; i < plan->n_stages; i++) {
        const struct sx_plan_stage *stage = &plan->stages[i];
        sx_sbuf_printf(s, "%s%s{\"device\":%u", i ? "," : "", line, stage->device);
        add_number(s, "ns", stage->ns);
        add_number(s, "transfer_ns", stage->transfer_ns);
        add_number(s, "in_bytes", stage->in_bytes);
        add_number(s, "out_bytes", stage->out_bytes);
        sx_sbuf_printf(s, ",\"weight_bytes\":%llu", (unsigned long long)stage->weight_bytes);
        if (brief)
            sx_sbuf_printf(s, ",\"n_nodes\":%u", stage->n_nodes);
        else
            add_ranges(s, stage);
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_puts(s, "]}");
}

void sx_plan_json(const struct sx_plan *plan, bool brief, struct sx_sbuf *out)
{
    add_plan(out, plan, brief, "");
}

enum sx_rc sx_plan_save(const struct sx_plan *plan, const char *path, struct sx_err *err)
{
    struct sx_sbuf s = {0};

    add_plan(&s, plan, false, "\n");
    sx_sbuf_putc(&s, '\n');
    return sx_fields_save(&s, path, err);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool node_index(yyjson_val *v, uint32_t n_nodes, uint32_t *ret)
{
    uint64_t x = yyjson_is_uint(v) ? yyjson_get_uint(v) : UINT64_MAX;

    *ret = x < n_nodes ? (uint32_t)x : 0;
    return x < n_nodes;
}

/* Two passes: count (and look for order), then fill.  *left: operators that no stage has yet. */
static void read_nodes(struct sx_fields *f, yyjson_val *v, uint32_t n_nodes, uint32_t *left,
                       struct sx_plan_stage *stage)
{
    yyjson_val *ranges = sx_fields_array(f, v, "nodes", n_nodes), *range;
    uint32_t next = 0, first, last, count = 0;
    size_t i, n;

    if (f->rc)
        return;
    yyjson_arr_foreach(ranges, i, n, range)
    {
        if (yyjson_arr_size(range) != 2 || !node_index(yyjson_arr_get(range, 0), n_nodes, &first) ||
            !node_index(yyjson_arr_get(range, 1), n_nodes, &last) || first < next || last < first) {
            sx_fields_damaged(f, "\"nodes\"[%zu] must be a range after the one before it", i);
            return;
        }
        count += last - first + 1;
        next = last + 1;
    }
    if (count == 0 || count > *left) {
        sx_fields_damaged(f, count ? "operators in two stages" : "a stage without operators");
        return;
    }
    *left -= count;
    stage->nodes = malloc(count * sizeof *stage->nodes);
    if (!stage->nodes) {
        f->rc = sx_fail(f->err, SX_NO_MEMORY, "no memory for a plan");
        return;
    }
    yyjson_arr_foreach(ranges, i, n, range)
    {
        node_index(yyjson_arr_get(range, 0), n_nodes, &first);
        node_index(yyjson_arr_get(range, 1), n_nodes, &last);
        for (uint32_t node = first; node <= last; node++)
            stage->nodes[stage->n_nodes++] = node;
    }
}

static void read_stage(struct sx_fields *f, yyjson_val *v, const struct sx_plan *plan,
                       uint32_t *left, struct sx_plan_stage *stage)
{
    stage->device = (unsigned)sx_fields_uint(f, v, "device", 0, plan->n_devices - 1);
    stage->ns = sx_fields_number(f, v, "ns", 0, SX_FIELDS_MAX_NS);
    stage->transfer_ns = sx_fields_number(f, v, "transfer_ns", 0, SX_FIELDS_MAX_NS);
    stage->in_bytes = sx_fields_number(f, v, "in_bytes", 0, MAX_BYTES);
    stage->out_bytes = sx_fields_number(f, v, "out_bytes", 0, MAX_BYTES);
    stage->weight_bytes = sx_fields_uint(f, v, "weight_bytes", 0, INT64_MAX);
    read_nodes(f, v, plan->key.n_nodes, left, stage);
}

/* Each operator exactly once. */
static void check_cover(struct sx_fields *f, const struct sx_plan *plan)
{
    uint64_t total = 0;
    bool *seen;

    for (unsigned s = 0; s < plan->n_stages; s++)
        total += plan->stages[s].n_nodes;
    if (total != plan->key.n_nodes) {
        sx_fields_damaged(f, "its stages have %llu operators, the graph %u",
                          (unsigned long long)total, plan->key.n_nodes);
        return;
    }
    seen = calloc(plan->key.n_nodes + 1, sizeof *seen);
    if (!seen) {
        f->rc = sx_fail(f->err, SX_NO_MEMORY, "no memory for a plan");
        return;
    }
    for (unsigned s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_nodes; i++) {
            uint32_t v = plan->stages[s].nodes[i];
            if (seen[v])
                sx_fields_damaged(f, "operator %u is in two stages", v);
            seen[v] = true;
        }
    }
    free(seen);
}

static void read_devices(struct sx_fields *f, yyjson_val *root, struct sx_plan *plan)
{
    yyjson_val *devices = sx_fields_array(f, root, "devices", SX_PLAN_MAX_STAGES), *v;
    size_t i, n;

    yyjson_arr_foreach(devices, i, n, v)
    {
        size_t len = yyjson_get_len(v);
        if (!yyjson_is_str(v) || len == 0 || len >= sizeof plan->devices[i] ||
            memchr(yyjson_get_str(v), '\0', len)) {
            sx_fields_damaged(f, "\"devices\"[%zu] must be a short name", i);
            return;
        }
        memcpy(plan->devices[i], yyjson_get_str(v), len + 1);
    }
    plan->n_devices = (unsigned)yyjson_arr_size(devices);
    if (plan->n_devices == 0)
        sx_fields_damaged(f, "it has no devices");
}

static void read_plan(struct sx_fields *f, yyjson_val *root, struct sx_plan *plan)
{
    yyjson_val *stages, *v;
    uint32_t left = plan->key.n_nodes;
    size_t i, n;

    sx_fields_text(f, root, "name", true, plan->name, sizeof plan->name);
    plan->batch = (unsigned)sx_fields_uint(f, root, "batch", 1, MAX_BATCH);
    read_devices(f, root, plan);
    plan->latency_ns = sx_fields_number(f, root, "latency_ns", 0, SX_FIELDS_MAX_NS);
    plan->slowest_ns = sx_fields_number(f, root, "slowest_ns", 0, SX_FIELDS_MAX_NS);
    plan->bytes_cut = sx_fields_number(f, root, "bytes_cut", 0, MAX_BYTES);
    sx_fields_text(f, root, "method", true, plan->method, sizeof plan->method);
    plan->refined = sx_fields_bool(f, root, "refined");
    sx_fields_numbers(f, root, "proposed_ns", 0, SX_FIELDS_MAX_NS, plan->proposed_ns, 3);
    stages = sx_fields_array(f, root, "stages", SX_PLAN_MAX_STAGES);
    if (!f->rc && yyjson_arr_size(stages) == 0)
        sx_fields_damaged(f, "it has no stages");
    if (f->rc)
        return;
    plan->stages = calloc(yyjson_arr_size(stages), sizeof *plan->stages);
    if (!plan->stages) {
        f->rc = sx_fail(f->err, SX_NO_MEMORY, "no memory for a plan");
        return;
    }
    plan->n_stages = (unsigned)yyjson_arr_size(stages);
    yyjson_arr_foreach(stages, i, n, v)
    {
        read_stage(f, v, plan, &left, &plan->stages[i]);
    }
    if (!f->rc)
        check_cover(f, plan);
}

enum sx_rc sx_plan_load(const char *path, const struct sx_profile_key *key,
                        struct sx_plan **ret_plan, struct sx_err *err)
{
    struct sx_fields f = {
        .what = "plan",
        .path = path,
        .hint = "run `staronnx plan` again",
        .err = err,
    };
    struct sx_plan *plan = calloc(1, sizeof *plan);

    if (!plan)
        return sx_fail(err, SX_NO_MEMORY, "no memory for a plan");
    yyjson_val *root = sx_fields_open(&f, SX_PLAN_FORMAT);
    sx_fields_key(&f, root, &plan->key);
    sx_fields_compare(&f, &plan->key, key);
    if (!f.rc)
        read_plan(&f, root, plan);
    sx_fields_close(&f);
    if (f.rc)
        sx_plan_destroy(plan);
    else
        *ret_plan = plan;
    return f.rc;
}
