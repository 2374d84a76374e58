/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.c - `staronnx inspect MODEL`: what is in the file, without running it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "cli/cli.h"
#include "graph/dag.h"
#include "graph/onnx.h"
#include "graph/work.h"

static bool json;
static uint64_t free_dim = 1;
static const char *graph_file;

static const struct sx_option options[] = {
    {"json", 'j', NULL, SX_OPT_FLAG, &json, "print one JSON object"},
    {"free-dim", 0, "N", SX_OPT_UINT, &free_dim,
     "what stands for each free dimension in FLOPs and memory; default 1"},
    {"graph", 'g', "FILE", SX_OPT_TEXT, &graph_file,
     "also draw the operators that depend on the inputs: FILE ends in .dot (text for Graphviz) or "
     ".svg (a picture; needs Graphviz's program dot)"},
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx inspect",
    .operands = "MODEL.onnx",
    .summary =
        "Show a model's inputs, outputs, operators, parameters, FLOPs (a multiply-add counts "
        "two) and memory. Nothing is run; what cannot be told from the file is said to be "
        "unknown.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

/* "25.6 M", "8.2 G"; `base` is 1000 or 1024. */
static const char *short_number(double value, double base, char *buf, size_t size)
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P"};
    static const char *const binary[] = {"", " Ki", " Mi", " Gi", " Ti", " Pi"};
    size_t u = 0;

    while (value >= base && u < 5) {
        value /= base;
        u++;
    }
    snprintf(buf, size, u && value < 100 ? "%.2f%s" : "%.0f%s", value,
             base > 1000 ? binary[u] : units[u]);
    return buf;
}

static const char *type_name(const struct sx_onnx_value *v)
{
    return v->dtype != SX_DTYPE_NONE ? sx_dtype_name(v->dtype)
           : v->onnx_type            ? "(a type without a protocol name)"
                                     : "(not a tensor)";
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_values(const char *title, const struct sx_onnx_value *v, size_t n)
{
    int width = 0;
    char shape[256];

    for (size_t i = 0; i < n; i++) {
        int len = snprintf(NULL, 0, "%s", v[i].name);
        width = len > width && len <= 40 ? len : width;
    }
    printf("%s\n", title);
    for (size_t i = 0; i < n; i++)
        printf("  %-*s  %-6s  %s\n", width, v[i].name, type_name(&v[i]),
               v[i].has_shape ? sx_shape_text(v[i].dims, v[i].rank, shape, sizeof shape)
                              : "(any shape)");
}

static void print_text(const char *path, const struct sx_onnx *m, const struct sx_work *w)
{
    const struct sx_onnx_value *in, *out;
    const struct sx_onnx_op_count *ops;
    size_t n_in = sx_onnx_inputs(m, &in), n_out = sx_onnx_outputs(m, &out);
    size_t n_ops = sx_onnx_ops(m, &ops), counted = 0;
    const char *producer = sx_onnx_producer(m);
    char a[32], b[32];
    bool partly = w->unknown > 0;

    printf("model        %s\n", path);
    printf("graph        %s\n", sx_onnx_graph_name(m));
    printf("producer     %s\n", producer && *producer ? producer : "(not said)");
    printf("IR, opset    %" PRId64 ", %" PRId64 "\n", sx_onnx_ir_version(m), sx_onnx_opset(m, ""));
    printf("parameters   %s (%" PRIu64 ")\n",
           short_number((double)w->parameters, 1000, a, sizeof a), w->parameters);
    printf("weights      %sB\n", short_number((double)w->weight_bytes, 1024, a, sizeof a));
    printf("FLOPs        %s%s (free dimensions = %" PRIu64 ")\n", partly ? "at least " : "",
           short_number((double)w->flops, 1000, a, sizeof a), free_dim);
    printf("activations  %s%sB at most at once\n", partly ? "at least " : "",
           short_number((double)w->activation_bytes, 1024, b, sizeof b));
    if (partly)
        printf("             shapes of %zu operators are unknown (first: %s)\n", w->unknown,
               w->unknown_type);
    print_values("inputs", in, n_in);
    print_values("outputs", out, n_out);

    printf("operators    %zu nodes%s\n", sx_onnx_node_count(m),
           sx_onnx_overridable(m) ? ", weights listed as inputs (an old file)" : "");
    printf("  %-24s %7s %12s %7s\n", "type", "nodes", "FLOPs", "share");
    for (size_t i = 0; i < w->n_ops; i++) {
        counted += w->ops[i].count;
        printf("  %-24s %7zu %12s %6.1f%%\n", w->ops[i].type, w->ops[i].count,
               short_number((double)w->ops[i].flops, 1000, a, sizeof a),
               w->flops ? 100.0 * (double)w->ops[i].flops / (double)w->flops : 0.0);
    }
    size_t total = 0;
    for (size_t i = 0; i < n_ops; i++)
        total += ops[i].count;
    if (total > counted)
        printf("  %-24s %7zu\n", "(constants, bodies)", total - counted);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void add_values(struct sx_sbuf *s, const char *key, const struct sx_onnx_value *v, size_t n)
{
    sx_sbuf_printf(s, ",\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        sx_sbuf_puts(s, i ? ",{\"name\":" : "{\"name\":");
        sx_sbuf_json(s, v[i].name);
        sx_sbuf_printf(s, ",\"datatype\":%s%s%s,\"shape\":", v[i].dtype ? "\"" : "",
                       v[i].dtype ? sx_dtype_name(v[i].dtype) : "null", v[i].dtype ? "\"" : "");
        for (int d = 0; v[i].has_shape && d < v[i].rank; d++)
            sx_sbuf_printf(s, "%c%" PRId64, d ? ',' : '[', v[i].dims[d]);
        sx_sbuf_puts(s, !v[i].has_shape ? "null}" : v[i].rank ? "]}" : "[]}");
    }
    sx_sbuf_putc(s, ']');
}

static void print_json(const char *path, const struct sx_onnx *m, const struct sx_work *w)
{
    const struct sx_onnx_value *in, *out;
    const struct sx_onnx_op_count *ops;
    size_t n_in = sx_onnx_inputs(m, &in), n_out = sx_onnx_outputs(m, &out);
    size_t n_ops = sx_onnx_ops(m, &ops);
    struct sx_sbuf s = {0};

    sx_sbuf_puts(&s, "{\"model\":");
    sx_sbuf_json(&s, path);
    sx_sbuf_puts(&s, ",\"graph\":");
    sx_sbuf_json(&s, sx_onnx_graph_name(m));
    sx_sbuf_puts(&s, ",\"producer\":");
    sx_sbuf_json(&s, sx_onnx_producer(m) ? sx_onnx_producer(m) : "");
    sx_sbuf_printf(&s, ",\"ir_version\":%" PRId64 ",\"opset\":%" PRId64, sx_onnx_ir_version(m),
                   sx_onnx_opset(m, ""));
    add_values(&s, "inputs", in, n_in);
    add_values(&s, "outputs", out, n_out);
    sx_sbuf_printf(&s,
                   ",\"parameters\":%" PRIu64 ",\"weight_bytes\":%" PRIu64 ",\"free_dim\":%" PRIu64
                   ",\"flops\":%" PRIu64 ",\"activation_bytes\":%" PRIu64
                   ",\"unknown_operators\":%zu,\"nodes\":%zu,\"operators\":[",
                   w->parameters, w->weight_bytes, free_dim, w->flops, w->activation_bytes,
                   w->unknown, sx_onnx_node_count(m));
    for (size_t i = 0; i < n_ops; i++) {
        uint64_t flops = 0;
        for (size_t k = 0; k < w->n_ops; k++)
            if (!strcmp(w->ops[k].type, ops[i].type))
                flops = w->ops[k].flops;
        sx_sbuf_puts(&s, i ? ",{\"domain\":" : "{\"domain\":");
        sx_sbuf_json(&s, ops[i].domain);
        sx_sbuf_puts(&s, ",\"type\":");
        sx_sbuf_json(&s, ops[i].type);
        sx_sbuf_printf(&s, ",\"count\":%zu,\"flops\":%" PRIu64 "}", ops[i].count, flops);
    }
    sx_sbuf_puts(&s, "]}");
    if (!s.failed)
        puts(s.data);
    sx_sbuf_free(&s);
}

static enum sx_rc draw(const struct sx_onnx *model, struct sx_err *err)
{
    struct sx_dag *dag = NULL;
    char *text = NULL;
    enum sx_rc rc = sx_dag_build(model, &dag, err);

    if (rc == SX_OK)
        rc = sx_dag_dot(dag, NULL, NULL, &text, err);
    if (rc == SX_OK)
        rc = sx_draw(text, graph_file, err);
    free(text);
    sx_dag_destroy(dag);
    return rc;
}

int sx_cmd_inspect(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_onnx *model = NULL;
    struct sx_work work = {0};
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        return code;
    if (free_dim < 1 || free_dim > INT32_MAX) {
        sx_texts_free(&operands);
        return sx_usage_error(&usage, "--free-dim takes 1 to %d", INT32_MAX);
    }
    if (graph_file && !sx_can_draw(graph_file)) {
        sx_texts_free(&operands);
        return sx_usage_error(&usage, "--graph takes a file that ends in .dot or .svg, not '%s'",
                              graph_file);
    }
    rc = sx_onnx_open(operands.item[0], &model, &err);
    if (rc == SX_OK)
        rc = sx_work_count(model, (int64_t)free_dim, &work, &err);
    if (rc == SX_OK && graph_file)
        rc = draw(model, &err);
    if (rc == SX_OK && json)
        print_json(operands.item[0], model, &work);
    else if (rc == SX_OK)
        print_text(operands.item[0], model, &work);
    else
        sx_complain(usage.name, &err);
    sx_work_fini(&work);
    sx_onnx_close(model);
    sx_texts_free(&operands);
    return sx_exit_of(rc);
}
