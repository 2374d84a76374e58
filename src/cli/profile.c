/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - `staronnx profile MODEL`: how long a model takes on how many units, its knees, and
 * how long each operator takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sbuf.h"
#include "cli/curves.h"
#include "cli/cut.h"
#include "cost/latency_file.h"

#define MAX_LIST 16 /* batch sizes, or numbers of units */
#define MAX_UNIT 1024

static struct sx_cut_common common;
static const char *batch_text, *units_text, *output, *curves_file, *table_file, *save_file;
static uint64_t runs = SX_CUT_RUNS, show = 12;
static double objective_ms, rate;
static bool portable, half_rule;

static const struct sx_option options[] = {
    {"batch", 'b', "N,N", SX_OPT_TEXT, &batch_text,
     "batch sizes; default 1,2,4,8, or 1 for a model of fixed batch"},
    {"units", 'u', "N,N", SX_OPT_TEXT, &units_text,
     "numbers of cores; default 1,2,4 and so on, and all of the device"},
    {"runs", 'n', "N", SX_OPT_UINT, &runs, "runs of each measurement; default 10"},
    {"operators", 0, "N", SX_OPT_UINT, &show, "how many of the slowest to print; default 12"},
    {"output", 'o', "FILE", SX_OPT_TEXT, &output,
     "write the profile there, not to the cache where plan and serve look for it"},
    {"portable", 0, NULL, SX_OPT_FLAG, &portable,
     "measure the graph that split cuts: before ONNX Runtime suits it to this machine"},
    {NULL, 0, NULL, SX_OPT_HEADING, NULL, "Knees: the smallest share that a model uses well"},
    {"curves", 0, "FILE.svg", SX_OPT_TEXT, &curves_file,
     "draw the time over the number of units, a curve for each batch, the knees marked"},
    {"objective", 0, "MS", SX_OPT_REAL, &objective_ms,
     "choose the batch and share of best efficacy that keep this latency"},
    {"rate", 0, "N", SX_OPT_REAL, &rate,
     "samples per second that come in: a batch must fill in time; default: any batch is full"},
    {"half-rule", 0, NULL, SX_OPT_FLAG, &half_rule,
     "a run may take half of the objective: who has just missed a batch waits for one first"},
    {"table", 0, "FILE.json", SX_OPT_TEXT, &table_file,
     "read times from a file instead of measuring a model: of a machine that is elsewhere"},
    {"save-table", 0, "FILE.json", SX_OPT_TEXT, &save_file, "write the times as such a file"},
    SX_CUT_COMMON_OPTIONS(&common),
    {NULL, 0, NULL, SX_OPT_FLAG, NULL, NULL},
};

static const struct sx_usage usage = {
    .name = "staronnx profile",
    .operands = "[MODEL.onnx]",
    .summary = "Measure how long a model and each of its operators take, by batch size and number "
               "of cores, on each kind of device, and what a copy between them costs; show the "
               "knees. The times of an emulated device (@8) are those of the real one.",
    .details = "Examples:\n"
               "  staronnx profile resnet50.onnx --curves resnet50.svg --objective 50 --rate 200\n"
               "  staronnx profile resnet50.onnx --device cpu:0 --batch 1,4,8\n"
               "  staronnx profile --table gpu.json --objective 25 --half-rule\n"
               "A table is {\"name\":\"x\",\"units\":[1,2],\"batches\":[1,8],"
               "\"ms\":[[10,6],[70,null]]}: a row for each batch.\n",
    .options = options,
    .min_operands = 0,
    .max_operands = 1,
};

/* Into an ascending list without doubles; false: no room. */
static bool insert(unsigned list[MAX_LIST], size_t *n, unsigned value)
{
    size_t at = 0;

    while (at < *n && list[at] < value)
        at++;
    if (at < *n && list[at] == value)
        return true;
    if (*n == MAX_LIST)
        return false;
    memmove(list + at + 1, list + at, (*n - at) * sizeof *list);
    list[at] = value;
    ++*n;
    return true;
}

/* "1,4,8"; 0: not that. */
static size_t parse_list(const char *text, unsigned most, unsigned list[MAX_LIST])
{
    size_t n = 0;

    for (;; text++) {
        char *end;
        unsigned long value = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || value < 1 || value > most ||
            !insert(list, &n, (unsigned)value))
            return 0;
        text = end;
        if (*text != ',')
            break;
    }
    return *text ? 0 : n;
}

/* 1, 2, 4, .. and all units of each device, as far as there is room. */
static size_t default_units(const struct sx_machine *machine, unsigned list[MAX_LIST])
{
    size_t n = 0;

    for (unsigned d = 0; d < machine->n_devices; d++)
        insert(list, &n, machine->devices[d].n_units);
    for (unsigned d = 0; d < machine->n_devices; d++)
        for (unsigned u = 1; u < machine->devices[d].n_units; u *= 2)
            insert(list, &n, u);
    return n;
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

/* --- knees ------------------------------------------------------------------------------------ */

/* Of each kind of device. */
struct knees {
    size_t n;
    struct sx_curves *of;
};

static struct sx_efficacy_limits limits_of(const struct sx_curves *c)
{
    return (struct sx_efficacy_limits){
        .objective_ns = objective_ms * 1e6,
        .rate = rate,
        .max_batch = c->measured.batches[c->measured.n_batches - 1],
        .max_units = c->measured.units[c->measured.n_units - 1],
        .half_rule = half_rule,
    };
}

static void print_knees(const struct sx_curves *c)
{
    const struct sx_efficacy_limits limits = limits_of(c);
    struct sx_sbuf s = {0};

    sx_curves_text(&s, c);
    if (objective_ms > 0)
        sx_choice_text(&s, c, &limits);
    if (!s.failed)
        fputs(s.data, stdout);
    sx_sbuf_free(&s);
}

/* "knees":[..] */
static void put_knees(struct sx_sbuf *s, const struct knees *knees)
{
    sx_sbuf_puts(s, "\"knees\":[");
    for (size_t i = 0; i < knees->n; i++) {
        const struct sx_efficacy_limits limits = limits_of(&knees->of[i]);
        sx_sbuf_puts(s, i ? ",{\"table\":" : "{\"table\":");
        sx_curves_json(s, &knees->of[i]);
        if (objective_ms > 0) {
            sx_sbuf_puts(s, ",\"choice\":");
            sx_choice_json(s, &knees->of[i], &limits);
        }
        sx_sbuf_putc(s, '}');
    }
    sx_sbuf_putc(s, ']');
}

/* The picture and the table of the first kind of device. */
static enum sx_rc write_files(const struct knees *knees, struct sx_err *err)
{
    enum sx_rc rc = SX_OK;

    if (curves_file)
        rc = sx_curves_draw(&knees->of[0], curves_file, err);
    if (!rc && save_file)
        rc = sx_latency_save(save_file, knees->of[0].name, &knees->of[0].measured, err);
    return rc;
}

static enum sx_rc find_knees(const struct sx_cut *cut, const char *name, struct knees *ret,
                             struct sx_err *err)
{
    const struct sx_machine *machine = cut->machine;
    enum sx_rc rc = SX_OK;

    ret->of = calloc(machine->n_devices, sizeof *ret->of);
    if (!ret->of)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the knees");
    for (unsigned d = 0; !rc && d < machine->n_devices; d++) {
        bool seen = false;
        for (size_t i = 0; i < ret->n; i++)
            seen = seen || !strcmp(ret->of[i].kind, machine->devices[d].kind);
        if (!seen)
            rc = sx_curves_from_profile(&ret->of[ret->n++], name, machine->devices[d].kind,
                                        &cut->profile, err);
    }
    return rc;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void print_text(const struct sx_cut *cut, const struct knees *knees, const char *where,
                       unsigned least_batch)
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
    for (size_t i = 0; i < knees->n; i++) {
        putchar('\n');
        print_knees(&knees->of[i]);
    }
    const struct sx_device *first = &cut->machine->devices[0];
    const struct sx_profile_table *t = sx_profile_get(p, first->kind, first->n_units, least_batch);
    if (t)
        print_operators(cut, t);
}

static void print_json(const struct sx_cut *cut, const struct knees *knees, const char *where)
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
    sx_sbuf_puts(&s, "],");
    put_knees(&s, knees);
    sx_sbuf_putc(&s, '}');
    if (!s.failed)
        puts(s.data);
    sx_sbuf_free(&s);
}

static enum sx_rc of_table(struct sx_err *err)
{
    struct sx_curves curves;
    struct sx_latency l;
    char name[SX_LATENCY_NAME];
    struct sx_sbuf s = {0};
    enum sx_rc rc = sx_latency_load(table_file, &l, name, err);

    if (rc)
        return rc;
    sx_curves_init(&curves, name, NULL, "unit", &l);
    const struct knees knees = {1, &curves};
    rc = write_files(&knees, err);
    if (!rc && common.json) {
        sx_sbuf_putc(&s, '{');
        put_knees(&s, &knees);
        sx_sbuf_putc(&s, '}');
        if (!s.failed)
            puts(s.data);
        sx_sbuf_free(&s);
    } else if (!rc) {
        print_knees(&curves);
    }
    return rc;
}

static enum sx_rc of_model(const char *path, struct sx_cut_grid *grid, unsigned units[MAX_LIST],
                           struct sx_err *err)
{
    struct sx_cut cut = {.command = usage.name};
    struct knees knees = {0};
    char name[SX_LATENCY_NAME];
    enum sx_rc rc = sx_cut_open(&cut, path, &common.devices, common.library, portable, err);

    if (rc)
        goto out;
    if (!batch_text && !cut.batched)
        grid->n_batches = 1;
    if (!units_text)
        grid->n_units = default_units(cut.machine, units);
    for (size_t i = 0; i < grid->n_units; i++) {
        unsigned most = 0;
        for (unsigned d = 0; d < cut.machine->n_devices; d++)
            most = cut.machine->devices[d].n_units > most ? cut.machine->devices[d].n_units : most;
        if (units[i] > most) {
            rc = sx_fail(err, SX_INVALID, "--units %u: no device has more than %u", units[i], most);
            sx_hint(err, "leave it out, or name a larger device with --device");
            goto out;
        }
    }
    rc = sx_cut_profile(&cut, grid, err);
    sx_path_stem(path, ".onnx", name, sizeof name);
    if (!rc)
        rc = find_knees(&cut, name, &knees, err);
    if (!rc)
        rc = write_files(&knees, err);
    if (rc)
        goto out;
    const char *where = output ? output : cut.profile_path;
    if (common.json)
        print_json(&cut, &knees, where);
    else
        print_text(&cut, &knees, where, grid->batches[0]);
out:
    free(knees.of);
    sx_cut_close(&cut);
    return rc;
}

/* -1, or the exit code after a complaint. */
static int check_options(size_t operands, unsigned batches[MAX_LIST], unsigned units[MAX_LIST],
                         struct sx_cut_grid *grid)
{
    size_t len = curves_file ? strlen(curves_file) : 0;

    if (batch_text && !(grid->n_batches = parse_list(batch_text, SX_CUT_MAX_BATCH, batches)))
        return sx_usage_error(&usage, "--batch takes up to %d sizes from 1 to %d, as in 1,2,4",
                              MAX_LIST, SX_CUT_MAX_BATCH);
    if (units_text && !(grid->n_units = parse_list(units_text, MAX_UNIT, units)))
        return sx_usage_error(&usage, "--units takes up to %d numbers from 1 to %d, as in 1,2,4",
                              MAX_LIST, MAX_UNIT);
    if (runs < 1 || runs > 100000)
        return sx_usage_error(&usage, "--runs takes a number from 1 to 100000");
    if (curves_file && (len < 5 || strcmp(curves_file + len - 4, ".svg")))
        return sx_usage_error(&usage, "--curves takes the name of a file that ends in .svg");
    if (objective_ms > 1e12 || rate > 1e12)
        return sx_usage_error(&usage, "--objective and --rate take numbers up to 1e12");
    if (!(objective_ms > 0) && (rate > 0 || half_rule))
        return sx_usage_error(&usage, "--rate and --half-rule belong to --objective");
    if (table_file && operands)
        return sx_usage_error(&usage, "a model or --table, not both");
    if (table_file && (batch_text || units_text || output || common.devices.count))
        return sx_usage_error(&usage, "with --table nothing is measured, so --batch, --units, "
                                      "--output and --device have no meaning");
    if (!table_file && !operands)
        return sx_usage_error(&usage, "a model is needed, or --table with times of one");
    return -1;
}

int sx_cmd_profile(int argc, char **argv)
{
    struct sx_texts operands = {0};
    unsigned batches[MAX_LIST] = {1, 2, 4, 8}, units[MAX_LIST] = {0};
    struct sx_cut_grid grid = {.batches = batches, .n_batches = 4, .units = units, .anew = true};
    struct sx_err err = {0};
    enum sx_rc rc;
    int code = sx_options_parse(&usage, argc, argv, &operands);

    if (code < 0)
        code = check_options(operands.count, batches, units, &grid);
    if (code >= 0)
        goto out;
    grid.runs = (unsigned)runs;
    grid.output = output;
    rc = table_file ? of_table(&err) : of_model(operands.item[0], &grid, units, &err);
    if (rc)
        sx_complain(usage.name, &err);
    code = sx_exit_of(rc);
out:
    sx_texts_free(&common.devices);
    sx_texts_free(&operands);
    return code;
}
