/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * report_charts.c - the curves of the page.
 *
 *   latency against load         p50 and p99 of all points of each series
 *   throughput against load      for open loops: what was answered of what was due
 *   how latencies spread         the tail of the distribution at each series' best point
 *   over time                    throughput and p99 in the course of that point
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/chart.h"
#include "perf/report.h"
#include "perf/report_html.h"

/* Numbers and texts that a chart borrows, freed together. */
struct room {
    double *number[4 * SX_CHART_LINES];
    char **tip[SX_CHART_LINES];
    size_t n_numbers, n_tips;
    bool failed;
};

static double *numbers(struct room *m, size_t n)
{
    double *a = m->n_numbers < 4 * SX_CHART_LINES ? calloc(n + 1, sizeof(*a)) : NULL;
    if (a)
        m->number[m->n_numbers++] = a;
    m->failed |= !a;
    return a;
}

/* n texts of 160 bytes behind their pointers. */
static char **texts(struct room *m, size_t n)
{
    enum { LEN = 160 };
    char **a = m->n_tips < SX_CHART_LINES ? calloc(n + 1, sizeof(*a) + LEN) : NULL;
    m->failed |= !a;
    if (!a)
        return NULL;
    for (size_t i = 0; i < n; i++)
        a[i] = (char *)(a + n) + i * LEN;
    m->tip[m->n_tips++] = a;
    return a;
}

static void free_room(struct room *m)
{
    for (size_t i = 0; i < m->n_numbers; i++)
        free(m->number[i]);
    for (size_t i = 0; i < m->n_tips; i++)
        free(m->tip[i]);
}

/* --- frame --------------------------------------------------------------------------------------
 */

static void sample(struct sx_sbuf *o, const char *classes, const char *text)
{
    sx_sbuf_printf(o,
                   "<span><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"line %s\" "
                   "d=\"M1 5H25\"/></svg>",
                   classes);
    sx_sbuf_html(o, text);
    sx_sbuf_puts(o, "</span>");
}

static void figure(struct sx_sbuf *o, const struct sx_report *r, const struct sx_chart *c,
                   const char *note, const char *solid, const char *dashed)
{
    sx_sbuf_puts(o, "<figure><figcaption><b>");
    sx_sbuf_html(o, c->title);
    sx_sbuf_puts(o, "</b><span>");
    sx_sbuf_html(o, note);
    sx_sbuf_puts(o, "</span></figcaption><div class=\"legend\">");
    for (size_t i = 0; r->n_series > 1 && i < r->n_series; i++) {
        char classes[8];
        snprintf(classes, sizeof(classes), "c%d", (int)(i % SX_COLOURS));
        if (r->series[i].n_points)
            sample(o, classes, r->series[i].name);
    }
    if (dashed) {
        sample(o, r->n_series > 1 ? "c7" : "c0", solid);
        sample(o, r->n_series > 1 ? "c7 dash" : "c0 dash", dashed);
    }
    sx_sbuf_puts(o, "</div>\n");
    sx_chart_svg(o, c);
    sx_sbuf_puts(o, "</figure>\n");
}

static struct sx_chart_line *new_line(struct sx_chart *c, size_t series, const char *name)
{
    if (c->n_lines == SX_CHART_LINES)
        return NULL;
    struct sx_chart_line *l = &c->line[c->n_lines++];
    *l = (struct sx_chart_line){.name = name, .colour = (int)(series % SX_COLOURS)};
    return l;
}

/* --- against load -------------------------------------------------------------------------------
 */

static const struct sx_series *sorting;

static int by_x(const void *a, const void *b)
{
    const struct sx_point *p = &sorting->points[*(const size_t *)a];
    const struct sx_point *q = &sorting->points[*(const size_t *)b];
    double x = p->kind == SX_LOAD_CONCURRENCY ? p->throughput : p->load;
    double y = q->kind == SX_LOAD_CONCURRENCY ? q->throughput : q->load;
    if (p->kind == SX_LOAD_CONCURRENCY && q->kind == SX_LOAD_CONCURRENCY) {
        x = p->load; // along the sweep: a curve may bend back, and that is worth seeing
        y = q->load;
    }
    return x < y ? -1 : x > y;
}

static int by_p99(const void *a, const void *b)
{
    double x = sorting->points[*(const size_t *)a].p99_us;
    double y = sorting->points[*(const size_t *)b].p99_us;
    return x < y ? -1 : x > y;
}

/* A search tries a load several times: keep the trial with the middle p99. */
static size_t medians(const struct sx_series *s, size_t *index, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0, end; i < n; i = end) {
        double load = s->points[index[i]].load;
        for (end = i + 1; end < n && s->points[index[end]].load <= load; end++)
            ;
        qsort(index + i, end - i, sizeof(*index), by_p99);
        index[kept++] = index[(i + end - 1) / 2];
    }
    return kept;
}

/* The points (for latencies: those with answers) in order; a closed
 * loop lies at its throughput, an open one at its rate. */
static size_t order(const struct sx_series *s, size_t *index, bool latency)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_points; i++) {
        if (!latency || s->points[i].outcome[SX_OUTCOME_OK])
            index[n++] = i;
    }
    sorting = s; // reports are written by one thread
    if (n > 1)
        qsort(index, n, sizeof(*index), by_x);
    return medians(s, index, n);
}

static void load_lines(struct sx_chart *c, struct room *m, const struct sx_series *s, size_t si,
                       bool latency)
{
    size_t *index = calloc(s->n_points + 1, sizeof(*index));
    size_t n = index ? order(s, index, latency) : 0;
    double *x = numbers(m, n), *y = numbers(m, n), *z = numbers(m, n);
    char **tip = texts(m, n);
    if (m->failed || n == 0) {
        free(index);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sx_point *p = &s->points[index[i]];
        bool closed = p->kind == SX_LOAD_CONCURRENCY;
        char a[32], b[32], t[24], u[24];
        x[i] = closed ? p->throughput : p->load * p->per_query;
        y[i] = latency ? p->p50_us : p->throughput;
        z[i] = latency ? p->p99_us : p->goodput;
        snprintf(tip[i], 160, "%s %s: %s inferences/s, p50 %s, p99 %s",
                 closed ? "concurrency" : "rate", sx_text_number(a, p->load),
                 sx_text_number(b, p->throughput), sx_text_us(t, p->p50_us),
                 sx_text_us(u, p->p99_us));
    }
    free(index);
    for (int pass = 0; pass < 2; pass++) {
        struct sx_chart_line *l = new_line(c, si, s->name);
        if (!l)
            return;
        l->x = x;
        l->y = pass ? z : y;
        l->n = n;
        l->dashed = pass;
        l->markers = true;
        l->tip = (const char *const *)tip;
    }
}

static void chart_load(struct sx_sbuf *o, const struct sx_report *r, bool latency)
{
    struct sx_chart c = {0};
    struct room m = {0};
    size_t most = 0;
    bool open = false;
    double lo = 1e300, hi = 0;
    char mark[64];
    for (size_t i = 0; i < r->n_series; i++) {
        const struct sx_series *s = &r->series[i];
        most = s->n_points > most ? s->n_points : most;
        for (size_t k = 0; k < s->n_points; k++) {
            const struct sx_point *p = &s->points[k];
            open |= p->kind != SX_LOAD_CONCURRENCY;
            if (p->outcome[SX_OUTCOME_OK] && p->p50_us > 0) {
                lo = p->p50_us < lo ? p->p50_us : lo;
                hi = p->p99_us > hi ? p->p99_us : hi;
            }
        }
    }
    if (most < 2 || (!latency && !open))
        return;
    for (size_t i = 0; i < r->n_series; i++)
        load_lines(&c, &m, &r->series[i], i, latency);
    c.x_label = open ? "inferences per second that were due" : "inferences per second";
    snprintf(mark, sizeof(mark), "objective %g ms", r->objective_ms);
    if (latency) {
        c.title = "Latency against load";
        c.y_label = "latency";
        c.y_time_us = true;
        c.y_log = hi > 8 * lo;
        c.y_mark = r->objective_ms * 1e3;
        c.y_mark_name = mark;
        if (r->n_series == 1 && r->series[0].found.done && !r->series[0].found.none &&
            r->series[0].found.kind != SX_LOAD_CONCURRENCY) {
            c.x_mark = r->series[0].found.value * r->series[0].points[0].per_query;
            c.x_mark_name = r->series[0].found.what;
        }
    } else {
        c.title = "Answered against due";
        c.y_label = "inferences per second";
    }
    if (!m.failed && c.n_lines > 0)
        figure(o, r, &c,
               latency ? "Flat is good; where a curve turns up, requests queue."
                       : "On the diagonal everything is answered.",
               latency ? "p50" : "answered", latency ? "p99" : "in time");
    free_room(&m);
}

/* --- at the best point --------------------------------------------------------------------------
 */

static void chart_tail(struct sx_sbuf *o, const struct sx_report *r)
{
    struct sx_chart c = {.title = "How latencies spread",
                         .x_label = "latency",
                         .y_label = "share of the answers",
                         .x_time_us = true,
                         .y_tail = true};
    struct room m = {0};
    double lo = 1e300, hi = 0;
    char mark[64];
    for (size_t i = 0; i < r->n_series; i++) {
        int best = sx_series_best(&r->series[i]);
        if (best < 0 || r->series[i].points[best].n_cdf < 2)
            continue;
        const struct sx_point *p = &r->series[i].points[best];
        double *x = numbers(&m, p->n_cdf), *y = numbers(&m, p->n_cdf);
        struct sx_chart_line *l = m.failed ? NULL : new_line(&c, i, r->series[i].name);
        if (!l)
            break;
        for (size_t k = 0; k + 1 < p->n_cdf; k++) { // without the largest: it has no share
            x[k] = (double)p->cdf[k].us;
            y[k] = (double)p->cdf[k].share;
            lo = x[k] < lo && x[k] > 0 ? x[k] : lo;
            hi = x[k] > hi ? x[k] : hi;
        }
        l->x = x;
        l->y = y;
        l->n = p->n_cdf - 1;
    }
    c.x_log = hi > 8 * lo;
    c.x_mark = r->objective_ms * 1e3;
    snprintf(mark, sizeof(mark), "objective %g ms", r->objective_ms);
    c.x_mark_name = mark;
    if (!m.failed && c.n_lines > 0)
        figure(o, r, &c, "At each series' best load. Further left is faster; the top is the tail.",
               NULL, NULL);
    free_room(&m);
}

static void chart_course(struct sx_sbuf *o, const struct sx_report *r)
{
    struct sx_chart c = {.title = "Over time",
                         .x_label = "seconds since the measuring began",
                         .y_label = "answers per second"};
    struct room m = {0};
    bool failures = false;
    for (size_t i = 0; i < r->n_series; i++) {
        int best = sx_series_best(&r->series[i]);
        if (best < 0 || r->series[i].points[best].n_moments < 2)
            continue;
        const struct sx_point *p = &r->series[i].points[best];
        size_t n = p->n_moments;
        double *x = numbers(&m, n), *y = numbers(&m, n), *z = numbers(&m, n), any = 0;
        if (m.failed)
            break;
        for (size_t k = 0; k < n; k++) {
            x[k] = (double)p->moments[k].at;
            y[k] = (double)p->moments[k].rate * p->per_query;
            z[k] = (double)p->moments[k].failed * p->per_query;
            any += z[k];
        }
        for (int pass = 0; pass < (any > 0 ? 2 : 1); pass++) {
            struct sx_chart_line *l = new_line(&c, i, r->series[i].name);
            if (!l)
                break;
            l->x = x;
            l->y = pass ? z : y;
            l->n = n;
            l->dashed = pass;
        }
        failures |= any > 0;
    }
    if (!m.failed && c.n_lines > 0)
        figure(o, r, &c, "At each series' best load. A steady line is a steady server.", "answered",
               failures ? "failed" : NULL);
    free_room(&m);
}

void sx_report_charts(struct sx_sbuf *o, const struct sx_report *r)
{
    sx_sbuf_puts(o, "<div class=\"charts\">\n");
    chart_load(o, r, true);
    chart_load(o, r, false);
    chart_tail(o, r);
    chart_course(o, r);
    sx_sbuf_puts(o, "</div>\n");
}
