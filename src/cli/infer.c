/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * infer.c - `staronnx infer MODEL`: one request from files, in this process.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hist.h"
#include "cli/cli.h"
#include "cli/npy.h"
#include "cli/tensor_text.h"
#include "graph/tensorproto.h"

#define NOT_RANDOM UINT64_MAX /* no seed was given */

static struct sx_texts input_texts, shape_texts, devices;
static const char *output_dir, *library;
static uint64_t seed = NOT_RANDOM, repeat = 1, free_dim = 1, show = 6;
static bool json;

static const struct sx_option options[] = {
    {"input", 'i', "NAME=FILE", SX_OPT_LIST, &input_texts,
     "an input from a .npy file, a .pb file (ONNX TensorProto) or raw little-endian bytes; the "
     "name "
     "may be left out for a model with one input"},
    {"shape", 0, "NAME:D,D", SX_OPT_LIST, &shape_texts,
     "shape of a raw or random input that the model leaves free"},
    {"random", 0, "SEED", SX_OPT_UINT, &seed, "fill inputs that are not given with random values"},
    {"free-dim", 0, "N", SX_OPT_UINT, &free_dim,
     "what stands for free dimensions of random inputs; default 1"},
    {"output-dir", 'o', "DIR", SX_OPT_TEXT, &output_dir, "write each output to DIR/NAME.npy"},
    {"values", 0, "N", SX_OPT_UINT, &show, "how many values of each output to print; default 6"},
    {"repeat", 0, "N", SX_OPT_UINT, &repeat, "run N times and report the times; default 1"},
    {"json", 'j', NULL, SX_OPT_FLAG, &json, "print one JSON object, with all values"},
    {"device", 0, "DEVICE", SX_OPT_LIST, &devices,
     "what to run on: cpu, cpu:0, cpu:0-3, cpu:0,2; default: all cores, or as many as a CPU quota "
     "pays for; @8 behind it emulates one that is 8 times slower: it computes, then waits"},
    {"onnxruntime", 0, "PATH", SX_OPT_TEXT, &library, "the ONNX Runtime library to load"},
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx infer",
    .operands = "MODEL.onnx",
    .summary = "Run a model once (or --repeat times) and print its outputs.",
    .details = "Example:\n"
               "  staronnx infer resnet50.onnx --input data=cat.npy --output-dir out\n"
               "  staronnx infer resnet50.onnx --random 1 --repeat 10\n",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

/* --- inputs ----------------------------------------------------------------------------------- */

/* The port that `text` names up to one of `ends`; *ret_rest is what follows. */
static const struct sx_port *find_port(const struct sx_port *ports, size_t n, const char *text,
                                       char end, const char **ret_rest)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(ports[i].name);
        if (strncmp(text, ports[i].name, len) == 0 && text[len] == end) {
            *ret_rest = text + len + 1;
            return &ports[i];
        }
    }
    if (n == 1 && !strchr(text, end)) {
        *ret_rest = text;
        return &ports[0];
    }
    return NULL;
}

/* The shape of a raw or random input: --shape, else the model's with free dimensions filled. */
static enum sx_rc take_shape(const struct sx_port *ports, size_t n, const struct sx_port *port,
                             struct sx_tensor *t, struct sx_err *err)
{
    const char *rest;

    t->dtype = port->dtype;
    for (size_t i = 0; i < shape_texts.count; i++) {
        if (find_port(ports, n, shape_texts.item[i], ':', &rest) != port)
            continue;
        for (t->rank = 0; *rest; t->rank++) {
            char *end;
            long long dim = strtoll(rest, &end, 10);
            if (end == rest || dim < 0 || (*end && *end != ',') || t->rank == SX_MAX_RANK)
                return sx_fail(err, SX_INVALID, "--shape %s: not a list of sizes",
                               shape_texts.item[i]);
            t->dims[t->rank] = dim;
            rest = end + (*end == ',');
        }
        return SX_OK;
    }
    if (port->rank < 0) {
        sx_fail(err, SX_INVALID, "input '%s': the model does not say its shape", port->name);
        sx_hint(err, "add --shape %s:D,D", port->name);
        return SX_INVALID;
    }
    t->rank = port->rank;
    for (int d = 0; d < port->rank; d++)
        t->dims[d] = port->dims[d] < 0 ? (int64_t)free_dim : port->dims[d];
    return SX_OK;
}

/* Raw bytes: a single free dimension follows from the size of the file. */
static enum sx_rc take_raw(const struct sx_port *ports, size_t n, const struct sx_port *port,
                           const char *path, const char *data, size_t size, struct sx_pool *pool,
                           struct sx_tensor *t, struct sx_err *err)
{
    size_t need, each = sx_dtype_size(port->dtype);
    int open = -1;
    enum sx_rc rc = take_shape(ports, n, port, t, err);

    if (rc != SX_OK)
        return rc;
    if (port->dtype == SX_BYTES) {
        t->nbytes = size;
    } else {
        for (int d = 0; shape_texts.count == 0 && d < port->rank; d++)
            if (port->dims[d] < 0)
                open = open == -1 ? d : -2;
        if (open >= 0) {
            t->dims[open] = 1;
            if (sx_shape_bytes(t->dtype, t->dims, t->rank, &need) && need && size % need == 0)
                t->dims[open] = (int64_t)(size / need);
        }
        if (!sx_shape_bytes(t->dtype, t->dims, t->rank, &need) || need != size) {
            char shape[256];
            sx_fail(err, SX_INVALID, "%s: %zu bytes do not make a %s tensor of shape %s", path,
                    size, sx_dtype_name(t->dtype),
                    sx_shape_text(t->dims, t->rank, shape, sizeof shape));
            sx_hint(err, "%zu bytes for each element; --shape %s:D,D sets the shape", each,
                    port->name);
            return SX_INVALID;
        }
        t->nbytes = size;
    }
    t->buffer = sx_pool_get(pool, size);
    if (!t->buffer)
        return sx_fail(err, SX_NO_MEMORY, "%s: out of memory", path);
    t->data = t->buffer->data;
    if (size)
        memcpy(t->data, data, size);
    if (t->dtype == SX_BYTES && !sx_tensor_bytes_valid(t))
        return sx_fail(err, SX_INVALID,
                       "%s: not a BYTES tensor (4 bytes of length before each element)", path);
    return SX_OK;
}

static enum sx_rc read_input(const struct sx_port *ports, size_t n, const struct sx_port *port,
                             const char *path, struct sx_pool *pool, struct sx_tensor *t,
                             struct sx_err *err)
{
    char *data;
    size_t size, len = strlen(path);
    enum sx_rc rc = sx_file_read(path, 0, &data, &size, err);

    if (rc != SX_OK)
        return rc;
    if (sx_npy_is(data, size))
        rc = sx_npy_parse(data, size, path, pool, t, err);
    else if (len > 3 && strcmp(path + len - 3, ".pb") == 0)
        rc = sx_tensorproto_parse(data, size, path, pool, t, err);
    else if (len > 4 && strcmp(path + len - 4, ".npy") == 0)
        rc = sx_fail(err, SX_INVALID, "%s: not a .npy file", path);
    else
        rc = take_raw(ports, n, port, path, data, size, pool, t, err);
    free(data);
    if (rc == SX_OK && t->dtype != port->dtype)
        rc = sx_fail(err, SX_INVALID, "%s: holds %s, input '%s' takes %s", path,
                     sx_dtype_name(t->dtype), port->name, sx_dtype_name(port->dtype));
    return rc;
}

static enum sx_rc check_shapes(const struct sx_port *ports, size_t n, struct sx_err *err)
{
    const char *rest;
    for (size_t i = 0; i < shape_texts.count; i++) {
        if (!find_port(ports, n, shape_texts.item[i], ':', &rest)) {
            sx_fail(err, SX_INVALID, "--shape %s: the model has no such input",
                    shape_texts.item[i]);
            sx_hint(err, "write NAME:D,D; staronnx inspect lists the inputs");
            return SX_INVALID;
        }
    }
    return SX_OK;
}

static enum sx_rc take_inputs(const struct sx_port *ports, size_t n, struct sx_pool *pool,
                              struct sx_tensor *inputs, struct sx_err *err)
{
    struct sx_rng rng;
    const char *path;
    enum sx_rc rc = check_shapes(ports, n, err);

    for (size_t i = 0; i < input_texts.count && rc == SX_OK; i++) {
        const struct sx_port *port = find_port(ports, n, input_texts.item[i], '=', &path);
        if (!port) {
            sx_fail(err, SX_INVALID, "--input %s: the model has no such input",
                    input_texts.item[i]);
            sx_hint(err, "write NAME=FILE; staronnx inspect lists the inputs");
            return SX_INVALID;
        }
        if (inputs[port - ports].dtype)
            return sx_fail(err, SX_INVALID, "input '%s' is given twice", port->name);
        rc = read_input(ports, n, port, path, pool, &inputs[port - ports], err);
    }
    sx_rng_init(&rng, seed);
    for (size_t i = 0; i < n && rc == SX_OK; i++) {
        if (inputs[i].dtype || (ports[i].optional && seed == NOT_RANDOM))
            continue;
        if (seed == NOT_RANDOM) {
            sx_fail(err, SX_INVALID, "input '%s' is missing", ports[i].name);
            sx_hint(err, "add --input %s=FILE or --random SEED", ports[i].name);
            return SX_INVALID;
        }
        rc = take_shape(ports, n, &ports[i], &inputs[i], err);
        if (rc == SX_OK)
            rc = sx_tensor_random(&inputs[i], pool, &rng, err);
    }
    return rc;
}

/* --- outputs ---------------------------------------------------------------------------------- */

static enum sx_rc write_outputs(const struct sx_port *ports, size_t n,
                                const struct sx_tensor *outputs, struct sx_err *err)
{
    enum sx_rc rc = sx_dir_create(output_dir, err);

    for (size_t i = 0; i < n && rc == SX_OK; i++) {
        char name[256], path[4096];
        snprintf(name, sizeof name, "%s", ports[i].name);
        for (char *c = name; *c; c++) /* names like "gpu_0/softmax_1" must stay in the directory */
            if (*c == '/')
                *c = '_';
        snprintf(path, sizeof path, "%s/%s%s.npy", output_dir, name[0] == '.' ? "_" : "", name);
        rc = sx_npy_write(path, &outputs[i], err);
    }
    return rc;
}

static void print_times(const struct sx_hist *times)
{
    if (repeat > 1)
        printf("%" PRIu64 " runs: median %.3f ms, min %.3f, max %.3f\n", times->count,
               (double)sx_hist_quantile(times, 0.5) / 1e6, (double)times->min_ns / 1e6,
               (double)times->max_ns / 1e6);
    else
        printf("1 run: %.3f ms\n", (double)times->min_ns / 1e6);
}

static void print_text(const struct sx_port *ports, size_t n, const struct sx_tensor *outputs,
                       const struct sx_hist *times)
{
    int name_width = 6, shape_width = 5;
    char shape[256];

    for (size_t i = 0; i < n; i++) {
        int a = (int)strlen(ports[i].name);
        int b = (int)strlen(sx_shape_text(outputs[i].dims, outputs[i].rank, shape, sizeof shape));
        name_width = a > name_width && a <= 40 ? a : name_width;
        shape_width = b > shape_width && b <= 40 ? b : shape_width;
    }
    printf("%-*s  %-6s  %-*s  %11s %11s %11s  values\n", name_width, "output", "type", shape_width,
           "shape", "min", "max", "mean");
    for (size_t i = 0; i < n; i++) {
        const struct sx_tensor *t = &outputs[i];
        struct sx_tensor_summary sum;
        struct sx_sbuf values = {0};
        char numbers[3][32] = {"-", "-", "-"};

        sx_tensor_summarise(t, &sum);
        if (t->dtype != SX_BYTES && sum.count > sum.not_finite) {
            snprintf(numbers[0], sizeof numbers[0], "%.5g", sum.min);
            snprintf(numbers[1], sizeof numbers[1], "%.5g", sum.max);
            snprintf(numbers[2], sizeof numbers[2], "%.5g", sum.mean);
        }
        uint64_t shown = sx_tensor_add_values(&values, t, show, false);
        printf("%-*s  %-6s  %-*s  %11s %11s %11s  %s%s\n", name_width, ports[i].name,
               sx_dtype_name(t->dtype), shape_width,
               sx_shape_text(t->dims, t->rank, shape, sizeof shape), numbers[0], numbers[1],
               numbers[2], values.data ? values.data : "", shown < sum.count ? " ..." : "");
        if (sum.not_finite)
            printf("%*s  (%" PRIu64 " values are not finite)\n", name_width, "", sum.not_finite);
        sx_sbuf_free(&values);
    }
    print_times(times);
}

static void print_json(const char *path, const struct sx_port *ports, size_t n,
                       const struct sx_tensor *outputs, const struct sx_hist *times)
{
    struct sx_sbuf s = {0};

    sx_sbuf_puts(&s, "{\"model\":");
    sx_sbuf_json(&s, path);
    sx_sbuf_printf(&s, ",\"runs\":%" PRIu64 ",\"median_ms\":%.6f,\"min_ms\":%.6f,\"outputs\":[",
                   times->count, (double)sx_hist_quantile(times, 0.5) / 1e6,
                   (double)times->min_ns / 1e6);
    for (size_t i = 0; i < n; i++) {
        sx_sbuf_puts(&s, i ? ",{\"name\":" : "{\"name\":");
        sx_sbuf_json(&s, ports[i].name);
        sx_sbuf_printf(&s, ",\"datatype\":\"%s\",\"shape\":[", sx_dtype_name(outputs[i].dtype));
        for (int d = 0; d < outputs[i].rank; d++)
            sx_sbuf_printf(&s, "%s%" PRId64, d ? "," : "", outputs[i].dims[d]);
        sx_sbuf_puts(&s, "],\"data\":[");
        sx_tensor_add_values(&s, &outputs[i], UINT64_MAX, true);
        sx_sbuf_puts(&s, "]}");
    }
    sx_sbuf_puts(&s, "]}");
    if (!s.failed)
        puts(s.data);
    sx_sbuf_free(&s);
}

/* --- the run ---------------------------------------------------------------------------------- */

static void bind_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* only speed depends on it */
}

static enum sx_rc run(struct sx_engine_model *model, const struct sx_machine *machine,
                      const char *path, struct sx_pool *pool, struct sx_err *err)
{
    const struct sx_port *in, *out;
    size_t n_in = sx_engine_inputs(model, &in), n_out = sx_engine_outputs(model, &out);
    struct sx_tensor *inputs = calloc(n_in + 1, sizeof *inputs);
    struct sx_tensor *outputs = calloc(n_out + 1, sizeof *outputs);
    int *cpus = calloc(machine->n_units, sizeof *cpus);
    struct sx_hist *times = malloc(sizeof *times);
    struct sx_session *session = NULL;
    enum sx_rc rc = SX_OK;

    if (!inputs || !outputs || !cpus || !times)
        rc = sx_fail(err, SX_NO_MEMORY, "out of memory");
    else
        rc = take_inputs(in, n_in, pool, inputs, err);
    if (rc == SX_OK) {
        sx_machine_cpus(machine, 0, machine->n_units, cpus);
        rc = sx_session_create(model, machine->n_units, cpus, &session, err);
    }
    if (rc == SX_OK) {
        bind_to(cpus[0]);
        sx_hist_init(times);
    }
    for (uint64_t i = 0; rc == SX_OK && i < repeat; i++) {
        for (size_t k = 0; k < n_out; k++)
            sx_tensor_unref(&outputs[k]);
        uint64_t begin = sx_now();
        rc = sx_session_run(session, inputs, outputs, NULL, err);
        uint64_t took = sx_now() - begin;
        sx_sleep_until(begin + (uint64_t)((double)took * machine->devices[0].slowdown));
        if (rc == SX_OK)
            sx_hist_add(times, sx_now() - begin);
    }
    if (rc == SX_OK && output_dir)
        rc = write_outputs(out, n_out, outputs, err);
    if (rc == SX_OK && json)
        print_json(path, out, n_out, outputs, times);
    else if (rc == SX_OK)
        print_text(out, n_out, outputs, times);
    for (size_t i = 0; inputs && i < n_in; i++)
        sx_tensor_unref(&inputs[i]);
    for (size_t i = 0; outputs && i < n_out; i++)
        sx_tensor_unref(&outputs[i]);
    sx_session_destroy(session);
    free(inputs);
    free(outputs);
    free(cpus);
    free(times);
    return rc;
}

int sx_cmd_infer(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_machine *machine = NULL;
    struct sx_engine *engine = NULL;
    struct sx_engine_model *model = NULL;
    struct sx_pool *pool = NULL;
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    if (repeat < 1 || free_dim < 1 || free_dim > INT32_MAX) {
        code = sx_usage_error(&usage, "--repeat and --free-dim take a number from 1 on");
        goto out;
    }
    if (devices.count > 1) {
        code = sx_usage_error(&usage, "a model runs on one --device here; several are for serve");
        goto out;
    }
    rc = sx_open_machine(&devices, &machine, &err);
    if (rc == SX_OK)
        rc = sx_open_engine(library, NULL, &engine, &err);
    if (rc == SX_OK && (rc = sx_pool_create(&pool)) != SX_OK)
        sx_fail(&err, rc, "out of memory");
    if (rc == SX_OK)
        rc = sx_engine_open_model(engine, operands.item[0], &model, &err);
    if (rc == SX_OK)
        rc = run(model, machine, operands.item[0], pool, &err);
    if (rc == SX_OK)
        sx_say_emulated(machine);
    if (rc != SX_OK)
        sx_complain(usage.name, &err);
    code = sx_exit_of(rc);
out:
    sx_engine_close_model(model);
    sx_engine_destroy(engine);
    if (pool)
        sx_pool_destroy(pool);
    sx_machine_destroy(machine);
    sx_texts_free(&input_texts);
    sx_texts_free(&shape_texts);
    sx_texts_free(&devices);
    sx_texts_free(&operands);
    return code;
}
