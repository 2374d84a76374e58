/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * ideal.c - preemptive scheduling of kernels, slot by slot.
 *
 * A window is kept when a run that began in it ends in it; a run that began before counts for
 * nothing but throughput.  So a model whose window is not kept yet is due when what is left of
 * its present run cannot wait any longer; and as two due models may not fit at once, "any longer"
 * allows for all others that are due before.
 */
#include "sim/ideal.h"

#include <math.h>
#include <string.h>

#define GRID  20
#define RATIO 4 /* t_p : t_np */

/* --- models ----------------------------------------------------------------------------------- */

/* (1) of parallel.h, the floor taken of each: at least one. */
static unsigned operations_at(unsigned first, unsigned kernel)
{
    double n = floor(first - (double)first * kernel / SX_IDEAL_KERNELS + 1e-9);
    return n < 1 ? 1 : (unsigned)n;
}

static double kernel_ns(const struct sx_ideal_model *m, unsigned kernel, unsigned units)
{
    unsigned n = m->operations[kernel], at_once = units < n ? units : n;
    return m->serial_ns + m->op_ns * n / (at_once ? at_once : 1);
}

double sx_ideal_model_ns(const struct sx_ideal_model *m, unsigned units)
{
    double ns = 0;
    for (unsigned k = 0; k < m->n_kernels; k++)
        ns += kernel_ns(m, k, units);
    return ns;
}

void sx_ideal_latency(const struct sx_ideal_model *m, unsigned n_units,
                      struct sx_latency *ret_latency)
{
    *ret_latency = (struct sx_latency){.n_units = GRID, .n_batches = m->batch > 1 ? 2 : 1};
    ret_latency->batches[0] = 1;
    if (m->batch > 1)
        ret_latency->batches[1] = m->batch;
    for (unsigned u = 0; u < GRID; u++) {
        ret_latency->units[u] = (u + 1) * n_units / GRID;
        for (unsigned b = 0; b < ret_latency->n_batches; b++)
            ret_latency->ns[u][b] = sx_ideal_model_ns(m, ret_latency->units[u]);
    }
    sx_latency_prepare(ret_latency);
}

/* The model with N_1 = `first` that takes `ns` on `knee` units; where its knee is then. */
static unsigned build(struct sx_ideal_model *m, unsigned n_units, unsigned first, unsigned knee,
                      double ns)
{
    unsigned best = 1;
    double least = INFINITY;
    for (unsigned k = 0; k < m->n_kernels; k++) {
        m->operations[k] = operations_at(first, k);
        m->knee[k] = m->operations[k] < n_units ? m->operations[k] : n_units;
    }
    m->serial_ns = 1;
    m->op_ns = RATIO;
    double scale = ns / sx_ideal_model_ns(m, knee);
    m->serial_ns *= scale;
    m->op_ns *= scale;
    for (unsigned units = 1; units <= n_units; units++) {
        double all = sx_ideal_model_ns(m, units);
        if (all * all * units < least * (1 - 1e-12)) {
            least = all * all * units;
            best = units;
        }
    }
    return best;
}

enum sx_rc sx_ideal_model(unsigned n_units, unsigned knee, double ns, unsigned batch,
                          double objective_ns, struct sx_ideal_model *ret_model, struct sx_err *err)
{
    struct sx_ideal_model m = {
        .objective_ns = objective_ns, .batch = batch, .n_kernels = SX_IDEAL_KERNELS};
    unsigned n = 0, first = 1;
    if (n_units < GRID || n_units % GRID || knee < 1 || knee > n_units || knee % (n_units / GRID))
        return sx_fail(err, SX_INVALID, "%u units are not some twentieths of %u", knee, n_units);
    for (unsigned i = 1; i <= 4 * n_units; i++)
        n += build(&m, n_units, i, knee, ns) == knee;
    if (!n)
        return sx_fail(err, SX_INVALID, "no kernels have their knee at %u of %u units", knee,
                       n_units);
    for (unsigned left = n / 2;; first++) /* the middle one */
        if (build(&m, n_units, first, knee, ns) == knee && left-- == 0)
            break;
    *ret_model = m;
    return SX_OK;
}

/* --- slots ------------------------------------------------------------------------------------ */

struct tenant {
    const struct sx_ideal_model *model;
    unsigned kernel;  /* present one */
    double left;      /* of it, 1: all */
    double run_ns;    /* all kernels at their knees */
    double rest_ns;   /* of the present run, from the present kernel on */
    double run_begin; /* -1: has not begun */
    double window_end;
    bool kept;
    double had; /* run time: units below the knee count for their part of it */
};

static unsigned need(const struct tenant *t)
{
    return t->model->knee[t->kernel];
}

static void begin(struct tenant *t)
{
    t->kernel = 0;
    t->left = 1;
    t->rest_ns = t->run_ns;
    t->run_begin = -1;
}

/* What this window still needs: the rest of the present run, and a whole one if that began before
 * the window did. */
static double needed_ns(const struct tenant *t)
{
    bool old = t->run_begin >= 0 && t->run_begin < t->window_end - t->model->objective_ns;
    return t->kept ? 0 : t->rest_ns + (old ? t->run_ns : 0);
}

/* Must it compute now?  What its window needs, and what the windows that end before need, could not
 * follow one another any more. */
static bool is_due(const struct tenant *t, unsigned n, unsigned i, double now)
{
    double needed = needed_ns(&t[i]);
    if (!(needed > 0))
        return false;
    for (unsigned k = 0; k < n; k++)
        if (k != i && t[k].window_end <= t[i].window_end)
            needed += needed_ns(&t[k]);
    return needed + SX_IDEAL_SLOT_NS >= t[i].window_end - now;
}

/* Those that are due, earliest deadline first, each at its knee or with what is left; returns the
 * units left. */
static unsigned give_due(const struct tenant *t, unsigned n, unsigned n_units, double now,
                         unsigned given[SX_IDEAL_MODELS])
{
    unsigned left = n_units;
    for (unsigned round = 0; round < n && left; round++) {
        unsigned first = n;
        for (unsigned i = 0; i < n; i++)
            if (!given[i] && is_due(t, n, i, now) &&
                (first == n || t[i].window_end < t[first].window_end))
                first = i;
        if (first == n)
            break;
        given[first] = need(&t[first]) < left ? need(&t[first]) : left;
        left -= given[first];
    }
    return left;
}

/* How many units each gets: of all sets, and all of the others as the one that gets the rest of the
 * units, the choice that uses most; of equal ones, the one whose members had least so far. */
static void choose(const struct tenant *t, unsigned n, unsigned n_units, double now,
                   unsigned given[SX_IDEAL_MODELS])
{
    unsigned left, best = 0, best_rest = n, most = 0;
    double best_had = INFINITY;
    memset(given, 0, SX_IDEAL_MODELS * sizeof *given);
    left = give_due(t, n, n_units, now, given);
    for (unsigned set = 0; set < 1u << n; set++) {
        unsigned units = 0, overlap = 0;
        double had = 0;
        for (unsigned i = 0; i < n; i++) {
            if (!(set >> i & 1))
                continue;
            overlap |= given[i];
            units += need(&t[i]);
            had += t[i].had * need(&t[i]);
        }
        if (overlap || units > left)
            continue;
        for (unsigned rest = 0; rest <= n; rest++) {
            unsigned more = 0;
            if (rest < n && ((set >> rest & 1) || given[rest]))
                continue;
            if (rest < n)
                more = need(&t[rest]) < left - units ? need(&t[rest]) : left - units;
            unsigned all = units + more;
            double mean = all ? (had + (rest < n ? t[rest].had * more : 0)) / all : 0;
            if (all > most || (all == most && mean < best_had)) {
                most = all;
                best = set;
                best_rest = rest;
                best_had = mean;
            }
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (best >> i & 1)
            given[i] = need(&t[i]);
    for (unsigned i = 0; i < n; i++)
        left -= best >> i & 1 ? given[i] : 0;
    if (best_rest < n)
        given[best_rest] = need(&t[best_rest]) < left ? need(&t[best_rest]) : left;
}

/* Compute for a slot on so many units, each kernel on at most its knee; kernels may end in it, and
 * the next ones begin.  Returns the unit-time used. */
static double compute(struct tenant *t, unsigned given, double now, struct sx_ideal_result *r,
                      unsigned index)
{
    double left = SX_IDEAL_SLOT_NS, used = 0;
    while (left > 1e-6) {
        unsigned units = need(t) < given ? need(t) : given;
        double whole = kernel_ns(t->model, t->kernel, units), ns = t->left * whole;
        ns = left < ns ? left : ns;
        if (t->run_begin < 0)
            t->run_begin = now + SX_IDEAL_SLOT_NS - left;
        used += ns * units;
        t->had += ns * units / need(t);
        left -= ns;
        t->left -= ns / whole;
        if (t->left > 1e-9)
            break;
        t->rest_ns -= kernel_ns(t->model, t->kernel, need(t));
        t->left = 1;
        if (++t->kernel < t->model->n_kernels)
            continue;
        double end = now + SX_IDEAL_SLOT_NS - left;
        if (t->run_begin >= t->window_end - t->model->objective_ns && end <= t->window_end)
            t->kept = true;
        r->runs[index]++;
        begin(t);
    }
    return used;
}

double sx_ideal_used(const struct sx_ideal_model *m, unsigned units)
{
    double used = 0;
    for (unsigned k = 0; k < m->n_kernels; k++)
        used += kernel_ns(m, k, units) * (m->knee[k] < units ? m->knee[k] : units);
    return used / (sx_ideal_model_ns(m, units) * units);
}

void sx_ideal_run(const struct sx_ideal_model *models, unsigned n, unsigned at_once,
                  unsigned n_units, double seconds, struct sx_ideal_result *ret_result)
{
    struct tenant t[SX_IDEAL_MODELS] = {0};
    unsigned given[SX_IDEAL_MODELS], all = n * at_once;
    double end = seconds * 1e9, used = 0, samples = 0;
    memset(ret_result, 0, sizeof *ret_result);
    for (unsigned i = 0; i < all; i++) {
        const struct sx_ideal_model *m = &models[i % n];
        t[i].model = m;
        t[i].kept = i >= n; /* the first run of each model has the promise to keep */
        t[i].window_end = i < n ? m->objective_ns : INFINITY;
        for (unsigned k = 0; k < m->n_kernels; k++)
            t[i].run_ns += kernel_ns(m, k, m->knee[k]);
        begin(&t[i]);
    }
    for (double now = 0; now + SX_IDEAL_SLOT_NS <= end; now += SX_IDEAL_SLOT_NS) {
        for (unsigned i = 0; i < n; i++) {
            while (t[i].window_end <= now) {
                ret_result->windows++;
                ret_result->missed += !t[i].kept;
                t[i].kept = false;
                t[i].window_end += models[i].objective_ns;
            }
        }
        choose(t, all, n_units, now, given);
        for (unsigned i = 0; i < all; i++)
            if (given[i])
                used += compute(&t[i], given[i], now, ret_result, i % n);
    }
    for (unsigned i = 0; i < n; i++)
        samples += (double)ret_result->runs[i] * models[i].batch;
    ret_result->utilisation = used / (end * n_units);
    ret_result->throughput = samples / seconds;
}
