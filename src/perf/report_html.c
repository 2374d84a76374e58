/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report_html.c - the report as one page without anything from elsewhere.
 *
 * From the top: what it says in one line each (cards), curves, the table, how it was measured.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/report.h"
#include "perf/report_html.h"

static uint64_t failed(const struct sx_point *p)
{
    uint64_t n = 0;
    for (int i = SX_OUTCOME_OK + 1; i < SX_OUTCOME_COUNT; i++)
        n += p->outcome[i];
    return n;
}

/* --- cards --------------------------------------------------------------------------------------
 */

static void card(struct sx_sbuf *o, int colour, const char *name, const char *value,
                 const char *unit, const char *note)
{
    sx_sbuf_printf(o, "<div class=\"card b%d\"><div class=\"what\">", colour);
    sx_sbuf_html(o, name);
    sx_sbuf_puts(o, "</div><div class=\"value\">");
    sx_sbuf_html(o, value);
    sx_sbuf_puts(o, " <small>");
    sx_sbuf_html(o, unit);
    sx_sbuf_puts(o, "</small></div><div class=\"note\">");
    sx_sbuf_html(o, note);
    sx_sbuf_puts(o, "</div></div>\n");
}

static void found_card(struct sx_sbuf *o, const struct sx_report *r, const struct sx_series *s,
                       int colour)
{
    const struct sx_found *f = &s->found;
    char n[32], above[32], note[256], name[160];
    const char *unit = f->kind == SX_LOAD_CONCURRENCY ? "in flight" : "requests/s";
    bool whole = f->kind == SX_LOAD_CONCURRENCY;
    snprintf(name, sizeof(name), "%s%s%s", s->name, s->name[0] ? ": " : "", f->what);
    snprintf(n, sizeof(n), "%.0f", f->value);
    snprintf(above, sizeof(above), "%.0f", f->above);
    int len = 0;
    if (f->above > 0)
        len = snprintf(note, sizeof(note), "%s does not hold",
                       whole ? above : sx_text_number(above, f->above));
    else
        len = snprintf(note, sizeof(note), "a load that does not hold was not reached");
    if (r->objective_ms > 0)
        snprintf(note + len, sizeof(note) - (size_t)len, "; p%g of all requests \u2264 %g ms",
                 r->percentile, r->objective_ms);
    card(o, colour, name, f->none ? "none" : whole ? n : sx_text_number(n, f->value), unit, note);
}

static void series_cards(struct sx_sbuf *o, const struct sx_report *r, const struct sx_series *s,
                         int colour)
{
    int best = sx_series_best(s);
    if (best < 0)
        return;
    const struct sx_point *p = &s->points[best];
    char n[32], a[24], b[24], note[256], name[160];
    if (s->found.done)
        found_card(o, r, s, colour);
    if (s->verdict.done) {
        snprintf(name, sizeof(name), "MLPerf %s: %s", s->verdict.scenario, s->verdict.metric);
        card(o, colour, name, sx_text_number(n, s->verdict.value), s->verdict.unit,
             s->verdict.valid ? "valid by the full rules" : "not valid by the full rules");
    }
    snprintf(name, sizeof(name), "%s%sthroughput", s->name, s->name[0] ? ": " : "");
    snprintf(note, sizeof(note), "best of %zu load%s%s; p50 %s, p99 %s", s->n_points,
             s->n_points == 1 ? "" : "s",
             r->objective_ms > 0 ? p->met ? " within the objective" : ", objective missed" : "",
             sx_text_us(a, p->p50_us), sx_text_us(b, p->p99_us));
    card(o, colour, name, sx_text_number(n, p->throughput), "inferences/s", note);
}

static double best_goodput(const struct sx_series *s)
{
    double best = 0;
    for (size_t i = 0; i < s->n_points; i++)
        best = s->points[i].goodput > best ? s->points[i].goodput : best;
    return best;
}

/* The others against the first series, by what was searched for if both have it. */
static void ratio_cards(struct sx_sbuf *o, const struct sx_report *r)
{
    for (size_t i = 1; i < r->n_series; i++) {
        const struct sx_series *a = &r->series[0], *b = &r->series[i];
        bool found = a->found.done && b->found.done && a->found.kind == b->found.kind;
        double x = found ? a->found.value : best_goodput(a);
        double y = found ? b->found.value : best_goodput(b);
        char value[32], name[256], note[96];
        if (x <= 0 || y <= 0)
            continue;
        snprintf(name, sizeof(name), "%s against %s", a->name, b->name);
        snprintf(value, sizeof(value), "%.2f", x / y);
        snprintf(note, sizeof(note), "ratio of %s",
                 found                 ? a->found.what
                 : r->objective_ms > 0 ? "the most answers per second within the objective"
                                       : "best throughputs");
        card(o, 0, name, value, "times", note);
    }
}

/* --- the table ----------------------------------------------------------------------------------
 */

static void cell(struct sx_sbuf *o, const char *text)
{
    sx_sbuf_puts(o, "<td>");
    sx_sbuf_html(o, text);
    sx_sbuf_puts(o, "</td>");
}

static bool is_closed_loop(const struct sx_point *p)
{
    return p->kind == SX_LOAD_CONCURRENCY;
}

static bool is_open_loop(const struct sx_point *p)
{
    return !is_closed_loop(p);
}

static bool has_server_times(const struct sx_point *p)
{
    return p->server_requests > 0;
}

/* Is a column worth its place? */
static bool any(const struct sx_report *r, bool (*is)(const struct sx_point *))
{
    for (size_t i = 0; i < r->n_series; i++) {
        for (size_t k = 0; k < r->series[i].n_points; k++) {
            if (is(&r->series[i].points[k]))
                return true;
        }
    }
    return false;
}

static void table_row(struct sx_sbuf *o, const struct sx_report *r, const struct sx_series *s,
                      const struct sx_point *p, int colour, bool best)
{
    char n[32], t[24];
    const double us[] = {p->mean_us, p->p50_us, p->p90_us, p->p95_us, p->p99_us, p->p999_us};
    sx_sbuf_printf(o, "<tr%s>", best ? " class=\"best\"" : "");
    if (r->n_series > 1) {
        sx_sbuf_printf(o, "<td class=\"name\"><i class=\"key b%d\"></i>", colour);
        sx_sbuf_html(o, s->name);
        sx_sbuf_puts(o, "</td>");
    }
    snprintf(n, sizeof(n), "%.0f", p->load);
    cell(o, p->kind == SX_LOAD_CONCURRENCY ? n : sx_text_number(n, p->load));
    cell(o, sx_text_number(n, p->throughput));
    if (r->objective_ms > 0) {
        cell(o, sx_text_number(n, p->goodput));
        snprintf(n, sizeof(n), "%.2f %%", 100 * p->within);
        cell(o, n);
    }
    for (size_t i = 0; i < sizeof(us) / sizeof(us[0]); i++)
        cell(o, p->outcome[SX_OUTCOME_OK] ? sx_text_us(t, us[i]) : "\u2013");
    if (any(r, has_server_times)) {
        bool known = has_server_times(p), runs = known && p->server_runs > 0;
        cell(o, known ? sx_text_us(t, p->server_queue_us) : "\u2013");
        cell(o, known ? sx_text_us(t, p->server_input_us + p->server_infer_us + p->server_output_us)
                      : "\u2013");
        snprintf(n, sizeof(n), "%.2f", runs ? p->server_samples / p->server_runs : 0);
        cell(o, runs ? n : "\u2013");
    }
    snprintf(n, sizeof(n), "%llu", (unsigned long long)failed(p));
    cell(o, n);
    snprintf(n, sizeof(n), "%.1f %%", p->late_percent);
    if (any(r, is_open_loop))
        cell(o, is_closed_loop(p) ? "\u2013" : n);
    sx_sbuf_printf(o, "<td class=\"%s\">%s%s</td></tr>\n", p->met ? "good" : "bad",
                   r->objective_ms > 0 ? p->met ? "met" : "missed"
                   : p->met            ? "ok"
                                       : "failures",
                   p->stable ? "" : ", unstable");
}

static void add_table(struct sx_sbuf *o, const struct sx_report *r)
{
    bool rate = any(r, is_open_loop), closed = any(r, is_closed_loop);
    sx_sbuf_puts(o, "<h2>All loads</h2><div class=\"wide\"><table><thead><tr>");
    if (r->n_series > 1)
        sx_sbuf_puts(o, "<th class=\"name\">series</th>");
    sx_sbuf_printf(o, "<th>%s</th><th>inferences/s</th>",
                   rate && closed ? "load"
                   : rate         ? "requests/s due"
                                  : "concurrency");
    if (r->objective_ms > 0)
        sx_sbuf_printf(o, "<th>goodput/s</th><th>within %g ms</th>", r->objective_ms);
    sx_sbuf_printf(o,
                   "<th>mean</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th>"
                   "%s<th>failed</th>%s<th>%s</th></tr></thead><tbody>\n",
                   any(r, has_server_times) ? "<th>queued</th><th>computing</th><th>batch</th>"
                                            : "",
                   rate ? "<th>sent late</th>" : "", r->objective_ms > 0 ? "objective" : "result");
    for (size_t i = 0; i < r->n_series; i++) {
        int best = sx_series_best(&r->series[i]);
        for (size_t k = 0; k < r->series[i].n_points; k++)
            table_row(o, r, &r->series[i], &r->series[i].points[k], (int)(i % SX_COLOURS),
                      (int)k == best && r->series[i].n_points > 1);
    }
    sx_sbuf_puts(o, "</tbody></table></div>\n");
}

static void add_failures(struct sx_sbuf *o, const struct sx_report *r)
{
    bool head = false;
    for (size_t i = 0; i < r->n_series; i++) {
        const struct sx_series *s = &r->series[i];
        for (int k = SX_OUTCOME_OK + 1; k < SX_OUTCOME_COUNT; k++) {
            uint64_t n = 0;
            for (size_t p = 0; p < s->n_points; p++)
                n += s->points[p].outcome[k];
            if (n == 0)
                continue;
            sx_sbuf_puts(o, head ? "<li>" : "<h2>Requests that failed</h2><ul><li>");
            head = true;
            sx_sbuf_html(o, s->name);
            sx_sbuf_printf(o, "%s<b>%llu</b> %s", s->name[0] ? ": " : "", (unsigned long long)n,
                           sx_outcome_text((enum sx_outcome)k));
            if (s->example[k][0]) {
                sx_sbuf_puts(o, ", for example <code>");
                sx_sbuf_html(o, s->example[k]);
                sx_sbuf_puts(o, "</code>");
            }
            sx_sbuf_puts(o, "</li>\n");
        }
    }
    if (head)
        sx_sbuf_puts(o, "</ul>\n");
}

/* --- how it was measured ------------------------------------------------------------------------
 */

static void fact(struct sx_sbuf *o, const char *name, const char *value, bool code)
{
    if (!value[0])
        return;
    sx_sbuf_printf(o, "<dt>%s</dt><dd>%s", name, code ? "<code>" : "");
    sx_sbuf_html(o, value);
    sx_sbuf_printf(o, "%s</dd>", code ? "</code>" : "");
}

static void add_method(struct sx_sbuf *o, const struct sx_report *r)
{
    sx_sbuf_puts(o, "<h2>How it was measured</h2>\n");
    for (size_t i = 0; i < r->n_series; i++) {
        const struct sx_series *s = &r->series[i];
        if (s->name[0]) {
            sx_sbuf_printf(o, "<h3><i class=\"key b%d\"></i>", (int)(i % SX_COLOURS));
            sx_sbuf_html(o, s->name);
            sx_sbuf_puts(o, "</h3>");
        }
        sx_sbuf_puts(o, "<dl>");
        fact(o, "model", s->model, false);
        fact(o, "target", s->target, false);
        fact(o, "load", s->load, false);
        fact(o, "machine", s->machine, false);
        fact(o, "when", s->when, false);
        fact(o, "command", s->command, true);
        if (s->verdict.done) {
            fact(o, "MLPerf rules", s->verdict.rules, false);
            fact(o, "not valid because", s->verdict.reasons, false);
        }
        sx_sbuf_puts(o, "</dl>\n");
    }
    sx_sbuf_puts(o, "<p class=\"small\">Latencies count from the time at which a request was due, "
                    "also when the client sent it later. Percentiles come from a histogram "
                    "whose buckets are at most 1.6&nbsp;% wide. A load meets the objective when "
                    "that percentage of all requests, refused ones included, was answered within "
                    "it and none was lost.");
    if (any(r, has_server_times))
        sx_sbuf_puts(o, " Queued, computing and batch are means of what the server counted, of a "
                        "request and of a run, warm-up included.");
    sx_sbuf_puts(o, "</p>\n");
}

void sx_report_html(struct sx_sbuf *o, const struct sx_report *r)
{
    const char *title = r->title[0] ? r->title : "staronnx perf";
    sx_sbuf_puts(o, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                    "<title>");
    sx_sbuf_html(o, title);
    sx_sbuf_puts(o, "</title>\n<style>\n");
    sx_sbuf_puts(o, sx_report_css);
    sx_sbuf_puts(o, "</style></head><body><main>\n<h1>");
    sx_sbuf_html(o, title);
    sx_sbuf_puts(o, "</h1>\n<p class=\"sub\">");
    if (r->n_series > 0) {
        const struct sx_series *s = &r->series[0];
        sx_sbuf_html(o, s->model);
        if (r->objective_ms > 0)
            sx_sbuf_printf(o, "%sobjective: p%g \u2264 %g ms", s->model[0] ? " \u00b7 " : "",
                           r->percentile, r->objective_ms);
        sx_sbuf_puts(o, s->model[0] || r->objective_ms > 0 ? " \u00b7 " : "");
        sx_sbuf_html(o, s->machine);
        sx_sbuf_puts(o, " \u00b7 ");
        sx_sbuf_html(o, s->when);
    }
    sx_sbuf_puts(o, "</p>\n<div class=\"cards\">\n");
    for (size_t i = 0; i < r->n_series; i++)
        series_cards(o, r, &r->series[i], (int)(i % SX_COLOURS));
    ratio_cards(o, r);
    sx_sbuf_puts(o, "</div>\n");
    sx_report_charts(o, r);
    add_table(o, r);
    add_failures(o, r);
    add_method(o, r);
    sx_sbuf_printf(o, "<footer>StarONNX %s</footer>\n</main></body></html>\n", SX_VERSION);
}
