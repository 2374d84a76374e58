/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * chart.c - scale, ticks, lines.
 *
 * An axis maps a value to [0, 1]: linear from 0, logarithmic between whole ticks, or "tail", where
 * a share s lies at -log10(1 - s).
 */
#include "perf/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "perf/report.h"

enum { WIDTH = 560, HEIGHT = 300, LEFT = 78, RIGHT = 24, TOP = 12, BOTTOM = 46 };
enum { TICKS = 24 };

struct axis {
    bool log, tail, time_us;
    double lo, hi; /* in the axis's own scale */
    int n;
    double tick[TICKS];
};

static double scale(const struct axis *a, double v)
{
    if (a->tail)
        return v >= 1 ? a->hi : -log10(1 - v);
    return a->log ? log10(v > 1e-9 ? v : 1e-9) : v;
}

static double place(const struct axis *a, double v)
{
    double at = (scale(a, v) - a->lo) / (a->hi - a->lo);
    return at < 0 ? 0 : at > 1 ? 1 : at;
}

static void add_tick(struct axis *a, double v)
{
    double at = scale(a, v);
    if (a->n < TICKS && at >= a->lo - 1e-9 && at <= a->hi + 1e-9)
        a->tick[a->n++] = v;
}

static void linear_axis(struct axis *a, double max)
{
    double step = pow(10, floor(log10(max / 5)));
    while (max / step > 6)
        step *= max / step > 12 ? (max / step > 30 ? 5 : 2.5) : 2;
    a->lo = 0;
    a->hi = ceil(max / step * 1.02) * step;
    for (int i = 0; i * step <= a->hi * 1.0001; i++)
        add_tick(a, i * step);
}

static void log_axis(struct axis *a, double min, double max)
{
    a->lo = log10(min) - 0.06;
    a->hi = log10(max) + 0.06;
    if (a->hi - a->lo < 0.5) { // less than half a decade: make it readable
        double mid = (a->hi + a->lo) / 2;
        a->lo = mid - 0.25;
        a->hi = mid + 0.25;
    }
    bool fine = a->hi - a->lo < 2.5;
    for (double e = floor(a->lo); e <= ceil(a->hi); e++) {
        add_tick(a, pow(10, e));
        if (fine) {
            add_tick(a, 2 * pow(10, e));
            add_tick(a, 5 * pow(10, e));
        }
    }
}

static void tail_axis(struct axis *a, double max)
{
    static const double shares[] = {0, 0.5, 0.9, 0.99, 0.999, 0.9999};
    a->lo = 0;
    a->hi = max > 0.999 ? 4 : max > 0.99 ? 3 : 2;
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
        add_tick(a, shares[i]);
}

static void bounds(const struct sx_chart *c, bool y, double *min, double *max)
{
    double mark = y ? c->y_mark : c->x_mark;
    *min = mark > 0 ? mark : INFINITY;
    *max = mark > 0 ? mark : 0;
    for (size_t i = 0; i < c->n_lines; i++) {
        for (size_t k = 0; k < c->line[i].n; k++) {
            double v = y ? c->line[i].y[k] : c->line[i].x[k];
            *max = v > *max ? v : *max;
            *min = v < *min && v > 0 ? v : *min;
        }
    }
    if (*max <= 0)
        *max = 1;
    if (*min > *max)
        *min = *max / 10;
}

static const char *tick_text(char buf[32], const struct axis *a, double v)
{
    if (a->tail) {
        snprintf(buf, 32, "%.6g %%", 100 * v);
    } else if (a->time_us && v > 0) {
        const char *unit = v >= 1e6 ? "s" : v >= 1e3 ? "ms" : "us";
        snprintf(buf, 32, "%.4g %s",
                 v / (v >= 1e6   ? 1e6
                      : v >= 1e3 ? 1e3
                                 : 1),
                 strcmp(unit, "us") ? unit : "\u00b5s");
    } else if (v >= 1e6) {
        snprintf(buf, 32, "%.4gM", v / 1e6);
    } else if (v >= 1e4) {
        snprintf(buf, 32, "%.4gk", v / 1e3);
    } else {
        snprintf(buf, 32, "%.4g", v);
    }
    return buf;
}

static double px(const struct axis *a, double v)
{
    return LEFT + place(a, v) * (WIDTH - LEFT - RIGHT);
}

static double py(const struct axis *a, double v)
{
    return HEIGHT - BOTTOM - place(a, v) * (HEIGHT - TOP - BOTTOM);
}

static void add_axes(struct sx_sbuf *o, const struct sx_chart *c, const struct axis *x,
                     const struct axis *y)
{
    char text[32];
    for (int i = 0; i < y->n; i++) {
        double at = py(y, y->tick[i]);
        sx_sbuf_printf(o, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
        sx_sbuf_printf(o, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                       LEFT - 8, at + 4, tick_text(text, y, y->tick[i]));
    }
    for (int i = 0; i < x->n; i++) {
        double at = px(x, x->tick[i]);
        sx_sbuf_printf(o, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>", at, TOP, HEIGHT - BOTTOM);
        sx_sbuf_printf(o,
                       "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                       at, HEIGHT - BOTTOM + 18, tick_text(text, x, x->tick[i]));
    }
    sx_sbuf_printf(o, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>", LEFT, TOP, HEIGHT - BOTTOM,
                   WIDTH - RIGHT);
    sx_sbuf_printf(o, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                   (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
    sx_sbuf_html(o, c->x_label);
    sx_sbuf_printf(o,
                   "</text><text class=\"label\" transform=\"translate(15 %d) rotate(-90)\" "
                   "text-anchor=\"middle\">",
                   (TOP + HEIGHT - BOTTOM) / 2);
    sx_sbuf_html(o, c->y_label);
    sx_sbuf_puts(o, "</text>");
}

static void add_marks(struct sx_sbuf *o, const struct sx_chart *c, const struct axis *x,
                      const struct axis *y)
{
    if (c->y_mark > 0) {
        double at = py(y, c->y_mark);
        sx_sbuf_printf(o, "<path class=\"mark\" d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
        sx_sbuf_printf(o, "<text class=\"marktext\" x=\"%d\" y=\"%.1f\">", LEFT + 8, at - 6);
        sx_sbuf_html(o, c->y_mark_name);
        sx_sbuf_puts(o, "</text>");
    }
    if (c->x_mark > 0) {
        double at = px(x, c->x_mark);
        bool right = at > WIDTH * 0.7;
        sx_sbuf_printf(o, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>", at, TOP, HEIGHT - BOTTOM);
        sx_sbuf_printf(o, "<text class=\"marktext\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">",
                       right ? at - 6 : at + 6, TOP + 12, right ? "end" : "start");
        sx_sbuf_html(o, c->x_mark_name);
        sx_sbuf_puts(o, "</text>");
    }
}

static void add_line(struct sx_sbuf *o, const struct sx_chart_line *l, const struct axis *x,
                     const struct axis *y)
{
    sx_sbuf_printf(o, "<path class=\"line c%d%s%s\" d=\"", l->colour, l->dashed ? " dash" : "",
                   l->faint ? " faint" : "");
    for (size_t i = 0; i < l->n; i++) {
        if (l->steps && i > 0)
            sx_sbuf_printf(o, "H%.1f", px(x, l->x[i]));
        sx_sbuf_printf(o, "%s%.1f %.1f", i ? "L" : "M", px(x, l->x[i]), py(y, l->y[i]));
    }
    sx_sbuf_puts(o, "\"/>");
    for (size_t i = 0; l->markers && i < l->n; i++) {
        sx_sbuf_printf(o, "<circle class=\"dot c%d%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>",
                       l->colour, l->dashed ? " hollow" : "", px(x, l->x[i]), py(y, l->y[i]),
                       l->dashed ? "3" : "3.6");
        sx_sbuf_html(o, l->name ? l->name : "");
        if (l->tip) {
            sx_sbuf_putc(o, '\n');
            sx_sbuf_html(o, l->tip[i]);
        }
        sx_sbuf_puts(o, "</title></circle>");
    }
}

void sx_chart_svg(struct sx_sbuf *o, const struct sx_chart *c)
{
    struct axis x = {.log = c->x_log, .time_us = c->x_time_us};
    struct axis y = {.log = c->y_log, .tail = c->y_tail, .time_us = c->y_time_us};
    double min, max;
    bounds(c, false, &min, &max);
    if (x.log)
        log_axis(&x, min, max);
    else
        linear_axis(&x, max);
    bounds(c, true, &min, &max);
    if (y.tail)
        tail_axis(&y, max);
    else if (y.log)
        log_axis(&y, min, max);
    else
        linear_axis(&y, max);

    sx_sbuf_printf(o, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    sx_sbuf_html(o, c->title);
    sx_sbuf_puts(o, "\">");
    add_axes(o, c, &x, &y);
    for (size_t i = 0; i < c->n_lines; i++)
        add_line(o, &c->line[i], &x, &y);
    add_marks(o, c, &x, &y); // above the lines: their words must stay readable
    sx_sbuf_puts(o, "</svg>\n");
}
