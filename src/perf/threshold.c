/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * threshold.c - exponential search, then bisection, with votes.
 *
 * Always true between calls
 *   I1  lo < hi where both are known.
 *   I2  now is 0 (nothing is being voted on) or min <= now <= max.
 *
 * A load that held while climbing, and then turns out too much when it is confirmed at the end,
 * becomes hi, and the search goes on below it.
 */
#include "perf/threshold.h"

#include <math.h>
#include <string.h>

void sx_threshold_init(struct sx_threshold *t, double start, double min, double max)
{
    memset(t, 0, sizeof(*t));
    t->min = min;
    t->max = max;
    t->start = start < min ? min : start > max ? max : start;
    t->precision = 0.02;
    t->votes = 2;
}

static void ask(struct sx_threshold *t, double load)
{
    t->now = load < t->min ? t->min : load > t->max ? t->max : load;
    t->yes = t->no = 0;
}

static double between(const struct sx_threshold *t)
{
    double mid = t->lo > 0 ? sqrt(t->lo * t->hi) : t->hi / 2; // loads span decades
    return t->whole ? floor(mid) : mid;
}

static bool closed(const struct sx_threshold *t)
{
    if (t->hi <= 0)
        return t->lo >= t->max; // all of the range holds
    if (t->lo <= 0)
        return t->hi <= t->min; // none of it does
    return t->whole ? t->hi - t->lo <= 1 : t->hi <= t->lo * (1 + t->precision);
}

bool sx_threshold_next(struct sx_threshold *t, double *ret_load)
{
    if (t->now <= 0) {
        if (closed(t)) {
            if (t->lo <= 0 || t->lo_sure)
                return false;
            ask(t, t->lo);
            t->yes = 1; // while climbing
        } else if (t->hi <= 0) {
            ask(t, t->lo > 0 ? 2 * t->lo : t->start);
        } else {
            double mid = between(t);
            ask(t, t->lo > 0 && mid <= t->lo ? t->lo + 1 : mid);
        }
    }
    *ret_load = t->now;
    return true;
}

void sx_threshold_tell(struct sx_threshold *t, bool held)
{
    t->trials++;
    t->yes += held;
    t->no += !held;
    bool climbing = t->hi <= 0;
    if (held && (climbing || t->yes >= t->votes)) {
        t->lo_sure = t->yes >= t->votes;
        t->lo = t->now;
        t->now = 0;
    } else if (!held && t->no >= t->votes) {
        t->hi = t->now;
        if (t->lo >= t->hi) { // it had held once: what is known below was overtaken by it
            t->lo = 0;
            t->lo_sure = false;
        }
        t->now = 0;
    }
}

/* Worst case: votes that alternate end after 2 * votes - 1 trials, and each closed vote either
 * halves the interval or lowers hi, so the search always ends. */
