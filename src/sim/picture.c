/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * picture.c - a schedule as SVG.
 *
 * A run on units that are no neighbours is drawn as several rectangles.  Rows of ticks below, one
 * for each model: windows end, or first deadlines of batches are, where the tick is.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/report.h"

enum {
    WIDTH = 1080,
    LEFT = 96,
    RIGHT = 20,
    TOP = 84,
    HEIGHT = 360, /* of all units */
    ROW = 16,     /* of ticks */
    AXIS = 30,
    ROWS = 16, /* of ticks at most: the first models' */
};
#define PLOT       (WIDTH - LEFT - RIGHT)
#define CHAR_WIDTH 6.4

/* Strong, and pale enough for dark text on it. */
static const char *const colours[][2] = {
    {"#1769e0", "#c9ddfa"}, {"#c85a10", "#f8dcc6"}, {"#0c8068", "#c0e8de"}, {"#9b3fc2", "#ead3f4"},
    {"#946d00", "#f3e3b3"}, {"#d1345b", "#f9d0db"}, {"#4a7c2a", "#d8ebc9"}, {"#5a6b86", "#d9dfe8"},
};
enum { COLOURS = sizeof colours / sizeof *colours };

struct picture {
    const struct sx_sim_scenario *s;
    const struct sx_sim_result *r;
    struct sx_sbuf *out;
    double begin, end; /* ns */
    double unit;       /* height of one */
};

static double px(const struct picture *p, double ns)
{
    return LEFT + (ns - p->begin) / (p->end - p->begin) * PLOT;
}

static void text(struct sx_sbuf *out, double x, double y, const char *anchor, const char *fill,
                 int size, const char *what)
{
    sx_sbuf_printf(out,
                   "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\" font-size=\"%d\">",
                   x, y, anchor, fill, size);
    sx_sbuf_html(out, what);
    sx_sbuf_puts(out, "</text>\n");
}

/* 1, 2 or 5 times a power of ten, so that there are 5 to 12 steps. */
static double tick_step(double span)
{
    double step = pow(10, floor(log10(span / 5)));
    return span / step > 24 ? step * 5 : span / step > 12 ? step * 2 : step;
}

static void add_axes(const struct picture *p, double bottom)
{
    unsigned n = p->s->config.n_units, step = 1;
    double ms = tick_step((p->end - p->begin) * 1e-6);
    char label[32];
    while (n / step > 10)
        step = step * 10 <= n / 5 ? step * 10 : step * 2;
    for (unsigned u = 0; u <= n; u += step) {
        double y = TOP + HEIGHT - u * p->unit;
        sx_sbuf_printf(p->out,
                       "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e4e7ec\"/>\n",
                       LEFT, y, LEFT + PLOT, y);
        snprintf(label, sizeof label, "%u", u);
        text(p->out, LEFT - 8, y + 4, "end", "#667085", 11, label);
    }
    text(p->out, LEFT - 8, TOP - 10, "end", "#667085", 11, "units");
    for (double t = ceil(p->begin * 1e-6 / ms) * ms; t <= p->end * 1e-6 * 1.000001; t += ms) {
        double x = px(p, t * 1e6);
        sx_sbuf_printf(p->out,
                       "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e7ec\"/>\n",
                       x, TOP, x, bottom);
        snprintf(label, sizeof label, "%.6g", t);
        text(p->out, x, bottom + 16, "middle", "#667085", 11, label);
    }
    text(p->out, LEFT - 8, bottom + 16, "end", "#667085", 11, "ms");
}

static bool has_unit(const struct sx_sim_span *s, unsigned unit)
{
    return s->units[unit / 64] >> unit % 64 & 1;
}

/* A part of a run: neighbouring units from `first` on. */
static void add_part(const struct picture *p, const struct sx_sim_span *s, unsigned first,
                     unsigned n, bool label)
{
    const char *const *colour = colours[s->model % COLOURS];
    double x = px(p, (double)s->begin), to = px(p, fmin((double)s->end, p->end));
    double height = n * p->unit, y = TOP + HEIGHT - first * p->unit - height;
    double width = fmax(to - x, 0.6), inset = p->unit > 2 ? 0.5 : 0;
    char batch[16];
    sx_sbuf_printf(p->out,
                   "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\" "
                   "stroke=\"%s\" stroke-width=\"1\"/>",
                   x + 0.5, y + inset, fmax(width - 1, 0.5), fmax(height - 2 * inset, 0.5),
                   colour[s->filler], s->filler ? colour[0] : "#ffffff");
    snprintf(batch, sizeof batch, "%u", s->batch);
    if (label && width > (double)strlen(batch) * CHAR_WIDTH + 3 && height >= 12)
        sx_sbuf_printf(p->out,
                       "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"%s\" "
                       "font-size=\"11\">%s</text>",
                       x + width / 2, y + height / 2 + 4, s->filler ? "#1c2230" : "#ffffff", batch);
}

static void add_span(const struct picture *p, const struct sx_sim_span *s)
{
    unsigned n_units = p->s->config.n_units, widest = 0, at = 0;
    for (unsigned u = 0, n; u < n_units; u += n + 1) { /* the widest part gets the label */
        for (n = 0; u + n < n_units && has_unit(s, u + n); n++)
            continue;
        if (n > widest) {
            widest = n;
            at = u;
        }
    }
    sx_sbuf_puts(p->out, "<g><title>");
    sx_sbuf_html(p->out, p->s->models[s->model].name);
    sx_sbuf_printf(p->out, ", %s: %.3f to %.3f ms, %u units, batch %u</title>",
                   s->filler ? "filler" : "mandatory", (double)s->begin * 1e-6,
                   (double)s->end * 1e-6, s->n_units, s->batch);
    for (unsigned u = 0, n; u < n_units; u += n + 1) {
        for (n = 0; u + n < n_units && has_unit(s, u + n); n++)
            continue;
        if (n)
            add_part(p, s, u, n, u == at);
    }
    sx_sbuf_puts(p->out, "</g>\n");
}

static void add_tick(const struct picture *p, unsigned model, double ns)
{
    double x = px(p, ns), y = TOP + HEIGHT + 6 + model * ROW;
    if (model < ROWS && ns >= p->begin && ns <= p->end)
        sx_sbuf_printf(p->out,
                       "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                       "stroke-width=\"2\"/>\n",
                       x, y, x, y + ROW - 4, colours[model % COLOURS][0]);
}

static unsigned rows(const struct picture *p)
{
    return p->s->config.n_models < ROWS ? p->s->config.n_models : ROWS;
}

static void add_ticks(const struct picture *p)
{
    for (unsigned m = 0; m < rows(p); m++) {
        const struct sx_sim_model *model = &p->s->models[m];
        double step = model->objective_ns;
        text(p->out, LEFT - 8, TOP + HEIGHT + 16 + m * ROW, "end", colours[m % COLOURS][0], 10,
             model->load ? "deadlines" : "windows");
        if (model->load || (p->end - p->begin) / step > PLOT / 3.0)
            continue;
        for (double t = ceil(p->begin / step) * step; t <= p->end; t += step)
            add_tick(p, m, t);
    }
    for (size_t i = 0; i < p->r->n_spans; i++)
        if (p->r->spans[i].deadline)
            add_tick(p, p->r->spans[i].model, (double)p->r->spans[i].deadline);
}

static void add_key(const struct picture *p)
{
    double x = LEFT;
    for (unsigned m = 0; m < p->s->config.n_models; m++) {
        const char *name = p->s->models[m].name;
        double width = 17 + (double)strlen(name) * 7 + 16;
        if (x + width > WIDTH - RIGHT - 300) {
            text(p->out, x, 56, "start", "#667085", 12, "..."); /* the rest has its titles */
            break;
        }
        sx_sbuf_printf(p->out,
                       "<rect x=\"%.1f\" y=\"46\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x,
                       colours[m % COLOURS][0]);
        text(p->out, x + 17, 56, "start", "#1c2230", 12, name);
        x += width;
    }
    x = WIDTH - RIGHT - 300;
    sx_sbuf_printf(p->out, "<rect x=\"%.1f\" y=\"46\" width=\"22\" height=\"12\" fill=\"%s\"/>\n",
                   x, colours[COLOURS - 1][0]);
    text(p->out, x + 27, 56, "start", "#1c2230", 12, "mandatory");
    sx_sbuf_printf(p->out,
                   "<rect x=\"%.1f\" y=\"46\" width=\"22\" height=\"12\" fill=\"%s\" "
                   "stroke=\"%s\"/>\n",
                   x + 104, colours[COLOURS - 1][1], colours[COLOURS - 1][0]);
    text(p->out, x + 131, 56, "start", "#1c2230", 12, "filler");
    text(p->out, x + 180, 56, "start", "#667085", 12, "number: batch");
}

void sx_sim_picture(const struct sx_sim_scenario *s, const struct sx_sim_result *r,
                    enum sx_share_policy policy, struct sx_sbuf *out)
{
    struct picture p = {.s = s, .r = r, .out = out};
    char title[160];
    p.begin = s->config.span_begin * 1e9;
    p.end = s->config.span_end * 1e9;
    p.unit = (double)HEIGHT / s->config.n_units;
    double bottom = TOP + HEIGHT + 6 + (double)rows(&p) * ROW;
    int height = (int)bottom + AXIS;
    sx_sbuf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" font-family=\"sans-serif\" role=\"img\" "
        "aria-label=\"schedule\">\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
        WIDTH, height, WIDTH, height, WIDTH, height);
    snprintf(title, sizeof title, "Schedule, policy %s: simulated%s", sx_share_policy_name(policy),
             s->recalled ? ", from recalled figures of a V100" : "");
    text(out, LEFT, 28, "start", "#1c2230", 16, title);
    add_key(&p);
    add_axes(&p, bottom);
    for (size_t i = 0; i < r->n_spans; i++)
        add_span(&p, &r->spans[i]);
    add_ticks(&p);
    sx_sbuf_puts(out, "</svg>\n");
}
