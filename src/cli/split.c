/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * split.c - `staronnx split MODEL`: the stages of a plan as ONNX files that other programs run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "cli/cut.h"
#include "graph/stage.h"

static struct sx_cut_common common;
static const char *output, *plan_path, *share_text;
static uint64_t batch = 1, stages;

static const struct sx_option options[] = {
    {"output", 'o', "DIR", SX_OPT_TEXT, &output, "where the files go; made if need be"},
    {"stages", 's', "N", SX_OPT_UINT, &stages,
     "how many: equal shares, or with --device those that suit the devices' speeds; default 2"},
    {"shares", 0, "P,P", SX_OPT_TEXT, &share_text, "of the work for each stage, as in 80,20"},
    {"plan", 'p', "PLAN", SX_OPT_TEXT, &plan_path,
     "cut as this plan says (from staronnx plan --portable)"},
    {"batch", 'b', "N", SX_OPT_UINT, &batch, "samples that run together; default 1"},
    SX_CUT_COMMON_OPTIONS(&common),
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx split",
    .operands = "MODEL.onnx",
    .summary =
        "Write stages of a model as ONNX files that any ONNX Runtime runs, and pipeline.json, "
        "which says in which order and how their inputs and outputs connect. The weights of a "
        "stage are in its file, or beside it when they exceed 1 GiB.",
    .details = "Examples:\n"
               "  staronnx split resnet50.onnx --output parts --stages 3\n"
               "  staronnx split resnet50.onnx --output parts --shares 80,20\n"
               "  staronnx split resnet50.onnx --output parts --device cpu:0 --device cpu:1@4\n",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

/* --- the plan --------------------------------------------------------------------------------- */

static enum sx_rc make_plan(struct sx_cut *cut, struct sx_plan **ret_plan, struct sx_err *err)
{
    struct sx_cut_request request = {.batch = (unsigned)batch};
    unsigned n = stages ? (unsigned)stages : common.devices.count > 1 ? cut->machine->n_devices : 2;
    size_t made = 0;
    enum sx_rc rc;

    if (plan_path) {
        rc = sx_plan_load(plan_path, &cut->profile.key, ret_plan, err);
        return rc ? rc : sx_plan_check(*ret_plan, cut->dag, err);
    }
    if (share_text) {
        sx_cut_shares(share_text, &request); /* was looked at before */
    } else if (common.devices.count > 1) {
        request.n_stages = n;
    } else {
        request.n_shares = n;
        for (unsigned s = 0; s < n; s++)
            request.shares[s] = 1.0 / n;
    }
    rc = sx_cut_profile(
        cut, &(struct sx_cut_grid){.batches = &request.batch, .n_batches = 1, .runs = SX_CUT_RUNS},
        err);
    return rc ? rc : sx_cut_plans(cut, &request, ret_plan, 1, &made, err);
}

/* --- files ------------------------------------------------------------------------------------ */

static void add_ports(struct sx_sbuf *s, const char *key, const struct sx_dag *dag,
                      const uint32_t *tensors, size_t n, const uint32_t *stage_of)
{
    sx_sbuf_printf(s, ",\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        const struct sx_dag_tensor *t = &dag->tensors[tensors[i]];
        sx_sbuf_puts(s, i ? ",\n     {\"name\":" : "\n     {\"name\":");
        sx_sbuf_json(s, t->name);
        if (stage_of && t->producer == SX_DAG_NONE)
            sx_sbuf_puts(s, ",\"from\":\"input\"");
        else if (stage_of)
            sx_sbuf_printf(s, ",\"from\":%u", stage_of[t->producer] + 1);
        else
            sx_sbuf_printf(s, ",\"output\":%s", t->output ? "true" : "false");
        sx_sbuf_printf(s, ",\"bytes\":%.0f}", sx_dag_bytes(dag, tensors[i], (unsigned)batch));
    }
    sx_sbuf_putc(s, ']');
}

static enum sx_rc add_stage(struct sx_sbuf *s, const struct sx_cut *cut, const struct sx_plan *plan,
                            unsigned index, const uint32_t *stage_of, struct sx_err *err)
{
    const struct sx_plan_stage *stage = &plan->stages[index];
    uint32_t *in = NULL, *out;
    size_t n_in, n_out;
    enum sx_rc rc =
        sx_stage_ports(cut->dag, stage->nodes, stage->n_nodes, &in, &n_in, &out, &n_out);

    if (rc)
        return sx_fail(err, rc, "stage %u: no memory for its ports", index + 1);
    sx_sbuf_printf(s, "%s\n    {\"file\":\"stage-%u.onnx\",\"device\":", index ? "," : "",
                   index + 1);
    sx_sbuf_json(s, plan->devices[stage->device]);
    sx_sbuf_printf(s, ",\"operators\":%u,\"predicted_ms\":%.6g,\"weight_bytes\":%llu",
                   stage->n_nodes, stage->ns * 1e-6, (unsigned long long)stage->weight_bytes);
    add_ports(s, "inputs", cut->dag, in, n_in, stage_of);
    add_ports(s, "outputs", cut->dag, out, n_out, NULL);
    sx_sbuf_putc(s, '}');
    free(in);
    return SX_OK;
}

static enum sx_rc add_pipeline(struct sx_sbuf *s, const struct sx_cut *cut,
                               const struct sx_plan *plan, struct sx_err *err)
{
    uint32_t *stage_of = calloc(cut->dag->n_nodes + 1, sizeof *stage_of);
    enum sx_rc rc = SX_OK;

    if (!stage_of)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the pipeline");
    for (unsigned i = 0; i < plan->n_stages; i++)
        for (uint32_t k = 0; k < plan->stages[i].n_nodes; k++)
            stage_of[plan->stages[i].nodes[k]] = i;
    sx_sbuf_puts(s, "{\"format\":1,\"model\":");
    sx_sbuf_json(s, cut->path);
    sx_sbuf_printf(s, ",\"batch\":%u,\"bytes_cut\":%.0f,\"stages\":[", plan->batch,
                   plan->bytes_cut);
    for (unsigned i = 0; !rc && i < plan->n_stages; i++)
        rc = add_stage(s, cut, plan, i, stage_of, err);
    sx_sbuf_puts(s, "]}\n");
    free(stage_of);
    return rc;
}

static enum sx_rc write_stages(const struct sx_cut *cut, const struct sx_plan *plan,
                               struct sx_sbuf *pipeline, struct sx_err *err)
{
    char path[PATH_MAX];
    enum sx_rc rc = sx_dir_create(output, err);

    if (!rc)
        rc = add_pipeline(pipeline, cut, plan, err);
    for (unsigned i = 0; !rc && i < plan->n_stages; i++) {
        const struct sx_plan_stage *stage = &plan->stages[i];
        if (snprintf(path, sizeof path, "%s/stage-%u.onnx", output, i + 1) >= (int)sizeof path)
            return sx_fail(err, SX_INVALID, "the path '%s' is too long", output);
        rc = sx_stage_write(sx_engine_graph_onnx(cut->model), cut->dag, stage->nodes,
                            stage->n_nodes, path, SX_STAGE_COPY, err);
    }
    if (rc)
        return rc;
    /* those of an earlier, longer split would be taken for ours */
    for (unsigned i = plan->n_stages + 1;; i++) {
        if (snprintf(path, sizeof path, "%s/stage-%u.onnx", output, i) >= (int)sizeof path ||
            unlink(path))
            break;
        if (snprintf(path, sizeof path, "%s/stage-%u.weights", output, i) < (int)sizeof path)
            unlink(path);
    }
    if (snprintf(path, sizeof path, "%s/pipeline.json", output) >= (int)sizeof path)
        return sx_fail(err, SX_INVALID, "the path '%s' is too long", output);
    return pipeline->failed ? sx_fail(err, SX_NO_MEMORY, "no memory for the pipeline")
                            : sx_file_write(path, pipeline->data, pipeline->len, err);
}

static void print_text(const struct sx_plan *plan)
{
    double whole = 0;

    for (unsigned i = 0; i < plan->n_stages; i++)
        whole += plan->stages[i].ns;
    int width = snprintf(NULL, 0, "%s/stage-%u.onnx", output, plan->n_stages);
    printf("%-*s %9s %6s %12s %12s %12s\n", width, "file", "operators", "work", "weights", "in",
           "out");
    for (unsigned i = 0; i < plan->n_stages; i++) {
        const struct sx_plan_stage *s = &plan->stages[i];
        int len = printf("%s/stage-%u.onnx", output, i + 1);
        printf("%*s %9u %5.1f%% %8.1f MiB %8.1f KiB %8.1f KiB\n", width - len, "", s->n_nodes,
               whole > 0 ? 100 * s->ns / whole : 0, (double)s->weight_bytes / 1048576,
               s->in_bytes / 1024, s->out_bytes / 1024);
    }
    printf("%s/pipeline.json\n", output);
}

int sx_cmd_split(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_cut cut = {.command = usage.name};
    struct sx_cut_request shares = {0};
    struct sx_plan *plan = NULL;
    struct sx_sbuf pipeline = {0};
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    if (!output)
        code = sx_usage_error(&usage, "--output DIR says where the files go");
    else if (batch < 1 || batch > SX_CUT_MAX_BATCH)
        code = sx_usage_error(&usage, "--batch takes 1 to %d", SX_CUT_MAX_BATCH);
    else if (stages > SX_PLAN_MAX_STAGES)
        code = sx_usage_error(&usage, "--stages takes 1 to %d", SX_PLAN_MAX_STAGES);
    else if (share_text && !sx_cut_shares(share_text, &shares))
        code = sx_usage_error(&usage, "--shares takes 2 to %d positive numbers, as in 80,20",
                              SX_PLAN_MAX_STAGES);
    else if (share_text && stages && stages != shares.n_shares)
        code = sx_usage_error(&usage, "--stages %u and %u --shares", (unsigned)stages,
                              shares.n_shares);
    else if (plan_path && (share_text || stages))
        code = sx_usage_error(&usage, "--plan already says how to cut");
    if (code >= 0)
        goto out;
    rc = sx_cut_open(&cut, operands.item[0], &common.devices, common.library, true, &err);
    if (!rc)
        rc = make_plan(&cut, &plan, &err);
    if (!rc)
        rc = write_stages(&cut, plan, &pipeline, &err);
    if (rc)
        sx_complain(usage.name, &err);
    else if (common.json)
        fputs(pipeline.data, stdout);
    else
        print_text(plan);
    code = sx_exit_of(rc);
out:
    sx_sbuf_free(&pipeline);
    sx_plan_destroy(plan);
    sx_cut_close(&cut);
    sx_texts_free(&common.devices);
    sx_texts_free(&operands);
    return code;
}
