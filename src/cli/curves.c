/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/curves.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "perf/chart.h"

#define FIT_FROM   4  /* measured times: three are always fitted well */
#define WIDE       8  /* with more columns, spreads are left to the JSON */
#define LOG_FROM   16 /* the ratio of units from which the picture's axis is logarithmic */
#define COLOURS    8
#define LINE_CURVE 3 /* lines of the picture for each batch: curve, measured, knee */

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

void sx_curves_init(struct sx_curves *c, const char *name, const char *kind, const char *unit,
                    const struct sx_latency *measured)
{
    memset(c, 0, sizeof *c);
    c->name = name;
    c->kind = kind;
    c->unit = unit;
    c->measured = c->prepared = *measured;
    sx_latency_prepare(&c->prepared);
    for (unsigned b = 0; b < measured->n_batches; b++) {
        unsigned units[SX_LATENCY_UNITS], n = 0;
        double ns[SX_LATENCY_UNITS];
        for (unsigned u = 0; u < measured->n_units; u++) {
            double before = measured->ns[u][b];
            if (!(before > 0)) {
                c->filled++;
                continue;
            }
            c->moved += fabs(c->prepared.ns[u][b] - before) > 0.01 * before;
            units[n] = measured->units[u];
            ns[n++] = before;
        }
        c->has_fit[b] = n >= FIT_FROM && sx_parallel_fit(units, ns, n, &c->fit[b]);
        sx_knee_find(&c->prepared, measured->batches[b], 0, &c->knee[b]);
    }
}

enum sx_rc sx_curves_from_profile(struct sx_curves *c, const char *name, const char *kind,
                                  const struct sx_profile *profile, struct sx_err *err)
{
    struct sx_latency l;
    enum sx_rc rc = sx_latency_from_profile(profile, kind, &l, err);

    if (!rc)
        rc = sx_latency_check(&l, err);
    if (rc)
        return rc;
    sx_curves_init(c, name, kind, !strcmp(kind, "cpu") ? "core" : "unit", &l);
    c->has_spread = true;
    for (unsigned u = 0; u < l.n_units; u++) {
        for (unsigned b = 0; b < l.n_batches; b++) {
            const struct sx_profile_table *t =
                sx_profile_get(profile, kind, l.units[u], l.batches[b]);
            c->spread_ns[u][b] = t ? t->whole_spread_ns : 0;
        }
    }
    return SX_OK;
}

/* Samples per second squared and unit, at the knee. */
static double efficacy(const struct sx_curves *c, unsigned b)
{
    double s = c->knee[b].efficacy_ns * 1e-9;
    return c->measured.batches[b] / (s * s * c->knee[b].efficacy);
}

/* --- text ------------------------------------------------------------------------------------- */

static void put_cell(struct sx_sbuf *o, const struct sx_curves *c, unsigned u, unsigned b,
                     bool wide)
{
    double ms = c->measured.ns[u][b] * 1e-6;
    int digits = ms < 1 ? 5 : ms < 1000 ? 3 : 0;
    char text[48], spread[32] = "";

    if (!(ms > 0)) {
        sx_sbuf_printf(o, wide ? " %11s" : " %19s", "-");
        return;
    }
    if (c->has_spread && !wide)
        snprintf(spread, sizeof spread, " +-%.*f", digits, c->spread_ns[u][b] * 1e-6);
    snprintf(text, sizeof text, "%.*f%s", digits, ms, spread);
    sx_sbuf_printf(o, wide ? " %11s" : " %19s", text);
}

static void put_flat_note(struct sx_sbuf *o, const struct sx_curves *c)
{
    unsigned n = 0;
    double most = 0;

    for (unsigned b = 0; b < c->measured.n_batches; b++) {
        if (!c->knee[b].flat)
            continue;
        sx_sbuf_printf(o, n++ ? ", %u" : "no knee at batch %u", c->measured.batches[b]);
        most = fmax(most, c->knee[b].speedup);
    }
    if (n)
        sx_sbuf_printf(o,
                       ": more %ss gain nothing worth having (at most %.2f times as fast); it is "
                       "bound by the host, by memory, or has little that can run at once\n",
                       c->unit, most);
}

void sx_curves_text(struct sx_sbuf *o, const struct sx_curves *c)
{
    const struct sx_latency *l = &c->measured;
    bool wide = l->n_units > WIDE;

    sx_sbuf_printf(o, "knees of %s", c->name);
    if (c->kind)
        sx_sbuf_printf(o, " on %s", c->kind);
    sx_sbuf_printf(o, " (ms%s, by batch and %ss)\n%6s",
                   c->has_spread && !wide ? " +- median deviation" : "", c->unit, "batch");
    for (unsigned u = 0; u < l->n_units; u++)
        sx_sbuf_printf(o, wide ? " %11u" : " %19u", l->units[u]);
    sx_sbuf_printf(o, " %9s %9s %9s %10s\n", "speed-up", "knee", "(10 %)", "efficacy");
    for (unsigned b = 0; b < l->n_batches; b++) {
        sx_sbuf_printf(o, "%6u", l->batches[b]);
        for (unsigned u = 0; u < l->n_units; u++)
            put_cell(o, c, u, b, wide);
        sx_sbuf_printf(o, " %8.2fx %9u %9u %10.4g%s\n", c->knee[b].speedup, c->knee[b].efficacy,
                       c->knee[b].tolerance, efficacy(c, b), c->knee[b].flat ? "  flat" : "");
    }
    sx_sbuf_printf(o,
                   "knee: %ss by efficacy, samples / (s^2 %s); (10 %%): the fewest within 10 %% of "
                   "the least time\n",
                   c->unit, c->unit);
    if (l->n_units == 1)
        sx_sbuf_printf(o, "no knee can be seen with one number of %ss\n", c->unit);
    else
        put_flat_note(o, c);
    if (c->moved)
        sx_sbuf_printf(o,
                       "%u time%s moved by more than 1 %%, so that no run is slower on more %ss or "
                       "faster at a larger batch\n",
                       c->moved, plural(c->moved), c->unit);
    if (c->filled)
        sx_sbuf_printf(o, "%u time%s not measured, and filled from the others\n", c->filled,
                       c->filled == 1 ? " was" : "s were");
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void put_numbers(struct sx_sbuf *o, const char *name, const unsigned *list, unsigned n)
{
    sx_sbuf_printf(o, ",\"%s\":[", name);
    for (unsigned i = 0; i < n; i++)
        sx_sbuf_printf(o, "%s%u", i ? "," : "", list[i]);
    sx_sbuf_putc(o, ']');
}

static void put_cells(struct sx_sbuf *o, const char *name, const struct sx_curves *c,
                      const double ns[SX_LATENCY_UNITS][SX_LATENCY_BATCHES])
{
    sx_sbuf_printf(o, ",\"%s\":[", name);
    for (unsigned b = 0; b < c->measured.n_batches; b++) {
        sx_sbuf_puts(o, b ? ",[" : "[");
        for (unsigned u = 0; u < c->measured.n_units; u++) {
            sx_sbuf_puts(o, u ? "," : "");
            if (c->measured.ns[u][b] > 0 || ns == c->prepared.ns)
                sx_sbuf_printf(o, "%.9g", ns[u][b] * 1e-6);
            else
                sx_sbuf_puts(o, "null");
        }
        sx_sbuf_putc(o, ']');
    }
    sx_sbuf_putc(o, ']');
}

void sx_curves_json(struct sx_sbuf *o, const struct sx_curves *c)
{
    const struct sx_latency *l = &c->measured;

    sx_sbuf_puts(o, "{\"name\":");
    sx_sbuf_json(o, c->name);
    if (c->kind) {
        sx_sbuf_puts(o, ",\"device\":");
        sx_sbuf_json(o, c->kind);
    }
    put_numbers(o, "units", l->units, l->n_units);
    put_numbers(o, "batches", l->batches, l->n_batches);
    put_cells(o, "ms", c, l->ns);
    if (c->has_spread)
        put_cells(o, "spread_ms", c, c->spread_ns);
    put_cells(o, "smoothed_ms", c, c->prepared.ns);
    sx_sbuf_printf(o, ",\"moved\":%u,\"filled\":%u,\"knees\":[", c->moved, c->filled);
    for (unsigned b = 0; b < l->n_batches; b++) {
        const struct sx_knee *k = &c->knee[b];
        sx_sbuf_printf(o,
                       "%s{\"batch\":%u,\"efficacy_units\":%u,\"efficacy_ms\":%.9g,"
                       "\"tolerance_units\":%u,\"tolerance_ms\":%.9g,\"speedup\":%.6g,\"flat\":%s,"
                       "\"efficacy\":%.6g",
                       b ? "," : "", l->batches[b], k->efficacy, k->efficacy_ns * 1e-6,
                       k->tolerance, k->tolerance_ns * 1e-6, k->speedup, k->flat ? "true" : "false",
                       efficacy(c, b));
        if (c->has_fit[b])
            sx_sbuf_printf(o,
                           ",\"fit\":{\"serial_ms\":%.6g,\"op_ms\":%.6g,\"memory_ms\":%.6g,"
                           "\"first\":%u,\"kernels\":%u,\"error\":%.4g}",
                           c->fit[b].serial * 1e-6, c->fit[b].op * 1e-6, c->fit[b].memory * 1e-6,
                           c->fit[b].first, c->fit[b].kernels, c->fit[b].error);
        sx_sbuf_putc(o, '}');
    }
    sx_sbuf_puts(o, "]}");
}

/* --- picture ---------------------------------------------------------------------------------- */

struct picture {
    struct sx_chart chart;
    double x[SX_LATENCY_UNITS], y[SX_LATENCY_BATCHES][SX_LATENCY_UNITS];
    double point_x[SX_LATENCY_BATCHES][SX_LATENCY_UNITS];
    double point_y[SX_LATENCY_BATCHES][SX_LATENCY_UNITS];
    double knee_x[SX_LATENCY_BATCHES], knee_y[SX_LATENCY_BATCHES];
    char name[SX_LATENCY_BATCHES][32], label[SX_LATENCY_BATCHES][40], title[160], unit[40];
};

_Static_assert(SX_LATENCY_BATCHES *LINE_CURVE <= SX_CHART_LINES, "room for all lines");

static void add_batch(struct picture *p, const struct sx_curves *c, unsigned b)
{
    const struct sx_latency *l = &c->prepared;
    int colour = (int)(b % COLOURS);
    bool dashed = b / COLOURS % 2;
    struct sx_chart_line *line = &p->chart.line[p->chart.n_lines];
    size_t n = 0;

    snprintf(p->name[b], sizeof p->name[b], "batch %u", l->batches[b]);
    for (unsigned u = 0; u < l->n_units; u++) {
        p->y[b][u] = l->ns[u][b] * 1e-3;
        if (c->measured.ns[u][b] > 0) {
            p->point_x[b][n] = l->units[u];
            p->point_y[b][n++] = c->measured.ns[u][b] * 1e-3;
        }
    }
    line[0] = (struct sx_chart_line){.name = p->name[b],
                                     .colour = colour,
                                     .dashed = dashed,
                                     .x = p->x,
                                     .y = p->y[b],
                                     .n = l->n_units};
    line[1] = (struct sx_chart_line){.name = p->name[b],
                                     .colour = colour,
                                     .faint = true,
                                     .markers = true,
                                     .loose = true,
                                     .x = p->point_x[b],
                                     .y = p->point_y[b],
                                     .n = n};
    p->knee_x[b] = c->knee[b].efficacy;
    p->knee_y[b] = c->knee[b].efficacy_ns * 1e-3;
    if (c->knee[b].flat)
        snprintf(p->label[b], sizeof p->label[b], "flat");
    else
        snprintf(p->label[b], sizeof p->label[b], "knee %u", c->knee[b].efficacy);
    line[2] = (struct sx_chart_line){.name = p->name[b],
                                     .colour = colour,
                                     .markers = true,
                                     .loose = true,
                                     .label = p->label[b],
                                     .x = &p->knee_x[b],
                                     .y = &p->knee_y[b],
                                     .n = 1};
    p->chart.n_lines += LINE_CURVE;
}

enum sx_rc sx_curves_draw(const struct sx_curves *c, const char *path, struct sx_err *err)
{
    const struct sx_latency *l = &c->prepared;
    struct picture *p = calloc(1, sizeof *p);
    struct sx_sbuf s = {0};
    enum sx_rc rc;

    if (!p)
        return sx_fail(err, SX_NO_MEMORY, "no memory for the picture");
    snprintf(p->title, sizeof p->title, "%s%s%s: time of a run by %ss", c->name,
             c->kind ? " on " : "", c->kind ? c->kind : "", c->unit);
    snprintf(p->unit, sizeof p->unit, "%ss", c->unit);
    for (unsigned u = 0; u < l->n_units; u++)
        p->x[u] = l->units[u];
    p->chart = (struct sx_chart){.title = p->title,
                                 .x_label = p->unit,
                                 .y_label = "time of a run",
                                 .y_log = true,
                                 .y_time_us = true,
                                 .x_ticks = p->x,
                                 .n_x_ticks = l->n_units};
    p->chart.x_log = l->units[l->n_units - 1] >= LOG_FROM * l->units[0];
    for (unsigned b = l->n_batches; b-- > 0;) /* the legend goes down as the curves do */
        add_batch(p, c, b);
    sx_chart_file(&s, &p->chart);
    rc = s.failed ? sx_fail(err, SX_NO_MEMORY, "no memory for the picture")
                  : sx_file_write(path, s.data, s.len, err);
    sx_sbuf_free(&s);
    free(p);
    return rc;
}

/* --- the choice ------------------------------------------------------------------------------- */

void sx_choice_text(struct sx_sbuf *o, const struct sx_curves *c,
                    const struct sx_efficacy_limits *limits)
{
    struct sx_efficacy choice;

    sx_efficacy_choose(&c->prepared, limits, &choice);
    sx_sbuf_printf(o, "objective %.6g ms%s, ", limits->objective_ns * 1e-6,
                   limits->half_rule ? ", half for a run" : "");
    if (limits->rate > 0)
        sx_sbuf_printf(o, "%.6g samples/s: ", limits->rate);
    else
        sx_sbuf_puts(o, "as many samples as it can take: ");
    if (!choice.feasible) {
        sx_sbuf_printf(o, "not feasible: %s\n", choice.why);
        return;
    }
    sx_sbuf_printf(o, "batch %u on %u %s%s\n  runs %.6g ms", choice.batch, choice.units, c->unit,
                   plural(choice.units), choice.ns * 1e-6);
    if (choice.assembly_ns > 0)
        sx_sbuf_printf(o, " after %.6g ms in which it fills", choice.assembly_ns * 1e-6);
    sx_sbuf_printf(o, "; %.6g samples/s while it runs, efficacy %.4g\n", choice.throughput,
                   choice.efficacy);
    if (choice.throughput < limits->rate)
        sx_sbuf_printf(o, "  more come in: %.0f such runs side by side, on %.0f %ss, serve them\n",
                       ceil(limits->rate / choice.throughput),
                       ceil(limits->rate / choice.throughput) * choice.units, c->unit);
}

void sx_choice_json(struct sx_sbuf *o, const struct sx_curves *c,
                    const struct sx_efficacy_limits *limits)
{
    struct sx_efficacy choice;

    sx_efficacy_choose(&c->prepared, limits, &choice);
    sx_sbuf_printf(o, "{\"objective_ms\":%.9g,\"rate\":%.9g,\"half_rule\":%s,\"feasible\":%s",
                   limits->objective_ns * 1e-6, limits->rate, limits->half_rule ? "true" : "false",
                   choice.feasible ? "true" : "false");
    if (choice.feasible) {
        sx_sbuf_printf(o,
                       ",\"batch\":%u,\"units\":%u,\"ms\":%.9g,\"assembly_ms\":%.9g,"
                       "\"throughput\":%.6g,\"efficacy\":%.6g}",
                       choice.batch, choice.units, choice.ns * 1e-6, choice.assembly_ns * 1e-6,
                       choice.throughput, choice.efficacy);
        return;
    }
    sx_sbuf_printf(
        o, ",\"least_objective_ms\":%.9g,\"least_units\":", choice.least_objective_ns * 1e-6);
    if (choice.least_units)
        sx_sbuf_printf(o, "%u,\"why\":", choice.least_units);
    else
        sx_sbuf_puts(o, "null,\"why\":");
    sx_sbuf_json(o, choice.why);
    sx_sbuf_putc(o, '}');
}
