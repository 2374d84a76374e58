/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - results as tables and a sentence.
 *
 * A column stands where at least one model can fill it: latencies belong to requests, windows to
 * endless queues, cells that a row cannot fill have a dash.
 */
#include "sim/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_COLUMNS = 20, CELL = 32 };

struct table {
    struct sx_sbuf *out;
    unsigned n_columns, n_rows;
    size_t width[MAX_COLUMNS];
    bool left[MAX_COLUMNS];
    struct sx_sbuf cells; /* NUL-terminated texts, row by row */
};

static void cell(struct table *t, const char *text)
{
    size_t len = strlen(text);
    unsigned column = t->n_rows++ % t->n_columns;
    if (len > t->width[column])
        t->width[column] = len;
    sx_sbuf_add(&t->cells, text, len + 1);
}

static void numbers(struct table *t, bool there, const char *format, double value)
    __attribute__((format(printf, 3, 0)));

static void numbers(struct table *t, bool there, const char *format, double value)
{
    char text[CELL];
    snprintf(text, sizeof text, there ? format : "-", value);
    cell(t, text);
}

/* Four digits that count: rates and times of any size in one column. */
static void amount(struct table *t, bool there, double v)
{
    numbers(t, there, v >= 1000 ? "%.0f" : v >= 100 ? "%.1f" : v >= 10 ? "%.2f" : "%.3f", v);
}

static void print_table(struct table *t)
{
    const char *p = t->cells.data;
    if (t->cells.failed || !p) {
        t->out->failed = true;
    } else {
        for (unsigned i = 0; i < t->n_rows; i++) {
            unsigned column = i % t->n_columns;
            bool last = column + 1 == t->n_columns;
            int width = (int)t->width[column];
            if (t->left[column] && last)
                sx_sbuf_puts(t->out, p);
            else
                sx_sbuf_printf(t->out, t->left[column] ? "%-*s" : "%*s", width, p);
            sx_sbuf_puts(t->out, last ? "\n" : "  ");
            p += strlen(p) + 1;
        }
    }
    sx_sbuf_free(&t->cells);
}

/* --- models ----------------------------------------------------------------------------------- */

static void model_row(struct table *t, const struct sx_sim_report *r, unsigned run, unsigned i,
                      bool requests, bool windows)
{
    const struct sx_sim_result *result = &r->results[run];
    const struct sx_sim_figures *f = &result->models[i];
    const struct sx_share_plan *plan = &result->plans[i];
    const struct sx_sim_model *m = &r->scenario->models[i];
    double span = result->seconds * 1e9 * r->scenario->config.n_units * result->n_machines;
    char text[CELL];
    bool load = m->load != NULL;
    cell(t, i ? "" : sx_share_policy_name(r->policies[run]));
    snprintf(text, sizeof text, "%.31s", m->name);
    cell(t, text);
    snprintf(text, sizeof text, "%ux%u%s", plan->units, plan->batch, plan->admitted ? "" : "!");
    cell(t, plan->units ? text : "-");
    amount(t, true, f->throughput);
    amount(t, true, f->goodput);
    numbers(t, load || f->windows, "%.1f", 100 * f->attainment);
    if (requests) {
        double offered = f->offered ? (double)f->offered : 1;
        numbers(t, load, "%.0f", (double)f->offered);
        numbers(t, load, "%.1f", 100 * (double)f->late / offered);
        numbers(t, load, "%.1f", 100 * (double)(f->refused_late + f->refused_full) / offered);
        numbers(t, load, "%.1f", 100 * (double)f->dropped / offered);
        bool answered = f->mean_ns > 0;
        amount(t, answered, f->mean_ns * 1e-6);
        amount(t, answered, f->p50_ns * 1e-6);
        amount(t, answered, f->p95_ns * 1e-6);
        amount(t, answered, f->p99_ns * 1e-6);
    }
    if (windows) {
        numbers(t, !load, "%.0f", (double)f->windows);
        numbers(t, !load, "%.0f", (double)f->missed);
    }
    numbers(t, true, "%.0f", (double)f->runs);
    numbers(t, f->runs > 0, "%.2f", (double)f->samples / (double)(f->runs ? f->runs : 1));
    numbers(t, true, "%.1f", 100 * f->unit_ns / span);
}

static void add_models(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    const struct sx_sim_config *c = &r->scenario->config;
    struct table t = {.out = out, .left = {true, true}};
    bool requests = false, windows = false;
    for (unsigned i = 0; i < c->n_models; i++) {
        requests = requests || c->models[i].load;
        windows = windows || !c->models[i].load;
    }
    t.n_columns = 9 + 8 * requests + 2 * windows;
    static const char *const first[] = {"policy", "model", "plan", "samples/s", "good/s", "kept %"};
    static const char *const second[] = {"offered", "late %", "refused %", "dropped %",
                                         "mean ms", "p50 ms", "p95 ms",    "p99 ms"};
    static const char *const third[] = {"windows", "missed"}, *const last[] = {"runs", "batch",
                                                                               "units %"};
    for (size_t i = 0; i < 6; i++)
        cell(&t, first[i]);
    for (size_t i = 0; i < 8 && requests; i++)
        cell(&t, second[i]);
    for (size_t i = 0; i < 2 && windows; i++)
        cell(&t, third[i]);
    for (size_t i = 0; i < 3; i++)
        cell(&t, last[i]);
    for (unsigned run = 0; run < r->n; run++)
        for (unsigned i = 0; i < c->n_models; i++)
            model_row(&t, r, run, i, requests, windows);
    print_table(&t);
}

/* --- policies --------------------------------------------------------------------------------- */

static const struct sx_sim_result *find(const struct sx_sim_report *r, enum sx_share_policy policy)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->policies[i] == policy)
            return &r->results[i];
    return NULL;
}

static void add_policies(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    const struct sx_sim_result *temporal = find(r, SX_SHARE_TEMPORAL);
    struct table t = {.out = out, .left = {true}, .n_columns = 11};
    static const char *const head[] = {"policy",     "useful %",   "busy %",   "samples/s",
                                       "x temporal", "good/s",     "kept %",   "missed",
                                       "Jain run",   "Jain units", "Jain kept"};
    for (size_t i = 0; i < 11; i++)
        cell(&t, head[i]);
    for (unsigned i = 0; i < r->n; i++) {
        const struct sx_sim_result *x = &r->results[i];
        bool compared = temporal && temporal->all.throughput > 0;
        cell(&t, sx_share_policy_name(r->policies[i]));
        numbers(&t, true, "%.1f", 100 * x->useful);
        numbers(&t, true, "%.1f", 100 * x->busy);
        amount(&t, true, x->all.throughput);
        numbers(&t, compared, "%.2f", compared ? x->all.throughput / temporal->all.throughput : 0);
        amount(&t, true, x->all.goodput);
        numbers(&t, true, "%.1f", 100 * x->all.attainment);
        numbers(&t, x->all.windows > 0, "%.0f", (double)x->all.missed);
        numbers(&t, true, "%.3f", x->jain_run);
        numbers(&t, true, "%.3f", x->jain_units);
        numbers(&t, true, "%.3f", x->jain_attainment);
    }
    print_table(&t);
}

static void add_machines(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    struct table t = {.out = out, .left = {true}, .n_columns = 8};
    static const char *const head[] = {"policy", "least busy %", "mean busy %", "most busy %",
                                       "spread", "least good/s", "mean good/s", "most good/s"};
    for (size_t i = 0; i < 8; i++)
        cell(&t, head[i]);
    for (unsigned i = 0; i < r->n; i++) {
        const struct sx_sim_result *x = &r->results[i];
        double lo = INFINITY, hi = 0, squares = 0, good_lo = INFINITY, good_hi = 0, good = 0;
        for (unsigned m = 0; m < x->n_machines; m++) {
            double busy = x->machines[m].busy, g = x->machines[m].goodput;
            lo = fmin(lo, busy);
            hi = fmax(hi, busy);
            squares += (busy - x->busy) * (busy - x->busy);
            good_lo = fmin(good_lo, g);
            good_hi = fmax(good_hi, g);
            good += g / x->n_machines;
        }
        cell(&t, sx_share_policy_name(r->policies[i]));
        numbers(&t, true, "%.1f", 100 * lo);
        numbers(&t, true, "%.1f", 100 * x->busy);
        numbers(&t, true, "%.1f", 100 * hi);
        numbers(&t, true, "%.4f", sqrt(squares / x->n_machines));
        amount(&t, true, good_lo);
        amount(&t, true, good);
        amount(&t, true, good_hi);
    }
    print_table(&t);
}

/* --- words ------------------------------------------------------------------------------------ */

void sx_sim_report_conclusion(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    unsigned best = 0;
    for (unsigned i = 1; i < r->n; i++)
        if (r->results[i].all.goodput > r->results[best].all.goodput)
            best = i;
    const struct sx_sim_result *fair = find(r, SX_SHARE_FAIR), *x = fair ? fair : &r->results[0];
    const char *name = sx_share_policy_name(fair ? SX_SHARE_FAIR : r->policies[0]);
    sx_sbuf_printf(out, "%s keeps %.1f %% of the promises with %.0f %% of the units in useful work",
                   name, 100 * x->all.attainment, 100 * x->useful);
    double most = r->results[best].all.goodput;
    if (r->n > 1 && x == &r->results[best])
        sx_sbuf_puts(out, ", the best goodput of these policies");
    else if (r->n > 1 && x->all.goodput >= 0.995 * most)
        sx_sbuf_puts(out, "; no policy has more than half a per cent more goodput");
    else if (r->n > 1)
        sx_sbuf_printf(out, "; its goodput is %.2f of the best, %s's, which keeps %.1f %%",
                       x->all.goodput / most, sx_share_policy_name(r->policies[best]),
                       100 * r->results[best].all.attainment);
    sx_sbuf_printf(out, " (simulated%s).\n",
                   r->scenario->recalled ? ", from recalled figures of a V100" : "");
}

static void add_head(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    const struct sx_sim_config *c = &r->scenario->config;
    uint64_t events = 0;
    for (unsigned i = 0; i < r->n; i++)
        events += r->results[i].events;
    sx_sbuf_printf(out, "Simulated: %u model%s, ", c->n_models, c->n_models == 1 ? "" : "s");
    if (c->n_machines > 1)
        sx_sbuf_printf(out, "%u machines of ", c->n_machines);
    sx_sbuf_printf(out, "%u unit%s", c->n_units, c->n_units == 1 ? "" : "s");
    if (c->n_machines > 1)
        sx_sbuf_printf(out, " behind a %s router", sx_sim_router_name(c->router));
    sx_sbuf_printf(out, ", %g s", c->seconds);
    if (c->warm_seconds > 0)
        sx_sbuf_printf(out, " of which the first %g are not counted", c->warm_seconds);
    sx_sbuf_printf(out, ", seed %llu", (unsigned long long)c->seed);
    if (r->wall_seconds > 0)
        sx_sbuf_printf(out, "; %.4g million events in %.3g s", (double)events * 1e-6,
                       r->wall_seconds);
    sx_sbuf_puts(out, r->scenario->recalled ? ".\nTables: figures of a V100 as recalled from a "
                                              "paper; between and beyond them, assumed.\n"
                                            : ".\n");
}

static void add_ideal(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    const struct sx_ideal_result *const ideals[] = {r->ideal, r->ideal_two};
    sx_sbuf_putc(out, '\n');
    for (int i = 0; i < 2 && ideals[i]; i++)
        sx_sbuf_printf(
            out,
            "Ideal, kernel by kernel, %s of each model at a time: %.1f %% of the units in "
            "use, %.0f samples/s, %llu of %llu windows missed.\n",
            i ? "two runs" : "one run", 100 * ideals[i]->utilisation, ideals[i]->throughput,
            ideals[i]->missed, ideals[i]->windows);
    for (unsigned i = 0; i < r->n; i++)
        sx_sbuf_printf(out, "In the same currency, kernels use %.1f %% of the units under %s.\n",
                       100 * r->kernels[i], sx_share_policy_name(r->policies[i]));
}

void sx_sim_report_text(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    add_head(r, out);
    sx_sbuf_putc(out, '\n');
    add_models(r, out);
    sx_sbuf_putc(out, '\n');
    add_policies(r, out);
    if (r->scenario->config.n_machines > 1) {
        sx_sbuf_putc(out, '\n');
        add_machines(r, out);
    }
    if (!r->results[0].verdict.feasible)
        sx_sbuf_printf(out, "\nPlan: %s.\n%s", r->results[0].verdict.why,
                       r->results[0].verdict.refused ? "!: refused; it gets what is left over.\n"
                                                     : "");
    if (r->ideal)
        add_ideal(r, out);
    sx_sbuf_putc(out, '\n');
    sx_sim_report_conclusion(r, out);
}
