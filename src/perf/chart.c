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
enum { TICKS = 32 };
enum { ROOM = 18 }; /* between the labels of two ticks */
/* Of a file: above and right of the chart. */
enum { HEAD = 34, LEGEND = 130, ENTRY = 17 };

/* How the classes of the page look where there is no page. */
static const char *const colours[] = {"#1769e0", "#e2711d", "#0c8f73", "#9b3fc2",
                                      "#b88700", "#d1345b", "#4a7c2a", "#5a6b86"};
enum look { GRID, TICK, AXIS, LABEL, MARK, MARKTEXT };
static const char *const class_of[] = {"class=\"grid\"",  "class=\"tick\"", "class=\"axis\"",
                                       "class=\"label\"", "class=\"mark\"", "class=\"marktext\""};
static const char *const attributes_of[] = {
    "stroke=\"#e4e7ec\" fill=\"none\"",
    "fill=\"#667085\" font-size=\"12\"",
    "stroke=\"#98a2b3\" fill=\"none\"",
    "fill=\"#475467\" font-size=\"12.5\"",
    "stroke=\"#b42318\" stroke-dasharray=\"5 4\" fill=\"none\"",
    "fill=\"#b42318\" font-size=\"12\"",
};

/* Where it is drawn to. */
struct canvas {
    struct sx_sbuf *o;
    const char *const *look;
    bool alone; /* a file */
};

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

static void add_axes(const struct canvas *to, const struct sx_chart *c, const struct axis *x,
                     const struct axis *y)
{
    struct sx_sbuf *o = to->o;
    double last = -ROOM;
    char text[32];
    for (int i = 0; i < y->n; i++) {
        double at = py(y, y->tick[i]);
        sx_sbuf_printf(o, "<path %s d=\"M%d %.1fH%d\"/>", to->look[GRID], LEFT, at, WIDTH - RIGHT);
        sx_sbuf_printf(o, "<text %s x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                       to->look[TICK], LEFT - 8, at + 4, tick_text(text, y, y->tick[i]));
    }
    for (int i = 0; i < x->n; i++) {
        double at = px(x, x->tick[i]);
        sx_sbuf_printf(o, "<path %s d=\"M%.1f %dV%d\"/>", to->look[GRID], at, TOP, HEIGHT - BOTTOM);
        if (c->n_x_ticks && at - last < ROOM)
            continue; // round numbers are far enough apart
        last = at;
        sx_sbuf_printf(o, "<text %s x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                       to->look[TICK], at, HEIGHT - BOTTOM + 18, tick_text(text, x, x->tick[i]));
    }
    sx_sbuf_printf(o, "<path %s d=\"M%d %dV%dH%d\"/>", to->look[AXIS], LEFT, TOP, HEIGHT - BOTTOM,
                   WIDTH - RIGHT);
    sx_sbuf_printf(o, "<text %s x=\"%d\" y=\"%d\" text-anchor=\"middle\">", to->look[LABEL],
                   (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
    sx_sbuf_html(o, c->x_label);
    sx_sbuf_printf(o,
                   "</text><text %s transform=\"translate(15 %d) rotate(-90)\" "
                   "text-anchor=\"middle\">",
                   to->look[LABEL], (TOP + HEIGHT - BOTTOM) / 2);
    sx_sbuf_html(o, c->y_label);
    sx_sbuf_puts(o, "</text>");
}

static void add_marks(const struct canvas *to, const struct sx_chart *c, const struct axis *x,
                      const struct axis *y)
{
    struct sx_sbuf *o = to->o;
    if (c->y_mark > 0) {
        double at = py(y, c->y_mark);
        sx_sbuf_printf(o, "<path %s d=\"M%d %.1fH%d\"/>", to->look[MARK], LEFT, at, WIDTH - RIGHT);
        sx_sbuf_printf(o, "<text %s x=\"%d\" y=\"%.1f\">", to->look[MARKTEXT], LEFT + 8, at - 6);
        sx_sbuf_html(o, c->y_mark_name);
        sx_sbuf_puts(o, "</text>");
    }
    if (c->x_mark > 0) {
        double at = px(x, c->x_mark);
        bool right = at > WIDTH * 0.7;
        sx_sbuf_printf(o, "<path %s d=\"M%.1f %dV%d\"/>", to->look[MARK], at, TOP, HEIGHT - BOTTOM);
        sx_sbuf_printf(o, "<text %s x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">", to->look[MARKTEXT],
                       right ? at - 6 : at + 6, TOP + 12, right ? "end" : "start");
        sx_sbuf_html(o, c->x_mark_name);
        sx_sbuf_puts(o, "</text>");
    }
}

/* The look of a line, or of its sample in the legend. */
static void put_line_look(const struct canvas *to, const struct sx_chart_line *l)
{
    if (to->alone)
        sx_sbuf_printf(to->o, "fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s%s",
                       colours[l->colour], l->dashed ? " stroke-dasharray=\"6 4\"" : "",
                       l->faint ? " stroke-opacity=\"0.4\"" : "");
    else
        sx_sbuf_printf(to->o, "class=\"line c%d%s%s\"", l->colour, l->dashed ? " dash" : "",
                       l->faint ? " faint" : "");
}

static void put_dot_look(const struct canvas *to, const struct sx_chart_line *l)
{
    bool hollow = to->alone ? l->faint : l->dashed;
    if (to->alone)
        sx_sbuf_printf(to->o, "fill=\"%s\" stroke=\"%s\" stroke-width=\"%s\"",
                       hollow ? "#ffffff" : colours[l->colour], colours[l->colour],
                       hollow ? "1" : "1.5");
    else
        sx_sbuf_printf(to->o, "class=\"dot c%d%s\"", l->colour, hollow ? " hollow" : "");
}

static void add_line(const struct canvas *to, const struct sx_chart_line *l, const struct axis *x,
                     const struct axis *y)
{
    struct sx_sbuf *o = to->o;
    if (!l->loose) {
        sx_sbuf_puts(o, "<path ");
        put_line_look(to, l);
        sx_sbuf_puts(o, " d=\"");
        for (size_t i = 0; i < l->n; i++) {
            if (l->steps && i > 0)
                sx_sbuf_printf(o, "H%.1f", px(x, l->x[i]));
            sx_sbuf_printf(o, "%s%.1f %.1f", i ? "L" : "M", px(x, l->x[i]), py(y, l->y[i]));
        }
        sx_sbuf_puts(o, "\"/>");
    }
    for (size_t i = 0; l->markers && i < l->n; i++) {
        sx_sbuf_puts(o, "<circle ");
        put_dot_look(to, l);
        sx_sbuf_printf(o, " cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>", px(x, l->x[i]),
                       py(y, l->y[i]),
                       l->label                ? "5"
                       : l->dashed || l->faint ? "3"
                                               : "3.6");
        sx_sbuf_html(o, l->name ? l->name : "");
        if (l->tip) {
            sx_sbuf_putc(o, '\n');
            sx_sbuf_html(o, l->tip[i]);
        }
        sx_sbuf_puts(o, "</title></circle>");
    }
}

/* Beside the last point; on a file with a rim, as lines may pass below. */
static void add_label(const struct canvas *to, const struct sx_chart_line *l, const struct axis *x,
                      const struct axis *y)
{
    double at = px(x, l->x[l->n - 1]);
    bool right = at > WIDTH - RIGHT - 60;
    for (int rim = to->alone; rim >= 0; rim--) {
        sx_sbuf_printf(to->o, "<text %s x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>",
                       to->look[LABEL], right ? at - 8 : at + 8, py(y, l->y[l->n - 1]) - 8,
                       right ? "end" : "start",
                       rim ? " stroke=\"#ffffff\" stroke-width=\"3\" aria-hidden=\"true\"" : "");
        sx_sbuf_html(to->o, l->label);
        sx_sbuf_puts(to->o, "</text>");
    }
}

static void add_chart(const struct canvas *to, const struct sx_chart *c)
{
    struct axis x = {.log = c->x_log, .time_us = c->x_time_us};
    struct axis y = {.log = c->y_log, .tail = c->y_tail, .time_us = c->y_time_us};
    double min, max;
    bounds(c, false, &min, &max);
    if (x.log)
        log_axis(&x, min, max);
    else
        linear_axis(&x, max);
    if (c->n_x_ticks)
        x.n = 0;
    for (size_t i = 0; i < c->n_x_ticks; i++)
        add_tick(&x, c->x_ticks[i]);
    bounds(c, true, &min, &max);
    if (y.tail)
        tail_axis(&y, max);
    else if (y.log)
        log_axis(&y, min, max);
    else
        linear_axis(&y, max);

    add_axes(to, c, &x, &y);
    for (size_t i = 0; i < c->n_lines; i++)
        add_line(to, &c->line[i], &x, &y);
    for (size_t i = 0; i < c->n_lines; i++)
        if (c->line[i].label && c->line[i].n)
            add_label(to, &c->line[i], &x, &y);
    add_marks(to, c, &x, &y); // above the lines: their words must stay readable
}

void sx_chart_svg(struct sx_sbuf *o, const struct sx_chart *c)
{
    const struct canvas to = {.o = o, .look = class_of};
    sx_sbuf_printf(o, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    sx_sbuf_html(o, c->title);
    sx_sbuf_puts(o, "\">");
    add_chart(&to, c);
    sx_sbuf_puts(o, "</svg>\n");
}

void sx_chart_file(struct sx_sbuf *o, const struct sx_chart *c)
{
    const struct canvas to = {.o = o, .look = attributes_of, .alone = true};
    int width = WIDTH + LEGEND, height = HEIGHT + HEAD, entries = 0;
    for (size_t i = 0; i < c->n_lines; i++)
        entries += c->line[i].name && !c->line[i].loose;
    if (TOP + ENTRY * (entries + 1) > HEIGHT)
        height = HEAD + TOP + ENTRY * (entries + 1);
    sx_sbuf_printf(o,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                   "viewBox=\"0 %d %d %d\" font-family=\"sans-serif\">\n<title>",
                   width, height, -HEAD, width, height);
    sx_sbuf_html(o, c->title);
    sx_sbuf_printf(o,
                   "</title>\n<rect x=\"0\" y=\"%d\" width=\"%d\" height=\"%d\" "
                   "fill=\"#ffffff\"/>\n<text x=\"%d\" y=\"-10\" font-size=\"15\" "
                   "fill=\"#1c2230\">",
                   -HEAD, width, height, LEFT);
    sx_sbuf_html(o, c->title);
    sx_sbuf_puts(o, "</text>\n");
    add_chart(&to, c);
    for (size_t i = 0, at = TOP + ENTRY / 2; i < c->n_lines; i++) {
        const struct sx_chart_line *l = &c->line[i];
        if (!l->name || l->loose)
            continue;
        sx_sbuf_puts(o, "\n<path ");
        put_line_look(&to, l);
        sx_sbuf_printf(o, " d=\"M%d %zuh24\"/><text %s x=\"%d\" y=\"%zu\">", WIDTH - 8, at,
                       to.look[LABEL], WIDTH + 22, at + 4);
        sx_sbuf_html(o, l->name);
        sx_sbuf_puts(o, "</text>");
        at += ENTRY;
    }
    sx_sbuf_puts(o, "\n</svg>\n");
}
