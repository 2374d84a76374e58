/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * latency.c - fill the holes of a table, make it monotone, read it.
 *
 * Measured times of small shares are jagged (kernels are chosen for the whole machine, waves do not
 * fill), and what follows - knees, plans - takes an order for granted.  So a table is moved to the
 * nearest one that has the order, in the sense of least squares of log times: isotonic regression
 * over two variables by pooling adjacent violators in turn along units and along batches, each with
 * a correction for what the other undid (Dykstra and Robertson, 1982).  What was filled in weighs
 * little against what was measured.  Before, what is far slower on more units is taken out.
 */
#include "cost/latency.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cost/parallel.h"

#define UNITS       SX_LATENCY_UNITS
#define BATCHES     SX_LATENCY_BATCHES
#define FILLED      0.01 /* weight of a cell that was not measured */
#define ROUNDS      200
#define CLOSE       1e-10 /* of logarithms: it has converged */
#define FIT_POINTS  3
/* Slower by more than this on more units is no noise: threads get into each other's way, or the
 * last wave is nearly empty. */
#define SLOWER      1.25
/* Going down to a smaller batch from the only one known, so much of its time is taken as fixed:
 * small batches are less efficient. */
#define FIXED_SHARE 0.5

static bool known(double ns)
{
    return ns >= SX_LATENCY_MIN_NS && ns <= SX_LATENCY_MAX_NS; /* false for NaN */
}

/* --- where tables come from ------------------------------------------------------------------- */

bool sx_latency_from_cost(const struct sx_cost *cost, struct sx_latency *ret_latency)
{
    bool any = false;

    memset(ret_latency, 0, sizeof *ret_latency);
    ret_latency->n_units = cost->n_widths;
    ret_latency->n_batches = cost->n_batches;
    memcpy(ret_latency->units, cost->widths, cost->n_widths * sizeof *cost->widths);
    memcpy(ret_latency->batches, cost->batches, cost->n_batches * sizeof *cost->batches);
    for (unsigned u = 0; u < cost->n_widths; u++) {
        for (unsigned b = 0; b < cost->n_batches; b++) {
            const struct sx_cost_entry *e = &cost->cell[u][b];
            if (e->runs && known(e->ns)) {
                ret_latency->ns[u][b] = e->ns;
                any = true;
            }
        }
    }
    return any;
}

/* Index of `value` in an ascending list, where it is put if it is not there; -1: no room. */
static int place(unsigned *list, unsigned *n, unsigned cap, unsigned value)
{
    unsigned at = 0;

    while (at < *n && list[at] < value)
        at++;
    if (at < *n && list[at] == value)
        return (int)at;
    if (*n == cap)
        return -1;
    memmove(list + at + 1, list + at, (*n - at) * sizeof *list);
    list[at] = value;
    ++*n;
    return (int)at;
}

enum sx_rc sx_latency_from_profile(const struct sx_profile *profile, const char *kind,
                                   struct sx_latency *ret_latency, struct sx_err *err)
{
    struct sx_latency l = {0};

    for (size_t i = 0; i < profile->n_tables; i++) {
        const struct sx_profile_table *t = &profile->tables[i];
        if (strcmp(t->kind, kind))
            continue;
        if (place(l.units, &l.n_units, UNITS, t->units) < 0 ||
            place(l.batches, &l.n_batches, BATCHES, t->batch) < 0) {
            sx_fail(err, SX_TOO_LARGE,
                    "the profile of '%s' has more than %d numbers of units or %d batch sizes", kind,
                    UNITS, BATCHES);
            sx_hint(err, "profile fewer of them into a file of its own");
            return SX_TOO_LARGE;
        }
    }
    if (!l.n_units) {
        sx_fail(err, SX_NOT_FOUND, "nothing was measured on '%s'", kind);
        sx_hint(err, "run `staronnx profile` with that device");
        return SX_NOT_FOUND;
    }
    for (size_t i = 0; i < profile->n_tables; i++) {
        const struct sx_profile_table *t = &profile->tables[i];
        if (strcmp(t->kind, kind))
            continue;
        int u = place(l.units, &l.n_units, UNITS, t->units);
        int b = place(l.batches, &l.n_batches, BATCHES, t->batch);
        l.ns[u][b] = known(t->whole_ns) ? t->whole_ns : 0;
    }
    *ret_latency = l;
    return SX_OK;
}

/* --- check ------------------------------------------------------------------------------------ */

static enum sx_rc check_grid(const unsigned *list, unsigned n, unsigned cap, const char *what,
                             struct sx_err *err)
{
    if (n < 1 || n > cap)
        return sx_fail(err, SX_INVALID, "a table of times has 1 to %u %s, not %u", cap, what, n);
    for (unsigned i = 0; i < n; i++) {
        if (list[i] < 1 || list[i] > SX_LATENCY_MAX)
            return sx_fail(err, SX_INVALID, "%s[%u] is %u, which is not from 1 to %u", what, i,
                           list[i], SX_LATENCY_MAX);
        if (i && list[i] <= list[i - 1])
            return sx_fail(err, SX_INVALID, "%s must go up, but %u follows %u", what, list[i],
                           list[i - 1]);
    }
    return SX_OK;
}

enum sx_rc sx_latency_check(const struct sx_latency *latency, struct sx_err *err)
{
    enum sx_rc rc = check_grid(latency->units, latency->n_units, UNITS, "units", err);
    bool any = false;

    if (!rc)
        rc = check_grid(latency->batches, latency->n_batches, BATCHES, "batches", err);
    if (rc)
        return rc;
    for (unsigned u = 0; u < latency->n_units; u++) {
        for (unsigned b = 0; b < latency->n_batches; b++) {
            double ns = latency->ns[u][b];
            if (!known(ns) && !(ns >= 0 && ns <= 0))
                return sx_fail(err, SX_INVALID,
                               "the time of batch %u on %u units is %g ns, which is no time",
                               latency->batches[b], latency->units[u], ns);
            any = any || known(ns);
        }
    }
    if (!any) {
        sx_fail(err, SX_INVALID, "a table of times without a single time");
        sx_hint(err, "measure at least one batch on one number of units");
        return SX_INVALID;
    }
    return SX_OK;
}

/* --- holes ------------------------------------------------------------------------------------ */

/* The nearest known entries on both sides of `at` in a column; -1: none. */
static void neighbours(const bool have[UNITS], unsigned n, unsigned at, int *ret_lo, int *ret_hi)
{
    int lo = (int)at - 1, hi = (int)at + 1;

    while (lo >= 0 && !have[lo])
        lo--;
    while (hi < (int)n && !have[hi])
        hi++;
    *ret_lo = lo;
    *ret_hi = hi < (int)n ? hi : -1;
}

/* Fill a column as `shape` runs, led through what is known: its ratio to the shape is carried on
 * between known points, evenly in the logarithms, and kept beyond the last. */
static void fill_by_shape(const struct sx_latency *l, const double shape[UNITS], double ns[UNITS],
                          const bool have[UNITS])
{
    for (unsigned u = 0; u < l->n_units; u++) {
        int lo, hi;
        if (have[u])
            continue;
        neighbours(have, l->n_units, u, &lo, &hi);
        double a = log(lo < 0 ? ns[hi] / shape[hi] : ns[lo] / shape[lo]), by = a;
        if (lo >= 0 && hi >= 0) {
            double at =
                log((double)l->units[u] / l->units[lo]) / log((double)l->units[hi] / l->units[lo]);
            by = a + at * (log(ns[hi] / shape[hi]) - a);
        }
        ns[u] = shape[u] * exp(by);
    }
}

/* Between two known points linear in 1/units, below them in proportion to it, above no gain. */
static void fill_alone(const struct sx_latency *l, double ns[UNITS], const bool have[UNITS])
{
    for (unsigned u = 0; u < l->n_units; u++) {
        int lo, hi;
        if (have[u])
            continue;
        neighbours(have, l->n_units, u, &lo, &hi);
        double x = 1.0 / l->units[u];
        if (lo >= 0 && hi >= 0) {
            double a = 1.0 / l->units[lo], b = 1.0 / l->units[hi];
            ns[u] = ns[hi] + (ns[lo] - ns[hi]) * (x - b) / (a - b);
        } else {
            ns[u] = lo >= 0 ? ns[lo] : ns[hi] * x * l->units[hi];
        }
    }
}

struct columns {
    double ns[BATCHES][UNITS];
    bool have[BATCHES][UNITS];
    unsigned n_have[BATCHES];
    bool whole[BATCHES], donor[BATCHES]; /* has no holes any more; has points enough of its own */
};

/* The nearest column that can lend its shape, by the ratio of the batches; -1: none. */
static int nearest_donor(const struct sx_latency *l, const struct columns *c, unsigned b)
{
    double best = INFINITY;
    int found = -1;

    for (unsigned d = 0; d < l->n_batches; d++) {
        double far = fabs(log((double)l->batches[d] / l->batches[b]));
        if (c->donor[d] && far < best) {
            best = far;
            found = (int)d;
        }
    }
    return found;
}

static void fill_columns(const struct sx_latency *l, struct columns *c)
{
    for (unsigned b = 0; b < l->n_batches; b++) { /* those with points enough for the model */
        struct sx_parallel_fit fit;
        unsigned units[UNITS], n = 0;
        double ns[UNITS], shape[UNITS];
        if (c->n_have[b] < FIT_POINTS && c->n_have[b] < l->n_units)
            continue;
        c->donor[b] = c->whole[b] = c->n_have[b] == l->n_units;
        for (unsigned u = 0; !c->whole[b] && u < l->n_units; u++) {
            units[n] = l->units[u];
            ns[n] = c->ns[b][u];
            n += c->have[b][u];
        }
        if (c->whole[b] || !sx_parallel_fit(units, ns, n, &fit))
            continue;
        for (unsigned u = 0; u < l->n_units; u++)
            shape[u] = sx_parallel_fit_ns(&fit, l->units[u]);
        fill_by_shape(l, shape, c->ns[b], c->have[b]);
        c->donor[b] = c->whole[b] = true;
    }
    for (unsigned b = 0; b < l->n_batches; b++) { /* those with one or two */
        int donor = nearest_donor(l, c, b);
        if (c->whole[b] || !c->n_have[b])
            continue;
        if (donor >= 0)
            fill_by_shape(l, c->ns[donor], c->ns[b], c->have[b]);
        else
            fill_alone(l, c->ns[b], c->have[b]);
        c->whole[b] = true;
    }
}

/* Time at batch `b` of a column that was never measured, from the columns `near` and, further away
 * on the same side or on the other, `other` (-1: there is none). */
static double across(const struct sx_latency *l, const struct columns *c, unsigned b, unsigned u,
                     int near, int other)
{
    double batch = l->batches[b], b1 = l->batches[near], t1 = c->ns[near][u], share = batch / b1;

    if (other < 0)
        return batch > b1 ? t1 * share : t1 * (FIXED_SHARE + (1 - FIXED_SHARE) * share);
    double b2 = l->batches[other], t2 = c->ns[other][u];
    double t = t1 + (t2 - t1) * (batch - b1) / (b2 - b1);
    /* outside of both, noise may not make it absurd: between no slower at all and in proportion */
    return batch > b1 && batch > b2   ? fmin(fmax(t, t1), t1 * share)
           : batch < b1 && batch < b2 ? fmax(fmin(t, t1), t1 * share)
                                      : t;
}

static void fill_empty_columns(const struct sx_latency *l, struct columns *c)
{
    for (unsigned b = 0; b < l->n_batches; b++) {
        int lo[2] = {0}, hi[2] = {0}, n_lo = 0, n_hi = 0; /* the nearest two on each side */
        if (c->n_have[b])
            continue;
        for (int d = (int)b - 1; d >= 0 && n_lo < 2; d--)
            if (c->n_have[d])
                lo[n_lo++] = d;
        for (int d = (int)b + 1; d < (int)l->n_batches && n_hi < 2; d++)
            if (c->n_have[d])
                hi[n_hi++] = d;
        int near = n_lo ? lo[0] : hi[0];
        int other = n_lo && n_hi ? hi[0] : n_lo == 2 ? lo[1] : n_hi == 2 ? hi[1] : -1;
        for (unsigned u = 0; u < l->n_units; u++)
            c->ns[b][u] = across(l, c, b, u, near, other);
    }
}

/* --- order ------------------------------------------------------------------------------------ */

static bool ordered(const struct sx_latency *l)
{
    for (unsigned u = 0; u < l->n_units; u++)
        for (unsigned b = 0; b < l->n_batches; b++)
            if ((u && l->ns[u][b] > l->ns[u - 1][b]) || (b && l->ns[u][b] < l->ns[u][b - 1]))
                return false;
    return true;
}

/* Pool adjacent violators: the nearest list that does not go down. */
static void pool(double *x, const double *weight, unsigned n)
{
    double mean[UNITS], sum[UNITS];
    unsigned len[UNITS], k = 0;

    for (unsigned i = 0; i < n; i++) {
        mean[k] = x[i];
        sum[k] = weight[i];
        len[k++] = 1;
        while (k > 1 && mean[k - 2] > mean[k - 1]) {
            double both = sum[k - 2] + sum[k - 1];
            mean[k - 2] = (mean[k - 2] * sum[k - 2] + mean[k - 1] * sum[k - 1]) / both;
            sum[k - 2] = both;
            len[k - 2] += len[k - 1];
            k--;
        }
    }
    for (unsigned i = 0, block = 0; block < k; block++)
        for (unsigned j = 0; j < len[block]; j++)
            x[i++] = mean[block];
}

typedef double field[UNITS][BATCHES];

/* One half of a round: add what this direction was corrected by before, project, note the
 * correction.  Returns how far it moved. */
static double project(unsigned n_units, unsigned n_batches, bool along_units, field x, field weight,
                      field correction)
{
    unsigned lines = along_units ? n_batches : n_units, n = along_units ? n_units : n_batches;
    double moved = 0;

    for (unsigned line = 0; line < lines; line++) {
        double y[UNITS], w[UNITS];
        for (unsigned i = 0; i < n; i++) {
            unsigned u = along_units ? n - 1 - i : line, b = along_units ? line : i;
            y[i] = x[u][b] + correction[u][b];
            w[i] = weight[u][b];
        }
        pool(y, w, n);
        for (unsigned i = 0; i < n; i++) {
            unsigned u = along_units ? n - 1 - i : line, b = along_units ? line : i;
            correction[u][b] += x[u][b] - y[i];
            moved = fmax(moved, fabs(x[u][b] - y[i]));
            x[u][b] = y[i];
        }
    }
    return moved;
}

static void order(struct sx_latency *l, bool measured[UNITS][BATCHES])
{
    field x, weight, by_units = {{0}}, by_batches = {{0}};

    for (unsigned u = 0; u < l->n_units; u++) {
        for (unsigned b = 0; b < l->n_batches; b++) {
            x[u][b] = log(l->ns[u][b]);
            weight[u][b] = measured[u][b] ? 1 : FILLED;
        }
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        double moved = project(l->n_units, l->n_batches, true, x, weight, by_units);
        moved = fmax(moved, project(l->n_units, l->n_batches, false, x, weight, by_batches));
        if (moved < CLOSE)
            break;
    }
    for (unsigned u = l->n_units; u-- > 0;) {
        for (unsigned b = 0; b < l->n_batches; b++) {
            double ns = exp(x[u][b]);
            if (fabs(x[u][b] - log(l->ns[u][b])) > 10 * CLOSE)
                l->ns[u][b] = ns;
            /* what rounding, or the last round, left over */
            if (u + 1 < l->n_units)
                l->ns[u][b] = fmax(l->ns[u][b], l->ns[u + 1][b]);
            if (b)
                l->ns[u][b] = fmax(l->ns[u][b], l->ns[u][b - 1]);
        }
    }
}

/* Where more units really make a run slower, it leaves them idle: pooled with the time on fewer, it
 * would spoil that one, which is the one to choose. */
static void leave_idle(const struct sx_latency *l, struct columns *c)
{
    for (unsigned b = 0; b < l->n_batches; b++) {
        double best = INFINITY;
        for (unsigned u = 0; u < l->n_units; u++) {
            if (!c->have[b][u])
                continue;
            if (c->ns[b][u] > SLOWER * best)
                c->ns[b][u] = best;
            best = fmin(best, c->ns[b][u]);
        }
    }
}

unsigned sx_latency_prepare(struct sx_latency *latency)
{
    struct sx_latency before = *latency;
    struct columns c = {0};
    bool measured[UNITS][BATCHES] = {{0}}, holes = false, any = false;
    unsigned changed = 0;

    for (unsigned u = 0; u < latency->n_units; u++) {
        for (unsigned b = 0; b < latency->n_batches; b++) {
            measured[u][b] = c.have[b][u] = known(latency->ns[u][b]);
            c.ns[b][u] = measured[u][b] ? latency->ns[u][b] : 0;
            c.n_have[b] += measured[u][b];
            any = any || measured[u][b];
            holes = holes || !measured[u][b];
        }
    }
    if (!any)
        return 0;
    leave_idle(latency, &c);
    if (holes) {
        fill_columns(latency, &c);
        fill_empty_columns(latency, &c);
    }
    for (unsigned u = 0; u < latency->n_units; u++)
        for (unsigned b = 0; b < latency->n_batches; b++)
            latency->ns[u][b] = fmin(fmax(c.ns[b][u], SX_LATENCY_MIN_NS), SX_LATENCY_MAX_NS);
    if (!ordered(latency))
        order(latency, measured);
    for (unsigned u = 0; u < latency->n_units; u++)
        for (unsigned b = 0; b < latency->n_batches; b++)
            changed += !measured[u][b] ||
                       fabs(latency->ns[u][b] - before.ns[u][b]) > 0.01 * before.ns[u][b];
    return changed;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* fmin would be a call. */
static double least(double a, double b)
{
    return a < b ? a : b;
}

double sx_latency_ns(const struct sx_latency *latency, unsigned units, unsigned batch)
{
    unsigned nu = latency->n_units, nb = latency->n_batches, u = 0, b = 0;
    double below = 1, beyond = 1, at = 0;

    units = units ? units : 1;
    while (u < nu && latency->units[u] < units)
        u++;
    while (b < nb && latency->batches[b] < batch)
        b++;
    if (b == nb) {
        b = nb - 1;
        beyond = (double)batch / latency->batches[b];
    }
    if (u == nu)
        u = nu - 1;
    else if (u == 0)
        below = (double)latency->units[0] / units;
    else if (latency->units[u] > units)
        at = (double)latency->units[u - 1] * (latency->units[u] - units) /
             ((double)units * (latency->units[u] - latency->units[u - 1]));

    /* first the units, then the batch, as a sum of products: so that not even by rounding can the
     * result go up with units */
    const double *hi = latency->ns[u], *lo = at > 0 ? latency->ns[u - 1] : hi;
    double y = least(hi[b] + (lo[b] - hi[b]) * at, lo[b]);
    if (b && latency->batches[b] > batch) {
        unsigned a = b - 1;
        double x = least(hi[a] + (lo[a] - hi[a]) * at, lo[a]);
        double to =
            (double)(batch - latency->batches[a]) / (latency->batches[b] - latency->batches[a]);
        y = least(x * (1 - to) + y * to, y);
    }
    return y * below * beyond;
}
