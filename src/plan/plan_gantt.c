/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_gantt.c - a picture of jobs that go through the stages.
 *
 * A lane for each device; a block for each (job, stage), in the job's colour; its beginning, where
 * it fetches its inputs, is lighter.  The predicted pipeline is a small simulation: a device does
 * one thing at a time and takes the oldest job that is ready; a new job begins while fewer than
 * stages + 1 are inside, which is enough to keep the slowest stage busy.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"

enum {
    WIDTH = 960,
    LEFT = 132,
    RIGHT = 24,
    TOP = 64, /* title */
    LANE = 44,
    BLOCK = 32,
    GROUP = 34, /* a group's heading */
    AXIS = 42,
    COLOURS = 8,
};
#define PLOT       (WIDTH - LEFT - RIGHT)
#define CHAR_WIDTH 6.6 /* of the labels' font; to know what fits */

struct picture {
    const struct sx_plan *plan;
    struct sx_sbuf *out;
    int lane_of[SX_PLAN_MAX_STAGES]; /* device -> lane; -1: has no stage */
    int n_lanes;
    double end_ns; /* right end of the axis */
};

/* --- prediction ------------------------------------------------------------------------------- */

static double stage_ns(const struct sx_plan *plan, unsigned s)
{
    return plan->stages[s].ns + plan->stages[s].transfer_ns;
}

/* jobs * n_stages spans, by job and stage. */
static void simulate(const struct sx_plan *plan, unsigned jobs, struct sx_plan_span *spans)
{
    unsigned next[SX_PLAN_MAX_JOBS] = {0}, n = plan->n_stages, inside = n + 1;
    double ready[SX_PLAN_MAX_JOBS] = {0}, free_at[SX_PLAN_MAX_STAGES] = {0};

    for (unsigned done = 0; done < jobs * n; done++) {
        unsigned job = 0;
        double begin = INFINITY;
        for (unsigned j = 0; j < jobs; j++) {
            if (next[j] == n)
                continue;
            if (next[j] == 0 && j >= inside) {
                if (next[j - inside] < n)
                    break; /* not let in yet, nor is any after it */
                ready[j] = ready[j - inside];
            }
            double at = fmax(ready[j], free_at[plan->stages[next[j]].device]);
            if (at < begin) {
                begin = at;
                job = j;
            }
        }
        unsigned s = next[job]++;
        double end = begin + stage_ns(plan, s);
        spans[job * n + s] = (struct sx_plan_span){job, s, begin, end};
        ready[job] = free_at[plan->stages[s].device] = end;
    }
}

/* --- drawing ---------------------------------------------------------------------------------- */

static double px(const struct picture *p, double ns)
{
    return (double)LEFT + ns / p->end_ns * (double)PLOT;
}

static const char *ms_text(char buf[24], double ns)
{
    double v = ns * 1e-6;

    snprintf(buf, 24,
             v >= 100  ? "%.0f ms"
             : v >= 10 ? "%.1f ms"
             : v >= 1  ? "%.2f ms"
                       : "%.3f ms",
             v);
    return buf;
}

/* 1, 2 or 5 times a power of ten, so that there are 4 to 10 steps. */
static double tick_step(double span)
{
    double step = pow(10, floor(log10(span / 4)));

    return span / step >= 40  ? step * 10
           : span / step > 20 ? step * 5
           : span / step > 10 ? step * 2
                              : step;
}

/* Lines in each of the groups, numbers below the last. */
static void add_axis(const struct picture *p, unsigned groups)
{
    double step = tick_step(p->end_ns * 1e-6);
    int bottom = TOP + (int)groups * (GROUP + p->n_lanes * LANE);

    for (int i = 0; i * step <= p->end_ns * 1e-6 * 1.0001; i++) {
        double x = px(p, i * step * 1e6);
        sx_sbuf_printf(p->out, "<path class=\"grid\" d=\"");
        for (unsigned g = 0; g < groups; g++)
            sx_sbuf_printf(p->out, "M%.1f %dv%d", x,
                           TOP + (int)g * (GROUP + p->n_lanes * LANE) + GROUP, p->n_lanes * LANE);
        sx_sbuf_printf(p->out, "\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                       x, bottom + 17, i * step);
    }
    sx_sbuf_printf(p->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">ms</text>\n", LEFT - 10,
                   bottom + 17);
}

static void add_span(const struct picture *p, const struct sx_plan_span *span, unsigned job,
                     int top, bool fetches)
{
    const struct sx_plan_stage *stage = &p->plan->stages[span->stage];
    int y = top + p->lane_of[stage->device] * LANE + (LANE - BLOCK) / 2;
    double x = px(p, span->begin_ns), width = fmax(px(p, span->end_ns) - x, 0.5);
    double fetch =
        fetches ? width * stage->transfer_ns / fmax(stage_ns(p->plan, span->stage), 1) : 0;
    char label[32], t[24];

    sx_sbuf_printf(p->out, "<g class=\"c%u\"><title>job %u, stage %u on ", job % COLOURS, job + 1,
                   span->stage + 1);
    sx_sbuf_html(p->out, p->plan->devices[stage->device]);
    sx_sbuf_printf(p->out, "\n%s", ms_text(t, span->begin_ns));
    sx_sbuf_printf(p->out, " to %s", ms_text(t, span->end_ns));
    sx_sbuf_printf(p->out, ": %s", ms_text(t, span->end_ns - span->begin_ns));
    if (fetches)
        sx_sbuf_printf(p->out, ", of which %s fetch inputs", ms_text(t, stage->transfer_ns));
    sx_sbuf_printf(p->out,
                   "</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" rx=\"%.1f\"/>",
                   x, y, width, BLOCK, fmin(4, width / 3));
    if (fetch >= 0.1)
        sx_sbuf_printf(p->out,
                       "<rect class=\"fetch\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\"/>",
                       x, y, fetch, BLOCK);
    snprintf(label, sizeof label, "%u", job + 1);
    if (width - fetch >= (double)strlen(label) * CHAR_WIDTH + 4)
        sx_sbuf_printf(p->out,
                       "<text class=\"in\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                       x + fetch + (width - fetch) / 2, y + BLOCK / 2 + 4, label);
    sx_sbuf_puts(p->out, "</g>\n");
}

/* "stage 2", "stages 1, 3" */
static void add_stages(const struct picture *p, unsigned device)
{
    unsigned n = 0;

    for (unsigned s = 0; s < p->plan->n_stages; s++)
        n += p->plan->stages[s].device == device;
    sx_sbuf_puts(p->out, n > 1 ? "stages" : "stage");
    n = 0;
    for (unsigned s = 0; s < p->plan->n_stages; s++)
        if (p->plan->stages[s].device == device)
            sx_sbuf_printf(p->out, "%s%u", n++ ? ", " : " ", s + 1);
}

/* A heading, the lanes and their names: what lies behind the grid. */
static void add_lanes(const struct picture *p, const char *heading, int top)
{
    sx_sbuf_printf(p->out, "<text class=\"head\" x=\"%d\" y=\"%d\">%s</text>\n", LEFT, top + 22,
                   heading);
    for (unsigned d = 0; d < p->plan->n_devices; d++) {
        if (p->lane_of[d] < 0)
            continue;
        int y = top + GROUP + p->lane_of[d] * LANE;
        sx_sbuf_printf(p->out,
                       "<rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>", LEFT,
                       y + 2, PLOT, LANE - 4);
        sx_sbuf_printf(p->out, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">",
                       LEFT - 10, y + LANE / 2 - 2);
        sx_sbuf_html(p->out, p->plan->devices[d]);
        sx_sbuf_printf(p->out, "</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 10,
                       y + LANE / 2 + 13);
        add_stages(p, d);
        sx_sbuf_puts(p->out, "</text>\n");
    }
}

/* `first`: the job that counts as number 1. */
static void add_spans(const struct picture *p, int top, const struct sx_plan_span *spans, size_t n,
                      unsigned first, bool fetches)
{
    for (size_t i = 0; i < n; i++)
        add_span(p, &spans[i], spans[i].job - first, top + GROUP, fetches);
}

/* Colours as plain rules, and once more for dark pages: many renderers know neither variables nor
 * media queries, and would draw all in black. */
static const char style[] =
    "<style>"
    "svg{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}"
    ".bg{fill:#fff}.lane{fill:#f4f5f8}.grid{stroke:#e4e7ec;fill:none}"
    "text{fill:#667085}.title{font-size:17px;font-weight:650;fill:#1c2230}"
    ".head{font-size:13px;font-weight:600;fill:#1c2230}.name{font-size:13px;fill:#1c2230}"
    ".in{fill:#fff;font-weight:600}.fetch{fill:#fff;opacity:.55}"
    ".c0{fill:#1769e0}.c1{fill:#c85a10}.c2{fill:#0c8068}.c3{fill:#9b3fc2}"
    ".c4{fill:#946d00}.c5{fill:#d1345b}.c6{fill:#4a7c2a}.c7{fill:#5a6b86}"
    "@media (prefers-color-scheme:dark){"
    ".bg{fill:#1a1f29}.lane{fill:#222937}.grid{stroke:#323a4a}"
    "text{fill:#98a2b3}.title,.head,.name{fill:#e6e9ef}.in{fill:#12151c}.fetch{fill:#1a1f29}"
    ".c0{fill:#6aa7ff}.c1{fill:#ff9e57}.c2{fill:#41d1b0}.c3{fill:#d08cf0}"
    ".c4{fill:#e7bd45}.c5{fill:#ff7d9d}.c6{fill:#9bd06f}.c7{fill:#a9b8d0}}"
    "</style>\n";

static void add_title(const struct picture *p)
{
    char t[24];

    sx_sbuf_printf(p->out, "<text class=\"title\" x=\"20\" y=\"30\">");
    sx_sbuf_html(p->out, p->plan->name);
    sx_sbuf_printf(p->out, "</text>\n<text x=\"20\" y=\"50\">predicted: %.4g samples/s",
                   sx_plan_throughput(p->plan));
    sx_sbuf_printf(p->out, " · latency %s", ms_text(t, p->plan->latency_ns));
    sx_sbuf_printf(p->out, " · slowest stage %s · batch %u", ms_text(t, p->plan->slowest_ns),
                   p->plan->batch);
    sx_sbuf_puts(p->out, sx_plan_emulated(p->plan) ? " · emulated devices</text>\n" : "</text>\n");
    if (p->plan->n_stages > 1) /* the key: what the lighter part means */
        sx_sbuf_printf(p->out,
                       "<g class=\"c7\"><rect x=\"%d\" y=\"41\" width=\"24\" height=\"10\" "
                       "rx=\"2\"/><rect class=\"fetch\" x=\"%d\" y=\"41\" width=\"9\" "
                       "height=\"10\"/></g><text x=\"%d\" y=\"50\">lighter: fetches its "
                       "inputs</text>\n",
                       WIDTH - RIGHT - 174, WIDTH - RIGHT - 174, WIDTH - RIGHT - 144);
}

/* --- measured --------------------------------------------------------------------------------- */

/* The spans of the first `jobs` jobs with times from the first begin; NULL: no memory. */
static struct sx_plan_span *first_jobs(const struct sx_plan *plan, const struct sx_plan_span *spans,
                                       size_t n, unsigned jobs, size_t *ret_n, unsigned *ret_first)
{
    struct sx_plan_span *taken = malloc((n + 1) * sizeof *taken);
    double begin = INFINITY;
    unsigned first = UINT32_MAX;
    size_t count = 0;

    if (!taken)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (spans[i].job < first)
            first = spans[i].job;
    for (size_t i = 0; i < n; i++)
        if (spans[i].job - first < jobs && spans[i].stage < plan->n_stages &&
            isfinite(spans[i].begin_ns) && isfinite(spans[i].end_ns) &&
            spans[i].end_ns >= spans[i].begin_ns) {
            taken[count++] = spans[i];
            begin = fmin(begin, spans[i].begin_ns);
        }
    for (size_t i = 0; i < count; i++) {
        taken[i].begin_ns -= begin;
        taken[i].end_ns -= begin;
    }
    *ret_n = count;
    *ret_first = first;
    return taken;
}

static double last_end(const struct sx_plan_span *spans, size_t n)
{
    double end = 0;

    for (size_t i = 0; i < n; i++)
        end = fmax(end, spans[i].end_ns);
    return end;
}

/* Jobs per second at the end of the line: what the picture itself shows. */
static double rate(const struct sx_plan *plan, const struct sx_plan_span *spans, size_t n)
{
    double first = INFINITY, last = 0;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        if (spans[i].stage != plan->n_stages - 1)
            continue;
        first = fmin(first, spans[i].end_ns);
        last = fmax(last, spans[i].end_ns);
        count++;
    }
    return last > first ? (double)(count - 1) / (last - first) * 1e9 : 0;
}

void sx_plan_gantt(const struct sx_plan *plan, unsigned jobs, const struct sx_plan_span *spans,
                   size_t n_spans, struct sx_sbuf *out)
{
    struct picture p = {.plan = plan, .out = out};
    struct sx_plan_span *predicted, *measured = NULL;
    size_t n_measured = 0;
    unsigned first = 0;
    char heading[96];

    jobs = jobs < 1 ? 1 : jobs > SX_PLAN_MAX_JOBS ? SX_PLAN_MAX_JOBS : jobs;
    predicted = calloc((size_t)jobs * plan->n_stages, sizeof *predicted);
    if (n_spans)
        measured = first_jobs(plan, spans, n_spans, jobs, &n_measured, &first);
    if (!predicted || (n_spans && !measured)) {
        out->failed = true;
        goto done;
    }
    simulate(plan, jobs, predicted);
    p.end_ns =
        fmax(last_end(predicted, (size_t)jobs * plan->n_stages), last_end(measured, n_measured));
    p.end_ns = p.end_ns > 0 ? p.end_ns * 1.01 : 1e6;
    for (unsigned d = 0; d < SX_PLAN_MAX_STAGES; d++)
        p.lane_of[d] = -1;
    for (unsigned s = 0; s < plan->n_stages; s++) /* lanes in the order of the pipeline */
        if (p.lane_of[plan->stages[s].device] < 0)
            p.lane_of[plan->stages[s].device] = p.n_lanes++;

    int group = GROUP + p.n_lanes * LANE, lanes = group * (n_measured ? 2 : 1);
    int height = TOP + lanes + AXIS;
    sx_sbuf_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                   "height=\"%d\" role=\"img\" aria-label=\"pipeline\">\n",
                   WIDTH, height, WIDTH, height);
    sx_sbuf_puts(out, style);
    sx_sbuf_printf(out, "<rect class=\"bg\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", WIDTH,
                   height);
    add_title(&p);
    add_lanes(&p, "predicted", TOP);
    if (n_measured) {
        snprintf(heading, sizeof heading, "measured: %.4g samples/s",
                 rate(plan, measured, n_measured) * plan->batch);
        add_lanes(&p, heading, TOP + group);
    }
    add_axis(&p, n_measured ? 2 : 1);
    add_spans(&p, TOP, predicted, (size_t)jobs * plan->n_stages, 0, true);
    add_spans(&p, TOP + group, measured, n_measured, first, false);
    sx_sbuf_puts(out, "</svg>\n");
done:
    free(predicted);
    free(measured);
}
