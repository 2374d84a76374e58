/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
#include "cost/cost.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Weight of the newest run once a cell has history: about the last ten runs count, so that a
 * cell follows drift within a second of load and yet one slow run moves it by a tenth. */
#define RECENT       0.1
/* A run this many times over the mean counts as this many: something disturbed the machine.  A
 * model that really became slower is followed at five percent per run. */
#define CLIP         1.5
/* Until a cell has so many runs, a faster one counts for most: the first runs pay for cold caches
 * and page faults, and nothing makes a run faster than it is. */
#define EARLY_RUNS   6
/* What doubling the width is guessed to gain before anyone measured it: less than it usually
 * does, so that the guess is not chosen over a measured width without need. */
#define GUESSED_GAIN 1.4

static void add_sorted(unsigned *list, unsigned *n, unsigned cap, unsigned value)
{
    unsigned at = 0;
    while (at < *n && list[at] < value)
        at++;
    if ((at < *n && list[at] == value) || *n == cap)
        return;
    memmove(list + at + 1, list + at, (*n - at) * sizeof *list);
    list[at] = value;
    ++*n;
}

void sx_cost_init(struct sx_cost *cost, unsigned n_units, unsigned max_batch,
                  const unsigned *preferred, unsigned n_preferred)
{
    memset(cost, 0, sizeof *cost);
    add_sorted(cost->widths, &cost->n_widths, SX_COST_WIDTHS, 1);
    add_sorted(cost->widths, &cost->n_widths, SX_COST_WIDTHS, n_units ? n_units : 1);
    for (unsigned w = 2; w < n_units && w; w *= 2)
        add_sorted(cost->widths, &cost->n_widths, SX_COST_WIDTHS, w);
    add_sorted(cost->batches, &cost->n_batches, SX_COST_BATCHES, 1);
    add_sorted(cost->batches, &cost->n_batches, SX_COST_BATCHES, max_batch ? max_batch : 1);
    for (unsigned i = 0; i < n_preferred; i++) {
        if (preferred[i] >= 1 && preferred[i] <= max_batch)
            add_sorted(cost->batches, &cost->n_batches, SX_COST_BATCHES, preferred[i]);
    }
    for (unsigned b = 2; b < max_batch && b; b *= 2)
        add_sorted(cost->batches, &cost->n_batches, SX_COST_BATCHES, b);
}

unsigned sx_cost_width_index(const struct sx_cost *cost, unsigned width)
{
    for (unsigned i = 0; i < cost->n_widths; i++) {
        if (cost->widths[i] == width)
            return i;
    }
    assert(!"a width outside the grid");
    return 0;
}

/* The grid interval around `batch`: lo <= batch <= hi, and how far along it lies (0..1). */
static double locate(const struct sx_cost *cost, unsigned batch, unsigned *ret_lo, unsigned *ret_hi)
{
    unsigned hi = 0;
    while (hi + 1 < cost->n_batches && cost->batches[hi] < batch)
        hi++;
    unsigned lo = hi && cost->batches[hi] > batch ? hi - 1 : hi;
    *ret_lo = lo;
    *ret_hi = hi;
    if (lo == hi)
        return 0;
    return (double)(batch - cost->batches[lo]) / (cost->batches[hi] - cost->batches[lo]);
}

/* Time of a grid cell: measured, else from the nearest measured batch of the same width (a batch
 * costs in proportion, which is the most it can), else from the nearest measured width. */
static double cell_ns(const struct sx_cost *cost, unsigned wi, unsigned bi)
{
    const struct sx_cost_entry *row = cost->cell[wi];
    if (row[bi].runs)
        return row[bi].ns;
    for (unsigned d = 1; d < cost->n_batches; d++) {
        if (bi >= d && row[bi - d].runs)
            return row[bi - d].ns * cost->batches[bi] / cost->batches[bi - d];
        if (bi + d < cost->n_batches && row[bi + d].runs) {
            /* Going down, keep half of the cost fixed: small batches are less efficient. */
            double share = (double)cost->batches[bi] / cost->batches[bi + d];
            return row[bi + d].ns * (0.5 + 0.5 * share);
        }
    }
    return 0;
}

static double predict(const struct sx_cost *cost, unsigned wi, unsigned bi)
{
    double ns = cell_ns(cost, wi, bi);
    if (ns > 0)
        return ns;
    for (unsigned d = 1; d < cost->n_widths; d++) {
        if (wi >= d && (ns = cell_ns(cost, wi - d, bi)) > 0)
            return ns * pow((double)cost->widths[wi - d] / cost->widths[wi], log2(GUESSED_GAIN));
        if (wi + d < cost->n_widths && (ns = cell_ns(cost, wi + d, bi)) > 0)
            return ns * pow((double)cost->widths[wi + d] / cost->widths[wi], log2(GUESSED_GAIN));
    }
    return 0;
}

double sx_cost_ns(const struct sx_cost *cost, unsigned batch, unsigned wi)
{
    unsigned lo, hi;
    double at = locate(cost, batch, &lo, &hi);
    double a = predict(cost, wi, lo);
    if (cost->batches[hi] < batch) /* beyond the grid: in proportion */
        return a * batch / cost->batches[hi];
    return lo == hi ? a : a + at * (predict(cost, wi, hi) - a);
}

/* A cell idle for longer knows little: its next run counts half. */
#define STALE_NS   1e9
/* Of so many runs, one may be spent on trying. */
#define TRY_PASSED 100

bool sx_cost_worth_a_try(const struct sx_cost *cost, unsigned wi)
{
    const struct sx_cost_entry *e = &cost->cell[wi][0];
    return e->runs && e->idle_ns >= STALE_NS && e->passed >= TRY_PASSED;
}

double sx_cost_spread_ns(const struct sx_cost *cost, unsigned batch, unsigned wi)
{
    unsigned lo, hi;
    locate(cost, batch, &lo, &hi);
    const struct sx_cost_entry *a = &cost->cell[wi][lo], *b = &cost->cell[wi][hi];
    double spread = a->spread_ns > b->spread_ns ? a->spread_ns : b->spread_ns;
    /* Unmeasured: a guess may be off by a fifth. */
    return a->runs || b->runs ? spread : 0.2 * sx_cost_ns(cost, batch, wi);
}

/* Time after which an unused cell has gone most of the way back to its floor. */
#define RELAX_NS 5e9
/* Time of runs slower than the floor after which the floor has gone most of the way up to them: a
 * machine that became slower for good is believed in the end. */
#define FLOOR_NS 30e9
/* Time after which the floor of an unused cell has gone most of the way down to what perfect
 * scaling would give: all its runs may have been disturbed, so even the best may be too high. */
#define HOPE_NS  20e9

/* What a cell takes at most, by those that were measured lately: in proportion, on more units and
 * of fewer samples. */
static double most_ns(const struct sx_cost *cost, unsigned w, unsigned b)
{
    double most = INFINITY;
    for (unsigned i = w + 1; i < cost->n_widths; i++) {
        if (cost->cell[i][b].runs && cost->cell[i][b].idle_ns < STALE_NS)
            most = fmin(most, cost->cell[i][b].ns * cost->widths[i] / cost->widths[w]);
    }
    for (unsigned i = 0; i < b; i++) {
        if (cost->cell[w][i].runs && cost->cell[w][i].idle_ns < STALE_NS)
            most = fmin(most, cost->cell[w][i].ns * cost->batches[b] / cost->batches[i]);
    }
    return most;
}

/* What makes the newest cell slower than its floor may or may not concern the others: half of it is
 * taken to, in logarithms, and no more than this.  Without, they look cheap whenever the machine
 * is slow, and get tried when it can least bear it; with all of it, they are not tried while one
 * core alone is slow. */
#define MOST_SLOW 1.5

/* A floor so many times over what it can be at most was disturbed in all its runs, as when a model
 * is measured while another one loads.  Nobody would use that cell again, and correct it. */
#define NO_CHANCE 1.5

/* All cells but the newest drift towards the best they have been, and that towards the best they
 * could be; the newest one, too, once it has not been used for long.  Time counts whether something
 * runs or not: at little load, seconds of runs take minutes. */
static void relax(struct sx_cost *cost, double ns, bool run)
{
    double drift = ns < RELAX_NS / 2 ? ns / RELAX_NS : 0.5;
    double hope = ns < HOPE_NS / 2 ? ns / HOPE_NS : 0.5;
    const struct sx_cost_entry *used = &cost->cell[cost->last_width][cost->last_lo];
    double slow = 1;
    if (run && used->runs)
        slow = fmin(sqrt(fmax(used->ns / used->floor_ns, 1)), MOST_SLOW);
    for (unsigned w = 0; w < cost->n_widths; w++) {
        for (unsigned b = 0; b < cost->n_batches; b++) {
            struct sx_cost_entry *e = &cost->cell[w][b];
            bool newest = w == cost->last_width && (b == cost->last_lo || b == cost->last_hi);
            if (!e->runs || (newest && run))
                continue;
            e->idle_ns += ns;
            e->passed += run;
            if (newest && e->idle_ns < STALE_NS)
                continue;
            double most = most_ns(cost, w, b), perfect = cost->cell[0][b].ns / cost->widths[w];
            if (e->runs == 1) /* the model's first, perhaps, with weights yet to be read */
                e->floor_ns = fmin(e->floor_ns, most);
            else if (most * NO_CHANCE < e->floor_ns)
                e->floor_ns += hope * (most - e->floor_ns);
            if (cost->cell[0][b].runs && perfect < e->floor_ns)
                e->floor_ns += hope * (perfect - e->floor_ns);
            e->ns += drift * (e->floor_ns * slow - e->ns);
        }
    }
}

static void learn(struct sx_cost_entry *e, double ns, double weight)
{
    if (!e->runs) {
        e->ns = e->floor_ns = ns;
        e->spread_ns = 0;
    } else {
        double alpha = 1.0 / (double)(e->runs + 1);
        if (alpha < RECENT)
            alpha = RECENT;
        if (e->runs < EARLY_RUNS)
            alpha = ns < e->ns ? 0.8 : RECENT;
        if (e->idle_ns > STALE_NS) {
            alpha = 0.5;
            if (ns > e->floor_ns)
                e->floor_ns += 0.5 * (ns - e->floor_ns);
        }
        alpha *= weight;
        if (ns > CLIP * e->ns)
            ns = CLIP * e->ns;
        e->spread_ns += alpha * (fabs(ns - e->ns) - e->spread_ns);
        e->ns += alpha * (ns - e->ns);
        double rise = ns < FLOOR_NS ? ns / FLOOR_NS : 1;
        if (e->ns > e->floor_ns)
            e->floor_ns += rise * weight * (e->ns - e->floor_ns);
        else
            e->floor_ns = e->ns;
    }
    e->idle_ns = 0;
    e->passed = 0;
    e->runs++;
}

static void derive(struct sx_cost *cost)
{
    double best = 0;
    for (unsigned wi = 0; wi < cost->n_widths; wi++) {
        for (unsigned bi = 0; bi < cost->n_batches; bi++) {
            if (!cost->cell[wi][bi].runs)
                continue;
            double unit = cost->widths[wi] * cost->cell[wi][bi].ns / cost->batches[bi];
            if (best <= 0 || unit < best) {
                best = unit;
                cost->unit_batch = cost->batches[bi];
                cost->unit_width = cost->widths[wi];
            }
        }
    }
    cost->unit_ns = best;
}

void sx_cost_record(struct sx_cost *cost, unsigned batch, unsigned width, uint64_t ns)
{
    if (!batch || !ns)
        return;
    unsigned wi = sx_cost_width_index(cost, width), lo, hi;
    double at = locate(cost, batch, &lo, &hi);
    if (lo == hi) {
        double scale = (double)cost->batches[lo] / batch; /* 1, but for a batch beyond the grid */
        learn(&cost->cell[wi][lo], (double)ns * scale, 1);
    } else if (!cost->cell[wi][lo].runs && !cost->cell[wi][hi].runs) {
        /* Nothing to move: one of them begins, as if time were in proportion. */
        learn(&cost->cell[wi][hi], (double)ns * cost->batches[hi] / batch, 1);
    } else {
        /* Between two points: move both by the factor that the interpolation was off by. */
        double predicted = sx_cost_ns(cost, batch, wi);
        double factor = predicted > 0 ? (double)ns / predicted : 1;
        double a = predict(cost, wi, lo), b = predict(cost, wi, hi);
        if (cost->cell[wi][lo].runs && at < 1)
            learn(&cost->cell[wi][lo], a * factor, 1 - at);
        if (cost->cell[wi][hi].runs && at > 0)
            learn(&cost->cell[wi][hi], b * factor, at);
    }
    cost->last_width = wi;
    cost->last_lo = lo;
    cost->last_hi = hi;
    relax(cost, (double)ns, true);
    derive(cost);
}

void sx_cost_rest(struct sx_cost *cost, uint64_t ns)
{
    relax(cost, (double)ns, false);
    derive(cost);
}
