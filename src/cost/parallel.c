/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * parallel.c - the analytical model, and its shape fitted to measured times.
 *
 * For given N_1 and K the shape is linear in its three factors.  So the fit tries each N_1, and for
 * each the best non-negative factors: with three of them, all seven sets of those that are not zero
 * are solved, and the best of the feasible ones is the constrained optimum.
 */
#include "cost/parallel.h"

#include <math.h>
#include <string.h>

#define KERNELS   50  /* K of a fit: the shape hardly depends on it */
#define MAX_POINT 64  /* of a fit */
#define EVERY     512 /* up to here each N_1 is tried; above, in steps, and each near the best */
#define FACTORS   3
/* Times further apart than this are not of one curve. */
#define MAX_RATIO 1e12

/* N_(j+1) of (1). */
static double operations(double first, unsigned kernels, unsigned j)
{
    return floor(first * (kernels - j) / kernels);
}

double sx_parallel_time(const struct sx_parallel *model, unsigned batch, unsigned units)
{
    double first = model->operations * batch, s = units ? units : 1, steps = 0;

    for (unsigned j = 0; j < model->kernels; j++) {
        double n = operations(first, model->kernels, j);
        if (n < 1)
            break; /* nor have the later ones any */
        steps += n / fmin(s, n);
    }
    return batch * (model->kernels * model->serial_time) + steps * model->op_time +
           model->memory_time / s;
}

/* --- fit -------------------------------------------------------------------------------------- */

struct points {
    size_t n;
    double units[MAX_POINT], time[MAX_POINT]; /* ascending by units; times relative to the first */
};

/* sum_i N_i / max(1, min(S, N_i)) for each point's S. */
static void steps_of(const struct points *p, unsigned first, double ret_steps[MAX_POINT])
{
    double sum[KERNELS + 1] = {0}, ops[KERNELS];
    unsigned busy = 0, over;

    for (unsigned j = 0; j < KERNELS && (ops[j] = operations(first, KERNELS, j)) >= 1; j++, busy++)
        sum[j + 1] = sum[j] + ops[j];
    over = busy;
    for (size_t i = 0; i < p->n; i++) { /* units go up, so the kernels with more than S get fewer */
        while (over && ops[over - 1] <= p->units[i])
            over--;
        ret_steps[i] = sum[over] / p->units[i] + (busy - over);
    }
}

/* Solve the m x m system by elimination with pivots; false: (nearly) singular. */
static bool solve(double a[FACTORS][FACTORS + 1], unsigned m, double ret[FACTORS])
{
    for (unsigned k = 0; k < m; k++) {
        unsigned pivot = k;
        for (unsigned i = k + 1; i < m; i++)
            pivot = fabs(a[i][k]) > fabs(a[pivot][k]) ? i : pivot;
        if (fabs(a[pivot][k]) < 1e-11) /* the columns have length 1 */
            return false;
        for (unsigned j = k; j <= m; j++) {
            double swap = a[k][j];
            a[k][j] = a[pivot][j];
            a[pivot][j] = swap;
        }
        for (unsigned i = k + 1; i < m; i++) {
            double by = a[i][k] / a[k][k];
            for (unsigned j = k; j <= m; j++)
                a[i][j] -= by * a[k][j];
        }
    }
    for (unsigned k = m; k-- > 0;) {
        double x = a[k][m];
        for (unsigned j = k + 1; j < m; j++)
            x -= a[k][j] * ret[j];
        ret[k] = x / a[k][k];
    }
    return true;
}

/* The best factors >= 0 of the columns for a right-hand side of ones; returns the sum of squared
 * errors. */
static double non_negative(double column[FACTORS][MAX_POINT], size_t n, double ret[FACTORS])
{
    double gram[FACTORS][FACTORS], to_one[FACTORS], length[FACTORS], best = INFINITY;

    for (unsigned f = 0; f < FACTORS; f++) {
        double square = 0;
        for (size_t i = 0; i < n; i++)
            square += column[f][i] * column[f][i];
        length[f] = sqrt(square);
        for (size_t i = 0; i < n; i++)
            column[f][i] /= length[f];
    }
    for (unsigned f = 0; f < FACTORS; f++) {
        to_one[f] = 0;
        for (size_t i = 0; i < n; i++)
            to_one[f] += column[f][i];
        for (unsigned g = 0; g < FACTORS; g++) {
            gram[f][g] = 0;
            for (size_t i = 0; i < n; i++)
                gram[f][g] += column[f][i] * column[g][i];
        }
    }
    static const unsigned char sets[] = {1, 2, 4, 3, 5, 6, 7}; /* the smaller ones first */
    for (unsigned s = 0; s < sizeof sets; s++) {
        double a[FACTORS][FACTORS + 1], x[FACTORS], error = 0;
        unsigned which[FACTORS], m = 0;
        bool ok;
        for (unsigned f = 0; f < FACTORS; f++)
            if (sets[s] >> f & 1)
                which[m++] = f;
        for (unsigned i = 0; i < m; i++) {
            for (unsigned j = 0; j < m; j++)
                a[i][j] = gram[which[i]][which[j]];
            a[i][m] = to_one[which[i]];
        }
        ok = solve(a, m, x);
        for (unsigned i = 0; ok && i < m; i++)
            ok = x[i] >= 0;
        if (!ok)
            continue;
        for (size_t i = 0; i < n; i++) {
            double off = -1;
            for (unsigned k = 0; k < m; k++)
                off += x[k] * column[which[k]][i];
            error += off * off;
        }
        if (error < best * (1 - 1e-9)) {
            best = error;
            memset(ret, 0, FACTORS * sizeof *ret);
            for (unsigned k = 0; k < m; k++)
                ret[which[k]] = x[k] / length[which[k]];
        }
    }
    return best;
}

/* Take N_1 = first if it fits better than what is in `fit`; `error` is the mean square there. */
static void try_first(const struct points *p, unsigned first, struct sx_parallel_fit *fit)
{
    double column[FACTORS][MAX_POINT], steps[MAX_POINT], x[FACTORS];

    steps_of(p, first, steps);
    for (size_t i = 0; i < p->n; i++) {
        column[0][i] = 1 / p->time[i];
        column[1][i] = steps[i] / p->time[i];
        column[2][i] = 1 / (p->units[i] * p->time[i]);
    }
    double error = non_negative(column, p->n, x) / (double)p->n;
    /* among equals the least parallelism: it promises least beyond what was measured */
    if (error < fit->error - 1e-18 && error < fit->error * (1 - 1e-9))
        *fit = (struct sx_parallel_fit){.serial = x[0],
                                        .op = x[1],
                                        .memory = x[2],
                                        .first = first,
                                        .kernels = KERNELS,
                                        .error = error};
}

/* Copy, sort, check. */
static bool take(struct points *p, const unsigned *units, const double *ns, size_t n)
{
    double least = INFINITY, most = 0;
    size_t different = 0;

    if (n < 3 || n > MAX_POINT)
        return false;
    p->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        if (!units[i] || units[i] > 1u << 20 || !(ns[i] > 0) || isinf(ns[i]))
            return false;
        for (; at && p->units[at - 1] > units[i]; at--) {
            p->units[at] = p->units[at - 1];
            p->time[at] = p->time[at - 1];
        }
        p->units[at] = units[i];
        p->time[at] = ns[i];
        least = fmin(least, ns[i]);
        most = fmax(most, ns[i]);
    }
    for (size_t i = 0; i < n; i++) {
        different += !i || p->units[i] > p->units[i - 1];
        p->time[i] /= most;
    }
    return different >= 3 && most / least <= MAX_RATIO;
}

bool sx_parallel_fit(const unsigned *units, const double *ns, size_t n,
                     struct sx_parallel_fit *ret_fit)
{
    struct sx_parallel_fit fit = {.error = INFINITY};
    struct points p;
    double most = 0;

    if (!take(&p, units, ns, n))
        return false;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, ns[i]);
    unsigned end = 4 * (unsigned)p.units[n - 1];
    for (unsigned first = 1; first <= end; first += end <= EVERY ? 1 : 1 + first / 32)
        try_first(&p, first, &fit);
    if (end > EVERY) {
        unsigned around = fit.first, by = 1 + around / 31, from = around > by ? around - by : 1;
        for (unsigned first = from; first <= around + by && first <= end; first++)
            try_first(&p, first, &fit);
    }
    if (isinf(fit.error))
        return false;
    fit.serial *= most;
    fit.op *= most;
    fit.memory *= most;
    fit.error = sqrt(fit.error);
    *ret_fit = fit;
    return true;
}

double sx_parallel_fit_ns(const struct sx_parallel_fit *fit, unsigned units)
{
    struct points p = {.n = 1, .units = {units ? units : 1}};
    double steps[MAX_POINT];

    steps_of(&p, fit->first, steps);
    return fit->serial + fit->op * steps[0] + fit->memory / p.units[0];
}
