/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * chart.h - a line chart as SVG: inline, coloured by the classes c0..c7 of the page's style, or as
 * a file of its own that needs no style.
 */
#ifndef SX_PERF_CHART_H
#define SX_PERF_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/sbuf.h"

#define SX_CHART_LINES 64

struct sx_chart_line {
    const char *name; /* shown when the pointer is on a marker, and in the legend; may be NULL */
    int colour;       /* 0..7 */
    bool dashed, markers, steps, faint;
    bool loose;             /* markers, and no line between them */
    const char *label;      /* written beside its last point; may be NULL */
    const double *x, *y;    /* borrowed */
    const char *const *tip; /* a text for each marker; may be NULL */
    size_t n;
};

struct sx_chart {
    const char *title, *x_label, *y_label;
    bool x_log, y_log;
    bool y_tail; /* y is a share, drawn as 1 - 10^-y: 0, 90 %, 99 %, 99.9 % equally far apart */
    bool x_time_us, y_time_us; /* values are microseconds */
    double y_mark;             /* a horizontal line with y_mark_name; 0: none */
    double x_mark;             /* a vertical one */
    const char *y_mark_name, *x_mark_name;
    const double *x_ticks; /* where the x axis has ticks, in place of round numbers; borrowed */
    size_t n_x_ticks;
    size_t n_lines;
    struct sx_chart_line line[SX_CHART_LINES];
};

/* Inline, for a page with sx_report_css; the page has its own title and legend. */
void sx_chart_svg(struct sx_sbuf *out, const struct sx_chart *c);
/* A file: with title, legend of the lines that have names, and plain attributes in place of
 * classes, so that every program that shows SVG shows it. */
void sx_chart_file(struct sx_sbuf *out, const struct sx_chart *c);

#endif
