/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * chart.h - a line chart as inline SVG, coloured by the classes c0..c7 of the page's style.
 */
#ifndef SX_PERF_CHART_H
#define SX_PERF_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/sbuf.h"

#define SX_CHART_LINES 32

struct sx_chart_line {
    const char *name; /* shown when the pointer is on a marker; may be NULL */
    int colour;       /* 0..7 */
    bool dashed, markers, steps, faint;
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
    size_t n_lines;
    struct sx_chart_line line[SX_CHART_LINES];
};

void sx_chart_svg(struct sx_sbuf *out, const struct sx_chart *c);

#endif
