/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - `staronnx plan MODEL...`: how models could be cut for the devices, and what to expect.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "cli/cut.h"

static struct sx_cut_common common;
static const char *share_text, *memory_text, *output;
static uint64_t batch = 1, stages;
static double objective;
static bool portable;

static const struct sx_option options[] = {
    {"batch", 'b', "N", SX_OPT_UINT, &batch, "samples that run together; default 1"},
    {"stages", 's', "N", SX_OPT_UINT, &stages,
     "only the best cut into at most N stages on different devices; default: whole on each "
     "device, and every cut that may pay"},
    {"shares", 0, "P,P", SX_OPT_TEXT, &share_text,
     "what if stages got these shares of the work (80,20), on devices that are alike"},
    {"memory", 0, "MIB,MIB", SX_OPT_TEXT, &memory_text,
     "what the weights of a stage may take on each device, in their order; 0: no limit"},
    {"objective", 0, "MS", SX_OPT_REAL, &objective,
     "the latency to keep: the best plan is then the one of highest throughput that keeps it"},
    {"output", 'o', "PLAN", SX_OPT_TEXT, &output, "write the best plan there"},
    {"portable", 0, NULL, SX_OPT_FLAG, &portable,
     "plan the graph that split cuts: before ONNX Runtime suits it to this machine"},
    SX_CUT_COMMON_OPTIONS(&common),
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx plan",
    .operands = "MODEL.onnx ...",
    .summary = "Predict how models run on the devices: whole on each, and cut into stages that "
               "work on several requests at a time. Uses the profile in the cache, or measures "
               "one (see staronnx profile).",
    .details =
        "Examples:\n"
        "  staronnx plan resnet50.onnx --device cpu:0 --device cpu:1@8 --objective 100\n"
        "  staronnx plan resnet50.onnx --device cpu:0 --device cpu:1 --stages 2 -o resnet50.plan\n"
        "  staronnx explain resnet50.plan\n",
    .options = options,
    .min_operands = 1,
    .max_operands = SIZE_MAX,
};

static double memory_mib(const struct sx_plan *p)
{
    double bytes = 0;

    for (unsigned s = 0; s < p->n_stages; s++)
        bytes += (double)p->stages[s].weight_bytes;
    return bytes / 1048576;
}

static bool keeps(const struct sx_plan *p)
{
    return objective <= 0 || p->latency_ns <= objective * 1e6;
}

static void print_text(const struct sx_cut *cut, struct sx_plan *const *plans, size_t n,
                       size_t best)
{
    int width = 4;
    bool emulated = false;

    for (size_t i = 0; i < n; i++) {
        int len = (int)strlen(plans[i]->name);
        width = len > width ? len : width;
    }
    for (unsigned d = 0; d < cut->machine->n_devices; d++)
        emulated = emulated || cut->machine->devices[d].slowdown > 1;
    printf("%s, batch %u\n", cut->path, plans[0]->batch);
    printf("    %-*s %6s %11s %11s %12s %10s %9s%s\n", width, "plan", "stages", "latency ms",
           "slowest ms", "samples/s", "weights", "cut", objective > 0 ? "  objective" : "");
    for (size_t i = 0; i < n; i++) {
        const struct sx_plan *p = plans[i];
        printf("%s %-*s %6u %11.3f %11.3f %12.2f %6.0f MiB %5.0f KiB%s\n",
               i == best ? " =>" : "   ", width, p->name, p->n_stages, p->latency_ns * 1e-6,
               p->slowest_ns * 1e-6, sx_plan_throughput(p), memory_mib(p), p->bytes_cut / 1024,
               objective <= 0 ? ""
               : keeps(p)     ? "  kept"
                              : "  missed");
    }
    if (emulated)
        puts("    @K: emulated, made K times slower; the figures are of a what-if");
    if (!keeps(plans[best]))
        puts("    no plan keeps the objective; => is the fastest");
}

static void add_json(struct sx_sbuf *s, const struct sx_cut *cut, struct sx_plan *const *plans,
                     size_t n, size_t best)
{
    sx_sbuf_puts(s, "{\"model\":");
    sx_sbuf_json(s, cut->path);
    sx_sbuf_printf(s, ",\"best\":%zu,\"plans\":[", best);
    for (size_t i = 0; i < n; i++) {
        if (i)
            sx_sbuf_putc(s, ',');
        sx_plan_json(plans[i], true, s);
        s->len--; /* more fields before the brace */
        sx_sbuf_printf(s, ",\"throughput\":%.10g,\"keeps_objective\":%s}",
                       sx_plan_throughput(plans[i]), keeps(plans[i]) ? "true" : "false");
    }
    sx_sbuf_puts(s, "]}");
}

/* "0,300": a number for each device. */
static enum sx_rc limit_memory(struct sx_machine *machine, struct sx_err *err)
{
    const char *at = memory_text;
    unsigned n = 0;

    for (; n < machine->n_devices; n++) {
        char *end;
        double mib = strtod(at, &end);
        if (end == at || !(mib >= 0) || mib > 1e9)
            break;
        machine->devices[n].memory_bytes = mib * 1048576;
        at = *end == ',' ? end + 1 : end;
    }
    if (n == machine->n_devices && !*at)
        return SX_OK;
    sx_fail(err, SX_INVALID, "--memory '%s' is not a number of MiB for each of %u devices",
            memory_text, machine->n_devices);
    return SX_INVALID;
}

static enum sx_rc plan_model(const char *path, const struct sx_cut_request *request,
                             struct sx_sbuf *json, struct sx_err *err)
{
    struct sx_cut cut = {.command = usage.name};
    struct sx_plan *plans[SX_CUT_MAX_PLANS] = {NULL};
    size_t n = 0, best = 0;
    enum sx_rc rc = sx_cut_open(&cut, path, &common.devices, common.library, portable, err);

    if (!rc && memory_text)
        rc = limit_memory(cut.machine, err);
    if (!rc)
        rc = sx_cut_profile(
            &cut,
            &(struct sx_cut_grid){.batches = &request->batch, .n_batches = 1, .runs = SX_CUT_RUNS},
            err);
    if (!rc)
        rc = sx_cut_plans(&cut, request, plans, SX_CUT_MAX_PLANS, &n, err);
    if (!rc)
        best = sx_cut_best(plans, n, objective);
    if (!rc && output)
        rc = sx_plan_save(plans[best], output, err);
    if (!rc && common.json)
        add_json(json, &cut, plans, n, best);
    else if (!rc)
        print_text(&cut, plans, n, best);
    for (size_t i = 0; i < n; i++)
        sx_plan_destroy(plans[i]);
    sx_cut_close(&cut);
    return rc;
}

int sx_cmd_plan(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_cut_request request = {0};
    struct sx_sbuf out = {0};
    struct sx_err err = {0};
    enum sx_rc rc = SX_OK;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    if (batch < 1 || batch > SX_CUT_MAX_BATCH)
        code = sx_usage_error(&usage, "--batch takes 1 to %d", SX_CUT_MAX_BATCH);
    else if (stages > SX_PLAN_MAX_STAGES)
        code = sx_usage_error(&usage, "--stages takes 1 to %d", SX_PLAN_MAX_STAGES);
    else if (share_text && !sx_cut_shares(share_text, &request))
        code = sx_usage_error(&usage, "--shares takes 2 to %d positive numbers, as in 80,20",
                              SX_PLAN_MAX_STAGES);
    else if (share_text && stages && stages != request.n_shares)
        code = sx_usage_error(&usage, "--stages %u and %u --shares", (unsigned)stages,
                              request.n_shares);
    else if (share_text && memory_text)
        code = sx_usage_error(&usage, "--memory is for devices, and --shares has none");
    else if (output && operands.count > 1)
        code = sx_usage_error(&usage, "--output is for one model");
    if (code >= 0)
        goto out;
    request.batch = (unsigned)batch;
    request.n_stages = share_text ? 0 : (unsigned)stages;
    if (common.json)
        sx_sbuf_puts(&out, "{\"models\":[");
    for (size_t i = 0; !rc && i < operands.count; i++) {
        if (i)
            common.json ? sx_sbuf_putc(&out, ',') : (void)putchar('\n');
        rc = plan_model(operands.item[i], &request, &out, &err);
    }
    if (rc)
        sx_complain(usage.name, &err);
    else if (common.json && !out.failed)
        printf("%s]}\n", out.data);
    code = sx_exit_of(rc);
out:
    sx_sbuf_free(&out);
    sx_texts_free(&common.devices);
    sx_texts_free(&operands);
    return code;
}
