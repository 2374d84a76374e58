/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.c - `staronnx explain PLAN|MODEL`: what a plan does, as predicted and as measured.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "cli/cut.h"

static struct sx_cut_common common;
static const char *gantt, *model_path, *server;
static uint64_t batch = 1, stages, jobs = 10;
static double objective, seconds = 5;
static bool measure, portable;

static const struct sx_option options[] = {
    {"model", 'm', "MODEL.onnx", SX_OPT_TEXT, &model_path,
     "the model that a PLAN is for: names its operators; needed with --measure"},
    {"batch", 'b', "N", SX_OPT_UINT, &batch, "for a MODEL: samples that run together; default 1"},
    {"stages", 's', "N", SX_OPT_UINT, &stages,
     "for a MODEL: the best cut into at most N stages; default: the best of all plans"},
    {"objective", 0, "MS", SX_OPT_REAL, &objective, "for a MODEL: the latency to keep"},
    {"portable", 0, NULL, SX_OPT_FLAG, &portable,
     "the graph that split cuts: before ONNX Runtime suits it to this machine"},
    {"server", 0, "URL", SX_OPT_TEXT, &server,
     "how the models of a running server share its machine, and why: HOST:PORT; no operand"},
    {"gantt", 'g', "FILE.svg", SX_OPT_TEXT, &gantt, "draw the pipeline, saturated"},
    {"jobs", 0, "N", SX_OPT_UINT, &jobs, "how many jobs to draw, up to 64; default 10"},
    {"measure", 0, NULL, SX_OPT_FLAG, &measure,
     "run the stages, saturated, and set what is measured beside the prediction"},
    {"seconds", 0, "S", SX_OPT_REAL, &seconds, "for how long; default 5"},
    SX_CUT_COMMON_OPTIONS(&common),
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx explain",
    .operands = "PLAN|MODEL.onnx|--server URL",
    .summary = "Show a plan's stages: where each runs, what it computes, how long that takes, and "
               "which method found the cut. For a model: of its best plan (see staronnx plan).",
    .details = "Examples:\n"
               "  staronnx explain resnet50.plan --gantt pipeline.svg\n"
               "  staronnx explain resnet50.onnx --device cpu:0 --device cpu:1@8 --measure\n"
               "  staronnx explain --server localhost:8000\n",
    .options = options,
    .min_operands = 0,
    .max_operands = 1,
};

/* A plan is JSON; no ONNX file begins with a brace (protobuf has no field 15 there). */
static bool is_plan(const char *path)
{
    FILE *f = fopen(path, "rbe");
    int first = f ? getc(f) : EOF;

    if (f)
        fclose(f);
    return first == '{';
}

/* --- where the plan comes from ---------------------------------------------------------------- */

/* The devices are those that the plan names. */
static enum sx_rc open_planned(struct sx_cut *cut, const char *path, struct sx_plan **ret_plan,
                               struct sx_err *err)
{
    const char *names[SX_PLAN_MAX_STAGES];
    struct sx_texts devices = {.item = names};
    struct sx_plan *plan;
    enum sx_rc rc = sx_plan_load(path, NULL, ret_plan, err);

    if (rc || !model_path)
        return rc;
    plan = *ret_plan;
    for (unsigned d = 0; measure && d < plan->n_devices; d++)
        names[devices.count++] = plan->devices[d];
    rc = sx_cut_open(cut, model_path, &devices, common.library, portable, err);
    if (rc)
        return rc;
    sx_plan_destroy(plan); /* again, now that it is known what it must be for */
    *ret_plan = NULL;
    rc = sx_plan_load(path, &cut->profile.key, ret_plan, err);
    return rc ? rc : sx_plan_check(*ret_plan, cut->dag, err);
}

static enum sx_rc open_model(struct sx_cut *cut, const char *path, struct sx_plan **ret_plan,
                             struct sx_err *err)
{
    const struct sx_cut_request request = {.batch = (unsigned)batch, .n_stages = (unsigned)stages};
    struct sx_plan *plans[SX_CUT_MAX_PLANS] = {NULL};
    size_t n = 0;
    enum sx_rc rc = sx_cut_open(cut, path, &common.devices, common.library, portable, err);

    if (!rc)
        rc = sx_cut_profile(
            cut,
            &(struct sx_cut_grid){.batches = &request.batch, .n_batches = 1, .runs = SX_CUT_RUNS},
            err);
    if (!rc)
        rc = sx_cut_plans(cut, &request, plans, SX_CUT_MAX_PLANS, &n, err);
    if (!rc) {
        size_t best = sx_cut_best(plans, n, objective);
        *ret_plan = plans[best];
        plans[best] = NULL;
    }
    for (size_t i = 0; i < n; i++)
        sx_plan_destroy(plans[i]);
    return rc;
}

/* --- output ----------------------------------------------------------------------------------- */

static double error_percent(double measured, double predicted)
{
    return predicted > 0 ? 100 * (measured - predicted) / predicted : 0;
}

static void add_measured(struct sx_sbuf *s, const struct sx_plan *plan,
                         const struct sx_cut_run *run)
{
    double rate = run->rate * plan->batch;

    sx_sbuf_printf(s, "\nmeasured      %.4g samples/s (%+.1f%% of predicted) over %u jobs\n", rate,
                   error_percent(rate, sx_plan_throughput(plan)), run->jobs);
    sx_sbuf_printf(s, "latency       %.4g ms with the line full: requests wait between stages\n",
                   run->latency_ns * 1e-6);
    sx_sbuf_puts(s, "busy         ");
    for (unsigned i = 0; i < plan->n_stages; i++)
        sx_sbuf_printf(s, " stage %u %.0f%%%s", i + 1, 100 * run->busy[i],
                       i + 1 < plan->n_stages ? "," : "");
    if (plan->n_stages > 1)
        sx_sbuf_printf(s, "; all at once %.0f%%", 100 * run->all_busy);
    sx_sbuf_putc(s, '\n');
}

static void add_json(struct sx_sbuf *s, const struct sx_plan *plan, const struct sx_cut_run *run)
{
    sx_sbuf_puts(s, "{\"plan\":");
    sx_plan_json(plan, true, s);
    sx_sbuf_printf(s, ",\"throughput\":%.10g,\"emulated\":%s", sx_plan_throughput(plan),
                   sx_plan_emulated(plan) ? "true" : "false");
    if (run) {
        sx_sbuf_printf(s,
                       ",\"measured\":{\"throughput\":%.10g,\"jobs\":%u,\"latency_ns\":%.10g,"
                       "\"all_busy\":%.6g,\"stages\":[",
                       run->rate * plan->batch, run->jobs, run->latency_ns, run->all_busy);
        for (unsigned i = 0; i < plan->n_stages; i++) {
            const struct sx_plan_stage *stage = &plan->stages[i];
            sx_sbuf_printf(s, "%s{\"ns\":%.10g,\"predicted_ns\":%.10g,\"busy\":%.6g}", i ? "," : "",
                           run->median_ns[i], stage->ns + stage->transfer_ns, run->busy[i]);
        }
        sx_sbuf_puts(s, "]}");
    }
    sx_sbuf_puts(s, "}\n");
}

static enum sx_rc write_gantt(const struct sx_plan *plan, const struct sx_cut_run *run,
                              struct sx_err *err)
{
    struct sx_plan_span spans[SX_PLAN_MAX_JOBS * SX_PLAN_MAX_STAGES];
    size_t n =
        run ? sx_cut_run_middle(run, (unsigned)jobs, spans, sizeof spans / sizeof *spans) : 0;
    struct sx_sbuf s = {0};
    enum sx_rc rc;

    sx_plan_gantt(plan, (unsigned)jobs, spans, n, &s);
    rc = s.failed ? sx_fail(err, SX_NO_MEMORY, "no memory for a picture")
                  : sx_file_write(gantt, s.data, s.len, err);
    sx_sbuf_free(&s);
    return rc;
}

static enum sx_rc explain(struct sx_cut *cut, const struct sx_plan *plan, struct sx_err *err)
{
    struct sx_cut_run run = {0};
    struct sx_sbuf s = {0};
    enum sx_rc rc = SX_OK;

    if (measure)
        rc = sx_cut_measure(cut, plan, seconds, &run, err);
    if (!rc && gantt)
        rc = write_gantt(plan, measure ? &run : NULL, err);
    if (!rc && common.json) {
        add_json(&s, plan, measure ? &run : NULL);
    } else if (!rc) {
        if (!cut->model)
            sx_sbuf_printf(&s, "made for      %s, machine %s, a graph of %u operators\n",
                           plan->key.engine, plan->key.machine, plan->key.n_nodes);
        sx_plan_text(plan, cut->dag, measure ? run.median_ns : NULL, &s);
        if (measure)
            add_measured(&s, plan, &run);
    }
    if (!rc && s.failed)
        rc = sx_fail(err, SX_NO_MEMORY, "no memory for the answer");
    if (!rc)
        fputs(s.data, stdout);
    sx_sbuf_free(&s);
    sx_cut_run_fini(&run);
    return rc;
}

int sx_cmd_explain(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_cut cut = {.command = usage.name};
    struct sx_plan *plan = NULL;
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    if (server && operands.count) {
        code = sx_usage_error(&usage, "--server takes no PLAN or MODEL");
        goto out;
    }
    if (server) {
        rc = sx_explain_server(server, common.json, &err);
        if (rc)
            sx_complain(usage.name, &err);
        code = sx_exit_of(rc);
        goto out;
    }
    if (!operands.count) {
        code = sx_usage_error(&usage, "what to explain? Name a PLAN, a MODEL.onnx or --server URL");
        goto out;
    }
    bool planned = is_plan(operands.item[0]);
    if (batch < 1 || batch > SX_CUT_MAX_BATCH)
        code = sx_usage_error(&usage, "--batch takes 1 to %d", SX_CUT_MAX_BATCH);
    else if (stages > SX_PLAN_MAX_STAGES)
        code = sx_usage_error(&usage, "--stages takes 1 to %d", SX_PLAN_MAX_STAGES);
    else if (jobs < 1 || jobs > SX_PLAN_MAX_JOBS)
        code = sx_usage_error(&usage, "--jobs takes 1 to %d", SX_PLAN_MAX_JOBS);
    else if (measure && (seconds <= 0 || seconds > 3600))
        code = sx_usage_error(&usage, "--seconds takes more than 0, up to 3600");
    else if (planned && measure && !model_path)
        code = sx_usage_error(&usage, "--measure of a plan needs --model");
    else if (!planned && model_path)
        code = sx_usage_error(&usage, "--model is for a plan, and '%s' is none", operands.item[0]);
    if (code >= 0)
        goto out;
    rc = planned ? open_planned(&cut, operands.item[0], &plan, &err)
                 : open_model(&cut, operands.item[0], &plan, &err);
    if (!rc)
        rc = explain(&cut, plan, &err);
    if (rc)
        sx_complain(usage.name, &err);
    code = sx_exit_of(rc);
out:
    sx_plan_destroy(plan);
    sx_cut_close(&cut);
    sx_texts_free(&common.devices);
    sx_texts_free(&operands);
    return code;
}
