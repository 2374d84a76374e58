/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report_json.c - results for programs.
 */
#include <math.h>

#include "sim/report.h"

static void number(struct sx_sbuf *out, const char *name, double value)
{
    sx_sbuf_printf(out, ",\"%s\":%.10g", name, isfinite(value) ? value : 0);
}

static void count(struct sx_sbuf *out, const char *name, uint64_t value)
{
    sx_sbuf_printf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void add_figures(struct sx_sbuf *out, const struct sx_sim_figures *f)
{
    count(out, "offered", f->offered);
    count(out, "in_time", f->in_time);
    count(out, "late", f->late);
    count(out, "refused_late", f->refused_late);
    count(out, "refused_full", f->refused_full);
    count(out, "dropped", f->dropped);
    count(out, "waiting", f->waiting);
    count(out, "runs", f->runs);
    count(out, "fillers", f->fillers);
    count(out, "samples", f->samples);
    number(out, "throughput", f->throughput);
    number(out, "goodput", f->goodput);
    number(out, "attainment", f->attainment);
    number(out, "mean_ms", f->mean_ns * 1e-6);
    number(out, "p50_ms", f->p50_ns * 1e-6);
    number(out, "p95_ms", f->p95_ns * 1e-6);
    number(out, "p99_ms", f->p99_ns * 1e-6);
    number(out, "max_ms", f->max_ns * 1e-6);
    count(out, "windows", f->windows);
    count(out, "missed", f->missed);
    number(out, "run_s", f->run_ns * 1e-9);
    number(out, "unit_s", f->unit_ns * 1e-9);
    number(out, "useful_s", f->useful_ns * 1e-9);
    number(out, "predict_error", f->predict_error);
}

static void add_plan(struct sx_sbuf *out, const struct sx_share_plan *p)
{
    sx_sbuf_printf(out,
                   ",\"plan\":{\"admitted\":%s,\"shrunk\":%s,\"units\":%u,\"batch\":%u,"
                   "\"ms\":%.10g,\"knee_efficacy\":%u,\"knee_tolerance\":%u,\"demand\":%.10g,"
                   "\"why\":",
                   p->admitted ? "true" : "false", p->shrunk ? "true" : "false", p->units, p->batch,
                   p->ns * 1e-6, p->knee_efficacy, p->knee_tolerance, p->demand);
    sx_sbuf_json(out, p->why);
    sx_sbuf_putc(out, '}');
}

static void add_result(struct sx_sbuf *out, const struct sx_sim_report *r, unsigned index)
{
    const struct sx_sim_result *x = &r->results[index];
    sx_sbuf_puts(out, "{\"policy\":");
    sx_sbuf_json(out, sx_share_policy_name(r->policies[index]));
    number(out, "seconds", x->seconds);
    number(out, "useful", x->useful);
    number(out, "busy", x->busy);
    if (r->ideal)
        number(out, "kernels", r->kernels[index]);
    number(out, "jain_run", x->jain_run);
    number(out, "jain_units", x->jain_units);
    number(out, "jain_attainment", x->jain_attainment);
    count(out, "decisions", x->decisions);
    count(out, "asked", x->asked);
    count(out, "events", x->events);
    count(out, "overloads", x->overloads);
    sx_sbuf_printf(out, ",\"hash\":\"%016llx\"", (unsigned long long)x->hash);
    sx_sbuf_printf(out, ",\"feasible\":%s,\"demand\":%.10g,\"why\":",
                   x->verdict.feasible ? "true" : "false", x->verdict.demand);
    sx_sbuf_json(out, x->verdict.why);
    sx_sbuf_puts(out, ",\"all\":{\"models\":");
    sx_sbuf_printf(out, "%u", x->n_models);
    add_figures(out, &x->all);
    sx_sbuf_puts(out, "},\"models\":[");
    for (unsigned i = 0; i < x->n_models; i++) {
        sx_sbuf_puts(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        sx_sbuf_json(out, r->scenario->models[i].name);
        number(out, "objective_ms", r->scenario->models[i].objective_ns * 1e-6);
        add_figures(out, &x->models[i]);
        add_plan(out, &x->plans[i]);
        sx_sbuf_putc(out, '}');
    }
    sx_sbuf_puts(out, "]");
    if (x->n_machines > 1) {
        sx_sbuf_puts(out, ",\"machines\":[");
        for (unsigned i = 0; i < x->n_machines; i++) {
            const struct sx_sim_machine *m = &x->machines[i];
            sx_sbuf_printf(out,
                           "%s{\"offered\":%llu,\"in_time\":%llu,\"goodput\":%.10g,\"busy\":%.10g,"
                           "\"useful\":%.10g,\"decisions\":%llu}",
                           i ? ",\n" : "\n", (unsigned long long)m->offered,
                           (unsigned long long)m->in_time, m->goodput, m->busy, m->useful,
                           (unsigned long long)m->decisions);
        }
        sx_sbuf_puts(out, "]");
    }
    sx_sbuf_putc(out, '}');
}

static void add_ideal(struct sx_sbuf *out, const char *name, const struct sx_ideal_result *x)
{
    sx_sbuf_printf(out,
                   ",\n\"%s\":{\"utilisation\":%.10g,\"throughput\":%.10g,\"windows\":%llu,"
                   "\"missed\":%llu}",
                   name, x->utilisation, x->throughput, x->windows, x->missed);
}

void sx_sim_report_json(const struct sx_sim_report *r, struct sx_sbuf *out)
{
    const struct sx_sim_config *c = &r->scenario->config;
    sx_sbuf_printf(out,
                   "{\"simulated\":true,\"recalled\":%s,\"units\":%u,\"machines\":%u,"
                   "\"router\":\"%s\",\"seed\":%llu",
                   r->scenario->recalled ? "true" : "false", c->n_units, c->n_machines,
                   sx_sim_router_name(c->router), (unsigned long long)c->seed);
    if (r->wall_seconds > 0)
        number(out, "wall_s", r->wall_seconds);
    sx_sbuf_puts(out, ",\n\"results\":[");
    for (unsigned i = 0; i < r->n; i++) {
        sx_sbuf_puts(out, i ? ",\n" : "\n");
        add_result(out, r, i);
    }
    sx_sbuf_puts(out, "]");
    if (r->ideal)
        add_ideal(out, "ideal", r->ideal);
    if (r->ideal_two)
        add_ideal(out, "ideal_two", r->ideal_two);
    sx_sbuf_puts(out, ",\n\"conclusion\":");
    struct sx_sbuf words = {0};
    sx_sim_report_conclusion(r, &words);
    if (words.len)
        words.data[--words.len] = '\0';
    out->failed = out->failed || words.failed;
    sx_sbuf_json(out, words.data ? words.data : "");
    sx_sbuf_free(&words);
    sx_sbuf_puts(out, "}\n");
}
