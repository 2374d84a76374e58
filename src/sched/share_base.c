/* SPDX-FileCopyrightText: StarONNX developers
 * SPDX-License-Identifier: Apache-2.0 */
/*
 * share_base.c - the baselines: what others do, done decently.
 *
 * All of them choose the largest batch that ends by the head's deadline (endless queues: within the
 * objective), and run what can only be late when nothing else could start.
 */
#include <math.h>
#include <string.h>

#include "sched/share_int.h"

/* When the head can only be late, it still gets an answer, with as many others as half the
 * objective allows, so that these need not be late, too. */
static unsigned batch_of(const struct sx_share_model *m, unsigned units, bool late, uint64_t now)
{
    unsigned waiting = units ? sx_share_waiting(m) : 0;
    unsigned batch = waiting ? sx_share_in_time(m, units, waiting, now) : 0;
    return batch || !late || !waiting ? batch : sx_share_late_batch(m, units);
}

static uint64_t waits_since(const struct sx_share_model *m)
{
    return m->queue.endless ? m->last_start : m->queue.head_arrival;
}

/* --- temporal ----------------------------------------------------------------------------------
 */

/* Slices in proportion to objectives, one session for a round.  A run that is longer than what is
 * left of its slice is paid for by the next ones; whoever has nothing to run passes. */
static void temporal(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    if (share->n_running || !share->n_models)
        return;
    double sum = 0;
    for (unsigned i = 0; i < share->n_models; i++)
        sum += share->models[i]->objective_ns;
    /* A run may cost many slices; after so many rounds anyone goes. */
    unsigned most = 64 * share->n_models;
    for (unsigned n = 0; n < most + 2 * share->n_models; n++) {
        bool late = n >= most, anyone = n + 2 * share->n_models >= most;
        struct sx_share_model *m = share->models[share->turn];
        unsigned units = sx_share_units_below(share, m, share->n_units, true);
        unsigned batch = batch_of(m, units, late, now);
        if (batch && (m->credit > 0 || anyone)) {
            sx_share_make(share, m, units, batch, false, ret_action);
            return;
        }
        if (!batch && m->credit > 0)
            m->credit = 0;
        share->turn = (share->turn + 1) % share->n_models;
        m = share->models[share->turn];
        m->credit += share->session_ns * m->objective_ns / sum;
    }
}

/* --- fixed parts -------------------------------------------------------------------------------
 */

static unsigned knee(const struct sx_share *share, const struct sx_share_model *m)
{
    unsigned units = m->plan.knee_efficacy ? m->plan.knee_efficacy : share->n_units;
    return units < share->n_units ? units : share->n_units;
}

/* Any units will do: knees, scaled down to the machine. */
static void part_any(struct sx_share *share)
{
    double sum = 0;
    for (unsigned i = 0; i < share->n_models; i++)
        sum += knee(share, share->models[i]);
    double scale = sum > share->n_units ? share->n_units / sum : 1;
    unsigned given = 0;
    for (unsigned i = 0; i < share->n_models; i++) {
        struct sx_share_model *m = share->models[i];
        m->part_first = 0;
        m->part_units = (unsigned)(knee(share, m) * scale);
        m->part_units += !m->part_units;
        given += m->part_units;
    }
    while (scale < 1 && given < share->n_units) { /* what rounding left */
        struct sx_share_model *least = NULL;
        double lack = 0;
        for (unsigned i = 0; i < share->n_models; i++) {
            struct sx_share_model *m = share->models[i];
            double l = knee(share, m) * scale - m->part_units;
            if (l > lack + 1e-9) {
                lack = l;
                least = m;
            }
        }
        if (!least)
            break;
        least->part_units++;
        given++;
    }
}

static double load_of(const struct sx_share_model *m, unsigned units)
{
    unsigned batch = m->plan.batch ? m->plan.batch : 1;
    double ns = sx_latency_ns(m->latency, units, batch);
    return isfinite(m->rate) ? m->rate * ns * units / batch : 1e9 * m->plan.demand;
}

/* Fewer groups than models: the heaviest first, each to the group with least to do. */
static void part_shared(struct sx_share *share, unsigned width)
{
    double load[SX_SCHED_UNITS] = {0};
    bool placed[SX_SHARE_MODELS] = {false};
    unsigned groups = share->n_units / width;
    for (unsigned n = 0; n < share->n_models; n++) {
        unsigned next = 0, to = 0;
        double most = -1;
        for (unsigned i = 0; i < share->n_models; i++) {
            double l = load_of(share->models[i], width);
            if (!placed[i] && l > most) {
                most = l;
                next = i;
            }
        }
        for (unsigned g = 1; g < groups; g++)
            to = load[g] < load[to] ? g : to;
        placed[next] = true;
        load[to] += most;
        share->models[next]->part_first = to * width;
        share->models[next]->part_units = width;
    }
}

/* Can groups of these widths lie side by side?  The widest first; where, is written down. */
static bool place_parts(struct sx_share *share, const unsigned *width)
{
    uint64_t left[SHARE_WORDS] = {0};
    bool placed[SX_SHARE_MODELS] = {false};
    sx_units_put(left, 0, share->n_units, true);
    for (unsigned n = 0; n < share->n_models; n++) {
        unsigned next = SX_SHARE_MODELS;
        for (unsigned i = 0; i < share->n_models; i++) {
            if (!placed[i] && (next == SX_SHARE_MODELS || width[i] > width[next]))
                next = i;
        }
        unsigned first = sx_units_find(left, share->n_units, width[next]);
        if (first == share->n_units)
            return false;
        sx_units_put(left, first, width[next], false);
        placed[next] = true;
        share->models[next]->part_first = first;
        share->models[next]->part_units = width[next];
    }
    return true;
}

/* Groups of its own for each model: all begin narrow, and the busiest gets more, up to its knee. */
static void part_own(struct sx_share *share, unsigned least)
{
    unsigned width[SX_SHARE_MODELS];
    bool done[SX_SHARE_MODELS] = {false};
    for (unsigned i = 0; i < share->n_models; i++)
        width[i] = least;
    for (;;) {
        unsigned next = SX_SHARE_MODELS;
        double most = -1;
        for (unsigned i = 0; i < share->n_models; i++) {
            double l = load_of(share->models[i], width[i]) / width[i];
            if (!done[i] && l > most) {
                most = l;
                next = i;
            }
        }
        if (next == SX_SHARE_MODELS)
            break;
        const struct sx_share_model *m = share->models[next];
        unsigned was = width[next], wider = 0;
        for (unsigned u = m->latency->n_units; u-- > 0;) {
            if (m->latency->units[u] > was)
                wider = m->latency->units[u];
        }
        width[next] = wider;
        if (!wider || wider > knee(share, m) || !place_parts(share, width)) {
            width[next] = was;
            done[next] = true;
        }
    }
    place_parts(share, width);
}

void sx_share_part(struct sx_share *share)
{
    if (share->policy != SX_SHARE_FIXED || !share->n_models)
        return;
    if (share->fit == SX_SHARE_ANY) {
        part_any(share);
        return;
    }
    unsigned least = 1; /* that all tables have */
    for (unsigned i = 0; i < share->n_models; i++) {
        unsigned units = share->models[i]->latency->units[0];
        least = units > least ? units : least;
    }
    least = least < share->n_units ? least : share->n_units;
    if (share->n_models > share->n_units / least)
        part_shared(share, least);
    else
        part_own(share, least);
}

static bool part_is_free(const struct sx_share *share, const struct sx_share_model *m)
{
    if (share->fit == SX_SHARE_ANY)
        return !m->running && m->part_units <= share->n_free;
    for (unsigned u = m->part_first; u < m->part_first + m->part_units; u++) {
        if (!(share->free_units[u / 64] >> u % 64 & 1))
            return false;
    }
    return true;
}

static void fixed(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    struct sx_share_model *best = NULL;
    unsigned best_batch = 0;
    for (unsigned late = 0; late < 2 && !best; late++) {
        for (unsigned i = 0; i < share->n_models; i++) {
            struct sx_share_model *m = share->models[i];
            if (!m->part_units || !part_is_free(share, m))
                continue;
            unsigned batch = batch_of(m, m->part_units, late, now);
            if (batch && (!best || waits_since(m) < waits_since(best))) {
                best = m;
                best_batch = batch;
            }
        }
    }
    if (!best)
        return;
    sx_share_make(share, best, best->part_units, best_batch, false, ret_action);
    if (share->fit == SX_SHARE_ALIGNED) { /* on its own group, and no other */
        memset(ret_action->units, 0, sizeof ret_action->units);
        sx_units_put(ret_action->units, best->part_first, best->part_units, true);
        ret_action->first_unit = best->part_first;
    }
}

/* --- one at a time by some order ---------------------------------------------------------------
 */

/* Less is first. */
static double rank(const struct sx_share *share, const struct sx_share_model *m)
{
    if (share->policy == SX_SHARE_GREEDY)
        return (double)waits_since(m);
    return m->score / m->weight; /* SX_SHARE_MAX_MIN */
}

static void by_rank(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    struct sx_share_model *best = NULL;
    unsigned best_units = 0, best_batch = 0;
    for (unsigned late = 0; late < 2 && !best; late++) {
        for (unsigned i = 0; i < share->n_models; i++) {
            struct sx_share_model *m = share->models[i];
            if (best && rank(share, m) >= rank(share, best))
                continue;
            unsigned units = sx_share_units_below(share, m, knee(share, m), true);
            unsigned batch = batch_of(m, units, late, now);
            if (!batch)
                continue;
            best = m;
            best_units = units;
            best_batch = batch;
        }
    }
    if (best)
        sx_share_make(share, best, best_units, best_batch, false, ret_action);
}

static void max_throughput(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    struct sx_share_model *best = NULL;
    unsigned best_units = 0, best_batch = 0;
    double most = 0;
    for (unsigned late = 0; late < 2 && !best; late++) {
        for (unsigned i = 0; i < share->n_models; i++) {
            struct sx_share_model *m = share->models[i];
            const struct sx_latency *l = m->latency;
            for (unsigned u = 0; u < l->n_units && l->units[u] <= share->n_free; u++) {
                unsigned units = l->units[u];
                unsigned batch =
                    sx_share_fits(share, units, NULL) ? batch_of(m, units, late, now) : 0;
                if (!batch)
                    continue;
                /* Ties go to the wider, which is over sooner. */
                double yield = batch / (sx_latency_ns(l, units, batch) * units);
                if (yield < most * (1 - 1e-9) || (yield < most * (1 + 1e-9) && best != m))
                    continue;
                most = yield;
                best = m;
                best_units = units;
                best_batch = batch;
            }
        }
    }
    if (best)
        sx_share_make(share, best, best_units, best_batch, false, ret_action);
}

void sx_share_decide_base(struct sx_share *share, uint64_t now, struct sx_share_action *ret_action)
{
    if (!share->n_free)
        return;
    switch (share->policy) {
    case SX_SHARE_TEMPORAL:
        temporal(share, now, ret_action);
        break;
    case SX_SHARE_FIXED:
        fixed(share, now, ret_action);
        break;
    case SX_SHARE_GREEDY:
    case SX_SHARE_MAX_MIN:
        by_rank(share, now, ret_action);
        break;
    case SX_SHARE_MAX_THROUGHPUT:
        max_throughput(share, now, ret_action);
        break;
    case SX_SHARE_FAIR:
    case SX_SHARE_EDF:
    case SX_SHARE_BLIND:
        break;
    }
}
