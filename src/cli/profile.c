/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - `staronnx profile MODEL`: how long each operator takes, by device and batch.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "cli/cut.h"

#define MAX_BATCHES 16

static struct sx_cut_common common;
static const char *batch_text, *output;
static uint64_t runs = SX_CUT_RUNS, show = 12;
static bool portable;

static const struct sx_option options[] = {
    {"batch", 'b', "N,N", SX_OPT_TEXT, &batch_text,
     "batch sizes; default 1,2,4, or 1 for a model of fixed batch"},
    {"runs", 'n', "N", SX_OPT_UINT, &runs, "runs of each measurement; default 10"},
    {"operators", 0, "N", SX_OPT_UINT, &show, "how many of the slowest to print; default 12"},
    {"output", 'o', "FILE", SX_OPT_TEXT, &output,
     "write the profile there, not to the cache where plan and serve look for it"},
    {"portable", 0, NULL, SX_OPT_FLAG, &portable,
     "measure the graph that split cuts: before ONNX Runtime suits it to this machine"},
    SX_CUT_COMMON_OPTIONS(&common),
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx profile",
    .operands = "MODEL.onnx",
    .summary = "Measure how long each operator of a model takes, on each kind of device, and what "
               "a copy between them costs. The times of an emulated device (@8) are those of the "
               "real one.",
    .details = "Example:\n  staronnx profile resnet50.onnx --device cpu:0 --batch 1,4,8\n",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

/* "1,4,8", into ascending order without doubles; 0: not that. */
static size_t parse_batches(const char *text, unsigned batches[MAX_BATCHES])
{
    size_t n = 0;

    for (;; text++) {
        char *end;
        unsigned long batch = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || batch < 1 || batch > SX_CUT_MAX_BATCH || n == MAX_BATCHES)
            return 0;
        size_t at = 0;
        while (at < n && batches[at] < batch)
            at++;
        if (at == n || batches[at] != batch) {
            memmove(batches + at + 1, batches + at, (n - at) * sizeof *batches);
            batches[at] = (unsigned)batch;
            n++;
        }
        text = end;
        if (*text != ',')
            break;
    }
    return *text ? 0 : n;
}

/* --- output ----------------------------------------------------------------------------------- */

struct ranked {
    uint32_t node;
    double ns;
};

static int by_time(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->ns != y->ns ? (x->ns < y->ns ? 1 : -1) : (x->node > y->node) - (x->node < y->node);
}

/* The operators, slowest first; NULL: no memory. */
static struct ranked *rank(const struct sx_cut *cut, const struct sx_profile_table *t)
{
    struct ranked *all = malloc((cut->dag->n_nodes + 1) * sizeof *all);

    for (uint32_t v = 0; all && v < cut->dag->n_nodes; v++)
        all[v] = (struct ranked){v, t->node_ns[v]};
    if (all)
        qsort(all, cut->dag->n_nodes, sizeof *all, by_time);
    return all;
}

static void print_operators(const struct sx_cut *cut, const struct sx_profile_table *t)
{
    struct ranked *all = rank(cut, t);
    double sum = 0;

    printf("\nslowest operators (%s, %u core%s, batch %u)\n", t->kind, t->units,
           t->units == 1 ? "" : "s", t->batch);
    printf("  %-24s %9s %7s %7s  %s\n", "type", "ms", "+-", "share", "name");
    for (uint32_t i = 0; all && i < cut->dag->n_nodes && i < show; i++) {
        const struct sx_dag_node *n = &cut->dag->nodes[all[i].node];
        printf("  %-24s %9.3f %7.3f %6.1f%%  %s\n", n->type, all[i].ns * 1e-6,
               t->node_spread_ns[all[i].node] * 1e-6,
               t->whole_ns > 0 ? 100 * all[i].ns / t->whole_ns : 0, n->name);
        sum += all[i].ns;
    }
    if (cut->dag->n_nodes > show)
        printf("  %-24s %9.3f %7s %6.1f%%\n", "(the others)", (t->whole_ns - sum) * 1e-6, "",
               t->whole_ns > 0 ? 100 * (t->whole_ns - sum) / t->whole_ns : 0);
    free(all);
}

static void print_text(const struct sx_cut *cut, const char *where, unsigned least_batch)
{
    const struct sx_profile *p = &cut->profile;

    printf("model      %s\nengine     %s\nmachine    %s (%s)\noperators  %u\nprofile    %s\n\n",
           cut->path, p->key.engine, cut->machine->cpu_model, p->key.machine, p->key.n_nodes,
           where);
    printf("%-10s %5s %6s %5s %11s %9s %12s\n", "device", "cores", "batch", "runs", "ms", "+-",
           "samples/s");
    for (size_t i = 0; i < p->n_tables; i++) {
        const struct sx_profile_table *t = &p->tables[i];
        printf("%-10s %5u %6u %5u %11.3f %9.3f %12.1f\n", t->kind, t->units, t->batch, t->runs,
               t->whole_ns * 1e-6, t->whole_spread_ns * 1e-6,
               t->whole_ns > 0 ? t->batch / t->whole_ns * 1e9 : 0);
    }
    for (size_t i = 0; i < p->n_links; i++)
        printf("copy %s -> %s: %.1f us + %.1f GB/s\n", p->links[i].from, p->links[i].to,
               p->links[i].fixed_ns * 1e-3, p->links[i].byte_ns > 0 ? 1 / p->links[i].byte_ns : 0);
    const struct sx_device *first = &cut->machine->devices[0];
    const struct sx_profile_table *t = sx_profile_get(p, first->kind, first->n_units, least_batch);
    if (t)
        print_operators(cut, t);
}

static void print_json(const struct sx_cut *cut, const char *where)
{
    const struct sx_profile *p = &cut->profile;
    struct sx_sbuf s = {0};

    sx_sbuf_puts(&s, "{\"model\":");
    sx_sbuf_json(&s, cut->path);
    sx_sbuf_puts(&s, ",\"profile\":");
    sx_sbuf_json(&s, where);
    sx_sbuf_puts(&s, ",\"engine\":");
    sx_sbuf_json(&s, p->key.engine);
    sx_sbuf_puts(&s, ",\"machine\":");
    sx_sbuf_json(&s, p->key.machine);
    sx_sbuf_puts(&s, ",\"links\":[");
    for (size_t i = 0; i < p->n_links; i++)
        sx_sbuf_printf(&s, "%s{\"from\":\"%s\",\"to\":\"%s\",\"fixed_us\":%.6g,\"gb_per_s\":%.6g}",
                       i ? "," : "", p->links[i].from, p->links[i].to, p->links[i].fixed_ns * 1e-3,
                       p->links[i].byte_ns > 0 ? 1 / p->links[i].byte_ns : 0);
    sx_sbuf_puts(&s, "],\"tables\":[");
    for (size_t i = 0; i < p->n_tables; i++) {
        const struct sx_profile_table *t = &p->tables[i];
        sx_sbuf_printf(&s,
                       "%s{\"device\":\"%s\",\"cores\":%u,\"batch\":%u,\"runs\":%u,\"ms\":%.6g,"
                       "\"spread_ms\":%.6g,\"operators\":[",
                       i ? "," : "", t->kind, t->units, t->batch, t->runs, t->whole_ns * 1e-6,
                       t->whole_spread_ns * 1e-6);
        for (uint32_t v = 0; v < cut->dag->n_nodes; v++) {
            sx_sbuf_puts(&s, v ? ",{\"name\":" : "{\"name\":");
            sx_sbuf_json(&s, cut->dag->nodes[v].name);
            sx_sbuf_puts(&s, ",\"type\":");
            sx_sbuf_json(&s, cut->dag->nodes[v].type);
            sx_sbuf_printf(&s, ",\"ms\":%.6g,\"spread_ms\":%.6g}", t->node_ns[v] * 1e-6,
                           t->node_spread_ns[v] * 1e-6);
        }
        sx_sbuf_puts(&s, "]}");
    }
    sx_sbuf_puts(&s, "]}");
    if (!s.failed)
        puts(s.data);
    sx_sbuf_free(&s);
}

int sx_cmd_profile(int argc, char **argv)
{
    struct sx_texts operands = {0};
    struct sx_cut cut = {.command = usage.name};
    unsigned batches[MAX_BATCHES] = {1, 2, 4};
    size_t n_batches = 3;
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code >= 0)
        goto out;
    if (batch_text && !(n_batches = parse_batches(batch_text, batches))) {
        code = sx_usage_error(&usage, "--batch takes up to %d sizes from 1 to %d, as in 1,2,4",
                              MAX_BATCHES, SX_CUT_MAX_BATCH);
        goto out;
    }
    if (runs < 1 || runs > 100000) {
        code = sx_usage_error(&usage, "--runs takes a number from 1 to 100000");
        goto out;
    }
    rc = sx_cut_open(&cut, operands.item[0], &common.devices, common.library, portable, &err);
    if (!rc && !batch_text && !cut.batched)
        n_batches = 1;
    if (!rc)
        rc = sx_cut_profile(&cut, batches, n_batches, (unsigned)runs, true, output, &err);
    if (rc)
        sx_complain(usage.name, &err);
    else if (common.json)
        print_json(&cut, output ? output : cut.profile_path);
    else
        print_text(&cut, output ? output : cut.profile_path, batches[0]);
    code = sx_exit_of(rc);
out:
    sx_cut_close(&cut);
    sx_texts_free(&common.devices);
    sx_texts_free(&operands);
    return code;
}
